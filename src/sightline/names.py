"""File names for pictures that labels only name by reference: s3://bucket/a/b.jpg -> b.jpg, unique and safe on every system.

The common folder of all references goes; the rest stays, so that equal base names under different prefixes do not collide.
Names that some file system cannot hold are altered, and only those. The result does not depend on the references' order.
"""

import hashlib
import os.path
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from sightline.storage import S3, is_remote

HOSTILE = str.maketrans(dict.fromkeys('<>:"\\|?*\x7f' + "".join(map(chr, range(32))), "_"))
"""Characters that Windows does not allow in a file name. Blanks, +, %, () and every script stay: S3 keys are literal."""

RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)})
"""Device names of Windows, with any suffix."""

PART = r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:[./]|\Z))[\w-][\w+%(),=@~-]*(?:\.[\w-]+)*"
PLAIN = re.compile(rf"(?=.{{1,200}}\Z){PART}(?:/{PART})*", re.ASCII | re.IGNORECASE)
"""Most names are seen to be safe at one look; part by part a million of them would take ten times as long."""

MAX_COMPONENT_BYTES = 255
"""What Linux and macOS allow between two slashes."""


def file_names(references: Sequence[str], *, keep_folders: bool = False) -> list[str]:
    """A relative file name for each of the distinct `references`, in their order.

    keep_folders: do not cut the folder off that all share
    """
    paths = [path_of(reference) for reference in references]
    begin = 0 if keep_folders or not paths else len(common_folder(paths))
    literal = [path[begin:] for path in paths] if begin else paths
    safe = [name if PLAIN.fullmatch(name) else safe_name(name) for name in literal]
    folds = set(map(fold, safe))
    if safe == literal and len(folds) == len(safe) and folds.isdisjoint(folders(folds)):  # S3 may hold both `a` and `a/b.jpg`
        return safe
    return distinct(safe, literal)


def path_of(reference: str) -> str:
    """Bucket and key, or path, with / between its parts; empty parts stay, S3 allows them."""
    return reference[len(S3) :] if is_remote(reference) else reference.replace("\\", "/")


def common_folder(paths: Sequence[str]) -> str:
    """The folders that all paths share, with the / that ends them."""
    shared = os.path.commonprefix([min(paths), max(paths)])  # noqa: RUF071 - the first and the last share what all share
    return shared[: shared.rfind("/") + 1]


def safe_name(name: str) -> str:
    return "/".join(map(safe_component, name.split("/")))


def safe_component(name: str) -> str:
    """A file or folder name that Linux, macOS and Windows can hold; itself if it already is one."""
    safe = name.translate(HOSTILE)
    if safe.rstrip(". ") != safe or not safe:  # "", ".", "..", "a ", "a."
        safe = safe.rstrip(". ") + "_" * max(len(safe) - len(safe.rstrip(". ")), 1)
    if safe.split(".")[0].lower() in RESERVED:
        safe = f"_{safe}"
    if len(safe.encode()) > MAX_COMPONENT_BYTES:
        suffix = PurePosixPath(safe).suffix[:16]
        mark = hashlib.sha256(name.encode()).hexdigest()[:12]
        room = MAX_COMPONENT_BYTES - len(suffix.encode()) - len(mark) - 1
        safe = f"{safe.encode()[:room].decode(errors='ignore')}-{mark}{suffix}"
    return safe


def fold(name: str) -> str:
    """Names with the same fold are one file on macOS or Windows."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def folders(folds: Iterable[str]) -> set[str]:
    """All folders that the folds of names lie in."""
    found: set[str] = set()
    for folder in {name.rpartition("/")[0] for name in folds}:
        above = folder
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def distinct(safe: Sequence[str], literal: Sequence[str]) -> list[str]:
    """`safe` with ~2, ~3, ... before the suffix where two would be one file. Unaltered names come first and keep theirs."""
    taken = folders(map(fold, safe))
    names = list(safe)
    next_number: dict[str, int] = {}
    for index in sorted(range(len(safe)), key=lambda index: (safe[index] != literal[index], literal[index])):
        path = PurePosixPath(safe[index])
        while fold(names[index]) in taken:
            number = next_number[safe[index]] = next_number.get(safe[index], 1) + 1
            names[index] = str(path.with_name(f"{path.stem}~{number}{path.suffix}"))
        taken.add(fold(names[index]))
    return names
