"""Time and size of the page of an evaluation, without the prediction.

    python benchmarks/report.py output.manifest PICTURES

Detections are made of the labels: most of them moved a little, some missing, and up to 60 anywhere in each picture.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sightline import labels
from sightline.coco import to_json
from sightline.evaluation.analysis import examine
from sightline.evaluation.results import check_results, check_truth
from sightline.records import Dataset
from sightline.reporting.write import write_report


def detections(dataset: Dataset, seed: int = 0) -> list[dict[str, object]]:
    """COCO results."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    for image in dataset.images:
        height, width = image.size
        boxes = []
        for instance in image.instances:
            x1, y1, x2, y2 = instance.box
            if rng.random() < 0.8:
                boxes.append((np.array([x1, y1, x2 - x1, y2 - y1]) * rng.normal(1, 0.07, 4), rng.beta(5, 2), instance.label))
        for _ in range(rng.integers(60)):
            size = rng.uniform(0.03, 0.25, 2) * (width, height)
            corner = rng.uniform(0, 1, 2) * ((width, height) - size)
            boxes.append((np.concatenate([corner, size]), rng.beta(1, 6), int(rng.integers(len(dataset.categories)))))
        for box, score, label in boxes:
            category = dataset.categories[label].id
            bbox = np.abs(box).tolist()
            found.append({"image_id": image.id, "category_id": category, "bbox": bbox, "score": float(score)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    parser.add_argument("pictures", type=Path)
    asked = parser.parse_args()
    dataset = labels.read([asked.labels], on_problem="skip").dataset
    truth = check_truth(to_json(dataset), asked.labels)
    results = check_results(detections(dataset), truth, "moved labels")
    began, used = time.perf_counter(), time.process_time()
    evaluation = examine(truth, results)
    examined = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(evaluation, Path(folder), pictures=asked.pictures)
        size = page.stat().st_size / 1e6
    took = time.perf_counter() - began
    print(
        f"{len(dataset.images):,} pictures, {len(results.scores):,} detections: {took:.1f} s ({examined:.1f} s of it numbers),"
    )
    print(f"{time.process_time() - used:.1f} s of processor time, {size:.1f} MB")


if __name__ == "__main__":
    main()
