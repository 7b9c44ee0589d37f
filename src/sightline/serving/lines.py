"""JSON lines that a long run leaves, and from which it goes on when it was cut short.

OUT.partial    the lines so far; a run that ends well renames it to OUT, which therefore holds all lines or is not there
OUT.run.json   what the run was begun with; lines of another model or with other options would not belong together
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from sightline.errors import RunError, SightlineError
from sightline.storage import remove, write_json


class Line(msgspec.Struct):
    """What counts of a line that is there already."""

    image: str
    frame: int | None = None
    error: msgspec.Raw = msgspec.Raw()


class Lines:
    """The file that is being written, and what it holds.

    done:   the pictures and videos that have lines
    last:   the last line's video and frame, which may not be the video's last; None: it is a picture's
    count:  lines
    errors: of these, how many are errors
    """

    def __init__(self, file: BinaryIO, where: Path) -> None:
        self.file, self.where = file, where
        self.done: set[str] = set()
        self.last: tuple[str, int] | None = None
        self.count = self.errors = 0
        self.video_begins, self.errors_before, self.count_before = 0, 0, 0

    def read(self) -> None:
        """What is there; a last line that was cut off is dropped.

        Raises:
            RunError: something else is no line of a prediction.
        """
        decode = msgspec.json.Decoder(Line).decode
        end = 0
        for number, text in enumerate(self.file, 1):
            if not text.endswith(b"\n"):
                break
            try:
                line = decode(text)
            except msgspec.MsgspecError as error:
                fix = "Remove the file, or begin anew with --restart."
                raise RunError(f"{self.where}:{number}", f"is no line of a prediction ({error})", fix) from error
            if line.frame is not None and (self.last is None or self.last[0] != line.image):
                self.video_begins, self.errors_before, self.count_before = end, self.errors, self.count
            self.last = None if line.frame is None else (line.image, line.frame)
            self.done.add(line.image)
            self.count += 1
            self.errors += bool(bytes(line.error))
            end += len(text)
        self.cut(end)

    def cut(self, end: int) -> None:
        """Only the first `end` bytes stay."""
        self.file.truncate(end)
        self.file.seek(end)

    def drop_last_video(self) -> None:
        """Without the lines of the video that was under way: what is drawn of it has to begin anew."""
        if self.last is not None:
            self.cut(self.video_begins)
            self.done.discard(self.last[0])
            self.errors, self.count, self.last = self.errors_before, self.count_before, None

    def write(self, line: Mapping[str, object]) -> None:
        """One more line, on its way to the disk when this returns."""
        self.file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
        self.file.flush()
        self.count += 1
        self.errors += "error" in line


@contextmanager
def lines_at(path: Path, begun_with: Mapping[str, object], *, restart: bool = False) -> Iterator[Lines]:
    """The lines that will be `path` when the block ends well; else they stay beside it, and the same call goes on with them.

    begun_with: what lines must have in common, as plain JSON values
    restart:    begin anew, whatever is there

    Raises:
        SightlineError: what is there was begun with something else; every difference is named.
        RunError: another process is writing it, or it is damaged.
    """
    partial, record = path.with_name(path.name + ".partial"), path.with_name(path.name + ".run.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("a+b") as file:
        require_alone(file, partial)
        lines = Lines(file, partial)
        file.seek(0)
        if restart or not record.is_file():
            lines.cut(0)
        else:
            require_same(record, begun_with)
            lines.read()
        write_json(record, begun_with, indent=1)
        try:
            yield lines
        except BaseException:
            file.flush()
            if not lines.count:
                remove(partial)
                remove(record)
            raise
        file.flush()
        os.fsync(file.fileno())
        partial.replace(path)
        remove(record)


def require_same(record: Path, begun_with: Mapping[str, object]) -> None:
    """Nothing, if the lines that are there were begun with the same.

    Raises:
        SightlineError: they were not.
    """
    try:
        before = json.loads(record.read_bytes())
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise SightlineError(record, "does not say what the run was begun with", "Begin anew with --restart.")
    now = json.loads(json.dumps(begun_with))
    differ = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differ:
        told = "; ".join(f"{name} {shown(before.get(name))}, now {shown(now.get(name))}" for name in differ)
        fix = "Give what it was begun with to go on, or --restart to begin anew."
        raise SightlineError(record.with_name(record.name.removesuffix(".run.json")), f"was begun with {told}", fix)


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def require_alone(file: BinaryIO, where: Path) -> None:
    """Nothing, if no other process writes the file; where the system has no such locks, always.

    Raises:
        RunError: another one does.
    """
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(where, "is being written by another process", "Wait for it, or choose another output.") from error
