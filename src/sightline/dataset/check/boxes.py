"""Boxes that are odd by themselves or beside their neighbours: tiny, huge, there twice, two classes in one place."""

from collections.abc import Iterator, Sequence

import numpy as np

from sightline.dataset.check.findings import Finding, Mark
from sightline.dataset.check.subject import Picture
from sightline.geometry.boxes import Boxes, area, describe, pairwise_iou
from sightline.records import Instance

TINY_SIDE_PX = 4.0
"""A shorter side below this is a slip of the mouse, or an object that no stride of 8 or 16 will find."""

HUGE_SHARE = 0.98
"""Of the picture's area."""

SAME_IOU = 0.85
"""Boxes of one class that overlap by this much are one object boxed twice; a worker's hand varies by as much."""

SAME_PLACE_IOU = 0.9
"""Boxes of two classes: closer, because one object may truly lie on another."""


def marks_of(instances: Sequence[Instance], class_names: Sequence[str], other: bool = False) -> tuple[Mark, ...]:
    return tuple(Mark(instance.box, class_names[instance.label], other) for instance in instances)


def boxes_of(instances: Sequence[Instance]) -> Boxes:
    """(N, 4)."""
    return np.array([instance.box for instance in instances], dtype=np.float64).reshape(-1, 4)


def findings_of(picture: Picture, class_names: Sequence[str]) -> Iterator[Finding]:
    """What is odd about one picture's boxes."""
    instances = picture.record.instances
    if not instances:
        return
    boxes = boxes_of(instances)
    whole = picture.record.size.height * picture.record.size.width
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    shares = area(boxes) / whole
    for number in np.flatnonzero((sides < TINY_SIDE_PX) | (shares >= HUGE_SHARE)).tolist():
        instance = instances[number]
        if instance.crowd:
            continue
        tiny = sides[number] < TINY_SIDE_PX
        what = f"its shorter side has {sides[number]:.3g} px" if tiny else f"covers {shares[number]:.0%} of the picture"
        yield Finding(
            kind="tiny-box" if tiny else "huge-box",
            where=picture.name,
            numbers=(number + 1,),
            what=f"{class_names[instance.label]}: {what} ({describe(instance.box)})",
            picture=picture.name,
            marks=marks_of([instance], class_names),
            weight=-float(sides[number]) if tiny else float(shares[number]),
        )
    yield from same_place(picture, boxes, class_names)


def same_place(picture: Picture, boxes: Boxes, class_names: Sequence[str]) -> Iterator[Finding]:
    """Pairs of boxes that mean one object, or one object with two classes. Crowd regions may lie on anything."""
    instances = picture.record.instances
    for i, j, iou in close_pairs(boxes, min(SAME_IOU, SAME_PLACE_IOU)):
        first, second = instances[i], instances[j]
        if first.crowd or second.crowd:
            continue
        same = first.label == second.label
        if not same and iou < SAME_PLACE_IOU:
            continue
        one, two = class_names[first.label], class_names[second.label]
        what = f"{one}: the same as box {i + 1}" if same else f"{two}: where box {i + 1} is {one}"
        yield Finding(
            kind="duplicate-box" if same else "two-classes",
            where=picture.name,
            numbers=(j + 1,),
            what=f"{what} (overlap {iou:.2f} of 1)",
            picture=picture.name,
            marks=marks_of([first, second], class_names),
            weight=iou,
        )


def close_pairs(boxes: Boxes, least: float) -> Iterator[tuple[int, int, float]]:
    """(i, j, overlap) with i < j. A thousand boxes in a picture take some 30 ms."""
    if len(boxes) > 1:
        overlaps = np.triu(pairwise_iou(boxes, boxes), k=1)
        for i, j in np.argwhere(overlaps >= least).tolist():
            yield i, j, float(overlaps[i, j])
