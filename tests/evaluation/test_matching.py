"""The matching pass: COCO's rules one by one, and the AP that follows from it, which is pycocotools'."""

import math

import numpy as np
import pytest
from builders import a_mask, a_random_scene, a_scene, matches_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.evaluation import matching
from sightline.evaluation.coco import evaluate_results
from sightline.evaluation.curves import average_precision
from sightline.records import ImageSize

CAT, DOG = 0, 1
BOX = (10.0, 10.0, 40.0, 40.0)
BESIDE = (15.0, 10.0, 40.0, 40.0)


def outcome(matches: matching.Matches) -> list[str]:
    """In the order of the scores."""
    words = {(True, False): "true", (False, True): "in a crowd", (False, False): "false"}
    return [words[pair] for pair in zip(matches.true.tolist(), matches.ignored.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("objects", "found", "expected"),
    [
        pytest.param([(0, CAT, BOX)], [(0, CAT, BOX, 0.9), (0, CAT, BOX, 0.8)], ["true", "false"], id="duplicate"),
        pytest.param([(0, CAT, BOX)], [(0, CAT, BOX, 0.8), (0, CAT, BESIDE, 0.9)], ["true", "false"], id="best score first"),
        pytest.param([(0, CAT, BOX)], [(0, DOG, BOX, 0.9)], ["false"], id="other class"),
        pytest.param([(1, CAT, BOX)], [(0, CAT, BOX, 0.9)], ["false"], id="other picture"),
        pytest.param([(0, CAT, BOX)], [(0, CAT, (10, 10, 40, 80), 0.9)], ["true"], id="exactly one half"),
        pytest.param([(0, CAT, BOX)], [(0, CAT, (10, 10, 40, 81), 0.9)], ["false"], id="a little less"),
        pytest.param([(0, CAT, BOX)], [(0, CAT, (10, 10, 0, 40), 0.9)], ["false"], id="empty box"),
        pytest.param([], [(0, CAT, BOX, 0.9)], ["false"], id="nothing is there"),
        pytest.param([(0, CAT, BOX)], [], [], id="nothing is found"),
    ],
)
def test_what_becomes_of_detections(objects: list, found: list, expected: list[str]) -> None:
    matches = matches_of(*a_scene(objects, found, images=2))
    assert outcome(matches) == expected
    assert (matches.finder != -1).sum() == expected.count("true")


def test_the_nearest_free_object_is_taken() -> None:
    matches = matches_of(*a_scene([(0, CAT, BESIDE), (0, CAT, BOX)], [(0, CAT, BOX, 0.9), (0, CAT, BOX, 0.8)]))
    assert matches.taken.tolist() == [1, 0]
    assert matches.iou.tolist() == [1.0, pytest.approx(35 / 45)]


def test_a_crowd_is_taken_by_many_and_only_where_no_object_is_left() -> None:
    found = [(0, CAT, BOX, 0.9), (0, CAT, BOX, 0.8), (0, CAT, (20, 20, 5, 5), 0.7)]
    matches = matches_of(*a_scene([(0, CAT, (0, 0, 100, 100)), (0, CAT, BESIDE)], found, crowd=0))
    assert outcome(matches) == ["true", "in a crowd", "in a crowd"]
    assert matches.objects_per_class.tolist() == [1, 0, 0]


def test_the_hundred_and_first_does_not_count() -> None:
    found = [(0, CAT, (100.0, 1.0, 9.0, 9.0), 0.9)] * 100 + [(0, CAT, BOX, 0.8), (0, DOG, BOX, 0.7)]
    matches = matches_of(*a_scene([(0, CAT, BOX)], found))
    assert (len(matches), matches.beyond) == (101, 1)
    assert not matches.true.any()


def test_memory_is_bounded_without_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = a_random_scene(1)
    whole = matches_of(*scene)
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", 3)
    parts = matches_of(*scene)
    for name in ("found", "object", "iou"):
        np.testing.assert_array_equal(getattr(parts.pairs, name), getattr(whole.pairs, name))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), masks=st.booleans())
def test_average_precision_from_the_matches_is_cocos(seed: int, masks: bool) -> None:
    truth, results = a_random_scene(seed, crowds=True)
    kind = "bbox"
    if masks:
        kind = "segm"
        for entry in (*truth["annotations"], *results):
            left, top, width, height = entry["bbox"]
            mask = a_mask((left, top, left + width, top + height), ImageSize(100, 200))
            entry["segmentation"] = {"size": [100, 200], "counts": mask.counts}
    scores = evaluate_results(truth, results)[kind]
    matches = matches_of(truth, results, kind)
    for overlap, expected in ((0, scores.AP50), (5, scores.AP75)):
        hits = matches.hits(matches.at[overlap])
        counted = (matches.at[overlap] == -1) | hits
        values = [
            average_precision(hits[counted & (matches.label == label)], int(objects))
            for label, objects in enumerate(matches.objects_per_class)
        ]
        defined = [value for value in values if not math.isnan(value)]
        assert float(np.mean(defined)) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(matches.taken, matches.at[0])
