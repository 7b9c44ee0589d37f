"""Masks on grids over boxes to pixels of a picture, in numpy. The torch twin is in model/mask_head.py: the same numbers.

N: boxes. M: cells on a side of a grid.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sightline.geometry.masks import encode_at
from sightline.records import ImageSize, Rle

Floats = NDArray[np.float32]

THRESHOLD = 0.5
"""Probability from which a pixel is the object's."""


def pasted(probabilities: Floats, boxes: Floats, size: ImageSize) -> tuple[Rle, ...]:
    """Run lengths of each box's mask in a picture of `size`, sampled between the cells' centres.

    probabilities: (N, M, M); boxes: (N, 4) in the picture's pixels. Only the pixels of its box are computed for a mask.
    """
    return tuple(paste(grid, box, size) for grid, box in zip(probabilities, boxes, strict=True))


def paste(grid: Floats, box: Floats, size: ImageSize) -> Rle:
    """The run lengths of one (M, M) grid over one box (4,)."""
    x1, y1, x2, y2 = box
    left, top = (max(math.floor(edge) - 1, 0) for edge in (x1, y1))
    right, bottom = min(math.ceil(x2) + 1, size.width), min(math.ceil(y2) + 1, size.height)
    across, beside = weights(left, right, x1, x2, grid.shape[1])
    down, below = weights(top, bottom, y1, y2, grid.shape[0])
    padded = np.pad(grid.astype(np.float32, copy=False), 1)  # what lies outside the grid is 0
    upper, lower = padded[down], padded[down + 1]
    one = np.float32(1)
    below, beside = below[:, None], beside[None, :]
    sampled = upper[:, across] * ((one - beside) * (one - below))
    for cells, share in (
        (upper[:, across + 1], beside * (one - below)),
        (lower[:, across], (one - beside) * below),
        (lower[:, across + 1], beside * below),
    ):
        sampled = fused(cells, share, sampled)
    return encode_at(sampled >= THRESHOLD, top, left, size)


def weights(first: int, end: int, low: np.float32, high: np.float32, cells: int) -> tuple[NDArray[np.intp], Floats]:
    """Where the centres of the pixels `first` to `end` fall between a grid's cells that go from `low` to `high` px.

    (the cell before each centre, as an index into the grid with one cell of nothing on each side; how far it is from there
    to the next one, 0 to 1). Pixels beyond that border lie on it.
    """
    half, two = np.float32(0.5), np.float32(2)
    # -1 to 1 across the box, and from there to cells: the steps and the precision of torch's grid_sample
    places = (np.arange(first, end, dtype=np.float32) + half - low) / (high - low) * two - np.float32(1)
    cell = fused(places + np.float32(1), np.float32(cells / 2), -half)
    before = np.floor(cell)
    inside = np.clip(before.astype(np.intp) + 1, 0, cells)
    share = np.where(before < -1, np.float32(0), np.where(before >= cells, np.float32(1), cell - before))
    return inside, share.astype(np.float32, copy=False)


def fused(a: Floats, b: Floats | np.float32, c: Floats | np.float32) -> Floats:
    """a * b + c, rounded once, as processors with such an instruction do it and torch makes them do."""
    exact = np.multiply(a, b, dtype=np.float64)  # a product of two of 24 bits each has 48 at most
    exact += c
    return exact.astype(np.float32)
