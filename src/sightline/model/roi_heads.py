"""The second stage (Fast R-CNN, arXiv:1504.08083): proposals to classes and refined boxes, and its two losses.

K: classes; index K is background. P: proposals of all pictures together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import batched_nms

from sightline.model.boxes import BoxCoder, clip, pairwise_iou
from sightline.model.matching import Matcher, concatenated, sample, smooth_l1
from sightline.model.norms import Conv, fill_msra, fill_normal, fill_xavier
from sightline.model.pooling import Pooler
from sightline.model.rpn import Proposals, Targets
from sightline.records import ImageSize


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one picture of the batch, best first: boxes (N, 4) in the batch's pixels, scores (N,), labels (N,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Sampled:
    """Proposals of one picture drawn for training. boxes, true_boxes: (S, 4); labels: (S,), K for background."""

    boxes: Tensor
    labels: Tensor
    true_boxes: Tensor


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
    """(P, D) -> class logits (P, K + 1) and box deltas (P, K*4), or (P, 4) when all classes share one."""

    def __init__(self, in_dim: int, classes: int, class_agnostic: bool) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_dim, classes + 1)
        self.bbox_pred = nn.Linear(in_dim, 4 if class_agnostic else 4 * classes)
        fill_normal(self.cls_score, std=0.01)
        fill_normal(self.bbox_pred, std=0.001)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class ROIHeads(nn.Module):
    """Detections for inference, losses for training.

    score_threshold, nms_iou, max_detections: of inference (None: all); every class is suppressed on its own
    """

    def __init__(
        self,
        *,
        pooler: Pooler,
        box_head: BoxHead,
        predictor: BoxPredictor,
        coder: BoxCoder,
        matcher: Matcher,
        in_features: tuple[str, ...],
        classes: int,
        samples: int,
        positive_share: float,
        append_true_boxes: bool,
        smooth_l1_beta: float,
        box_loss_weight: float,
        score_threshold: float,
        nms_iou: float,
        max_detections: int | None,
    ) -> None:
        super().__init__()
        self.box_pooler, self.box_head, self.box_predictor = pooler, box_head, predictor
        self.coder, self.matcher, self.in_features, self.classes = coder, matcher, in_features, classes
        self.samples, self.positive_share, self.append_true_boxes = samples, positive_share, append_true_boxes
        self.smooth_l1_beta, self.box_loss_weight = smooth_l1_beta, box_loss_weight
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections

    def predict(self, features: dict[str, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(logits (P, K + 1), deltas (P, K*4 or 4)) for boxes (P_i, 4) a picture."""
        pooled = self.box_pooler([features[name] for name in self.in_features], boxes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas

    def losses(
        self, features: dict[str, Tensor], proposals: Sequence[Proposals], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """Mean cross entropy over the sample, and the box loss of its objects divided by the sample's size."""
        sampled = [self.draw(p, t) for p, t in zip(proposals, targets, strict=True)]
        logits, deltas = self.predict(features, [s.boxes for s in sampled])
        labels = concatenated([s.labels for s in sampled])
        boxes, true_boxes = concatenated([s.boxes for s in sampled]), concatenated([s.true_boxes for s in sampled])
        if not len(labels):  # a batch of empty pictures whose proposals all vanished
            return {"loss_cls": logits.sum() * 0.0, "loss_box_reg": deltas.sum() * 0.0}
        objects = (labels < self.classes).nonzero().squeeze(1)
        chosen = deltas[objects]  # (F, K*4 or 4)
        if chosen.shape[1] != 4:
            rows = torch.arange(len(objects), device=labels.device)
            chosen = chosen.view(len(objects), self.classes, 4)[rows, labels[objects]]
        box_loss = smooth_l1(chosen, self.coder.encode(boxes[objects], true_boxes[objects]), self.smooth_l1_beta)
        return {
            "loss_cls": F.cross_entropy(logits, labels),
            "loss_box_reg": box_loss / labels.numel() * self.box_loss_weight,
        }

    @torch.no_grad()
    def draw(self, proposals: Proposals, target: Targets) -> Sampled:
        """A balanced sample of one picture's proposals, the true boxes themselves among the candidates."""
        boxes = torch.cat((proposals.boxes, target.boxes)) if self.append_true_boxes else proposals.boxes
        matches, matched = self.matcher(pairwise_iou(target.boxes, boxes))
        if len(target.boxes):
            labels = target.labels[matches]
            labels[matched == 0] = self.classes
            labels[matched == -1] = -1
            true_boxes = target.boxes[matches]
        else:
            labels = torch.full_like(matches, self.classes)
            true_boxes = torch.zeros_like(boxes)
        positive, negative = sample(labels, self.samples, self.positive_share, background=self.classes)
        chosen = torch.cat((positive, negative))
        return Sampled(boxes[chosen], labels[chosen], true_boxes[chosen])

    def detect(self, features: dict[str, Tensor], proposals: Sequence[Proposals], sizes: Sequence[ImageSize]) -> list[Found]:
        """The detections of each picture, in the batch's pixels."""
        boxes = [p.boxes for p in proposals]
        logits, deltas = self.predict(features, boxes)
        counts = [len(b) for b in boxes]
        scores = logits.softmax(dim=1)
        refined = self.coder.decode(deltas, concatenated(boxes))
        parts = zip(torch.split(scores, counts), torch.split(refined, counts), sizes, strict=True)
        return [self.select(s, b, size) for s, b, size in parts]

    def select(self, scores: Tensor, boxes: Tensor, size: ImageSize) -> Found:
        """One picture's best: scores (P, K + 1), boxes (P, K*4 or 4)."""
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        if not finite.all():
            scores, boxes = scores[finite], boxes[finite]
        scores = scores[:, :-1]
        boxes = clip(boxes.view(len(boxes), boxes.shape[1] // 4, 4), *size)  # (P, K or 1, 4)
        rows, labels = (scores > self.score_threshold).nonzero().unbind(1)
        found = boxes[rows, 0] if boxes.shape[1] == 1 else boxes[rows, labels]
        kept_scores = scores[rows, labels]
        keep = batched_nms(found, kept_scores, labels, self.nms_iou)[: self.max_detections]
        return Found(found[keep], kept_scores[keep], labels[keep])
