"""The dataset folder: images/ and annotations/, made from labels and pictures, and opened again part by part.

Made whole or not at all. Every picture is decoded before it is taken in: a truncated one is found here and not in the third
hour of a training. Other people's COCO folders are opened as they are.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sightline import coco, storage
from sightline.dataset.pictures import Located, beside, locate, reference
from sightline.errors import DatasetError, ImageError, OnProblem, Problem
from sightline.geometry.boxes import turn, turn_points
from sightline.images import Header, check_image
from sightline.processors import cores
from sightline.records import Dataset, ImageRecord, Instance, Rle

LOG = logging.getLogger(__name__)

ALL = "all"
LOG_EVERY = 5_000  # pictures; a line every half minute or so


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What became of the pictures.

    turned:  pictures whose labels referred to the stored pixels and were turned with them
    skipped: what was wrong and left out
    notes:   facts to know that are no faults
    """

    folder: str | Path
    images: int
    boxes: int
    with_pictures: bool
    turned: int = 0
    skipped: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        pictures = "" if self.with_pictures else ", labels only"
        turned = f"; {self.turned:,} turned as their EXIF says" if self.turned else ""
        skipped = f"; {len(self.skipped):,} problems skipped" if self.skipped else ""
        return f"{self.folder}: {self.images:,} images, {self.boxes:,} boxes{pictures}{turned}{skipped}"

    def as_dict(self) -> dict[str, object]:
        return {
            "folder": str(self.folder),
            "images": self.images,
            "boxes": self.boxes,
            "with_pictures": self.with_pictures,
            "turned": self.turned,
            "skipped": [problem.as_dict() for problem in self.skipped],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """One part of a data set. images_dir: what its file names are relative to; None: there are no pictures."""

    dataset: Dataset
    images_dir: Path | None
    annotations: Path

    @property
    def pictures(self) -> Path:
        """`images_dir`, where pictures are needed.

        Raises:
            DatasetError: there are none.
        """
        if self.images_dir is None:
            raise DatasetError(self.annotations, "has labels only, no pictures", "Import the data set with --images.")
        return self.images_dir


@dataclass(frozen=True, slots=True)
class Checked:
    """A picture that can be taken in: its labels in the shown frame. note: what could not be decided about that."""

    record: ImageRecord
    path: Path
    turned: bool = False
    note: str = ""


def create(
    dataset: Dataset,
    to: Path,
    *,
    pictures: Path | Sequence[Path] | Mapping[str, Path] | Located | None,
    on_problem: OnProblem = "error",
    replace: bool = False,
    by_name: bool = False,
) -> FolderReport:
    """A dataset folder at `to`: pictures linked (copied where the file system cannot) and `annotations/all.json`.

    pictures:   folders in which to find them, {file_name: file}, or what `places` found; None: labels only
    on_problem: "skip" leaves out pictures that are missing, damaged or of another size, and lists them in the report
    replace:    an existing folder makes room when the new one is complete
    by_name:    pictures are symbolic links: nothing is copied, and they must stay where they are

    Raises:
        DatasetError: everything that is wrong with the pictures, at once; or nothing is left.
        SightlineError: `to` exists and `replace` is False.
    """
    with storage.atomic_folder(to, replace) as folder:
        if pictures is None:
            coco.write(dataset, annotations_file(folder, ALL))
            return FolderReport(to, len(dataset.images), dataset.instance_count, with_pictures=False)
        paths, problems = find_pictures(dataset, pictures)
        checked, damaged = check_pictures(dataset, paths)
        problems = {**problems, **damaged}
        listed = tuple(problems[image.id] for image in dataset.images if image.id in problems)
        if listed and (on_problem == "error" or not checked):
            raise DatasetError.collected(listed)
        sound = Dataset(dataset.categories, tuple(one.record for one in checked))
        for one in checked:
            (refer if by_name else place)(one.path, folder / "images" / one.record.file_name)
        coco.write(sound, annotations_file(folder, ALL))
    return FolderReport(
        folder=to,
        images=len(sound.images),
        boxes=sound.instance_count,
        with_pictures=True,
        turned=sum(one.turned for one in checked),
        skipped=listed,
        notes=tuple(one.note for one in checked if one.note),
    )


def find_pictures(
    dataset: Dataset, pictures: Path | Sequence[Path] | Mapping[str, Path] | Located
) -> tuple[dict[int, Path], dict[int, Problem]]:
    """({image id: its file}, {image id: why there is none})."""
    if isinstance(pictures, Located):
        return pictures.paths, pictures.problems
    if isinstance(pictures, Mapping):
        paths = {image.id: pictures[image.file_name] for image in dataset.images if image.file_name in pictures}
        fix = "Add the picture or name the folder that holds it."
        missing = [image for image in dataset.images if image.id not in paths]
        return paths, {image.id: Problem(reference(image), "has no picture", fix) for image in missing}
    located = locate(dataset.images, [pictures] if isinstance(pictures, Path) else pictures)
    return located.paths, located.problems


def check_pictures(dataset: Dataset, paths: Mapping[int, Path]) -> tuple[list[Checked], dict[int, Problem]]:
    """(the pictures that decode and have their label's size, {image id: what is wrong with it})."""
    images = [image for image in dataset.images if image.id in paths]
    checked: list[Checked] = []
    problems: dict[int, Problem] = {}
    with ThreadPoolExecutor(min(cores(), 8)) as threads:  # Pillow decodes outside the interpreter's lock
        results = threads.map(lambda image: check_picture(image, paths[image.id]), images)
        for number, (image, result) in enumerate(zip(images, results, strict=True), 1):
            if isinstance(result, Problem):
                problems[image.id] = result
            else:
                checked.append(result)
            if number % LOG_EVERY == 0:
                LOG.info("checked %d of %d pictures", number, len(images))
    return checked, problems


def require_sound(part: "DatasetPart", *, share: int = 0, shares: int = 1) -> None:
    """Nothing, if every picture of the part can be decoded and is shown in its labels' size.

    For folders that others made, or that changed since: a truncated picture must not end a training of hours.

    share, shares: every `shares`-th picture from number `share` on, where several processes train on the same part

    Raises:
        DatasetError: everything that is wrong, at once; or there are no pictures.
    """
    paths = {image.id: part.pictures / image.file_name for image in part.dataset.images}
    mine = Dataset(part.dataset.categories, part.dataset.images[share::shares])
    checked, problems = check_pictures(mine, paths)
    for one in checked:
        if one.turned:
            what = f"is {one.record.size} as it is shown, and its labels are of the picture before its EXIF rotation"
            fix = f"Make a folder whose labels are turned: sightline dataset import {part.annotations} -o DIR."
            problems[one.record.id] = Problem(str(one.path), what, fix)
    if problems:
        raise DatasetError.collected([problems[image.id] for image in part.dataset.images if image.id in problems])


def check_picture(image: ImageRecord, path: Path) -> Checked | Problem:
    try:
        return to_shown_frame(image, path, check_image(path))
    except (ImageError, DatasetError) as error:
        return error.problems[0]


def to_shown_frame(image: ImageRecord, path: Path, header: Header) -> Checked:
    """The labels in the frame that reading shows: EXIF rotation is applied to pictures, so labels of raw pixels turn with them.

    Ground Truth's frame changed with the browsers, so each picture is decided by its recorded size.

    Raises:
        DatasetError: the size fits neither frame, or a mask would have to be turned.
    """
    if image.size == header.shown:
        unclear = header.orientation != 1 and header.stored == header.shown
        note = f"{image.file_name}: EXIF orientation {header.orientation} leaves its size alone; labels are taken as shown."
        return Checked(image, path, note=note if unclear else "")
    if image.size != header.stored:
        raise DatasetError(
            path,
            f"is {header.shown}, but its label {reference(image)} says {image.size}",
            "Use the picture that was labelled, or scale the label with it.",
        )
    instances = tuple(turn_instance(instance, header, path) for instance in image.instances)
    return Checked(replace(image, size=header.shown, instances=instances), path, turned=True)


def turn_instance(instance: Instance, header: Header, path: Path) -> Instance:
    outline = instance.segmentation
    if isinstance(outline, Rle):
        what = f"is turned by EXIF orientation {header.orientation}, and its mask is of the unturned pixels"
        raise DatasetError(path, what, "Save the picture with its pixels turned, or give the outline as polygons.")
    if outline is not None:
        corners = (np.array(part).reshape(-1, 2) for part in outline)
        turned = (turn_points(part, header.stored, header.orientation) for part in corners)
        outline = tuple(tuple(part.reshape(-1).tolist()) for part in turned)
    x1, y1, x2, y2 = turn(np.array([instance.box]), header.stored, header.orientation)[0].tolist()
    return replace(instance, box=(x1, y1, x2, y2), segmentation=outline)


def place(source: Path, target: Path) -> None:
    """`source` at `target` without a second copy of its bytes where the file system allows that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def refer(source: Path, target: Path) -> None:
    """`source` by its name at `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def place_pictures(part: "DatasetPart", to: Path) -> None:
    """All pictures of a part below `to`, under their own names.

    Raises:
        DatasetError: the part has no pictures; or all that are missing.
    """
    images = part.dataset.images
    fix = "Restore the picture, or leave the pictures out."
    missing = [
        Problem(str(part.pictures / image.file_name), "does not exist", fix)
        for image in images
        if not (part.pictures / image.file_name).is_file()
    ]
    if missing:
        raise DatasetError.collected(missing)
    for image in images:
        place(part.pictures / image.file_name, to / image.file_name)


def annotations_file(folder: Path, part: str) -> Path:
    return folder / "annotations" / f"{part}.json"


def parts_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """(part, its COCO file) of every layout that is known, the plainest first; a name may come twice."""
    for path in sorted((folder / "annotations").glob("*.json")):
        if not path.name.startswith(("instances_", "captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")):
            yield path.stem, path
    for path in sorted((folder / "annotations").glob("instances_*.json"), reverse=True):  # the newest year first
        part = path.stem.removeprefix("instances_")
        yield part, path
        yield re.sub(r"\d{4}$", "", part), path
    for path in sorted(folder.glob("*.json")):
        if (folder / path.stem).is_dir():
            yield path.stem, path


def open_part(folder: str | Path, part: str = ALL) -> DatasetPart:
    """A part of a dataset folder (`all`, or what a split made), of a COCO folder (`train`, `val`), or a COCO file by itself.

    Raises:
        DatasetError: there is no such part; names those there are.
        LabelError: its annotations are broken.
    """
    folder = Path(storage.local_path(folder, "Reading a data set"))
    if folder.is_file():
        return opened(folder, None)
    found: dict[str, Path] = {}
    for name, path in parts_of(folder):
        found.setdefault(name, path)
    if part in found:
        own = folder / "images" if found[part] == annotations_file(folder, part) else None
        return opened(found[part], own)
    if not found:
        fix = "Give a folder that `sightline dataset import` made, or a COCO folder with annotations/instances_*.json."
        raise DatasetError(folder, "holds no data set", fix)
    fix = f"Its parts: {', '.join(found)}."
    if set(found) == {ALL}:
        fix += f" Make others with: sightline dataset split {folder}"
    raise DatasetError(folder, f"has no part {part!r}", fix)


def opened(annotations: Path, images_dir: Path | None) -> DatasetPart:
    dataset = coco.read(annotations)
    if images_dir is None or not images_dir.is_dir():
        images_dir = beside(annotations, [image.file_name for image in dataset.images])
    return DatasetPart(dataset, images_dir, annotations)
