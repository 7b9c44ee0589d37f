"""Masks of objects: run lengths as COCO writes them, outlines, and bitmaps. numpy, and the COCO engine's mask routines.

Outlines are in pixels of the picture's frame; COCO's own rasterising decides which pixels they cover. Only cutting them
needs another library (shapely), imported there.
"""

from collections.abc import Sequence

import numpy as np
from faster_coco_eval.core import mask as coco_masks
from numpy.typing import NDArray

from sightline.records import Box, ImageSize, Polygons, Rle

Outlines = tuple[NDArray[np.float64], ...]
"""One object in one or more parts, each (2P,): x, y, x, y, ..."""

Bitmap = NDArray[np.bool_]
"""(H, W): the pixels of one object."""

Mask = Outlines | Bitmap
"""What training knows of one object's shape."""

LEAST_NUMBERS = 6
"""Of a part: x and y of three points. Fewer enclose nothing."""

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


def moved(mask: Rle, top: int, left: int, size: ImageSize) -> Rle:
    """Run lengths of a part of a picture, beginning at (top, left), in the whole of `size`. Only the part becomes a bitmap."""
    return mask if mask.size == size else encode_at(decode(mask), top, left, size)


def union(masks: Sequence[Rle]) -> Rle:
    """The pixels of any of the masks, at least one, all of one picture; without bitmaps, whose size may be large."""
    if len(masks) == 1:
        return masks[0]
    merged = coco_masks.merge([{"size": list(mask.size), "counts": text_of(mask).encode("ascii")} for mask in masks])
    return Rle(masks[0].size, merged["counts"].decode("ascii"))


def text_of(mask: Rle) -> str:
    """Its run lengths as COCO's text, whichever way it holds them."""
    return mask.counts if isinstance(mask.counts, str) else str(compressed(mask.counts, mask.size).counts)


def compressed(counts: Sequence[int], size: ImageSize) -> Rle:
    """COCO's text for bare run lengths."""
    found = coco_masks.frPyObjects({"size": list(size), "counts": list(counts)}, size.height, size.width)
    return Rle(size, found["counts"].decode("ascii"))


def decode(mask: Rle) -> Bitmap:
    """The (H, W) bitmap of run lengths, compressed or bare.

    Raises:
        ValueError: they do not describe a mask of that size.
    """
    counts = text_of(mask).encode("ascii")
    try:
        bitmap: Bitmap = coco_masks.decode({"size": list(mask.size), "counts": counts}).astype(bool)
    except RuntimeError as error:  # the engine's word for text that ends within a number
        raise ValueError(str(error)) from error
    return bitmap


def from_label(segmentation: Polygons | Rle | None) -> Mask:
    """A label's shape. Polygons stay outlines, without the parts of fewer than three points; None is no part at all.

    Raises:
        ValueError: run lengths that do not describe a mask of their size.
    """
    if isinstance(segmentation, Rle):
        return decode(segmentation)
    return tuple(np.array(part, dtype=np.float64) for part in segmentation or () if len(part) >= LEAST_NUMBERS)


def is_empty(mask: Mask) -> bool:
    """Whether nothing is left of an object: no part, or no pixel."""
    return not mask.any() if isinstance(mask, np.ndarray) else not mask


def bounds(mask: Mask) -> Box:
    """The tightest (x1, y1, x2, y2) around the points of outlines or the pixels of a bitmap; all zero around nothing."""
    if is_empty(mask):
        return 0.0, 0.0, 0.0, 0.0
    if isinstance(mask, np.ndarray):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    points = np.concatenate(mask).reshape(-1, 2)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


def cut(outlines: Outlines, box: Box) -> Outlines:
    """What of the outlines lies in `box` (x1, y1, x2, y2), in the same frame; a part may become none or several.

    As Detectron2 cuts them: exactly at the edges, after a buffer of 0 px (which makes outlines valid that cross themselves,
    and may drop one of their loops), with holes filled.
    """
    import shapely  # only random crops need it

    inside = []
    for part in outlines:
        shape = shapely.buffer(shapely.Polygon(part.reshape(-1, 2)), 0.0)
        for piece in shapely.get_parts(shapely.intersection(shape, shapely.box(*box))):
            if piece.geom_type == "Polygon" and piece.is_valid and not piece.is_empty:  # not: an edge or a corner that touches
                ring = shapely.get_coordinates(piece.exterior)
                inside.append(ring[:-1].ravel())  # the last point is the first again
    return tuple(inside)


def rasterise(outlines: Outlines, size: ImageSize) -> Bitmap:
    """The (H, W) pixels that any of the parts covers; parts of fewer than three points cover none."""
    parts = [part.tolist() for part in outlines if len(part) >= LEAST_NUMBERS]
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
