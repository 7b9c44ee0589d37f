"""Masks of labels and results as compressed run lengths, checked: every damaged one is an error with its place."""

from typing import Any

import numpy as np

from sightline import coco
from sightline.errors import LabelError, Problem
from sightline.evaluation.results import Numbers, Placed, Truth
from sightline.records import ImageSize


def run_lengths(placed: Placed, truth: Truth, name: str, place: str) -> list[Any]:
    """One mask an entry, as COCO's compressed run lengths.

    Raises:
        LabelError: every segmentation that is missing, damaged, or not of its image's size.
    """
    problems: list[Problem] = []
    converted = []
    segmentations = placed.segmentations or (None,) * len(placed)
    for index, (image, segmentation) in enumerate(zip(placed.image.tolist(), segmentations, strict=True)):
        try:
            converted.append(compressed(segmentation, truth.sizes[image], f"{name}: {place.format(index)}"))
        except LabelError as error:
            problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)
    return converted


def compressed(segmentation: object, size: ImageSize | None, where: str) -> dict[str, Any]:
    """Polygons or run lengths of any form as compressed run lengths."""
    from faster_coco_eval import mask

    if not segmentation:
        raise LabelError(where, "has no segmentation, where others have one", "Add it, or remove all to score boxes alone.")
    if size is None:
        raise LabelError(where, "has a mask in an image of unknown size", "Give the image's height and width.")
    coco.read_segmentation(segmentation, size, where, [])
    try:
        lengths: dict[str, Any] = mask.segmToRle(segmentation, size.width, size.height)
        mask.area([lengths])  # decodes compressed ones, which segmToRle passes on unread
    except (RuntimeError, ValueError) as error:
        raise LabelError(where, f"has a damaged mask ({error})", "Write it again, or remove it.") from error
    return lengths


def mask_areas(masks: list[Any]) -> Numbers:
    """(N,) areas in px² of run lengths."""
    from faster_coco_eval import mask

    return np.array(mask.area(masks) if masks else [], dtype=np.float64)
