"""Intervals: a resample's AP is that of a set that holds the drawn pictures again and again; how far they can be believed."""

import copy
import math

import numpy as np
import pytest
from builders import a_random_scene, matches_of

from sightline.evaluation import intervals
from sightline.evaluation.coco import evaluate_results
from sightline.evaluation.intervals import ap_of, contributions, interval, mean_of_defined, resampled


def repeated(truth: dict, results: list, weights: list[int]) -> tuple[dict, list]:
    """The set with each picture as often as it was drawn."""
    images, annotations, found = [], [], []
    for image, weight in zip(truth["images"], weights, strict=True):
        for copy_number in range(weight):
            key = image["id"] * 100 + copy_number
            images.append({**image, "id": key})
            for source, target in ((truth["annotations"], annotations), (results, found)):
                target += [{**entry, "image_id": key} for entry in source if entry["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(6))
def test_a_resample_is_scored_as_if_its_pictures_were_there_again(seed: int) -> None:
    truth, results = a_random_scene(seed, crowds=True)
    weights = np.random.default_rng(seed).integers(0, 4, len(truth["images"]))
    aps = np.stack([ap_of(one, weights[None]) for one in contributions(matches_of(truth, results))], axis=1)
    expected = evaluate_results(*repeated(copy.deepcopy(truth), results, weights.tolist()))["bbox"]
    assert mean_of_defined(aps.reshape(1, -1))[0] == pytest.approx(expected.AP, abs=1e-12)
    assert mean_of_defined(aps[:, :, :1].reshape(1, -1))[0] == pytest.approx(expected.AP50, abs=1e-12)


def test_the_same_seed_draws_the_same_however_much_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = matches_of(*a_random_scene(3))
    whole = resampled(matches, 20, seed=5)
    monkeypatch.setattr(intervals, "NUMBERS_AT_ONCE", 1)
    for name, values in resampled(matches, 20, seed=5).items():
        np.testing.assert_array_equal(values, whole[name])
    assert not np.array_equal(resampled(matches, 20, seed=6)["AP"], whole["AP"])


def test_more_pictures_make_it_narrower() -> None:
    widths = []
    for images in (10, 160):
        matches = matches_of(*a_random_scene(1, images=images))
        samples = resampled(matches, 200)
        one = interval(0.5, samples["AP50"])
        assert one.low < 0.5 < one.high
        widths.append(one.high - one.low)
    assert widths[1] < 0.5 * widths[0]


def test_the_interval_holds_the_score_of_other_pictures() -> None:
    """Of 24 sets of one kind, the intervals of most hold the mean score of all (95 % were they perfect)."""
    scores, found = [], []
    for seed in range(24):
        truth, results = a_random_scene(1000 + seed, images=30)
        value = evaluate_results(truth, results)["bbox"].AP
        scores.append(value)
        found.append(interval(value, resampled(matches_of(truth, results), 100)["AP"]))
    mean = float(np.mean(scores))
    assert sum(one.low <= mean <= one.high for one in found) >= 20


@pytest.mark.parametrize("value", [math.nan, 0.5])
def test_what_is_undefined_has_no_interval(value: float) -> None:
    one = interval(value, np.full(3, math.nan))
    assert math.isnan(one.low)
    assert one.to_dict()["low"] is None
    assert math.isnan(interval(math.nan, np.array([0.5])).low)
