"""Detectron2's `model_zoo`: its configurations and trained weights by name, "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"."""

import logging
import os
from pathlib import Path

from torch import nn

from sightline import downloads
from sightline.config.zoo import ZOO
from sightline.config.zoo_models import checkpoint_address
from sightline.detectron2.cfg import CfgNode, get_cfg
from sightline.detectron2.predictor import load_detector
from sightline.errors import ConfigError, nearest
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_weights
from sightline.tensors import choose_device

LOG = logging.getLogger(__name__)


def get_config_file(config_path: str) -> str:
    """The zoo's name for it, which `cfg.merge_from_file` takes. There is no file: the zoo is built in.

    Raises:
        ConfigError: the zoo has no such name.
    """
    name = config_path if config_path.endswith(".yaml") else f"{config_path}.yaml"
    if name not in ZOO:
        raise ConfigError(config_path, "is no name of the model zoo", nearest(name, list(ZOO)))
    return name


def get_checkpoint_url(config_path: str) -> str:
    """The https:// address of the weights trained with it.

    Raises:
        ConfigError: the zoo has no such name, or no weights of it are published.
    """
    return checkpoint_address(config_path).replace("detectron2://", downloads.ZOO)


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Its configuration. trained: with the address of the trained weights as MODEL.WEIGHTS, instead of the backbone's."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """The detector with its weights, in training mode, as Detectron2 gives it. device: instead of MODEL.DEVICE."""
    cfg = get_config(config_path, trained)
    if device is not None:
        cfg.MODEL.DEVICE = device
    config = cfg.to_config()
    if trained:
        return load_detector(config).train()
    model = build_detector(config, config_path)
    weights = config.model.weights
    if weights:
        path = downloads.fetch(weights, downloads.cache_folder(os.environ)) if downloads.is_address(weights) else Path(weights)
        for line in load_weights(model, read_weights(path, model.state_dict())).lines():
            LOG.info("weights %s: %s", weights, line)
    return model.to(choose_device("auto", config.model.device)).train()
