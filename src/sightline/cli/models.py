"""MODEL as every command takes it: a run, a bundle, Detectron2's folder, or the address of a server."""

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.console import split_names

if TYPE_CHECKING:
    from sightline.evaluation.coco import Scores
    from sightline.records import Model


def open_model(model: str, *, device: str = "auto", threshold: float | None = None, class_names: str | None = None) -> "Model":
    """The detector behind `model`. class_names: "name,name,...", for one that does not carry its own."""
    if model.startswith(("http://", "https://")):
        from sightline.serving.remote import connect

        return connect(model)
    from sightline.bundle.load import load_model

    return load_model(model, device=device, score_threshold=threshold, class_names=split_names(class_names))


def evaluate_model(model: str, data: str, part: str, output: Path | None, device: str) -> "dict[str, Scores]":
    """Scores of a model on a part of a dataset folder. A run folder keeps its own; others only where `output` says."""
    from sightline.dataset.folder import open_part
    from sightline.journey import INFERENCE, evaluate

    own = Path(model) / INFERENCE if (Path(model) / "run.json").is_file() else None
    return evaluate(open_model(model, device=device), open_part(data, part), output or own)
