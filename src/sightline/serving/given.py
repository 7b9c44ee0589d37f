"""What `sightline predict` is given: pictures, videos, folders and prefixes, as a list of names, each once."""

import os
from collections.abc import Iterable
from pathlib import Path

from sightline.errors import ImageError, Problem, RunError, SightlineError
from sightline.images import SUFFIXES
from sightline.serving.videos import is_video
from sightline.storage import is_remote, local_path, objects_below


def collect(given: Iterable[str | Path]) -> list[str]:
    """The pictures that `given` names: files as they are, folders with all below them, sorted; what is on S3 by its address.

    Below a folder, names that begin with a dot are left out, and so is what is not named like a picture; videos are predicted
    where they are named themselves. Nothing is fetched from S3 yet.

    Raises:
        ImageError: something does not exist, or a folder holds no picture; all such problems at once.
        RunError: S3 cannot be reached.
    """
    found: dict[str, None] = {}
    problems: list[Problem] = []
    for one in given:
        try:
            names = objects_of(str(one)) if is_remote(str(one)) else files_of(local_path(one, "Prediction"))
        except RunError:
            raise
        except SightlineError as error:
            problems += error.problems
            continue
        found |= dict.fromkeys(names)
        if not names:
            problems.append(Problem(str(one), "holds no pictures", f"Pictures end in {', '.join(sorted(SUFFIXES))}."))
    if problems:
        raise ImageError.collected(problems)
    return list(found)


def files_of(path: Path) -> list[str]:
    return [str(picture) for picture in pictures_below(path)] if path.is_dir() else [str(path)]


def objects_of(address: str) -> list[str]:
    """One picture or video, which needs no right to list; else what a listing says."""
    return [address] if is_picture(address) or is_video(address) else objects_below(address, is_picture)


def is_picture(name: str) -> bool:
    """Whether a key below a prefix is named like a picture, and nothing of it is hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.split("/"))


def pictures_below(folder: Path) -> list[Path]:
    """The files below `folder` that are named like pictures, sorted; nothing hidden, no folder twice through a link."""
    pictures = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures += [Path(parent, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
    return sorted(pictures)
