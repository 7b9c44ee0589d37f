"""The page of `sightline dataset check`: what was found, the pictures it was found in, and charts of the data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.records import ImageSize
from sightline.view import charts
from sightline.view.pages import (
    Badge,
    Cell,
    Charts,
    Column,
    Figure,
    Gallery,
    Link,
    Outline,
    Page,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    render,
)

COLUMNS = (
    Column("Gravity", filter=True),
    Column("Kind", filter=True),
    Column("Where"),
    Column("What"),
    Column("How to fix it"),
    Column("Picture"),
)
FINDINGS = "findings"


@dataclass(frozen=True, slots=True)
class Shown:
    """A thumbnail. uri: from `pages.picture_uri`; size: of the picture as shown, which the outlines refer to."""

    uri: str
    size: ImageSize
    name: str
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. kind: its title; shown: its pictures, if it has any on the page."""

    gravity: str
    kind: str
    where: str
    what: str
    fix: str
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What charts are drawn from; as in the report of the check.

    classes:     class -> part -> boxes
    box_sizes:   (P, 2) width and height in px; box_labels: (P,) index into the classes
    positions:   (R, C) share of all boxes that cover the cell
    per_picture: how many pictures have 0, 1, 2, ... boxes
    """

    classes: Mapping[str, Mapping[str, int]]
    box_sizes: NDArray[np.float64]
    box_labels: NDArray[np.int64]
    positions: NDArray[np.float64]
    per_picture: Sequence[int]


def check_page(
    rows: Sequence[Row],
    numbers: Numbers,
    *,
    title: str,
    subtitle: str,
    counts: Mapping[str, int],
    tables: Sequence[tuple[str, str, Table]] = (),
    footer: str = "",
) -> str:
    """The page's HTML.

    rows:   the gravest first
    counts: gravity -> how many findings there are of it, among `rows` or not
    tables: (title, sentence, table) of sections of their own: anchors, agreement
    """
    tiles = Tiles(tuple(Tile(name, f"{count:,}", name if count else "good") for name, count in counts.items()))
    sections = [Section("Found", (tiles, *findings_blocks(rows, sum(counts.values()))))]
    figures = gallery(rows)
    if figures.figures:
        shown = f"The worst of each kind: {len(figures.figures):,} pictures. The filters above act here, too. "
        sections.append(Section("Pictures", (Text(shown), figures)))
    sections += [Section(name, (Text(sentence), table)) for name, sentence, table in tables]
    sections.append(Section("The data set", (Charts(tuple(draw(numbers))),)))
    return render(Page(title, tuple(sections), subtitle, footer))


def findings_blocks(rows: Sequence[Row], total: int) -> tuple[Text | Table, ...]:
    if not rows:
        return (Text("Nothing was found."),)
    table = Table(FINDINGS, COLUMNS, tuple(cells(row, number) for number, row in enumerate(rows)), searchable=True)
    if total == len(rows):
        return (table,)
    return (Text(f"{len(rows):,} of {total:,} findings are shown, the worst of each kind; findings.json has all."), table)


def cells(row: Row, number: int) -> tuple[Cell, ...]:
    picture: Cell = Link("see it", f"picture-{number}-0") if row.shown else ""
    return Badge(row.gravity, row.gravity), row.kind, row.where, row.what, row.fix, picture


def gallery(rows: Sequence[Row]) -> Gallery:
    figures = []
    for number, row in enumerate(rows):
        for place, one in enumerate(row.shown):
            figures.append(
                Figure(
                    id=f"picture-{number}-{place}",
                    uri=one.uri,
                    size=one.size,
                    alt=f"{one.name}: {row.kind}",
                    caption=one.name if place else row.where,
                    badge=Badge(row.kind, row.gravity),
                    detail=row.what,
                    outlines=one.outlines,
                    values=(("Gravity", row.gravity), ("Kind", row.kind)),
                )
            )
    return Gallery(tuple(figures), follows=FINDINGS)


def draw(numbers: Numbers) -> list[charts.Chart]:
    names = list(numbers.classes)
    made = [charts.stacked_bars("classes", "Boxes of each class", numbers.classes)]
    if len(numbers.box_sizes):
        made += [
            charts.scatter(
                "sizes",
                "Sizes of boxes",
                numbers.box_sizes,
                numbers.box_labels,
                names,
                across="width, px",
                upwards="height, px",
            ),
            charts.heat_map("positions", "Where boxes are in their pictures", numbers.positions, unit="of all boxes"),
        ]
    return [
        *made,
        charts.columns("per-picture", "Boxes in a picture", numbers.per_picture, across="boxes", upwards="pictures"),
    ]
