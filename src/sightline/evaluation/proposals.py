"""Regions without classes (an RPN's proposals) and labels to numbers: how many of the objects, of whatever class, are covered.

COCO's recall as pycocotools counts it with useCats=0: one class for all, crowds neither found nor missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sightline import coco
from sightline.evaluation.coco import ALL, LARGE, MEDIUM, SMALL, Scores, defined_mean, recall_with
from sightline.evaluation.results import check_results, check_truth, results_from
from sightline.records import Category, Dataset, Detections

LIMITS = (1, 100, 1000)
"""Proposals that count in one image; Detectron2's, after the 1 that COCO's engines begin with."""

UP_TO_100, UP_TO_1000 = 1, 2
"""Indices into LIMITS."""

OBJECT = Category(1, "object")
"""The one class of everything."""


@dataclass(frozen=True, slots=True)
class ProposalScores(Scores):
    """Average recall over overlaps of 0.50 to 0.95, 0 to 1; nan where there was nothing to find.

    AR100, AR1000: with so many proposals per image; Detectron2's AR@100 and AR@1000
    ARs1000, ARm1000, ARl1000: of small, medium and large objects (up to 32² px², up to 96² px², above)
    """

    AR100: float
    AR1000: float
    ARs1000: float
    ARm1000: float
    ARl1000: float


def evaluate_proposals(dataset: Dataset, proposals: Mapping[int, Detections]) -> dict[str, ProposalScores]:
    """{"box_proposals": ...} of {image id: what was proposed in it}; images without an entry have no proposals.

    Labels and masks of the proposals do not count. Each passes through a COCO result: a million take about a GB.

    Raises:
        LabelError: an image that the dataset does not have.
    """
    truth = check_truth(coco.to_json(without_classes(dataset)), "ground truth")
    best = {image_id: best_of(found) for image_id, found in proposals.items()}
    results = check_results(results_from(best, [OBJECT.id]), truth, "proposals")
    recall = recall_with(LIMITS, truth, results)
    scores = ProposalScores(
        AR100=defined_mean(recall[:, :, ALL, UP_TO_100]),
        AR1000=defined_mean(recall[:, :, ALL, UP_TO_1000]),
        ARs1000=defined_mean(recall[:, :, SMALL, UP_TO_1000]),
        ARm1000=defined_mean(recall[:, :, MEDIUM, UP_TO_1000]),
        ARl1000=defined_mean(recall[:, :, LARGE, UP_TO_1000]),
    )
    return {"box_proposals": scores}


def without_classes(dataset: Dataset) -> Dataset:
    """The same objects, all of one class."""
    images = tuple(
        replace(image, instances=tuple(replace(instance, label=0) for instance in image.instances)) for image in dataset.images
    )
    return Dataset((OBJECT,), images)


def best_of(proposals: Detections) -> Detections:
    """As many as can count, best first, without labels and masks."""
    rows = np.argsort(-proposals.scores, kind="stable")[: LIMITS[-1]]
    labels = np.zeros(len(rows), dtype=np.int64)
    return Detections(proposals.size, proposals.boxes[rows], proposals.scores[rows], labels)
