"""An exported graph with its large layers in int8: ONNX Runtime's static quantisation, with ranges from pictures.

The ranges of activations are the least and the largest value over all calibration pictures: on trained detectors that
lost least (docs/export.md has the figures). Weights are quantised channel by channel with 7 bits, because processors
without VNNI saturate with 8. The stem, and the layers whose numbers are logits, deltas and masks, stay in float32, and so does
everything between layers: suppression, RoIAlign, boxes.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import ConfigError, ImageError, Problem, SightlineError
from sightline.exporting.detector import tell
from sightline.exporting.graph import PURPOSE
from sightline.images import SUFFIXES, InputSize, check_image, read_image
from sightline.optional import require
from sightline.runtimes.graph import Told
from sightline.runtimes.predictor import batch_of
from sightline.storage import local_path

if TYPE_CHECKING:
    from onnx import ModelProto

KINDS = ("Conv", "Gemm")
STEM = "backbone/stem/"
LAST_BEFORE = {"Reshape", "Shape", "Softmax", "Sigmoid"}
"""What takes the numbers of a detector's last layers; between layers there are activations, sums and pooling."""

MOST_PICTURES = 256
"""Of a larger folder so many are taken, evenly spaced: more change no range that matters."""

READY = ("onnx.quant.pre_process", "onnxruntime.quant")
"""A property by which the quantiser knows that a graph needs no preparation of its own. Ours has nothing to fold."""


def calibration_files(folder: str | Path) -> list[Path]:
    """The pictures below a folder, `MOST_PICTURES` at most, every one decoded once.

    Raises:
        ImageError: it holds none, or some that cannot be decoded; all are told.
    """
    path = Path(local_path(str(folder), "Calibrating"))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise ImageError(folder, "holds no pictures to calibrate on", "Give a folder of pictures like those to be predicted.")
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOST_PICTURES)).round().astype(int))
    files = [files[place] for place in chosen]
    problems: list[Problem] = []
    for file in files:
        try:
            check_image(file)
        except SightlineError as error:
            problems += error.problems
    if problems:
        raise ImageError.collected(problems)
    return files


class Calibration:
    """Picture after picture as the graph takes them, each read when its turn comes: the quantiser's data reader."""

    def __init__(self, files: Sequence[Path], told: Told) -> None:
        self.rest, self.told = iter(files), told
        self.size = InputSize(told.min_size, told.max_size, told.size_divisor)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """One picture's inputs; None after the last."""
        file = next(self.rest, None)
        if file is None:
            return None
        batch = batch_of([self.size.resized(read_image(file))], self.size, self.told.score_threshold)
        threshold = np.array(batch.score_threshold, np.float32)
        return {"pictures": batch.pictures, "sizes": batch.sizes, "score_threshold": threshold}


def layers(model: "ModelProto") -> list[str]:
    """Names of the nodes to be quantised: convolutions and products, but the first and the last.

    Raises:
        ConfigError: there are none.
    """
    users: dict[str, set[str]] = {}
    for node in model.graph.node:
        for value in node.input:
            users.setdefault(value, set()).add(node.op_type)
    found = [
        node.name
        for node in model.graph.node
        if node.op_type in KINDS and not node.name.startswith(STEM) and not users[node.output[0]] & LAST_BEFORE
    ]
    if not found:
        raise ConfigError("--int8", "finds no layer to quantise in this model", "Export it without --int8.")
    return found


def quantised(content: bytes, files: Sequence[Path], told: Told) -> "ModelProto":
    """An exported file's graph with quantised layers; it has no meta-data. One picture is in memory at a time."""
    onnx = require("onnx", "export", PURPOSE)
    quantization = require("onnxruntime.quantization", "export", "an export in int8")
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    model.metadata_props.add(key=READY[0], value=READY[1])
    with tempfile.TemporaryDirectory(prefix="sightline-int8-") as folder:
        to = Path(folder) / "model.onnx"
        quantization.quantize_static(
            model,
            to,
            Calibration(files, told),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(KINDS),
            nodes_to_quantize=layers(model),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        made: ModelProto = onnx.load(to)
    del made.metadata_props[:]
    return made


def written(model: "ModelProto", facts: Mapping[str, object]) -> bytes:
    """The file's content with its meta-data."""
    tell(model, facts)
    content: bytes = model.SerializeToString()
    return content
