"""What goes into a detector and what comes out of it, one object per picture of the batch.

Boxes are float32 (x1, y1, x2, y2) in the batch's pixels unless said otherwise; labels are int64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.geometry.masks import Mask


@dataclass(frozen=True, slots=True)
class Targets:
    """The truth about one picture. boxes: (G, 4); labels: (G,); masks: one an object, None where boxes are all there is."""

    boxes: Tensor
    labels: Tensor
    masks: Sequence[Mask] | None = None

    def to(self, device: torch.device) -> "Targets":
        """The same with its tensors on `device`; masks stay in numpy, where they are drawn into grids."""
        return Targets(self.boxes.to(device), self.labels.to(device), self.masks)


@dataclass(frozen=True, slots=True)
class Proposals:
    """Boxes that may hold an object, best first. boxes: (P, 4); logits: (P,) of being an object."""

    boxes: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Sampled:
    """Proposals of one picture drawn for training.

    boxes, true_boxes: (S, 4)
    labels:            (S,), the number of classes for background
    matches:           (S,) index of each one's true object; meaningless for background
    """

    boxes: Tensor
    labels: Tensor
    true_boxes: Tensor
    matches: Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one picture, best first.

    boxes:  (N, 4)
    scores: (N,) in [0, 1]
    labels: (N,)
    masks:  (N, M, M) probabilities on a grid over each box; None without a mask head
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Tensor) -> "Found":
        """Those that `rows` (indices or a boolean mask) names."""
        masks = None if self.masks is None else self.masks[rows]
        return Found(self.boxes[rows], self.scores[rows], self.labels[rows], masks)
