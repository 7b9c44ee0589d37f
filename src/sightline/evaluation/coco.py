"""COCO's average precision and recall for boxes and masks: detections and labels in, numbers out.

The counting is hotcoco's; pycocotools is the reference, and the numbers are equal to its bit for bit (the tests compare them,
with crowds, ties, empty pictures and empty boxes).

T: overlap thresholds, 0.50 to 0.95; R: recall thresholds, 0.00 to 1.00; K: categories; A: area ranges; M: detection limits.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import coco
from sightline.errors import LabelError
from sightline.evaluation.masks import mask_areas, run_lengths
from sightline.evaluation.results import (
    MOST,
    Results,
    Truth,
    check_results,
    check_truth,
    read_results_file,
    read_truth_file,
    results_from,
)
from sightline.records import Dataset, Detections

LOG = logging.getLogger(__name__)

Array = NDArray[np.float64]

ALL, SMALL, MEDIUM, LARGE = range(4)
"""Indices along A."""

AREA_RANGES_PX2 = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
UP_TO_1, UP_TO_10, UP_TO_100 = range(3)
"""Indices along M: at most so many detections of one category are looked at in one image; the last number may be another."""

AT_50, AT_75 = 0, 5
"""Indices along T."""

RECALLS = 101  # R

UNDEFINED = -1.0
"""In the engine's arrays: there was nothing to find."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What one kind of evaluation measured, 0 to 1; nan where there was nothing to find. Each kind adds its numbers."""

    def numbers(self) -> dict[str, float]:
        """{"AP": ..., ..., "AR100": ...}: everything that is one number."""
        return {field.name: getattr(self, field.name) for field in fields(self) if "per_class" not in field.name}

    def to_dict(self) -> dict[str, object]:
        """For JSON, which has no nan: undefined numbers become None."""
        return {name: or_none(value) for name, value in self.numbers().items()}

    def lines(self) -> list[str]:
        """For people: the names and the numbers below them."""
        numbers = self.numbers()
        wide = max(6, *map(len, numbers))
        names = " ".join(f"{name:>{wide}}" for name in numbers)
        return [f"  {names}", "  " + " ".join(f"{shown(value):>{wide}}" for value in numbers.values())]


@dataclass(frozen=True, slots=True)
class DetectionScores(Scores):
    """COCO's numbers of boxes, or of masks.

    AP:  average precision over overlaps of 0.50 to 0.95; AP50, AP75: at one overlap; APs, APm, APl: of small, medium and
         large objects (up to 32² px², up to 96² px², above)
    AR1, AR10, AR100: average recall with so many detections per image; the last is named after `most`
    per_class, AP50_per_class: {name: AP} and {name: AP50}, in the order of the categories' ids
    most: detections of a class in an image that count; more than COCO's 100 where objects are many
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    per_class: Mapping[str, float]
    AP50_per_class: Mapping[str, float]
    most: int = MOST

    def numbers(self) -> dict[str, float]:
        """The same as of all scores, with average recall named after the detections that count: AR300."""
        numbers = Scores.numbers(self)
        del numbers["most"]
        return {f"AR{self.most}" if name == "AR100" else name: value for name, value in numbers.items()}

    def to_dict(self) -> dict[str, object]:
        """The numbers, and AP per class."""
        per_class = {name: or_none(value) for name, value in self.per_class.items()}
        return {**Scores.to_dict(self), "per_class": per_class}  # super() does not work in dataclasses with slots

    def lines(self) -> list[str]:
        """The numbers, and one line per class."""
        wide = max([len("class"), *map(len, self.per_class)])
        return [
            *Scores.lines(self),
            "",
            f"  {'class':<{wide}} {'AP':>6} {'AP50':>6}",
            *(
                f"  {name:<{wide}} {shown(value):>6} {shown(self.AP50_per_class[name]):>6}"
                for name, value in self.per_class.items()
            ),
        ]


def or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def to_dict(scores: Mapping[str, Scores]) -> dict[str, dict[str, object]]:
    """{"bbox": {"AP": ..., ..., "per_class": {...}}, "segm": {...}}, ready for JSON."""
    return {kind: of_kind.to_dict() for kind, of_kind in scores.items()}


def evaluate_files(truth: Path, results: Path) -> dict[str, DetectionScores]:
    """{"bbox": ..., "segm": ...} of a COCO results file against a COCO instances file; what the results hold is measured.

    Raises:
        LabelError: everything that is wrong with one of the files.
    """
    checked = read_truth_file(truth)
    return score(checked, read_results_file(results, checked))


def evaluate_results(truth: object, results: object) -> dict[str, DetectionScores]:
    """`evaluate_files` for JSON that is already parsed; neither argument is changed."""
    checked = check_truth(truth, "ground truth")
    return score(checked, check_results(results, checked, "results"))


def evaluate_detections(dataset: Dataset, detections: Mapping[int, Detections]) -> dict[str, DetectionScores]:
    """{"bbox": ..., "segm": ...} of {image id: what was found in it}; masks are scored where both sides have them.

    Images that are not among them count as if nothing was found.

    Raises:
        DatasetError: a label that is no category of the dataset.
        LabelError: an image that the dataset does not have.
    """
    category_ids = [category.id for category in dataset.categories]
    return evaluate_results(coco.to_json(dataset), results_from(detections, category_ids))


def score(truth: Truth, results: Results, most: int = MOST) -> dict[str, DetectionScores]:
    """The scores of each kind that the results have a place for; of boxes where there are no results at all.

    most: detections of a class in an image that count
    """
    kinds = results.kinds or ("bbox",)
    if "segm" in kinds and not truth.has_masks:
        if kinds == ("segm",):
            fix = "Give labels with segmentations, or results with boxes."
            raise LabelError(truth.name, f"has no masks to compare those of {results.name} with", fix)
        LOG.info("%s has no masks: only the boxes are scored.", truth.name)
        kinds = ("bbox",)
    return {kind: score_kind(truth, results, kind, most) for kind in kinds}


def score_kind(truth: Truth, results: Results, kind: str, most: int = MOST) -> DetectionScores:
    """kind: "bbox" or "segm"."""
    precision, recall = precision_and_recall(truth, results, kind, most)
    whole = precision[:, :, :, ALL, UP_TO_100]
    return DetectionScores(
        AP=defined_mean(whole),
        AP50=defined_mean(whole[AT_50]),
        AP75=defined_mean(whole[AT_75]),
        APs=defined_mean(precision[:, :, :, SMALL, UP_TO_100]),
        APm=defined_mean(precision[:, :, :, MEDIUM, UP_TO_100]),
        APl=defined_mean(precision[:, :, :, LARGE, UP_TO_100]),
        AR1=defined_mean(recall[:, :, ALL, UP_TO_1]),
        AR10=defined_mean(recall[:, :, ALL, UP_TO_10]),
        AR100=defined_mean(recall[:, :, ALL, UP_TO_100]),
        per_class={name: defined_mean(whole[:, :, k]) for k, name in enumerate(truth.class_names)},
        AP50_per_class={name: defined_mean(whole[AT_50, :, k]) for k, name in enumerate(truth.class_names)},
        most=most,
    )


def defined_mean(values: Array) -> float:
    """The mean of what is defined, added up in pycocotools' order; nan where nothing is."""
    defined = values[values > UNDEFINED]
    return float(np.mean(defined)) if defined.size else math.nan


