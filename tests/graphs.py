"""Small ONNX graphs that fulfil the contract of `model.onnx`, and bundles of them: for tests that need no detector.

What they find is known: in each picture one box around everything whose red is above 128.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from builders import a_config
from onnx import TensorProto, helper, numpy_helper

from sightline.bundle.archive import CONFIG, GRAPH, MANIFEST, WEIGHTS, sha256, write_archive
from sightline.config.yaml_dialect import dump

MASK = np.float32([[0.1, 0.9, 0.9, 0.1], [0.9, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9], [0.1, 0.9, 0.9, 0.1]])
"""What every box's mask is: a rounded one."""


def told_of(**changes: object) -> dict[str, object]:
    """What an exported graph tells of itself; it fits `builders.a_config`."""
    return {
        "format": 1,
        "classes": ["cat", "dog"],
        "min_size": 64,
        "max_size": 96,
        "size_divisor": 16,
        "score_threshold": 0.05,
        "max_detections": 100,
        "masks": False,
        "proposes": False,
        "weights_sha256": "0" * 64,
        "precision": "fp32",
        "opset": 17,
        "made_by": "sightline 0.1.0, torch 2.8.0",
        "verified": {"pictures": 1, "least_iou": 1.0, "largest_score_difference": 0.0},
    } | changes


def a_model(*, masks: bool = False, told: dict[str, object] | None = None) -> Any:
    """The ONNX model: label 1 where green is above 128 somewhere, score the largest red / 255.

    told: the property `sightline`; {} leaves it out
    """

    def constant(name: str, values: object) -> Any:
        return numpy_helper.from_array(np.array(values), name)

    node = helper.make_node
    nodes = [
        node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT),
        node("Gather", ["floats", "zero"], ["red"], axis=3),
        node("Gather", ["floats", "one"], ["green"], axis=3),
        node("Greater", ["red", "bright"], ["is_bright"]),
        node("Cast", ["is_bright"], ["seen"], to=TensorProto.FLOAT),
        node("ReduceMax", ["seen"], ["columns"], axes=[1], keepdims=0),
        node("ReduceMax", ["seen"], ["rows"], axes=[2], keepdims=0),
        node("ArgMax", ["columns"], ["x1"], axis=1, keepdims=1),
        node("ArgMax", ["rows"], ["y1"], axis=1, keepdims=1),
        node("ArgMax", ["columns"], ["last_x"], axis=1, keepdims=1, select_last_index=1),
        node("ArgMax", ["rows"], ["last_y"], axis=1, keepdims=1, select_last_index=1),
        node("Add", ["last_x", "one"], ["end_x"]),
        node("Add", ["last_y", "one"], ["end_y"]),
        node("Split", ["sizes"], ["heights", "widths"], axis=1),
        node("Min", ["end_x", "widths"], ["x2"]),
        node("Min", ["end_y", "heights"], ["y2"]),
        node("Concat", ["x1", "y1", "x2", "y2"], ["corners"], axis=1),
        node("Cast", ["corners"], ["all_boxes"], to=TensorProto.FLOAT),
        node("ReduceMax", ["red"], ["brightest"], axes=[1, 2], keepdims=0),
        node("Div", ["brightest", "most"], ["all_scores"]),
        node("ReduceMax", ["green"], ["greenest"], axes=[1, 2], keepdims=0),
        node("Greater", ["greenest", "bright"], ["is_green"]),
        node("Cast", ["is_green"], ["all_labels"], to=TensorProto.INT64),
        node("GreaterOrEqual", ["all_scores", "score_threshold"], ["good"]),
        node("Greater", ["brightest", "bright"], ["there"]),
        node("And", ["good", "there"], ["kept"]),
        node("NonZero", ["kept"], ["places"]),
        node("Squeeze", ["places", "axis_0"], ["picture"]),
        node("Gather", ["all_boxes", "picture"], ["boxes"], axis=0),
        node("Gather", ["all_scores", "picture"], ["scores"], axis=0),
        node("Gather", ["all_labels", "picture"], ["labels"], axis=0),
    ]
    constants = [
        constant("zero", np.int64(0)), constant("one", np.int64(1)), constant("axis_0", np.int64([0])),
        constant("bright", np.float32(128)), constant("most", np.float32(255)),
    ]  # fmt: skip
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["D", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["D"]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["D"]),
        helper.make_tensor_value_info("picture", TensorProto.INT64, ["D"]),
    ]
    if masks:
        nodes += [
            node("Shape", ["picture"], ["count"]),
            node("Concat", ["count", "sides"], ["mask_shape"], axis=0),
            node("Expand", ["mask", "mask_shape"], ["masks"]),
        ]
        constants += [constant("mask", MASK[None]), constant("sides", np.int64(MASK.shape))]
        outputs.append(helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["D", "M", "M"]))
    inputs = [
        helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["B", "H", "W", 3]),
        helper.make_tensor_value_info("sizes", TensorProto.INT64, ["B", 2]),
        helper.make_tensor_value_info("score_threshold", TensorProto.FLOAT, []),
    ]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    told = told_of(masks=masks) if told is None else told
    if told:
        helper.set_model_props(model, {"sightline": json.dumps(told)})
    onnx.checker.check_model(model)
    return model


def a_graph(*, masks: bool = False, told: dict[str, object] | None = None) -> bytes:
    """`a_model` as the bytes of its file."""
    content: bytes = a_model(masks=masks, told=told).SerializeToString()
    return content


def bundle_members(
    *overrides: str, graph: bytes | None = None, weights: bytes | None = None, masks: bool = False, **manifest: object
) -> dict[str, bytes]:
    """The files of a bundle with a graph, and without weights unless they are given; overrides: of its configuration."""
    config = dump(a_config(*overrides)).encode()
    members = {CONFIG: config, GRAPH: a_graph(masks=masks) if graph is None else graph}
    members |= {} if weights is None else {WEIGHTS: weights}
    files = {name: sha256(content) for name, content in members.items()}
    told = {"format": 1, "class_names": ["cat", "dog"], "files": files} | manifest
    return members | {MANIFEST: json.dumps(told).encode()}


def a_bundle(path: Path, members: dict[str, bytes]) -> Path:
    """The members as an archive where `path` ends on .gz, else as a folder."""
    if path.suffix == ".gz":
        with path.open("wb") as file:
            write_archive(members, file)
        return path
    path.mkdir(parents=True)
    for name, content in members.items():
        (path / name).write_bytes(content)
    return path
