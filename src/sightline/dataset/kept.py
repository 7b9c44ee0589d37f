"""Which pictures of a data set were dealt out before: by an earlier split, or by a list that names the test set.

A picture is known again by its name and number of bytes, else by its bytes, else by its name alone. So it is known under
another name, and when frames were numbered anew the old names do not mislead.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.dataset.alike import content
from sightline.dataset.folder import ALL, DatasetPart, open_part, parts_of
from sightline.errors import DatasetError, Problem
from sightline.records import Dataset

TEST = "test"


@dataclass(frozen=True, slots=True)
class Held:
    """A data set without its fixed test set, and that. joined: pictures of `test` that were not named, but are in a group
    with one that was; what is left of their group in training would give the test away."""

    rest: Dataset
    test: Dataset
    joined: int


def kept_parts(part: DatasetPart, folder: Path, names: Iterable[str]) -> dict[str, str]:
    """File name -> the part of `folder`'s split that the same picture was in, of the parts `names`.

    Raises:
        DatasetError: `folder` has none of these parts.
    """
    there = {name for name, _ in parts_of(folder)} if folder.is_dir() else set()
    names = list(names)
    earlier = {name: open_part(folder, name) for name in names if name in there}
    if not earlier:
        fix = f"Give a dataset folder with a part named {' or '.join(names)}."
        raise DatasetError(folder, "has no part to keep", fix)
    files: dict[str, Path | None] = {}
    parts: dict[str, str] = {}
    for name, old in reversed(earlier.items()):  # a picture that two parts had stays in the first
        files |= files_of(old)
        parts |= dict.fromkeys((image.file_name for image in old.dataset.images), name)
    return {name: parts[old] for name, old in same_pictures(files_of(part), files).items()}


def named_pictures(part: DatasetPart, test: Path) -> set[str]:
    """The file names of `part` that a list (a text file, one file name a line), or the test part of a data set, holds.

    test: a dataset folder without a part `test` is a test set as a whole; so is a COCO file

    Raises:
        DatasetError: names that are no pictures here, all at once; or none of the pictures is here.
    """
    if test.is_dir() or test.suffix == ".json":
        parts = {name for name, _ in parts_of(test)} if test.is_dir() else set()
        found = set(same_pictures(files_of(part), files_of(open_part(test, TEST if TEST in parts else ALL))))
        if not found:
            raise DatasetError(test, "holds none of this data set's pictures", "Give the data set whose test part is to stay.")
        return found
    try:
        lines = test.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fix = "Give a text file with one file name a line, or a dataset folder."
        raise DatasetError(test, f"cannot be read ({error})", fix) from error
    wanted = {line.strip(): number for number, line in enumerate(lines, 1) if line.strip()}
    known = {image.file_name for image in part.dataset.images}
    example = min(known, default="none")
    fix = f"Give names as annotations/all.json has them (as {example})."
    problems = [
        Problem(f"{test}, line {number}", f"{name!r} is no picture of this data set", fix)
        for name, number in wanted.items()
        if name not in known
    ]
    if problems or not wanted:
        raise DatasetError.collected(problems or [Problem(str(test), "names no picture", fix)])
    return set(wanted)


def hold(dataset: Dataset, names: set[str]) -> Held:
    """The data set without the pictures `names` and what is in a group with them."""
    groups = {image.group for image in dataset.images if image.group and image.file_name in names}
    held = [image.file_name in names or image.group in groups for image in dataset.images]
    test = tuple(image for image, own in zip(dataset.images, held, strict=True) if own)
    rest = tuple(image for image, own in zip(dataset.images, held, strict=True) if not own)
    return Held(Dataset(dataset.categories, rest), Dataset(dataset.categories, test), len(test) - len(names))


def straddling(dataset: Dataset, kept: Mapping[str, str]) -> int:
    """How many groups have kept pictures in several parts."""
    parts: dict[str, set[str]] = defaultdict(set)
    for image in dataset.images:
        if image.group and image.file_name in kept:
            parts[image.group].add(kept[image.file_name])
    return sum(len(own) > 1 for own in parts.values())


def files_of(part: DatasetPart) -> dict[str, Path | None]:
    """File name -> the picture; None where there is none."""
    paths = {image.file_name: part.images_dir / image.file_name if part.images_dir else None for image in part.dataset.images}
    return {name: path if path is not None and path.is_file() else None for name, path in paths.items()}


def same_pictures(own: Mapping[str, Path | None], other: Mapping[str, Path | None]) -> dict[str, str]:
    """Name in `own` -> name in `other` of the same picture. Only those that name and size do not settle are read."""
    own_sizes, other_sizes = sizes(own), sizes(other)
    found = {name: name for name in own if name in other and own_sizes.get(name) == other_sizes.get(name)}
    left = {name: path for name, path in own.items() if name not in found}
    wanted = {own_sizes[name] for name, path in left.items() if path is not None}
    contents = {
        content(path): name
        for name, path in sorted(other.items(), reverse=True)  # of equal ones the first name counts
        if path is not None and other_sizes[name] in wanted
    }
    there = set(other_sizes.values())
    for name, path in left.items():
        old = contents.get(content(path)) if path is not None and own_sizes[name] in there else None
        if old is not None or name in other:
            found[name] = name if old is None else old
    return found


def sizes(files: Mapping[str, Path | None]) -> dict[str, int]:
    """File name -> bytes, of the pictures that are there."""
    return {name: path.stat().st_size for name, path in files.items() if path is not None}
