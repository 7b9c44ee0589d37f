"""SKU-110K's CSV -> Dataset: one row a box, no header, of densely packed shelves (Goldman et al. 2019, arXiv:1904.00853).

image_name,x1,y1,x2,y2,class,image_width,image_height - in pixels, edges counted from 0. `annotations_train.csv`, `..._val.csv`
and `..._test.csv` lie in one folder, the pictures in `images/` beside it.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.images import SUFFIXES
from sightline.labels.markup import number
from sightline.labels.pictures import Shelf, inside
from sightline.labels.report import Imported, ReadOptions, imported
from sightline.names import file_names
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance

NAME = "sku110k"
COLUMNS = ("image_name", "x1", "y1", "x2", "y2", "class", "image_width", "image_height")
FIRST_ROWS = 5
"""Rows that a file is recognised by; some copies begin with a header."""


@dataclass(slots=True)
class Sheet:
    """What was read so far.

    pictures: name of the picture -> (its size, (class name, object) in order)
    files:    name of the picture -> the file that labels it
    spoiled:  names of pictures with a broken row
    """

    pictures: dict[str, tuple[ImageSize, list[tuple[str, Instance]]]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def recognise(path: Path, head: bytes) -> bool:
    """Whether its first rows are eight columns of which the first names a picture, or it is a folder that holds such a file."""
    if path.is_dir():
        return bool(csv_files(path))
    rows = [row for row in csv.reader(head.decode("utf-8", "replace").splitlines()[:FIRST_ROWS]) if row]
    if rows and is_header(rows[0]):
        return True
    return bool(rows) and len(rows[0]) == len(COLUMNS) and names_picture(rows[0][0]) and number(rows[0][1]) is not None


def is_header(row: Sequence[str]) -> bool:
    return tuple(name.strip().lower() for name in row) == COLUMNS


def names_picture(text: str) -> bool:
    return Path(text).suffix.lower() in SUFFIXES


def csv_files(folder: Path) -> list[Path]:
    """The label files of a folder as it is unpacked, in itself or in `annotations` below it."""
    return [path for place in (folder, folder / "annotations") for path in sorted(place.glob("annotations_*.csv"))]


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files together, in the order of their first rows; classes are ordered by name.

    Raises:
        LabelError: a folder holds no such file, or one cannot be read.
    """
    sheet = Sheet()
    for path in paths:
        files = csv_files(path) if path.is_dir() else [path]
        if not files:
            raise LabelError(path, "holds no annotations_*.csv", "Give the CSV files.")
        for file in files:
            read_file(file, sheet)
    sound = {name: entry for name, entry in sheet.pictures.items() if name not in sheet.spoiled}
    names = sorted({name for _, objects in sound.values() for name, _ in objects})
    labels = {name: label for label, name in enumerate(names)}
    safe = file_names(list(sound), keep_folders=True)
    images, pictures = [], {}
    shelves: dict[Path, Shelf] = {}
    for identity, (own, (name, (size, objects))) in enumerate(zip(safe, sound.items(), strict=True), 1):
        instances = tuple(Instance(one.box, labels[kind]) for kind, one in objects)
        images.append(ImageRecord(identity, own, size, instances, source="" if own == name else name))
        file = sheet.files[name]
        shelf = shelves.setdefault(file, Shelf(picture_folders(file, options.images)))
        if (found := shelf.find(name)) is not None:
            pictures[own] = found
    dataset = Dataset(tuple(Category(label, name) for label, name in enumerate(names, 1)), tuple(images))
    return imported(NAME, paths, dataset, problems=sheet.problems, pictures=pictures)


def picture_folders(file: Path, given: Path | None) -> list[Path]:
    """Where the pictures of a label file may lie, the likeliest first."""
    return ([given] if given else []) + [file.parent.parent / "images", file.parent / "images", file.parent]


def read_file(path: Path, sheet: Sheet) -> None:
    """All rows, into `sheet`; what is wrong with one spoils its picture, a box of zero size only itself."""
    own: set[str] = set()
    for line, row in rows_of(path):
        place = f"{path}:{line}"
        try:
            name, size, kind, box = read_row(row, place)
        except LabelError as error:
            sheet.problems.extend(error.problems)
            sheet.spoiled |= {row[0]} if row else set()
            continue
        if name not in own and name in sheet.files:
            fix = "Keep one of the two files; between two sources --on-duplicate chooses."
            sheet.problems.append(Problem(place, f"labels {name} again, after {sheet.files[name]}", fix))
        own.add(name)
        sheet.files.setdefault(name, path)
        known, objects = sheet.pictures.setdefault(name, (size, []))
        if sheet.files[name] != path:
            continue
        if known != size:
            fix = "Give all rows of a picture its one size."
            sheet.problems.append(Problem(place, f"says that {name} is {size}, and rows before say {known}", fix))
            sheet.spoiled.add(name)
        if is_empty(box):
            what = f"has a box of zero size (x1 {box[0]:g}, y1 {box[1]:g}, x2 {box[2]:g}, y2 {box[3]:g})"
            sheet.problems.append(Problem(place, what, "Remove the row."))
            continue
        wrong = fault(box, size)
        if wrong:
            sheet.problems.append(Problem(place, wrong, "Correct x1, y1, x2 and y2, in pixels of this picture."))
            sheet.spoiled.add(name)
            continue
        objects.append((kind, Instance(box, 0)))


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, its columns) of a file, without a header and empty lines.

    Raises:
        LabelError: it is no CSV file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row and not (reader.line_num == 1 and is_header(row)):
                    yield reader.line_num, [text.strip() for text in row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(path, f"is no CSV file ({error})", "Replace the file.") from error


def read_row(row: Sequence[str], place: str) -> tuple[str, ImageSize, str, Box]:
    """(the picture's name, its size, the class, the box as it is written).

    Raises:
        LabelError: all that is wrong with the row.
    """
    if len(row) != len(COLUMNS):
        raise LabelError(place, f"has {len(row)} columns", f"Give {','.join(COLUMNS)}.")
    name, kind = inside(row[0], place), row[5]
    numbers = [number(text) for text in (*row[1:5], *row[6:])]
    keys, texts = COLUMNS[1:5] + COLUMNS[6:], [*row[1:5], *row[6:]]
    wrong = [f"{key} {text!r}" for key, text, found in zip(keys, texts, numbers, strict=True) if found is None]
    x1, y1, x2, y2, width, height = (found or 0.0 for found in numbers)
    if not wrong and (min(width, height) < 1 or width % 1 or height % 1):
        wrong = [f"a size of {row[6]} x {row[7]}"]
    if not kind:
        wrong.append("no class")
    if wrong:
        raise LabelError(place, f"has {', '.join(wrong)}", "Give finite numbers of pixels, and the class.")
    return name, ImageSize(int(height), int(width)), kind, (x1, y1, x2, y2)
