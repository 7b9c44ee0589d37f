"""Other people's annotation files <-> Dataset: one module per format, each with `recognise`, `read` and mostly `write`.

imported = labels.read(["train.manifest", "test.manifest"])
print(imported.report)
# ground-truth: 17 images (0 without objects), 51 boxes in 17 lines
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

from sightline import storage
from sightline.coco import write as write_coco  # `coco` is a module of this package, too
from sightline.errors import LabelError, OnProblem, Problem, RunError, SightlineError, nearest
from sightline.labels import sequences as video
from sightline.labels.asked import attributes_of_each, require_readable, require_writable
from sightline.labels.joining import join
from sightline.labels.merging import RULES, SAME, OnDuplicate, SamePicture, spellings
from sightline.labels.report import Imported, ImportReport, ReadOptions, WriteOptions, YoloTask
from sightline.labels.writing import require_safe_names
from sightline.records import Dataset

__all__ = ["FORMATS", "ImportReport", "Imported", "ReadOptions", "WriteOptions", "read", "recognise", "write"]

FORMATS = {
    "ground-truth": "sightline.labels.ground_truth",
    "coco": "sightline.labels.coco",
    "via": "sightline.labels.via",
    "voc": "sightline.labels.voc",
    "yolo": "sightline.labels.yolo",
    "open-images": "sightline.labels.open_images",
    "labelme": "sightline.labels.labelme",
    "cvat": "sightline.labels.cvat",
    "label-studio": "sightline.labels.label_studio",
    "sku110k": "sightline.labels.sku110k",
}
"""Every annotation format and the module that reads it. `ground_truth` is accepted for `ground-truth`."""

FILES = {"ground-truth": "output.manifest", "coco": "annotations/{part}.json"}
"""What `write` makes of a part is one file of that name for these formats, a folder for the others."""

PICTURE_FOLDERS = {"voc": "JPEGImages", "via": "", "labelme": ""}
"""Where a format has its pictures, below the folder of its labels; `images` where nothing else is said."""

SIZED = {"ground-truth", "coco", "sku110k"}
"""Formats whose labels always tell the sizes of their pictures."""

OWN = "annotations/all.json"
"""Where a dataset folder has the labels of all its pictures."""

OUTPUT = "manifests/output/output.manifest"
"""Where a labelling job leaves its result."""

HEAD_BYTES = 65_536
"""What a format is recognised by: more than half of a manifest's longest line, and COCO's first keys."""


class Reader(Protocol):
    """What every format module offers."""

    def recognise(self, path: Path, head: bytes) -> bool:
        """Whether `path` may be of this format: a file that begins with `head`, or a folder, whose head is empty."""

    def read(self, paths: Sequence[Path], *, options: ReadOptions) -> Imported:
        """The pictures of all files or folders together; what is wrong with single pictures is in the report."""


class Writer(Protocol):
    """What a format module offers that can be written, too."""

    def write(self, dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
        """The dataset's labels in the folder `to`. What the format cannot hold is returned, one line for each kind of loss."""


def read(
    sources: Sequence[str | Path] | str | Path,
    *,
    format: str | None = None,
    label_attribute: str | Sequence[str] | None = None,
    drop_rejected: bool = False,
    rejected: Sequence[str] = (),
    min_confidence: float | None = None,
    class_attribute: str | None = None,
    class_name: str | None = None,
    voc_origin: int = 1,
    classes: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    on_duplicate: OnDuplicate = "error",
    same_picture: SamePicture = "address",
    images: Path | None = None,
    download: bool = False,
    on_problem: OnProblem = "error",
) -> Imported:
    """The labels of one or several files or folders as one dataset, with a report; they may be of several formats.

    format:     a key of FORMATS; found from the content, for each source, when None
    on_problem: "skip" leaves out what is broken and lists it in the report
    others:     as in `ReadOptions`

    Raises:
        LabelError: everything that is wrong with the files, at once; nothing in them can be used; a class to rename or to drop
            is not there; or a picture is in two of the files, and no rule was chosen.
    """
    attributes = [label_attribute] if isinstance(label_attribute, str) else label_attribute or ()
    options = ReadOptions(
        label_attributes=tuple(attributes),
        drop_rejected=drop_rejected,
        rejected=tuple(rejected),
        min_confidence=min_confidence,
        class_attribute=class_attribute,
        class_name=class_name,
        voc_origin=voc_origin,
        classes=tuple(classes),
        on_duplicate=on_duplicate,
        same_picture=same_picture,
        rename=tuple((rename or {}).items()),
        drop=tuple(drop),
        images=images,
        download=download,
    )
    return read_with(sources, options, format=format, on_problem=on_problem)


