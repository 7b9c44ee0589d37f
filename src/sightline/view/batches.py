"""A training batch on one sheet, as the model sees it: varied, resized, and with the objects that it teaches.

N: objects in one picture.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from sightline.errors import ShapeError
from sightline.geometry.masks import Mask, encode, is_empty, rasterise
from sightline.records import Image, ImageSize
from sightline.view.draw import (
    Rectangle,
    colour_of,
    find_place,
    ink_on,
    inside,
    name_of,
    outline,
    padding,
    paint_mask,
    printable,
    tag_size,
)

MOST_PICTURES = 16
"""Of a batch that are drawn; more would only make each of them harder to see."""

LONGEST_SIDE_PX = 640
"""Of the largest picture of a batch of up to four. All are scaled alike: their sizes compare as they do in the batch."""

SMALLER_SIDE_PX = 480
"""The same of a larger batch."""

LETTERS_PX, LINE_PX, GAP_PX = 13, 2, 6

GROUND = (48, 48, 48)
PAPER = (230, 230, 230)
"""Around the pictures; the captions' letters."""


def draw_batch(
    images: Sequence[NDArray[np.uint8]],
    boxes: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.int64]],
    masks: Sequence[Sequence[Mask] | None],
    class_names: Sequence[str],
    color_order: str,
    captions: Sequence[str] = (),
) -> Image:
    """The first MOST_PICTURES of a batch side by side, with boxes, names and masks: an RGB picture of at most 4 x 4.

    images:      each (3, H, W), planes in `color_order`: "BGR" or "RGB"
    boxes:       each (N, 4) xyxy in pixels of its picture; labels: each (N,)
    masks:       each one a box, outlines or an (H, W) bitmap; None: without masks
    captions:    a line below each picture, such as its file's name; empty: none

    Raises:
        ShapeError: no picture, or not one of everything for each.
    """
    counts = {len(images), len(boxes), len(labels), len(masks), len(captions or images)}
    if len(counts) > 1 or not images:
        raise ShapeError(
            "batch", f"its parts have {sorted(counts)} entries", "Give one of each for every picture, and a picture."
        )
    shown = range(min(len(images), MOST_PICTURES))
    sides = [max(images[index].shape[1:]) for index in shown]
    scale = (LONGEST_SIDE_PX if len(shown) <= 4 else SMALLER_SIDE_PX) / max(sides)
    tiles = [
        tile(in_rgb(images[index], color_order), boxes[index], labels[index], masks[index], class_names, scale)
        for index in shown
    ]
    return grid(tiles, [captions[index] for index in shown] if captions else [])


def in_rgb(planes: NDArray[np.uint8], color_order: str) -> Image:
    """The (H, W, 3) RGB picture of (3, H, W) planes."""
    ordered = planes[::-1] if color_order == "BGR" else planes
    return np.ascontiguousarray(ordered.transpose(1, 2, 0))


def tile(
    image: Image,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    masks: Sequence[Mask] | None,
    class_names: Sequence[str],
    scale: float,
) -> Pillow.Image:
    """One picture `scale` times as large. Masks are painted on its own pixels, boxes and names on the scaled ones."""
    picture = Pillow.fromarray(image)
    size = ImageSize(*image.shape[:2])
    for mask, label in [] if masks is None else zip(masks, labels.tolist(), strict=True):
        if not is_empty(mask):
            bitmap = mask if isinstance(mask, np.ndarray) else rasterise(mask, size)
            paint_mask(picture, encode(bitmap), colour_of(label), width=max(1, round(1 / scale)))
    scaled = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(scaled, Pillow.Resampling.BILINEAR)
    brush, font = ImageDraw.Draw(picture), ImageFont.load_default(size=LETTERS_PX)
    places = [inside(box, picture.size) for box in (boxes * scale).tolist()]
    for place, label in zip(places, labels.tolist(), strict=True):
        outline(brush, place, colour_of(label), LINE_PX)
    taken: list[Rectangle] = []
    for place, label in zip(places, labels.tolist(), strict=True):
        text = printable(name_of(label, class_names), font)
        tag = find_place(place, tag_size(text, font), picture.size, taken)
        taken.append(tag)
        brush.rectangle(tag, fill=colour_of(label))
        brush.text((tag[0] + padding(font), tag[1]), text, fill=ink_on(colour_of(label)), font=font)
    return picture


def grid(tiles: Sequence[Pillow.Image], captions: Sequence[str]) -> Image:
    """The tiles in rows, each at the top left of its cell, where a padded batch has it; captions below them."""
    font = ImageFont.load_default(size=LETTERS_PX)
    below = GAP_PX + (LETTERS_PX + GAP_PX if captions else 0)
    columns = math.ceil(math.sqrt(len(tiles)))
    wide = max(picture.width for picture in tiles)
    highs = [max(picture.height for picture in tiles[begin : begin + columns]) for begin in range(0, len(tiles), columns)]
    size = (columns * (wide + GAP_PX) + GAP_PX, sum(high + below for high in highs) + GAP_PX)
    sheet = Pillow.new("RGB", size, GROUND)
    brush = ImageDraw.Draw(sheet)
    for index, picture in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = GAP_PX + column * (wide + GAP_PX), GAP_PX + sum(high + below for high in highs[:row])
        sheet.paste(picture, (left, top))
        if captions:
            text = fitting(printable(captions[index], font), font, wide)
            brush.text((left, top + picture.height + 2), text, fill=PAPER, font=font)
    return np.array(sheet)


def fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, without its beginning where it is wider than `width` pixels: paths differ at their ends."""
    if font.getbbox(text)[2] <= width:
        return text
    while text and font.getbbox(f"... {text}")[2] > width:
        text = text[1:]
    return f"... {text}"
