"""Boxes as numpy arrays: areas, overlaps, clipping and EXIF turns; the rule for what a labelled box may be.

N, M: boxes. Every box is (x1, y1, x2, y2) in pixels, origin at the corner of the top left pixel.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sightline.records import Box, ImageSize

Boxes = NDArray[np.float64]

ROUNDING_PX = 1.0
"""How far a labelled box may reach outside its picture: tools round position and size separately, up to half a pixel each."""

TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""EXIF orientation -> (exchange x and y, then mirror x, then mirror y), from the stored frame to the shown one."""


def area(boxes: Boxes) -> Boxes:
    """(N,) areas in px² of (N, 4) boxes; zero where a box is empty."""
    widths, heights = np.clip((boxes[:, 2:] - boxes[:, :2]).T, 0, None)
    areas: Boxes = widths * heights
    return areas


def pairwise_iou(a: Boxes, b: Boxes) -> Boxes:
    """(N, M) overlaps in [0, 1] between a: (N, 4) and b: (M, 4). Empty boxes overlap nothing."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])  # (N, M, 2)
    overlap = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)  # (N, M)
    union = area(a)[:, None] + area(b)[None, :] - overlap
    iou: Boxes = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def clip(boxes: Boxes, size: ImageSize) -> Boxes:
    """(N, 4) boxes cut off at the edges of a picture of `size`; one that lies outside becomes empty."""
    limits = np.array([size.width, size.height, size.width, size.height], dtype=np.float64)
    clipped: Boxes = np.clip(boxes, 0, limits)
    return clipped


def turn_points(points: Boxes, size: ImageSize, orientation: int) -> Boxes:
    """(N, 2) points (x, y) of the stored frame, of `size`, in the frame that EXIF `orientation` shows."""
    exchange, mirror_x, mirror_y = TURNS[orientation]
    x, y = points[:, 0], points[:, 1]
    height, width = size
    if exchange:
        x, y, height, width = y, x, width, height
    return np.stack([width - x if mirror_x else x, height - y if mirror_y else y], axis=1)


def turn(boxes: Boxes, size: ImageSize, orientation: int) -> Boxes:
    """(N, 4) boxes of the stored frame, of `size`, in the frame that EXIF `orientation` shows."""
    one, other = turn_points(boxes[:, :2], size, orientation), turn_points(boxes[:, 2:], size, orientation)
    return np.concatenate([np.minimum(one, other), np.maximum(one, other)], axis=1)


def is_empty(box: Box) -> bool:
    """Whether a box is of zero size, as a slip of the mouse leaves it. One of negative size may be an object with its corners
    swapped: that is another fault."""
    return min(box[2] - box[0], box[3] - box[1]) == 0


def fault(box: Box, size: ImageSize) -> str | None:
    """What is wrong with a labelled box in a picture of `size`, or None. Plain numbers: readers ask it once per box."""
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)):
        return f"has a box that is not finite ({describe(box)})"
    if is_empty(box):
        return f"has an empty box ({describe(box)})"
    if x2 < x1 or y2 < y1:
        return f"has a box of negative size ({describe(box)})"
    inside = x1 >= -ROUNDING_PX and y1 >= -ROUNDING_PX and x2 <= size.width + ROUNDING_PX and y2 <= size.height + ROUNDING_PX
    if not inside or x1 >= size.width or y1 >= size.height or x2 <= 0 or y2 <= 0:
        return f"has a box outside its picture ({describe(box)}; the picture is {size})"
    return None


def describe(box: Box) -> str:
    """A box for a message, as left, top, width and height: the way label files hold it."""
    x1, y1, x2, y2 = box
    return f"left {x1:g}, top {y1:g}, width {x2 - x1:g}, height {y2 - y1:g}"
