"""Which prediction is to become which object: matching by overlap, and drawing a balanced sample.

G: true boxes. P: predictions (anchors or proposals).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -1
"""Label of a prediction that neither counts for nor against."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """Gives each prediction its best true box and a label by their overlap.

    thresholds:      ascending overlaps that part the labels, e.g. (0.3, 0.7)
    labels:          one more than thresholds, e.g. (0, -1, 1): background below 0.3, ignored between, object above
    keep_best:       the best predictions of every true box are objects (label 1) however little they overlap
    """

    thresholds: tuple[float, ...]
    labels: tuple[int, ...]
    keep_best: bool

    def __call__(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        """((P,) index of the best true box, (P,) int8 label) of overlaps (G, P). Without true boxes: index 0, lowest label."""
        true_count, predictions = overlaps.shape
        if true_count == 0:
            matches = overlaps.new_zeros(predictions, dtype=torch.int64)
            return matches, torch.full((predictions,), self.labels[0], dtype=torch.int8, device=overlaps.device)
        best, matches = overlaps.max(dim=0)
        labels = torch.empty(predictions, dtype=torch.int8, device=overlaps.device)
        edges = (-float("inf"), *self.thresholds, float("inf"))
        for label, low, high in zip(self.labels, edges[:-1], edges[1:], strict=True):
            labels[(best >= low) & (best < high)] = label
        if self.keep_best:
            # Every prediction that ties for a true box's best counts (Faster R-CNN, 3.1.2); its match stays its own best.
            best_of_true = overlaps.max(dim=1, keepdim=True).values
            labels[(overlaps == best_of_true).any(dim=0)] = 1
        return matches, labels


def sample(labels: Tensor, count: int, positive_share: float, background: int) -> tuple[Tensor, Tensor]:
    """(indices of objects, indices of background), at most `count` together, drawn by torch's generator.

    labels: (P,); IGNORE is never drawn. Too few objects are made up for by background.
    """
    positive = ((labels != IGNORE) & (labels != background)).nonzero().squeeze(1)
    negative = (labels == background).nonzero().squeeze(1)
    positives = min(int(count * positive_share), positive.numel())
    negatives = min(count - positives, negative.numel())
    return draw(positive, positives), draw(negative, negatives)


def draw(indices: Tensor, count: int) -> Tensor:
    return indices[torch.randperm(indices.numel(), device=indices.device)[:count]]
