"""From the references in labels to picture files here: by the key's ending, else by the base name.

s3://bucket/a/b/c.jpg under DIR is the first of DIR/bucket/a/b/c.jpg, DIR/a/b/c.jpg, DIR/b/c.jpg and DIR/c.jpg that exists,
else the only c.jpg anywhere below DIR. The folders are listed once; no file is looked up one by one.
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePath

from sightline.errors import DatasetError, Problem
from sightline.records import Dataset, ImageRecord
from sightline.storage import is_remote, key_parts

MAX_SUGGESTIONS = 20
"""Missing pictures that get a nearest name; comparing one with 10,000 names costs about 50 ms."""

MAX_COMPARED = 10_000
"""File names that a missing one is compared with."""


@dataclass(slots=True)
class Index:
    """The files below some folders.

    files: path relative to its folder, as NFC text (macOS writes names decomposed) -> the file
    names: base name, as NFC text -> the files of that name
    """

    files: dict[str, Path] = field(default_factory=dict)
    names: dict[str, list[Path]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Located:
    """paths: image id -> its file; problems: image id -> why there is none."""

    paths: dict[int, Path]
    problems: dict[int, Problem]


def index_folders(folders: Sequence[Path]) -> Index:
    """All files below `folders`; linked folders are followed, each once.

    Raises:
        DatasetError: a folder is none.
    """
    index = Index()
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(folder, "is no folder", "Name the folder that holds the pictures.")
        for path in walk(folder):
            relative = nfc(path.relative_to(folder).as_posix())
            index.files.setdefault(relative, path)
            index.names.setdefault(relative.rpartition("/")[2], []).append(path)
    return index


def walk(folder: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)  # noqa: PTH116 - one a folder, so that a link to a parent does not run in circles
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (Path(place, name) for name in names)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def locate(images: Sequence[ImageRecord], folders: Sequence[Path]) -> Located:
    """The file of every image below `folders`, by its source, else its file name. No file serves two images.

    Raises:
        DatasetError: a folder is none.
    """
    index = index_folders(folders)
    paths: dict[int, Path] = {}
    problems: dict[int, Problem] = {}
    owner: dict[Path, ImageRecord] = {}
    for image in images:
        found = find(image, index)
        if len(found) != 1:
            suggest = len(problems) < MAX_SUGGESTIONS
            problems[image.id] = ambiguous(image, found) if found else missing(image, index, folders, suggest)
        elif found[0] in owner:
            what = f"resolves to {found[0]}, as {reference(owner[found[0]])} does"
            problems[image.id] = Problem(reference(image), what, "Keep the pictures in folders as their addresses have them.")
        else:
            owner[found[0]] = image
            paths[image.id] = found[0]
    return Located(paths, problems)


def reference(image: ImageRecord) -> str:
    return image.source or image.file_name


def find(image: ImageRecord, index: Index) -> list[Path]:
    """The files that `image` may mean: one when it is clear, several when it is not, none when it is missing."""
    for name in dict.fromkeys((reference(image), image.file_name)):
        if not is_remote(name) and PurePath(name).is_absolute() and Path(name).is_file():
            return [Path(name)]
        parts = [nfc(part) for part in key_parts(name)]
        for start in range(len(parts)):
            path = index.files.get("/".join(parts[start:]))
            if path is not None:
                return [path]
        alike = index.names.get(parts[-1], []) if parts else []
        if alike:
            return alike
    return []


def ambiguous(image: ImageRecord, found: Sequence[Path]) -> Problem:
    shown = ", ".join(map(str, found[:3])) + (", ..." if len(found) > 3 else "")
    fix = "Keep the pictures in folders as their addresses have them, or name the right folder."
    return Problem(reference(image), f"could be any of {len(found)} pictures: {shown}", fix)


def missing(image: ImageRecord, index: Index, folders: Sequence[Path], suggest: bool) -> Problem:
    name = PurePath(reference(image)).name
    near = get_close_matches(name, list(index.names)[:MAX_COMPARED], n=1) if suggest else []
    fix = f"Did you mean {near[0]!r}?" if near else "Add the picture or name the folder that holds it."
    return Problem(reference(image), f"has no picture below {', '.join(map(str, folders))}", fix)


def places(
    files: Sequence[str], dataset: Dataset, *, given: Path | None, known: Mapping[str, Path]
) -> Sequence[Path] | Mapping[str, Path]:
    """Where the pictures of label files are: each as the labels' own layout told, in the folder given, or beside the files.

    known: file_name -> picture, as the import found them; all of them, or it counts for its folders only

    Raises:
        DatasetError: the pictures are on S3, or there is no such folder.
    """
    if known and all(image.file_name in known for image in dataset.images):
        return known
    others = [image for image in dataset.images if image.file_name not in known]
    remote = any(is_remote(image.source) for image in others)
    if known and (given is not None or remote):  # of labels of several formats: some know their pictures, some do not
        folders = [given] if given is not None else folders_beside(files, replace(dataset, images=tuple(others)))
        located = locate(others, folders)
        return {**known, **{image.file_name: located.paths[image.id] for image in others if image.id in located.paths}}
    if given is not None:
        return [given]
    return sorted({path.parent for path in known.values()}) or folders_beside(files, dataset)


def folders_beside(files: Sequence[str], dataset: Dataset) -> list[Path]:
    """The folders of the pictures of label files that name them by path: those that lie beside the files.

    Raises:
        DatasetError: the pictures are on S3, or there is no such folder; names both ways to go on.
    """
    fix = "Name the folder of the pictures with --images DIR, or import without them with --labels-only."
    remote = next((image.source for image in dataset.images if is_remote(image.source)), None)
    if remote:
        raise DatasetError(", ".join(files), f"has pictures on S3 ({remote}, ...), which are not fetched", fix)
    names = [reference(image) for image in dataset.images]
    found = {folder for path in files if (folder := beside(Path(path), names))}
    if not found:
        raise DatasetError(", ".join(files), f"has no pictures beside it ({names[0]}, ...)", fix)
    return sorted(found)


def beside(annotations: Path, file_names: Sequence[str]) -> Path | None:
    """The folder of a COCO file's pictures in the usual layouts, or None: the first that holds one of the first pictures.

    train.json + train/ or instances_train2017.json + train2017/, each also one folder up or in images/; images/; beside it.
    """
    part = annotations.stem.removeprefix("instances_")
    home, above = annotations.parent, annotations.parent.parent
    candidates = [
        home / part,
        above / part,
        home / "images" / part,
        above / "images" / part,
        home / "images",
        above / "images",
        home,
        above,
    ]
    sample = file_names[:20]
    for folder in candidates:
        if any((folder / name).is_file() for name in sample):
            return folder
    return None
