"""RetinaNet (arXiv:1708.02002): a class and a box for every anchor of every level, and the focal loss that makes it learn.

B: pictures. L: levels. A: anchors a cell. R: all anchors of a picture, level by level. K: classes.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import pairwise_iou
from sightline.model.detector import Detector, Features
from sightline.model.instances import Found, Targets
from sightline.model.losses import BoxLoss
from sightline.model.matching import IGNORE, Matcher
from sightline.model.norms import fill_normal, make_norm
from sightline.model.operators import batched_nms
from sightline.records import ImageSize

FIRST_NORMALISER, KEPT = 100.0, 0.9
"""The count of positive anchors that losses are divided by is a running mean: it begins at 100 and keeps 0.9 of itself."""


class LevelNorms(nn.ModuleList):
    """Batch norms with statistics of their own for every level, and one scale and shift for all."""

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__([nn.BatchNorm2d(channels, affine=False) for _ in range(levels)])
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        normal: Tensor = self[level](x)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class Subnet(nn.Sequential):
    """Several times 3x3 convolution (with a bias, whatever the norm), norm, ReLU; numbered through as Detectron2 does."""

    def __init__(self, channels: int, convs: int, norm: Callable[[], nn.Module | None]) -> None:
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1))
            made = norm()
            if made is not None:
                layers.append(made)
            layers.append(nn.ReLU())
        super().__init__(*layers)

    def at(self, level: int, x: Tensor) -> Tensor:
        """The features of one level; only `LevelNorms` care which."""
        for layer in self:
            x = layer(x, level) if isinstance(layer, LevelNorms) else layer(x)
        return x


class RetinaNetHead(nn.Module):
    """Two subnets shared by all levels: (B, C, H, W) a level -> class logits and box deltas of its anchors.

    prior: probability that an untrained head gives every class of every anchor
    """

    def __init__(
        self, *, in_channels: int, levels: int, anchors: int, classes: int, convs: int, norm: str, prior: float
    ) -> None:
        super().__init__()

        def make() -> nn.Module | None:
            if norm in ("BN", "SyncBN"):  # as in Detectron2, which gives every other norm to all levels together
                return LevelNorms(levels, in_channels)
            return make_norm(norm, in_channels)

        self.classes = classes
        self.cls_subnet = Subnet(in_channels, convs, make)
        self.bbox_subnet = Subnet(in_channels, convs, make)
        self.cls_score = nn.Conv2d(in_channels, anchors * classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(in_channels, anchors * 4, 3, padding=1)
        for layer in (*self.cls_subnet, *self.bbox_subnet, self.cls_score, self.bbox_pred):
            if isinstance(layer, nn.Conv2d):
                fill_normal(layer, std=0.01)
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior) / prior))

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """([(B, H*W*A, K) logits a level], [(B, H*W*A, 4) deltas a level]), anchors in AnchorGrid's order."""
        logits = [by_anchor(self.cls_score(self.cls_subnet.at(i, f)), self.classes) for i, f in enumerate(features)]
        deltas = [by_anchor(self.bbox_pred(self.bbox_subnet.at(i, f)), 4) for i, f in enumerate(features)]
        return logits, deltas


def by_anchor(x: Tensor, numbers: int) -> Tensor:
    """(B, A*numbers, H, W) -> (B, H*W*A, numbers)."""
    batch, _, height, width = x.shape
    return x.view(batch, -1, numbers, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3)


