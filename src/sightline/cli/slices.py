"""How `predict` and `evaluate` are asked for sliced prediction: the options, and what they come to."""

import enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightline.records import Model
    from sightline.slicing import Slices


class MergeChoice(enum.StrEnum):
    seams = "seams"
    nms = "nms"
    nmm = "nmm"


class MeasureChoice(enum.StrEnum):
    iou = "iou"
    ios = "ios"


SLICES = "Slices of large pictures"
"""The options' panel in --help."""

Slice = Annotated[
    str | None,
    typer.Option("--slice", metavar="SIDE|HxW", help="Cut pictures into tiles of so many pixels.", rich_help_panel=SLICES),
]
SliceOverlap = Annotated[
    float | None,
    typer.Option("--slice-overlap", metavar="SHARE", help="Of neighbouring tiles. Default: 0.2.", rich_help_panel=SLICES),
]
SliceWhole = Annotated[
    bool | None,
    typer.Option(
        "--slice-whole/--no-slice-whole", help="Also look at the whole picture (the default).", rich_help_panel=SLICES
    ),
]
SliceMerge = Annotated[
    MergeChoice | None,
    typer.Option("--slice-merge", help="How what tiles show is put together. Default: seams.", rich_help_panel=SLICES),
]
SliceMeasure = Annotated[
    MeasureChoice | None,
    typer.Option("--slice-measure", help="Overlap over the union, or over the smaller. Default: iou.", rich_help_panel=SLICES),
]
SliceThreshold = Annotated[
    float | None,
    typer.Option(
        "--slice-threshold", metavar="T", help="Overlap of one object seen twice. Default: 0.5.", rich_help_panel=SLICES
    ),
]
SliceMax = Annotated[
    int | None,
    typer.Option("--slice-max", metavar="N", help="Detections of a picture, at most. Default: all.", rich_help_panel=SLICES),
]


def slices_asked(
    size: str | None,
    *,
    overlap: float | None,
    whole: bool | None,
    merge: MergeChoice | None,
    measure: MeasureChoice | None,
    threshold: float | None,
    most: int | None,
) -> "Slices | None":
    """The slices, or None where none are asked for.

    Raises:
        ConfigError: all that is wrong; another option without --slice.
    """
    from sightline.errors import ConfigError
    from sightline.slicing import Slices

    given: dict[str, object] = {
        "overlap": overlap,
        "whole": whole,
        "merge": merge and merge.value,
        "measure": measure and measure.value,
        "threshold": threshold,
        "max_detections": most,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if size is not None:
        return Slices.asked(size, **given)
    if given:
        name = "max" if "max_detections" in given else next(iter(given))
        raise ConfigError(f"--slice-{name}", "needs --slice", "Say how large tiles are, as --slice 640.")
    return None


def sliced_model(model: "Model", name: str, slices: "Slices | None") -> "Model":
    """`model`, asked for by `name`, with sliced prediction if there are slices; a server gets several tiles at once."""
    if slices is None:
        return model
    from sightline.cli.models import REMOTE, REQUESTS_AT_ONCE
    from sightline.slicing import in_slices

    return in_slices(model, slices, batch_size=REQUESTS_AT_ONCE if name.startswith(REMOTE) else 1)
