"""How well a configuration's anchors fit the boxes: the best overlap that any anchor can have with each, at training sizes.

Anchors lie on a grid, one level a stride. The overlap of a box and an anchor falls as their centres part, in x and in y
alike, so that the best place of each anchor is the grid's nearest: exact, and without making the grid.
N: boxes, A: anchor shapes over all levels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.dataset.check.boxes import boxes_of, marks_of
from sightline.dataset.check.findings import Finding, Gravity
from sightline.dataset.check.subject import Picture
from sightline.geometry.boxes import Boxes
from sightline.images import shortest_edge_size

MAX_BOXES = 50_000
"""Boxes that are tried; of more, an even sample."""

UNMATCHED_SHARE = 0.1
"""Of a class's boxes, which even the best anchor overlaps no more than background: from here on it is a finding."""

GRAVE_SHARE = 0.5
"""As `UNMATCHED_SHARE`: from here on it is grave."""

WIDE = 1.5
"""A box this many times as elongated as the most elongated anchor needs another aspect ratio."""

BEYOND = 0.6
"""A square this much smaller than the smallest anchor overlaps it by 0.36: it is its size that is wrong, not its shape."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """The anchors of a configuration and the sizes that it trains at, as plain numbers.

    sizes, ratios: one sequence a level; size: square root of the area in px; ratio: height / width
    strides:       px between cells, one a level
    offset:        of the first cell's centre, in strides
    foreground, background: overlaps from which on an anchor learns the object, and up to which it learns that there is none
    min_sizes, max_size:    as INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    strides: tuple[int, ...]
    offset: float
    foreground: float
    background: float
    min_sizes: tuple[int, ...]
    max_size: int

    def shapes(self) -> Iterator[tuple[int, float, float]]:
        """(stride, width, height) of every anchor of a cell, level by level."""
        for sizes, ratios, stride in zip(self.sizes, self.ratios, self.strides, strict=True):
            for size in sizes:
                for ratio in ratios:
                    width = math.sqrt(size**2 / ratio)
                    yield stride, width, ratio * width


