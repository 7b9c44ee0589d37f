"""Four pictures in one: smaller objects, in more surroundings and beside more neighbours than any single picture shows.

Every random choice comes from a generator that is passed in.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from sightline.dataset.crops import Crop, Window, crop_boxes, crop_image, crop_mask, draw_window
from sightline.dataset.pieces import Piece
from sightline.dataset.transforms import scale_boxes, scale_mask
from sightline.geometry.boxes import Boxes, area, clip
from sightline.geometry.masks import Bitmap, Mask
from sightline.images import resize
from sightline.records import ImageSize

PIECES = 4

CENTRE = (0.3, 0.7)
"""Between these shares of the height and of the width the four meet: no picture becomes a sliver."""

LEAST_SHARE = 0.1
"""Of a box's area; an object of which less is visible is no longer recognisable, and is no example."""


def draw_quadrants(canvas: ImageSize, rng: np.random.Generator) -> tuple[Window, ...]:
    """Where the four pictures go: the quarters of `canvas` around a random centre, which cover it without overlap."""
    height, width = canvas
    down, across = (round(side * share) for side, share in zip(canvas, rng.uniform(*CENTRE, 2).tolist(), strict=True))
    return (
        Window(0, 0, ImageSize(down, across)),
        Window(0, across, ImageSize(down, width - across)),
        Window(down, 0, ImageSize(height - down, across)),
        Window(down, across, ImageSize(height - down, width - across)),
    )


def draw_part(picture: ImageSize, place: ImageSize, rng: np.random.Generator) -> Window:
    """The part of a picture that fills a place: the largest of the place's shape, as far as whole pixels allow, anywhere."""
    scale = max(place.height / picture.height, place.width / picture.width)
    shape = (max(round(place.height / scale), 1), max(round(place.width / scale), 1))
    return draw_window(picture, Crop("absolute", shape), rng)


def visible(boxes: Boxes, part: Window) -> np.ndarray:
    """(N,) bool: the boxes of a picture of which enough lies in its `part`."""
    return area(clip(crop_boxes(boxes, part), part.size)) >= LEAST_SHARE * area(boxes)


def mosaic(pieces: Iterable[Piece], canvas: ImageSize, rng: np.random.Generator) -> Piece:
    """One picture of the size `canvas` out of four, which are read one after the other; boxes and masks are cut, too.

    The parts are cut out first and resized then, so that no more pixels are made than are seen.
    """
    height, width = canvas
    image = np.zeros((height, width, 3), dtype=np.uint8)
    names: list[str] = []
    boxes, labels = [], []
    masks: list[Iterator[Mask]] = []
    for piece, place in zip(pieces, draw_quadrants(canvas, rng), strict=True):
        names.append(piece.file_name)
        if min(place.size) == 0:
            continue  # the mosaic is one pixel high or wide
        part = draw_part(piece.size, place.size, rng)
        top, left, size = place
        image[top : top + size.height, left : left + size.width] = resize(crop_image(piece.image, part), size)
        kept = visible(piece.boxes, part)
        inside = scale_boxes(clip(crop_boxes(piece.boxes[kept], part), part.size), part.size, size)
        boxes.append(inside + np.array([left, top, left, top], dtype=np.float64))
        labels.append(piece.labels[kept])
        masks.append(moved_masks(piece.masks, kept.tolist(), part, place, canvas))
    return Piece(
        file_name=" + ".join(names),
        image=image,
        boxes=np.concatenate(boxes),
        labels=np.concatenate(labels),
        masks=(mask for several in masks for mask in several),
    )


def moved_masks(masks: Iterator[Mask], kept: list[bool], part: Window, place: Window, canvas: ImageSize) -> Iterator[Mask]:
    """Those of a picture's masks that are kept, as they lie in the mosaic; taken one by one."""
    for mask, keep in zip(masks, kept, strict=False):  # none, where masks are not wanted
        if keep:
            yield put(scale_mask(crop_mask(mask, part), part.size, place.size), place, canvas)


def put(mask: Mask, place: Window, canvas: ImageSize) -> Mask:
    """An object of the picture at `place`, in the mosaic's frame."""
    top, left, size = place
    if not isinstance(mask, np.ndarray):
        return tuple((part.reshape(-1, 2) + np.array([left, top])).ravel() for part in mask)
    whole: Bitmap = np.zeros(canvas, dtype=bool)
    whole[top : top + size.height, left : left + size.width] = mask
    return whole
