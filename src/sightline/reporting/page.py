"""The page of one evaluation: how good, where it is wrong and what kind of wrong, which threshold, and the pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

import sightline
from sightline.evaluation.analysis import Analysis, ClassAnalysis, Evaluation
from sightline.evaluation.coco import shown
from sightline.evaluation.confusion import BACKGROUND
from sightline.evaluation.intervals import Interval
from sightline.evaluation.mistakes import ADVICE, KINDS, MISSED, WHAT_IT_IS
from sightline.reporting.mistakes import FALSE_KINDS, Drawn, counts_in_steps, report_data, score_range
from sightline.view import charts, score_charts
from sightline.view.curves import STEP, panels, smoothed
from sightline.view.pages import (
    Cell,
    Charts,
    Choose,
    Column,
    List,
    Live,
    Matrix,
    Mistakes,
    Page,
    Section,
    Table,
    Text,
    Threshold,
    Tile,
    Tiles,
)

SCRIPT = "report.js"

GROUPS = {"bbox": "boxes", "segm": "masks"}

MATRIX_CLASSES = 40
"""Classes that the confusion matrix shows, those with most errors."""

CURVE_CLASSES = 7
"""Classes with a curve of their own, those with most objects."""


def report_page(
    evaluation: Evaluation,
    drawn: Mapping[str, Drawn],
    thumbnails: Sequence[str],
    *,
    subtitle: str = "",
    footer: str = "",
    metrics: Sequence[Mapping[str, float]] = (),
) -> Page:
    """drawn: what is shown of each kind; metrics: rows of the training's metrics.json."""
    sections: list[Section] = []
    data: dict[str, object] = {"thumbnails": list(thumbnails)}
    for kind, analysis in evaluation.analyses.items():
        sections += kind_sections(kind, analysis)
        data[f"report-{kind}"] = report_data(analysis, drawn[kind])
    if metrics:
        sections.append(Section("Training", (Charts(training_charts(metrics)),)))
    groups = tuple((kind, GROUPS[kind]) for kind in evaluation.analyses)
    title = f"Evaluation of {PurePath(evaluation.name).name or evaluation.name}"
    return Page(title, tuple(sections), subtitle, footer or made_by(), groups, data, (SCRIPT,))


def made_by() -> str:
    return f"Made by sightline {sightline.__version__}."


def kind_sections(kind: str, analysis: Analysis) -> list[Section]:
    """Everything on boxes, or on masks."""
    sections = [
        Section("Summary", summary(analysis), kind),
        Section("Threshold", threshold_blocks(kind, analysis), kind, sticky=True),
        Section("What goes wrong", kinds_table(kind, analysis), kind),
        Section("Classes", class_table(kind, analysis), kind),
    ]
    if len(analysis.classes) > 1:
        sections.append(Section("Which class is taken for which", (matrix(kind, analysis),), kind))
    sections += [
        Section("Pictures with mistakes", (Mistakes(f"{kind}-mistakes", (*FALSE_KINDS, MISSED), class_names(analysis)),), kind),
        Section("Curves", (Charts(curve_charts(kind, analysis)),), kind),
    ]
    return sections


def class_names(analysis: Analysis) -> tuple[str, ...]:
    return analysis.matches.truth.class_names


def summary(analysis: Analysis) -> tuple[Tiles | Text | List | Table, ...]:
    numbers, reached = analysis.scores.numbers(), analysis.best.reached
    tiles = [Tile(name, with_range(analysis.intervals[name])) for name in analysis.intervals]
    tiles += [
        Tile(f"{title} at {analysis.threshold:.3f}", f"{reached[key]:.3f}")
        for key, title in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
        if reached.get(key) is not None
    ]
    counts = analysis.counts()
    sentence = (
        f"{counts['objects']:,} objects in {counts['images']:,} pictures; {counts['detections']:,} detections. "
        f"The range is that of {analysis.intervals['AP'].confidence:.0%} of other such sets of pictures."
    )
    coco = Table(
        f"{analysis.matches.kind}-coco",
        tuple(Column(name, numeric=True, format=".3f") for name in numbers),
        (tuple(numbers.values()),),
    )
    sizes = "COCO's numbers, 0 to 1. s, m, l: of small (up to 32² px²), medium and large (above 96² px²) objects."
    warned = (List(analysis.notes, "warning"),) if analysis.notes else ()
    return (Text(analysis.advice), Tiles(tuple(tiles)), Text(sentence), *warned, Text(sizes), coco)