def read_with(
    sources: Sequence[str | Path] | str | Path,
    options: ReadOptions,
    *,
    format: str | None = None,
    on_problem: OnProblem = "error",
) -> Imported:
    """As `read`, the options in one piece."""
    given = [sources] if isinstance(sources, str | Path) else sources
    paths = [label_file(source) for source in given]
    addresses = {
        str(path): address_of(str(one), path) for one, path in zip(given, paths, strict=True) if storage.is_remote(str(one))
    }
    options = replace(options, download=options.download or bool(addresses))
    with by_address(addresses):
        found = read_files(paths, options, format=format, on_problem=on_problem)
    return Imported(found.dataset, addressed(found.report, addresses), found.pictures)


def read_files(paths: Sequence[Path], options: ReadOptions, *, format: str | None, on_problem: OnProblem) -> Imported:
    """As `read_with`, of files that are here."""
    if not paths:
        raise LabelError("labels", "no file is given", "Name at least one label file.")
    for path in paths:
        if paths.count(path) > 1:
            raise LabelError(path, "is given twice", "Name each file once.")
    if options.on_duplicate not in RULES:
        raise LabelError("--on-duplicate", f"unknown rule {options.on_duplicate!r}", nearest(options.on_duplicate, RULES))
    if options.same_picture not in SAME:
        raise LabelError("--same-picture", f"unknown rule {options.same_picture!r}", nearest(options.same_picture, SAME))
    groups = list(read_together(paths, format_name(format) if format else None, options))
    require_readable(options, groups)
    attributes = attributes_of_each(options.label_attributes, groups, dict(videos_among(groups)))
    parts = [
        read_as(name, group, replace(options, label_attributes=own))
        for (name, group), own in zip(groups, attributes, strict=True)
    ]
    parts = [
        replace(part, pictures=in_dataset_folder(group[0], part.dataset)) if name == "coco" else part
        for (name, group), part in zip(groups, parts, strict=True)
    ]
    skipped = [problem for part in parts for problem in part.report.skipped]
    if skipped and (on_problem == "error" or not any(part.dataset.images for part in parts)):
        raise LabelError.collected(skipped)
    if not any(part.dataset.images for part in parts):
        raise LabelError(
            ", ".join(map(str, paths)), "holds no labelled picture", "Give the output of a finished labelling job."
        )
    spelled_twice = any(True for _ in spellings(parts[0].dataset.class_names))
    if len(parts) == 1 and not options.rename and not options.drop and not spelled_twice:
        return parts[0]
    return join(
        parts,
        rename=dict(options.rename),
        drop=options.drop,
        on_duplicate=options.on_duplicate,
        same_picture=options.same_picture,
        on_problem=on_problem,
    )


def read_together(paths: Sequence[Path], name: str | None, options: ReadOptions) -> Iterator[tuple[str, list[Path]]]:
    """(format, the files that are read together): all of one format, or each by itself where a rule chooses among them.

    Manifests of single pictures stay together then, too: a rule works line by line there, and all lines decide on the order of
    classes.
    """
    groups: dict[tuple[str, bool], list[Path]] = {}
    for path in paths:
        own = name or recognise(path)
        is_video = own == "ground-truth" and len(paths) > 1 and video.recognise(path, head_of(path))
        groups.setdefault((own, is_video), []).append(path)
    for (own, is_video), group in groups.items():
        whole = own != "coco" and options.on_duplicate == "error"  # COCO files may tell addresses, by which pictures are known
        if (own == "ground-truth" and not is_video) or whole:
            yield own, group
        elif own == "open-images":
            from sightline.labels import open_images

            yield from ((own, files) for files in open_images.apart(group))
        else:
            yield from ((own, [path]) for path in group)


