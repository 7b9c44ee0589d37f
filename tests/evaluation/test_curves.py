"""Curves, average precision in two ways, and thresholds: small cases by hand, and a plain loop as the reference."""

import math

import numpy as np
import pytest
from builders import a_random_scene, a_scene, matches_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.evaluation.curves import Curve, Wish, choose, choose_thresholds, curve, macro, voc_average_precision

BOX, OTHER, AWAY = (10.0, 10.0, 40.0, 40.0), (100.0, 10.0, 40.0, 40.0), (60.0, 60.0, 9.0, 9.0)


def bees(*flags: bool, objects: int) -> Curve:
    """Scores 0.9, 0.8, ..."""
    found = np.cumsum(flags)
    return Curve(0.9 - 0.1 * np.arange(len(flags)), found, np.arange(1, len(flags) + 1) - found, objects)


def test_a_curve_by_hand() -> None:
    scene = a_scene([(0, 0, BOX), (0, 0, OTHER)], [(0, 0, BOX, 0.9), (0, 0, AWAY, 0.5), (0, 0, OTHER, 0.5), (0, 1, AWAY, 0.7)])
    cats = curve(matches_of(*scene), 0)
    assert cats.thresholds.tolist() == [0.9, 0.5]
    assert cats.precision.tolist() == [1, pytest.approx(2 / 3)]
    assert cats.recall.tolist() == [0.5, 1]
    assert cats.at(1) == {
        "threshold": 0.5, "precision": pytest.approx(2 / 3), "recall": 1, "f1": 0.8, "true": 2, "false": 1, "missed": 0
    }  # fmt: skip
    everything = curve(matches_of(*scene))
    assert everything.precision.tolist() == [1, 0.5, 0.5]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_point_is_what_a_count_at_that_threshold_gives(seed: int) -> None:
    matches = matches_of(*a_random_scene(seed, crowds=True))
    for label in (None, 0, 1, 2):
        one = curve(matches, label)
        mine = np.ones(len(matches), bool) if label is None else matches.label == label
        for point, threshold in enumerate(one.thresholds):
            kept = mine & (matches.scores >= threshold)
            assert (one.true[point], one.false[point]) == ((matches.true & kept).sum(), (matches.false & kept).sum())


def test_macro_is_the_mean_over_classes_with_objects() -> None:
    curves = {"cat": bees(True, False, objects=1), "dog": bees(False, objects=4), "bee": bees(False, objects=0)}
    means = macro(curves)
    assert means["threshold"][85] == 0.85
    assert (means["precision"][85], means["recall"][85], means["f1"][85]) == (0.5, 0.5, 0.5)
    assert (means["precision"][0], means["recall"][0]) == (0.25, 0.5)
    assert means["precision"][95] is None
    assert macro({})["f1"][0] is None


def test_voc_by_hand() -> None:
    """Hits at 1/1 and 2/3 of two objects: (6 x 1 + 5 x 2/3) / 11, and (1 + 2/3) / 2."""
    old, new = voc_average_precision(np.array([True, False, True]), 2)
    assert old == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert new == pytest.approx((1 + 2 / 3) / 2)
    assert all(math.isnan(value) for value in voc_average_precision(np.array([False]), 0))
    assert voc_average_precision(np.zeros(0, bool), 3) == (0, 0)


@pytest.mark.parametrize(
    ("wish", "flags", "objects", "threshold"),
    [
        ("f1", (True, True, False, False), 2, 0.8),
        ("f1", (True, False, True, False), 4, 0.7),
        ("precision=0.6", (True, False, True, False, False), 4, 0.7),
        ("precision=1", (True, True, False), 4, 0.8),
        ("recall=0.5", (False, True, True, True), 4, 0.7),
        ("recall=1", (True, True), 2, 0.8),
    ],
)
def test_the_best_threshold(wish: str, flags: tuple[bool, ...], objects: int, threshold: float) -> None:
    choice = choose(bees(*flags, objects=objects), Wish.parse(wish))
    assert choice.threshold == pytest.approx(threshold)
    assert choice.reached["threshold"] == choice.threshold


@pytest.mark.parametrize(
    ("wish", "one", "why"),
    [
        ("f1", bees(True, objects=0), "the labels have no object of this class"),
        ("f1", bees(objects=3), "nothing of this class was detected"),
        ("f1", bees(False, objects=3), "no detection of this class is true"),
        ("precision=0.9", bees(False, True, objects=3), "no threshold reaches it; the best precision is 0.500"),
        ("recall=0.9", bees(False, True, objects=2), "no threshold reaches it; the best recall is 0.500"),
    ],
)
def test_where_there_is_no_threshold_it_says_why(wish: str, one: Curve, why: str) -> None:
    choice = choose(one, Wish.parse(wish))
    assert choice.threshold is None
    assert choice.to_dict() == {"threshold": None, "why_none": why}


def test_thresholds_by_class() -> None:
    scene = a_scene([(0, 0, BOX), (0, 1, OTHER)], [(0, 0, BOX, 0.6), (0, 0, AWAY, 0.5), (0, 1, OTHER, 0.2)])
    chosen = choose_thresholds(matches_of(*scene), Wish())
    assert {name: one.threshold for name, one in chosen.items()} == {"cat": 0.6, "dog": 0.2, "bee": None}


def test_json_holds_the_ends_and_the_best_of_a_long_curve() -> None:
    rng = np.random.default_rng(0)
    found = np.cumsum(rng.random(5000) < 0.5)
    long = Curve(np.linspace(1, 0, 5000), found, np.arange(1, 5001) - found, 4000)
    values = long.to_dict()
    assert 200 <= len(values["threshold"]) <= 201
    assert (values["threshold"][0], values["threshold"][-1]) == (1, 0)
    assert max(values["f1"]) == long.f1.max()
