"""What a format module is told and what it tells: options, and how much was read, what was left out and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sightline.errors import Problem
from sightline.labels.merging import OnDuplicate, SamePicture
from sightline.records import Dataset

YoloTask = Literal["detect", "segment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a file does not say by itself; each is for the formats that need it.

    label_attributes: which labels of a Ground Truth manifest to take when it holds several; each file takes the one it has
    drop_rejected:   leave out pictures whose boxes a verification job called bad
    rejected:        the verdicts that mean this; none given: the usual words
    min_confidence:  leave out Ground Truth boxes below it; None: keep all
    class_attribute: which VIA region attribute is the class when there are several
    class_name:      the class of VIA regions that have none
    voc_origin:      the first pixel's number in Pascal VOC files: 1, as in VOC itself, or 0
    classes:         the classes to take of Open Images' 600, by name or MID; none given: all
    on_duplicate:    what to do with a picture that is labelled twice: in two files, two lines of manifests, or by two people
                     in a Label Studio task
    same_picture:    "name": pictures of two files are the same where their file names are, in whatever bucket or folder
    rename:          (class, its new name); classes that get one name become one
    drop:            classes whose objects are left out
    images:          a folder that holds the pictures, before those beside the labels
    download:        fetch from S3 the sequence files and frames that a video job's manifest names; on for manifests on S3
    """

    label_attributes: tuple[str, ...] = ()
    drop_rejected: bool = False
    rejected: tuple[str, ...] = ()
    min_confidence: float | None = None
    class_attribute: str | None = None
    class_name: str | None = None
    voc_origin: int = 1
    classes: tuple[str, ...] = ()
    on_duplicate: OnDuplicate = "error"
    same_picture: SamePicture = "address"
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    images: Path | None = None
    download: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a format needs to know beyond the dataset; each is for the formats that ask for it.

    voc_origin: the first pixel's number in Pascal VOC files
    yolo_task:  boxes or outlines; None: outlines if every object has one
    pictures:   the folder of the dataset's pictures, where it is known
    """

    voc_origin: int = 1
    yolo_task: YoloTask | None = None
    pictures: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Counts of one import.

    lines:      of a manifest; 0 for formats without lines
    unlabelled: lines without the label, which become no picture
    failed:     lines whose labelling failed, which become no picture either
    skipped:    what was wrong and left out
    notes:      facts to know that are no faults
    parts:      the reports of each source by itself, where several were joined
    addresses:  file -> the s3:// address that it was fetched from
    """

    format: str
    files: tuple[str, ...]
    images: int
    boxes: int
    empty_images: int
    lines: int = 0
    unlabelled: int = 0
    failed: int = 0
    skipped: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple["ImportReport", ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def called(self) -> tuple[str, ...]:
        """The files as people know them: those from S3 by their addresses."""
        return tuple(self.addresses.get(file, file) for file in self.files)

    def __str__(self) -> str:
        counts = f"{self.images:,} images ({self.empty_images:,} without objects), {self.boxes:,} boxes"
        read = f" in {self.lines:,} lines" if self.lines else ""
        left_out = [
            f"{number:,} {what}"
            for number, what in (
                (self.unlabelled, "lines without a label"),
                (self.failed, "lines whose labelling failed"),
                (len(self.skipped), "problems skipped"),
            )
            if number
        ]
        own = "; ".join([f"{self.format}: {counts}{read}", *left_out])
        return "\n".join([own, *(f"  {', '.join(part.called[:3])}: {part}" for part in self.parts)])

    def as_dict(self) -> dict[str, object]:
        return {
            "format": self.format,
            "files": list(self.called),
            "lines": self.lines,
            "images": self.images,
            "boxes": self.boxes,
            "empty_images": self.empty_images,
            "unlabelled": self.unlabelled,
            "failed": self.failed,
            "skipped": [problem.as_dict() for problem in self.skipped],
            "notes": list(self.notes),
            "parts": [part.as_dict() for part in self.parts],
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """Labels as read, and the report about reading them.

    pictures: file_name -> the picture, where the format's own layout told which it is
    """

    dataset: Dataset
    report: ImportReport
    pictures: Mapping[str, Path] = field(default_factory=dict)


def imported(
    format: str,
    paths: Sequence[Path],
    dataset: Dataset,
    *,
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
    pictures: Mapping[str, Path] | None = None,
) -> Imported:
    """`dataset` with a report that counts it; for formats without lines."""
    report = ImportReport(
        format=format,
        files=tuple(map(str, paths)),
        images=len(dataset.images),
        boxes=dataset.instance_count,
        empty_images=sum(not image.instances for image in dataset.images),
        skipped=tuple(problems),
        notes=tuple(notes),
    )
    return Imported(dataset, report, pictures or {})
