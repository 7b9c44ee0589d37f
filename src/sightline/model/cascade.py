"""Cascade R-CNN (arXiv:1712.00726): the box branch several times over, each stage from the boxes of the one before.

Each stage learns from a stricter overlap than the last. All stages share one delta for all classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import clip, nonempty
from sightline.model.instances import Found, Proposals, Sampled, Targets
from sightline.model.losses import concatenated
from sightline.model.mask_head import MaskHead
from sightline.model.matching import Matcher
from sightline.model.pooling import Pooler
from sightline.model.roi_heads import Features, Refined, ROIHeads, Sampling, labelled, mask_losses, objects_of
from sightline.records import ImageSize


class ScaledGradient(torch.autograd.Function):
    """Its input as it is; its gradient times `scale`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


class CascadeROIHeads(ROIHeads):
    """A box head, predictor and matcher a stage. Detections score the mean of all stages; the last stage's boxes count.

    matchers: of the stages; the first is the one that `sampling` draws with
    """

    def __init__(
        self,
        *,
        box_pooler: Pooler,
        box_heads: Sequence[BoxHead],
        box_predictors: Sequence[BoxPredictor],
        matchers: Sequence[Matcher],
        mask_pooler: Pooler | None,
        mask_head: MaskHead | None,
        in_features: tuple[str, ...],
        sampling: Sampling,
        selection: Selection,
    ) -> None:
        super().__init__(in_features, sampling, selection)
        self.matchers = tuple(matchers)
        self.box_pooler = box_pooler
        self.box_head, self.box_predictor = nn.ModuleList(box_heads), nn.ModuleList(box_predictors)
        self.mask_pooler, self.mask_head = mask_pooler, mask_head

    @property
    def stages(self) -> int:
        return len(self.matchers)

    def predictor(self, stage: int) -> BoxPredictor:
        predictor = self.box_predictor[stage]
        assert isinstance(predictor, BoxPredictor)
        return predictor

    def predict(self, features: Features, boxes: Sequence[Tensor], stage: int) -> Refined:
        """Logits and deltas of one stage. All stages' losses add up, so the features take a part of each stage's gradient."""
        pooled = self.box_pooler(self.levels(features), boxes)
        scaled: Tensor = ScaledGradient.apply(pooled, 1.0 / self.stages)
        logits, deltas = self.predictor(stage)(self.box_head[stage](scaled))
        return logits, deltas

    def refined(self, deltas: Tensor, boxes: Sequence[Tensor], stage: int) -> list[Tensor]:
        """(P_i, 4) a picture: what a stage makes of its boxes."""
        moved = self.predictor(stage).refined(deltas, concatenated(boxes))
        return list(torch.split(moved, [len(b) for b in boxes]))

    def mask_features(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        assert self.mask_pooler is not None
        pooled: Tensor = self.mask_pooler(self.levels(features), boxes)
        return pooled

    def losses(
        self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """{"loss_cls_stage0", "loss_box_reg_stage0", ...}, and "loss_mask", which learns from the first stage's sample."""
        first = [self.sampling(p, t) for p, t in zip(proposals, targets, strict=True)]
        sampled = first
        losses: dict[str, Tensor] = {}
        for stage in range(self.stages):
            boxes = [s.boxes for s in sampled]
            logits, deltas = self.predict(features, boxes, stage)
            of_stage = self.predictor(stage).losses(logits, deltas, sampled)
            losses |= {f"{name}_stage{stage}": value for name, value in of_stage.items()}
            if stage + 1 < self.stages:
                sampled = self.next_sample(self.refined(deltas.detach(), boxes, stage), sizes, targets, stage + 1)
        if self.mask_head is None:
            return losses
        objects = [objects_of(s, self.sampling.classes) for s in first]
        pooled = self.mask_features(features, [o.boxes for o in objects])
        return losses | mask_losses(self.mask_head, pooled, objects, targets)

    @torch.no_grad()
    def next_sample(
        self, refined: Sequence[Tensor], sizes: Sequence[ImageSize], targets: Sequence[Targets], stage: int
    ) -> list[Sampled]:
        """What `stage` learns from: every refined box, cut to its picture and labelled by the stage's own overlap."""
        sampled = []
        for boxes, size, target in zip(refined, sizes, targets, strict=True):
            inside = clip(boxes, *size)
            sampled.append(labelled(inside[nonempty(inside)], target, self.matchers[stage], self.sampling.classes))
        return sampled

    def find(self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize]) -> list[Found]:
        boxes = [p.boxes for p in proposals]
        scores = []
        refined = boxes
        for stage in range(self.stages):
            boxes = [clip(b, *size) for b, size in zip(refined, sizes, strict=True)] if stage else boxes
            logits, deltas = self.predict(features, boxes, stage)
            scores.append(self.predictor(stage).scores(logits))
            refined = self.refined(deltas, boxes, stage)
        mean = torch.stack(scores).sum(dim=0) * (1.0 / self.stages)
        return self.select(mean, concatenated(refined), boxes, sizes)
