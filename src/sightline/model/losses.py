"""Losses on boxes and masks, each summed over what it is given; who calls them divides.

N: boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.model.boxes import BoxCoder

BETA_OF_L1 = 1e-5
"""Below this the smooth L1 loss is the absolute difference; its quadratic part would divide by (almost) zero."""

OVERLAP_LOSSES = {
    "giou": "generalized_box_iou_loss",  # arXiv:1902.09630
    "diou": "distance_box_iou_loss",  # arXiv:1911.08287
    "ciou": "complete_box_iou_loss",
}
"""Losses on boxes themselves rather than on deltas, by Detectron2's BBOX_REG_LOSS_TYPE: torchvision's functions."""


def smooth_l1(predicted: Tensor, target: Tensor, beta: float) -> Tensor:
    """Sum of the smooth L1 loss (Fast R-CNN, equation 3) with its corner at `beta`; beta 0 is the absolute difference."""
    distance = (predicted - target).abs()
    if beta < BETA_OF_L1:
        return distance.sum()
    return torch.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta).sum()


@dataclass(frozen=True, slots=True)
class BoxLoss:
    """How far predicted deltas are from the true boxes.

    kind: "smooth_l1" on the deltas (with `beta`), or "giou", "diou", "ciou" on the boxes they make
    """

    coder: BoxCoder
    kind: str
    beta: float

    def __call__(self, deltas: Tensor, sources: Tensor, true_boxes: Tensor) -> Tensor:
        """Sum over N of `deltas` (N, 4) from `sources` (N, 4), which should become `true_boxes` (N, 4)."""
        if self.kind == "smooth_l1":
            return smooth_l1(deltas, self.coder.encode(sources, true_boxes), self.beta)
        from torchvision import ops  # here: prediction does without its 2.3 s

        distance: Callable[..., Tensor] = getattr(ops, OVERLAP_LOSSES[self.kind])
        return distance(self.coder.decode(deltas, sources), true_boxes, reduction="sum")


def concatenated(parts: Sequence[Tensor]) -> Tensor:
    """One tensor of the parts; without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
