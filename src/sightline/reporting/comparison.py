"""The page of models on the same pictures: which is better, by how much, how sure that is, and where they disagree."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.evaluation.analysis import Analysis, Evaluation
from sightline.evaluation.coco import TITLES
from sightline.evaluation.comparing import BETTER, NOISE, WORSE, Comparison, Difference, Disagreement, found_at
from sightline.evaluation.mistakes import KINDS, MISSED
from sightline.records import ImageSize
from sightline.reporting.mistakes import Outlines
from sightline.reporting.page import made_by, not_none
from sightline.reporting.thumbnails import place_of, thumbnails
from sightline.view import score_charts
from sightline.view.charts import MAX_BARS, Chart
from sightline.view.pages import Badge, Cell, Charts, Column, Figure, Gallery, List, Outline, Page, Section, Table, Text

PICTURES = 40
"""Where two models disagree most."""

TONES = {BETTER: "good", WORSE: "grave"}

LEGEND = (
    ("own", "an object that only A finds"),
    ("other-solid", "an object that only B finds"),
    ("own-dashed", "a false detection of A"),
    ("other", "a false detection of B"),
    ("faint", "an object that neither finds"),
)

Pair = Mapping[str, Comparison]
"""{kind: ...} of `evaluation.comparing.compare`."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Two analyses of one kind."""

    first: Analysis
    second: Analysis


def comparison_page(evaluations: Sequence[Evaluation], pairs: Sequence[Pair], pictures: Path | None) -> Page:
    """evaluations: the first is what the others are compared with; pairs: of the first with each other one, in order."""
    sections: list[Section] = []
    for number, (other, pair) in enumerate(zip(evaluations[1:], pairs, strict=True)):
        for kind, one in pair.items():
            sides = Sides(evaluations[0].analyses[kind], other.analyses[kind])
            sections += pair_sections(f"{kind}-{number}", one, sides, pictures)
    truth = next(iter(evaluations[0].analyses.values())).matches.truth
    subtitle = f"on {len(truth.image_ids):,} pictures of {truth.name}"
    return Page(f"{len(evaluations)} models compared", tuple(sections), subtitle, made_by())


def pair_sections(id: str, one: Comparison, sides: Sides, pictures: Path | None) -> list[Section]:
    found = TITLES[one.kind].split(":")[0]
    overall = [(name, one.metrics[name]) for name in one.metrics]
    sentence = (
        "A difference is called noise where its range, from drawing the same pictures again and again for both, has 0 in it. "
        "Of many classes some differ by chance."
    )
    sections = [
        Section(
            f"{found}: B against A",
            (
                Text(f"A: {one.names[0]}"),
                Text(f"B: {one.names[1]}"),
                Text(verdict_sentence(one)),
                *((List(one.notes, "warning"),) if one.notes else ()),
                difference_table(f"{id}-metrics", overall),
            ),
        ),
        Section("Classes", (Text(sentence), *class_blocks(id, one))),
        Section("What goes wrong", (Text("What each kind of error costs, and how often it is made."), kinds(id, sides))),
        Section("Curves", (Charts(curves(id, sides)),)),
    ]
    shown = [picture for picture in one.pictures[:PICTURES] if picture.weight]
    if shown:
        told = f"Each model at the score of its best F1: A {sides.first.threshold:.3f}, B {sides.second.threshold:.3f}."
        sections.append(Section("Where they disagree most", (Text(told), gallery(id, shown, sides, pictures))))
    return sections


def verdict_sentence(one: Comparison) -> str:
    difference = one.metrics["AP"]
    if math.isnan(difference.difference.low):
        return "There is too little to tell which is better."
    between = f"AP {difference.difference.value:+.3f}, on other such pictures {ranged(difference)}"
    if difference.verdict in TONES:
        return f"B is {difference.verdict}: {between}."
    return (
        f"The difference is noise: {between}."
        if difference.verdict == NOISE
        else f"Undecided, {difference.verdict}: {between}."
    )


def ranged(one: Difference) -> str:
    low, high = one.difference.low, one.difference.high
    return "-" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}"


def difference_table(id: str, rows: Iterable[tuple[str, Difference]]) -> Table:
    columns = (
        Column(""),
        Column("A", numeric=True, format=".3f"),
        Column("B", numeric=True, format=".3f"),
        Column("B − A", numeric=True, format="+.3f"),
        Column("Range"),
        Column("B is"),
    )
    cells: list[tuple[Cell, ...]] = [
        (name, one.first, one.second, one.difference.value, ranged(one), Badge(one.verdict, TONES.get(one.verdict, "plain")))
        for name, one in rows
    ]
    return Table(id, columns, tuple(cells), searchable=len(cells) > 12)