def precision_and_recall(truth: Truth, results: Results, kind: str, most: int = MOST) -> tuple[Array, Array]:
    """(T, R, K, A, M) precision and (T, K, A, M) recall as pycocotools accumulates them."""
    if not truth.image_ids or not truth.categories:
        categories = len(truth.categories)
        return np.full((10, RECALLS, categories, 4, 3), UNDEFINED), np.full((10, categories, 4, 3), UNDEFINED)
    counted = count(truth, results, kind, (1, 10, most))
    return np.asarray(counted["precision"]), np.asarray(counted["recall"])


def recall_with(limits: Sequence[int], truth: Truth, results: Results) -> Array:
    """(T, K, A, M) recall of boxes when so many of a category count in one image; `limits` (M,), ascending."""
    if not truth.image_ids or not truth.categories:
        return np.full((10, len(truth.categories), 4, len(limits)), UNDEFINED)
    return np.asarray(count(truth, results, "bbox", limits)["recall"])


def count(truth: Truth, results: Results, kind: str, limits: Sequence[int] = (1, 10, 100)) -> Mapping[str, Any]:
    """hotcoco's "precision" and "recall". It gets images and categories by their places, from 1: its ids are never negative."""
    import hotcoco

    sizes = enumerate(truth.sizes, start=1)
    images = [{"id": key, "height": size[0], "width": size[1]} if size else {"id": key} for key, size in sizes]
    categories = [{"id": label, "name": name} for label, name in enumerate(truth.class_names, start=1)]
    objects, found = truth.objects, results.found
    masks = run_lengths(objects, truth, truth.name, "annotations[{}]") if kind == "segm" else None
    labelled = hotcoco.COCO.from_arrays(
        images,
        categories,
        objects.image + 1,
        objects.label + 1,
        np.zeros((len(objects), 4)) if objects.boxes is None else objects.boxes,
        area=truth.areas,
        iscrowd=truth.crowd,
        segmentation=masks,
    )
    boxes = np.zeros((len(found), 4)) if found.boxes is None else found.boxes
    rows = np.column_stack((found.image + 1, boxes, results.scores, found.label + 1))
    if kind == "segm":
        masks = run_lengths(found, truth, results.name, "result {}")
        detected = labelled.load_res(rows, segmentation=masks)
        detected.update_anns(ids=np.arange(1, len(rows) + 1), area=mask_areas(masks))
    else:
        detected = labelled.load_res(rows)
    engine = hotcoco.COCOeval(labelled, detected, kind)
    engine.params.max_dets = list(limits)
    engine.evaluate()
    engine.accumulate()
    assert engine.eval is not None  # it has just been accumulated
    return engine.eval


TITLES = {
    "bbox": "Boxes: COCO average precision and recall",
    "segm": "Masks: COCO average precision and recall",
    "box_proposals": "Proposals: average recall with so many per image, whatever the class",
}

HEADLINES = {
    "bbox": "AP50 {AP50:.3f}, AP {AP:.3f}",
    "segm": "of masks AP50 {AP50:.3f}, AP {AP:.3f}",
    "box_proposals": "AR100 {AR100:.3f}, AR1000 {AR1000:.3f}",
}


def table(scores: Mapping[str, Scores]) -> str:
    """The scores as text for people: one block per kind."""
    undefined = "0 to 1; - where there was nothing to find"
    return "\n\n".join("\n".join([f"{TITLES[kind]}, {undefined}", *of_kind.lines()]) for kind, of_kind in scores.items())


def headline(scores: Mapping[str, Scores]) -> str:
    """The scores on one line: "AP50 0.512, AP 0.300"."""
    return ", ".join(HEADLINES[kind].format(**of_kind.numbers()) for kind, of_kind in scores.items())


def shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
