"""SageMaker Ground Truth bounding-box manifests <-> Dataset.

One JSON object a line: `source-ref`, the boxes under a label attribute whose name differs from job to job, and
`<attribute>-metadata`, whose type tells what kind of label it is. A class id means what the class-map of its own line says,
and a class-map holds only the classes of that line: classes are joined by name over all lines of all files.

Several jobs may have worked on one manifest. An adjustment job adds an attribute that supersedes the one it began with; a
verification job adds verdicts about the boxes. The output of video jobs is read by `sequences`.
"""

import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline import storage
from sightline.coco import shorten, xywh
from sightline.errors import LabelError, Problem, nearest
from sightline.labels.merging import OnDuplicate, SamePicture, last_part, names_note, spelling_note, twice_note
from sightline.labels.report import Imported, ImportReport
from sightline.labels.survey import (
    BOXES,
    METADATA,
    Attribute,
    Labels,
    Survey,
    choose_attributes,
    order_classes,
    recognise,
    survey,
)
from sightline.labels.writing import lost, unused_classes
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord, Instance, many_records

__all__ = ["read", "recognise", "write"]

NAME = "ground-truth"

BAD = {"bad", "incorrect", "wrong", "reject", "rejected", "fail", "failed", "poor", "invalid", "inaccurate", "no", "false"}
GOOD = {
    "good",
    "correct",
    "right",
    "accept",
    "accepted",
    "approved",
    "pass",
    "passed",
    "ok",
    "valid",
    "accurate",
    "yes",
    "true",
}
"""What verdicts are called: the owner of a verification job chooses, and these are the usual choices."""


@dataclass(frozen=True, slots=True)
class Column:
    """The labels under one attribute of one file. classes: index of a name in its survey -> label."""

    path: Path
    labels: Labels
    classes: Sequence[int]


@dataclass(slots=True)
class Sheet:
    """The pictures of all files in the order of the lines, not yet built, and what else the lines were.

    columns, rows: one a picture: where its labels are
    same_picture:  how a picture is known again
    places:        source-ref, or its last part where that is how a picture is known again -> its number
    verdicts:      what verification jobs said -> pictures
    rejected:      pictures left out for that
    joined:        number of a picture -> where more of its labels are, by the rule for pictures labelled twice
    """

    on_duplicate: OnDuplicate = "error"
    same_picture: SamePicture = "address"
    columns: list[Column] = field(default_factory=list)
    rows: "array[int]" = field(default_factory=lambda: array("Q"))
    places: dict[str, int] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    below: int = 0
    twice: int = 0
    joined: dict[int, list[tuple[Column, int]]] = field(default_factory=dict)


@many_records()
def read(
    paths: Sequence[Path],
    *,
    label_attributes: Sequence[str] = (),
    drop_rejected: bool = False,
    rejected: Collection[str] = (),
    min_confidence: float | None = None,
    on_duplicate: OnDuplicate = "error",
    same_picture: SamePicture = "address",
    images: Path | None = None,
    download: bool = False,
) -> Imported:
    """The pictures of all manifests together, image ids from 1 in the order of the lines; problems are in the report.

    label_attributes: which labels to take where a manifest has several that are not one chain of adjustments, each file the one
                      that it has; elsewhere the only one is taken, or the newest of the chain
    drop_rejected:    leave out pictures whose boxes a verification job called bad
    rejected:         the verdicts that mean this; none given: the usual words
    min_confidence:   leave out boxes below it. None, the default, is right nearly always: a confidence can be compared within
                      one job only, and in most jobs it is a constant, often 0
    on_duplicate:     what to do with a picture that is labelled twice, in one file or in two
    same_picture:     "name": pictures of two files are the same where their file names are, in whatever bucket or folder
    images:           for video jobs: where the frames, and the files that list them, have been copied to
    download:         for video jobs: fetch from S3 what is not there

    Classes are ordered by their class id when all lines agree on the ids, else by name: neither the order of files nor
    that of lines changes a label.

    Raises:
        LabelError: a file holds no boxes, or several label attributes to choose from.
    """
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise LabelError("min_confidence", f"is {min_confidence}", "Give a number from 0 to 1.")
    surveys = [survey(path, min_confidence=min_confidence) for path in paths]
    if any(found.is_video for found in surveys):
        return read_video(paths, surveys, label_attributes, images, download)
    chains = choose_attributes(paths, [attributes(found) for found in surveys], label_attributes)
    pairs = {
        pair for found, chain in zip(surveys, chains, strict=True) for name in chain for pair in found.attributes[name].pairs
    }
    names, merged = order_classes(pairs)
    labels = {name: names.index(merged.get(name, name)) for _, name in pairs}
    bad = bad_verdicts(surveys, chains, rejected) if drop_rejected else frozenset[str]()
    sheet = Sheet(on_duplicate, same_picture)
    for found, chain in zip(surveys, chains, strict=True):
        classes = [labels.get(name, -1) for name in found.names]  # -1: of an attribute that is not read
        add_file(found, [Column(found.path, found.attributes[name], classes) for name in chain], chain, bad, sheet)
    dataset = Dataset(tuple(Category(number, name) for number, name in enumerate(names, 1)), records(sheet))
    report = ImportReport(
        format=NAME,
        files=tuple(map(str, paths)),
        lines=sum(found.lines for found in surveys),
        images=len(dataset.images),
        boxes=dataset.instance_count,
        empty_images=sum(not image.instances for image in dataset.images),
        unlabelled=len(sheet.unlabelled),
        failed=len(sheet.failed),
        skipped=tuple(sheet.problems),
        notes=tuple(notes(sheet, merged, drop_rejected, min_confidence)),
    )
    return Imported(dataset, report)


