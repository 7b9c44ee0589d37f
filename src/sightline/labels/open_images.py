"""Open Images V4 to V7, boxes <-> Dataset: CSV files with one row a box, in any order, up to 15 million of them.

Coordinates are shares of the picture's sides, so that the pictures are needed: ImageID.jpg, by default in the CSV's folder or
below. Boxes refer to the pixels as stored; `Rotation` (degrees counterclockwise) would turn picture and boxes together, and so
changes nothing here. Only rows of pictures that are here, and of the classes asked for, are kept in memory.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sightline.coco import shorten
from sightline.errors import LabelError, Problem, nearest
from sightline.geometry.boxes import fault, is_empty, turn
from sightline.images import SUFFIXES
from sightline.labels.markup import number
from sightline.labels.open_images_writing import write
from sightline.labels.pictures import size_of
from sightline.labels.report import Imported, ReadOptions, imported
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance

__all__ = ["read", "recognise", "write"]

NAME = "open-images"
COORDINATES = ("XMin", "YMin", "XMax", "YMax")
GROUP = "IsGroupOf"
FLAGS = (GROUP, "IsDepiction", "IsInside")  # 1, 0, or -1: unknown
COLUMNS = ("ImageID", "LabelName", *COORDINATES)
CLASSES = re.compile(rb"\s*(\"?/[mgt]/[^,\r\n]+|LabelName,DisplayName\s*)")
IMAGE_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
MAX_LISTED = 1_000
"""Missing pictures that are listed one by one: whoever has 5,000 of 1.7 million does not want to read the others' names."""


Place = tuple[Path, int]
"""File and line: only those of faults become text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One box as written. corners: XMin, YMin, XMax, YMax as shares; name: its class as its MID."""

    place: Place
    name: str
    corners: tuple[float, float, float, float]
    crowd: bool


@dataclass(slots=True)
class Sheet:
    """What was met on the way.

    rows:    image id -> its boxes
    spoiled: image ids that have a broken row
    missing: image ids whose picture is not here -> its first row, where it is listed
    again:   image ids that are in several files -> the first row in the second one
    flags:   objects kept that are depictions, seen from inside, or groups
    turned:  image id -> degrees, where they are not 0
    """

    pictures: Mapping[str, Path]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    missing: dict[str, Place | None] = field(default_factory=dict)
    again: dict[str, Place] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    turned: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is one of Open Images' CSV files, or a folder that holds one with boxes."""
    if path.is_dir():
        return bool(box_files(path))
    return kind_of(head) is not None


def kind_of(head: bytes) -> str | None:
    """What a CSV file is by its first line: `boxes`, `rotations`, `classes`; None: something else."""
    first = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    columns = {name.strip().strip(b'"') for name in first.split(b",")}
    if all(name.encode() in columns for name in COLUMNS):
        return "boxes"
    if {b"ImageID", b"Rotation"} <= columns:
        return "rotations"
    return "classes" if CLASSES.fullmatch(first.split(b",")[0]) or CLASSES.fullmatch(first) else None


def head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check its permissions.") from error


def box_files(folder: Path) -> list[Path]:
    """The box files in `folder` itself and in `annotations` or `labels` below it."""
    places = (folder, folder / "annotations", folder / "labels")
    return [path for place in places for path in sorted(place.glob("*.csv")) if kind_of(head_of(path)) == "boxes"]


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all box files together that have a box of the classes asked for, in the order of the rows.

    Files with class names (class-descriptions-boxable.csv) and rotations (image_ids_and_rotation.csv) are found beside the
    boxes, or given like them. Classes come in the order in which they are asked for, else by name.

    Raises:
        LabelError: no file holds boxes; a class that is asked for is not known; no picture is here.
    """
    boxes, others = sort_files(paths)
    folders = sorted({path.parent for path in boxes})
    beside = [path for folder in folders for path in sorted(folder.glob("*.csv")) if path not in boxes and path not in others]
    helpers = [(path, kind_of(head_of(path))) for path in [*others, *beside]]
    names = read_names([path for path, kind in helpers if kind == "classes"])
    wanted = choose(options.classes, names, boxes[0])
    places = [*([options.images] if options.images else []), *folders]
    sheet = Sheet(index(places))
    for path in boxes:
        read_boxes(path, wanted, sheet)
    if sheet.missing and not sheet.rows:
        told = ", ".join(map(str, places))
        raise LabelError(boxes[0], f"has no picture below {told}", "Name the folder of the pictures, whose sizes are needed.")
    for path, kind in helpers:
        if kind == "rotations":
            read_rotations(path, sheet)
    dataset, pictures = assemble(sheet, names, wanted)
    problems = [*sheet.problems, *doubled(sheet), *missing(sheet)]
    return imported(NAME, paths, dataset, problems=problems, notes=list(notes(sheet, names, dataset)), pictures=pictures)


def apart(paths: Sequence[Path]) -> list[list[Path]]:
    """Each file of boxes by itself, with all files of other kinds, which every one of them may need."""
    boxes, others = sort_files(paths)
    return [[path, *others] for path in boxes]


def sort_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(the files with boxes, the others)."""
    boxes: list[Path] = []
    others: list[Path] = []
    for path in paths:
        if path.is_dir():
            boxes += box_files(path)
        else:
            kind = kind_of(head_of(path))
            if kind is None:
                columns = ", ".join(COLUMNS)
                raise LabelError(path, "is no file of boxes, classes or rotations", f"Give a CSV with the columns {columns}.")
            (boxes if kind == "boxes" else others).append(path)
    if not boxes:
        raise LabelError(", ".join(map(str, paths)), "holds no boxes", "Give a *-annotations-bbox.csv.")
    return boxes, others


