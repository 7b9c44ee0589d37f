"""What surrounds the labelled objects of the drawn data set: the canvas, skies, towns and rooms, and things that are no label.

Coordinates are pixels of the finished picture. The canvas is `SUPERSAMPLING` times finer in both directions and is averaged
down at the end: edges come out antialiased, and what is visible of an object is known to a fraction of a pixel.

P: points of an outline, (P, 2) as x, y.
"""

import colorsys
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from sightline.records import Image, ImageSize

SUPERSAMPLING = 4
"""Canvas pixels per picture pixel and direction. 300 pictures take 4 s on one core."""

NOTHING = 0
"""The owner of a canvas pixel that shows no labelled object."""

Colour = tuple[int, int, int] | tuple[int, int, int, int]
"""RGB, or RGBA to blend; 0 to 255."""

Points = NDArray[np.float64]
"""(P, 2): x, y in pixels of the finished picture."""


def vivid(rng: Generator) -> tuple[int, int, int]:
    """A saturated colour of any hue, as toys have it."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.65, 1.0), rng.uniform(0.7, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def mixed(colour: ArrayLike, other: ArrayLike, share: float) -> tuple[int, int, int]:
    """`colour` with `share` (0 to 1) of `other` in it."""
    red, green, blue = (1 - share) * np.asarray(colour, float) + share * np.asarray(other, float)
    return round(red), round(green), round(blue)


def ellipse(x: float, y: float, rx: float, ry: float, count: int = 40) -> Points:
    """(count, 2) outline of an ellipse around (x, y), clockwise from the top."""
    turn = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return np.stack([x + rx * np.sin(turn), y - ry * np.cos(turn)], axis=1)


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


class Canvas:
    """The picture being painted, and which object each canvas pixel shows (`NOTHING`, or the object's number)."""

    def __init__(self, size: ImageSize, backdrop: NDArray[np.float64]) -> None:
        """backdrop: (h, w, 3), 0 to 255, any resolution; stretched over the whole picture."""
        self.size = size
        fine = (size.width * SUPERSAMPLING, size.height * SUPERSAMPLING)
        coarse = Pillow.fromarray(np.clip(backdrop, 0, 255).astype(np.uint8))
        self.pixels = coarse.resize(fine, Pillow.Resampling.BICUBIC)
        self.owners = Pillow.new("L", fine, NOTHING)
        self.brush = ImageDraw.Draw(self.pixels, "RGBA")
        self.marker = ImageDraw.Draw(self.owners)

    def fill(self, points: Points, colour: Colour, owner: int | None = None) -> None:
        """Paint a polygon. owner: whom its pixels belong to from now on; None leaves that as it is."""
        corners = [(float(x), float(y)) for x, y in points * SUPERSAMPLING]
        self.brush.polygon(corners, fill=colour)
        if owner is not None:
            self.marker.polygon(corners, fill=owner)

    def line(self, points: Points, colour: Colour, width: float, owner: int | None = None) -> None:
        """Paint a polyline, `width` pixels wide; owner as in `fill`."""
        corners = [(float(x), float(y)) for x, y in points * SUPERSAMPLING]
        fine_width = max(1, round(width * SUPERSAMPLING))
        self.brush.line(corners, fill=colour, width=fine_width, joint="curve")
        if owner is not None:
            self.marker.line(corners, fill=owner, width=fine_width, joint="curve")

    def picture(self) -> Image:
        return np.asarray(self.pixels.reduce(SUPERSAMPLING)).copy()


def soft_noise(rng: Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns) of smooth blotches around 0, mostly within ±1: three octaves of stretched random grids."""
    total = np.zeros((rows, columns))
    for cells, strength in ((3, 0.6), (7, 0.35), (15, 0.2)):
        grid = Pillow.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        total += strength * np.asarray(grid.resize((columns, rows), Pillow.Resampling.BICUBIC))
    return total


SKIES = (
    ((92, 150, 214), (190, 218, 240)),  # noon
    ((120, 132, 150), (205, 208, 212)),  # overcast
    ((70, 84, 140), (240, 170, 120)),  # sunset
    ((28, 36, 72), (96, 100, 140)),  # dusk
    ((150, 200, 220), (236, 232, 214)),  # haze
)
"""(top, horizon) in RGB."""

GROUNDS = ((86, 120, 62), (128, 110, 80), (110, 112, 116), (190, 172, 130), (66, 92, 70))
WALLS = ((214, 196, 170), (170, 190, 184), (200, 170, 176), (150, 150, 176), (224, 214, 200), (120, 134, 120))


def sky_backdrop(rng: Generator, size: ImageSize) -> NDArray[np.float64]:
    """A gradient with clouds, at half resolution."""
    rows, columns = size.height // 2, size.width // 2
    top, horizon = (np.array(colour, float) for colour in SKIES[rng.integers(len(SKIES))])
    down = np.linspace(0, 1, rows)[:, None, None] ** rng.uniform(0.6, 1.4)
    sky = top + (horizon - top) * down + np.zeros((rows, columns, 1))
    cover = np.clip(soft_noise(rng, rows, columns) * rng.uniform(0.4, 1.6) + rng.uniform(-0.4, 0.2), 0, 0.8)[:, :, None]
    clouded: NDArray[np.float64] = sky * (1 - cover) + rng.uniform(200, 250) * cover
    return clouded


def wall_backdrop(rng: Generator, size: ImageSize) -> NDArray[np.float64]:
    """Wallpaper in uneven light, at half resolution: plain, striped or checked."""
    rows, columns = size.height // 2, size.width // 2
    colour = np.array(WALLS[rng.integers(len(WALLS))], float)
    y, x = np.mgrid[:rows, :columns]
    period = rng.integers(8, 28)
    pattern = (np.zeros((rows, columns)), x // period % 2, (x // period + y // period) % 2)[rng.integers(3)]
    light = soft_noise(rng, rows, columns) * 14 + np.linspace(rng.uniform(-30, 30), rng.uniform(-30, 30), columns)
    return colour + (pattern * rng.uniform(-30, 30) + light)[:, :, None]


def paint_scene(rng: Generator, size: ImageSize) -> Canvas:
    """A canvas with everything that stands behind the labelled objects."""
    height, width = size
    if rng.random() < 0.3:
        canvas = Canvas(size, wall_backdrop(rng, size))
        for _ in range(rng.integers(2, 8)):
            picture_frame(canvas, rng)
        floor = rng.uniform(0.75, 0.95) * height
        if rng.random() < 0.6:
            canvas.fill(rectangle(0, floor, width, height), mixed(GROUNDS[rng.integers(len(GROUNDS))], (90, 60, 40), 0.4))
        return canvas
    canvas = Canvas(size, sky_backdrop(rng, size))
    if rng.random() < 0.35:
        sun(canvas, rng)
    horizon = rng.uniform(0.6, 1.02) * height
    for _ in range(rng.integers(0, 3)):
        hills(canvas, rng, horizon)
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    canvas.fill(rectangle(0, horizon, width, height), ground)
    for _ in range(rng.integers(0, 60)):  # tufts and pebbles
        x, y = rng.uniform(0, width), rng.uniform(horizon, height * 1.05)
        canvas.line(np.array([(x, y), (x + rng.uniform(-3, 3), y - rng.uniform(1, 6))]), mixed(ground, (0, 0, 0), 0.25), 1)
    things = (house, house, tree, sign, brick_wall, wires, birds)
    for index in rng.integers(0, len(things), rng.integers(2, 9)):
        things[index](canvas, rng, horizon)
    return canvas


def paint_foreground(canvas: Canvas, rng: Generator) -> None:
    """Something in front of everything, in every third picture: it hides a part of what is labelled."""
    height, width = canvas.size
    kind = rng.integers(9)
    if kind == 0:  # a pole
        x, thick = rng.uniform(0, width), rng.uniform(3, 9)
        canvas.fill(rectangle(x, 0, x + thick, height), mixed((70, 66, 64), vivid(rng), 0.15), NOTHING)
    elif kind == 1:  # leaves that reach in from a corner
        corner = np.array([rng.integers(2) * width, rng.integers(2) * height])
        for _ in range(rng.integers(15, 40)):
            x, y = corner + rng.normal(0, 0.13, 2) * (width, height)
            leaf = mixed((50, 100, 45), vivid(rng), rng.uniform(0, 0.2))
            canvas.fill(ellipse(x, y, rng.uniform(3, 9), rng.uniform(3, 9), 7), leaf, NOTHING)
    elif kind == 2:  # a fence at the bottom
        top, step = height * rng.uniform(0.82, 0.95), rng.uniform(10, 22)
        colour = mixed((150, 120, 90), vivid(rng), 0.2)
        canvas.fill(rectangle(0, top + 6, width, top + 10), colour, NOTHING)
        for x in np.arange(0, width, step):
            canvas.fill(rectangle(x, top, x + step * 0.45, height), colour, NOTHING)


def hills(canvas: Canvas, rng: Generator, horizon: float) -> None:
    x = np.linspace(0, canvas.size.width, 30)
    waves = np.sin(x / rng.uniform(20, 70) + rng.uniform(0, 6)) + np.sin(x / rng.uniform(12, 30) + rng.uniform(0, 6)) * 0.4
    ridge = np.stack([x, horizon - rng.uniform(5, 40) - waves * rng.uniform(3, 14)], axis=1)
    colour = mixed((90, 110, 100), vivid(rng), rng.uniform(0.05, 0.25))
    canvas.fill(np.concatenate([ridge, [(canvas.size.width, horizon + 1), (0, horizon + 1)]]), colour)


def sun(canvas: Canvas, rng: Generator) -> None:
    """Round like a balloon, but flat, without a knot, and with rays or a halo."""
    height, width = canvas.size
    x, y, radius = rng.uniform(0, width), rng.uniform(0, height * 0.5), rng.uniform(10, 24)
    colour = mixed((255, 236, 150), (255, 190, 90), rng.random())
    for grow in (1.7, 1.45, 1.2):
        canvas.fill(ellipse(x, y, radius * grow, radius * grow), (*colour, 60))
    if rng.random() < 0.5:
        for turn in np.linspace(0, 2 * math.pi, 12, endpoint=False):
            ray = np.array([math.cos(turn), math.sin(turn)])
            canvas.line(np.stack([(x, y) + ray * radius * 1.2, (x, y) + ray * radius * 1.8]), colour, 1.5)
    canvas.fill(ellipse(x, y, radius, radius), colour)


def house(canvas: Canvas, rng: Generator, horizon: float) -> None:
    """A block with windows, with or without a gable; balconies and awnings in toys' colours now and then."""
    wide, tall = rng.uniform(24, 90), rng.uniform(25, 0.65 * canvas.size.height)
    x, base = rng.uniform(-20, canvas.size.width), horizon + rng.uniform(0, 14)
    colour = mixed((150, 140, 135), vivid(rng), rng.uniform(0.05, 0.5))
    canvas.fill(rectangle(x, base - tall, x + wide, base), colour)
    if rng.random() < 0.5:
        roof = np.array([(x - 4, base - tall), (x + wide / 2, base - tall - rng.uniform(8, 28)), (x + wide + 4, base - tall)])
        canvas.fill(roof, mixed((140, 60, 45), vivid(rng), rng.uniform(0, 0.5)))
    pane = mixed((70, 90, 120), (250, 230, 150), rng.random())
    step_x, step_y = rng.uniform(10, 18), rng.uniform(12, 22)
    for left in np.arange(x + 4, x + wide - step_x * 0.6, step_x):
        for top in np.arange(base - tall + 5, base - step_y * 0.6, step_y):
            canvas.fill(rectangle(left, top, left + step_x * 0.55, top + step_y * 0.55), pane)


def tree(canvas: Canvas, rng: Generator, horizon: float) -> None:
    """A crown of overlapping clumps, or a fir of stacked triangles."""
    x, base, tall = rng.uniform(0, canvas.size.width), horizon + rng.uniform(0, 18), rng.uniform(25, 80)
    canvas.fill(rectangle(x - tall * 0.05, base - tall * 0.5, x + tall * 0.05, base), (92, 70, 50))
    colour = mixed((60, 110, 55), vivid(rng), rng.uniform(0, 0.35))
    if rng.random() < 0.35:
        for level in (0.35, 0.6, 0.85):
            half = tall * 0.28 * (1.3 - level)
            top = base - tall * level
            canvas.fill(np.array([(x - half, top), (x, top - tall * 0.4), (x + half, top)]), colour)
        return
    for _ in range(9):
        dx, dy = rng.normal(0, tall * 0.13, 2)
        clump = ellipse(x + dx, base - tall * 0.7 + dy, tall * rng.uniform(0.1, 0.22), tall * rng.uniform(0.1, 0.2), 12)
        canvas.fill(clump, mixed(colour, (20, 40, 20) if dy > 0 else (200, 220, 150), rng.uniform(0, 0.3)))


def sign(canvas: Canvas, rng: Generator, horizon: float) -> None:
    """A road sign on a post: a square diamond or a disc, which a kite or a balloon must be told from."""
    x, base, radius = rng.uniform(0, canvas.size.width), horizon + rng.uniform(0, 15), rng.uniform(8, 20)
    y = base - rng.uniform(20, 60) - radius
    canvas.fill(rectangle(x - 1.2, y, x + 1.2, base), (120, 120, 124))
    colour = mixed(vivid(rng), (245, 245, 245), rng.uniform(0, 0.5))
    shape = ellipse(x, y, radius, radius, (4, 4, 8, 30)[rng.integers(4)])
    canvas.fill(shape, (245, 245, 245))
    canvas.fill((shape - (x, y)) * 0.85 + (x, y), colour)
    canvas.fill(rectangle(x - radius * 0.45, y - 1.5, x + radius * 0.45, y + 1.5), (30, 30, 34))


def brick_wall(canvas: Canvas, rng: Generator, horizon: float) -> None:
    wide, tall = rng.uniform(30, 100), rng.uniform(14, 50)
    x, base = rng.uniform(-20, canvas.size.width), horizon + rng.uniform(0, 20)
    canvas.fill(rectangle(x, base - tall, x + wide, base), (176, 168, 160))
    colour = mixed((160, 80, 60), vivid(rng), rng.uniform(0, 0.35))
    for row, top in enumerate(np.arange(base - tall, base - 4, 6)):
        for left in np.arange(x + (row % 2) * 6, x + wide - 10, 12):
            canvas.fill(rectangle(left, top + 1, left + 10.5, top + 5), mixed(colour, (40, 30, 30), rng.uniform(0, 0.3)))


def wires(canvas: Canvas, rng: Generator, horizon: float) -> None:
    """Sagging lines across the sky."""
    x = np.linspace(-5, canvas.size.width + 5, 24)
    left, right = rng.uniform(0, horizon, 2)
    sag = rng.uniform(5, 25)
    along = np.linspace(0, 1, 24)
    for offset in range(rng.integers(1, 4)):
        y = left + (right - left) * along + sag * 4 * along * (1 - along) + offset * 7
        canvas.line(np.stack([x, y], axis=1), (50, 50, 56), 0.8)


def birds(canvas: Canvas, rng: Generator, horizon: float) -> None:
    for _ in range(rng.integers(2, 7)):
        x, y, span = rng.uniform(0, canvas.size.width), rng.uniform(0, horizon), rng.uniform(3, 8)
        wings = np.array([(x - span, y - span * 0.5), (x - span * 0.4, y - span * 0.6), (x, y), (x + span, y - span * 0.6)])
        canvas.line(wings, (50, 50, 58), 1)


def picture_frame(canvas: Canvas, rng: Generator) -> None:
    """A framed picture or a shelf board on the wall of a room: straight edges in any colour."""
    height, width = canvas.size
    x, y, wide, tall = rng.uniform(-20, width), rng.uniform(-10, height * 0.7), rng.uniform(15, 80), rng.uniform(4, 60)
    canvas.fill(rectangle(x, y, x + wide, y + tall), mixed((90, 70, 50), vivid(rng), rng.uniform(0, 0.6)))
    if tall > 15:
        canvas.fill(
            rectangle(x + 4, y + 4, x + wide - 4, y + tall - 4), mixed((230, 225, 215), vivid(rng), rng.uniform(0, 0.5))
        )
        slope = np.array([(x + 4, y + tall - 4), (x + wide * rng.uniform(0.2, 0.8), y + 8), (x + wide - 4, y + tall - 4)])
        canvas.fill(slope, mixed((120, 130, 120), vivid(rng), 0.4))
