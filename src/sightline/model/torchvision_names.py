"""torchvision's ImageNet classifiers as backbones: the same ResNet under other names."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

SIGN = ("conv1.weight", "layer1.0.conv1.weight")
"""Names that every torchvision ResNet has, and no file of Detectron2's."""

LEARNED_FROM = (
    "torchvision's classifiers learned from RGB pictures: set INPUT.FORMAT RGB, MODEL.PIXEL_MEAN '(123.675,116.28,103.53)', "
    "MODEL.PIXEL_STD '(58.395,57.12,57.375)' and MODEL.RESNETS.STRIDE_IN_1X1 False, as the preset r50 does"
)

NAMES = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer([1-4])\.", lambda found: f"res{int(found[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn([1-3])\.", r".conv\1.norm."),
)
"""torchvision's names to ours, applied in this order."""


def is_torchvision(names: Iterable[str]) -> bool:
    """Whether these are the tensors of a torchvision ResNet."""
    given = set(names)
    return all(name in given for name in SIGN)


def from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names, without the prefix of a detector; the classifier `fc` keeps its own."""
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901  # rewritten step by step
        renamed[name] = value
    return renamed
