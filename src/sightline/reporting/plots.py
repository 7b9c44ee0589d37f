"""Plots as files, PNG and SVG, for slides and papers: curves, confusion matrix, class distribution, training curves."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sightline.evaluation.analysis import Analysis, Evaluation
from sightline.optional import require
from sightline.reporting.page import CURVE_CLASSES
from sightline.storage import atomic_write
from sightline.view.curves import draw_panel, panels, read_metrics

FORMATS = ("png", "svg")
DOTS_PER_IN = 150
MATRIX_NUMBERS = 25
"""Classes up to which cells of the matrix have their number."""

BAR_CLASSES = 60


def write_plots(evaluation: Evaluation, folder: Path, run: Path | None = None) -> list[Path]:
    """PNG and SVG of each plot in `folder`, names beginning with bbox or segm; with a run folder its training curves, too.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    plots: dict[str, Callable[[Any], None]] = {}
    for kind, analysis in evaluation.analyses.items():
        drawn = {"precision_recall": precision_recall, "f1": f1, "confusion": confusion, "classes": classes}
        plots |= {f"{kind}_{name}": partial(plot, analysis=analysis) for name, plot in drawn.items()}
    metrics = None if run is None else run / "metrics.json"
    rows = read_metrics(metrics) if metrics is not None and metrics.is_file() else []
    if panels(rows):
        plots["training"] = partial(training, rows=rows)
    made = []
    for name, plot in plots.items():
        figure = require("matplotlib.figure", "report", "plots").Figure((8, 5.5), DOTS_PER_IN)
        plot(figure)
        for format in FORMATS:
            path = folder / f"{name}.{format}"
            with atomic_write(path) as file:
                figure.savefig(file, format=format, bbox_inches="tight")
            made.append(path)
    return made


def literally(text: str) -> str:
    """A name as matplotlib shows it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def shown_classes(analysis: Analysis) -> list[Any]:
    """Those with most objects."""
    if len(analysis.classes) == 1:
        return []
    return sorted(analysis.classes, key=lambda one: -one.objects)[:CURVE_CLASSES]


def precision_recall(figure: Any, analysis: Analysis) -> None:
    axes = figure.subplots()
    axes.plot(analysis.micro.recall, analysis.micro.precision, color="black", linewidth=2, label="all classes")
    for one in shown_classes(analysis):
        axes.plot(one.curve.recall, one.curve.precision, label=f"{literally(one.name)}, AP50 {one.AP50:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Precision and recall at an overlap of {analysis.matches.overlap:g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def f1(figure: Any, analysis: Analysis) -> None:
    axes = figure.subplots()
    axes.plot(analysis.micro.thresholds, analysis.micro.f1, color="black", linewidth=2, label="all classes")
    for one in shown_classes(analysis):
        axes.plot(one.curve.thresholds, one.curve.f1, label=literally(one.name))
    axes.axvline(analysis.threshold, color="grey", linestyle="--", label=f"best at {analysis.threshold:.3f}")
    axes.set(xlabel="least score", ylabel="F1", ylim=(0, 1.02), title="F1 by least score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def confusion(figure: Any, analysis: Analysis) -> None:
    """Shares of each row, with counts where there is room."""
    one = analysis.confusion
    side = min(max(6.0, 0.45 * len(one.names) + 2.5), 13.0)
    letters = min(10.0, 600 / len(one.names))
    figure.set_size_inches(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(one.normalised, cmap="Blues", vmin=0, vmax=1)
    names = [literally(name) for name in one.names]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=letters)
    axes.set_yticks(range(len(names)), names, fontsize=letters)
    axes.set(xlabel="predicted", ylabel="labelled", title=f"Confusion at a score of {one.threshold:.3f}")
    if len(names) <= MATRIX_NUMBERS:
        for row, column in np.argwhere(one.counts > 0).tolist():
            colour = "white" if one.normalised[row, column] > 0.5 else "black"
            axes.text(column, row, f"{one.counts[row, column]:,}", ha="center", va="center", color=colour, fontsize="small")
    figure.colorbar(image, ax=axes, label="share of the labels", shrink=0.8)


def classes(figure: Any, analysis: Analysis) -> None:
    """Objects and detections (at the score of the best F1) of each class."""
    counts = analysis.confusion.counts
    order = np.argsort(-counts[:-1].sum(axis=1), kind="stable")[:BAR_CLASSES]
    figure.set_size_inches(8, max(3.0, 0.32 * len(order) + 1.5))
    axes = figure.subplots()
    places = np.arange(len(order))
    axes.barh(places - 0.2, counts.sum(axis=1)[order], 0.4, label="labels")
    axes.barh(places + 0.2, counts.sum(axis=0)[order], 0.4, label=f"detections with a score of {analysis.threshold:.3f}")
    axes.set_yticks(places, [literally(analysis.confusion.names[index]) for index in order.tolist()])
    axes.invert_yaxis()
    some = f" (the {len(order)} with most labels)" if len(order) < len(counts) - 1 else ""
    axes.set(xlabel="objects", title=f"Labels and detections of each class{some}")
    axes.legend(fontsize="small")


def training(figure: Any, rows: list[dict[str, float]]) -> None:
    shown = panels(rows)
    figure.set_size_inches(13, 8.5 if len(shown) > 2 else 4.5)
    columns = 1 if len(shown) == 1 else 2
    grid = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    for axes, panel in zip(grid, shown, strict=False):
        draw_panel(axes, panel)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
