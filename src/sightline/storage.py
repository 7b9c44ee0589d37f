"""Files, here or on S3: whole or absent. The seam through which every read of an s3:// address will go.

Writing goes beside the target first and is renamed when complete, so a killed process leaves the old file or the new one.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sightline.errors import SightlineError

S3 = "s3://"


def is_remote(reference: str) -> bool:
    """Whether `reference` names an S3 object rather than a file."""
    return reference.startswith(S3)


def key_parts(reference: str) -> tuple[str, ...]:
    """("bucket", "folder", "name.jpg") of an s3:// address, or a path's parts. Keys are literal: `%20` and `+` stay."""
    if is_remote(reference):
        return tuple(part for part in reference[len(S3) :].split("/") if part)
    return PurePosixPath(reference.replace("\\", "/")).parts


def local_path(reference: str | Path, purpose: str) -> Path:
    """The file or folder that `reference` names.

    Raises:
        SightlineError: it is an s3:// address (not read yet; copy it here first), or nothing is there.
    """
    if is_remote(str(reference)):
        raise SightlineError(
            reference, f"{purpose} from S3 is not supported yet", f"Copy it here first: aws s3 cp --recursive {reference} ."
        )
    path = Path(reference)
    if not path.exists():
        raise SightlineError(path, "does not exist", "Check the path.")
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` complete, or not at all. Its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8 at `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    """`value` as JSON at `path`, whole or not at all. Non-ASCII names stay readable."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


@contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` when the block ends well and vanishes when it does not.

    Raises:
        SightlineError: `path` already holds something and `replace` is False.
    """
    if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SightlineError(path, "already exists", "Choose another folder, or remove this one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.replace(old)  # a rename, so that a kill never leaves half of the old folder at `path`
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        remove(old)


def remove(path: Path) -> None:
    """A file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