def videos_among(groups: Sequence[tuple[str, Sequence[Path]]]) -> Iterator[tuple[int, Sequence[Path]]]:
    """(number of a group, its manifests) of the groups of video jobs."""
    for number, (name, paths) in enumerate(groups):
        if name == "ground-truth" and len(groups) > 1 and all(video.recognise(path, head_of(path)) for path in paths):
            yield number, paths


def in_dataset_folder(path: Path, dataset: Dataset) -> dict[str, Path]:
    """{file name: its picture} where a COCO file is the annotations/PART.json of a dataset folder; else nothing."""
    images = path.parent.parent / "images"
    if path.parent.name != "annotations" or not images.is_dir():
        return {}
    files = {image.file_name: images / image.file_name for image in dataset.images}
    return {name: file for name, file in files.items() if file.is_file()}


def read_as(name: str, paths: Sequence[Path], options: ReadOptions) -> Imported:
    with refusals(paths[0]):
        return read_by(name, paths, options)


def read_by(name: str, paths: Sequence[Path], options: ReadOptions) -> Imported:
    if name != "ground-truth":
        return reader(name).read(paths, options=options)
    from sightline.labels import ground_truth  # its options are spelled out

    return ground_truth.read(
        paths,
        label_attributes=options.label_attributes,
        drop_rejected=options.drop_rejected,
        rejected=options.rejected,
        min_confidence=options.min_confidence,
        on_duplicate=options.on_duplicate,
        same_picture=options.same_picture,
        images=options.images,
        download=options.download,
    )


def label_file(source: str | Path) -> Path:
    """The file or folder of labels that `source` names; one on S3 is fetched, of a labelling job its manifest alone."""
    if storage.is_remote(str(source)):
        return fetched_labels(str(source))
    path = storage.local_path(source, "Reading labels")
    output = path / OUTPUT
    if output.is_file():  # a labelling job's output folder, copied whole
        return output
    if (path / OWN).is_file():
        return path / OWN
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check its permissions.") from error
    return path


def fetched_labels(source: str) -> Path:
    """`label_file` of an s3:// address. A labelling job's folder holds its whole history; only the outcome counts."""
    if not PurePosixPath(source).suffix:
        try:
            return storage.local_path(f"{source.rstrip('/')}/{OUTPUT}", "Reading labels")
        except RunError:
            raise
        except SightlineError:  # no such folder, or no right to look for one
            pass
    return storage.local_path(source, "Reading labels")


def address_of(source: str, path: Path) -> str:
    """The s3:// address of `path`, which `label_file` made of `source`."""
    of_job = path.is_file() and not PurePosixPath(source).suffix and path.name == PurePosixPath(OUTPUT).name
    return f"{source.rstrip('/')}/{OUTPUT}" if of_job and not source.endswith(path.name) else source.rstrip("/")


@contextmanager
def by_address(addresses: Mapping[str, str]) -> Iterator[None]:
    """Errors about files in the cache name the addresses that these came from. addresses: file -> s3:// address"""
    try:
        yield
    except SightlineError as error:
        told = [renamed(problem, addresses) for problem in error.problems]
        if tuple(told) == error.problems:
            raise
        raise type(error).collected(told) from error


def renamed(problem: Problem, addresses: Mapping[str, str]) -> Problem:
    return Problem(*(with_addresses(text, addresses) for text in (problem.where, problem.what, problem.fix)))


def with_addresses(text: str, addresses: Mapping[str, str]) -> str:
    for path, address in addresses.items():
        text = text.replace(path, address)
    return text