def attributes(found: Survey) -> list[Attribute]:
    """The label attributes of a file, for the choice among them."""
    return [
        Attribute(name, labels.count, adjusts=bool(labels.statuses), latest=labels.latest)
        for name, labels in found.attributes.items()
    ]


def read_video(
    paths: Sequence[Path], surveys: Sequence[Survey], label_attributes: Sequence[str], images: Path | None, download: bool
) -> Imported:
    """What `sequences` makes of the files, if all are of video jobs."""
    from sightline.labels.sequences import read as read_sequences

    boxes = [str(found.path) for found in surveys if not found.is_video]
    if boxes:
        videos = ", ".join(str(found.path) for found in surveys if found.is_video)
        what = f"are of a video job, and those of {', '.join(boxes)} of single pictures"
        raise LabelError(videos, f"the labels {what}", "Import them one by one, then the annotations of both together.")
    return read_sequences(paths, label_attributes=label_attributes, images=images, download=download)


def bad_verdicts(surveys: Sequence[Survey], chains: Sequence[Sequence[str]], rejected: Collection[str]) -> frozenset[str]:
    """The verdicts, as written, that mean that boxes are bad.

    Raises:
        LabelError: there are verdicts that could mean anything, or no such verdict as `rejected` names.
    """
    found = Counter(
        name
        for one, chain in zip(surveys, chains, strict=True)
        for (attribute, _), name in one.verdicts.items()
        if attribute in chain
    )
    where = ", ".join(str(one.path) for one in surveys)
    if not found:
        raise LabelError(where, "has no verdicts about the labels that are read", "Leave --drop-rejected out.")
    if rejected:
        wrong = sorted(name for name in rejected if name not in found)
        if wrong:
            raise LabelError(where, f"has no verdict {wrong[0]!r}", nearest(wrong[0], sorted(found)))
        return frozenset(rejected)
    unclear = sorted(name for name in found if name.strip().casefold() not in BAD | GOOD)
    if unclear:
        listed = ", ".join(f"{name!r} ({found[name]:,} lines)" for name in sorted(found))
        what = f"has verdicts that do not say which of them are bad: {listed}"
        raise LabelError(where, what, "Name those that are, with --rejected.")
    return frozenset(name for name in found if name.strip().casefold() in BAD)