def with_range(one: Interval) -> str:
    """ "0.512 (0.480–0.544)" """
    if math.isnan(one.value):
        return "-"
    return f"{one.value:.3f}" if math.isnan(one.low) else f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})"


def threshold_blocks(kind: str, analysis: Analysis) -> tuple[Threshold | Text, ...]:
    if not counts_in_steps(analysis):
        return (threshold(kind, analysis),)
    words = (
        f"Exact at {analysis.threshold:.3f}; elsewhere counts move in steps: there are more detections than a page can hold."
    )
    return threshold(kind, analysis), Text(words)


def threshold(kind: str, analysis: Analysis) -> Threshold:
    low, high = score_range(analysis.matches.scores)
    reached = analysis.best.reached
    names = {"true": "right", "false": "wrong", "missed": "missed", "precision": "precision", "recall": "recall", "f1": "F1"}
    formats = dict.fromkeys(("true", "false", "missed"), ",")
    counts = tuple(
        (title, Live(not_none(reached.get(key)), f"all/{key}", formats.get(key, ".3f"))) for key, title in names.items()
    )
    return Threshold(f"{kind}-threshold", low, high, analysis.threshold, counts)


def not_none(value: float | int | None) -> float:
    return math.nan if value is None else value


def kinds_table(kind: str, analysis: Analysis) -> tuple[Text, Table]:
    """The kinds of error, the costliest first."""
    counts, gains = analysis.mistakes.counts(), analysis.mistakes.gains
    at = round(100 * analysis.matches.overlap)
    columns = (
        Column("Kind"),
        Column(f"Costs AP{at}", numeric=True, format=".3f"),
        Column("At this score", numeric=True),
        Column("At any score", numeric=True),
        Column("What it is"),
        Column("What to do"),
    )
    false = analysis.mistakes.kind[analysis.matches.scores >= analysis.threshold]
    rows = []
    for name in sorted(KINDS, key=lambda one: -gains[one]):
        now = analysis.best.reached.get("missed", 0) if name == MISSED else int((false == KINDS.index(name)).sum())
        live = Live(not_none(now), f"kind/{name}")
        rows.append((Choose(name), gains[name], live, counts[name], WHAT_IT_IS[name], ADVICE[name]))
    caption = (
        f"Costs: what AP{at} would gain if no such error were made. The kinds are TIDE's; missed are at this score all objects "
        "that nothing finds, at any score those that no detection comes near."
    )
    return Text(caption), Table(f"{kind}-kinds", columns, tuple(rows))


def class_table(kind: str, analysis: Analysis) -> tuple[Text, Table]:
    columns = (
        Column("Class"),
        Column("AP", numeric=True, format=".3f"),
        Column("Range"),
        Column("AP50", numeric=True, format=".3f"),
        Column("Objects", numeric=True),
        *(Column(title, numeric=True) for title in ("Right", "Wrong", "Missed", "Precision", "Recall", "F1")),
        Column("Best F1 at score", numeric=True, format=".3f"),
    )
    rows = tuple(class_row(index, one) for index, one in enumerate(analysis.classes))
    caption = "Right to F1: of detections with the score chosen above, or more. Click a column's name to sort."
    return Text(caption), Table(f"{kind}-classes", columns, rows, searchable=len(rows) > 12)


def class_row(index: int, one: ClassAnalysis) -> tuple[Cell, ...]:
    ranged = "-" if math.isnan(one.AP.low) else f"{one.AP.low:.3f}–{one.AP.high:.3f}"
    live = [Live(math.nan, f"class/{index}/{key}") for key in ("true", "false", "missed")]
    live += [Live(math.nan, f"class/{index}/{key}", ".3f") for key in ("precision", "recall", "f1")]
    return (one.name, one.AP.value, ranged, one.AP50, one.objects, *live, not_none(one.best.threshold))


