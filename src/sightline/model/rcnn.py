"""Two-stage detectors: Faster R-CNN (arXiv:1506.01497) and what is built on it, and the first stage alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.model.box_head import BoxPredictor
from sightline.model.detector import Detector, Features
from sightline.model.instances import Found, Targets
from sightline.model.roi_heads import ROIHeads
from sightline.model.rpn import RPN
from sightline.records import ImageSize


class GeneralizedRCNN(Detector):
    """Backbone, proposals, heads."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisor: int,
    ) -> None:
        super().__init__(backbone=backbone, pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisor=size_divisor)
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads

    def losses(self, features: Features, sizes: Sequence[ImageSize], targets: Sequence[Targets]) -> dict[str, Tensor]:
        proposals, losses = self.proposal_generator(features, sizes, targets)
        found: dict[str, Tensor] = losses | self.roi_heads.losses(features, proposals, sizes, targets)
        return found

    def find(self, features: Features, sizes: Sequence[ImageSize]) -> list[Found]:
        proposals, _ = self.proposal_generator(features, sizes)
        return self.roi_heads.find(features, proposals, sizes)

    def weigh_classes(self, weights: Sequence[float]) -> None:
        for module in self.roi_heads.modules():
            if isinstance(module, BoxPredictor):
                module.weigh_classes(torch.tensor(weights, dtype=torch.float32, device=self.device))

    @property
    def gives_masks(self) -> bool:
        return self.roi_heads.mask_head is not None

    def with_masks(self, features: Features, found: Sequence[Found]) -> list[Found]:
        return self.roi_heads.with_masks(features, found)


class ProposalNetwork(Detector):
    """Backbone and proposals: regions that may hold an object, all of label 0, scored by their objectness."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        proposal_generator: RPN,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisor: int,
    ) -> None:
        super().__init__(backbone=backbone, pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisor=size_divisor)
        self.proposal_generator = proposal_generator

    def losses(self, features: Features, sizes: Sequence[ImageSize], targets: Sequence[Targets]) -> dict[str, Tensor]:
        _, losses = self.proposal_generator(features, sizes, targets)
        found: dict[str, Tensor] = losses
        return found

    def find(self, features: Features, sizes: Sequence[ImageSize]) -> list[Found]:
        proposals, _ = self.proposal_generator(features, sizes)
        return [Found(p.boxes, p.logits.sigmoid(), torch.zeros_like(p.logits, dtype=torch.int64)) for p in proposals]
