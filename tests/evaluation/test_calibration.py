"""Calibration of scores."""

import math

import numpy as np
import pytest
from builders import a_scene, matches_of

from sightline.evaluation.calibration import calibrated, calibration

BOX, AWAY = (10.0, 10.0, 40.0, 40.0), (60.0, 60.0, 9.0, 9.0)


def test_by_hand() -> None:
    one = calibrated(np.array([0.95, 0.85, 0.85, 0.1, 1.0]), np.array([True, True, False, False, True]))
    assert one.counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 2, 2]
    assert one.precision[[1, 8, 9]].tolist() == [0, 0.5, 1]
    assert one.error == pytest.approx((0.1 + 2 * 0.35 + 2 * 0.025) / 5)
    assert one.worst == pytest.approx(0.35)
    assert one.to_dict()["bins"][0] == {"from": 0, "to": 0.1, "count": 0, "score": None, "precision": None}


def test_scores_that_are_probabilities_have_little_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    assert calibrated(scores, rng.random(20_000) < scores).error < 0.02
    assert calibrated(scores, rng.random(20_000) < scores**2).error > 0.1


def test_crowds_do_not_count_and_strange_scores_are_no_probabilities() -> None:
    assert math.isnan(calibration(matches_of(*a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.9)], crowd=0))).error)
    assert calibration(matches_of(*a_scene([(0, 0, BOX)], [(0, 0, BOX, 7.0)]))) is None
    assert calibration(matches_of(*a_scene([(0, 0, BOX)], [(0, 0, AWAY, 0.25)]))).error == 0.25
