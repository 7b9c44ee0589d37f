"""MODEL as every command takes it: a run, a bundle, Detectron2's folder, the address of a server, or `sagemaker://ENDPOINT`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import split_names
from sightline.cli.slices import sliced_model
from sightline.runtimes.asked import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightline.evaluation.analysis import Evaluation
    from sightline.evaluation.asked import Measuring
    from sightline.evaluation.results import Results, Truth
    from sightline.records import Detections, Image, Model, Predict
    from sightline.slicing import Slices

REMOTE = ("http://", "https://", "sagemaker://")
"""Beginnings of models that answer from elsewhere."""

USUAL = Execution()

RUNTIME_HELP = "What runs the model: torch its weights, the others model.onnx, without torch."
RUNTIMES = "auto|torch|onnx|openvino"
OPTIMIZE_HELP = "In torch: rebuilt for speed, compared with the plain model first."
PRECISION_HELP = "In torch; fp16 and bf16 are for GPUs, and an error where answers differ too much."
COMPILE_HELP = "In torch: also compiled, for minutes at the first start. On CPUs that is slower; not measured on GPUs."
COMPILE_FOR_HELP = "With --compile: sizes of your pictures, and how many together. Default: 4:3 and 3:4, single."
SHAPES = "WIDTHxHEIGHT[xPICTURES]"

Optimize = Annotated[bool, typer.Option("--optimize/--no-optimize", help=OPTIMIZE_HELP)]
Precision = Annotated[str, typer.Option(metavar="fp32|fp16|bf16", help=PRECISION_HELP)]
Compile = Annotated[bool, typer.Option("--compile", help=COMPILE_HELP)]
CompileFor = Annotated[list[str] | None, typer.Option(metavar=SHAPES, help=COMPILE_FOR_HELP)]


def open_model(
    model: str,
    *,
    device: str = "auto",
    threshold: float | None = None,
    class_names: str | None = None,
    execution: Execution = USUAL,
    threads: int | None = None,
) -> "Model":
    """The detector behind `model`. class_names: "name,name,...", for one that does not carry its own; others: `load_model`."""
    if model.startswith(("http://", "https://")):
        from sightline.serving.remote import connect

        return connect(model)
    if model.startswith("sagemaker://"):
        from sightline.cloud.endpoints import connect_endpoint

        return connect_endpoint(model, class_names=split_names(class_names))
    from sightline.bundle.load import load_model

    names = split_names(class_names)
    return load_model(
        model, device=device, score_threshold=threshold, class_names=names, threads=threads, **execution.options()
    )


def evaluate_model(
    model: str,
    data: Path,
    part: str,
    output: Path | None,
    device: str,
    measuring: "Measuring",
    listed: int,
    execution: Execution,
    slices: "Slices | None" = None,
) -> "Evaluation":
    """What was measured of a model on a part of a dataset folder. A run folder keeps its own; others where `output` says.

    A run's own are those of plain prediction, which bundles tell of: in slices nothing is kept but where `output` says.
    """
    from sightline.dataset.folder import open_part
    from sightline.examining import INFERENCE, examine

    own = Path(model) / INFERENCE if slices is None and (Path(model) / "run.json").is_file() else None
    opened = sliced_model(open_model(model, device=device, execution=execution), model, slices)
    if measuring.wish is not None:
        check_classes(opened, "Leave out --choose: there are no classes to choose thresholds for.")
    return examine(opened, open_part(data, part), output or own, measuring, listed)


def model_results(
    model: str, data: Path, part: str, truth: "Truth", device: str, execution: Execution, slices: "Slices | None" = None
) -> "Results":
    """What a model finds in a part of a dataset folder.

    Raises:
        ConfigError: it only proposes.
    """
    from sightline.dataset.folder import open_part
    from sightline.evaluation.predicting import detect_all, notes_of
    from sightline.evaluation.results import check_results, results_from

    opened = open_part(data, part)
    detector = sliced_model(open_model(model, device=device, execution=execution), model, slices)
    check_classes(detector, "Evaluate it alone, and compare the recalls.")
    found = detect_all(detector, opened.dataset, opened.pictures)
    results = check_results(results_from(found, [category.id for category in opened.dataset.categories]), truth, model)
    return replace(results, notes=notes_of(detector, opened.dataset))


def check_classes(model: "Model", fix: str) -> None:
    """Nothing, unless the model only proposes.

    Raises:
        ConfigError: what it finds has no class.
    """
    from sightline.errors import ConfigError

    if model.proposes:
        raise ConfigError(model.origin, "only proposes regions, which have no classes", fix)


MAX_WORKERS = 8
"""Pictures that a CPU works on at once; each takes the memory of one prediction, some 0.6 GB with R50-FPN at 800 px."""

REQUESTS_AT_ONCE = 8
"""Pictures under way to a server, which batches them: its default batch."""


def open_workers(
    model: str,
    *,
    device: str = "auto",
    threshold: float | None = None,
    class_names: str | None = None,
    workers: int | None = None,
    execution: Execution = USUAL,
) -> "tuple[Model, list[Predict]]":
    """(the model, what to call side by side): a copy on each GPU for "auto" and "cuda", else one model again and again.

    On the CPU there are as many workers as cores, of one thread each: none waits for another, and where other programs run on
    the same cores, waiting costs more than everything else.

    workers: how many; None: as many as there are GPUs or cores, or as a server batches
    """
    from sightline.processors import cores
    from sightline.runtimes.predictor import GraphPredictor

    count = workers or min(cores(), MAX_WORKERS)
    threads = max(cores() // count, 1)
    first = open_model(model, device=device, threshold=threshold, class_names=class_names, execution=execution, threads=threads)
    if model.startswith(REMOTE):
        return first, [first.predict] * (workers or REQUESTS_AT_ONCE)
    if isinstance(first.predict, GraphPredictor):
        return first, [first.predict] * (count if first.predict.on_cpu else workers or 1)
    import torch

    kind = next(getattr(first.predict, "detector").parameters()).device.type  # noqa: B009 - a `Predict` need not have one
    if kind != "cpu":
        names = [f"cuda:{number}" for number in range(1, torch.cuda.device_count())] if device in ("auto", "cuda") else []
        same = replace(execution, runtime="torch")
        copies = [
            open_model(model, device=name, threshold=threshold, class_names=class_names, execution=same).predict
            for name in names
        ]
        return first, [first.predict, *copies] * (workers or 1)
    torch.set_num_threads(threads)

    def predict(images: "Sequence[Image]") -> "list[Detections]":
        if torch.get_num_threads() != threads:  # each thread of Python has its own number
            torch.set_num_threads(threads)
        return first.predict(images)

    return first, [predict] * count


def fingerprint(model: str, opened: "Model") -> dict[str, object]:
    """What changes when `model` does: where it is, its files' sizes and times, what a server says of its own."""
    from sightline.storage import is_remote, listed

    least = None if opened.thresholds is None else list(opened.thresholds)
    facts: dict[str, object] = {"model": model, "class_names": list(opened.class_names), "thresholds": least}
    if model.startswith(REMOTE):
        return facts | {"model_facts": opened.facts}
    if is_remote(model):
        return facts | {"model_files": listed(model)}
    path = Path(model)
    files = [path] if path.is_file() else [file for name in WEIGHTS for file in path.glob(name)]
    return facts | {"model_files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(files)]}


WEIGHTS = ("*.pth", "*.pkl", "*.onnx", "config.yaml", "bundle.json")
"""What makes the model of a folder; the rest of a run folder may change."""
