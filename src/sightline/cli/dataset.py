"""`sightline dataset import`, `split`, `slice` and `export`."""

import enum
import gc
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.labels import (
    ClassAttribute,
    Classes,
    ClassName,
    Download,
    Drop,
    DropRejected,
    Format,
    Images,
    LabelAttribute,
    MinConfidence,
    OnDuplicate,
    OnDuplicateChoice,
    OnProblem,
    OnProblemChoice,
    Rejected,
    Rename,
    SamePicture,
    SamePictureChoice,
    VocOrigin,
    read_options,
)
from sightline.cli.prelabel import prelabel

app = typer.Typer(no_args_is_help=True, help="Labels and pictures: import them, split them, export them.")

MAX_SHOWN = 20
"""Skipped problems and notes printed of each kind; --json has all."""


class YoloTaskChoice(enum.StrEnum):
    detect = "detect"
    segment = "segment"


Fractions = Annotated[
    list[str] | None,
    typer.Option("--fractions", metavar="PART=SHARE ...", help="Shares that sum to 1.  [train=0.6 val=0.2 test=0.2]"),
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option(
        "--group-by",
        metavar="RULE",
        help="Pictures that stay together: folder, prefix:N, regex:PATTERN or near-duplicates; may be repeated.",
    ),
]


class SeveralValues(TyperCommand):
    """A command whose --fractions takes several values: `--fractions train=0.8 val=0.2` is the option given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeat_option(args, "--fractions"))


def repeat_option(arguments: list[str], option: str) -> list[str]:
    """`arguments` with `option` before each of the NAME=NUMBER that follow it."""
    repeated: list[str] = []
    within = False
    for number, argument in enumerate(arguments):
        is_value = "=" in argument and not argument.startswith("-")
        if within and is_value and arguments[number - 1] != option:
            repeated.append(option)
        within = argument == option or (within and is_value)
        repeated.append(argument)
    return repeated


@app.command("import")
def import_labels(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Label files, or folders of them.")],
    *,
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="The dataset folder to make; also s3://.")],
    format: Format = None,
    images: Images = None,
    download: Download = False,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Import without pictures.")] = False,
    label_attribute: LabelAttribute = None,
    drop_rejected: DropRejected = False,
    rejected: Rejected = None,
    min_confidence: MinConfidence = None,
    class_attribute: ClassAttribute = None,
    class_name: ClassName = None,
    voc_origin: VocOrigin = 1,
    classes: Classes = None,
    rename: Rename = None,
    drop: Drop = None,
    on_duplicate: OnDuplicate = OnDuplicateChoice.error,
    same_picture: SamePicture = SamePictureChoice.address,
    on_problem: OnProblem = OnProblemChoice.error,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a dataset folder from label files and pictures."""
    from sightline import labels
    from sightline.dataset import folder
    from sightline.dataset.pictures import places
    from sightline.storage import is_remote, output_path

    log_to_stderr()
    check_choice(images, labels_only)
    looked_in = labels.pictures_folder(sources, images, format)
    gc.set_threshold(100_000, 50, 100)  # a million small records and no cycles: looking for some took a third of the time
    options = read_options(
        images=looked_in,
        label_attribute=label_attribute,
        drop_rejected=drop_rejected,
        rejected=rejected,
        min_confidence=min_confidence,
        class_attribute=class_attribute,
        class_name=class_name,
        voc_origin=voc_origin,
        classes=classes,
        rename=rename,
        drop=drop,
        on_duplicate=on_duplicate,
        same_picture=same_picture,
        download=download,
    )
    with output_path(output, "A data set") as to:
        imported = labels.read_with(sources, options, format=format, on_problem=on_problem.value)
        pictures = (
            None
            if labels_only
            else places(
                imported.report.files,
                imported.dataset,
                given=looked_in or images,
                known=imported.pictures,
                download=download or any(map(is_remote, sources)),
                called=imported.report.called,
            )
        )
        made = replace(folder.create(imported.dataset, to, pictures=pictures, on_problem=on_problem.value), folder=output)
    list_lines("note", [*imported.report.notes, *made.notes])
    list_lines("skipped", [str(problem) for problem in (*imported.report.skipped, *made.skipped)])
    show(f"{imported.report}\n{made}", as_json, {"labels": imported.report.as_dict(), "dataset": made.as_dict()})


