"""What is checked: the pictures of all parts of a data set, each with the labels that training would take.

Reading forgives: what `coco.read` refuses becomes a finding, so that one bad box does not hide all others.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import coco, storage
from sightline.dataset.check.findings import Finding, Mark, counted
from sightline.dataset.folder import ALL, annotations_file, parts_of
from sightline.dataset.pictures import beside
from sightline.errors import DatasetError, LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.memory import read_whole
from sightline.records import Box, Category, Dataset, ImageRecord

FOLD = re.compile(r"fold\d+[-_]", re.IGNORECASE)
"""Parts of a cross-validation share their pictures on purpose; the whole data set is checked in their place."""

ANNOTATION = re.compile(r"annotations\[(\d+)\]")
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture under check.

    name:    unique, for people: the file name, with the part before it where file names repeat
    path:    None: the data set has labels only
    part:    of the split; empty when there is none
    labels_broken: its record lacks boxes that the file has, because some cannot be used
    """

    name: str
    path: Path | None
    record: ImageRecord
    part: str = ""
    labels_broken: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """findings: what was wrong while reading."""

    folder: Path
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    parts: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def dataset(self) -> Dataset:
        """All pictures with the classes of all parts."""
        categories = tuple(Category(number, name) for number, name in enumerate(self.class_names, 1))
        return Dataset(categories, tuple(picture.record for picture in self.pictures))


@dataclass(frozen=True, slots=True)
class Part:
    """One annotation file as read. broken: ids of the pictures of which some labels cannot be used."""

    name: str
    path: Path
    images_dir: Path | None
    dataset: Dataset
    broken: frozenset[int]
    findings: tuple[Finding, ...]


def read_subject(folder: Path) -> Subject:
    """The pictures of every part of a dataset folder or COCO folder, or of one COCO file.

    The labels of a part are checked rather than those of `all`, because training takes them; of `all`, those of pictures in no
    part.

    Raises:
        DatasetError: the folder holds no data set.
        LabelError: a file is not COCO at all.
    """
    parts = [
        read_part(name, path, own) for name, path, own in part_files(Path(storage.local_path(folder, "Reading a data set")))
    ]
    names = tuple(dict.fromkeys(name for part in parts for name in part.dataset.class_names))
    split = tuple(part.name for part in parts if part.name != ALL)
    findings = [finding for part in parts for finding in part.findings]
    findings += different_classes(parts)
    keep_folders = len({part.images_dir for part in parts}) > 1
    pictures: dict[str, Picture] = {}
    for part in parts:
        labels = [names.index(name) for name in part.dataset.class_names]
        for record in part.dataset.images:
            name = f"{part.name}/{record.file_name}" if keep_folders else record.file_name
            if name in pictures:
                findings += again(pictures[name], part)
                continue
            instances = tuple(replace(instance, label=labels[instance.label]) for instance in record.instances)
            path = None if part.images_dir is None else part.images_dir / record.file_name
            in_part = "" if part.name == ALL else part.name
            pictures[name] = Picture(name, path, replace(record, instances=instances), in_part, record.id in part.broken)
    findings += in_no_part(list(pictures.values())) if split else []
    if not pictures:
        raise DatasetError(folder, "has no pictures in its labels", "Import a data set first.")
    return Subject(folder, names, tuple(pictures.values()), split, tuple(unique(findings)))


