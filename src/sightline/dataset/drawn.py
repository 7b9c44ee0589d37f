"""A labelled data set that draws itself: balloons and kites in front of skies, towns and rooms; for `sightline demo` and tests.

A count and a seed go in, pictures with exact boxes come out. Every picture has its own generator: picture 7 of a seed is the
same whether 10 or 300 are drawn. A box is exactly what is visible of its object, without a balloon's string or a kite's tail;
an object of which little can be seen has no box, as a human labeller would leave it out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pillow

from sightline.dataset.drawn_scenery import (
    NOTHING,
    SUPERSAMPLING,
    Canvas,
    Points,
    ellipse,
    mixed,
    paint_foreground,
    paint_scene,
    vivid,
)
from sightline.records import Box, Category, Dataset, Image, ImageRecord, ImageSize, Instance
from sightline.storage import atomic_folder

CATEGORIES = (Category(1, "balloon"), Category(2, "kite"))
BALLOON, KITE = range(len(CATEGORIES))  # labels

OBJECTS_PER_PICTURE = (0.08, 0.24, 0.28, 0.2, 0.12, 0.08)
"""Probability of 0, 1, ... 5 objects."""

ASPECT_RATIOS = (1.0, 5 / 4, 4 / 3, 3 / 2)
SHORT_SIDE_PX = (176, 240)
LONG_SIDE_PX = 320
RELATIVE_SIZE = (0.15, 0.46)
"""Length of an object / short side of its picture: about 25 to 110 px."""

MIN_VISIBLE = 0.4
"""Share of an object's area that must be seen for it to be labelled."""

JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Placed:
    """One object on the canvas. number: its mark in `Canvas.owners`; area: px² of the whole shape, hidden parts included."""

    number: int
    label: int
    area: float


def rotated(points: Points, turn: float) -> Points:
    """`points` turned around the origin by `turn` radians, clockwise as seen."""
    cos, sin = math.cos(turn), math.sin(turn)
    turned: Points = points @ np.array([(cos, sin), (-sin, cos)])
    return turned


def polygon_area(points: Points) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def egg(rng: Generator) -> Points:
    """(48, 2) around the origin, 2 high: round or long, and narrower towards the knot."""
    outline = ellipse(0, 0, rng.uniform(0.72, 0.98), 1, 48)
    narrow = 1 - rng.uniform(0.05, 0.22) * np.clip(outline[:, 1], 0, 1)
    return outline * np.stack([narrow, np.ones_like(narrow)], axis=1)