@app.command("split", cls=SeveralValues)
def split_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", parser=here, help="A folder that `sightline dataset import` made.")],
    *,
    fractions: Annotated[
        list[str] | None,
        typer.Option(
            "--fractions", metavar="PART=SHARE ...", help="Shares that sum to 1; default: train=0.6 val=0.2 test=0.2."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another split.")] = 0,
    group_by: GroupBy = None,
    keep_from: Annotated[
        Path | None, typer.Option("--keep-from", metavar="DIR", help="A split folder, or DIR itself: its pictures stay put.")
    ] = None,
    test_from: Annotated[
        Path | None,
        typer.Option("--test-from", metavar="FILE|DIR", help="The test part: a list of names, or another data set's."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", help="K folds of all but the test part, instead of parts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was reached as JSON.")] = False,
) -> None:
    """Split a dataset folder into parts that are alike; pictures are not copied."""
    from sightline.dataset.folds import write_folds
    from sightline.dataset.split import parse_fractions, write_split
    from sightline.errors import DatasetError

    if folds is not None and fractions:
        raise DatasetError("--folds", "cannot be combined with --fractions", "Split into parts first, then make the folds.")
    if folds is not None:
        table = write_folds(folder, folds, seed=seed, group_by=group_by, keep_from=keep_from, test_from=test_from)
    else:
        shares = parse_fractions(fractions) if fractions else None
        table = write_split(folder, shares, seed=seed, group_by=group_by, keep_from=keep_from, test_from=test_from)
    show(str(table), as_json, table.as_dict())


@app.command("slice")
def slice_pictures(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A dataset folder; also s3://.")],
    *,
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="The dataset folder to make; also s3://.")],
    size: Annotated[str, typer.Option("--size", metavar="SIDE|HxW", help="Pixels of a tile.")] = "640",
    overlap: Annotated[float, typer.Option("--overlap", metavar="SHARE", help="Of neighbouring tiles.")] = 0.2,
    min_visible: Annotated[
        float, typer.Option("--min-visible", metavar="SHARE", help="Of an object's box, for a tile to have it as a label.")
    ] = 0.3,
    with_empty: Annotated[
        bool, typer.Option("--with-empty/--without-empty", help="Tiles without an object, as negatives.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Cut large pictures into tiles with their labels, for training on them; parts stay as they are."""
    from sightline.dataset.slices import slice_folder
    from sightline.slicing import Slices
    from sightline.storage import output_path

    log_to_stderr()
    slices = Slices.asked(size, overlap=overlap)
    with output_path(output, "A data set") as to:
        made = replace(slice_folder(folder, to, slices, min_visible=min_visible, with_empty=with_empty), folder=output)
    show(str(made), as_json, made.as_dict())


@app.command("export")
def export_labels(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A dataset folder; also s3://.")],
    *,
    format: Annotated[str, typer.Option("--format", metavar="F", help="coco, voc, yolo, via, ground-truth, ...")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="The folder to make; also s3://.")],
    split: Annotated[str, typer.Option("--split", metavar="PART", help="all, or a part that a split made.")] = "all",
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", metavar="S3", help="Where a Ground Truth manifest has its pictures.  [each at its own s3:// address]"
        ),
    ] = None,
    voc_origin: VocOrigin = 1,
    yolo_task: Annotated[
        YoloTaskChoice | None, typer.Option("--yolo-task", help="Boxes or outlines. Default: outlines if every object has one.")
    ] = None,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Export without pictures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a dataset folder in another format, with its pictures, and say what that format cannot hold."""
    from sightline import labels
    from sightline.dataset import folder as folders
    from sightline.storage import atomic_folder, output_path

    part = folders.open_part(folder, split)
    pictures = None if labels_only else part.images_dir
    with output_path(output, "An export") as to, atomic_folder(to) as made:
        lost = labels.write(
            part.dataset,
            made / labels.FILES.get(labels.format_name(format), "").format(part=split),
            format=format,
            prefix=prefix,
            voc_origin=voc_origin,
            yolo_task=yolo_task.value if yolo_task else None,
            pictures=part.images_dir,
        )
        if pictures is not None:
            target = made / labels.PICTURE_FOLDERS.get(labels.format_name(format), "images")
            folders.place_pictures(part, target)
    list_lines("cannot be held", lost)
    images, boxes = len(part.dataset.images), part.dataset.instance_count
    with_pictures = "" if pictures is not None else ", labels only"
    told = f"{output}: {images:,} images, {boxes:,} boxes as {labels.format_name(format)}{with_pictures}"
    counts = {"folder": str(output), "format": labels.format_name(format), "images": images, "boxes": boxes}
    show(told, as_json, counts | {"with_pictures": pictures is not None, "lost": lost})


app.command("prelabel")(prelabel)


def check_choice(images: str | None, labels_only: bool) -> None:
    from sightline.errors import DatasetError

    if images is not None and labels_only:
        raise DatasetError("--images", "cannot be combined with --labels-only", "Give one of the two.")


def list_lines(kind: str, lines: list[str]) -> None:
    for line in lines[:MAX_SHOWN]:
        note(f"{kind}: {line}")
    if len(lines) > MAX_SHOWN:
        note(f"{kind}: ... and {len(lines) - MAX_SHOWN:,} more (all are in --json)")
