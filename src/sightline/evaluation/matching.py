"""Which detection finds which object: COCO's matching, once, as plain columns from which all other numbers are derived.

The rules are pycocotools' (cocoeval.py, evaluateImg): at most 100 detections of a class in an image, or as asked; best score
first, each takes the free object of its class that it overlaps most; a crowd is taken only where no object is left, by any
number of detections, which then count neither as found nor as false.

N: detections, best score first; M: objects; P: pairs of them in one image; T: COCO's overlap thresholds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.masks import run_lengths
from sightline.evaluation.results import MOST, Indices, Numbers, Placed, Results, Truth

THRESHOLDS: Numbers = np.linspace(0.5, 0.95, 10)
"""(T,) COCO's overlaps."""

NEAR = 0.1
"""Overlaps below are taken for none, as in TIDE."""

PAIRS_AT_ONCE = 2_000_000
"""What bounds the memory: pairs are made for so many at once, and only those that overlap stay."""

MATCHLESS = -1


@dataclass(frozen=True, eq=False)
class Pairs:
    """(P,) detections and objects of one image that overlap by NEAR at least, whatever their classes."""

    found: Indices
    object: Indices
    iou: Numbers

    def take(self, rows: NDArray[np.bool_] | Indices) -> "Pairs":
        return Pairs(self.found[rows], self.object[rows], self.iou[rows])


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every detection and every object at one overlap.

    truth, kind: what was matched, by "bbox" or "segm"
    overlap:     the intersection over union from which on an object is found
    rows:        (N,) index of each detection in the results' own order
    image, label, scores: (N,) of the detections; image and label are indices into the truth's
    boxes:       (N, 4) left, top, width, height; None: the results have masks only
    taken:       (N,) the object that a detection was matched with, or -1
    at:          (T, N) the same at each of COCO's overlaps
    pairs:       all that overlap
    beyond:      detections that do not count: those after the `most` best of a class in an image
    segmentations: of all results in their own order (see `rows`); None: they have none
    """

    truth: Truth
    kind: str
    overlap: float
    rows: Indices
    image: Indices
    label: Indices
    scores: Numbers
    boxes: Numbers | None
    taken: Indices
    at: Indices
    pairs: Pairs
    beyond: int
    segmentations: tuple[object, ...] | None = None
    most: int = MOST

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def true(self) -> NDArray[np.bool_]:
        """(N,) detections that found an object."""
        return self.hits(self.taken)

    @cached_property
    def ignored(self) -> NDArray[np.bool_]:
        """(N,) detections in a crowd: neither true nor false."""
        ignored: NDArray[np.bool_] = (self.taken != MATCHLESS) & ~self.true
        return ignored

    @cached_property
    def false(self) -> NDArray[np.bool_]:
        """(N,) detections that found nothing, or what another one had found already."""
        false: NDArray[np.bool_] = self.taken == MATCHLESS
        return false

    @cached_property
    def finder(self) -> Indices:
        """(M,) the detection that found an object, or -1."""
        finder = np.full(len(self.truth.objects), MATCHLESS, np.intp)
        rows = np.flatnonzero(self.true)
        finder[self.taken[rows]] = rows
        return finder

    @cached_property
    def objects_per_class(self) -> Indices:
        """(K,) objects that are to be found: without crowds."""
        return np.bincount(self.truth.objects.label[~self.truth.crowd], minlength=len(self.truth.categories))

    @cached_property
    def iou(self) -> Numbers:
        """(N,) the overlap with the object that was found; with the nearest one of the class where none was; or 0."""
        best = np.zeros(len(self))
        same = self.label[self.pairs.found] == self.truth.objects.label[self.pairs.object]
        mine = same & ((self.taken[self.pairs.found] == MATCHLESS) | (self.taken[self.pairs.found] == self.pairs.object))
        np.maximum.at(best, self.pairs.found[mine], self.pairs.iou[mine])
        return best

    def hits(self, taken: Indices) -> NDArray[np.bool_]:
        """(..., N) whether each detection found an object; `taken` as in the field of that name, or `at`."""
        crowd = np.append(self.truth.crowd, True)  # the last, at -1: no object
        return ~crowd[taken]


def match(truth: Truth, results: Results, kind: str = "bbox", overlap: float = 0.5, most: int = MOST) -> Matches:
    """Match results with a truth; `kind` is one of those that the results have a place for.

    Raises:
        LabelError: damaged masks.
    """
    found = results.found
    by_image = np.argsort(found.image, kind="stable")
    order = by_image[np.argsort(-results.scores[by_image], kind="stable")]
    order, beyond = without_surplus(found, order, most)
    image, label, scores = found.image[order], found.label[order], results.scores[order]
    pairs = near_pairs(truth, results, kind, order, min(NEAR, overlap))
    own_class = pairs.take(label[pairs.found] == truth.objects.label[pairs.object])
    at = np.stack([assign(own_class, truth.crowd, len(order), threshold) for threshold in THRESHOLDS])
    taken = assign(own_class, truth.crowd, len(order), overlap)
    boxes = None if found.boxes is None else found.boxes[order]
    segmentations = found.segmentations
    return Matches(truth, kind, overlap, order, image, label, scores, boxes, taken, at, pairs, beyond, segmentations, most)


def without_surplus(found: Placed, order: Indices, most: int) -> tuple[Indices, int]:
    """(`order` without detections after the `most` best of a class in an image, how many those were)."""
    group = found.image[order] * (int(found.label.max(initial=0)) + 1) + found.label[order]
    grouped = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[grouped], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    keep = np.ones(len(order), np.bool_)
    keep[grouped] = rank < most
    return order[keep], int((~keep).sum())


def near_pairs(truth: Truth, results: Results, kind: str, order: Indices, least: float) -> Pairs:
    """All pairs in one image that overlap by `least` or more."""
    if kind == "segm":
        return collected(mask_pairs(truth, results, order, least))
    return collected(box_pairs(truth, results, order, least))


def collected(parts: Iterator[Pairs]) -> Pairs:
    """The parts in one, ordered by detection, then by object."""
    found, objects, ious = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)], [np.zeros(0)]
    for part in parts:
        found.append(part.found)
        objects.append(part.object)
        ious.append(part.iou)
    pairs = Pairs(np.concatenate(found), np.concatenate(objects), np.concatenate(ious))
    return pairs.take(np.lexsort((pairs.object, pairs.found)))


def box_pairs(truth: Truth, results: Results, order: Indices, least: float) -> Iterator[Pairs]:
    """Pairs of boxes; some images at once, so that memory stays bounded."""
    objects = truth.objects
    assert objects.boxes is not None and results.found.boxes is not None  # the kind says so
    in_images = np.argsort(objects.image, kind="stable")
    counts = np.bincount(objects.image, minlength=len(truth.image_ids))
    starts = np.cumsum(counts) - counts
    image = results.found.image[order]
    several = counts[image]  # (N,) objects in each detection's image
    ends = np.cumsum(several)
    first = 0
    while first < len(order):
        last = max(first + 1, int(np.searchsorted(ends, ends[first] - several[first] + PAIRS_AT_ONCE, side="right")))
        part = np.arange(first, last)
        found = np.repeat(part, several[part])
        place = np.arange(len(found)) - np.repeat(ends[part] - several[part] - (ends[first] - several[first]), several[part])
        thing = in_images[starts[image[found]] + place]
        iou = overlaps(results.found.boxes[order[found]], objects.boxes[thing], truth.crowd[thing])
        near = iou >= least
        yield Pairs(found[near], thing[near], iou[near])
        first = last


def overlaps(found: Numbers, objects: Numbers, crowd: NDArray[np.bool_]) -> Numbers:
    """(P,) intersection over union, computed as pycocotools does; where the object is a crowd, over the detection's area."""
    sides = np.minimum(found[:, :2] + found[:, 2:], objects[:, :2] + objects[:, 2:]) - np.maximum(found[:, :2], objects[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0)
    own, other = found[:, 2] * found[:, 3], objects[:, 2] * objects[:, 3]
    union = np.where(crowd, own, own + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def mask_pairs(truth: Truth, results: Results, order: Indices, least: float) -> Iterator[Pairs]:
    """Pairs of masks, image by image."""
    from hotcoco import mask

    labelled = run_lengths(truth.objects, truth, truth.name, "annotations[{}]")
    detected = run_lengths(results.found, truth, results.name, "result {}")
    of_image = rows_by_image(truth.objects.image, len(truth.image_ids))
    for image, found in enumerate(rows_by_image(results.found.image[order], len(truth.image_ids))):
        things = of_image[image]
        if not len(found) or not len(things):
            continue
        crowd = truth.crowd[things].tolist()
        iou = np.asarray(mask.iou([detected[order[row]] for row in found], [labelled[thing] for thing in things], crowd))
        which, what = np.nonzero(iou >= least)
        yield Pairs(found[which], things[what], iou[which, what])


def rows_by_image(image: Indices, images: int) -> list[Indices]:
    """For each image the rows that are in it, in their order."""
    counts = np.bincount(image, minlength=images)
    return np.split(np.argsort(image, kind="stable"), np.cumsum(counts)[:-1]) if images else []


def assign(pairs: Pairs, crowd: NDArray[np.bool_], detections: int, threshold: float) -> Indices:
    """(N,) the object that each detection takes, or -1. `pairs`: of one class each, ordered by detection, then by object."""
    taken = np.full(detections, MATCHLESS, np.intp)
    near = pairs.take(pairs.iou >= min(threshold, 1 - 1e-10))
    choices = np.bincount(near.found, minlength=detections)
    rivals = np.bincount(near.object, minlength=len(crowd))
    alone = (choices[near.found] == 1) & ((rivals[near.object] == 1) | crowd[near.object])
    taken[near.found[alone]] = near.object[alone]
    contested = near.take(~alone)
    contested = contested.take(np.lexsort((contested.object, crowd[contested.object], contested.found)))
    gone: set[int] = set()
    best, best_iou, best_crowd, current = MATCHLESS, 0.0, False, MATCHLESS
    rows = zip(
        contested.found.tolist(), contested.object.tolist(), contested.iou.tolist(), crowd[contested.object], strict=True
    )
    for found, thing, iou, many in rows:
        if found != current:
            if best != MATCHLESS:
                taken[current] = best
                gone.add(best)
            best, best_iou, current = MATCHLESS, 0.0, found
        free = many or thing not in gone
        if free and iou >= best_iou and not (many and best != MATCHLESS and not best_crowd):
            best, best_iou, best_crowd = thing, iou, many
    if best != MATCHLESS:
        taken[current] = best
    return taken
