"""Charts as plain marks in a coordinate system of px, which the page's template writes as inline SVG.

Colours are the page's (CSS classes), so that a chart follows light, dark and print. Every chart has a description and its
numbers as a table for those who do not see it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 10, 40
SERIES = 8
"""Colours there are; later series take the first again."""

MAX_BARS = 30
LETTER_PX = 6.6
"""Mean width of a letter at the charts' 12 px."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """style: a CSS class: s0 to s7 (series) or heat; strength: 0 to 1, opacity; title: shown by the mouse."""

    x: float
    y: float
    width: float
    height: float
    style: str = "s0"
    title: str = ""
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Dots:
    """Many points of one series, as one path."""

    points: tuple[tuple[float, float], ...]
    style: str = "s0"

    @property
    def path(self) -> str:
        return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Line:
    """A grid line or axis."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str = "grid"


@dataclass(frozen=True, slots=True)
class Polyline:
    """A curve of one series."""

    points: tuple[tuple[float, float], ...]
    style: str = "s0"

    @property
    def path(self) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Words:
    """anchor: start, middle or end; turned: written upwards."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    turned: bool = False


Mark = Rectangle | Dots | Line | Polyline | Words


@dataclass(frozen=True, slots=True)
class Chart:
    """id: unique on the page; columns, rows: the same numbers as text; legend: (style, name) of every series.

    follows: (score, score, x, x) at the ends of an axis of scores, along which the line "marker" follows the page's threshold
    """

    id: str
    title: str
    description: str
    marks: tuple[Mark, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    follows: tuple[float, float, float, float] | None = None


def style_of(index: int) -> str:
    return f"s{index % SERIES}"


def stacked_bars(id: str, title: str, counts: Mapping[str, Mapping[str, int]]) -> Chart:
    """One bar a row, its parts side by side: {row: {part: count}}; the longest MAX_BARS, the others together."""
    order = sorted(counts, key=lambda name: -sum(counts[name].values()))
    shown = {name: counts[name] for name in order[:MAX_BARS]}
    rest = order[MAX_BARS:]
    parts = list(dict.fromkeys(part for row in counts.values() for part in row))
    if rest:
        shown[f"({len(rest)} others)"] = {part: sum(counts[name].get(part, 0) for name in rest) for part in parts}
    left = min(max((len(name) for name in shown), default=0), 24) * LETTER_PX + 12
    most = max((sum(row.values()) for row in shown.values()), default=0) or 1
    high, room = 22, WIDTH - left - 60
    marks: list[Mark] = []
    for number, (name, row) in enumerate(shown.items()):
        y, x = number * high + 4.0, left
        marks.append(Words(left - 6, y + 12, name if len(name) <= 24 else f"{name[:23]}…", "end"))
        for index, part in enumerate(parts):
            wide = row.get(part, 0) / most * room
            marks.append(
                Rectangle(x, y, wide, high - 6, style_of(index), f"{name}{', ' if part else ''}{part}: {row.get(part, 0):,}")
            )
            x += wide
        marks.append(Words(x + 5, y + 12, f"{sum(row.values()):,}"))
    table = [(name, *(f"{counts[name].get(part, 0):,}" for part in parts)) for name in order]
    named = [part or "boxes" for part in parts]
    legend = tuple((style_of(index), part) for index, part in enumerate(parts)) if len(parts) > 1 else ()
    top = f"; most: {order[0]} with {sum(counts[order[0]].values()):,}" if order else ""
    description = f"{len(counts)} rows{top}"
    return Chart(id, title, description, tuple(marks), ("", *named), tuple(table), legend, height=len(shown) * high + 8)


def columns(id: str, title: str, counts: Sequence[int], *, across: str, upwards: str) -> Chart:
    """A histogram of whole numbers: how often 0, 1, 2, ... occur. More than MAX_BARS are joined in equal steps."""
    step = max(-(-len(counts) // MAX_BARS), 1)
    joined = [sum(counts[first : first + step]) for first in range(0, len(counts), step)]
    names = [str(first) if step == 1 else f"{first}-{first + step - 1}" for first in range(0, len(counts), step)]
    most = max(joined, default=0) or 1
    wide = (WIDTH - LEFT - RIGHT) / max(len(joined), 1)
    floor = HEIGHT - BOTTOM
    marks: list[Mark] = [*scale_lines(most, upwards), Words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, across, "middle")]
    labelled = max(-(-len(names) * 34 // (WIDTH - LEFT)), 1)
    for number, (name, count) in enumerate(zip(names, joined, strict=True)):
        tall = count / most * (floor - TOP)
        x = LEFT + number * wide
        marks.append(Rectangle(x + 1, floor - tall, max(wide - 2, 1), tall, "s0", f"{name}: {count:,}"))
        if number % labelled == 0:
            marks.append(Words(x + wide / 2, floor + 15, name, "middle"))
    rows = tuple((name, f"{count:,}") for name, count in zip(names, joined, strict=True) if count)
    return Chart(id, title, f"{across} from {names[0]} to {names[-1]}", tuple(marks), (across, upwards), rows)


def scale_lines(most: float, title: str) -> list[Mark]:
    """Lines and numbers of a vertical axis from 0 to `most`."""
    step = nice_step(most)
    marks: list[Mark] = [Words(12, (TOP + HEIGHT - BOTTOM) / 2, title, "middle", turned=True)]
    value = 0.0
    while value <= most:
        y = HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP)
        marks += [Line(LEFT, y, WIDTH - RIGHT, y), Words(LEFT - 6, y + 4, f"{value:,.4g}", "end")]
        value += step
    return marks


def nice_step(most: float) -> float:
    """1, 2 or 5 times a power of ten, of which some five make `most`."""
    rough = max(most, 1e-9) / 5
    power = 10 ** math.floor(math.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


def scatter(
    id: str,
    title: str,
    points: NDArray[np.float64],
    groups: NDArray[np.int64],
    names: Sequence[str],
    *,
    across: str,
    upwards: str,
) -> Chart:
    """(P, 2) positive points on logarithmic axes; groups: (P,) index into `names`; the largest have a colour each."""
    safe = np.maximum(points, 1e-3)
    low = 10 ** math.floor(math.log10(max(float(safe.min(initial=10)), 0.1)))
    high = max(10 ** math.ceil(math.log10(float(safe.max(initial=100)))), low * 10)
    span = math.log10(high / low)
    xs = LEFT + np.log10(safe[:, 0] / low) / span * (WIDTH - LEFT - RIGHT)
    ys = HEIGHT - BOTTOM - np.log10(safe[:, 1] / low) / span * (HEIGHT - BOTTOM - TOP)
    marks: list[Mark] = []
    for power in range(round(span) + 1):
        value, share = low * 10**power, power / span
        x, y = LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        marks += [Line(x, TOP, x, HEIGHT - BOTTOM), Line(LEFT, y, WIDTH - RIGHT, y)]
        marks += [Words(x, HEIGHT - BOTTOM + 15, f"{value:,g}", "middle"), Words(LEFT - 6, y + 4, f"{value:,g}", "end")]
    marks += [
        Words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, across, "middle"),
        Words(12, (TOP + HEIGHT - BOTTOM) / 2, upwards, "middle", turned=True),
    ]
    counts = np.bincount(groups, minlength=len(names))
    present = [group for group in np.argsort(-counts, kind="stable").tolist() if counts[group]]
    styles = {group: style_of(min(rank, SERIES - 1)) for rank, group in enumerate(present)}
    rows = []
    for group in sorted(present, key=lambda one: (styles[one] != style_of(SERIES - 1), -int(counts[one]))):  # small ones on top
        mine = groups == group
        marks.append(Dots(tuple(zip(xs[mine].tolist(), ys[mine].tolist(), strict=True)), styles[group]))
        middle = np.median(points[mine], axis=0)
        rows.append((names[group], f"{mine.sum():,}", f"{middle[0]:.4g}", f"{middle[1]:.4g}"))
    shown = present[: SERIES - 1] if len(present) > SERIES else present
    legend = tuple((styles[group], names[group]) for group in shown) if len(present) > 1 else ()
    legend += ((style_of(SERIES - 1), f"{len(present) - len(shown)} others"),) if len(shown) < len(present) else ()
    description = f"{len(points):,} points, both axes logarithmic from {low:g} to {high:g}"
    heads = ("", "points", f"median {across}", f"median {upwards}")
    return Chart(id, title, description, tuple(marks), heads, tuple(rows), legend)


def heat_map(id: str, title: str, values: NDArray[np.float64], *, unit: str) -> Chart:
    """(R, C) values from 0, the top row first; the strongest cell is the darkest."""
    rows, across = values.shape
    side = (HEIGHT - 8) / rows
    left = (WIDTH - side * across) / 2
    most = float(values.max(initial=0)) or 1.0
    marks: list[Mark] = [
        Rectangle(left + x * side, 4 + y * side, side, side, "heat", f"{values[y, x]:.1%} {unit}", float(values[y, x]) / most)
        for y in range(rows)
        for x in range(across)
    ]
    marks.append(Rectangle(left, 4, side * across, side * rows, "frame"))
    thirds = [np.array_split(np.arange(size), 3) for size in values.shape]
    coarse = [[f"{values[np.ix_(down, aside)].mean():.1%}" for aside in thirds[1]] for down in thirds[0]]
    table = tuple((name, *row) for name, row in zip(("top", "middle", "bottom"), coarse, strict=True))
    peak_y, peak_x = np.unravel_index(int(values.argmax()), values.shape)
    description = (
        f"highest: {most:.1%} {unit}, {(peak_x + 0.5) / across:.0%} from the left, {(peak_y + 0.5) / rows:.0%} from the top"
    )
    return Chart(id, title, description, tuple(marks), (f"mean, {unit}", "left", "middle", "right"), table)