def add_file(found: Survey, columns: Sequence[Column], chain: Sequence[str], bad: Collection[str], sheet: Sheet) -> None:
    """The pictures of one manifest, into `sheet`: of each line the labels of the first of `columns` that has some."""
    problems = {line: list(wrong) for line, wrong in found.problems.items()}
    own: dict[str, str] = {}  # name -> address
    for column, name, row in newest(columns, chain):
        labels, line = column.labels, column.labels.lines[row]
        verdict = found.verdicts.get((name, line)) if found.verdicts else None
        if verdict is not None:
            sheet.verdicts[verdict] += 1
            if verdict in bad:
                sheet.rejected += 1
                continue
        sheet.below += labels.below.get(line, 0)
        source = labels.sources[row]
        known_as = source
        if sheet.same_picture == "name":
            known_as = last_part(source)
            other = own.setdefault(known_as, source)
            if other != source:
                problems.setdefault(line, []).append(namesake(f"{found.path}:{line}", source, other))
                continue
        number = sheet.places.setdefault(known_as, len(sheet.rows))
        if number != len(sheet.rows):
            twice = add_again(number, column, row, sheet)
            if twice:
                problems.setdefault(line, []).append(twice)
            continue
        sheet.columns.append(column)
        sheet.rows.append(row)
    for line, wrong in faults(columns):
        problems[line] = [*wrong, *problems.get(line, ())]
    for line, wrong in unread(found, chain, sheet):
        problems[line] = wrong
    sheet.problems.extend(problem for line in sorted(problems) for problem in problems[line])
    if len(columns) > 1:
        sheet.notes.append(chain_note(found, columns, chain))


def namesake(where: str, source: str, other: str) -> Problem:
    """Two pictures of one file cannot be told apart by their names."""
    what = f"labels {source}, and another line {other}: both are called {last_part(source)}"
    return Problem(where, what, "Names do not tell them apart: leave --same-picture name out.")


def add_again(number: int, column: Column, row: int, sheet: Sheet) -> Problem | None:
    """More labels of a picture that has some: what the rule makes of them, or why it cannot."""
    before, first = sheet.columns[number], sheet.rows[number]
    source, where = column.labels.sources[row], f"{column.path}:{column.labels.lines[row]}"
    place = f"{before.path}:{before.labels.lines[first]}"
    other = before.labels.sources[first]
    if sheet.on_duplicate == "error":
        again = f"labels {source} again" if other == source else f"labels {source}, which by its name is {other}"
        return Problem(where, f"{again}, after {place}", "Keep one of the two lines, or choose --on-duplicate.")
    if sheet.on_duplicate == "merge":
        size, first_size = column.labels.sizes[row], before.labels.sizes[first]
        if size != first_size:
            what = f"says {source} is {size}, and {place} says {first_size}: their boxes cannot be joined"
            return Problem(where, what, "Correct one of the two, or choose --on-duplicate first or last.")
        sheet.joined.setdefault(number, []).append((column, row))
    elif sheet.on_duplicate == "last":
        sheet.columns[number], sheet.rows[number] = column, row
    sheet.twice += 1
    return None


def newest(columns: Sequence[Column], chain: Sequence[str]) -> Iterator[tuple[Column, str, int]]:
    """(the column to read, its attribute, the row) of every picture, in the order of the lines."""
    if len(columns) == 1:
        yield from ((columns[0], chain[0], row) for row in range(len(columns[0].labels.lines)))
        return
    decided: dict[int, tuple[Column, str, int] | None] = {}
    for column, name in reversed(list(zip(columns, chain, strict=True))):
        decided.update((line, (column, name, row)) for row, line in enumerate(column.labels.lines))
        decided.update(dict.fromkeys(column.labels.broken))  # broken labels do not bring back those that they replaced
    yield from (found for _, found in sorted(decided.items(), key=lambda item: item[0]) if found is not None)


def faults(columns: Sequence[Column]) -> Iterator[tuple[int, list[Problem]]]:
    """(line, what is wrong with the labels that count there)."""
    superseded: set[int] = set()
    for column in columns:
        yield from ((line, wrong) for line, wrong in column.labels.problems.items() if line not in superseded)
        superseded.update(column.labels.lines, column.labels.broken)


def unread(found: Survey, chain: Sequence[str], sheet: Sheet) -> Iterator[tuple[int, list[Problem]]]:
    """Every line without the labels that are read goes where it belongs: failed, unlabelled, or a problem."""
    others = {line for name, labels in found.attributes.items() if name not in chain for line in labelled(labels)}
    if others:
        others.difference_update(*(labelled(found.attributes[name]) for name in chain))
    for line in sorted(found.bare.keys() | others):
        where = f"{found.path}:{line}"
        reasons = [found.failures[name, line] for name in chain if (name, line) in found.failures]
        wrong = None if reasons or line in others else incomplete(found, line, chain, where)
        if reasons:
            sheet.failed.append(where)
            sheet.reasons[reasons[0]] += 1
        elif wrong:
            yield line, [wrong]
        else:
            sheet.unlabelled.append(where)


