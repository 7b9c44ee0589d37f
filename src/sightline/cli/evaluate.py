"""`sightline evaluate`: how good a model, or a file of results, is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import show

if TYPE_CHECKING:
    from sightline.evaluation.coco import DetectionScores, Scores


def evaluate(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL|RESULTS.json", help="A run, a bundle, an address, or a COCO results file.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR|TRUTH.json", help="A dataset folder or a COCO instances file.")],
    split: Annotated[str, typer.Option("--split", help="Which part of a dataset folder.")] = "test",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="REPORT_DIR", help="Where scores.json and the results go. A run keeps its own."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print COCO's average precision and recall, for boxes and masks, in all and per class; recall alone for proposals."""
    from sightline import storage
    from sightline.evaluation.coco import table, to_dict

    scores: dict[str, Scores] = {}
    if subject.endswith(".json"):
        scores |= score_results(Path(subject), data, split)
        if output:
            storage.write_json(output / "scores.json", to_dict(scores), indent=1)
    else:
        from sightline.cli.models import evaluate_model

        scores |= evaluate_model(subject, data, split, output, device)
    show(table(scores), as_json, to_dict(scores))


def score_results(results: Path, data: Path, split: str) -> "dict[str, DetectionScores]":
    """Scores of a COCO results file against a COCO instances file, or against a part of a dataset folder."""
    from sightline.dataset.folder import open_part
    from sightline.evaluation.coco import evaluate_files

    return evaluate_files(open_part(data, split).annotations if data.is_dir() else data, results)