def matrix(kind: str, analysis: Analysis) -> Matrix:
    """Of many classes those with most errors."""
    counts = analysis.confusion.counts
    classes = len(counts) - 1
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    kept = np.sort(np.argsort(-wrong[:-1], kind="stable")[:MATRIX_CLASSES])
    places = np.append(kept, classes)
    names = class_names(analysis)
    caption = (
        f"At a score of {analysis.confusion.threshold:.3f} or more, that of the best F1. Rows: labels, columns: predictions; "
        "a number leads to its pictures."
    )
    if len(kept) < classes:
        caption += f" {len(kept)} of {classes} classes, those with most errors; analysis.json has all."
    return Matrix(
        f"{kind}-matrix",
        (*(names[index] for index in kept), f"({BACKGROUND})"),
        (*kept.tolist(), -1),
        tuple(map(tuple, counts[np.ix_(places, places)].tolist())),
        caption,
    )


def curve_charts(kind: str, analysis: Analysis) -> tuple[charts.Chart, ...]:
    """Precision over recall, F1 over the score, calibration, and what became of each class."""
    low, high = score_range(analysis.matches.scores)
    ranked = sorted(analysis.classes, key=lambda one: -one.objects)[:CURVE_CLASSES]
    chosen = ranked if len(analysis.classes) > 1 else []
    overall = [
        ("all classes", analysis.micro, f"F1 {not_none(analysis.best.reached.get('f1')):.3f} at {analysis.threshold:.3f}")
    ]
    curves = overall + [(one.name, one.curve, class_note(one)) for one in chosen]
    at = f"an overlap of {analysis.matches.overlap:g}"
    some = f"; the {len(ranked)} classes with most objects" if len(ranked) < len(analysis.classes) else ""
    over_recall, over_score = [], []
    for name, curve, note in curves:
        over_recall.append(score_charts.Series(name, curve.recall, curve.precision, note))
        over_score.append(score_charts.Series(name, curve.thresholds, curve.f1, note))
    made = [
        score_charts.curves(
            f"{kind}-pr", "Precision and recall", over_recall, across="recall", upwards="precision",
            description=f"Along a curve the least score falls, at {at}{some}. Good curves stay at the top far to the right.",
        ),
        score_charts.curves(
            f"{kind}-f1", "F1 by least score", over_score, across="least score", upwards="F1", low=low, high=high, marked=True,
            description=f"At {at}{some}; the dashed line is the score chosen above. A flat top forgives a wrong choice.",
        ),
    ]  # fmt: skip
    if analysis.calibration is not None and not math.isnan(analysis.calibration.error):
        one = analysis.calibration
        made.append(
            score_charts.calibration(
                f"{kind}-calibration", "Can scores be believed?", one.scores, one.precision, one.counts, one.error
            )
        )
    return (*made, class_chart(kind, analysis))


def class_note(one: ClassAnalysis) -> str:
    if one.best.threshold is None:
        return one.best.why_none
    return f"F1 {shown(not_none(one.best.reached.get('f1')))} at {one.best.threshold:.3f}"


def class_chart(kind: str, analysis: Analysis) -> charts.Chart:
    """What there is of each class, and what was made of it, at the threshold of the best F1."""
    counts = analysis.confusion.counts
    found, labelled, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows = {
        name: {
            "found": int(found[index]),
            "not found": int(labelled[index] - found[index]),
            "wrong detections": int(predicted[index] - found[index]),
        }
        for index, name in enumerate(class_names(analysis))
    }
    return charts.stacked_bars(f"{kind}-distribution", "Found, not found and wrong, by class", rows)


def training_charts(metrics: Sequence[Mapping[str, float]]) -> tuple[charts.Chart, ...]:
    """The panels of `view.curves`."""
    last = max(row[STEP] for row in metrics)
    made = []
    for number, panel in enumerate(panels(metrics)):
        series = [
            score_charts.Series(
                one.name,
                one.steps.astype(float),
                smoothed(one.values) if panel.smooth and not one.measured else one.values,
                f"{one.values[-1]:.4g} at the end",
            )
            for one in panel.curves
        ]
        top = max(float(np.quantile(one.y, 0.98)) for one in series) * 1.1 or 1.0
        title = panel.title.partition(" (")[0]  # without words on its lines, which are others here
        description = f"{last:,.0f} iterations{', smoothed' if panel.smooth else ''}"
        made.append(
            score_charts.curves(
                f"training-{number}", title, series, across=STEP, upwards="", description=description, high=last, top=top
            )
        )
    return tuple(made)
