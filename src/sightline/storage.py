"""Files, here or on S3: whole or absent. The door through which every s3:// address goes; `sightline.s3` is behind it.

Writing goes beside the target first and is renamed when complete, so a killed process leaves the old file or the new one.
What is on S3 is fetched into the cache (SIGHTLINE_CACHE) and read there; what is to be on S3 is made here and uploaded.
"""

import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from sightline.errors import Problem, RunError, SightlineError

if TYPE_CHECKING:
    from sightline.s3.connection import Store

S3 = "s3://"

MAX_UNPACKED_BYTES = 64 * 2**30
"""Of one archive; a run with all its checkpoints stays far below."""


def is_remote(reference: str) -> bool:
    """Whether `reference` names an S3 object rather than a file."""
    return reference.startswith(S3)


def key_parts(reference: str) -> tuple[str, ...]:
    """("bucket", "folder", "name.jpg") of an s3:// address, or a path's parts. Keys are literal: `%20` and `+` stay."""
    if is_remote(reference):
        return tuple(part for part in reference[len(S3) :].split("/") if part)
    return PurePosixPath(reference.replace("\\", "/")).parts


def store() -> "Store":
    """The connection to S3 that the environment describes. No request is sent.

    Raises:
        MissingDependencyError: boto3 is not installed.
        SightlineError: AWS's configuration, or one of our variables, is broken.
    """
    from sightline.downloads import cache_folder
    from sightline.s3.connection import Settings, connect

    return connect(Settings.from_env(os.environ, cache_folder(os.environ)))


def here_only(reference: str | Path, purpose: str) -> Path:
    """The path that `reference` is, where only a path of this machine will do.

    Raises:
        SightlineError: it is an s3:// address.
    """
    text = str(reference)
    if is_remote(text):
        raise SightlineError(text, f"is on S3, and {purpose} works on this machine's files only", "Give a local path.")
    if text.startswith("s3:/"):  # Path("s3://bucket//a") is s3:/bucket/a: its key cannot be told any more
        raise SightlineError(text, "was an s3:// address, and has lost slashes as a Path", "Give it as text.")
    return Path(reference)


def local_path(reference: str | Path, purpose: str, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """The file or folder that `reference` names; of an s3:// address its copy in the cache, fetched if new or changed.

    A folder on S3 is everything below a prefix that is `wanted` (by its key behind the prefix).

    Raises:
        SightlineError, RunError: nothing is there, or it cannot be fetched.
    """
    if is_remote(str(reference)):
        from sightline.s3 import address, folders

        return folders.fetch(store(), address.parse(str(reference)), wanted).path
    path = here_only(reference, purpose)
    if not path.exists():
        raise SightlineError(path, "does not exist", "Check the path.")
    return path


def copied_here(reference: str | Path, purpose: str, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """`local_path` for readers with their own words for what is missing: a path of this machine is not looked for."""
    return local_path(reference, purpose, wanted) if is_remote(str(reference)) else here_only(reference, purpose)


def fetched(reference: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[Path, str]:
    """{file in the cache: its s3:// address} of an object, or of everything below a prefix that is `wanted`; as `local_path`.

    Raises:
        SightlineError, RunError: nothing is there, or it cannot be fetched.
    """
    from sightline.s3 import address, folders

    found = folders.fetch(store(), address.parse(reference), wanted)
    return {path: str(there) for path, there in found.files.items()}


def objects_below(reference: str, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    """The addresses of the object `reference`, or of all below a prefix that are `wanted` (by the key behind it), sorted.

    Nothing is fetched; pages of a thousand keys are listed.

    Raises:
        SightlineError, RunError: there is no such object or prefix, or it cannot be listed.
    """
    from sightline.s3 import address, listing

    whole = address.parse(reference)
    prefix = whole.as_folder()
    entries = list(listing.below(store(), whole))
    if whole.key and not whole.key.endswith("/") and any(entry.address == whole for entry in entries):
        return [reference]
    below = [entry.address for entry in entries if entry.address.key.startswith(prefix.key)]
    if not below:
        hint = listing.near(store(), whole)
        raise SightlineError(reference, "does not exist, neither as an object nor as a prefix", hint or "Check the address.")
    return sorted(str(one) for one in below if wanted(one.key[len(prefix.key) :]))


def fetched_each(references: Iterable[str]) -> tuple[dict[str, Path], dict[str, Problem]]:
    """({s3:// address: file in the cache}, {s3:// address: why there is none}) of single objects, several at once.

    Raises:
        SightlineError, RunError: S3 cannot be used at all.
    """
    from sightline.s3 import address
    from sightline.s3.transfers import fetch_all

    addresses, problems = dict[address.Address, str](), dict[str, Problem]()
    for reference in references:
        try:
            addresses[address.parse(reference)] = reference
        except SightlineError as error:
            problems[reference] = error.problems[0]
    if not addresses:
        return {}, problems
    found = fetch_all(store(), addresses)
    problems |= {addresses[there]: problem for there, problem in found.problems.items()}
    return {addresses[there]: path for there, path in found.files.items()}, problems


def listed(reference: str) -> list[object]:
    """Facts that change when what an s3:// address names does: key, size and ETag of the object, or of all below a prefix.

    Raises:
        SightlineError, RunError: it cannot be listed.
    """
    from sightline.s3 import address, listing

    whole = address.parse(reference)
    return [
        [entry.address.key, entry.size, entry.etag]
        for entry in listing.below(store(), whole)
        if entry.address == whole or entry.address.key.startswith(whole.as_folder().key)
    ]


@contextmanager
def output_path(reference: str | Path, purpose: str) -> Iterator[Path]:
    """Where to make the file or folder `reference`: there, or beside for what is uploaded to S3 when the block ends well.

    Raises:
        SightlineError, RunError: the bucket cannot be written to; found out before the block where that is possible.
    """
    if not is_remote(str(reference)):
        yield here_only(reference, purpose)
        return
    from sightline.s3 import address, uploads

    with uploads.target(store(), address.parse(str(reference)), purpose) as path:
        yield path


@contextmanager
def atomic_write(path: Path, *, flush: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` complete, or not at all. Its folder is made when missing.

    flush: wait until it is on the disk, some milliseconds; one of thousands of files that can be written again need not
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """`text` as UTF-8 at `path`, whole or not at all. flush: as in `atomic_write`."""
    with atomic_write(path, flush=flush) as file:
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


def unpack(archive: Path, folder: Path, where: object) -> None:
    """An archive's files below `folder`; links are left out, and a name that is there already keeps its first content.

    Not with tarfile's own filters: Python 3.11.2, which Debian 12 has, knows none. where: the archive, as an error names it

    Raises:
        SightlineError: a name in it leads out of the folder.
        RunError: it is damaged, no archive, or too large when unpacked.
    """
    total = 0
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                target = folder / member.name
                if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
                    what = f"holds a file that may not be unpacked ({member.name!r} leads out of it)"
                    raise SightlineError(where, what, "Do not use it.")
                total += member.size
                if total > MAX_UNPACKED_BYTES:
                    what = f"has more than {MAX_UNPACKED_BYTES:,} bytes when unpacked"
                    raise RunError(where, what, "Unpack it yourself, if you know where it is from.")
                source = opened.extractfile(member) if member.isfile() else None
                if source is not None and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise RunError(where, f"cannot be unpacked ({error})", "Fetch or make it again.") from error


def remove(path: Path) -> None:
    """A file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
