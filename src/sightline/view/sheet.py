"""Several pictures on one sheet, with what people labelled or what a model found: for notebooks, mails and slides."""

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from sightline.errors import ShapeError
from sightline.geometry.masks import from_label
from sightline.records import Detections, Image, ImageRecord
from sightline.view.batches import grid, tile
from sightline.view.draw import draw

LONGEST_SIDE_PX = 480
"""Of a picture on the sheet; smaller ones stay as they are."""


def sheet(
    images: Sequence[Image],
    shown: Sequence[ImageRecord | Detections],
    class_names: Sequence[str],
    *,
    threshold: float = 0.5,
    captions: Sequence[str] = (),
) -> Image:
    """One RGB picture of all `images`, in rows, each with boxes, names and masks; detections with their scores, too.

    images:    each (H, W, 3) RGB
    shown:     for each either its labels or what a model found
    threshold: least score of the detections that are drawn
    captions:  a line below each picture, such as its file's name; empty: none

    Raises:
        ShapeError: no picture, or not one of everything for each.
    """
    counts = {len(images), len(shown), len(captions or images)}
    if len(counts) > 1 or not len(images):
        raise ShapeError(
            "sheet", f"its parts have {sorted(counts)} entries", "Give one of each for every picture, and a picture."
        )
    tiles = [
        labelled(image, one, class_names)
        if isinstance(one, ImageRecord)
        else smaller(Pillow.fromarray(draw(image, one, class_names, threshold=threshold)))
        for image, one in zip(images, shown, strict=True)
    ]
    return grid(tiles, captions)


def labelled(image: Image, record: ImageRecord, class_names: Sequence[str]) -> Pillow.Image:
    """A picture with its labels."""
    boxes = np.array([one.box for one in record.instances], np.float32).reshape(-1, 4)  # (N, 4)
    labels = np.array([one.label for one in record.instances], np.int64)  # (N,)
    masks = [from_label(one.segmentation) for one in record.instances]
    return tile(image, boxes, labels, masks, class_names, scale_of(*image.shape[:2]))


def smaller(picture: Pillow.Image) -> Pillow.Image:
    """`picture` at the size that it has on the sheet."""
    scale = scale_of(*picture.size)
    if scale == 1:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def scale_of(*sides: int) -> float:
    return min(1.0, LONGEST_SIDE_PX / max(sides))
