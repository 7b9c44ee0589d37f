"""Dataset -> Open Images' CSV files, version 5: boxes, and the names of their classes.

Open Images knows its classes by Freebase's MIDs. A class of another name gets a made-up one, which stands in
class-descriptions-boxable.csv like the real ones.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sightline import storage
from sightline.errors import ImageError, LabelError, Problem
from sightline.geometry.boxes import turn
from sightline.images import read_header
from sightline.labels.report import WriteOptions
from sightline.labels.writing import lost, unused_classes
from sightline.names import fold
from sightline.records import Box, Dataset, ImageRecord, ImageSize

BOXES = "annotations-bbox.csv"
CLASSES = "class-descriptions-boxable.csv"
COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax")
FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
UNKNOWN = "-1"
BACK = {6: 8, 8: 6}
"""EXIF orientation -> the one that undoes it; the others undo themselves."""


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """The boxes and the class names; boxes, classes and crowds (as groups) are kept, of pictures that have some.

    Open Images' boxes are of the pixels as stored: those of pictures that are here and that EXIF turns are turned back.

    Raises:
        LabelError: two pictures share an ImageID, or a class name has blanks at its ends.
    """
    identities = image_ids(dataset)
    mids = class_mids(dataset)
    losses = Counter[str]()
    rows = [[*COLUMNS, *FLAGS]]
    for image, identity in zip(dataset.images, identities, strict=True):
        losses["pictures without objects are forgotten"] += not image.instances
        losses["pictures lose their folder"] += bool(image.instances) and "/" in image.file_name
        losses["pictures lose their group"] += bool(image.group)
        losses["outlines or masks became boxes"] += sum(one.segmentation is not None for one in image.instances)
        rows += rows_of(image, identity, mids, options.pictures)
    storage.write_text(to / BOXES, as_csv(rows))
    storage.write_text(to / CLASSES, as_csv([[mid, name] for mid, name in zip(mids, dataset.class_names, strict=True)]))
    return [*lost(losses), *unused_classes(dataset)]


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def image_ids(dataset: Dataset) -> list[str]:
    """Of each picture its name without folder and suffix.

    Raises:
        LabelError: all that two pictures share.
    """
    found = [PurePosixPath(image.file_name).stem for image in dataset.images]
    shared = {name for name, count in Counter(map(fold, found)).items() if count > 1}
    problems = [
        Problem(image.file_name, f"shares the ImageID {name} with another picture", "Rename one of the pictures.")
        for image, name in zip(dataset.images, found, strict=True)
        if fold(name) in shared
    ]
    if problems:
        raise LabelError.collected(problems)
    return found


def class_mids(dataset: Dataset) -> list[str]:
    """A MID for each class: its name, if that is one, else a made-up one.

    Raises:
        LabelError: names that a CSV file gives back as others.
    """
    wrong = [name for name in dataset.class_names if name.strip() != name or any(character < " " for character in name)]
    if wrong:
        fix = "Rename it."
        raise LabelError.collected(
            [Problem(repr(name), "cannot be held by CSV: blanks at its ends or control characters", fix) for name in wrong]
        )
    return [
        name if name.startswith(("/m/", "/g/", "/t/")) else f"/t/own{number:04d}"
        for number, name in enumerate(dataset.class_names, 1)
    ]


def rows_of(image: ImageRecord, identity: str, mids: Sequence[str], pictures: Path | None) -> Iterator[list[str]]:
    orientation = orientation_of(image, pictures)
    for instance in image.instances:
        (x1, y1, x2, y2), size = stored(instance.box, image.size, orientation)
        shares = [f"{value:.15g}" for value in (x1 / size.width, x2 / size.width, y1 / size.height, y2 / size.height)]
        flags = [str(int(instance.crowd)) if name == "IsGroupOf" else UNKNOWN for name in FLAGS]
        yield [identity, "xclick", mids[instance.label], "1", *shares, *flags]


def orientation_of(image: ImageRecord, pictures: Path | None) -> int:
    """How EXIF turns a picture; 1, not at all, where it is not here."""
    path = pictures / image.file_name if pictures is not None else None
    if path is None or not path.is_file():
        return 1
    try:
        header = read_header(path)
    except ImageError:  # placing the pictures tells
        return 1
    return header.orientation if header.shown == image.size else 1


def stored(box: Box, size: ImageSize, orientation: int) -> tuple[Box, ImageSize]:
    """(a box of the picture as shown, in the frame of its pixels as stored; the size of that frame)."""
    if orientation == 1:
        return box, size
    x1, y1, x2, y2 = turn(np.array([box]), size, BACK.get(orientation, orientation))[0].tolist()
    return (x1, y1, x2, y2), ImageSize(size.width, size.height) if orientation >= 5 else size