def labelled(labels: Labels) -> Iterator[int]:
    yield from labels.lines
    yield from labels.broken


def incomplete(found: Survey, line: int, chain: Sequence[str], where: str) -> Problem | None:
    """Why a line without boxes is not just unlabelled: they are damaged, or it belongs to another task."""
    attribute, kind = found.foreign.get(line, ("", ""))
    if attribute in chain:
        what = f"has a label of type {kind!r} under {attribute!r}"
        return Problem(where, what, f"Only {BOXES} is read; remove it.")
    keys = found.bare[line]
    for name in chain:
        if name in keys:
            missing = name if name + METADATA in keys else name + METADATA
            return Problem(where, f"has no object {missing!r}", "Restore it from the labelling job's output.")
    if kind:
        return Problem(where, f"has no boxes but a label of type {kind}", f"Only {BOXES} is read; remove the line.")
    return None


def chain_note(found: Survey, columns: Sequence[Column], chain: Sequence[str]) -> str:
    """Which labels were taken where jobs have adjusted each other's."""
    labels = columns[0].labels
    statuses = ", ".join(f"{lines:,} {status}" for status, lines in sorted(labels.statuses.items()))
    older = {line for column in columns[1:] for line in column.labels.lines}.difference(labels.lines, labels.broken)
    kept = f"; {len(older):,} lines that it lacks have the labels before" if older else ""
    superseded = ", ".join(map(repr, chain[1:]))
    return f"{found.path}: the adjustment {chain[0]!r} ({statuses}) supersedes {superseded}{kept}."


def records(sheet: Sheet) -> tuple[ImageRecord, ...]:
    """The pictures in the order of the lines, ids from 1, each with a file name of its own."""
    names = file_names(list(sheet.places))
    places = zip(names, sheet.columns, sheet.rows, strict=True)
    found = [record(number, name, column, row) for number, (name, column, row) in enumerate(places, 1)]
    for number, more in sheet.joined.items():
        others = (one for column, row in more for one in record(0, "", column, row).instances)
        found[number] = replace(found[number], instances=tuple(dict.fromkeys([*found[number].instances, *others])))
    return tuple(found)


def record(number: int, name: str, column: Column, row: int) -> ImageRecord:
    labels = column.labels
    begin, end = (labels.ends[row - 1] if row else 0), labels.ends[row]
    numbers = iter(labels.boxes[4 * begin : 4 * end])
    boxes = zip(numbers, numbers, numbers, numbers, strict=True)
    instances = tuple(Instance(box, column.classes[name]) for box, name in zip(boxes, labels.names[begin:end], strict=True))
    return ImageRecord(number, name, labels.sizes[row], instances, labels.sources[row])


def notes(sheet: Sheet, merged: Mapping[str, str], dropping: bool, min_confidence: float | None) -> Iterator[str]:
    for name, plain in sorted(merged.items()):
        yield spelling_note(name, plain)
    yield from sheet.notes
    if sheet.unlabelled:
        yield f"Lines without a label: {listed(sheet.unlabelled)}."
    if sheet.failed:
        told = "; ".join(f"{shorten(reason)} ({lines:,} lines)" for reason, lines in sheet.reasons.most_common(5))
        yield f"Lines whose labelling failed: {listed(sheet.failed)}. Reasons: {told}."
    machine = sum(
        bool(column.labels.machine) and column.labels.lines[row] in column.labels.machine
        for column, row in zip(sheet.columns, sheet.rows, strict=True)
    )
    if machine:
        yield (
            f"Pictures whose labels no human has seen (human-annotated: no): {machine:,}; labelled automatically, or "
            "pre-labels that no adjustment has reached."
        )
    if sheet.twice:
        yield twice_note(sheet.twice, sheet.on_duplicate)
    if sheet.same_picture == "address":
        yield from names_note(sources_by_file(sheet))
    if sheet.verdicts:
        said = ", ".join(f"{name!r} {pictures:,}" for name, pictures in sorted(sheet.verdicts.items()))
        done = f"{sheet.rejected:,} pictures were left out" if dropping else "all are kept; --drop-rejected leaves out bad ones"
        yield f"Verdicts of verification jobs (pictures): {said}; {done}."
    if min_confidence is not None:
        yield (
            f"{sheet.below:,} boxes with a confidence below {min_confidence:g} were left out. What a confidence means differs "
            "from job to job; in many it is a constant."
        )


