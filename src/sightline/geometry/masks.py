"""Masks of objects: run lengths as COCO writes them, outlines, and bitmaps. numpy, and the COCO engine's mask routines.

Outlines are in pixels of the picture's frame; COCO's own rasterising decides which pixels they cover.
"""

from collections.abc import Sequence

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from numpy.typing import NDArray

from sightline.records import ImageSize, Rle

Outlines = tuple[NDArray[np.float64], ...]
"""One object in one or more parts, each (2P,): x, y, x, y, ..."""

Bitmap = NDArray[np.bool_]
"""(H, W): the pixels of one object."""

Mask = Outlines | Bitmap
"""What training knows of one object's shape."""

LEAST_SIDE = 0.1
"""Pixels that a box has at least when outlines are scaled into its grid; Detectron2's guard against division by zero."""


def encode(mask: Bitmap) -> Rle:
    """The run lengths of an (H, W) bitmap."""
    return encode_at(mask, 0, 0, ImageSize(*mask.shape))


def encode_at(crop: Bitmap, top: int, left: int, size: ImageSize) -> Rle:
    """The run lengths of a picture of `size` whose only object pixels are those of `crop` (h, w), placed at (top, left).

    Equal to encoding the whole picture, without ever holding it: the time is that of the crop.
    """
    edges = np.diff(np.pad(crop.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # (w, h + 1): +1 begins a run, -1 ends it
    column, row = (edges == 1).nonzero()
    begins = (column + left) * size.height + row + top
    column, row = (edges == -1).nonzero()
    ends = (column + left) * size.height + row + top
    apart = np.ones(len(begins), dtype=bool)  # a run down to the last row goes on in the next column's first
    apart[1:] = begins[1:] != ends[:-1]
    begins, ends = begins[apart], ends[np.append(apart[1:], True)[: len(ends)]]
    pixels = size.height * size.width
    borders = np.column_stack((begins, ends)).ravel().tolist()
    if not borders or borders[-1] != pixels:  # COCO writes no last run of no pixels
        borders.append(pixels)
    return compressed(np.diff(borders, prepend=0).tolist(), size)


def compressed(counts: Sequence[int], size: ImageSize) -> Rle:
    """COCO's text for bare run lengths."""
    found = coco_masks.frPyObjects({"size": list(size), "counts": list(counts)}, size.height, size.width)
    return Rle(size, found["counts"].decode("ascii"))


def decode(mask: Rle) -> Bitmap:
    """The (H, W) bitmap of run lengths, compressed or bare.

    Raises:
        ValueError: they do not describe a mask of that size.
    """
    counts = mask.counts if isinstance(mask.counts, str) else compressed(mask.counts, mask.size).counts
    bitmap: Bitmap = coco_masks.decode({"size": list(mask.size), "counts": str(counts).encode("ascii")}).astype(bool)
    return bitmap


def rasterise(outlines: Outlines, size: ImageSize) -> Bitmap:
    """The (H, W) pixels that any of the parts covers; parts of fewer than three points cover none."""
    parts = [part.tolist() for part in outlines if len(part) >= 6]
    if not parts:
        return np.zeros(size, dtype=bool)
    merged = coco_masks.merge(coco_masks.frPyObjects(parts, size.height, size.width))
    bitmap: Bitmap = coco_masks.decode(merged).astype(bool)
    return bitmap


def in_grid(outlines: Outlines, box: Sequence[float], side: int) -> Bitmap:
    """(side, side): the cells of a grid over `box` (x1, y1, x2, y2) that the object covers: what a mask head learns.

    The same steps as Detectron2's, so the same cells.
    """
    x1, y1, x2, y2 = box
    across, down = side / max(x2 - x1, LEAST_SIDE), side / max(y2 - y1, LEAST_SIDE)
    moved = []
    for part in outlines:
        points = part.reshape(-1, 2) - (x1, y1)
        moved.append((points * (across, down)).ravel())
    return rasterise(tuple(moved), ImageSize(side, side))
