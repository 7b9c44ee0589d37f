"""Outlines of masks as SVG paths: polygons as they are, bitmaps as the edges of their cells on a coarse grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.masks import compressed
from sightline.records import ImageSize

CELLS = 160
"""Along the longer side of a picture; a thumbnail shows no more."""


def path_of(segmentation: object, size: ImageSize) -> str:
    """The d of a <path>, in pixels of the picture; empty for an empty mask."""
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
        return " ".join(polygon(part) for part in segmentation if len(part) >= 6)
    return edges(bitmap(segmentation, size), max(1, -(-max(size) // CELLS)))


def polygon(part: Sequence[float]) -> str:
    points = np.asarray(part, dtype=np.float64).reshape(-1, 2)
    step = -(-len(points) // CELLS)
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points[::step]) + "Z"


def bitmap(segmentation: object, size: ImageSize) -> NDArray[np.bool_]:
    """(H, W) of run lengths of any form; they were checked when they were matched."""
    from faster_coco_eval import mask

    lengths: Mapping[str, Any] = compressed(segmentation, size, "a mask")
    found: NDArray[np.bool_] = np.asarray(mask.decode([lengths])[..., 0]).astype(bool)
    return found


def edges(mask: NDArray[np.bool_], step: int) -> str:
    """Horizontal and vertical lines between cells of `step` px that are in the mask and cells that are not."""
    cells = np.pad(mask[step // 2 :: step, step // 2 :: step], 1)
    lines = []
    for changes, form in ((cells[1:, :] != cells[:-1, :], "M{1} {0}h{2}"), ((cells[:, 1:] != cells[:, :-1]).T, "M{0} {1}v{2}")):
        padded = np.pad(changes, ((0, 0), (1, 1)))
        turns = np.diff(padded.astype(np.int8), axis=1)
        across, begins = np.nonzero(turns == 1)
        _, ends = np.nonzero(turns == -1)
        for place, begin, end in zip(across.tolist(), begins.tolist(), ends.tolist(), strict=True):
            lines.append(form.format(place * step, (begin - 1) * step, (end - begin) * step))
    return "".join(lines)