def sources_by_file(sheet: Sheet) -> list[tuple[str, list[str]]]:
    """(file, the addresses of its pictures) of several files; nothing of a file that is alone."""
    if len({column.path for column in sheet.columns}) < 2:
        return []
    found: dict[str, list[str]] = {}
    for column, row in zip(sheet.columns, sheet.rows, strict=True):
        found.setdefault(str(column.path), []).append(column.labels.sources[row])
    return list(found.items())


def listed(places: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(places) - limit:,} more" if len(places) > limit else ""
    return ", ".join(places[:limit]) + more


def write(
    dataset: Dataset,
    path: Path,
    *,
    prefix: str | None = None,
    attribute: str = "boxes",
    job_name: str = "sightline",
    created: str = "2025-01-01T00:00:00.000000",
) -> list[str]:
    """The dataset as the output manifest of a bounding-box job; what such a manifest cannot hold, a line for each kind.

    prefix: the pictures lie below it (s3://bucket/folder); None: each is where its own s3:// source says

    As in real manifests the class-map of a line holds only the classes on that line; class ids are labels, from 0.

    Raises:
        LabelError: pictures have no s3:// address.
    """
    addresses = addresses_of(dataset, prefix)
    lines = (
        manifest_line(image, dataset, address=address, attribute=attribute, job_name=job_name, created=created)
        for image, address in zip(dataset.images, addresses, strict=True)
    )
    storage.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return [*losses(dataset), *unused_classes(dataset)]


def addresses_of(dataset: Dataset, prefix: str | None) -> list[str]:
    """The s3:// address of each picture, below `prefix` if there is one.

    Raises:
        LabelError: all that have none, or share one.
    """
    if prefix is not None and not storage.is_remote(prefix):
        raise LabelError("--prefix", f"is {prefix!r}", "Give s3://BUCKET/FOLDER.")
    if prefix is not None:
        return [f"{prefix.rstrip('/')}/{image.file_name}" for image in dataset.images]
    found = [image.source for image in dataset.images]
    fix = "Say with --prefix s3://BUCKET/FOLDER where the pictures will be."
    problems = [
        Problem(image.file_name, "has no s3:// address", fix) for image in dataset.images if not storage.is_remote(image.source)
    ]
    again = [source for source, count in Counter(found).items() if count > 1 and storage.is_remote(source)]
    problems += [Problem(source, "is the address of several pictures", fix) for source in again]
    if problems:
        raise LabelError.collected(problems)
    return found


def losses(dataset: Dataset) -> list[str]:
    """What boxes of single objects with their classes do not tell, a line for each kind."""
    counts = Counter[str]()
    for image in dataset.images:
        counts["pictures lose their group"] += bool(image.group)
        for instance in image.instances:
            counts["crowd regions were left out"] += instance.crowd
            counts["outlines and masks become their boxes"] += instance.segmentation is not None and not instance.crowd
    return lost(counts)


def manifest_line(
    image: ImageRecord, dataset: Dataset, *, address: str, attribute: str, job_name: str, created: str
) -> dict[str, object]:
    boxes = [(instance.label, xywh(instance.box)) for instance in image.instances if not instance.crowd]
    labels = sorted({label for label, _ in boxes})
    return {
        "source-ref": address,
        attribute: {
            "image_size": [{"width": image.size.width, "height": image.size.height, "depth": 3}],
            "annotations": [
                {"class_id": label, "top": top, "left": left, "height": height, "width": width}
                for label, (left, top, width, height) in boxes
            ],
        },
        attribute + METADATA: {
            "objects": [{"confidence": 0} for _ in boxes],  # what Ground Truth writes when one worker labels
            "class-map": {str(label): dataset.categories[label].name for label in labels},
            "type": BOXES,
            "human-annotated": "yes",
            "creation-date": created,
            "job-name": f"labeling-job/{job_name}",
        },
    }
