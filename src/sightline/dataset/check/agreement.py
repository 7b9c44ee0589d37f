"""How far two labellings of the same pictures agree: boxes of both, boxes of one, classes, and how tightly they fit.

Boxes are paired whatever their class, the closest first, each once. "first" are the labels under check, "other" the second.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sightline.dataset.check.boxes import boxes_of, marks_of
from sightline.dataset.check.findings import Finding, counted
from sightline.dataset.check.subject import Picture, Subject
from sightline.errors import ImageError
from sightline.geometry.boxes import pairwise_iou, turn
from sightline.images import read_header
from sightline.records import Dataset, ImageRecord, Instance

SAME_OBJECT_IOU = 0.5
LOOSE_IOU = 0.65
"""Below it a pair is one object that the two hands saw differently: a part of it left out, a shadow taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """pictures: that both have; matched: boxes of both; mean_iou: of those; same_class: matched with one class.

    confusion: (class here, class there) -> matched boxes, where they differ
    """

    pictures: int
    boxes: int
    other_boxes: int
    matched: int
    mean_iou: float
    same_class: int
    confusion: Mapping[tuple[str, str], int]

    @property
    def missed(self) -> int:
        """Boxes here without a counterpart."""
        return self.boxes - self.matched

    @property
    def added(self) -> int:
        """Boxes that only the other labels have."""
        return self.other_boxes - self.matched

    @property
    def score(self) -> float:
        """2 x matched / (boxes + other boxes), 0 to 1: 1 when every box has its counterpart."""
        total = self.boxes + self.other_boxes
        return 2 * self.matched / total if total else 1.0

    def __str__(self) -> str:
        matched = f"{self.matched:,} of {self.boxes:,} boxes have a counterpart ({self.added:,} more are only there)"
        same = self.same_class / self.matched if self.matched else 1.0
        return (
            f"{self.pictures:,} pictures in both: {matched}, agreement {self.score:.1%}, mean overlap {self.mean_iou:.3f}, "
            f"same class {same:.1%}"
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "pictures": self.pictures,
            "boxes": self.boxes,
            "other_boxes": self.other_boxes,
            "matched": self.matched,
            "only_here": self.missed,
            "only_there": self.added,
            "agreement": self.score,
            "mean_iou": self.mean_iou,
            "same_class": self.same_class,
            "class_differs": [
                {"here": here, "there": there, "boxes": count} for (here, there), count in self.confusion.items()
            ],
        }


