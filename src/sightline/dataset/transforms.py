"""What training does to a picture, its boxes and masks before the network sees them: turn, crop, resize, flip, recolour.

Every random choice comes from a generator that is passed in. Only recolouring needs torch.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from sightline.dataset.crops import Crop, crop_boxes, crop_image, crop_mask, draw_window
from sightline.dataset.turns import turn_boxes, turn_image, turn_mask
from sightline.geometry.boxes import Boxes, clip
from sightline.geometry.masks import Mask
from sightline.images import resize, shortest_edge_size
from sightline.records import Image, ImageSize


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training pictures vary. What is off draws nothing, so it changes no run that does without it.

    min_sizes: pixels of the shorter side, one drawn ("choice") or the two ends of a range ("range")
    max_size:  pixels that the longer side may have
    flip:      "horizontal", "vertical" or "none", at even odds
    crop:      the part that is kept, cut out before it is resized; None: the whole picture
    rotate:    whether pictures are turned by quarters, before all else
    mosaic:    probability that a picture is a mosaic of four
    scale_jitter: between these factors on the drawn size one is drawn, as likely to halve as to double; None: 1
    colour:    strength of the changes of brightness, contrast, saturation and hue, 0 to 1
    """

    min_sizes: tuple[int, ...]
    max_size: int
    sampling: str
    flip: str
    crop: Crop | None = None
    rotate: bool = False
    mosaic: float = 0.0
    scale_jitter: tuple[float, float] | None = None
    colour: float = 0.0


def scale_boxes(boxes: Boxes, before: ImageSize, after: ImageSize) -> Boxes:
    """(N, 4) boxes of a picture that was resized from `before` to `after`."""
    across, down = after.width / before.width, after.height / before.height
    return boxes * np.array([across, down, across, down], dtype=np.float64)


def flip_boxes(boxes: Boxes, size: ImageSize, direction: str) -> Boxes:
    """(N, 4) boxes of the mirrored picture."""
    x1, y1, x2, y2 = boxes.T
    if direction == "horizontal":
        return np.stack((size.width - x2, y1, size.width - x1, y2), axis=1)
    return np.stack((x1, size.height - y2, x2, size.height - y1), axis=1)


def scale_mask(mask: Mask, before: ImageSize, after: ImageSize) -> Mask:
    """An object of a picture that was resized from `before` to `after`. Bitmaps take the nearest pixel, as in Detectron2."""
    if not isinstance(mask, np.ndarray):
        scale = np.array([after.width / before.width, after.height / before.height])
        return tuple((part.reshape(-1, 2) * scale).ravel() for part in mask)
    if before == after:
        return mask
    picture = Pillow.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize((after.width, after.height), Pillow.Resampling.NEAREST)).astype(bool)


def flip_mask(mask: Mask, size: ImageSize, direction: str) -> Mask:
    """An object of the mirrored picture."""
    if isinstance(mask, np.ndarray):
        # A copy: torch takes no arrays that run backwards.
        return np.ascontiguousarray(mask[:, ::-1] if direction == "horizontal" else mask[::-1])
    axis, side = (0, size.width) if direction == "horizontal" else (1, size.height)
    mirrored = []
    for part in mask:
        points = part.reshape(-1, 2).copy()
        points[:, axis] = side - points[:, axis]
        mirrored.append(points.ravel())
    return tuple(mirrored)


def draw_min_size(min_sizes: Sequence[int], sampling: str, rng: np.random.Generator) -> int:
    if sampling == "range":
        return int(rng.integers(min_sizes[0], min_sizes[1] + 1))
    return int(rng.choice(np.asarray(min_sizes)))


def draw_size(picture: ImageSize, how: Augmentation, rng: np.random.Generator) -> ImageSize:
    """What a picture is resized to. Jitter never lifts the longer side above `max_size`."""
    min_size = draw_min_size(how.min_sizes, how.sampling, rng)
    if how.scale_jitter is not None:
        low, high = np.log(how.scale_jitter).tolist()
        # A size of 0 leaves pictures as they are, so their own size is what varies.
        min_size = max(int((min_size or min(picture)) * math.exp(rng.uniform(low, high)) + 0.5), 1)
    return shortest_edge_size(picture, min_size, how.max_size)


def augment(
    image: Image,
    boxes: Boxes,
    how: Augmentation,
    rng: np.random.Generator,
    masks: Iterable[Mask] = (),
    *,
    quarters: int = 0,
) -> tuple[Image, Boxes, tuple[Mask, ...]]:
    """The picture (H, W, 3), its boxes (N, 4) and masks: turned, cropped, resized, perhaps mirrored, and recoloured.

    The arguments stay as they are. quarters: how far it is turned, drawn beforehand, because it decides about the batch.
    Boxes end at the picture's edges; outlines do so where they were cut, and may reach out where they were not. masks are
    taken one by one, so bitmaps that an iterator makes of a large picture are never all in memory.
    """
    shown = ImageSize(*image.shape[:2])
    if quarters:
        image, boxes = turn_image(image, quarters), turn_boxes(boxes, shown, quarters)
    window = None if how.crop is None else draw_window(ImageSize(*image.shape[:2]), how.crop, rng)
    if window is not None:
        image, boxes = crop_image(image, window), crop_boxes(boxes, window)
    before = ImageSize(*image.shape[:2])
    size = draw_size(before, how, rng)
    image, boxes = resize(image, size), scale_boxes(boxes, before, size)
    flips = how.flip != "none" and rng.random() < 0.5
    if flips:
        image = image[:, ::-1] if how.flip == "horizontal" else image[::-1]
        boxes = flip_boxes(boxes, size, how.flip)
    if how.colour:
        from sightline.dataset.colour import jitter  # torch

        image = jitter(image, how.colour, rng)
    varied = []
    for mask in masks:
        moved = turn_mask(mask, shown, quarters) if quarters else mask
        moved = scale_mask(moved if window is None else crop_mask(moved, window), before, size)
        varied.append(flip_mask(moved, size, how.flip) if flips else moved)
    return image, clip(boxes, size), tuple(varied)
