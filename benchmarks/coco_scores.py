"""Time to score a large set of results: Sightline against pycocotools, in turn in one process, and whether the numbers agree.

    python benchmarks/coco_scores.py [--images 5000] [--rounds 3] [--alone]

Both start from parsed JSON and end with AP to AR100. Prints the medians and their ratio.
"""

import argparse
import contextlib
import copy
import io
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.evaluation.coco import evaluate_results

Json = dict[str, Any]

CLASSES, SIDE_PX = 80, 480
OBJECTS_PER_IMAGE, DETECTIONS_PER_IMAGE = 7, 7.712
"""About COCO's validation set, with a detector that keeps what it is fairly sure of."""


def random_set(images: int, seed: int = 0) -> tuple[Json, list[Json]]:
    """Objects, and detections near them: of their class, in their image, a tenth off in every number."""
    rng = np.random.default_rng(seed)
    objects, detections = images * OBJECTS_PER_IMAGE, round(images * DETECTIONS_PER_IMAGE)
    image, label = rng.integers(1, images + 1, objects), rng.integers(1, CLASSES + 1, objects)
    places = np.concatenate([rng.uniform(0, 300, (objects, 2)), rng.uniform(5, 180, (objects, 2))], axis=1)
    rows = zip(image.tolist(), label.tolist(), places.tolist(), strict=True)
    truth: Json = {
        "info": {},
        "images": [{"id": index, "height": SIDE_PX, "width": SIDE_PX} for index in range(1, images + 1)],
        "categories": [{"id": index, "name": f"class {index}"} for index in range(1, CLASSES + 1)],
        "annotations": [
            {"id": key, "image_id": where, "category_id": what, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for key, (where, what, box) in enumerate(rows, start=1)
        ],
    }
    nearest = rng.integers(objects, size=detections)
    moved = np.abs(places[nearest] * rng.normal(1, 0.1, (detections, 4)))
    columns = image[nearest].tolist(), label[nearest].tolist(), moved.tolist(), rng.random(detections).tolist()
    results = [
        {"image_id": where, "category_id": what, "bbox": box, "score": score}
        for where, what, box, score in zip(*columns, strict=True)
    ]
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
    """(seconds, the scores) on copies."""
    own_truth, own_results = copy.deepcopy((truth, results))  # pycocotools writes into them
    began = time.perf_counter()
    numbers = score(own_truth, own_results)
    return time.perf_counter() - began, numbers


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without pycocotools; prints the memory at its highest")
    asked = parser.parse_args()
    truth, results = random_set(asked.images)
    if asked.alone:
        before = peak_mib()
        taken_s, _ = timed(by_sightline, truth, results)
        print(f"{asked.images} images: {taken_s:.2f} s; the JSON takes {before:.0f} MiB, with scoring {peak_mib():.0f} MiB")
        return
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
