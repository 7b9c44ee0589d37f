"""The options that say how label files are read, the same for `sightline dataset import` and `sightline run`."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightline.labels import ReadOptions


class OnProblemChoice(enum.StrEnum):
    error = "error"
    skip = "skip"


class OnDuplicateChoice(enum.StrEnum):
    error = "error"
    first = "first"
    last = "last"
    merge = "merge"


Format = Annotated[str | None, typer.Option("--format", metavar="F", help="coco, voc, yolo, ...; found out if not given.")]
Images = Annotated[
    str | None, typer.Option("--images", metavar="DIR", help="The folder, or prefix on S3, that holds the pictures.")
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch what no folder has from the labels' s3:// addresses. On for labels on S3."),
]
LabelAttribute = Annotated[
    list[str] | None,
    typer.Option(
        "--label-attribute",
        metavar="NAME",
        help="Which labels to take when a manifest holds several; may be repeated, each manifest takes the one it has.",
    ),
]
DropRejected = Annotated[bool, typer.Option("--drop-rejected", help="Without what a verification job called bad.")]
Rejected = Annotated[
    list[str] | None, typer.Option("--rejected", metavar="VERDICT", help="A verdict that means bad; may be repeated.")
]
MinConfidence = Annotated[
    float | None, typer.Option("--min-confidence", help="Without Ground Truth boxes below it. Default: all are kept.")
]
ClassAttribute = Annotated[
    str | None, typer.Option("--class-attribute", help="Which VIA region attribute is the class, if there are several.")
]
ClassName = Annotated[str | None, typer.Option("--class-name", help="The class of VIA regions that have none.  [object]")]
VocOrigin = Annotated[
    int, typer.Option("--voc-origin", metavar="0|1", help="Number of a picture's first pixel in Pascal VOC files.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", metavar="NAME", help="A class to take of Open Images' 600; may be repeated.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename", metavar="OLD=NEW", help="Another name for a class; may be repeated, equal names become one class."
    ),
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", metavar="CLASS", help="Without a class; its pictures stay. May be repeated.")
]


class SamePictureChoice(enum.StrEnum):
    address = "address"
    name = "name"


OnDuplicate = Annotated[
    OnDuplicateChoice, typer.Option("--on-duplicate", help="Whose labels count for a picture that is labelled twice.")
]
SamePicture = Annotated[
    SamePictureChoice,
    typer.Option("--same-picture", help="What tells that pictures of two files are one: the whole address, or the name alone."),
]
OnProblem = Annotated[
    OnProblemChoice, typer.Option("--on-problem", help="Fail with all problems, or leave out what is broken.")
]


def read_options(
    *,
    images: Path | None,
    label_attribute: Sequence[str] | None,
    drop_rejected: bool,
    rejected: Sequence[str] | None,
    min_confidence: float | None,
    class_attribute: str | None,
    class_name: str | None,
    voc_origin: int,
    classes: Sequence[str] | None,
    rename: Sequence[str] | None,
    drop: Sequence[str] | None,
    on_duplicate: OnDuplicateChoice,
    same_picture: SamePictureChoice,
    download: bool,
) -> "ReadOptions":
    """What the options above come to.

    Raises:
        LabelError: a --rename is no OLD=NEW.
    """
    from sightline.labels import ReadOptions
    from sightline.labels.asked import parse_renames

    return ReadOptions(
        label_attributes=tuple(label_attribute or ()),
        drop_rejected=drop_rejected,
        rejected=tuple(rejected or ()),
        min_confidence=min_confidence,
        class_attribute=class_attribute,
        class_name=class_name,
        voc_origin=voc_origin,
        classes=tuple(classes or ()),
        on_duplicate=on_duplicate.value,
        same_picture=same_picture.value,
        download=download,
        rename=parse_renames(rename or ()),
        drop=tuple(drop or ()),
        images=images,
    )