def heart() -> Points:
    """(48, 2) around the origin, 2 high and wide."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 14.5
    return np.stack([np.sin(turn) ** 3, y - 0.16], axis=1)


def paint_balloon(canvas: Canvas, rng: Generator, centre: Points, length: float, number: int) -> float:
    """Paint a balloon with its string; the area in px² of its body and knot. centre: (2,)."""
    turn, half = rng.normal(0, 0.2), length / 2
    colour = vivid(rng)

    def place(points: Points) -> Points:
        return rotated(points * half, turn) + centre

    knot = place(np.array([(0, 0.92), (0.13, 1.16), (-0.13, 1.16)]))
    down = np.linspace(0, 1, 14)
    sway = np.sin(down * rng.uniform(3, 8)) * rng.uniform(0.05, 0.3) * half
    string = np.stack([sway, down * half * rng.uniform(1.5, 4)], axis=1) + (knot[1] + knot[2]) / 2
    canvas.line(string, mixed(colour, (235, 235, 235), 0.7), 1)
    heart_shaped = rng.random() < 0.15
    outline = heart() if heart_shaped else egg(rng)
    canvas.fill(knot, mixed(colour, (0, 0, 0), 0.3), number)
    canvas.fill(place(outline), mixed(colour, (0, 0, 0), 0.22), number)
    light = np.array([-0.05, -0.1] if heart_shaped else [-0.3, -0.35])  # a point that all of the outline can see
    for step in range(1, 7):
        shrink = 1 - 0.14 * step
        inner = outline * shrink + light * (1 - shrink)
        canvas.fill(place(inner), mixed(mixed(colour, (0, 0, 0), 0.22), mixed(colour, (255, 255, 255), 0.3), step / 6))
    if not heart_shaped and rng.random() < 0.3:  # a printed band
        y = rng.uniform(-0.3, 0.3)
        across = outline[:, 0].max() * 0.72
        band = np.array([(-across, y), (0, y + 0.1), (across, y), (across, y + 0.16), (0, y + 0.28), (-across, y + 0.16)])
        canvas.fill(place(band), (*mixed(vivid(rng), (255, 255, 255), 0.3), 210))
    glint = rotated(ellipse(0, 0, 0.11, 0.2, 16), 0.6) - np.array([0.36, 0.45])
    canvas.fill(place(glint), (255, 255, 255, 170))
    return polygon_area(place(outline)) + polygon_area(knot) * 0.7


def paint_kite(canvas: Canvas, rng: Generator, centre: Points, length: float, number: int) -> float:
    """Paint a kite with its tail; the area in px² of its sail. centre: (2,)."""
    turn, half = rng.normal(0, 0.5), length / 2
    wide, shoulder = rng.uniform(0.6, 0.85), rng.uniform(-0.45, -0.2)
    colours = [vivid(rng), vivid(rng)]
    colours += [mixed(colours[0], (255, 255, 255), 0.25), mixed(colours[1], (0, 0, 0), 0.15)]

    def place(points: Points) -> Points:
        return rotated(points * half, turn) + centre

    down = np.linspace(0, 1, 16)
    curve = np.sin(down * rng.uniform(4, 9)) * rng.uniform(0.1, 0.25)
    tail = place(np.stack([curve, 1 + down * rng.uniform(0.7, 1.5)], axis=1))
    canvas.line(tail, mixed(colours[0], (60, 60, 60), 0.4), 1.2)
    for spot in tail[4::4]:
        bow = np.array([(0, 0), (0.15, -0.09), (0.15, 0.09), (0, 0), (-0.15, 0.09), (-0.15, -0.09)]) * half
        canvas.fill(bow + spot, colours[1])
    top, right, bottom, left, cross = place(np.array([(0, -1), (wide, shoulder), (0, 1), (-wide, shoulder), (0, shoulder)]))
    sail = np.stack([top, right, bottom, left])
    canvas.fill(sail, colours[0], number)
    pattern = rng.integers(3)  # quarters, halves, or plain with a cross
    if pattern == 0:
        canvas.fill(np.stack([top, right, cross]), colours[1])
        canvas.fill(np.stack([bottom, left, cross]), colours[3])
        canvas.fill(np.stack([bottom, right, cross]), colours[2])
    elif pattern == 1:
        canvas.fill(np.stack([top, right, bottom]), colours[1])
    spar = mixed(colours[0], (30, 30, 30), 0.75)
    canvas.line(np.stack([top, bottom]), spar, 1)
    canvas.line(np.stack([left, right]), spar, 1)
    return polygon_area(sail)


PAINTERS = {BALLOON: paint_balloon, KITE: paint_kite}


def visible_box(owners: NDArray[np.uint8], placed: Placed) -> Box | None:
    """The box around what is seen of one object; None when too little is. owners: (H, W) times `SUPERSAMPLING`."""
    seen = owners == placed.number
    if np.count_nonzero(seen) < MIN_VISIBLE * placed.area * SUPERSAMPLING**2:
        return None
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    x1, y1, x2, y2 = (int(edge) / SUPERSAMPLING for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return x1, y1, x2, y2


def free_spot(rng: Generator, size: ImageSize, length: float, taken: list[tuple[Points, float]]) -> Points | None:
    """(2,) a centre where an object of `length` covers its neighbours only in part; None where the picture is full."""
    for _ in range(20):
        spot = rng.uniform(0.06, 0.94, 2) * (size.width, size.height)
        if all(math.dist(spot, other) > 0.38 * (length + other_length) for other, other_length in taken):
            return spot
    return None


def paint_objects(canvas: Canvas, rng: Generator) -> list[Placed]:
    """Up to five balloons and kites, the later ones in front of the earlier ones."""
    placed: list[Placed] = []
    taken: list[tuple[Points, float]] = []
    for _ in range(rng.choice(len(OBJECTS_PER_PICTURE), p=OBJECTS_PER_PICTURE)):
        length = rng.uniform(*RELATIVE_SIZE) * min(canvas.size)
        spot = free_spot(rng, canvas.size, length, taken)
        if spot is None:
            continue
        label, number = int(rng.integers(len(CATEGORIES))), NOTHING + len(placed) + 1
        placed.append(Placed(number, label, PAINTERS[label](canvas, rng, spot, length, number)))
        taken.append((spot, length))
    return placed


def random_size(rng: Generator) -> ImageSize:
    short = int(rng.integers(*SHORT_SIDE_PX))
    long = min(round(short * ASPECT_RATIOS[rng.integers(len(ASPECT_RATIOS))]), LONG_SIDE_PX)
    return ImageSize(short, long) if rng.random() < 0.65 else ImageSize(long, short)


def as_photographed(picture: Image, rng: Generator) -> Image:
    """`picture` with a camera's noise, contrast and exposure."""
    light = picture * rng.uniform(0.8, 1.1) + rng.uniform(-12, 18)
    return np.clip(light + rng.normal(0, rng.uniform(1, 7), picture.shape), 0, 255).astype(np.uint8)


def draw_picture(image_id: int, seed: int) -> tuple[Image, ImageRecord]:
    """Picture number `image_id` of a seed, with its labels."""
    rng = np.random.default_rng([seed, image_id])
    canvas = paint_scene(rng, random_size(rng))
    placed = paint_objects(canvas, rng)
    paint_foreground(canvas, rng)
    owners = np.asarray(canvas.owners)
    boxes = [(thing.label, visible_box(owners, thing)) for thing in placed]
    instances = tuple(Instance(box, label) for label, box in boxes if box is not None)
    record = ImageRecord(image_id, f"drawn_{image_id:04d}.jpg", canvas.size, instances)
    return as_photographed(canvas.picture(), rng), record


def draw(count: int, seed: int = 0) -> Iterator[tuple[Image, ImageRecord]]:
    """`count` pictures with their labels; ids from 1."""
    for image_id in range(1, count + 1):
        yield draw_picture(image_id, seed)


def write(folder: Path, count: int, seed: int = 0) -> Dataset:
    """Draw `count` pictures into `folder/images` as JPEGs, all or none, and give their labels."""
    records = []
    with atomic_folder(folder / "images", replace=True) as pictures:
        for image, record in draw(count, seed):
            Pillow.fromarray(image).save(pictures / record.file_name, quality=JPEG_QUALITY)
            records.append(record)
    return Dataset(CATEGORIES, tuple(records))
