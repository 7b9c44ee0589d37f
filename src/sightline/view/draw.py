"""Boxes with names and scores on a picture.

One colour per label, the same in every picture. Line width and letters grow with the picture; tags stay inside it and, where
there is room, off each other. The best detections are drawn last, on top.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from sightline.records import Box, Detections, Image

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
    """A copy of the (H, W, 3) picture with a box, a name and a score for every detection of at least `threshold`."""
    picture = Pillow.fromarray(image)
    brush = ImageDraw.Draw(picture)
    side = (picture.width * picture.height) ** 0.5
    line = max(2, round(side * LINE_SHARE))
    font = ImageFont.load_default(size=max(11, round(side * LETTER_SHARE)))
    shown = detections.above(threshold)
    worst_first = np.argsort(shown.scores, kind="stable")
    boxes = [inside(shown.boxes[index].tolist(), picture.size) for index in range(len(shown))]
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