def class_blocks(id: str, one: Comparison) -> tuple[Charts | Table, ...]:
    """A table of all classes, and a chart of those that differ most."""
    table = difference_table(f"{id}-classes", one.per_class.items())
    defined = [
        score_charts.Spread(name, each.difference.value, each.difference.low, each.difference.high, each.verdict)
        for name, each in one.per_class.items()
        if not math.isnan(each.difference.value)
    ]
    if len(defined) < 2:
        return (table,)
    most = sorted(defined, key=lambda each: -abs(each.value))[:MAX_BARS]
    rows = sorted(most, key=lambda each: -each.value)
    some = "" if len(most) == len(defined) else f" The {len(most)} classes that differ most."
    description = f"AP of B less that of A; strokes: ranges.{some}"
    return table, Charts((score_charts.differences(f"{id}-differences", "Differences of AP", rows, description),))


def kinds(id: str, sides: Sides) -> Table:
    overlap = round(100 * sides.first.matches.overlap)
    columns = (
        Column("Kind"),
        *(Column(f"{name}: costs AP{overlap}", numeric=True, format=".3f") for name in "AB"),
        *(Column(f"{name}: count", numeric=True) for name in "AB"),
    )
    both = (sides.first, sides.second)
    rows: list[tuple[Cell, ...]] = [
        (kind, *(one.mistakes.gains[kind] for one in both), *(count_of(one, kind) for one in both)) for kind in KINDS
    ]
    return Table(f"{id}-kinds", columns, tuple(rows))


def count_of(one: Analysis, kind: str) -> int:
    """Of errors at the score of the best F1."""
    if kind == MISSED:
        return int(not_none(one.best.reached.get("missed", one.micro.objects)))
    return int((one.mistakes.kind[one.matches.scores >= one.threshold] == KINDS.index(kind)).sum())


def curves(id: str, sides: Sides) -> tuple[Chart, ...]:
    both = (("A", sides.first), ("B", sides.second))
    notes = {name: f"best F1 {not_none(one.best.reached.get('f1')):.3f} at {one.threshold:.3f}" for name, one in both}
    recall = [score_charts.Series(name, one.micro.recall, one.micro.precision, notes[name]) for name, one in both]
    score = [score_charts.Series(name, one.micro.thresholds, one.micro.f1, notes[name]) for name, one in both]
    told = "All classes together."
    return (
        score_charts.curves(f"{id}-pr", "Precision and recall", recall, across="recall", upwards="precision", description=told),
        score_charts.curves(f"{id}-f1", "F1 by least score", score, across="least score", upwards="F1", description=told),
    )


def gallery(id: str, shown: Sequence[Disagreement], sides: Sides, pictures: Path | None) -> Gallery:
    truth = sides.first.matches.truth
    rows = [truth.image_ids.index(one.image_id) for one in shown]
    uris = thumbnails([place_of(truth, row, pictures) for row in rows])
    drawn = Outlines(sides.first), Outlines(sides.second)
    figures = []
    for number, (one, row, uri) in enumerate(zip(shown, rows, uris, strict=False)):
        counts = [
            (one.only_first, "found by A only"),
            (one.only_second, "found by B only"),
            (one.false_first, "false of A"),
            (one.false_second, "false of B"),
        ]
        detail = ", ".join(f"{count} {what}" for count, what in counts if count)
        outlines = tuple(outlined(row, sides, drawn))
        size = truth.sizes[row] or ImageSize(
            *(int(max([1.0, *(outline.box[corner] for outline in outlines)])) + 1 for corner in (3, 2))
        )
        name = one.file_name or f"image {one.image_id}"
        figures.append(Figure(f"{id}-picture-{number}", uri, size, f"{name}: {detail}", name, detail=detail, outlines=outlines))
    return Gallery(tuple(figures), legend=LEGEND)


def outlined(row: int, sides: Sides, drawn: tuple[Outlines, Outlines]) -> list[Outline]:
    """What the two do differently in one picture; drawn: the masks of each, where masks are compared."""
    truth = sides.first.matches.truth
    made = []
    found = [found_at(one.matches, one.threshold) for one in (sides.first, sides.second)]
    assert truth.objects.boxes is not None  # labels have boxes, always
    for thing in np.flatnonzero((truth.objects.image == row) & ~truth.crowd).tolist():
        by_first, by_second = bool(found[0][thing]), bool(found[1][thing])
        if by_first and by_second:
            continue
        look = "own" if by_first else "other-solid" if by_second else "faint"
        label = truth.class_names[truth.objects.label[thing]]
        made.append(Outline(corners(truth.objects.boxes[thing].tolist()), label, look=look, path=drawn[0].of_object(thing)))
    for one, masks, look in ((sides.first, drawn[0], "own-dashed"), (sides.second, drawn[1], "other")):
        matches = one.matches
        rows = np.flatnonzero((matches.image == row) & matches.false & (matches.scores >= one.threshold))
        for each in rows.tolist():
            label = f"{truth.class_names[matches.label[each]]} {matches.scores[each]:.2f}"
            made.append(Outline(corners(masks.box(each)), label, look=look, path=masks.of_detection(each)))
    return made


def corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) of left, top, width, height, to a tenth of a pixel."""
    left, top, width, height = box
    return round(left, 1), round(top, 1), round(left + width, 1), round(top + height, 1)
