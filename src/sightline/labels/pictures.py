"""The pictures beside label files: found by the names that the labels give, and their sizes where the labels tell none.

Nothing outside the folders is ever looked at: a name that climbs out of them is a problem of the label file.
"""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.errors import ImageError, LabelError
from sightline.images import SUFFIXES, Header, read_header
from sightline.storage import key_parts


def nfc(text: str) -> str:
    """macOS writes the names of files decomposed, and labels rarely have them so."""
    return unicodedata.normalize("NFC", text)


@dataclass(slots=True)
class Shelf:
    """Files by name in some folders, the first folder first; each is listed once, when it is first asked for."""

    folders: Sequence[Path]
    listed: dict[Path, dict[str, Path]] = field(default_factory=dict)

    def names(self, folder: Path) -> dict[str, Path]:
        """{name: file} of what lies in `folder` itself; nothing where there is no such folder."""
        if folder not in self.listed:
            try:
                with os.scandir(folder) as entries:
                    found = {nfc(entry.name): Path(entry.path) for entry in entries if entry.is_file()}
            except (OSError, ValueError):  # ValueError: a name that no file system can hold
                found = {}
            self.listed[folder] = found
        return self.listed[folder]

    def find(self, name: str) -> Path | None:
        """The file `name`, which may have folders of its own."""
        *above, last = key_parts(name) or ("",)
        return next((found for folder in self.folders if (found := self.names(folder.joinpath(*above)).get(nfc(last)))), None)

    def find_stem(self, stem: str) -> Path | None:
        """The picture whose name without its suffix is `stem`, which may have folders of its own."""
        *above, last = key_parts(stem) or ("",)
        for folder in self.folders:
            for name, path in sorted(self.names(folder.joinpath(*above)).items()):
                base, suffix = os.path.splitext(name)  # noqa: PTH122 - of a name, not of a path
                if base == nfc(last) and suffix.lower() in SUFFIXES:
                    return path
        return None

    def shown(self) -> str:
        """For messages."""
        return ", ".join(map(str, self.folders))


def inside(name: str, where: object) -> str:
    """`name`, if it stays in its folder.

    Raises:
        LabelError: it is absolute or climbs out with `..`.
    """
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or parts[0].endswith(":") or "\0" in name:
        raise LabelError(
            where, f"names the picture {name!r}, outside its folder", "Give a name below the folder of the pictures."
        )
    return name


def size_of(path: Path, where: object) -> Header:
    """The header of a picture whose labels do not tell its size.

    Raises:
        LabelError: it is no picture, or damaged.
    """
    try:
        return read_header(path)
    except ImageError as error:
        raise LabelError(where, f"needs the size of {path}, which {error.what}", error.fix) from error


def turned_note(count: int) -> list[str]:
    """The note about pictures that EXIF turns, in formats without sizes."""
    if not count:
        return []
    return [f"{count:,} pictures are turned by their EXIF orientation; their labels are taken to be of the picture as shown."]
