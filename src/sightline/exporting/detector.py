"""A detector to its ONNX model: the contract of its inputs and outputs, and the meta-data that travel inside."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sightline import __version__
from sightline.errors import ConfigError
from sightline.exporting.backbone import features_of
from sightline.exporting.chosen import Detected, limits_of
from sightline.exporting.dense import proposals, proposals_alone, retinanet
from sightline.exporting.graph import LARGEST_OPSET, LEAST_OPSET, Graph, Value
from sightline.exporting.heads import found_by_heads, masks_of
from sightline.model.detector import Detector
from sightline.model.rcnn import GeneralizedRCNN, ProposalNetwork
from sightline.model.retinanet import RetinaNet

if TYPE_CHECKING:
    from onnx import ModelProto

KEY = "sightline"
"""Of the meta-data in a file's metadata_props."""

INPUTS: dict[str, tuple[str, list[str | int]]] = {
    "pictures": ("UINT8", ["batch", "height", "width", 3]),
    "sizes": ("INT64", ["batch", 2]),
    "score_threshold": ("FLOAT", []),
}


def graph_of(detector: Detector, color_order: str, opset: int) -> "ModelProto":
    """The detector as an ONNX model without meta-data.

    Raises:
        ConfigError: it has no graph, or not in this opset.
    """
    require_opset(opset)
    graph = Graph(opset)
    features = features_of(graph, "pictures", "sizes", detector, color_order)
    limits = limits_of(graph, "sizes")
    masks: Value | None = None
    if isinstance(detector, RetinaNet):
        found = retinanet(graph, detector, features, limits, "score_threshold")
    elif isinstance(detector, ProposalNetwork | GeneralizedRCNN):
        with graph.within("rpn"):
            proposed = proposals(graph, detector.proposal_generator, features, limits)
        if isinstance(detector, ProposalNetwork):
            found = proposals_alone(graph, proposed, "score_threshold")
        else:
            found = found_by_heads(graph, detector.roi_heads, features, proposed, limits, "score_threshold")
            masks = masks_of(graph, detector.roi_heads, features, found)
    else:
        raise ConfigError("export", f"has no graph for a {type(detector).__name__}", "Export an R-CNN or a RetinaNet.")
    return graph.model(INPUTS, outputs_of(found, masks), ("sightline", __version__))


def outputs_of(found: Detected, masks: Value | None) -> dict[str, tuple[str, list[str | int], Value]]:
    outputs: dict[str, tuple[str, list[str | int], Value]] = {
        "boxes": ("FLOAT", ["detections", 4], found.boxes),
        "scores": ("FLOAT", ["detections"], found.scores),
        "labels": ("INT64", ["detections"], found.labels),
        "picture": ("INT64", ["detections"], found.pictures),
    }
    if masks is not None:
        outputs["masks"] = ("FLOAT", ["detections", "mask_height", "mask_width"], masks)
    return outputs


def require_opset(opset: int) -> None:
    if not LEAST_OPSET <= opset <= LARGEST_OPSET:
        raise ConfigError(
            "opset",
            f"is {opset}, and RoiAlign as detectors sample it is run of {LEAST_OPSET} to {LARGEST_OPSET}",
            f"Give --opset {LEAST_OPSET} to {LARGEST_OPSET}.",
        )


def told(model: "ModelProto") -> dict[str, object]:
    """The meta-data inside a file; empty where it has none."""
    for entry in model.metadata_props:
        if entry.key == KEY:
            return dict(json.loads(entry.value))
    return {}


def tell(model: "ModelProto", facts: Mapping[str, object]) -> None:
    """Put the meta-data inside, in place of what is there."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(facts, ensure_ascii=False)
