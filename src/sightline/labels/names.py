"""File names for pictures that labels only name by reference: s3://bucket/a/b.jpg -> b.jpg, unique and safe on every system.

The common folder of all references goes; the rest stays, so that equal base names under different prefixes do not collide.
Names that some file system cannot hold are altered, and only those. The result does not depend on the references' order.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from sightline.storage import S3, is_remote

HOSTILE = str.maketrans(dict.fromkeys('<>:"\\|?*\x7f' + "".join(map(chr, range(32))), "_"))
"""Characters that Windows does not allow in a file name. Blanks, +, %, () and every script stay: S3 keys are literal."""

RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)})
"""Device names of Windows, with any suffix."""

MAX_COMPONENT_BYTES = 255
"""What Linux and macOS allow between two slashes."""


def file_names(references: Sequence[str], *, keep_folders: bool = False) -> list[str]:
    """A relative file name for each of the distinct `references`, in their order.

    keep_folders: do not cut the folder off that all share
    """
    parts = [split(reference) for reference in references]
    depth = 0 if keep_folders else common_depth(parts)
    literal = ["/".join(own[depth:]) for own in parts]
    safe = ["/".join(map(safe_component, own[depth:])) for own in parts]
    if safe == literal and len({fold(name) for name in safe}) == len(safe) and not any_is_folder(safe):
        return safe
    return distinct(safe, literal)


def split(reference: str) -> list[str]:
    """Bucket and key, or path, at every slash; empty components stay, S3 allows them."""
    if is_remote(reference):
        return reference[len(S3) :].split("/")
    return reference.replace("\\", "/").split("/")


def common_depth(parts: Sequence[list[str]]) -> int:
    """How many leading folders all references share."""
    if not parts:
        return 0
    low, high = min(parts)[:-1], max(parts)[:-1]  # what the first and the last in order share, all share
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return min(shared, min(len(own) for own in parts) - 1)


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
    return unicodedata.normalize("NFC", name).casefold()


def any_is_folder(names: Sequence[str]) -> bool:
    """Whether one name is the folder of another: S3 may hold both `a` and `a/b.jpg`."""
    return not folders(names).isdisjoint(map(fold, names))


def folders(names: Sequence[str]) -> set[str]:
    """The folds of all folders that `names` lie in."""
    direct = {fold(name).rpartition("/")[0] for name in names}
    found: set[str] = set()
    for folder in direct:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]  # noqa: PLW2901
    return found


def distinct(safe: Sequence[str], literal: Sequence[str]) -> list[str]:
    """`safe` with ~2, ~3, ... before the suffix where two would be one file. Unaltered names come first and keep theirs."""
    taken = folders(safe)
    names = list(safe)
    next_number: dict[str, int] = {}
    for index in sorted(range(len(safe)), key=lambda index: (safe[index] != literal[index], literal[index])):
        path = PurePosixPath(safe[index])
        while fold(names[index]) in taken:
            number = next_number[safe[index]] = next_number.get(safe[index], 1) + 1
            names[index] = str(path.with_name(f"{path.stem}~{number}{path.suffix}"))
        taken.add(fold(names[index]))
    return names
