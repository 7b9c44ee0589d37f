"""Boxes with names and scores, and masks where there are any, on a picture.

One colour per label, the same in every picture. Line width and letters grow with the picture; tags stay inside it and, where
there is room, off each other. The best detections are drawn last, on top.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from sightline.records import Box, Detections, Image, Rle
from sightline.wire import run_lengths

COLOURS = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
    (255, 255, 255),  # white, in place of the palette's black: boxes in the dark
)
"""Okabe and Ito's palette, distinct for the colour-blind; label 8 takes the first again."""

LINE_SHARE = 1 / 300
"""Line width / mean side of the picture; 2 px at the least."""

LETTER_SHARE = 1 / 36
"""Letter height / mean side of the picture; 11 px at the least, where names are still legible."""

CONTOUR_SIDE_PX = 1000
"""Mean side of a picture from which on a mask's contour is 2 px wide, not 1."""

HALF = 128
"""Of 255: a mask's colour on the picture."""

CONTOUR_SHADE = 0.55
"""The contour's colour / the label's: dark enough to end the mask, bright enough to belong to it."""

INK = ((0, 0, 0), (255, 255, 255))
"""Letters on bright tags, on dark ones."""

Rectangle = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels: where a tag lies."""


def colour_of(label: int) -> tuple[int, int, int]:
    return COLOURS[label % len(COLOURS)]


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is easier to read on `colour`."""
    red, green, blue = colour
    return INK[0] if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else INK[1]


def draw(image: Image, detections: Detections, class_names: Sequence[str], *, threshold: float = 0.5) -> Image:
    """A copy of the (H, W, 3) picture with a box, a name and a score for every detection of at least `threshold`.

    Masks lie under all boxes, half-transparent. Each is decoded and painted within its own bounds: a hundred of 450 px on 12
    megapixels take some 0.4 s.
    """
    shown = detections.above(threshold)
    worst_first = np.argsort(shown.scores, kind="stable")
    picture = Pillow.fromarray(image)
    brush = ImageDraw.Draw(picture)
    side = (picture.width * picture.height) ** 0.5
    line = max(2, round(side * LINE_SHARE))
    font = ImageFont.load_default(size=max(11, round(side * LETTER_SHARE)))
    boxes = [inside(shown.boxes[index].tolist(), picture.size) for index in range(len(shown))]
    if shown.masks is not None:
        contour = 1 if side < CONTOUR_SIDE_PX else 2
        for index in worst_first:
            paint_mask(picture, shown.masks[index], colour_of(int(shown.labels[index])), contour)
    for index in worst_first:
        outline(brush, boxes[index], colour_of(int(shown.labels[index])), line)
    taken: list[Rectangle] = []
    tags = []
    for index in worst_first[::-1]:  # the best choose their place first
        label = int(shown.labels[index])
        text = printable(f"{name_of(label, class_names)} {shown.scores[index]:.0%}", font)
        place = find_place(boxes[index], tag_size(text, font), picture.size, taken)
        taken.append(place)
        tags.append((place, text, colour_of(label)))
    for place, text, colour in reversed(tags):
        brush.rectangle(place, fill=colour)
        brush.text((place[0] + padding(font), place[1]), text, fill=ink_on(colour), font=font)
    return np.array(picture)


def paint_mask(picture: Pillow.Image, mask: Rle, colour: tuple[int, int, int], width: int) -> None:
    """Half of `colour` on the mask's pixels, and a darker contour of `width` px just inside it."""
    left, top, filled = cut_out(mask)
    contour = filled & ~shrunk(filled, width)
    red, green, blue = (round(share * CONTOUR_SHADE) for share in colour)
    picture.paste(colour, (left, top), Pillow.fromarray(filled * np.uint8(HALF)))
    picture.paste((red, green, blue), (left, top), Pillow.fromarray(contour * np.uint8(255)))


def cut_out(mask: Rle) -> tuple[int, int, NDArray[np.bool_]]:
    """(left, top, the pixels from there on) of the smallest rectangle that holds the mask; (0, 0, (0, 0)) of an empty one."""
    height = mask.size.height
    borders = np.cumsum(run_lengths(mask))
    begins, ends = borders[:-1:2], borders[1::2]
    begins, ends = begins[begins < ends], ends[begins < ends]
    if not len(begins):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    columns, rows = np.divmod(begins, height)
    last_columns, last_rows = np.divmod(ends - 1, height)
    left, right = int(columns[0]), int(last_columns[-1]) + 1
    top, bottom = int(rows.min()), int(last_rows.max()) + 1
    if (columns != last_columns).any():  # a run that goes on in the next column has pixels in the first row and in the last
        top, bottom = 0, height
    high = bottom - top
    first = (columns - left) * high + rows - top
    # +1 where a run begins and -1 after its end add up to the pixels, column by column
    steps = np.zeros((right - left) * high + 1, dtype=np.int8)
    steps[first] += 1
    steps[first + ends - begins] -= 1
    filled = np.cumsum(steps[:-1], dtype=np.int8).reshape(right - left, high).astype(bool)
    return left, top, np.ascontiguousarray(filled.T)


def shrunk(bitmap: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """`bitmap` less its outermost `width` pixels, up, down, left and right; the same shape."""
    for _ in range(width):
        edged = np.pad(bitmap, 1)
        bitmap = edged[1:-1, 1:-1] & edged[:-2, 1:-1] & edged[2:, 1:-1] & edged[1:-1, :-2] & edged[1:-1, 2:]
    return bitmap


def name_of(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if 0 <= label < len(class_names) else f"class {label}"


def printable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`text` on one line; letters that the font cannot encode become question marks (only Pillow's bitmap font has such)."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if isinstance(font, ImageFont.FreeTypeFont) else line.encode("latin-1", "replace").decode("latin-1")


def inside(box: Sequence[float], size: tuple[int, int]) -> Box:
    """`box` cut off at the last pixels of a picture of `size` (width, height), with corners in order."""
    x1, y1, x2, y2 = np.nan_to_num(np.asarray(box, dtype=np.float64)).tolist()
    width, height = size[0] - 1, size[1] - 1
    x1, x2 = sorted((min(max(x1, 0.0), width), min(max(x2, 0.0), width)))
    y1, y2 = sorted((min(max(y1, 0.0), height), min(max(y2, 0.0), height)))
    return float(x1), float(y1), float(x2), float(y2)


def outline(brush: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], width: int) -> None:
    """A frame with a thin dark edge, which keeps a bright colour visible on a bright background."""
    x1, y1, x2, y2 = box
    brush.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0), width=1)
    brush.rectangle(box, outline=colour, width=width)


def padding(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    return round(font.getbbox("x")[2] / 2)


def tag_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[float, float]:
    """(width, height) in pixels of the tag that holds `text`; as high for every text, so that tags line up."""
    return font.getbbox(text)[2] + 2 * padding(font), font.getbbox("Ágj|")[3] + 2


def find_place(box: Box, tag: tuple[float, float], size: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Above the box, inside its top, below it, or inside its bottom: the first that is in the picture and free.

    Where none is free, the first that is in the picture; where none is, pushed inside. O(detections²), with a tiny constant.
    """
    x1, y1, _, y2 = box
    wide, high = tag
    left = max(0.0, min(x1, size[0] - 1 - wide))
    tops = [top for top in (y1 - high, y1, y2, y2 - high) if 0 <= top <= size[1] - 1 - high]
    places = [(left, top, left + wide, top + high) for top in tops or [max(0.0, min(y1, size[1] - 1 - high))]]
    return next((place for place in places if not any(overlap(place, other) for other in taken)), places[0])


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
