"""How a detector computes: weights of its classes, memory layout, compilation, recomputed activations."""

import torch

from sightline.errors import ConfigError
from sightline.model.detector import Detector
from sightline.model.resnet import ResNet
from sightline.training.settings import Settings


def prepare(detector: Detector, settings: Settings) -> None:
    """Set `detector` up as the settings say. Its state dict keeps its names.

    Raises:
        ConfigError: what is asked for cannot be done with this detector.
    """
    if settings.class_weights:
        detector.weigh_classes(settings.class_weights)
    if settings.channels_last:
        detector.to(memory_format=torch.channels_last)
    if settings.recompute:
        recompute(detector)
    if settings.compile:
        # Sizes vary from batch to batch: one dynamic graph, not one for each size.
        backbone = detector.get_submodule("backbone")
        backbone.compile(dynamic=True)


def recompute(detector: Detector) -> None:
    """Let the backbone's blocks forget their activations and compute them again for the gradients (arXiv:1604.06174).

    Raises:
        ConfigError: its batch norms would count every batch twice.
    """
    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            raise ConfigError("--recompute", "would feed batch norms' statistics twice", "Set the norm to FrozenBN or GN.")
    for module in detector.modules():
        if isinstance(module, ResNet):
            module.recomputed = True
