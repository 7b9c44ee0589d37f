"""Known answers, and equality with pycocotools to the last bit on random sets, full of what makes evaluators disagree.

Ties in scores, overlaps of exactly one half, boxes without size, crowds, ignored objects, areas on the borders of small,
medium and large, empty images, classes without objects, more detections than count, any order of ids.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.evaluation.coco import DetectionScores, evaluate_files, evaluate_results

Json = dict[str, Any]

AREAS_PX2 = (0, 500, 32**2, 96**2, 96**2 + 0.5)


def random_box(rng: Generator, side: int) -> list[float]:
    kind = rng.integers(10)
    x, y = rng.uniform(0, side - 2, 2)
    if kind == 0:
        return [float(x), float(y), 0.0, float(rng.integers(0, 5))]
    if kind < 6:
        x, y = np.floor([x, y])
        return [float(x), float(y), float(rng.integers(1, side - x + 1)), float(rng.integers(1, side - y + 1))]
    return [float(x), float(y), float(rng.uniform(0.1, side - x)), float(rng.uniform(0.1, side - y))]


def near(rng: Generator, box: list[float]) -> list[float]:
    """`box`, or one that is moved or stretched by a half or a whole pixel."""
    moved = list(box)
    moved[rng.integers(4)] += float(rng.choice([0, 0.5, 1]))
    return moved


def run_lengths(box: list[float], side: int) -> Json:
    left, top, width, height = (round(number) for number in box)
    pixels = np.zeros((side, side), np.uint8, order="F")
    pixels[top : top + height, left : left + width] = 1
    encoded = mask.encode(pixels)
    return {"size": [side, side], "counts": encoded["counts"].decode()}


def random_set(seed: int, kind: str) -> tuple[Json, list[Json]]:
    """(ground truth, results with boxes or masks)."""
    rng = np.random.default_rng(seed)
    side = int(rng.choice([20, 64, 200]))
    shapes = [random_box(rng, side) for _ in range(rng.integers(1, 6))]

    def pick() -> list[float]:
        return near(rng, shapes[rng.integers(len(shapes))]) if rng.random() < 0.5 else random_box(rng, side)

    images = [{"id": int(index) * 3 + 1, "width": side, "height": side} for index in rng.permutation(rng.integers(1, 6))]
    categories = [{"id": int(index) * 2 + 1, "name": f"class {index}"} for index in rng.permutation(rng.integers(1, 4))]
    annotations: list[Json] = []
    results: list[Json] = []
    for image in images:
        for _ in range(rng.integers(0, 8)):
            box = pick()
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": categories[rng.integers(len(categories))]["id"],
                "bbox": box,
                "area": float(rng.choice([box[2] * box[3], *AREAS_PX2])),
                "iscrowd": int(rng.random() < 0.2),
                "segmentation": run_lengths(box, side),
            }
            annotations.append(annotation | ({"ignore": int(rng.integers(2))} if rng.random() < 0.2 else {}))
        for _ in range(rng.integers(0, 12) if rng.random() < 0.95 else 130):
            box = pick()
            place = {"bbox": box} if kind == "bbox" else {"segmentation": run_lengths(box, side)}
            category = categories[rng.integers(len(categories))]["id"]
            score = float(rng.choice([rng.random(), 0.5, 0.25]))
            results.append({"image_id": image["id"], "category_id": category, "score": score} | place)
    truth: Json = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    return truth, [results[index] for index in rng.permutation(len(results))]


def by_pycocotools(truth: Json, results: list[Json], kind: str) -> tuple[list[float], list[float]]:
    """(AP to AR100, AP per class), -1 where undefined. Works on copies: pycocotools changes what it is given."""
    reference = COCO()
    reference.dataset = copy.deepcopy(truth)
    reference.createIndex()
    evaluation = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    per_class = []
    for k in range(len(truth["categories"])):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        defined = precision[precision > -1]
        per_class.append(float(np.mean(defined)) if defined.size else -1.0)
    return evaluation.stats[:9].tolist(), per_class


def numbers(scores: DetectionScores) -> tuple[list[float], list[float]]:
    values, per_class = list(scores.numbers().values()), list(scores.per_class.values())
    return [-1.0 if math.isnan(value) else value for value in values], [-1.0 if math.isnan(v) else v for v in per_class]


@pytest.mark.parametrize(("kind", "known"), [("bbox", 0.504581), ("segm", 0.319545)])
def test_known_answers(shared: Path, kind: str, known: float) -> None:
    folder = shared / "data/coco_eval/faster_coco_eval/tests/dataset/cocoapi"
    labels, found = folder / "instances_val2014_100.json", folder / f"instances_val2014_fake{kind}100_results.json"
    scores = evaluate_files(labels, found)
    assert list(scores) == [kind]
    assert round(scores[kind].AP, 6) == known
    assert numbers(scores[kind]) == by_pycocotools(json.loads(labels.read_text()), json.loads(found.read_text()), kind)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["bbox", "segm"]))
def test_every_number_is_pycocotools_to_the_last_bit(seed: int, kind: str) -> None:
    labels, found = random_set(seed, kind)
    if not found:
        return  # pycocotools cannot read an empty list
    assert numbers(evaluate_results(labels, found)[kind]) == by_pycocotools(labels, found, kind)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_polygons_and_run_lengths_of_any_form_are_pycocotools_too(seed: int) -> None:
    """Labels as people draw them: polygons, several parts, and crowds as bare numbers."""
    rng = np.random.default_rng(seed)
    labels, found = random_set(seed, "segm")
    for annotation in labels["annotations"]:
        side = labels["images"][0]["width"]
        if annotation["iscrowd"]:
            start, length = (int(number) for number in rng.integers(1, side, 2))
            annotation["segmentation"] = {"size": [side, side], "counts": [start, length, side * side - start - length]}
        else:
            annotation["segmentation"] = [rng.uniform(0, side, 8).tolist() for _ in range(rng.integers(1, 3))]
    if found:
        assert numbers(evaluate_results(labels, found)["segm"]) == by_pycocotools(labels, found, "segm")


def test_annotation_0_is_found_here_and_lost_in_pycocotools() -> None:
    """It takes a match with number 0 for a miss: one of the two numbers must be wrong, and it is not ours."""
    box = [10.0, 10.0, 30.0, 30.0]
    labels: Json = {
        "info": {},
        "images": [{"id": 1, "width": 64, "height": 64}],
        "categories": [{"id": 1, "name": "bee"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": box, "area": 900.0, "iscrowd": 0}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
    assert by_pycocotools(labels, found, "bbox")[0][0] == 0
    assert pytest.approx(1) == evaluate_results(labels, found)["bbox"].AP


def test_boxes_and_masks_together_are_each_what_they_are_alone() -> None:
    labels, masks = random_set(4, "segm")
    both = [{**found, "bbox": [2.0, 3.0, 10.0, 9.0]} for found in masks]
    boxes = [{key: value for key, value in found.items() if key != "segmentation"} for found in both]
    together = evaluate_results(labels, both)
    assert numbers(together["bbox"]) == by_pycocotools(labels, boxes, "bbox")
    assert numbers(together["segm"]) == by_pycocotools(labels, masks, "segm")
