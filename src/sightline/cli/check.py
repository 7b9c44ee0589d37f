"""`sightline dataset check`."""

from contextlib import nullcontext
from typing import Annotated

import typer

from sightline.cli.console import log_to_stderr, note, show


def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A dataset folder, a COCO folder, or a COCO file.")],
    *,
    config: Annotated[
        str | None, typer.Option("--config", metavar="C", help="Try the anchors of this preset, zoo name or file on the boxes.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", metavar="LABELS", help="A second labelling of the same pictures, any format; may be repeated."
        ),
    ] = None,
    label_attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--label-attribute", metavar="NAME", help="Which labels of --against to take when a manifest holds several."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="REPORT_DIR", help="Write index.html and findings.json there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Find what is wrong with a data set before training does. Exit code 1, if anything is grave."""
    from sightline.checking import PAGE, check
    from sightline.storage import copied_here, output_path

    log_to_stderr()
    with output_path(output, "A report") if output else nullcontext() as to:
        report = check(
            copied_here(folder, "A check"), config=config, against=against or (), label_attribute=label_attribute, output=to
        )
    show(str(report), as_json, report.as_dict())
    if output is not None:
        note(f"page: {output.rstrip('/')}/{PAGE}")
    if report.grave:
        raise typer.Exit(1)
