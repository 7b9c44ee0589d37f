"""Random crops, as Detectron2's RandomCrop draws them: a window of the picture, and what of boxes and masks lies in it.

Every random choice comes from a generator that is passed in.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sightline.geometry.boxes import Boxes
from sightline.geometry.masks import Mask, cut
from sightline.records import Image, ImageSize

KINDS = ("relative", "relative_range", "absolute", "absolute_range")


@dataclass(frozen=True, slots=True)
class Crop:
    """Which windows are drawn; each lies anywhere in the picture with equal odds.

    kind and size:
        "relative"        (height, width) as shares of the picture, above 0 and at most 1
        "relative_range"  (height, width): each side's share is drawn between this and 1
        "absolute"        (height, width) in pixels, less where the picture is smaller
        "absolute_range"  (least, most) pixels of either side, drawn separately, less where the picture is smaller
    """

    kind: str
    size: tuple[float, float]


class Window(NamedTuple):
    """A part of a picture: its first row and column, and its size in pixels."""

    top: int
    left: int
    size: ImageSize


def draw_size(picture: ImageSize, crop: Crop, rng: np.random.Generator) -> ImageSize:
    """Pixels of the window, at least one on a side (Detectron2 fails where a small share of a small picture rounds to none)."""
    if crop.kind == "absolute":
        return ImageSize(*(min(int(asked), side) for asked, side in zip(crop.size, picture, strict=True)))
    if crop.kind == "absolute_range":
        least, most = (int(end) for end in crop.size)
        return ImageSize(*(int(rng.integers(min(side, least), min(side, most) + 1)) for side in picture))
    shares = np.array(crop.size, dtype=np.float64)
    if crop.kind == "relative_range":
        shares = shares + rng.random(2) * (1 - shares)
    return ImageSize(*(max(int(side * share + 0.5), 1) for side, share in zip(picture, shares.tolist(), strict=True)))


def draw_window(picture: ImageSize, crop: Crop, rng: np.random.Generator) -> Window:
    """A window of a picture of this size."""
    size = draw_size(picture, crop, rng)
    top, left = (int(rng.integers(side - kept + 1)) for side, kept in zip(picture, size, strict=True))
    return Window(top, left, size)


def crop_image(image: Image, window: Window) -> Image:
    """(H, W, 3) -> (window.size.height, window.size.width, 3), a view."""
    top, left, size = window
    return image[top : top + size.height, left : left + size.width]


def crop_boxes(boxes: Boxes, window: Window) -> Boxes:
    """(N, 4) boxes in the window's frame; they may reach out of it."""
    return boxes - np.array([window.left, window.top, window.left, window.top], dtype=np.float64)


def crop_mask(mask: Mask, window: Window) -> Mask:
    """What of an object lies in the window, in its frame; perhaps nothing."""
    top, left, size = window
    if isinstance(mask, np.ndarray):
        return mask[top : top + size.height, left : left + size.width]
    inside = cut(mask, (left, top, left + size.width, top + size.height))
    return tuple((part.reshape(-1, 2) - (left, top)).ravel() for part in inside)
