"""A report's folder: index.html, and plots as files on request."""

from collections.abc import Sequence
from pathlib import Path

from sightline.evaluation.analysis import Evaluation
from sightline.evaluation.results import Truth
from sightline.reporting.comparison import Pair, comparison_page
from sightline.reporting.mistakes import MAX_PICTURES, Drawn, worst_pictures
from sightline.reporting.page import report_page
from sightline.reporting.thumbnails import place_of, thumbnails
from sightline.storage import write_text
from sightline.view.curves import read_metrics
from sightline.view.pages import render

PAGE = "index.html"
METRICS = "metrics.json"


def write_report(evaluation: Evaluation, folder: Path, *, pictures: Path | None = None, run: Path | None = None) -> Path:
    """The page of an evaluation with an analysis, in `folder`; its path.

    pictures: the folder that the truth's file names are relative to; without it, boxes are drawn on grey
    run:      the run folder whose training curves are shown, too
    """
    worst = {kind: worst_pictures(one).tolist() for kind, one in evaluation.analyses.items()}
    rows = list(dict.fromkeys(row for of_kind in worst.values() for row in of_kind[:MAX_PICTURES]))
    truth = next(iter(evaluation.analyses.values())).matches.truth
    made = thumbnails([place_of(truth, row, pictures) for row in rows])
    places = {row: index for index, row in enumerate(rows[: len(made)])}
    drawn = {}
    for kind, of_kind in worst.items():
        kept = tuple(row for row in of_kind[:MAX_PICTURES] if row in places)
        drawn[kind] = Drawn(kept, {row: places[row] for row in kept if made[places[row]]}, len(of_kind) - len(kept))
    metrics = training_rows(run)
    page = report_page(evaluation, drawn, made, subtitle=subtitle(truth, evaluation), metrics=metrics)
    write_text(folder / PAGE, render(page))
    return folder / PAGE


def write_comparison(evaluations: Sequence[Evaluation], pairs: Sequence[Pair], folder: Path, pictures: Path | None) -> Path:
    """The page of models on the same pictures, in `folder`; its path."""
    write_text(folder / PAGE, render(comparison_page(evaluations, pairs, pictures)))
    return folder / PAGE


def subtitle(truth: Truth, evaluation: Evaluation) -> str:
    overlap = next(iter(evaluation.analyses.values())).matches.overlap
    images = f"{len(truth.image_ids):,} pictures of {truth.name}"
    return f"{evaluation.name} on {images}; an object is found from an overlap of {overlap:g} on"


def training_rows(run: Path | None) -> Sequence[dict[str, float]]:
    """Of a run folder's metrics.json; none where there is none."""
    return read_metrics(run / METRICS) if run is not None and (run / METRICS).is_file() else ()
