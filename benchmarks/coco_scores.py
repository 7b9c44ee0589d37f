"""Time to score a large set of results: Sightline against pycocotools, in turn in one process, and whether the numbers agree.

    python benchmarks/coco_scores.py [--images 1000] [--rounds 3]

Both start from parsed JSON and end with AP to AR100. Prints the medians and their ratio.
"""

import argparse
import contextlib
import copy
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.evaluation.coco import evaluate_results

Json = dict[str, Any]

CLASSES, OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE, SIDE_PX = 20, 8, 40, 480


def random_set(images: int, seed: int = 0) -> tuple[Json, list[Json]]:
    """Objects, and detections that lie near them or anywhere: about COCO's density, with fewer classes."""
    rng = np.random.default_rng(seed)
    truth: Json = {
        "info": {},
        "images": [{"id": index, "height": SIDE_PX, "width": SIDE_PX} for index in range(1, images + 1)],
        "categories": [{"id": index, "name": f"class {index}"} for index in range(1, CLASSES + 1)],
        "annotations": [],
    }
    results: list[Json] = []
    for image in range(1, images + 1):
        places = np.concatenate([rng.uniform(0, 300, (OBJECTS_PER_IMAGE, 2)), rng.uniform(5, 180, (OBJECTS_PER_IMAGE, 2))], 1)
        labels = rng.integers(1, CLASSES + 1, OBJECTS_PER_IMAGE)
        for box, label in zip(places.tolist(), labels.tolist(), strict=True):
            facts = {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            truth["annotations"].append({"id": len(truth["annotations"]) + 1} | facts)
        nearest = rng.integers(OBJECTS_PER_IMAGE, size=DETECTIONS_PER_IMAGE)
        moved = np.abs(places[nearest] * rng.normal(1, 0.1, (DETECTIONS_PER_IMAGE, 4)))
        for box, label, score in zip(moved.tolist(), labels[nearest].tolist(), rng.random(len(moved)).tolist(), strict=True):
            results.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    return truth, results


def by_sightline(truth: Json, results: list[Json]) -> list[float]:
    return list(evaluate_results(truth, results)["bbox"].numbers().values())


def by_pycocotools(truth: Json, results: list[Json]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(number) for number in evaluation.stats[:9]]


def timed(score: Callable[[Json, list[Json]], list[float]], truth: Json, results: list[Json]) -> tuple[float, list[float]]:
    """(seconds, the scores) on copies, which pycocotools writes into."""
    own_truth, own_results = copy.deepcopy((truth, results))
    began = time.perf_counter()
    numbers = score(own_truth, own_results)
    return time.perf_counter() - began, numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    truth, results = random_set(asked.images)
    seconds: dict[str, list[float]] = {"Sightline": [], "pycocotools": []}
    for _ in range(asked.rounds):
        ours_s, ours = timed(by_sightline, truth, results)
        theirs_s, theirs = timed(by_pycocotools, truth, results)
        seconds["Sightline"].append(ours_s)
        seconds["pycocotools"].append(theirs_s)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{asked.images} images, {len(truth['annotations'])} objects, {len(results)} detections, {CLASSES} classes")
    for name, median_s in medians.items():
        print(f"{name:<12} {median_s:7.2f} s")
    print(f"ratio        {medians['pycocotools'] / medians['Sightline']:7.2f}")
    print(f"same numbers {ours == theirs}")


if __name__ == "__main__":
    main()
