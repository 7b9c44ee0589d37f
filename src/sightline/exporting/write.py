"""`sightline bundle export`: a model to a file in another format, kept only if it gives what the model gives."""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sightline import __version__
from sightline.bundle.archive import Files, from_members, manifest_names, read_model_files, sha256
from sightline.bundle.load import config_of, names_for
from sightline.bundle.pack import bundle_members, with_graph, write_members
from sightline.config.architecture import has_masks, proposes_only, score_threshold, with_score_threshold
from sightline.config.schema import Config
from sightline.dataset.folder import DatasetPart, open_part
from sightline.errors import BundleError, ConfigError, Problem, nearest
from sightline.evaluation.predicting import label_map
from sightline.exporting import int8 as quantising
from sightline.exporting.cost import Int8, told_of
from sightline.exporting.detector import graph_of, require_opset, tell
from sightline.exporting.forward import Forward
from sightline.exporting.graph import OPSET, PURPOSE
from sightline.exporting.torch_files import (
    ask_export,
    ask_torchscript,
    export_bytes,
    exported,
    torchscript_bytes,
    traced,
)
from sightline.exporting.verify import Answers, Ask, Verified, samples, verify
from sightline.model.build import build_detector, build_predictor
from sightline.model.checkpoint import Unfilled, load_exactly, parse_checkpoint, state_dict_of
from sightline.model.detector import Detector
from sightline.model.predictor import Predictor
from sightline.optional import require
from sightline.runtimes.graph import parse_told
from sightline.storage import atomic_write, is_remote, output_path

Format = Literal["onnx", "torchscript", "torch-export"]
FORMATS: tuple[Format, ...] = get_args(Format)
NAMES: dict[Format, str] = {"onnx": "model.onnx", "torchscript": "model.ts", "torch-export": "model.pt2"}
"""What a file is called where nothing else is asked for."""

FACTS_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    sha256:   of the file at `path`
    verified: of an export in int8, the graph in float32 that it was made from
    facts:    the meta-data inside
    int8:     what that costs and gains; None: it is in float32
    """

    path: str | Path
    format: Format
    size_bytes: int
    sha256: str
    verified: Verified
    facts: Mapping[str, object]
    int8: Int8 | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported. predictor: at threshold 0, on the CPU; most: detections of a picture, None: all"""

    files: Files
    config: Config
    predictor: Predictor
    class_names: tuple[str, ...]
    most: int | None

    @property
    def detector(self) -> Detector:
        return self.predictor.detector


def export(
    model: str | Path,
    to: str | Path | None = None,
    *,
    format: Format = "onnx",
    into: str | Path | None = None,
    without_torch: bool = False,
    opset: int | None = None,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    int8: bool = False,
    calibrate: str | Path | None = None,
    data: str | Path | None = None,
    split: str = "val",
) -> Exported:
    """Write a model in another format, after comparing what both find.

    model:         a run folder, a bundle, or Detectron2's output folder
    to:            the file; None: model.onnx, model.ts or model.pt2 here
    into:          instead of `to`: the bundle to write, with model.onnx inside; it may be `model` itself
    without_torch: that bundle holds no weights for torch
    opset:         of ONNX, 16 to 21; None: 17
    images:        a folder of pictures to compare on; None: drawn ones
    class_names:   for a model that does not carry its own
    int8:          quantise the ONNX file
    calibrate:     for that, a folder of pictures like those to be predicted
    data, split:   a dataset folder and its part, to measure what int8 costs

    Raises:
        ConfigError: what cannot be exported, or options that contradict each other.
        BundleError, CheckpointError: the model cannot be loaded.
        MissingDependencyError: the extra `export` is not installed.
        RunError: the export does not give what the model gives; nothing is written.
        ImageError, DatasetError: pictures or labels for int8 cannot be used; all are told.
    """
    check_asked(to, format, into, without_torch, opset, quantising_problems(int8, format, calibrate, data))
    files_to_see = [] if calibrate is None else quantising.calibration_files(calibrate)
    part = None if data is None else open_part(data, split)
    members = None if into is None else bundle_members(model, class_names)
    files = read_model_files(model) if members is None else from_members(members, str(model))
    subject = subject_of(files, class_names)
    if part is not None and not proposes_only(subject.config):
        label_map(subject.class_names, part.dataset, files.where)  # before minutes of comparing
    pictures = samples(images)
    facts = facts_of(subject, opset or OPSET, format)
    made = MAKERS[format](subject, opset or OPSET)
    verified = verify(made.ask, subject.predictor, pictures, score_threshold(subject.config), subject.most)
    facts["verified"] = verified.facts()
    content = made.written(facts)
    small = None
    if int8:
        labelled = None if part is None else (part, str(data), split)
        content, facts, small = in_int8(content, facts, files_to_see, labelled)
    if members is not None and into is not None:
        packed = write_members(with_graph(members, content, without_weights=without_torch), into)
        return Exported(into, format, packed.size_bytes, packed.sha256, verified, facts, small)
    place = NAMES[format] if to is None else to
    with output_path(place, "An export") as path, atomic_write(path) as file:
        file.write(content)
    return Exported(place, format, len(content), sha256(content), verified, facts, small)


