"""MODEL as every command takes it: a run, a bundle, Detectron2's folder, or the address of a server."""

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.console import split_names

if TYPE_CHECKING:
    from sightline.evaluation.analysis import Evaluation
    from sightline.evaluation.asked import Measuring
    from sightline.evaluation.results import Results, Truth
    from sightline.records import Model


def open_model(model: str, *, device: str = "auto", threshold: float | None = None, class_names: str | None = None) -> "Model":
    """The detector behind `model`. class_names: "name,name,...", for one that does not carry its own."""
    if model.startswith(("http://", "https://")):
        from sightline.serving.remote import connect

        return connect(model)
    from sightline.bundle.load import load_model

    return load_model(model, device=device, score_threshold=threshold, class_names=split_names(class_names))


def evaluate_model(
    model: str, data: Path, part: str, output: Path | None, device: str, measuring: "Measuring", listed: int
) -> "Evaluation":
    """What was measured of a model on a part of a dataset folder. A run folder keeps its own; others where `output` says."""
    from sightline.dataset.folder import open_part
    from sightline.journey import INFERENCE, examine

    own = Path(model) / INFERENCE if (Path(model) / "run.json").is_file() else None
    return examine(open_model(model, device=device), open_part(data, part), output or own, measuring, listed)


def model_results(model: str, data: Path, part: str, truth: "Truth", device: str) -> "Results":
    """What a model finds in a part of a dataset folder."""
    from sightline.dataset.folder import open_part
    from sightline.evaluation.predicting import detect_all
    from sightline.evaluation.results import check_results, results_from

    opened = open_part(data, part)
    found = detect_all(open_model(model, device=device), opened.dataset, opened.pictures)
    return check_results(results_from(found, [category.id for category in opened.dataset.categories]), truth, model)