def addressed(report: ImportReport, addresses: Mapping[str, str]) -> ImportReport:
    """The same report, in which files from S3 are called by their addresses."""
    if not addresses:
        return report
    return replace(
        report,
        skipped=tuple(renamed(problem, addresses) for problem in report.skipped),
        notes=tuple(with_addresses(note, addresses) for note in report.notes),
        parts=tuple(addressed(part, addresses) for part in report.parts),
        addresses=addresses,
    )


def pictures_folder(sources: Sequence[str | Path], images: str | Path | None, format: str | None) -> Path | None:
    """The `images` that readers look into: a prefix on S3 is fetched whole for formats that need its pictures' sizes.

    None for other formats, of whose prefix only the pictures that the labels name will be fetched.
    """
    if images is None or not storage.is_remote(str(images)):
        return None if images is None else Path(images)
    names = {format_name(format)} if format else {recognised(source) for source in sources}
    return None if names <= SIZED else storage.local_path(images, "Reading pictures")


def recognised(source: str | Path) -> str:
    """As `recognise`, of a source that may be on S3."""
    path = label_file(source)
    with by_address({str(path): address_of(str(source), path)} if storage.is_remote(str(source)) else {}):
        return recognise(path)


def format_name(name: str) -> str:
    plain = name.replace("_", "-")
    if plain not in FORMATS:
        raise LabelError("format", f"unknown format {name!r}", nearest(plain, list(FORMATS)))
    return plain


def reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(FORMATS[name]))


def recognise(path: Path) -> str:
    """The format of a label file or folder, a key of FORMATS, by its first bytes or the names in it.

    Raises:
        LabelError: it is none of them.
    """
    with refusals(path):
        head = head_of(path)
    for name in sorted(FORMATS, key=lambda name: name == "coco"):  # COCO's words are the most common ones: asked last
        with refusals(path):
            if reader(name).recognise(path, head):
                return name
    if path.is_dir():
        raise LabelError(path, "is a folder of no known label format", "Name the label file in it, or its --format.")
    what = "is empty" if not head.strip() else f"is in no known label format (begins with {head[:40]!r})"
    raise LabelError(path, what, f"Give one of: {', '.join(FORMATS)}; or say which with --format.")


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What the system refuses while labels are read (no permission, a folder instead of a file), as our own error."""
    try:
        yield
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise LabelError(error.filename or path, what, "Check its permissions, and that it is a file.") from error


def head_of(path: Path) -> bytes:
    """What a file begins with, after its byte order mark; nothing of a folder."""
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")


def written() -> list[str]:
    """The formats that can be written."""
    return [name for name in FORMATS if name == "coco" or hasattr(reader(name), "write")]


def write(
    dataset: Dataset,
    path: Path,
    *,
    format: str = "coco",
    prefix: str | None = None,
    attribute: str = "boxes",
    voc_origin: int = 1,
    yolo_task: YoloTask | None = None,
    pictures: Path | None = None,
) -> list[str]:
    """The dataset's labels at `path`, one file or a folder (see FILES); what the format cannot hold, a line for each kind.

    prefix, attribute: of Ground Truth manifests: as in `ground_truth.write`
    others:            as in `WriteOptions`

    Raises:
        LabelError: the format cannot hold the dataset at all, or an option is for another one.
    """
    name = format_name(format)
    options = WriteOptions(voc_origin=voc_origin, yolo_task=yolo_task, pictures=pictures)
    require_writable(name, options, prefix)
    require_safe_names(dataset)
    if name == "coco":
        write_coco(dataset, path)
        return []
    if name == "ground-truth":
        from sightline.labels import ground_truth

        return ground_truth.write(dataset, path, prefix=prefix, attribute=attribute)
    module = reader(name)
    if not hasattr(module, "write"):
        raise LabelError("format", f"{name} is read, but not written", f"Write one of: {', '.join(written())}.")
    return cast(Writer, module).write(dataset, path, options=options)
