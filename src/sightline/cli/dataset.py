"""`sightline dataset import` and `sightline dataset split`."""

import enum
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sightline.cli.console import note, show

if TYPE_CHECKING:
    from sightline.labels import Imported

app = typer.Typer(no_args_is_help=True, help="Labels and pictures: import them, split them.")

MAX_SHOWN = 20
"""Skipped problems and notes printed of each kind; --json has all."""


class OnProblemChoice(enum.StrEnum):
    error = "error"
    skip = "skip"


Format = Annotated[str | None, typer.Option("--format", metavar="F", help="ground-truth or coco; found out if not given.")]
Images = Annotated[Path | None, typer.Option("--images", metavar="DIR", help="The folder that holds the pictures.")]
LabelAttribute = Annotated[
    str | None, typer.Option("--label-attribute", help="Which labels to take when a manifest holds several.")
]
OnProblem = Annotated[
    OnProblemChoice, typer.Option("--on-problem", help="Fail with all problems, or leave out what is broken.")
]
Fractions = Annotated[
    list[str] | None,
    typer.Option("--fractions", metavar="PART=SHARE ...", help="Shares that sum to 1.  [train=0.6 val=0.2 test=0.2]"),
]
GroupBy = Annotated[
    str | None,
    typer.Option("--group-by", metavar="RULE", help="Pictures that stay together: folder, prefix:N or regex:PATTERN."),
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
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Ground Truth manifests or COCO instances files.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The dataset folder to make.")],
    format: Format = None,
    images: Images = None,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Import without pictures.")] = False,
    label_attribute: LabelAttribute = None,
    on_problem: OnProblem = OnProblemChoice.error,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Make a dataset folder from label files and pictures."""
    from sightline import labels
    from sightline.dataset import folder

    check_choice(images, labels_only)
    gc.set_threshold(100_000, 50, 100)  # a million small records and no cycles: looking for some took a third of the time
    imported = labels.read(sources, format=format, label_attribute=label_attribute, on_problem=on_problem.value)
    pictures = None if labels_only else picture_folders(imported, images)
    made = folder.create(imported.dataset, output, pictures=pictures, on_problem=on_problem.value)
    list_lines("note", [*imported.report.notes, *made.notes])
    list_lines("skipped", [str(problem) for problem in (*imported.report.skipped, *made.skipped)])
    show(f"{imported.report}\n{made}", as_json, {"labels": imported.report.as_dict(), "dataset": made.as_dict()})


@app.command("split", cls=SeveralValues)
def split_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `sightline dataset import` made.")],
    *,
    fractions: Annotated[
        list[str] | None,
        typer.Option(
            "--fractions", metavar="PART=SHARE ...", help="Shares that sum to 1; default: train=0.6 val=0.2 test=0.2."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives another split.")] = 0,
    group_by: GroupBy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was reached as JSON.")] = False,
) -> None:
    """Split a dataset folder into parts that are alike; pictures are not copied."""
    from sightline.dataset.split import FRACTIONS, parse_fractions, write_split

    shares = parse_fractions(fractions) if fractions else FRACTIONS
    table = write_split(folder, shares, seed=seed, group_by=group_by)
    show(str(table), as_json, table.as_dict())


def check_choice(images: Path | None, labels_only: bool) -> None:
    from sightline.errors import DatasetError

    if images is not None and labels_only:
        raise DatasetError("--images", "cannot be combined with --labels-only", "Give one of the two.")


def picture_folders(imported: "Imported", images: Path | None) -> list[Path]:
    """Where to look for the pictures: the folder given, or what lies beside the label files."""
    from sightline.dataset.pictures import folders_beside

    return [images] if images is not None else folders_beside(imported.report.files, imported.dataset)


def list_lines(kind: str, lines: list[str]) -> None:
    for line in lines[:MAX_SHOWN]:
        note(f"{kind}: {line}")
    if len(lines) > MAX_SHOWN:
        note(f"{kind}: ... and {len(lines) - MAX_SHOWN:,} more (all are in --json)")
