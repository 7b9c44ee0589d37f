"""What an import tells about itself: how much was read, what was left out and why."""

from dataclasses import dataclass

from sightline.errors import Problem
from sightline.records import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Counts of one import.

    lines:      of a manifest; 0 for formats without lines
    unlabelled: lines without the label, which become no picture
    failed:     lines whose labelling failed, which become no picture either
    skipped:    what was wrong and left out
    notes:      facts to know that are no faults
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
        return "; ".join([f"{self.format}: {counts}{read}", *left_out])

    def as_dict(self) -> dict[str, object]:
        return {
            "format": self.format,
            "files": list(self.files),
            "lines": self.lines,
            "images": self.images,
            "boxes": self.boxes,
            "empty_images": self.empty_images,
            "unlabelled": self.unlabelled,
            "failed": self.failed,
            "skipped": [problem.as_dict() for problem in self.skipped],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """Labels as read, and the report about reading them."""

    dataset: Dataset
    report: ImportReport
