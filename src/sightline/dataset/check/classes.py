"""Classes and parts as a whole: names, frequencies, what is missing where, pictures with odd numbers of boxes."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from sightline.dataset.check.boxes import marks_of
from sightline.dataset.check.findings import Finding, Gravity, counted
from sightline.dataset.check.subject import Picture, Subject
from sightline.dataset.pictures import nfc

RARE_BOXES = 20
"""Fewer boxes of a class than this hardly teach it."""

IMBALANCE = 20.0
"""The most frequent class / the rarest one, in boxes."""

LEAST_PICTURES = 30
"""Fewer pictures than this have no usual number of boxes."""

FENCE = 3.0
"""Interquartile ranges beyond the quartiles, on square roots of counts: counts vary as their root."""

LEAST_SPREAD = 0.5
"""Of the square roots: where nearly all pictures have the same number, a few more are not unusual."""


def findings_of(subject: Subject) -> Iterator[Finding]:
    """All that is odd about classes, parts and numbers of boxes."""
    boxes = count_boxes(subject.pictures, len(subject.class_names))
    yield from similar_names(subject.class_names)
    yield from frequencies(subject.class_names, boxes)
    yield from missing_from_parts(subject, boxes)
    yield from without_objects(subject.pictures)
    yield from densities(subject.pictures, subject.class_names)


def count_boxes(pictures: Sequence[Picture], classes: int) -> list[int]:
    counts = Counter(instance.label for picture in pictures for instance in picture.record.instances)
    return [counts[label] for label in range(classes)]


def similar_names(names: Sequence[str]) -> Iterator[Finding]:
    """Names that are one without case, blanks, - and _."""
    plain: dict[str, list[str]] = {}
    for name in names:
        key = "".join(letter for letter in nfc(name).casefold() if not (letter.isspace() or letter in "-_"))
        plain.setdefault(key or name, []).append(name)
    for alike in plain.values():
        if len(alike) > 1:
            listed = " and ".join(repr(name) for name in alike)
            yield Finding(
                kind="similar-names",
                where="classes",
                what=f"{listed} are {'two' if len(alike) == 2 else len(alike)} classes",
                weight=len(alike),
            )


def frequencies(names: Sequence[str], boxes: Sequence[int]) -> Iterator[Finding]:
    """Classes without boxes, with few, and far fewer than others."""
    for name, count in zip(names, boxes, strict=True):
        if not count:
            yield Finding(kind="unused-class", where=f"class {name}", what="has no box")
        elif count < RARE_BOXES:
            what = f"has {counted(count, 'box')}"
            yield Finding(kind="rare-class", where=f"class {name}", what=what, weight=-count)
    used = [(count, name) for name, count in zip(names, boxes, strict=True) if count]
    if used and max(used)[0] / min(used)[0] >= IMBALANCE:
        (most, frequent), (least, rare) = max(used), min(used)
        what = f"{frequent} has {most:,} boxes, {rare} {least:,}: {most / least:,.0f} times as many"
        yield Finding(kind="imbalance", where="classes", what=what)


def missing_from_parts(subject: Subject, boxes: Sequence[int]) -> Iterator[Finding]:
    """Classes with boxes, but none in a part. Without any in `train` a class cannot be learned."""
    for part in subject.parts:
        pictures = [picture for picture in subject.pictures if picture.part == part]
        here = count_boxes(pictures, len(boxes))
        for name, count, everywhere in zip(subject.class_names, here, boxes, strict=True):
            if everywhere and not count:
                grave = part == "train"
                cost = "it cannot be learned" if grave else "nothing tells how well it is found"
                yield Finding(
                    kind="class-missing",
                    where=f"class {name}",
                    what=f"has {everywhere:,} boxes, none of them in {part}: {cost}",
                    gravity=Gravity.GRAVE if grave else None,
                    weight=everywhere,
                )


def without_objects(pictures: Sequence[Picture]) -> Iterator[Finding]:
    empty = [picture.name for picture in pictures if not picture.record.instances and not picture.labels_broken]
    if empty:
        what = f"{len(empty):,} of {counted(len(pictures), 'picture')} ({len(empty) / len(pictures):.1%}) without an object"
        what += f": {', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}"
        all_empty = len(empty) == len(pictures)
        gravity = Gravity.GRAVE if all_empty else Gravity.WARNING if len(empty) > len(pictures) / 2 else None
        yield Finding(kind="no-objects", where="pictures", what=what, gravity=gravity, picture=empty[0])


def densities(pictures: Sequence[Picture], class_names: Sequence[str]) -> Iterator[Finding]:
    """Pictures whose number of boxes lies far from the others'."""
    labelled = [picture for picture in pictures if picture.record.instances]
    if len(labelled) < LEAST_PICTURES:
        return
    roots = np.sqrt([len(picture.record.instances) for picture in labelled])
    low, middle, high = np.percentile(roots, [25, 50, 75])
    spread = FENCE * max(high - low, LEAST_SPREAD)
    for index in np.flatnonzero((roots > high + spread) | (roots < low - spread)).tolist():
        picture, many = labelled[index], roots[index] > middle
        number = len(picture.record.instances)
        yield Finding(
            kind="crowded-picture" if many else "sparse-picture",
            where=picture.name,
            what=f"has {counted(number, 'box')}; half of all pictures have {middle**2:.0f} or fewer",
            picture=picture.name,
            marks=marks_of(picture.record.instances, class_names),
            weight=float(number if many else -number),
        )
