"""Recall of regions without classes: known answers, and pycocotools' with useCats=0."""

import json
import math

import numpy as np
import pytest
from builders import a_dataset, a_mask, a_record, an_instance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline import coco
from sightline.errors import LabelError
from sightline.evaluation.coco import headline, table, to_dict
from sightline.evaluation.proposals import LIMITS, evaluate_proposals
from sightline.records import Box, Dataset, Detections, ImageSize

SIZE = ImageSize(300, 400)
LARGE, SMALL = (10.0, 20.0, 150.0, 160.0), (200.0, 200.0, 220.0, 220.0)


def proposals(*boxes: Box) -> Detections:
    n = len(boxes)
    scores = np.linspace(1, 0, n, dtype=np.float32)
    return Detections(SIZE, np.array(boxes, np.float32).reshape(-1, 4), scores, np.zeros(n, np.int64))


def truth(*boxes: Box, crowd: int = -1) -> Dataset:
    """Cats and dogs in turn; the one at place `crowd` is a crowd."""
    instances = tuple(an_instance(number % 2, box, crowd=number == crowd) for number, box in enumerate(boxes))
    return a_dataset([a_record(1, size=SIZE, instances=instances)])


def scored(dataset: Dataset, found: Detections) -> dict[str, float]:
    return evaluate_proposals(dataset, {1: found})["box_proposals"].numbers()


def test_every_object_is_covered_whatever_its_class() -> None:
    expected = {"AR100": 1, "AR1000": 1, "ARs1000": 1, "ARm1000": math.nan, "ARl1000": 1}
    np.testing.assert_equal(scored(truth(LARGE, SMALL), proposals(LARGE, SMALL)), expected)


def test_the_hundredth_and_the_thousandth() -> None:
    elsewhere = [(300.0, 1.0, 310.0, 9.0)]
    found = proposals(*elsewhere * 99, LARGE, *elsewhere * 899, SMALL)
    assert scored(truth(LARGE, SMALL), found) == pytest.approx(
        {"AR100": 0.5, "AR1000": 1, "ARs1000": 1, "ARm1000": math.nan, "ARl1000": 1}, nan_ok=True
    )
    assert scored(truth(LARGE, SMALL), proposals(*elsewhere * 1000, SMALL, LARGE))["AR1000"] == 0


def test_crowds_are_neither_found_nor_missed() -> None:
    assert scored(truth(LARGE, SMALL, crowd=0), proposals(SMALL))["AR1000"] == 1


def test_labels_and_masks_of_proposals_do_not_count() -> None:
    found = Detections(SIZE, np.float32([LARGE]), np.float32([0.5]), np.int64([7]), (a_mask(SMALL, SIZE),))
    assert scored(truth(LARGE), found)["AR100"] == 1


@pytest.mark.parametrize(
    ("dataset", "expected"), [(truth(LARGE), 0.0), (truth(), math.nan), (a_dataset([]), math.nan)], ids=["none", "empty", "no"]
)
def test_no_proposals(dataset: Dataset, expected: float) -> None:
    np.testing.assert_equal(evaluate_proposals(dataset, {})["box_proposals"].AR1000, expected)


def test_a_picture_that_is_not_in_the_dataset() -> None:
    with pytest.raises(LabelError, match="has image_id 2, which the ground truth does not know"):
        evaluate_proposals(truth(LARGE), {2: proposals(LARGE)})


def test_for_people_and_for_machines() -> None:
    scores = evaluate_proposals(truth(LARGE, SMALL), {1: proposals(LARGE)})
    assert table(scores).splitlines() == [
        "Proposals: average recall with so many per image, whatever the class, 0 to 1; - where there was nothing to find",
        "    AR100  AR1000 ARs1000 ARm1000 ARl1000",
        "    0.500   0.500   0.000       -   1.000",
    ]
    assert headline(scores) == "AR100 0.500, AR1000 0.500"
    assert json.loads(json.dumps(to_dict(scores), allow_nan=False)) == {
        "box_proposals": {"AR100": 0.5, "AR1000": 0.5, "ARs1000": 0.0, "ARm1000": None, "ARl1000": 1.0}
    }


def boxes(rng: Generator, count: int) -> np.ndarray:
    """(count, 4) float32, of all sizes."""
    left_top = rng.uniform(0, 200, (count, 2))
    sides = rng.uniform(1, rng.choice([20, 60, 100, 200], (count, 1)), (count, 2))
    return np.hstack((left_top, left_top + sides)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_number_is_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records, found = [], {}
    for number in range(1, rng.integers(2, 5)):
        things = boxes(rng, rng.integers(0, 12))
        instances = tuple(
            an_instance(int(rng.integers(3)), tuple(box), crowd=bool(rng.random() < 0.2)) for box in things.tolist()
        )
        records.append(a_record(number, size=SIZE, instances=instances))
        near = np.repeat(things, 8, axis=0) + rng.normal(0, 6, (8 * len(things), 4)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        regions = np.vstack((near, boxes(rng, rng.choice([3, 150, 1100]))))
        scores = rng.random(len(regions)).astype(np.float32)
        found[number] = Detections(SIZE, regions, scores, np.zeros(len(regions), np.int64))
    dataset = a_dataset(records, ("cat", "dog", "bee"))
    ours = evaluate_proposals(dataset, found)["box_proposals"].numbers()
    np.testing.assert_array_equal(
        [-1 if math.isnan(value) else value for value in ours.values()], by_pycocotools(dataset, found)
    )


def by_pycocotools(dataset: Dataset, found: dict[int, Detections]) -> list[float]:
    """AR at 100 and at 1000, and of small, medium and large objects at 1000; -1 where undefined."""
    reference = COCO()
    reference.dataset = coco.to_json(dataset)
    reference.createIndex()
    results = [
        {"image_id": number, "category_id": 1, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for number, regions in found.items()
        for (x1, y1, x2, y2), score in zip(regions.boxes.tolist(), regions.scores.tolist(), strict=True)
    ]
    evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
    evaluation.params.useCats, evaluation.params.maxDets = 0, list(LIMITS)
    evaluation.evaluate()
    evaluation.accumulate()
    recall = evaluation.eval["recall"]
    wanted = [recall[:, :, 0, 1], *(recall[:, :, area, 2] for area in range(4))]
    return [float(np.mean(part[part > -1])) if (part > -1).any() else -1.0 for part in wanted]
