"""The box branch of the second stage (Fast R-CNN, arXiv:1504.08083): pooled features to classes and refined boxes.

K: classes; index K is background. P: proposals of all pictures together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.boxes import clip
from sightline.model.instances import Found, Sampled
from sightline.model.losses import BoxLoss, concatenated
from sightline.model.norms import Conv, fill_msra, fill_normal, fill_xavier
from sightline.model.operators import batched_nms
from sightline.records import ImageSize


class BoxHead(nn.Module):
    """Convolutions, then fully connected layers: (P, C, R, R) -> (P, D). Names: conv1, ..., fc1, ..."""

    def __init__(
        self, *, in_channels: int, resolution: int, conv_dims: Sequence[int], fc_dims: Sequence[int], norm: str
    ) -> None:
        super().__init__()
        self.convs: list[str] = []
        self.fcs: list[str] = []
        channels = in_channels
        for index, width in enumerate(conv_dims, start=1):
            conv = Conv(channels, width, 3, padding=1, norm=norm, relu=True)
            fill_msra(conv)
            self.add_module(f"conv{index}", conv)
            self.convs.append(f"conv{index}")
            channels = width
        self.channels = channels
        self.out_dim = channels * resolution * resolution
        for index, width in enumerate(fc_dims, start=1):
            fc = nn.Linear(self.out_dim, width)
            fill_xavier(fc)
            self.add_module(f"fc{index}", fc)
            self.fcs.append(f"fc{index}")
            self.out_dim = width

    def forward(self, x: Tensor) -> Tensor:
        for name in self.convs:
            x = self.get_submodule(name)(x)
        x = x.flatten(1)
        for name in self.fcs:
            x = F.relu_(self.get_submodule(name)(x))
        return x


class BoxPredictor(nn.Module):
    """(P, D) -> class logits (P, K + 1) and box deltas (P, K*4), or (P, 4) when all classes share one; and their losses.

    sigmoid: every class is a yes or no of its own instead of one among K + 1
    """

    class_weights: Tensor | None

    def __init__(
        self, in_dim: int, classes: int, *, class_agnostic: bool, box_loss: BoxLoss, box_loss_weight: float, sigmoid: bool
    ) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_dim, classes + 1)
        self.bbox_pred = nn.Linear(in_dim, 4 if class_agnostic else 4 * classes)
        fill_normal(self.cls_score, std=0.01)
        fill_normal(self.bbox_pred, std=0.001)
        self.classes, self.box_loss, self.box_loss_weight, self.sigmoid = classes, box_loss, box_loss_weight, sigmoid
        self.register_buffer("class_weights", None, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)

    def scores(self, logits: Tensor) -> Tensor:
        """(P, K + 1) probabilities; the last column is background's."""
        return logits.sigmoid() if self.sigmoid else logits.softmax(dim=1)

    def refined(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """(P, K*4 or 4): `boxes` (P, 4) moved by their deltas."""
        return self.box_loss.coder.decode(deltas, boxes)

    def refined_for_labels(self, deltas: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """(P, 4): each box moved by the delta of its label (P,); for background by that of the last class."""
        refined = self.refined(deltas, boxes)
        if refined.shape[1] == 4:
            return refined
        rows = torch.arange(len(labels), device=labels.device)
        return refined.view(len(labels), self.classes, 4)[rows, labels.clamp(max=self.classes - 1)]

    def losses(self, logits: Tensor, deltas: Tensor, sampled: Sequence[Sampled]) -> dict[str, Tensor]:
        """{"loss_cls": mean over the sample, "loss_box_reg": of its objects, divided by the sample's size}."""
        labels = concatenated([s.labels for s in sampled])
        boxes, true_boxes = concatenated([s.boxes for s in sampled]), concatenated([s.true_boxes for s in sampled])
        if not len(labels):  # a batch of empty pictures whose proposals all vanished
            return {"loss_cls": logits.sum() * 0.0, "loss_box_reg": deltas.sum() * 0.0}
        objects = (labels < self.classes).nonzero().squeeze(1)
        chosen = deltas[objects]  # (F, K*4 or 4)
        if chosen.shape[1] != 4:
            rows = torch.arange(len(objects), device=labels.device)
            chosen = chosen.view(len(objects), self.classes, 4)[rows, labels[objects]]
        box_loss = self.box_loss(chosen, boxes[objects], true_boxes[objects])
        return {
            "loss_cls": self.class_loss(logits, labels),
            "loss_box_reg": box_loss / labels.numel() * self.box_loss_weight,
        }

    def weigh_classes(self, weights: Tensor) -> None:
        """Multiply what each class (K,) adds to the classification loss; background keeps 1."""
        self.class_weights = torch.cat((weights, weights.new_ones(1)))

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = self.class_weights
        if not self.sigmoid:
            if weights is None:
                return F.cross_entropy(logits, labels)
            return F.cross_entropy(logits, labels, weights, reduction="sum") / len(labels)
        wanted = F.one_hot(labels, self.classes + 1)[:, :-1].to(logits.dtype)
        columns = None if weights is None else weights[:-1]
        return F.binary_cross_entropy_with_logits(logits[:, :-1], wanted, columns, reduction="sum") / len(labels)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which boxes of a picture are its detections: those that score enough, suppressed class by class, the best of them.

    max_detections: None keeps all
    """

    score_threshold: float
    nms_iou: float
    max_detections: int | None

    def __call__(self, scores: Tensor, boxes: Tensor, size: ImageSize) -> Found:
        """scores: (P, K + 1), background last; boxes: (P, K*4), or (P, 4) where all classes share one."""
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        scores = scores[:, :-1]
        boxes = clip(boxes.view(len(boxes), boxes.shape[1] // 4, 4), *size)  # (P, K or 1, 4)
        rows, labels = ((scores > self.score_threshold) & finite[:, None]).nonzero().unbind(1)
        found = boxes[rows, 0] if boxes.shape[1] == 1 else boxes[rows, labels]
        kept_scores = scores[rows, labels]
        keep = batched_nms(found, kept_scores, labels, self.nms_iou)[: self.max_detections]
        return Found(found[keep], kept_scores[keep], labels[keep])
