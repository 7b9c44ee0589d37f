"""Charts of an evaluation: curves over recall and score, calibration, and differences with their ranges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sightline.view.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER_PX,
    RIGHT,
    SERIES,
    TOP,
    WIDTH,
    Chart,
    Line,
    Mark,
    Polyline,
    Rectangle,
    Words,
    nice_step,
    scale_lines,
    style_of,
)

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """(P,) places and values of one curve. note: what the table says of it; style: a CSS class, else by its place."""

    name: str
    x: Numbers
    y: Numbers
    note: str = ""
    style: str = field(default="")


def curves(
    id: str,
    title: str,
    series: Sequence[Series],
    *,
    across: str,
    upwards: str,
    description: str,
    low: float = 0.0,
    high: float = 1.0,
    top: float = 1.0,
    marked: bool = False,
) -> Chart:
    """Curves over an axis from `low` to `high`, values from 0 to `top`. marked: has a line at the page's threshold."""
    marks: list[Mark] = [*scale_lines(top, upwards), *scale_across(low, high, across)]
    shown = series[:SERIES]
    room = WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP
    for index, one in reversed([*enumerate(shown)]):  # the first on top
        there = np.isfinite(one.x) & np.isfinite(one.y)
        x = LEFT + (one.x[there] - low) / ((high - low) or 1) * room[0]
        y = HEIGHT - BOTTOM - np.clip(one.y[there] / top, 0, 1) * room[1]
        marks.append(Polyline(visible(x, y), one.style or style_of(index)))
    if marked:
        marks.append(Line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "marker"))
    legend = tuple((one.style or style_of(index), one.name) for index, one in enumerate(shown)) if len(shown) > 1 else ()
    if len(series) > len(shown):
        legend += (("", f"and {len(series) - len(shown)} more in the table"),)
    follows = (low, high, float(LEFT), float(WIDTH - RIGHT)) if marked else None
    rows = tuple((one.name, one.note) for one in series)
    return Chart(id, title, description, tuple(marks), ("", upwards), rows, legend, follows=follows)


def visible(x: Numbers, y: Numbers) -> tuple[tuple[float, float], ...]:
    """Points of a path without those that lie in the same half pixel as the one before; the last stays."""
    cells = np.stack([x, y], axis=1) * 2 // 1
    kept = np.append(np.any(cells[1:] != cells[:-1], axis=1), True) if len(x) else np.zeros(0, np.bool_)
    return tuple(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def scale_across(low: float, high: float, title: str) -> list[Mark]:
    """Lines and numbers of a horizontal axis."""
    step = nice_step(high - low)
    marks: list[Mark] = [Words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, title, "middle")]
    value = math.ceil(low / step) * step
    while value <= high + 1e-9:
        x = LEFT + (value - low) / ((high - low) or 1) * (WIDTH - RIGHT - LEFT)
        marks += [Line(x, TOP, x, HEIGHT - BOTTOM), Words(x, HEIGHT - BOTTOM + 15, f"{value:,.6g}", "middle")]
        value += step
    return marks


def calibration(id: str, title: str, scores: Numbers, precision: Numbers, counts: NDArray[np.intp], error: float) -> Chart:
    """(B,) bins of equal width over the scores from 0 to 1: precision as bars, the mean score as a stroke; nan: empty."""
    marks: list[Mark] = [*scale_lines(1.0, "precision"), *scale_across(0.0, 1.0, "score")]
    wide, tall, floor = (WIDTH - RIGHT - LEFT) / max(len(counts), 1), HEIGHT - BOTTOM - TOP, HEIGHT - BOTTOM
    rows = []
    for index, (score, share, count) in enumerate(zip(scores.tolist(), precision.tolist(), counts.tolist(), strict=True)):
        between = f"{index / len(counts):g} to {(index + 1) / len(counts):g}"
        if not count:
            continue
        x = LEFT + index * wide
        told = f"scores {between}: {share:.3f} of {count:,} are true, mean score {score:.3f}"
        marks.append(Rectangle(x + 2, floor - share * tall, wide - 4, share * tall, "s0", told, 0.75))
        marks.append(Line(x + 2, floor - score * tall, x + wide - 2, floor - score * tall, "whisker"))
        rows.append((between, f"{count:,}", f"{score:.3f}", f"{share:.3f}"))
    marks.append(Line(LEFT, floor, WIDTH - RIGHT, TOP, "diagonal"))
    shift = float(np.nansum((scores - precision) * counts)) if len(counts) else 0.0
    trust = "scores promise too much" if shift > 0 else "scores promise too little"
    description = (
        f"Bars: how many detections of such scores are true; black strokes: their mean score. On average they are {error:.3f} "
        f"apart{f', {trust}' if error > 0.05 else ''}."
    )
    legend = (("s0", "true, of the detections with such scores"),)
    return Chart(id, title, description, tuple(marks), ("score", "detections", "mean score", "precision"), tuple(rows), legend)


@dataclass(frozen=True, slots=True)
class Spread:
    """A difference with its range, nan: unknown; verdict: better, worse or anything else."""

    name: str
    value: float
    low: float
    high: float
    verdict: str


VERDICTS = {"better": "s2", "worse": "s1"}


def differences(id: str, title: str, rows: Sequence[Spread], description: str) -> Chart:
    """A row for each with a mark and its range as a stroke; 0 is marked."""
    names = [one.name if len(one.name) <= 24 else f"{one.name[:23]}…" for one in rows]
    left = max((len(name) for name in names), default=0) * LETTER_PX + 14
    ends = np.array([(one.value, one.low, one.high) for one in rows], dtype=float)
    reach = max(0.01, float(np.nanmax(np.abs(ends), initial=0.0))) * 1.1
    high, room = 22, WIDTH - RIGHT - left
    bottom = len(rows) * high + 6

    def place(value: float) -> float:
        return left + (value + reach) / (2 * reach) * room

    marks: list[Mark] = []
    step = nice_step(reach)
    for number in range(-int(reach / step), int(reach / step) + 1):
        x = place(number * step)
        marks += [Line(x, 2, x, bottom), Words(x, bottom + 14, f"{number * step:+.4g}" if number else "0", "middle")]
    marks.append(Line(place(0), 2, place(0), bottom, "axis"))
    table = []
    for number, (name, one) in enumerate(zip(names, rows, strict=True)):
        y = number * high + 15.0
        marks.append(Words(left - 6, y + 4, name, "end"))
        known = not math.isnan(one.low)
        if known:
            marks.append(Line(place(one.low), y, place(one.high), y, "whisker"))
        told = f"{one.low:+.3f} to {one.high:+.3f}" if known else "-"
        style = VERDICTS.get(one.verdict, "s7")
        marks.append(
            Rectangle(place(one.value) - 4, y - 4, 8, 8, style, f"{one.name}: {one.value:+.3f}, {told}, {one.verdict}")
        )
        table.append((one.name, f"{one.value:+.3f}", told, one.verdict))
    legend = (("s2", "better"), ("s1", "worse"), ("s7", "cannot be told"))
    return Chart(
        id, title, description, tuple(marks), ("", "difference", "range", ""), tuple(table), legend, height=bottom + 20
    )