def in_int8(
    content: bytes, facts: Mapping[str, object], files: Sequence[Path], labelled: tuple[DatasetPart, str, str] | None
) -> tuple[bytes, dict[str, object], Int8]:
    """(the same file with quantised layers, its meta-data, what that costs); errors as `told_of`."""
    told = parse_told(json.dumps(facts), "the export")
    model = quantising.quantised(content, files, told)
    facts = {**facts, "precision": "int8"}
    small = told_of(content, quantising.written(model, facts), facts, files, labelled)
    facts = {**facts, **small.facts()}
    return quantising.written(model, facts), facts, small


def quantising_problems(int8: bool, format: str, calibrate: str | Path | None, data: str | Path | None) -> list[Problem]:
    """What is wrong with the options of int8."""
    problems = []
    if int8 and format != "onnx":
        problems.append(Problem("--int8", f"is of ONNX, not of {format}", "Leave out one of --int8 and --format."))
    if int8 and calibrate is None:
        fix = "Give --calibrate DIR, a folder of some dozens of pictures like those to be predicted."
        problems.append(Problem("--int8", "needs pictures that tell the ranges of the layers", fix))
    for option, given in {"--calibrate": calibrate, "--data": data}.items():
        if given is not None and not int8:
            problems.append(Problem(option, "is for --int8", "Leave it out, or add --int8."))
    return problems


def check_asked(
    to: str | Path | None,
    format: str,
    into: str | Path | None,
    without_torch: bool,
    opset: int | None,
    known: Sequence[Problem] = (),
) -> None:
    """Nothing, if the options go together. known: what is wrong with others

    Raises:
        ConfigError: all that is wrong.
    """
    problems = list(known)
    if to is not None and into is not None:
        problems.append(Problem("bundle export", "has both --output and --into", "Give one: a file, or a bundle."))
    if into is not None and format != "onnx":
        problems.append(Problem("--into", f"goes with ONNX, not with {format}", "Leave out --format, or give -o FILE."))
    if without_torch and into is None:
        problems.append(Problem("--without-torch", "is about a bundle, and none is written", "Give --into BUNDLE."))
    if opset is not None and format != "onnx":
        problems.append(Problem("--opset", f"means nothing to {format}", "Leave it out."))
    if format not in FORMATS:
        problems.append(Problem("--format", f"is {format!r}", nearest(format, FORMATS)))
    elif fault := unwritable(into or to or NAMES[format]):
        problems.append(fault)
    if problems:
        raise ConfigError.collected(problems)
    if opset is not None:
        require_opset(opset)
    if format == "onnx":
        require("onnx", "export", PURPOSE)
        require("onnxruntime", "export", f"the check of {PURPOSE}")


