"""torchvision's R50-FPN and R101-FPN with weights of ours, for comparisons. It knows of Sightline the names in them alone."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

NAMES = (
    (r"^backbone\.bottom_up\.(stem\.)?", "backbone.body."),
    (r"\.res(\d)\.", lambda found: f".layer{int(found[1]) - 1}."),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
    (r"fpn_lateral(\d)", lambda found: f"fpn.inner_blocks.{int(found[1]) - 2}.0"),
    (r"fpn_output(\d)", lambda found: f"fpn.layer_blocks.{int(found[1]) - 2}.0"),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r".*objectness_logits", "rpn.head.cls_logits"),
    (r".*anchor_deltas", "rpn.head.bbox_pred"),
    (r"\.fc1\.", ".fc6."),
    (r"\.fc2\.", ".fc7."),
)
"""(pattern in Detectron2's names, torchvision's), applied in turn."""


def in_torchvision(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    if name == "backbone.bottom_up.stem.conv1.weight":
        tensor = tensor.flip(1)  # torchvision takes RGB
    if "cls_score" in name:
        tensor = tensor.roll(1, 0)  # its background comes first
    if "box_predictor.bbox_pred" in name:
        tensor = torch.cat([torch.zeros_like(tensor[:4]), tensor])
    for pattern, new in NAMES:
        name = re.sub(pattern, new, name)
    return name, tensor


def r50_fpn(min_size: int, max_size: int, classes: int, state: Mapping[str, Tensor], depth: int = 50) -> FasterRCNN:
    """torchvision's R50-FPN with the weights of Detectron2's and its mean. min_size, max_size: pixels it resizes to.

    depth: 101 is built of the same parts
    """
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )  # what fasterrcnn_resnet50_fpn calls
    model = FasterRCNN(
        backbone,
        num_classes=classes + 1,
        min_size=min_size,
        max_size=max_size,
        image_mean=[mean / 255 for mean in (123.675, 116.28, 103.53)],
        image_std=[1 / 255] * 3,
    ).eval()
    fitted = model.load_state_dict(dict(in_torchvision(*item) for item in state.items()), strict=False)
    if lacking := [name for name in fitted.missing_keys if "num_batches" not in name]:
        raise SystemExit(f"The weights lack {', '.join(lacking)}.")
    return model
