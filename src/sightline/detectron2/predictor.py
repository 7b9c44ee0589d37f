"""`DefaultPredictor(cfg)(image)`: one BGR picture in, Detectron2's `{"instances": Instances}` out."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.config.architecture import proposes_only
from sightline.config.schema import Config
from sightline.detectron2.cfg import CfgNode
from sightline.detectron2.structures import Boxes, Instances
from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import CheckpointError, ShapeError
from sightline.geometry.masks import decode
from sightline.model.build import build_detector, build_predictor
from sightline.model.checkpoint import load_exactly, read_weights
from sightline.model.detector import Detector
from sightline.records import Detections
from sightline.tensors import choose_device

LOG = logging.getLogger(__name__)

MOST_CERTAIN = 1e-7
"""Probabilities of 0 and 1 are moved by this before they become logits, so that these stay finite (16 at most)."""


class Metadata:
    """Facts of the data set that a model was trained on, as attributes: name, and thing_classes where its folder tells them."""

    def __init__(self, name: str, **facts: Any) -> None:
        self.name = name
        self.__dict__.update(facts)

    def get(self, key: str, default: object = None) -> Any:
        return self.__dict__.get(key, default)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


class DefaultPredictor:
    """Loads MODEL.WEIGHTS (a .pth or .pkl file, or an address that is fetched once) and predicts one picture a call.

    cfg:      its own copy of the configuration
    model:    the detector, in evaluation mode on MODEL.DEVICE
    metadata: class names where the folder of the weights tells them (run.json or bundle.json)

    Raises:
        ConfigError: the configuration asks for what is not supported.
        CheckpointError: the weights cannot be read or do not fit exactly. Detectron2 warns and predicts with random layers.
        RunError: they cannot be downloaded.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        config = self.cfg.to_config()
        self.model = load_detector(config)
        self.input_format = config.input.format
        self.proposes_only = proposes_only(config)
        self.predict = build_predictor(self.model, config)
        self.metadata = metadata_of(config)

    def __call__(self, original_image: NDArray[np.uint8]) -> dict[str, Instances]:
        """{"instances": ...}, or {"proposals": ...} of an RPN alone, with CPU tensors.

        original_image: (H, W, 3) uint8 in BGR as OpenCV reads it, whatever INPUT.FORMAT the model wants

        Raises:
            ShapeError: it is no such array.
        """
        require_picture(original_image)
        (found,) = self.predict([np.ascontiguousarray(original_image[:, :, ::-1])])
        return {"proposals": as_proposals(found)} if self.proposes_only else {"instances": as_instances(found)}


def load_detector(config: Config) -> Detector:
    """The detector that `config` describes, with the weights it names, on the device it names."""
    weights = config.model.weights
    if not weights:
        raise CheckpointError("MODEL.WEIGHTS", "is empty", "Name the trained model: cfg.MODEL.WEIGHTS = 'model_final.pth'.")
    detector = build_detector(config, "cfg")
    path = fetch(weights, cache_folder(os.environ)) if is_address(weights) else Path(weights)
    load_exactly(detector, read_weights(path, detector.state_dict()), weights)
    device = choose_device("auto", config.model.device)
    if config.model.device == "cuda" and device.type == "cpu":
        LOG.warning("warning: MODEL.DEVICE is 'cuda', and there is no GPU here: predicting on the CPU.")
    return detector.to(device).eval()


def metadata_of(config: Config) -> Metadata:
    """The name of the test set, and the classes that run.json or bundle.json beside the weights name."""
    name = next(iter(config.datasets.test), "__unused")
    for facts in (Path(config.model.weights).with_name(file) for file in ("bundle.json", "run.json")):
        try:
            content = json.loads(facts.read_bytes())
        except (OSError, ValueError):
            continue
        names = content.get("class_names") if isinstance(content, dict) else None
        if isinstance(names, list):
            return Metadata(name, thing_classes=names)
    return Metadata(name)


def require_picture(image: object) -> None:
    if not isinstance(image, np.ndarray):
        fix = "Check the path: cv2.imread gives None for a file it cannot read." if image is None else "Pass a numpy array."
        raise ShapeError("image", f"is {type(image).__name__}", fix)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ShapeError("image", f"has shape {list(image.shape)} and type {image.dtype}", "Pass (H, W, 3) uint8 in BGR.")


def as_instances(found: Detections) -> Instances:
    """Detections with the names of Detectron2's fields."""
    fields: dict[str, Any] = {
        "pred_boxes": Boxes(torch.from_numpy(found.boxes)),
        "scores": torch.from_numpy(found.scores),
        "pred_classes": torch.from_numpy(found.labels),
    }
    if found.masks is not None:
        bitmaps = [torch.from_numpy(decode(mask)) for mask in found.masks]
        fields["pred_masks"] = torch.stack(bitmaps) if bitmaps else torch.zeros((0, *found.size), dtype=torch.bool)
    return Instances(found.size, **fields)


def as_proposals(found: Detections) -> Instances:
    """Regions with the names of Detectron2's fields; our scores are probabilities, its are logits."""
    logits = torch.from_numpy(found.scores).double().logit(MOST_CERTAIN).float()
    return Instances(found.size, proposal_boxes=Boxes(torch.from_numpy(found.boxes)), objectness_logits=logits)
