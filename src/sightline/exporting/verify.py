"""Whether an export gives what its detector gives: the same pictures through both, detection by detection.

N: detections of one picture. M: cells of a mask's side.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.dataset.drawn import draw
from sightline.errors import ImageError, RunError
from sightline.geometry.boxes import pairwise_iou
from sightline.images import SUFFIXES, read_image
from sightline.model.predictor import Predictor
from sightline.records import Image, ImageSize

Floats = NDArray[np.float32]
Answers = Sequence[NDArray[Any]]
"""boxes, scores, labels, picture, and masks where there are any: the contract's outputs in numpy."""

Ask = Callable[[NDArray[np.uint8], NDArray[np.int64], float], Answers]
"""An export: (B, H, W, 3) pictures, (B, 2) sizes and a score threshold to its outputs."""

SAMPLES = 4
BATCHES = ((0,), (1,), (2, 3))
"""Which of the samples run together."""

LEAST_IOU, PIXELS = 0.99, 0.05
"""Boxes are equal from this overlap, or within this distance: a sliver at a picture's edge overlaps little."""
SCORE, SCORE_SHARE = 1e-4, 1e-3
"""Scores are equal within the first and this share of the score."""
MASK = 0.01
"""Probabilities of a mask's cells are equal within this."""
UNMATCHED_SHARE = 0.01
"""Of all detections, those that may be in one answer alone: float32 rounds overlaps on either side of a threshold."""
ENOUGH = 20
"""Detections that a comparison should have; where a model finds fewer above its threshold, the best below it are compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Some:
    """Detections of one picture in the batch's pixels. boxes: (N, 4); scores, labels: (N,); masks: (N, M, M) or None."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]
    masks: Floats | None

    def take(self, rows: NDArray[np.bool_]) -> "Some":
        masks = None if self.masks is None else self.masks[rows]
        return Some(self.boxes[rows], self.scores[rows], self.labels[rows], masks)


@dataclass(frozen=True, slots=True)
class Verified:
    """How near the answers were. unmatched: detections of one answer alone; least_iou: of boxes that are no slivers"""

    pictures: int
    detections: int
    unmatched: int
    least_iou: float
    largest_score_difference: float
    largest_mask_difference: float | None = None

    def facts(self) -> dict[str, object]:
        """For the meta-data."""
        facts: dict[str, object] = {
            "pictures": self.pictures,
            "detections": self.detections,
            "unmatched": self.unmatched,
            "least_iou": round(self.least_iou, 6),
            "largest_score_difference": float(f"{self.largest_score_difference:.3g}"),
        }
        if self.largest_mask_difference is not None:
            facts["largest_mask_difference"] = float(f"{self.largest_mask_difference:.3g}")
        return facts


def samples(folder: str | Path | None, count: int = SAMPLES) -> list[Image]:
    """`count` pictures: the first below `folder` (again from the first where they are few), or drawn ones.

    Raises:
        ImageError: the folder holds no picture, or one cannot be read.
    """
    if folder is None:
        drawn = [picture for picture, _ in draw(count, seed=1)]
        return [picture if number % 2 == 0 else picture.transpose(1, 0, 2).copy() for number, picture in enumerate(drawn)]
    path = Path(folder)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise ImageError(folder, "holds no pictures", "Give a folder of pictures like those that the model is for.")
    return [read_image(files[number % len(files)]) for number in range(count)]


