"""Whether every option that was given has something to act on: one that does nothing would be taken for one that did."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.errors import LabelError, Problem
from sightline.labels import sequences as video
from sightline.labels.report import ReadOptions, WriteOptions

READING = {
    "label_attributes": ("--label-attribute", "ground-truth", "has label attributes"),
    "drop_rejected": ("--drop-rejected", "ground-truth", "has verdicts"),
    "min_confidence": ("--min-confidence", "ground-truth", "has confidences"),
    "class_attribute": ("--class-attribute", "via", "has region attributes"),
    "class_name": ("--class-name", "via", "has regions without a class"),
    "voc_origin": ("--voc-origin", "voc", "may count pixels from 0 or from 1"),
    "classes": ("--class", "open-images", "has classes to choose from"),
}
"""Field of ReadOptions -> (its option, the format that it is for, what files of this format alone have)."""

WRITING = {"voc_origin": ("--voc-origin", "voc"), "yolo_task": ("--yolo-task", "yolo")}


def require_readable(options: ReadOptions, groups: Sequence[tuple[str, Sequence[Path]]]) -> None:
    """
    groups: (format, its files)

    Raises:
        LabelError: all options that are for none of these formats.
    """
    plain, formats = ReadOptions(), {name for name, _ in groups}
    listed = ", ".join(f"{paths[0]} is {name}" for name, paths in groups)
    problems = [
        Problem(option, f"no file {has}: {listed}", f"Leave {option} out.")
        for field, (option, format, has) in READING.items()
        if getattr(options, field) != getattr(plain, field) and format not in formats
    ]
    if options.rejected and not options.drop_rejected:
        problems.append(Problem("--rejected", "does nothing by itself", "Add --drop-rejected, or leave it out."))
    if problems:
        raise LabelError.collected(problems)


def require_writable(format: str, options: WriteOptions, prefix: str | None) -> None:
    """
    Raises:
        LabelError: all options that are not for `format`.
    """
    plain = WriteOptions()
    given = [(option, own) for field, (option, own) in WRITING.items() if getattr(options, field) != getattr(plain, field)] + (
        [("--prefix", "ground-truth")] if prefix is not None else []
    )
    problems = [
        Problem(option, f"is for {own}, and {format} is written", f"Leave {option} out.")
        for option, own in given
        if own != format
    ]
    if problems:
        raise LabelError.collected(problems)


def attributes_of_each(
    wanted: Sequence[str], groups: Sequence[tuple[str, Sequence[Path]]], videos: Mapping[int, Sequence[Path]]
) -> list[tuple[str, ...]]:
    """Of the label attributes that are asked for those that each group is asked for: the jobs of one kind lack the others'.

    videos: number of a group -> its manifests, of groups of video jobs, which have few lines: one a sequence

    What no video job has is asked of the first group of single pictures, else of the first group: there it may be an error.
    """
    jobs = [number for number, (name, _) in enumerate(groups) if name == "ground-truth"]
    if not wanted or len(jobs) < 2 or not videos:
        return [tuple(wanted) if number in jobs else () for number in range(len(groups))]
    known = {number: video.attribute_names(paths) for number, paths in videos.items()}
    strange = [name for name in wanted if not any(name in names for names in known.values())]
    asked = next((number for number in jobs if number not in videos), jobs[0])
    return [
        tuple(name for name in wanted if name in known.get(number, ()) or (number == asked and name in strange))
        for number in range(len(groups))
    ]


def parse_renames(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """((class, new name), ...) of OLD=NEW.

    Raises:
        LabelError: all that are something else, or give one class two names.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for word in words:
        old, equals, new = word.partition("=")
        if not (old and equals and new):
            problems.append(Problem("--rename", f"is {word!r}", "Give OLD=NEW, both of them names of classes."))
        elif found.setdefault(old, new) != new:
            problems.append(Problem("--rename", f"calls {old!r} both {found[old]!r} and {new!r}", "Give it one name."))
    if problems:
        raise LabelError.collected(problems)
    return tuple(found.items())
