"""What was read from several sources as one import: one dataset, one report that tells each source's share."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from sightline.errors import LabelError, OnProblem
from sightline.labels.merging import OnDuplicate, Origin, SamePicture, combine
from sightline.labels.report import Imported, ImportReport


def join(
    parts: Sequence[Imported],
    *,
    rename: Mapping[str, str],
    drop: Collection[str],
    on_duplicate: OnDuplicate,
    same_picture: SamePicture = "address",
    on_problem: OnProblem = "error",
) -> Imported:
    """The pictures of all parts under one list of classes; what `merging.merge` says about each is in the notes.

    on_problem: "skip" keeps the first labels of a picture that several parts have, and lists the others

    Raises:
        LabelError: as `merging.merge`.
    """
    shown = [place(part) for part in parts]
    merged = combine([part.dataset for part in parts], dict(rename), drop, on_duplicate, shown, same_picture)
    if merged.problems and on_problem == "error":
        raise LabelError.collected(merged.problems)
    reports = [part.report for part in parts]
    empty = [f"{where} holds no labelled picture." for where, report in zip(shown, reports, strict=True) if not report.images]
    report = ImportReport(
        format=", ".join(dict.fromkeys(one.format for one in reports)),
        files=tuple(file for one in reports for file in one.files),
        lines=sum(one.lines for one in reports),
        images=len(merged.dataset.images),
        boxes=merged.dataset.instance_count,
        empty_images=sum(not image.instances for image in merged.dataset.images),
        unlabelled=sum(one.unlabelled for one in reports),
        failed=sum(one.failed for one in reports),
        skipped=(*(problem for one in reports for problem in one.skipped), *merged.problems),
        notes=(*(note for one in reports for note in one.notes), *empty, *merged.notes),
        parts=tuple(reports) if len(reports) > 1 else (),
    )
    pictures = {
        image.file_name: picture
        for image, origins in zip(merged.dataset.images, merged.origins, strict=True)
        if (picture := picture_of(origins, parts)) is not None
    }
    return Imported(merged.dataset, report, pictures)


def place(part: Imported) -> str:
    """Where a part is from, for messages: its files, the first of many."""
    first, *others = part.report.files or ("nothing",)
    return f"{first} (and {len(others)} more)" if others else first


def picture_of(origins: Sequence[Origin], parts: Sequence[Imported]) -> Path | None:
    """The file of a picture where one of its parts knows it, those first whose labels count."""
    return next((path for number, name in origins if (path := parts[number].pictures.get(name)) is not None), None)
