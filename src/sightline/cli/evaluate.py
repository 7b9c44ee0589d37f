"""`sightline evaluate`: how good a model, or a file of results, is."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import log_to_stderr, show

if TYPE_CHECKING:
    from sightline.evaluation.coco import DetectionScores, Scores


def evaluate(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL|RESULTS.json", help="A run, a bundle, an address, or a COCO results file.")
    ],
    data: Annotated[str, typer.Option("--data", metavar="DIR|TRUTH.json", help="A dataset folder or a COCO instances file.")],
    split: Annotated[str, typer.Option("--split", help="Which part of a dataset folder.")] = "test",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="REPORT_DIR", help="Where scores.json and the results go. A run keeps its own."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print COCO's average precision and recall, for boxes and masks, in all and per class; recall alone for proposals."""
    from sightline import storage
    from sightline.evaluation.coco import table, to_dict

    log_to_stderr()
    scores: dict[str, Scores] = {}
    with storage.output_path(output, "A report") if output else nullcontext() as report:
        if subject.endswith(".json"):
            scores |= score_results(subject, data, split)
            if report:
                storage.write_json(report / "scores.json", to_dict(scores), indent=1)
        else:
            from sightline.cli.models import evaluate_model

            scores |= evaluate_model(subject, data, split, report, device)
    show(table(scores), as_json, to_dict(scores))


def score_results(results: str, data: str, split: str) -> "dict[str, DetectionScores]":
    """Scores of a COCO results file against a COCO instances file, or against a part of a dataset folder."""
    from sightline.dataset.folder import open_part
    from sightline.evaluation.coco import evaluate_files
    from sightline.storage import local_path

    truth = local_path(data, "The ground truth")
    return evaluate_files(open_part(truth, split).annotations if truth.is_dir() else truth, local_path(results, "Evaluation"))
