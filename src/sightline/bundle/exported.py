"""`model.onnx` of a model's files to a predictor, and the choice between it and the weights. No torch is imported for it."""

import os
from typing import Any

from sightline.bundle.archive import GRAPH, WEIGHTS, Files
from sightline.config.architecture import class_count, has_masks, proposes_only, score_threshold
from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.errors import BundleError, ConfigError, MissingDependencyError, Problem
from sightline.processors import usual_threads
from sightline.runtimes import onnxruntime, openvino
from sightline.runtimes.choice import CPU_ORDER, Asked, Runtime, choose, installed, may_have_gpu
from sightline.runtimes.graph import EXPORT_AGAIN, Told
from sightline.runtimes.predictor import GraphPredictor

STARTS = {"onnx": onnxruntime.start, "openvino": openvino.start}


def wants_graph(asked: Asked, device: str) -> bool:
    """Whether the weights can be left unread where there is a graph: before anything of the model is known, a good guess."""
    if asked == "auto":
        first = next(filter(installed, CPU_ORDER), "torch")
        return first != "torch" and on_cpu(device, "cuda", ask_torch=False)
    return asked != "torch"


def runtime_for(files: Files, config: Config, asked: Asked, device: str) -> Runtime:
    """What the model shall be run by.

    Raises:
        BundleError: it has not the file for what was asked.
        ConfigError: what was asked cannot do what its configuration wants.
        MissingDependencyError: nothing is installed that could run it.
    """
    if asked == "auto":
        return usual_runtime(files, config, device)
    if asked == "torch":
        if files.graph is not None and not files.has_weights:
            raise BundleError(files.where, f"has no {WEIGHTS}, which torch needs", "Use --runtime onnx, or auto.")
    elif files.graph is None:
        fix = "Export it first: sightline bundle export MODEL --format onnx. Or use --runtime torch."
        raise BundleError(files.where, f"has no {GRAPH}, which --runtime {asked} needs", fix)
    elif config.test.aug.enabled:
        fix = "Use --runtime torch, or switch TEST.AUG.ENABLED off."
        raise ConfigError(files.where, "looks at every picture several times (TEST.AUG.ENABLED), which only torch can", fix)
    return asked


def usual_runtime(files: Files, config: Config, device: str) -> Runtime:
    """`runtime_for` where nothing was asked for."""
    graph = files.graph is not None and not config.test.aug.enabled
    weights = files.has_weights or files.graph is None
    first: tuple[Runtime, ...] = CPU_ORDER if on_cpu(device, config.model.device) else ("torch", *CPU_ORDER)
    chosen = choose(first, weights=weights, graph=graph)
    if chosen is not None:
        return chosen
    if graph:
        fix = "Run: pip install 'sightline[onnx]'"
        raise MissingDependencyError(files.where, "needs 'onnxruntime', which is not installed, to run its model.onnx", fix)
    if not weights:
        fix = "Use the bundle with the weights, or switch TEST.AUG.ENABLED off."
        raise ConfigError(files.where, "looks at every picture several times (TEST.AUG.ENABLED), which only torch can", fix)
    raise no_torch(files.where)


def no_torch(where: str) -> MissingDependencyError:
    """The error that only torch could run the weights."""
    fix = "Run: pip install torch torchvision. Or export the model where torch is: sightline bundle export MODEL --format onnx."
    return MissingDependencyError(where, "needs 'torch', which is not installed, to run its weights", fix)


def on_cpu(device: str, configured: str, *, ask_torch: bool = True) -> bool:
    """Whether torch would run a model on the CPU. configured: its MODEL.DEVICE, which "auto" follows."""
    name = configured if device == "auto" else device
    if device != "auto" or not name.startswith("cuda"):
        return name == "cpu"
    if not may_have_gpu():
        return True
    if not installed("torch"):
        return True
    if not ask_torch:
        return False
    import torch

    return not torch.cuda.is_available()


def graph_predictor(
    files: Files, config: Config, runtime: Runtime, *, device: str, threshold: float | None, classes: int, threads: int | None
) -> tuple[GraphPredictor, str]:
    """(the predictor of `model.onnx`, what runs it, for people).

    threshold: least score of a detection; None: as the configuration says
    threads:   that one prediction uses; None: all cores that this process may use

    Raises:
        BundleError: the graph is none of ours, not of these weights or this configuration, or cannot be run.
        ConfigError: the configuration is not supported, or the runtime has no such device.
        MissingDependencyError: the runtime is not installed.
    """
    assert files.graph is not None
    require_supported(config, f"{files.where}: config.yaml")
    where = f"{files.where}: {GRAPH}"
    told = files.told()
    check_is_of(told, files, config, where)
    place = device if device != "auto" else graph_device(runtime, config.model.device)
    running = STARTS[runtime](files.graph, where, device=place, threads=threads or usual_threads(os.environ))
    least = score_threshold(config) if threshold is None else threshold
    return GraphPredictor(running, told, where, score_threshold=least, classes=classes), running.name


def check_is_of(told: Told, files: Files, config: Config, where: str) -> None:
    """Nothing, if the graph was made from the weights and the configuration beside it.

    Raises:
        BundleError: it is stale.
    """
    if files.is_stale():
        raise BundleError(where, f"was made from other weights than the {WEIGHTS} beside it", EXPORT_AGAIN)
    same: dict[str, tuple[Any, Any]] = {
        "INPUT.MIN_SIZE_TEST": (told.min_size, config.input.min_size_test),
        "INPUT.MAX_SIZE_TEST": (told.max_size, config.input.max_size_test),
        "classes": (len(told.classes), class_count(config)),
        "masks": (told.masks, has_masks(config)),
        "proposals alone": (told.proposes, proposes_only(config)),
    }
    problems = [
        Problem(where, f"was made with {name} = {graph}, and config.yaml has {now}", EXPORT_AGAIN)
        for name, (graph, now) in same.items()
        if graph != now
    ]
    if problems:
        raise BundleError.collected(problems)


def graph_device(runtime: Runtime, configured: str) -> str:
    """Where a graph runs if nobody says: on the GPU that the model is configured for, where there is one that can be used."""
    if runtime != "onnx" or not configured.startswith("cuda") or not may_have_gpu():
        return "cpu"
    return configured if onnxruntime.knows_cuda() else "cpu"
