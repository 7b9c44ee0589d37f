"""Pictures turned by quarters of a full turn, clockwise, with their boxes and masks. Nothing is lost or rounded.

Every random choice comes from a generator that is passed in.
"""

import numpy as np

from sightline.geometry.boxes import Boxes, turn, turn_points
from sightline.geometry.masks import Mask
from sightline.records import Image, ImageSize

ORIENTATIONS = (1, 6, 3, 8)
"""The EXIF orientation that shows a picture turned by 0, 1, 2 and 3 quarters: the same rules move the labels of photographs."""


def draw_quarters(rng: np.random.Generator) -> int:
    """0 to 3, at even odds."""
    return int(rng.integers(len(ORIENTATIONS)))


def exchanges_sides(quarters: int) -> bool:
    """Whether a wide picture becomes a tall one."""
    return quarters % 2 == 1


def turn_image(image: Image, quarters: int) -> Image:
    """(H, W, 3) -> (H, W, 3) or (W, H, 3), a view."""
    return np.rot90(image, -quarters)


def turn_boxes(boxes: Boxes, size: ImageSize, quarters: int) -> Boxes:
    """(N, 4) boxes of a picture of `size`, in the frame of the turned picture."""
    return turn(boxes, size, ORIENTATIONS[quarters])


def turn_mask(mask: Mask, size: ImageSize, quarters: int) -> Mask:
    """An object of a picture of `size`, in the frame of the turned picture."""
    if isinstance(mask, np.ndarray):
        # A copy: torch takes no arrays that run backwards.
        return np.ascontiguousarray(np.rot90(mask, -quarters))
    return tuple(turn_points(part.reshape(-1, 2), size, ORIENTATIONS[quarters]).ravel() for part in mask)