def index(folders: Sequence[Path]) -> dict[str, Path]:
    """{image id: its picture} of all pictures below `folders`; one that is there twice is taken once, from the first place.

    Tools that download by class put a picture into the folder of each of its classes.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of a name, not of a path
                if suffix.lower() in SUFFIXES:
                    found.setdefault(stem, Path(place, name))
    return found


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every row that is not blank.

    Raises:
        LabelError: it is no CSV file in UTF-8.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                line = reader.line_num
                if row:
                    yield line, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelError(f"{path}:{line + 1}", f"is no CSV ({error})", "Download the file again.") from error


def read_names(paths: Sequence[Path]) -> dict[str, str]:
    """{MID: name} of all class descriptions, which have a header line since version 7."""
    found: dict[str, str] = {}
    for path in paths:
        for line, row in rows_of(path):
            if len(row) < 2 or not row[0].strip() or not row[1].strip():
                raise LabelError(f"{path}:{line}", f"is no class ({shorten(row)})", "Give its MID and its name.")
            if row[0] != "LabelName":
                found.setdefault(row[0].strip(), row[1].strip())
    return found


def choose(classes: Sequence[str], names: Mapping[str, str], where: Path) -> dict[str, str] | None:
    """{MID: name} of the classes that are asked for, by name or MID, in that order; None: all are.

    Raises:
        LabelError: all that are not known.
    """
    if not classes:
        return None
    chosen: dict[str, str] = {}
    problems: list[Problem] = []
    for asked in classes:
        alike = {mid: name for mid, name in names.items() if asked == mid or asked.casefold() == name.casefold()}
        if not alike and asked.startswith("/"):
            alike = {asked: asked}
        if not alike:
            fix = nearest(asked, sorted(names.values())[:1_000]) if names else "Add class-descriptions-boxable.csv."
            problems.append(Problem(str(where), f"has no class {asked!r}", fix))
        chosen |= alike
    if problems:
        raise LabelError.collected(problems)
    return chosen


def read_boxes(path: Path, wanted: Mapping[str, str] | None, sheet: Sheet) -> None:
    """The rows of one file that are wanted and whose picture is here.

    Raises:
        LabelError: a column is missing.
    """
    rows = rows_of(path)
    _, header = next(rows, (0, []))
    columns = [name.strip() for name in header]
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        raise LabelError(path, f"has no column {', '.join(lacking)}", "Give a *-annotations-bbox.csv.")
    image_at, class_at = columns.index("ImageID"), columns.index("LabelName")
    corners_at = [columns.index(name) for name in COORDINATES]
    flags_at = {name: columns.index(name) for name in FLAGS if name in columns}
    for line, row in rows:
        if len(row) != len(columns):
            image = row[image_at] if len(row) > image_at else ""
            what = f"has {len(row)} fields, not {len(columns)}"
            sheet.problems.append(Problem(f"{path}:{line}", what, "Download the file again."))
            sheet.spoiled.add(image)
            continue
        image, name = row[image_at], row[class_at]
        if wanted is not None and name not in wanted:
            continue
        if image not in sheet.pictures:
            sheet.missing.setdefault(image, (path, line) if len(sheet.missing) < MAX_LISTED else None)
            continue
        before = sheet.rows.get(image)
        if before is not None and before[0].place[0] != path:
            sheet.again.setdefault(image, (path, line))
            continue
        set_flags = [flag for flag, at in flags_at.items() if row[at].strip() == "1"]
        place = (path, line)
        try:
            corners = read_corners([row[at] for at in corners_at], place)
            sheet.rows.setdefault(image, []).append(Row(place, read_name(name, place), corners, GROUP in set_flags))
        except LabelError as error:
            sheet.problems.extend(error.problems)
            sheet.spoiled.add(image)
        else:
            sheet.flags.update(set_flags)


def shown(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def read_name(name: str, place: Place) -> str:
    if not name.strip():
        raise LabelError(shown(place), "has no LabelName", "Download the file again.")
    return name


def read_corners(texts: Sequence[str], place: Place) -> tuple[float, float, float, float]:
    values = [number(text) for text in texts]
    wrong = [f"{key} {shorten(text)}" for key, text, value in zip(COORDINATES, texts, values, strict=True) if value is None]
    if wrong:
        raise LabelError(shown(place), f"has {', '.join(wrong)}", "Give finite numbers, shares of the picture's sides.")
    x1, y1, x2, y2 = (value for value in values if value is not None)
    return x1, y1, x2, y2


def read_rotations(path: Path, sheet: Sheet) -> None:
    """How the pictures that are kept are meant to be turned; `nan` and nothing mean that nobody knows."""
    rows = rows_of(path)
    _, header = next(rows, (0, []))
    columns = [name.strip() for name in header]
    image_at, turned_at = columns.index("ImageID"), columns.index("Rotation")
    for line, row in rows:
        if len(row) <= max(image_at, turned_at) or row[image_at] not in sheet.rows:
            continue
        degrees = number(row[turned_at]) or 0.0
        if degrees % 90:
            what = f"has Rotation {shorten(row[turned_at])}"
            sheet.problems.append(Problem(f"{path}:{line}", what, "Known: 0, 90, 180 and 270 degrees."))
        elif degrees % 360:
            sheet.turned[row[image_at]] = degrees


def assemble(sheet: Sheet, names: Mapping[str, str], wanted: Mapping[str, str] | None) -> tuple[Dataset, dict[str, Path]]:
    """(the dataset, {file name: its picture})."""
    named = wanted
    if named is None:
        found = {row.name for rows in sheet.rows.values() for row in rows}
        named = dict(sorted(((mid, names.get(mid, mid)) for mid in found), key=lambda pair: pair[::-1]))
    classes = list(dict.fromkeys(named.values()))
    labels = {mid: classes.index(name) for mid, name in named.items()}
    images: list[ImageRecord] = []
    pictures: dict[str, Path] = {}
    for image, rows in sheet.rows.items():
        if image in sheet.spoiled:
            continue
        path = sheet.pictures[image]
        try:
            size, instances = read_picture(path, rows, labels, sheet)
        except LabelError as error:
            sheet.problems.extend(error.problems)
            continue
        images.append(ImageRecord(len(images) + 1, path.name, size, instances))
        pictures[path.name] = path
    return Dataset(tuple(Category(identity, name) for identity, name in enumerate(classes, 1)), tuple(images)), pictures


def read_picture(
    path: Path, rows: Sequence[Row], labels: Mapping[str, int], sheet: Sheet
) -> tuple[ImageSize, tuple[Instance, ...]]:
    """(the size as the picture is shown, its objects in that frame).

    Raises:
        LabelError: the picture is none, or boxes are outside.
    """
    header = size_of(path, shown(rows[0].place))
    height, width = header.stored
    instances: list[Instance] = []
    spoiling: list[Problem] = []
    for row in rows:
        x1, y1, x2, y2 = row.corners
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        wrong = fault(box, header.stored)
        if wrong:
            empty = is_empty(box)
            fix = "Remove the row." if empty else "Correct XMin, XMax, YMin and YMax: shares of the picture's sides."
            (sheet.problems if empty else spoiling).append(Problem(shown(row.place), wrong, fix))
            continue
        if header.orientation != 1:
            left, top, right, bottom = turn(np.array([box]), header.stored, header.orientation)[0].tolist()
            box = (left, top, right, bottom)
        instances.append(Instance(box, labels[row.name], row.crowd))
    if spoiling:
        raise LabelError.collected(spoiling)
    return header.shown, tuple(instances)


def doubled(sheet: Sheet) -> Iterator[Problem]:
    """A picture that is in two files keeps the boxes of the first: the versions of Open Images repeat most of them."""
    for image, place in sheet.again.items():
        what = f"labels {image} again, after {shown(sheet.rows[image][0].place)}"
        yield Problem(shown(place), what, "Give one of the two files, or choose --on-duplicate.")


def missing(sheet: Sheet) -> Iterator[Problem]:
    """A problem for each picture that is not here, the first of them by name."""
    fix = "Add the picture or name the folder that holds it."
    for image, place in sheet.missing.items():
        if place is None:
            break
        is_id = IMAGE_ID.fullmatch(image)
        what = f"needs the picture {image}.jpg, which is not here" if is_id else f"has ImageID {shorten(image)}"
        yield Problem(shown(place), what, fix)
    if len(sheet.missing) > MAX_LISTED:
        more = len(sheet.missing) - MAX_LISTED
        yield Problem(NAME, f"{more:,} more pictures are not here", fix)


def notes(sheet: Sheet, names: Mapping[str, str], dataset: Dataset) -> Iterator[str]:
    told = {
        "IsGroupOf": "boxes are of groups of more than five objects: they are crowd regions",
        "IsDepiction": "objects are depictions (drawings, toys, ...): they are kept",
        "IsInside": "objects are seen from their inside: they are kept",
    }
    for flag in FLAGS:
        if sheet.flags[flag]:
            yield f"{sheet.flags[flag]:,} {told[flag]}."
    unnamed = [name for name in dataset.class_names if name.startswith("/") and name not in names.values()]
    if unnamed:
        first = ", ".join(unnamed[:5]) + (", ..." if len(unnamed) > 5 else "")
        yield f"{len(unnamed):,} classes have no name ({first}): add class-descriptions-boxable.csv."
    if sheet.turned:
        yield (
            f"{len(sheet.turned):,} pictures have a Rotation. Their boxes are of the pixels as Open Images distributes them; "
            "look at some if yours are from elsewhere."
        )
