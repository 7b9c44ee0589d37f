"""RoIAlign over a feature pyramid (arXiv:1703.06870; level choice: arXiv:1612.03144, equation 1)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.model.operators import roi_align
from sightline.model.roi_rows import roi_align_rows

CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224
"""A box of 224 px, ImageNet's picture size, is pooled from level p4, as in the FPN paper."""


class Pooler(nn.Module):
    """Features of boxes, (P, C, resolution, resolution), each from the level that fits its size.

    aligned: half-pixel-correct sampling (Detectron2's ROIAlignV2); False is ROIAlign of 2017.
    """

    def __init__(self, *, resolution: int, strides: Sequence[int], sampling_ratio: int, aligned: bool) -> None:
        super().__init__()
        self.resolution, self.strides, self.sampling_ratio, self.aligned = resolution, strides, sampling_ratio, aligned
        self.first_level = int(math.log2(strides[0]))

    def levels(self, boxes: Tensor) -> Tensor:
        """(P,) index of the feature level for boxes (P, 4)."""
        size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        level = torch.floor(CANONICAL_LEVEL + torch.log2(size / CANONICAL_SIZE + 1e-8)).nan_to_num(nan=0.0)
        return level.clamp(self.first_level, self.first_level + len(self.strides) - 1).to(torch.int64) - self.first_level

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """boxes: (P_i, 4) a picture; the answer is in their order, picture after picture."""
        picture = torch.cat([box.new_full((len(box), 1), float(i)) for i, box in enumerate(boxes)])
        rois = torch.cat((picture, torch.cat(tuple(boxes))), dim=1)  # (P, 5)
        if learns_on_cpu(features) and len(rois):
            levels = self.levels(rois[:, 1:]) if len(features) > 1 else torch.zeros_like(rois[:, 0], dtype=torch.int64)
            return roi_align_rows(
                features,
                rois,
                levels,
                resolution=self.resolution,
                strides=self.strides,
                sampling_ratio=self.sampling_ratio,
                aligned=self.aligned,
            )
        if len(features) == 1:
            return self.pool(features[0], rois, self.strides[0])
        levels = self.levels(rois[:, 1:])
        counts = torch.stack([(levels == index).sum() for index in range(len(features))]).tolist()  # a GPU is waited for once
        places = torch.split(levels.argsort(stable=True), counts)
        parts = [
            self.pool(feature, rois[place], stride)
            for feature, place, stride in zip(features, places, self.strides, strict=True)
        ]
        return torch.cat(parts).index_select(0, torch.cat(places).argsort())

    def pool(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        return roi_align(
            feature,
            rois.to(feature.dtype),
            self.resolution,
            scale=1.0 / stride,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


def learns_on_cpu(features: Sequence[Tensor]) -> bool:
    """Whether gradients will go back into `features` and are to be computed where torchvision's kernel is slow."""
    first = features[0]
    return first.device.type == "cpu" and first.dtype == torch.float32 and torch.is_grad_enabled() and first.requires_grad
