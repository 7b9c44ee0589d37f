"""Outlines of objects as label files draw them: polygons, circles, ellipses; their bounds and areas, in pixels."""

import math
from collections.abc import Sequence

import numpy as np

from sightline.geometry import masks
from sightline.records import Box, ImageSize, Instance, Polygons

ROUND_CORNERS = 64
"""Corners of a polygon that stands for a circle: its area is 0.2 % too small."""

FAR_PX = 1e7
"""No point is so far from its picture: its numbers are damaged."""

CLOSE_PX = 1e-6
"""How far a box may be from the bounds of its outline and still be these bounds."""


def bounds(polygons: Polygons) -> Box:
    """The tightest box around all corners of an outline of at least one part."""
    xs = [x for part in polygons for x in part[0::2]]
    ys = [y for part in polygons for y in part[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def area(polygons: Polygons) -> float:
    """px² of all parts together (shoelace); what parts share is counted twice."""
    return sum(abs(signed_area(part)) for part in polygons)


def signed_area(part: Sequence[float]) -> float:
    xs, ys = part[0::2], part[1::2]
    return sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs))) / 2


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> tuple[float, ...]:
    """A polygon of ROUND_CORNERS corners on an ellipse; theta: radians from x towards y."""
    corners: list[float] = []
    for number in range(ROUND_CORNERS):
        angle = 2 * math.pi * number / ROUND_CORNERS
        x, y = rx * math.cos(angle), ry * math.sin(angle)
        corners += [cx + x * math.cos(theta) - y * math.sin(theta), cy + x * math.sin(theta) + y * math.cos(theta)]
    return tuple(corners)


def outlined(polygons: Polygons, label: int) -> Instance:
    """An object that is known by its outline."""
    return Instance(bounds(polygons), label, area=area(polygons), segmentation=polygons)


def joined(polygons: Polygons) -> tuple[float, ...]:
    """All parts as one polygon: from the end of each a line to the next and, after the last, back the same way.

    The lines enclose nothing, so that the area stays.
    """
    if len(polygons) == 1:
        return polygons[0]
    there = [number for part in polygons for number in (*part, *part[:2])]
    back = [number for part in polygons[-2::-1] for number in part[:2]]
    return (*there, *back)


def is_bounds(box: Box, polygons: Polygons) -> bool:
    """Whether `box` is what `bounds` finds again."""
    return all(abs(one - other) <= CLOSE_PX for one, other in zip(box, bounds(polygons), strict=True))


def within(corners: tuple[float, ...], size: ImageSize) -> Polygons:
    """An outline as it is, or cut off at the edges of its picture if it reaches over them; nothing of it may be left."""
    box = (0.0, 0.0, float(size.width), float(size.height))
    x1, y1, x2, y2 = bounds((corners,))
    if x1 >= 0 and y1 >= 0 and x2 <= size.width and y2 <= size.height:
        return (corners,)
    return tuple(tuple(part.tolist()) for part in masks.cut((np.array(corners),), box))