def plain(name: str) -> str:
    """A name as it is compared: without case, and composed."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def pair_up(pictures: Sequence[Picture], other: Sequence[ImageRecord]) -> dict[str, ImageRecord]:
    """{picture's name: the same picture there}: by file name, by source, else by a base name that only one has."""
    by_name = {record.file_name: record for record in other}
    by_source = {record.source: record for record in other if record.source}
    bases = Counter(base(record) for record in other)
    mine = Counter(base(picture.record) for picture in pictures)
    by_base = {base(record): record for record in other if bases[base(record)] == 1}
    pairs = {}
    for picture in pictures:
        record = picture.record
        only = by_base.get(base(record)) if mine[base(record)] == 1 else None
        found = by_name.get(record.file_name) or by_source.get(record.source) or only
        if found is not None:
            pairs[picture.name] = found
    return pairs


def base(record: ImageRecord) -> str:
    return (record.source or record.file_name).rpartition("/")[2]


def in_our_classes(other: Dataset, class_names: Sequence[str]) -> tuple[list[ImageRecord], tuple[str, ...]]:
    """(the other's pictures with labels that index the names returned, our names with those that only it has behind)."""
    names = list(class_names)
    known = {plain(name): label for label, name in enumerate(names)}
    labels = []
    for name in other.class_names:
        if plain(name) not in known:
            known[plain(name)] = len(names)
            names.append(name)
        labels.append(known[plain(name)])
    records = [
        replace(image, instances=tuple(replace(one, label=labels[one.label]) for one in image.instances))
        for image in other.images
    ]
    return records, tuple(names)


def match(first: Sequence[Instance], other: Sequence[Instance]) -> list[tuple[int, int, float]]:
    """(i, j, overlap) of boxes that mean one object, the closest first; of two as close, the one of the same class."""
    if not first or not other:
        return []
    overlaps = pairwise_iou(boxes_of(first), boxes_of(other))
    same = np.array([[one.label == two.label for two in other] for one in first])
    order = np.argsort(-(overlaps + 1e-6 * same), axis=None, kind="stable")
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for flat in order.tolist():
        i, j = divmod(flat, len(other))
        if overlaps[i, j] < SAME_OBJECT_IOU:
            break
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            pairs.append((i, j, float(overlaps[i, j])))
    return pairs


def compare(subject: Subject, other: Dataset) -> tuple[Agreement, list[Finding]]:
    """(the figures of all pictures that both have, where they disagree)."""
    records, names = in_our_classes(other, subject.class_names)
    pairs = pair_up(subject.pictures, records)
    findings: list[Finding] = []
    boxes = other_boxes = same_class = 0
    overlaps: list[float] = []
    confusion: Counter[tuple[str, str]] = Counter()
    for picture in subject.pictures:
        if picture.name not in pairs or picture.labels_broken:
            continue
        there = in_our_frame(pairs[picture.name], picture)
        here = picture.record.instances
        matches = match(here, there)
        boxes, other_boxes = boxes + len(here), other_boxes + len(there)
        overlaps += [iou for *_, iou in matches]
        for i, j, _ in matches:
            if here[i].label == there[j].label:
                same_class += 1
            else:
                confusion[names[here[i].label], names[there[j].label]] += 1
        findings += differences(picture, here, there, matches, names)
    compared = sum(picture.name in pairs and not picture.labels_broken for picture in subject.pictures)
    agreement = Agreement(
        pictures=compared,
        boxes=boxes,
        other_boxes=other_boxes,
        matched=len(overlaps),
        mean_iou=float(np.mean(overlaps)) if overlaps else 0.0,
        same_class=same_class,
        confusion=dict(confusion.most_common()),
    )
    return agreement, [*findings, *unpaired(subject, other, len(pairs))]


def in_our_frame(there: ImageRecord, picture: Picture) -> tuple[Instance, ...]:
    """The other's objects in the pixels of the picture as shown here: the other may have labelled it before EXIF's turn."""
    here = picture.record
    transposed = there.size == (here.size.width, here.size.height) != here.size
    orientation = orientation_in(picture.path) if transposed and picture.path is not None else 1
    if orientation < 5:  # those turn by a quarter
        return scaled(there, here)
    return tuple(
        replace(one, box=tuple(turn(np.array([one.box]), there.size, orientation)[0].tolist())) for one in there.instances
    )


def orientation_in(path: Path) -> int:
    """EXIF's orientation; 1 of a picture that cannot be read, which is a finding of its own."""
    try:
        return read_header(path).orientation
    except ImageError:
        return 1


def scaled(there: ImageRecord, here: ImageRecord) -> tuple[Instance, ...]:
    """The other's objects in the pixels of the picture here: the other may have labelled a smaller copy of it."""
    if there.size == here.size:
        return there.instances
    across, down = here.size.width / there.size.width, here.size.height / there.size.height
    return tuple(
        replace(one, box=(one.box[0] * across, one.box[1] * down, one.box[2] * across, one.box[3] * down))
        for one in there.instances
    )


def differences(
    picture: Picture,
    here: Sequence[Instance],
    there: Sequence[Instance],
    matches: Sequence[tuple[int, int, float]],
    names: Sequence[str],
) -> Iterator[Finding]:
    """Where the two labellings of one picture disagree."""
    both = (*marks_of(here, names), *marks_of(there, names, other=True))

    def one(kind: str, numbers: Sequence[int], what: str, weight: float) -> Finding:
        return Finding(
            kind=kind, where=picture.name, numbers=tuple(numbers), what=what, picture=picture.name, marks=both, weight=weight
        )

    only_here = sorted(set(range(len(here))) - {i for i, *_ in matches})
    if only_here:
        what = f"{told(only_here, here, names)} of {counted(len(here), 'box')} here: no counterpart there"
        yield one("not-in-other", [i + 1 for i in only_here], what, len(only_here))
    only_there = sorted(set(range(len(there))) - {j for _, j, _ in matches})
    if only_there:
        what = f"{told(only_there, there, names)} of {counted(len(there), 'box')} there: no counterpart here"
        yield one("only-in-other", [], what, len(only_there))
    for i, j, iou in matches:
        if here[i].label != there[j].label:
            yield one("other-class", [i + 1], f"{names[here[i].label]} here, {names[there[j].label]} there", iou)
        elif iou < LOOSE_IOU:
            yield one("loose-match", [i + 1], f"{names[here[i].label]}: overlaps its counterpart by {iou:.2f}", -iou)


def told(rows: Sequence[int], instances: Sequence[Instance], names: Sequence[str]) -> str:
    """`3 bee, 1 wasp`: how many of which class."""
    counts = Counter(names[instances[row].label] for row in rows)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def unpaired(subject: Subject, other: Dataset, pairs: int) -> Iterator[Finding]:
    here, there = len(subject.pictures) - pairs, len(other.images) - pairs
    if here or there:
        what = f"{counted(here, 'picture')} only here, {there:,} only in the other labels; {pairs:,} are compared"
        yield Finding(kind="unpaired", where="pictures", what=what)
