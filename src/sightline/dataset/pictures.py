"""From the references in labels to picture files here: by the key's ending, else by the base name.

s3://bucket/a/b/c.jpg under DIR is the first of DIR/bucket/a/b/c.jpg, DIR/a/b/c.jpg, DIR/b/c.jpg and DIR/c.jpg that exists,
else the only c.jpg anywhere below DIR. The folders are listed once; no file is looked up one by one. A prefix on S3 is listed
like a folder, and only the pictures that the labels name are fetched from it.
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from sightline.errors import DatasetError, Problem
from sightline.records import Dataset, ImageRecord
from sightline.s3.address import Address, parse
from sightline.storage import is_remote, key_parts, store

MAX_SUGGESTIONS = 20
"""Missing pictures that get a nearest name; comparing one with 10,000 names costs about 50 ms."""

MAX_COMPARED = 10_000
"""File names that a missing one is compared with."""


Place = TypeVar("Place", Path, Address)
"""Where a picture is: here, or on S3."""


@dataclass(slots=True)
class Index(Generic[Place]):
    """The files below some folders.

    files: path relative to its folder, as NFC text (macOS writes names decomposed) -> the file
    names: base name, as NFC text -> the files of that name
    """

    files: dict[str, Place] = field(default_factory=dict)
    names: dict[str, list[Place]] = field(default_factory=dict)

    def add(self, relative: str, place: Place) -> None:
        self.files.setdefault(nfc(relative), place)
        self.names.setdefault(nfc(relative).rpartition("/")[2], []).append(place)


@dataclass(frozen=True, slots=True)
class Matched(Generic[Place]):
    """places: image id -> where its picture is; problems: image id -> why nowhere."""

    places: dict[int, Place]
    problems: dict[int, Problem]


@dataclass(frozen=True, slots=True)
class Located:
    """paths: image id -> its file; problems: image id -> why there is none."""

    paths: dict[int, Path]
    problems: dict[int, Problem]


def index_folders(folders: Sequence[Path]) -> Index[Path]:
    """All files below `folders`; linked folders are followed, each once.

    Raises:
        DatasetError: a folder is none.
    """
    index: Index[Path] = Index()
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(folder, "is no folder", "Name the folder that holds the pictures.")
        for path in walk(folder):
            index.add(path.relative_to(folder).as_posix(), path)
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
    named: dict[int, list[Path]] = {
        image.id: [Path(image.source or image.file_name)] for image in images if is_absolute_file(reference(image))
    }
    matched = match(images, index, ", ".join(map(str, folders)), named)
    return Located(matched.places, matched.problems)


def is_absolute_file(name: str) -> bool:
    return not is_remote(name) and PurePath(name).is_absolute() and is_file(Path(name))


def match(images: Sequence[ImageRecord], index: Index[Place], where: str, named: Mapping[int, list[Place]]) -> Matched[Place]:
    """The place of every image. No place serves two images.

    where: what was searched, for messages
    named: image id -> the place that its label names in full
    """
    places: dict[int, Place] = {}
    problems: dict[int, Problem] = {}
    owner: dict[Place, ImageRecord] = {}
    for image in images:
        found = named.get(image.id) or find(image, index)
        if len(found) != 1:
            suggest = len(problems) < MAX_SUGGESTIONS
            problems[image.id] = ambiguous(image, found) if found else missing(image, index, where, suggest)
        elif found[0] in owner:
            what = f"resolves to {found[0]}, as {reference(owner[found[0]])} does"
            problems[image.id] = Problem(reference(image), what, "Keep the pictures in folders as their addresses have them.")
        else:
            owner[found[0]] = image
            places[image.id] = found[0]
    return Matched(places, problems)


def reference(image: ImageRecord) -> str:
    return image.source or image.file_name


def find(image: ImageRecord, index: Index[Place]) -> list[Place]:
    """The files that `image` may mean: one when it is clear, several when it is not, none when it is missing."""
    for name in dict.fromkeys((reference(image), image.file_name)):
        parts = [nfc(part) for part in key_parts(name)]
        for start in range(len(parts)):
            path = index.files.get("/".join(parts[start:]))
            if path is not None:
                return [path]
        alike = index.names.get(parts[-1], []) if parts else []
        if alike:
            return alike
    return []


def ambiguous(image: ImageRecord, found: Sequence[Place]) -> Problem:
    shown = ", ".join(map(str, found[:3])) + (", ..." if len(found) > 3 else "")
    fix = "Keep the pictures in folders as their addresses have them, or name the right folder."
    return Problem(reference(image), f"could be any of {len(found)} pictures: {shown}", fix)


def missing(image: ImageRecord, index: Index[Place], where: str, suggest: bool) -> Problem:
    name = PurePath(reference(image)).name
    near = get_close_matches(name, list(index.names)[:MAX_COMPARED], n=1) if suggest else []
    fix = f"Did you mean {near[0]!r}?" if near else "Add the picture or name the folder that holds it."
    return Problem(reference(image), f"has no picture below {where}", fix)


def places(
    files: Sequence[str],
    dataset: Dataset,
    *,
    given: str | Path | None,
    known: Mapping[str, Path],
    download: bool = False,
    called: Sequence[str] = (),
) -> Sequence[Path] | Mapping[str, Path] | Located:
    """Where the pictures of label files are: each as the labels' own layout told, in the folder given, or beside the files.

    given:    a folder, or a prefix on S3, from which the pictures that the labels name are fetched
    known:    file_name -> picture, as the import found them; all of them, or it counts for its folders only
    download: fetch pictures that are in no folder from the s3:// addresses that the labels give
    called:   the label files in messages, where those of the cache have addresses

    Raises:
        DatasetError: the pictures are on S3 and `download` is False, or there is no such folder.
        SightlineError, RunError: S3 cannot be used at all.
    """
    if known and all(image.file_name in known for image in dataset.images):
        return known
    others = [image for image in dataset.images if image.file_name not in known]
    remote = any(is_remote(image.source) for image in others)
    if is_remote(str(given or "")) or (download and remote):
        return with_downloads(dataset, others, known, given)
    local = None if given is None else Path(given)
    if known and (local is not None or remote):  # of labels of several formats: some know their pictures, some do not
        folders = [local] if local is not None else folders_beside(files, replace(dataset, images=tuple(others)), called)
        located = locate(others, folders)
        return {**known, **{image.file_name: located.paths[image.id] for image in others if image.id in located.paths}}
    if local is not None:
        return [local]
    return sorted({path.parent for path in known.values()}) or folders_beside(files, dataset, called)


def with_downloads(
    dataset: Dataset, others: Sequence[ImageRecord], known: Mapping[str, Path], given: str | Path | None
) -> Located:
    """The pictures of `places` where some come from S3: `known` ones, those in the folder `given`, and then the fetched."""
    paths = {image.id: known[image.file_name] for image in dataset.images if image.file_name in known}
    problems: dict[int, Problem] = {}
    if is_remote(str(given or "")):
        found = fetch_from(str(given), others)
        return Located(paths | found.paths, found.problems)
    if given is not None:
        located = locate(others, [Path(given)])
        paths |= located.paths
        problems |= {image.id: located.problems[image.id] for image in others if image.id in located.problems}
    wanted = {image.id: parse(image.source) for image in others if image.id not in paths and is_remote(image.source)}
    nowhere = [image for image in others if image.id not in paths and image.id not in wanted]
    fix = "Name the folder that holds it with --images."
    problems |= {image.id: Problem(reference(image), "is no s3:// address, and no file", fix) for image in nowhere}
    found = fetch_places(wanted)
    return Located(paths | found.paths, {key: value for key, value in problems.items() if key not in wanted} | found.problems)


def fetch_from(prefix: str, images: Sequence[ImageRecord]) -> Located:
    """The pictures of `images` below a prefix on S3, found as in a folder; only they are fetched.

    Raises:
        SightlineError, RunError: the prefix cannot be listed, or S3 cannot be used at all.
    """
    from sightline.s3.listing import below

    root = parse(prefix).as_folder()
    index: Index[Address] = Index()
    for entry in below(store(), root):
        index.add(entry.address.key[len(root.key) :], entry.address)
    matched = match(images, index, str(root), {})
    found = fetch_places(matched.places)
    return Located(found.paths, matched.problems | found.problems)


def fetch_places(wanted: Mapping[int, Address]) -> Located:
    """The pictures at these addresses, by image id; what fails is in the problems.

    Raises:
        SightlineError, RunError: S3 cannot be used at all.
    """
    from sightline.s3.transfers import fetch_all

    if not wanted:
        return Located({}, {})
    fetched = fetch_all(store(), wanted.values())
    problems = fetched.problems
    return Located(
        {number: fetched.files[address] for number, address in wanted.items() if address in fetched.files},
        {number: problems[address] for number, address in wanted.items() if address in problems},
    )


def folders_beside(files: Sequence[str], dataset: Dataset, called: Sequence[str] = ()) -> list[Path]:
    """The folders of the pictures of label files that name them by path: those that lie beside the files.

    Raises:
        DatasetError: the pictures are on S3, or there is no such folder; names both ways to go on.
    """
    fix = "Name the folder of the pictures with --images DIR, or import without them with --labels-only."
    fetch = "Fetch them with --download (S3 charges for that), name a folder with --images DIR, or import with --labels-only."
    shown = ", ".join(called or files)
    remote = next((image.source for image in dataset.images if is_remote(image.source)), None)
    if remote:
        raise DatasetError(shown, f"has pictures on S3 ({remote}, ...), which are not fetched unasked", fetch)
    names = [reference(image) for image in dataset.images]
    found = {folder for path in files if (folder := beside(Path(path), names))}
    if not found:
        raise DatasetError(shown, f"has no pictures beside it ({names[0]}, ...)", fix)
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
        if any(is_file(folder / name) for name in sample):
            return folder
    return None


def is_file(path: Path) -> bool:
    """Whether it is one; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than 255 bytes; a NUL
        return False