def batched(resized: Sequence[Image], divisor: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """((B, H, W, 3) zero-padded to a multiple of `divisor`, (B, 2) sizes)."""
    sizes = np.array([image.shape[:2] for image in resized], np.int64)
    height, width = (-(-int(side) // divisor) * divisor for side in sizes.max(axis=0))
    batch = np.zeros((len(resized), height, width, 3), np.uint8)
    for row, image in zip(batch, resized, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return batch, sizes


def reference(predictor: Predictor, resized: Sequence[Image]) -> list[Some]:
    """What the detector finds, a picture each."""
    found = predictor.found(resized, [ImageSize(*image.shape[:2]) for image in resized])
    return [
        Some(
            one.boxes.float().cpu().numpy(),
            one.scores.float().cpu().numpy(),
            one.labels.cpu().numpy(),
            None if one.masks is None else one.masks.float().cpu().numpy(),
        )
        for one in found
    ]


def by_picture(answers: Answers, pictures: int) -> list[Some]:
    """An export's outputs, a picture each; empty boxes, which a detector drops at the end, are dropped."""
    boxes, scores, labels, owners, *masks = (np.asarray(answer) for answer in answers)
    whole = Some(boxes, scores, labels, masks[0] if masks else None)
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return [whole.take(there & (owners == picture)) for picture in range(pictures)]


def least_compared(found: Sequence[Some], threshold: float) -> float:
    """The score from which detections are compared: the model's threshold, or lower where it leaves too few."""
    scores = np.sort(np.concatenate([some.scores for some in found]))[::-1]
    if np.count_nonzero(scores > threshold) >= ENOUGH or not len(scores):
        return threshold
    return min(threshold, float(scores[min(ENOUGH, len(scores)) - 1]))


def verify(ask: Ask, predictor: Predictor, pictures: Sequence[Image], threshold: float, most: int | None) -> Verified:
    """How near the export is to the detector.

    predictor: the detector at threshold 0
    pictures:  SAMPLES of them
    threshold: the model's own
    most:      detections of a picture; None: all

    Raises:
        RunError: it is not near enough, or nothing could be: the detector in float64 does not agree with itself either.
    """
    resized = [predictor.resized(picture) for picture in pictures]
    expected = [some for batch in BATCHES for some in reference(predictor, [resized[number] for number in batch])]
    least = least_compared(expected, threshold)
    found: list[Some] = []
    for batch in BATCHES:
        padded, sizes = batched([resized[number] for number in batch], predictor.detector.size_divisor)
        found += by_picture(ask(padded, sizes, least), len(batch))
    compared = [compare(one, other, least, most) for one, other in zip(expected, found, strict=True)]
    if too_different(compared):
        require_settled(predictor, resized, expected, least, most)
    return judged(compared)


def require_settled(
    predictor: Predictor, resized: Sequence[Image], expected: Sequence[Some], least: float, most: int | None
) -> None:
    """Nothing, if the detector finds in float64 what it finds in float32: then an export that differs is wrong.

    Weights that were never trained, without statistics in their norms, give logits so large that rounding decides which boxes
    are proposed; any two programs disagree about such a model.

    Raises:
        RunError: it finds something else.
    """
    exact = copy.copy(predictor)
    exact.detector = copy.deepcopy(predictor.detector).double()
    found = [some for batch in BATCHES for some in reference(exact, [resized[number] for number in batch])]
    above = [some.take(some.scores > least) for some in found]
    compared = [compare(one, other, least, most) for one, other in zip(expected, above, strict=True)]
    if too_different(compared):
        raise RunError(
            "verification",
            "this model finds something else in float64 than in float32 "
            f"({sum(one.unmatched + one.excused for one in compared)} detections differ, "
            f"{sum(one.matched for one in compared)} agree): rounding decides, and no export can be compared with it",
            "Nothing was written. Export a trained model; weights that were made up need statistics in their norms.",
        )


def too_different(compared: Sequence["Compared"]) -> bool:
    """Whether more detections have no partner than rounding explains in a model that was trained, or most are excused."""
    matched, unmatched = sum(one.matched for one in compared), sum(one.unmatched for one in compared)
    excused = sum(one.excused for one in compared)
    return unmatched > UNMATCHED_SHARE * (matched + unmatched) or excused > matched


@dataclass(frozen=True, slots=True)
class Compared:
    """One picture: matches, and detections that one side alone has. excused: those at the threshold or the end of a list"""

    matched: int
    unmatched: int
    least_iou: float
    score: float
    mask: float | None
    excused: int = 0


def compare(expected: Some, found: Some, least: float, most: int | None) -> Compared:
    """Match the detections of two answers, best first. Those that rounding may push out are not missed."""
    expected = expected.take(expected.scores > least)
    iou = pairwise_iou(expected.boxes.astype(np.float64), found.boxes.astype(np.float64))
    apart = np.abs(expected.boxes[:, None] - found.boxes[None]).max(axis=2, initial=0)  # (N, N')
    scores = np.abs(expected.scores[:, None] - found.scores[None])
    near = scores <= SCORE + SCORE_SHARE * expected.scores[:, None]
    fits = (expected.labels[:, None] == found.labels[None]) & ((iou >= LEAST_IOU) | (apart <= PIXELS)) & near
    free = np.ones(len(found.scores), bool)
    pairs = []
    for row in range(len(expected.scores)):
        candidates = np.flatnonzero(fits[row] & free)
        if len(candidates):
            best = int(candidates[np.argmin(apart[row, candidates])])
            free[best] = False
            pairs.append((row, best))
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    alone = np.ones(len(expected.scores), bool)
    alone[rows] = False
    lonely = (*expected.scores[alone], *found.scores[free])
    missed = [score for score in lonely if score > surely(expected, found, least, most)]
    wide = (expected.boxes[rows, 2:] - expected.boxes[rows, :2] >= 1).all(axis=1)
    masks = None
    if expected.masks is not None and found.masks is not None:
        masks = float(np.abs(expected.masks[rows] - found.masks[columns]).max(initial=0))
    return Compared(
        len(rows),
        len(missed),
        float(iou[rows, columns][wide].min(initial=1)),
        float(scores[rows, columns].max(initial=0)),
        masks,
        len(lonely) - len(missed),
    )


def surely(expected: Some, found: Some, least: float, most: int | None) -> float:
    """The score above which a detection must be in both answers: not at the threshold, nor the last of a full list."""
    cuts = [least]
    for some in (expected, found):
        if most is not None and len(some.scores) >= most:
            cuts.append(float(some.scores.min()))
    return max(cuts) * (1 + SCORE_SHARE) + SCORE


def judged(compared: Sequence[Compared]) -> Verified:
    """All pictures together.

    Raises:
        RunError: too many detections have no partner, or masks differ.
    """
    masks = [one.mask for one in compared if one.mask is not None]
    verified = Verified(
        pictures=len(compared),
        detections=sum(one.matched for one in compared),
        unmatched=sum(one.unmatched for one in compared),
        least_iou=min(one.least_iou for one in compared),
        largest_score_difference=max(one.score for one in compared),
        largest_mask_difference=max(masks) if masks else None,
    )
    if too_different(compared):
        raise RunError(
            "verification",
            f"{verified.unmatched + sum(one.excused for one in compared)} detections differ between the export and the model, "
            f"{verified.detections} agree "
            f"(on {verified.pictures} pictures)",
            "Nothing was written. Try other pictures with --images; if it stays, report it with the model's config.yaml.",
        )
    if masks and max(masks) > MASK:
        raise RunError(
            "verification",
            f"masks differ by up to {max(masks):.2g} between the export and the model",
            "Nothing was written. Report it with the model's config.yaml.",
        )
    return verified
