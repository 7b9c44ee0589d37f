"""Other people's annotation files <-> Dataset: one module per format, each with `recognise`, `read` and mostly `write`.

imported = labels.read(["train.manifest", "test.manifest"])
print(imported.report)
# ground-truth: 17 images (0 without objects), 51 boxes in 17 lines
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from sightline import coco, storage
from sightline.errors import LabelError, OnProblem, nearest
from sightline.labels.report import Imported, ImportReport
from sightline.records import Dataset

__all__ = ["FORMATS", "ImportReport", "Imported", "read", "recognise", "write"]

FORMATS = {"ground-truth": "sightline.labels.ground_truth", "coco": "sightline.labels.coco"}
"""Every annotation format and the module that reads it. `ground_truth` is accepted for `ground-truth`."""

HEAD_BYTES = 65_536
"""What a format is recognised by: more than half of a manifest's longest line, and COCO's first keys."""


class Reader(Protocol):
    """What every format module offers."""

    def recognise(self, head: bytes) -> bool: ...

    def read(self, paths: Sequence[Path], *, label_attribute: str | None = None) -> Imported: ...


def read(
    sources: Sequence[str | Path] | str | Path,
    *,
    format: str | None = None,
    label_attribute: str | None = None,
    on_problem: OnProblem = "error",
) -> Imported:
    """The labels of one or several files of one format, as one dataset, with a report.

    format:          a key of FORMATS; found from the content when None
    label_attribute: which labels of a Ground Truth manifest to take when it holds several
    on_problem:      "skip" leaves out what is broken and lists it in the report

    Raises:
        LabelError: everything that is wrong with the files, at once; nothing in them can be used; or they are of two formats.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    paths = [label_file(source) for source in given]
    if not paths:
        raise LabelError("labels", "no file is given", "Name at least one label file.")
    for path in paths:
        if paths.count(path) > 1:
            raise LabelError(path, "is given twice", "Name each file once.")
    name = format_name(format) if format else common_format(paths)
    imported = reader(name).read(paths, label_attribute=label_attribute)
    report = imported.report
    if report.skipped and on_problem == "error":
        raise LabelError.collected(report.skipped)
    if not imported.dataset.images:
        if report.skipped:
            raise LabelError.collected(report.skipped)
        raise LabelError(
            ", ".join(map(str, paths)), "holds no labelled picture", "Give the output of a finished labelling job."
        )
    return imported


def label_file(source: str | Path) -> Path:
    path = storage.local_path(source, "Reading labels")
    output = path / "manifests" / "output" / "output.manifest"
    if output.is_file():  # a labelling job's output folder, copied whole
        return output
    if path.is_dir():
        raise LabelError(path, "is a folder", "Name the label file in it.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check its permissions.") from error
    return path


def format_name(name: str) -> str:
    plain = name.replace("_", "-")
    if plain not in FORMATS:
        raise LabelError("format", f"unknown format {name!r}", nearest(plain, list(FORMATS)))
    return plain


def reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(FORMATS[name]))


def recognise(path: Path) -> str:
    """The format of a label file, a key of FORMATS, by its first bytes.

    Raises:
        LabelError: it is none of them.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for name in FORMATS:
        if reader(name).recognise(head):
            return name
    what = "is empty" if not head.strip() else f"is in no known label format (begins with {head[:40]!r})"
    raise LabelError(path, what, f"Give one of: {', '.join(FORMATS)}; or say which with --format.")


def common_format(paths: Sequence[Path]) -> str:
    found = {path: recognise(path) for path in paths}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{path} is {name}" for path, name in found.items())
        raise LabelError("labels", f"the files are of several formats: {listed}", "Import them one by one.")
    return found[paths[0]]


def write(
    dataset: Dataset, path: Path, *, format: str = "coco", prefix: str = "s3://bucket/images", attribute: str = "boxes"
) -> None:
    """The dataset as one label file; `prefix` and `attribute` are for Ground Truth manifests.

    Raises:
        LabelError: the format cannot hold what the dataset has.
    """
    if format_name(format) == "coco":
        coco.write(dataset, path)
    else:
        from sightline.labels import ground_truth

        ground_truth.write(dataset, path, prefix=prefix, attribute=attribute)
