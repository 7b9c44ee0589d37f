"""The curves of a training: `metrics.json` in, one PNG out, with losses, scores and learning rate over the iterations.

A row is one line of metrics.json: {"iteration": 19, "total_loss": ..., "lr": ...} every 20 steps, and {"iteration": 499,
"bbox/AP": ..., "val_loss": ...} for every evaluation. Detectron2's own files have the same keys.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.optional import require
from sightline.storage import atomic_write

STEP = "iteration"

SCORES = ("AP", "AP50", "AP75")
"""Of every kind (bbox, segm): what is drawn of the dozens of numbers that an evaluation gives."""

MOST_OTHER_SCORES = 6
"""Curves of a training that has none of these: proposals have recalls only."""

SMOOTHED_SHARE = 1 / 40
"""Half of the window over which losses are averaged / all rows: the trend shows, and a change of the rate stays a change."""

BEGINNING_SHARE = 1 / 20
"""Of a curve: what it has there may leave the panel, because the first losses are so high that all others would lie flat."""

SIZE_IN, DOTS_PER_IN = (13.0, 8.5), 100


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """(P,) iterations, ascending, and (P,) values. measured: in an evaluation, so drawn with its points."""

    name: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    measured: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One set of axes. smooth: the curves are noisy, so their trend is drawn on top."""

    title: str
    curves: tuple[Curve, ...]
    smooth: bool = False


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.json, one an iteration, ascending.

    Lines that are no JSON (cut by a kill) are passed over. Where the iterations go back, a run was resumed: what the later
    lines say replaces everything from there on.

    Raises:
        SightlineError: there is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SightlineError(path, f"cannot be read ({error.strerror})", "Name the metrics.json of a run.") from error
    rows: list[dict[str, float]] = []
    for numbers in filter(None, map(numbers_of, lines)):
        while rows and rows[-1][STEP] > numbers[STEP]:
            rows.pop()
        if rows and rows[-1][STEP] == numbers[STEP]:  # an evaluation's beside a report's, or the same again
            rows[-1] |= numbers
        else:
            rows.append(numbers)
    return rows


def numbers_of(line: str) -> dict[str, float]:
    """The numbers of one line; empty, where it is none of ours."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(content, dict) or not isinstance(content.get(STEP), int):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, int | float)}


def panels(rows: Sequence[Mapping[str, float]]) -> list[Panel]:
    """What there is to draw: losses, their parts, scores, learning rate; none of what the rows do not have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    parts = [name for name in names if name.startswith(("loss_", "val_loss_"))]
    found = [
        Panel("Loss", curves(rows, ("total_loss", "val_loss")), smooth=True),
        Panel("Parts of the loss (dashed: in validation)", curves(rows, parts), smooth=True),
        Panel("Scores", curves(rows, scores(names))),
        Panel("Learning rate", curves(rows, ("lr",))),
    ]
    return [panel for panel in found if panel.curves]


def scores(names: Sequence[str]) -> list[str]:
    """Those of an evaluation's numbers that are drawn, classes not one by one."""
    of_all = [name for name in names if "/" in name and "-" not in name]
    return [name for name in of_all if name.split("/")[-1] in SCORES] or of_all[:MOST_OTHER_SCORES]


def curves(rows: Sequence[Mapping[str, float]], names: Iterable[str]) -> tuple[Curve, ...]:
    """Those of `names` that any row has, without their nans and infinities."""
    found = []
    for name in names:
        points = [(row[STEP], row[name]) for row in rows if np.isfinite(row.get(name, np.nan))]
        if points:
            steps, values = zip(*points, strict=True)
            measured = "/" in name or name.startswith("val_")
            found.append(Curve(name, np.array(steps, np.int64), np.array(values, np.float64), measured))
    return tuple(found)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) means of each value and its neighbours, as many on either side: the ends are averaged over less, and not bent."""
    reach = int(len(values) * SMOOTHED_SHARE)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    beside = np.minimum(reach, np.minimum(index, index[::-1]))
    means: NDArray[np.float64] = (sums[index + beside + 1] - sums[index - beside]) / (2 * beside + 1)
    return means


def draw_curves(rows: Sequence[Mapping[str, float]], to: Path, title: str = "") -> None:
    """The curves of `rows` as a PNG of 1300 x 850 px at `to`, whole or not at all.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        SightlineError: the rows hold nothing to draw.
    """
    shown = panels(rows)
    if not shown:
        raise SightlineError(to.name, "there are no figures to draw", "Train at least one step.")
    # Figure without pyplot: no window, no backend to choose, no figure kept for the rest of the process.
    figure = require("matplotlib.figure", "report", "training curves").Figure(SIZE_IN, DOTS_PER_IN, layout="constrained")
    columns = 1 if len(shown) == 1 else 2
    grid = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    last = max(row[STEP] for row in rows)
    for axes, panel in zip(grid, shown, strict=False):
        draw_panel(axes, panel)
        axes.set_xlim(0, max(last, 1) * 1.02)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, parse_math=False)  # a folder may be called $1
    with atomic_write(to) as file:
        figure.savefig(file, format="png")


def draw_panel(axes: Any, panel: Panel) -> None:
    """One panel on matplotlib's axes. A part of the loss and the same in validation have one colour, and one entry."""
    colours: dict[str, str] = {}
    for curve in panel.curves:
        part = curve.name.removeprefix("val_")
        label = "" if part in colours else legend(curve)
        colour = colours.setdefault(part, f"C{len(colours) % 10}")
        if curve.measured:
            axes.plot(curve.steps, curve.values, "o--" if panel.smooth else "o-", markersize=3.5, color=colour, label=label)
        elif panel.smooth:
            axes.plot(curve.steps, curve.values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(curve.steps, smoothed(curve.values), color=colour, label=label)
        else:
            axes.plot(curve.steps, curve.values, color=colour, label=label)
    axes.set_title(panel.title)
    axes.set_xlabel(STEP)
    axes.set_ylim(0, top_of(panel))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def top_of(panel: Panel) -> float:
    """The value up to which a panel goes: a little more than its highest; of losses, than the highest after the beginning."""
    share = BEGINNING_SHARE if panel.smooth else 0
    highest = max(float(curve.values[int(len(curve.values) * share) :].max()) for curve in panel.curves)
    return 1.1 * highest if highest > 0 else 1.0


def legend(curve: Curve) -> str:
    """A measured curve tells its best value, too: the lowest loss, the highest score."""
    if not curve.measured:
        return curve.name
    best = int(curve.values.argmin() if curve.name.startswith("val_") else curve.values.argmax())
    return f"{curve.name}, best {curve.values[best]:.3g} at {curve.steps[best]}"