class RetinaNet(Detector):
    """Backbone and one dense head.

    focal_alpha, focal_gamma: of the focal loss (alpha below 0: no balance of classes)
    candidates:               detections a level before suppression
    """

    loss_normalizer: Tensor
    class_weights: Tensor | None
    running_buffers = ("loss_normalizer",)

    def __init__(
        self,
        *,
        backbone: nn.Module,
        head: RetinaNetHead,
        anchors: AnchorGrid,
        matcher: Matcher,
        box_loss: BoxLoss,
        in_features: tuple[str, ...],
        focal_alpha: float,
        focal_gamma: float,
        score_threshold: float,
        candidates: int,
        nms_iou: float,
        max_detections: int | None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisor: int,
    ) -> None:
        super().__init__(backbone=backbone, pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisor=size_divisor)
        self.head = head
        self.anchors, self.matcher, self.box_loss, self.in_features = anchors, matcher, box_loss, in_features
        self.focal_alpha, self.focal_gamma = focal_alpha if focal_alpha >= 0 else -1.0, focal_gamma
        self.score_threshold, self.candidates = score_threshold, candidates
        self.nms_iou, self.max_detections = nms_iou, max_detections
        self.register_buffer("class_weights", None, persistent=False)
        self.register_buffer("loss_normalizer", torch.tensor(FIRST_NORMALISER), persistent=False)

    def dense(self, features: Features) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """(anchors (H*W*A, 4), logits (B, H*W*A, K), deltas (B, H*W*A, 4)), each a level."""
        levels = [features[name] for name in self.in_features]
        logits, deltas = self.head(levels)
        return self.anchors(levels), logits, deltas

    def losses(self, features: Features, sizes: Sequence[ImageSize], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Focal loss of all anchors that are not ignored and box loss of the positive ones, over the count of the latter."""
        anchors, logits, deltas = self.dense(features)
        everywhere = torch.cat(anchors)  # (R, 4)
        labels, true_boxes = zip(*(self.assign(everywhere, target) for target in targets), strict=True)
        all_labels = torch.stack(labels)  # (B, R)
        counted = all_labels != IGNORE
        positive = counted & (all_labels != self.head.classes)
        all_logits, all_deltas = torch.cat(logits, 1), torch.cat(deltas, 1)
        with torch.no_grad():
            self.loss_normalizer.mul_(KEPT).add_(positive.sum().clamp(min=1) * (1 - KEPT))
            normaliser = self.loss_normalizer.clone()
        wanted = F.one_hot(all_labels[counted], self.head.classes + 1)[:, :-1].to(all_logits.dtype)
        class_loss = self.focal_loss(all_logits[counted], wanted)
        sources = everywhere.expand(len(targets), -1, 4)[positive]
        box_loss = self.box_loss(all_deltas[positive], sources, torch.stack(true_boxes)[positive])
        return {"loss_cls": class_loss / normaliser, "loss_box_reg": box_loss / normaliser}

    def focal_loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Sum over (N, K) logits and their 0 or 1, each class with its weight."""
        from torchvision.ops import sigmoid_focal_loss  # here: prediction does without its 2.3 s

        if self.class_weights is None:
            loss: Tensor = sigmoid_focal_loss(logits, wanted, self.focal_alpha, self.focal_gamma, reduction="sum")
        else:
            loss = (sigmoid_focal_loss(logits, wanted, self.focal_alpha, self.focal_gamma) * self.class_weights).sum()
        return loss

    def weigh_classes(self, weights: Sequence[float]) -> None:
        self.class_weights = torch.tensor(weights, dtype=torch.float32, device=self.device)

    @torch.no_grad()
    def assign(self, anchors: Tensor, target: Targets) -> tuple[Tensor, Tensor]:
        """((R,) class, K for background, or IGNORE; (R, 4) the true box of each) for one picture."""
        matches, matched = self.matcher(pairwise_iou(target.boxes, anchors))
        if not len(target.boxes):
            return torch.full_like(matches, self.head.classes), torch.zeros_like(anchors)
        labels = target.labels[matches]
        labels[matched == 0] = self.head.classes
        labels[matched == IGNORE] = IGNORE
        return labels, target.boxes[matches]

    def find(self, features: Features, sizes: Sequence[ImageSize]) -> list[Found]:
        anchors, logits, deltas = self.dense(features)
        return [
            self.select(anchors, [level[picture].float().sigmoid() for level in logits], [level[picture] for level in deltas])
            for picture in range(len(sizes))
        ]

    def select(self, anchors: Sequence[Tensor], scores: Sequence[Tensor], deltas: Sequence[Tensor]) -> Found:
        """One picture's best. Each a level: anchors (H*W*A, 4), scores (H*W*A, K), deltas (H*W*A, 4)."""
        parts = [self.best_of_level(a, s, d) for a, s, d in zip(anchors, scores, deltas, strict=True)]
        found = Found(*(torch.cat(numbers) for numbers in zip(*parts, strict=True)))
        keep = batched_nms(found.boxes, found.scores, found.labels, self.nms_iou)[: self.max_detections]
        return found.take(keep)

    def best_of_level(self, anchors: Tensor, scores: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(boxes, scores, labels) of at most `candidates` pairs of anchor and class."""
        rows, labels = (scores > self.score_threshold).nonzero().unbind(1)
        best, order = scores[rows, labels].topk(min(self.candidates, len(rows)))
        rows, labels = rows[order], labels[order]
        return self.box_loss.coder.decode(deltas[rows], anchors[rows]), best, labels