def part_files(folder: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """(part, its file, its pictures' folder where it is known), `all` last."""
    if folder.is_file():
        yield ALL, folder, None
        return
    found: dict[Path, str] = {}
    for name, path in parts_of(folder):
        found.setdefault(path, name)
    if not found:
        fix = "Give a folder that `sightline dataset import` made, or a COCO folder with annotations/instances_*.json."
        raise DatasetError(folder, "holds no data set", fix)
    has_all = ALL in found.values()
    usual = {"train": 0, "val": 1, "test": 2, ALL: 4}
    for path, name in sorted(found.items(), key=lambda item: usual.get(item[1], 3)):
        if not (has_all and name != ALL and FOLD.match(name)):
            yield name, path, folder / "images" if path == annotations_file(folder, name) else None


def read_part(name: str, path: Path, images_dir: Path | None) -> Part:
    try:
        content = json.loads(read_whole(path))
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"is not JSON ({error})", "Give a complete COCO instances file.") from error
    dataset, problems = coco.from_json(content, str(path))
    listed = coco.read_images(content["images"], str(path), [])
    sound = {image.id: image for image in dataset.images}
    findings = tuple(finding_of(problem, content, listed, dataset) for problem in problems)
    faulty = {finding.picture for finding in findings}
    broken = frozenset(key for key, image in listed.items() if key not in sound or image.file_name in faulty)
    records = tuple(sound.get(image_id, image) for image_id, image in listed.items())
    if images_dir is None or not images_dir.is_dir():
        images_dir = beside(path, [image.file_name for image in records])
    return Part(name, path, images_dir, replace(dataset, images=records), broken, findings)


def finding_of(problem: Problem, content: Mapping[str, Any], images: Mapping[int, ImageRecord], dataset: Dataset) -> Finding:
    """What the reader refused; with its picture and box, where the annotation tells them."""
    what = problem.what
    plain = Finding(kind="broken-label", where=problem.where, what=what, fix=problem.fix)
    match = ANNOTATION.search(problem.where)
    entry = content["annotations"][int(match[1])] if match else None
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int) or entry["image_id"] not in images:
        return plain
    image = images[entry["image_id"]]
    index = match[0] if match else ""
    box = box_of(entry.get("bbox"))
    if box is None:
        return replace(plain, picture=image.file_name, where=f"{image.file_name}, {index}")
    kind = "broken-label"
    if fault(box, image.size):
        inverted = box[2] < box[0] or box[3] < box[1]
        kind = "empty-box" if is_empty(box) else "broken-label" if inverted else "box-outside"
    name = next((category.name for category in dataset.categories if category.id == entry.get("category_id")), "")
    marks = (Mark(box, name),)
    return Finding(
        kind=kind, where=f"{image.file_name}, {index}", what=what, fix=problem.fix, picture=image.file_name, marks=marks
    )


def box_of(value: object) -> Box | None:
    try:
        left, top, width, height = coco.numbers(value if isinstance(value, list) else None, 4, "bbox", "")
    except LabelError:
        return None
    return left, top, left + width, top + height


def again(first: Picture, part: Part) -> list[Finding]:
    """Of a picture that an earlier part had: nothing if this is `all`, which has the pictures of all parts."""
    if part.name == ALL:
        return []
    what = f"is in {first.part} and in {part.name}"
    return [Finding(kind="in-two-parts", where=first.name, what=what, picture=first.name)]


def in_no_part(pictures: list[Picture]) -> list[Finding]:
    left = [picture.name for picture in pictures if not picture.part]
    if not left:
        return []
    more = f" and {len(left) - MAX_NAMED:,} more" if len(left) > MAX_NAMED else ""
    what = f"{counted(len(left), 'picture')} in no part: {', '.join(left[:MAX_NAMED])}{more}"
    return [Finding(kind="in-no-part", where="parts", what=what)]


def different_classes(parts: list[Part]) -> list[Finding]:
    first = parts[0]
    found = []
    for part in parts[1:]:
        if part.dataset.class_names != first.dataset.class_names:
            what = (
                f"{part.name} has the classes {', '.join(part.dataset.class_names)}; "
                f"{first.name} has {', '.join(first.dataset.class_names)}: the same number means another class"
            )
            found.append(Finding(kind="class-order", where=part.name, what=what))
    return found


def unique(findings: list[Finding]) -> list[Finding]:
    """Without what is found in `all` and in a part alike."""
    return list(
        {(one.kind, one.picture, one.what, one.marks, "" if one.picture else one.where): one for one in findings}.values()
    )