def unwritable(place: str | Path) -> Problem | None:
    """Why nothing can be written there; known before minutes of comparing."""
    if is_remote(str(place)):
        return None
    path = Path(place)
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir():
        return Problem(str(place), "is a folder", "Give the name of a file in it.")
    if not there.is_dir() or not os.access(there, os.W_OK):
        what = "is not writable" if there.is_dir() else "is no folder"
        return Problem(str(place), f"cannot be written: {there} {what}", "Give a file in a folder of yours.")
    return None


def subject_of(files: Files, class_names: Sequence[str] | None) -> Subject:
    """The model on the CPU, ready to be compared with.

    Raises:
        BundleError: there are no weights.
        ConfigError: it cannot be exported.
    """
    if not files.weights:
        raise BundleError(files.where, "has no weights for torch", "Give the run or bundle that it was exported from.")
    config = config_of(files)
    where = f"{files.where}: config.yaml"
    if config.test.aug.enabled:
        raise ConfigError(
            f"{where}: TEST.AUG.ENABLED",
            "is True: test-time augmentation is several predictions and a merge of them, which no export holds",
            "Set it to False.",
        )
    with Unfilled():
        detector = build_detector(with_score_threshold(config, 0.0), where)
    checkpoint = parse_checkpoint(io.BytesIO(files.weights), f"{files.where}: weights")
    load_exactly(detector, state_dict_of(checkpoint, files.where), f"{files.where}: weights")
    predictor = build_predictor(detector, config)
    names = names_for(config, class_names or manifest_names(files), files.where)
    most = config.model.rpn.post_nms_topk_test if proposes_only(config) else config.test.detections_per_image
    return Subject(files, config, predictor, names, most if most >= 0 else None)


def facts_of(subject: Subject, opset: int, format: Format) -> dict[str, object]:
    """The meta-data, but for what is measured."""
    config = subject.config
    facts: dict[str, object] = {
        "format": FACTS_FORMAT,
        "classes": list(subject.class_names),
        "min_size": config.input.min_size_test,
        "max_size": config.input.max_size_test,
        "size_divisor": subject.detector.size_divisor,
        "score_threshold": score_threshold(config),
        "max_detections": subject.most,
        "masks": has_masks(config),
        "proposes": proposes_only(config),
        "weights_sha256": sha256(subject.files.weights),
        "precision": "fp32",
    }
    if format == "onnx":
        facts["opset"] = opset
    return {**facts, "made_by": f"sightline {__version__}, torch {torch.__version__}"}


@dataclass(frozen=True, slots=True)
class Made:
    """An export in memory. written: the file's content with these meta-data inside"""

    ask: Ask
    written: Callable[[Mapping[str, object]], bytes]


def make_onnx(subject: Subject, opset: int) -> Made:
    model = graph_of(subject.detector, subject.config.input.format, opset)
    onnx = require("onnx", "export", PURPOSE)
    onnx.checker.check_model(model, full_check=True)

    def written(facts: Mapping[str, object]) -> bytes:
        tell(model, facts)
        content: bytes = model.SerializeToString()
        return content

    return Made(ask_onnx(model.SerializeToString()), written)


def ask_onnx(content: bytes) -> Ask:
    """What ONNX Runtime makes of the file on the CPU."""
    runtime = require("onnxruntime", "export", f"the check of {PURPOSE}")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def ask(pictures: NDArray[np.uint8], sizes: NDArray[np.int64], threshold: float) -> Answers:
        given = {"pictures": pictures, "sizes": sizes, "score_threshold": np.array(threshold, np.float32)}
        answers: Answers = session.run(None, given)
        return answers

    return ask


def make_torchscript(subject: Subject, opset: int) -> Made:
    made = traced(Forward(subject.detector, subject.config.input.format))
    return Made(ask_torchscript(torchscript_bytes(made, {})), partial(torchscript_bytes, made))


def make_export(subject: Subject, opset: int) -> Made:
    made = exported(Forward(subject.detector, subject.config.input.format))
    return Made(ask_export(export_bytes(made, {})), partial(export_bytes, made))


MAKERS: Mapping[Format, Callable[[Subject, int], Made]] = {
    "onnx": make_onnx,
    "torchscript": make_torchscript,
    "torch-export": make_export,
}
