"""`sightline evaluate`: how good a model, or a file of results, is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import show

if TYPE_CHECKING:
    from sightline.evaluation.coco import Scores


def evaluate(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL|RESULTS.json", help="A run, a bundle, an address, or a COCO results file.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR|TRUTH.json", help="A dataset folder or a COCO instances file.")],
    split: Annotated[str, typer.Option("--split", help="Which part of a dataset folder.")] = "test",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="REPORT_DIR", help="Where scores.json is written.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print COCO's average precision and recall, for boxes and masks, in all and per class."""
    from sightline import storage
    from sightline.evaluation.coco import table, to_dict

    scores = (
        score_results(Path(subject), data, split) if subject.endswith(".json") else score_model(subject, data, split, output)
    )
    values = to_dict(scores)
    if output:
        storage.write_json(output / "scores.json", values, indent=2)
    show(table(scores), as_json, values)


def score_results(results: Path, data: Path, split: str) -> "dict[str, Scores]":
    """Scores of a COCO results file against a COCO instances file, or against a part of a dataset folder."""
    from sightline.dataset.folder import open_part
    from sightline.evaluation.coco import evaluate_files

    return evaluate_files(open_part(data, split).annotations if data.is_dir() else data, results)


def score_model(model: str, data: Path, split: str, output: Path | None) -> "dict[str, Scores]":
    """Scores of a model that looks at the pictures itself."""
    from sightline.cli.models import evaluate_model

    scores: dict[str, Scores] = evaluate_model(model, data, split, output)
    return scores
