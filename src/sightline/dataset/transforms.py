"""What training does to a picture, its boxes and masks before the network sees them: crop, resize, flip. No torch.

Every random choice comes from a generator that is passed in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from sightline.dataset.crops import Crop, crop_boxes, crop_image, crop_mask, draw_window
from sightline.geometry.boxes import Boxes, clip
from sightline.geometry.masks import Mask
from sightline.images import resize, shortest_edge_size
from sightline.records import Image, ImageSize


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training pictures vary.

    min_sizes: pixels of the shorter side, one drawn ("choice") or the two ends of a range ("range")
    max_size:  pixels that the longer side may have
    flip:      "horizontal", "vertical" or "none", at even odds
    crop:      the part that is kept, cut out before all else; None: the whole picture, and nothing is drawn
    """

    min_sizes: tuple[int, ...]
    max_size: int
    sampling: str
    flip: str
    crop: Crop | None = None


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


def augment(
    image: Image, boxes: Boxes, how: Augmentation, rng: np.random.Generator, masks: Iterable[Mask] = ()
) -> tuple[Image, Boxes, tuple[Mask, ...]]:
    """The picture (H, W, 3), its boxes (N, 4) and masks: cropped, resized and perhaps mirrored; the arguments stay as they are.

    Boxes end at the picture's edges; outlines do so where they were cut, and may reach out where they were not. masks are
    taken one by one, so bitmaps that an iterator makes of a large picture are never all in memory.
    """
    window = None if how.crop is None else draw_window(ImageSize(*image.shape[:2]), how.crop, rng)
    if window is not None:
        image, boxes = crop_image(image, window), crop_boxes(boxes, window)
    before = ImageSize(*image.shape[:2])
    size = shortest_edge_size(before, draw_min_size(how.min_sizes, how.sampling, rng), how.max_size)
    image, boxes = resize(image, size), scale_boxes(boxes, before, size)
    flips = how.flip != "none" and rng.random() < 0.5
    if flips:
        image = image[:, ::-1] if how.flip == "horizontal" else image[::-1]
        boxes = flip_boxes(boxes, size, how.flip)
    varied = []
    for mask in masks:
        moved = scale_mask(mask if window is None else crop_mask(mask, window), before, size)
        varied.append(flip_mask(moved, size, how.flip) if flips else moved)
    return image, clip(boxes, size), tuple(varied)