@dataclass(frozen=True, slots=True)
class Fit:
    """Of one class. Shares, 0 to 1, of its boxes at all training sizes.

    matched: some anchor overlaps it enough to learn it for that alone
    hardly:  only as the best anchor of an object that no anchor fits
    never:   not even the best anchor overlaps it more than background
    reason:  what the boxes of `never` are to the anchors: small, large, elongated or between; empty: there are none
    side_px: median side (square root of the area) at training sizes of those boxes
    """

    name: str
    boxes: int
    matched: float
    hardly: float
    never: float
    reason: str = ""
    side_px: float = 0.0

    def as_dict(self) -> dict[str, object]:
        return {
            "class": self.name,
            "boxes": self.boxes,
            "matched": self.matched,
            "hardly": self.hardly,
            "never": self.never,
            "reason": self.reason or None,
            "median_side_px": self.side_px or None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """(N, 4) boxes at training size with their (N,) best overlaps, labels and places (picture, number in it)."""

    boxes: Boxes
    best: Floats
    labels: NDArray[np.int64]
    places: list[tuple[int, int]]


def best_overlaps(boxes: Boxes, frames: Floats, anchors: Anchors) -> Floats:
    """(N,) best overlaps of (N, 4) boxes with any anchor of the grids on pictures of (N, 2) frames (width, height)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2
    best = np.zeros(len(boxes))
    for stride, width, height in anchors.shapes():
        cells = np.maximum(np.ceil(frames / stride), 1)
        nearest = np.clip(np.round(centres / stride - anchors.offset), 0, cells - 1)
        apart = np.abs((nearest + anchors.offset) * stride - centres)  # (N, 2)
        shape = np.array([width, height])
        shared = np.clip(np.minimum(np.minimum(sides, shape), (sides + shape) / 2 - apart), 0, None).prod(axis=1)
        best = np.maximum(best, shared / (sides.prod(axis=1) + width * height - shared))
    return best


def try_all(pictures: Sequence[Picture], anchors: Anchors) -> Tried:
    """Every box at every training size, or an even sample of them."""
    total = sum(len(picture.record.instances) for picture in pictures) * len(anchors.min_sizes)
    step = -(-total // MAX_BOXES) if total else 1
    boxes, frames, labels, places = [], [], [], []
    count = 0
    for index, picture in enumerate(pictures):
        size = picture.record.size
        given = boxes_of(picture.record.instances)
        for min_size in anchors.min_sizes:
            after = shortest_edge_size(size, min_size, anchors.max_size)
            scale = np.array([after.width / size.width, after.height / size.height] * 2)
            for number, instance in enumerate(picture.record.instances):
                count += 1
                if count % step or instance.crowd:
                    continue
                boxes.append(given[number] * scale)
                frames.append((after.width, after.height))
                labels.append(instance.label)
                places.append((index, number))
    tried = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    best = best_overlaps(tried, np.array(frames, dtype=np.float64).reshape(-1, 2), anchors)
    return Tried(tried, best, np.array(labels, dtype=np.int64), places)


def fits(tried: Tried, class_names: Sequence[str], anchors: Anchors) -> list[Fit]:
    """One row for every class that has boxes, in label order."""
    rows = []
    for label, name in enumerate(class_names):
        mine = tried.labels == label
        if not mine.any():
            continue
        best = tried.best[mine]
        poor = tried.boxes[mine][best <= anchors.background]
        never = float((best <= anchors.background).mean())
        matched = float((best >= anchors.foreground).mean())
        reason, side = reason_of(poor, anchors) if len(poor) else ("", 0.0)
        rows.append(Fit(name, int(mine.sum()), matched, max(1 - matched - never, 0.0), never, reason, side))
    return rows


def reason_of(boxes: Boxes, anchors: Anchors) -> tuple[str, float]:
    """(what most of these unmatched boxes are to the anchors, the median of their sides in px)."""
    shapes = np.array([(width, height) for _, width, height in anchors.shapes()])
    widths, heights = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6).T
    sides, stretch = np.sqrt(widths * heights), np.maximum(widths / heights, heights / widths)
    anchor_sides = np.sqrt(shapes.prod(axis=1))
    widest = float(np.maximum(shapes[:, 0] / shapes[:, 1], shapes[:, 1] / shapes[:, 0]).max())
    small, large = sides < anchor_sides.min() * BEYOND, sides > anchor_sides.max() / BEYOND
    elongated = (stretch > widest * WIDE) & ~small & ~large
    counts = {"small": small, "large": large, "elongated": elongated, "between": ~(small | large | elongated)}
    reason = max(counts, key=lambda name: int(counts[name].sum()))
    chosen = counts[reason]
    return reason, float(np.median(sides[chosen]))


def findings_of(pictures: Sequence[Picture], class_names: Sequence[str], anchors: Anchors) -> tuple[list[Fit], list[Finding]]:
    """(how each class fits, the classes that do not)."""
    tried = try_all(pictures, anchors)
    rows = fits(tried, class_names, anchors)
    found = []
    for row in rows:
        if row.never < UNMATCHED_SHARE:
            continue
        label = class_names.index(row.name)
        worst = [index for index in np.argsort(tried.best, kind="stable").tolist() if tried.labels[index] == label][:1]
        picture, number = tried.places[worst[0]]
        shown = pictures[picture]
        what = (
            f"{row.matched:.0%} of its boxes have an anchor of overlap {anchors.foreground:g}, {row.hardly:.0%} only their "
            f"best one, {row.never:.0%} none above {anchors.background:g}; those are mostly {REASONS[row.reason]} "
            f"({row.side_px:.0f} px a side when training)"
        )
        found.append(
            Finding(
                kind="anchor-fit",
                where=f"class {row.name}",
                what=what,
                fix=advice(row, anchors),
                gravity=Gravity.GRAVE if row.never >= GRAVE_SHARE else None,
                picture=shown.name,
                marks=marks_of([shown.record.instances[number]], class_names),
                weight=row.never,
            )
        )
    return rows, found


REASONS = {
    "small": "smaller than the smallest anchor",
    "large": "larger than the largest anchor",
    "elongated": "longer than the anchors' aspect ratios",
    "between": "between two anchors' sizes or shapes",
}


def advice(row: Fit, anchors: Anchors) -> str:
    """What to change, in the configuration's keys."""
    sizes = sorted({size for level in anchors.sizes for size in level})
    if row.reason == "small":
        grown = max(anchors.min_sizes) * sizes[0] / max(row.side_px, 1)
        return (
            f"Train larger (INPUT.MIN_SIZE_TRAIN some {grown:.0f}, with MAX_SIZE_TRAIN to match), or add anchors of about "
            f"{row.side_px:.0f} px to MODEL.ANCHOR_GENERATOR.SIZES, now {sizes[0]:g} to {sizes[-1]:g}."
        )
    if row.reason == "large":
        return f"Add anchors of about {row.side_px:.0f} px to MODEL.ANCHOR_GENERATOR.SIZES, now {sizes[0]:g} to {sizes[-1]:g}."
    if row.reason == "elongated":
        return "Add more elongated shapes, such as 0.25 and 4, to MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS."
    return (
        f"Put more sizes on each level of MODEL.ANCHOR_GENERATOR.SIZES (each size also times 1.26 and 1.59), or one of about "
        f"{row.side_px:.0f} px."
    )
