"""How many pictures and boxes of each class a data set or its parts have, as numbers and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sightline.records import Dataset


class Count(NamedTuple):
    """Pictures, and boxes in them."""

    images: int
    boxes: int


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """total: of everything; classes: in label order, images that have the class; empty: images without objects."""

    total: Count
    classes: dict[str, Count]
    empty: int

    @property
    def rows(self) -> list[tuple[str, Count]]:
        """Title and count of every row of a table."""
        return [("all", self.total), *self.classes.items(), ("(without objects)", Count(self.empty, 0))]

    def as_dict(self) -> dict[str, object]:
        return {
            **self.total._asdict(),
            "empty_images": self.empty,
            "classes": {name: count._asdict() for name, count in self.classes.items()},
        }


def count_classes(dataset: Dataset) -> ClassCounts:
    images, boxes = [0] * len(dataset.categories), [0] * len(dataset.categories)
    for image in dataset.images:
        for instance in image.instances:
            boxes[instance.label] += 1
        for label in {instance.label for instance in image.instances}:
            images[label] += 1
    return ClassCounts(
        total=Count(len(dataset.images), dataset.instance_count),
        classes={name: Count(*both) for name, *both in zip(dataset.class_names, images, boxes, strict=True)},
        empty=sum(not image.instances for image in dataset.images),
    )


WIDE = 4  # parts beside each other with their shares; more are shown by their numbers alone


@dataclass(frozen=True, slots=True)
class SplitTable:
    """What a split reached.

    asked:  part -> the share asked for, 0 to 1; a part that was given by name has none
    counts: part -> what it got
    kept:   part -> how many of its pictures an earlier split had put there
    notes:  what to know before the parts are used
    """

    asked: dict[str, float]
    counts: dict[str, ClassCounts]
    kept: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def absent(self) -> list[tuple[str, str]]:
        """(class, part) for every class that occurs, but not in that part."""
        return [
            (name, part)
            for part, counts in self.counts.items()
            for name, count in counts.classes.items()
            if not count.images and any(other.classes[name].images for other in self.counts.values())
        ]

    @property
    def told(self) -> list[str]:
        """The notes, and which classes are missing where."""
        fix = "Label more pictures that show it, group them less, or ask for fewer parts."
        return [
            *self.notes,
            *(f"{name} does not occur in {part}: too few pictures have it. {fix}" for name, part in self.absent),
        ]

    def __str__(self) -> str:
        """A row a class; for every part the pictures and boxes it got, each with its share of all."""
        wide = len(self.counts) <= WIDE
        columns = [[title for title, _ in next(iter(self.counts.values())).rows]]
        columns += [
            [
                cell(count, total) if wide else plain_cell(count)
                for (_, count), total in zip(counts.rows, self.totals, strict=True)
            ]
            for counts in self.counts.values()
        ]
        width = 16 if wide else 7
        header = [["", *map(self.title, self.counts)], ["", *(f"{'images':>{width}} {'boxes':>{width}}" for _ in self.counts)]]
        rows = [*zip(*columns, strict=True)]
        if self.kept:
            rows.append(("(stayed)", *(f"{self.kept.get(part, 0):>{8 if wide else 7},}" for part in self.counts)))
        return "\n".join([*aligned([*header, *rows]), *self.told])

    def title(self, part: str) -> str:
        return f"{part}, {self.asked[part]:.1%} asked" if part in self.asked else f"{part}, given"

    @property
    def totals(self) -> list[Count]:
        """Row by row, over all parts."""
        per_part = [[count for _, count in counts.rows] for counts in self.counts.values()]
        return [Count(*map(sum, zip(*row, strict=True))) for row in zip(*per_part, strict=True)]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "asked": self.asked,
            "parts": {part: counts.as_dict() for part, counts in self.counts.items()},
            "kept": self.kept,
            "notes": self.told,
        }


def split_table(
    parts: Mapping[str, Dataset],
    asked: Mapping[str, float],
    *,
    kept: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
) -> SplitTable:
    counts = {part: count_classes(dataset) for part, dataset in parts.items()}
    return SplitTable(dict(asked), counts, dict(kept or {}), tuple(notes))


def plain_cell(count: Count) -> str:
    return f"{count.images:>7,} {count.boxes:>7,}"


def cell(count: Count, total: Count) -> str:
    """A part's pictures and boxes, each with its share of all."""
    shares = (part / whole if whole else 0.0 for part, whole in zip(count, total, strict=True))
    return " ".join(f"{part:>8,} {share:>7.1%}" for part, share in zip(count, shares, strict=True))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
