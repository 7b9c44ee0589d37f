"""MODEL, as every command takes it, to a callable detector with its class names."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sightline.bundle.archive import Files, manifest_names, read_model_files
from sightline.bundle.exported import graph_predictor, no_torch, runtime_for, wants_graph
from sightline.bundle.thresholds import usable_thresholds
from sightline.coco import CLASSES_2017
from sightline.config.architecture import class_count, proposes_only, with_score_threshold
from sightline.config.schema import Config
from sightline.config.yaml_dialect import flatten, load_values, parse_yaml
from sightline.errors import BundleError
from sightline.records import Model, Predict
from sightline.runtimes.asked import Execution
from sightline.runtimes.choice import Runtime, installed

LOG = logging.getLogger(__name__)

COCO_SETS = {"coco_2014_train", "coco_2017_train"}
"""Detectron2's names of COCO's training sets; a configuration with one of them and 80 classes has COCO's classes."""

PLAIN = Execution("torch", optimize=False)
"""The weights, part by part as they were trained."""

PROPOSALS = ("object",)
"""What a region of an RPN may hold; whatever classes it was trained on, it tells none apart."""


def load_model(
    reference: str | Path,
    *,
    device: str = "auto",
    score_threshold: float | None = None,
    class_names: Sequence[str] | None = None,
    runtime: str = "auto",
    threads: int | None = None,
    optimize: bool = True,
    precision: str = "fp32",
    compile: bool = False,
    compile_for: Sequence[str] = (),
) -> Model:
    """A run folder, a bundle (archive or folder), or a folder with Detectron2's `model_final.pth` and `config.yaml`.

    reference:       its path, or its s3:// address
    device:          "auto" follows the model's MODEL.DEVICE: the GPU if there is one
    score_threshold: 0 to 1, instead of the model's SCORE_THRESH_TEST and of thresholds that were chosen for its classes
    class_names:     instead of those it brings; needed for Detectron2 folders, which bring none
    runtime:         "torch" runs the weights; "onnx" and "openvino" run `model.onnx`, without torch; "auto" takes what is
                     installed and usually the fastest (docs/runtimes.md)
    threads:         that one prediction uses in ONNX Runtime and OpenVINO; None: all cores. torch has its own number
    optimize:        in torch, rebuild the detector for speed, where that gives the same answers (docs/predict.md)
    precision:       "fp32"; "fp16" or "bf16" in torch, for GPUs, an error where its answers differ too much
    compile:         in torch, also compile the rebuilt detector, which takes minutes at the first start (docs/predict.md)
    compile_for:     for pictures of these sizes, "1920x1080", or "1920x1080x8" for eight together; empty: 4:3 and 3:4

    Raises:
        BundleError, ConfigError, CheckpointError: it cannot be loaded; the message says which part and why.
        MissingDependencyError: what it needs is not installed.
    """
    execution = Execution(runtime, optimize, precision, compile, tuple(compile_for))
    asked = execution.asked
    files = read_model_files(reference, graph_first=wants_graph(asked, device))
    chosen = runtime_for(files, config_of(files), asked, device)
    if chosen == "torch" and files.left_out is not None:
        files = read_model_files(reference)
    model = model_from(
        files,
        device=device,
        score_threshold=score_threshold,
        class_names=class_names,
        runtime=chosen,
        threads=threads,
        execution=execution,
    )
    LOG.info("%s runs in %s", reference, model.facts["runtime"])
    return model


def model_from(
    files: Files,
    *,
    device: str,
    score_threshold: float | None,
    class_names: Sequence[str] | None,
    runtime: Runtime = "torch",
    threads: int | None = None,
    execution: Execution = PLAIN,
) -> Model:
    """`load_model` of files that are in memory already, for `runtime`."""
    config = config_of(files)
    if score_threshold is not None:
        config = with_score_threshold(config, score_threshold)
    brought = manifest_names(files) or (() if runtime == "torch" else files.told().classes)
    names = names_for(config, class_names or brought, files.where)
    facts = {key: files.manifest[key] for key in ("training", "scores", "thresholds") if key in files.manifest}
    predictor, ran_by = (
        torch_predictor(files, config, device, execution)
        if runtime == "torch"
        else graph_predictor(
            files, config, runtime, device=device, threshold=score_threshold, classes=len(names), threads=threads
        )
    )
    facts |= {"runtime": ran_by, "precision": execution.precision if runtime == "torch" else files.told().precision}
    thresholds = usable_thresholds(files, manifest_names(files) or names) if score_threshold is None else None
    return Model(predictor, names, files.where, facts, proposes=proposes_only(config), thresholds=thresholds)


def torch_predictor(files: Files, config: Config, device: str, execution: Execution) -> tuple[Predict, str]:
    """(the predictor of the weights, what runs it). torch is imported here, where nothing else will do.

    Raises:
        MissingDependencyError: it is not installed.
        SightlineError: as `bundle.weights.predictor_of`.
    """
    if not installed("torch"):
        raise no_torch(files.where)
    from sightline.bundle.weights import predictor_of

    return predictor_of(files, config, device, execution)


def config_of(files: Files) -> Config:
    """The configuration that travels with the weights."""
    where = f"{files.where}: config.yaml"
    return load_values(dict(flatten(parse_yaml(files.config, where), "")), where)


def names_for(config: Config, names: Sequence[str], where: str) -> tuple[str, ...]:
    """One name a class; numbers where nobody knows them, and one word for proposals, whatever they learnt from.

    Raises:
        BundleError: the number of names is not the number of classes.
    """
    if proposes_only(config):
        return PROPOSALS
    classes = class_count(config)
    if not names and classes == len(CLASSES_2017) and set(config.datasets.train) & COCO_SETS:
        return CLASSES_2017
    if not names:
        return tuple(f"class {label}" for label in range(classes))
    if len(names) != classes:
        raise BundleError(
            where, f"has {classes} classes, but {len(names)} class names", "Give one name for each class, in order."
        )
    return tuple(names)
