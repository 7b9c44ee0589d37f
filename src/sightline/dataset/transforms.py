"""What training does to a picture and its boxes before the network sees them: resize and flip. numpy only.

Every random choice comes from a generator that is passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sightline.geometry.boxes import Boxes, clip
from sightline.images import resize, shortest_edge_size
from sightline.records import Image, ImageSize


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training pictures vary.

    min_sizes: pixels of the shorter side, one drawn ("choice") or the two ends of a range ("range")
    max_size:  pixels that the longer side may have
    flip:      "horizontal", "vertical" or "none", at even odds
    """

    min_sizes: tuple[int, ...]
    max_size: int
    sampling: str
    flip: str


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


def draw_min_size(min_sizes: Sequence[int], sampling: str, rng: np.random.Generator) -> int:
    if sampling == "range":
        return int(rng.integers(min_sizes[0], min_sizes[1] + 1))
    return int(rng.choice(np.asarray(min_sizes)))


def augment(image: Image, boxes: Boxes, how: Augmentation, rng: np.random.Generator) -> tuple[Image, Boxes]:
    """The picture (H, W, 3) and its boxes (N, 4), resized and perhaps mirrored; the arguments stay as they are."""
    before = ImageSize(*image.shape[:2])
    size = shortest_edge_size(before, draw_min_size(how.min_sizes, how.sampling, rng), how.max_size)
    image, boxes = resize(image, size), scale_boxes(boxes, before, size)
    if how.flip != "none" and rng.random() < 0.5:
        image = image[:, ::-1] if how.flip == "horizontal" else image[::-1]
        boxes = flip_boxes(boxes, size, how.flip)
    return image, clip(boxes, size)
