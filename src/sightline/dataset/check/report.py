"""The whole check as one result: findings, figures for charts, and how both are told as text and JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.dataset.check.agreement import Agreement
from sightline.dataset.check.anchors import Fit
from sightline.dataset.check.findings import KINDS, Finding, Gravity, by_gravity, by_kind, counted
from sightline.dataset.check.subject import Picture

SHOWN_PER_KIND = 3
"""Findings of each kind in the text: nobody reads 500 lines."""

GRID = 24
"""Cells on a side of the heat map of positions."""

MAX_POINTS = 4_000
"""Boxes in the scatter of sizes; of more, an even sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What charts are drawn from.

    classes:   class -> part ("" without a split) -> boxes
    box_sizes: (P, 2) width and height in px, at most MAX_POINTS of all boxes; box_labels: (P,) their classes
    positions: (GRID, GRID) share of all boxes that cover the cell, row by row from the top
    per_picture: how many pictures have 0, 1, 2, ... boxes
    """

    classes: dict[str, dict[str, int]]
    box_sizes: NDArray[np.float64]
    box_labels: NDArray[np.int64]
    positions: NDArray[np.float64]
    per_picture: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """What `sightline dataset check` found. findings: in the order of `in_order`.

    with_pictures: False: there are labels only, nothing about pictures could be checked
    config:        what the anchors were of; empty: not asked
    """

    folder: Path
    pictures: int
    boxes: int
    class_names: tuple[str, ...]
    parts: dict[str, int]
    findings: tuple[Finding, ...]
    figures: Figures
    with_pictures: bool
    config: str = ""
    fits: tuple[Fit, ...] = ()
    against: str = ""
    agreement: Agreement | None = None

    @property
    def grave(self) -> int:
        return by_gravity(self.findings)[Gravity.GRAVE]

    def __str__(self) -> str:
        """Counts of each kind, then the worst few of each."""
        lines = [self.headline()]
        for kind, found in by_kind(self.findings).items():
            for gravity in Gravity:
                some = [one for one in found if one.how_grave is gravity]
                if some:
                    lines += ["", f"{gravity.value}: {KINDS[kind].title} ({len(some):,})"]
                    lines += [f"  {one}" for one in some[:SHOWN_PER_KIND]]
                    lines += [f"  ... and {len(some) - SHOWN_PER_KIND:,} more"] if len(some) > SHOWN_PER_KIND else []
                    fixes = list(dict.fromkeys(one.remedy for one in some[:SHOWN_PER_KIND]))
                    lines += [f"  -> {fix}" for fix in fixes]
        if self.agreement is not None:
            lines += ["", f"against {self.against}: {self.agreement}"]
        if self.fits:
            lines += [
                "",
                f"anchors of {self.config}: class, boxes tried, with a fitting anchor, with their best only, with none",
            ]
            lines += [
                f"  {fit.name:<24} {fit.boxes:>8,} {fit.matched:>7.1%} {fit.hardly:>7.1%} {fit.never:>7.1%}"
                for fit in self.fits
            ]
        return "\n".join(lines)

    def headline(self) -> str:
        counts = ", ".join(
            f"{count:,} grave" if gravity is Gravity.GRAVE else counted(count, gravity.value)
            for gravity, count in by_gravity(self.findings).items()
        )
        parts = f" ({', '.join(f'{name} {count:,}' for name, count in self.parts.items())})" if self.parts else ""
        only = "" if self.with_pictures else "; labels only, no picture was looked at"
        return (
            f"{self.folder}: {counted(self.pictures, 'picture')}{parts}, {counted(self.boxes, 'box')} of "
            f"{counted(len(self.class_names), 'class')}{only}\nfound: {counts}"
        )

    def as_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        kinds = {kind: len(found) for kind, found in by_kind(self.findings).items()}
        return {
            "folder": str(self.folder),
            "pictures": self.pictures,
            "boxes": self.boxes,
            "with_pictures": self.with_pictures,
            "classes": self.figures.classes,
            "parts": self.parts,
            "counts": {gravity.value: count for gravity, count in by_gravity(self.findings).items()},
            "kinds": kinds,
            "findings": [one.as_dict() for one in self.findings],
            "anchors": {"config": self.config, "classes": [fit.as_dict() for fit in self.fits]} if self.config else None,
            "agreement": {"against": self.against, **self.agreement.as_dict()} if self.agreement else None,
        }


def figures_of(pictures: Sequence[Picture], class_names: Sequence[str], parts: Sequence[str]) -> Figures:
    """The figures of all sound boxes."""
    columns = [*parts, ""] if parts else [""]
    counts = {name: dict.fromkeys(columns, 0) for name in class_names}
    heat = np.zeros((GRID + 1, GRID + 1))
    total = sum(len(picture.record.instances) for picture in pictures)
    step = max(-(-total // MAX_POINTS), 1)
    sizes: list[tuple[float, float]] = []
    labels: list[int] = []
    per_picture: dict[int, int] = {}
    number = 0
    for picture in pictures:
        record = picture.record
        per_picture[len(record.instances)] = per_picture.get(len(record.instances), 0) + 1
        for instance in record.instances:
            x1, y1, x2, y2 = instance.box
            counts[class_names[instance.label]][picture.part] += 1
            left, right = cells(x1, x2, record.size.width)
            top, bottom = cells(y1, y2, record.size.height)
            heat[top, left] += 1  # corners of a summed-area table, turned around: one box costs four additions
            heat[bottom, right] += 1
            heat[top, right] -= 1
            heat[bottom, left] -= 1
            if number % step == 0:
                sizes.append((x2 - x1, y2 - y1))
                labels.append(instance.label)
            number += 1
    if parts and not any(of_part[""] for of_part in counts.values()):
        counts = {name: {part: count for part, count in of_part.items() if part} for name, of_part in counts.items()}
    return Figures(
        classes=counts,
        box_sizes=np.array(sizes, dtype=np.float64).reshape(-1, 2),
        box_labels=np.array(labels, dtype=np.int64),
        positions=heat.cumsum(axis=0).cumsum(axis=1)[:GRID, :GRID] / max(total, 1),
        per_picture=tuple(per_picture.get(boxes, 0) for boxes in range(max(per_picture, default=0) + 1)),
    )


def cells(low: float, high: float, length: int) -> tuple[int, int]:
    """The first cell that an interval covers, and the first after it."""
    first = min(max(int(low / length * GRID), 0), GRID - 1)
    return first, min(max(int(-(-high * GRID // length)), first + 1), GRID)
