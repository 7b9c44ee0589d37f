"""The second stage: proposals to detections, or to losses, in Detectron2's three shapes.

StandardROIHeads pools features for each branch (FPN and DC5), Res5ROIHeads runs the backbone's last stage on every proposal
(C4). The third, cascades, stands in cascade.py. P: proposals of all pictures together. K: classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import pairwise_iou
from sightline.model.instances import Found, Proposals, Sampled, Targets
from sightline.model.losses import concatenated
from sightline.model.mask_head import MaskHead
from sightline.model.matching import IGNORE, Matcher, sample
from sightline.model.pooling import Pooler
from sightline.records import ImageSize

Features = dict[str, Tensor]

Refined = tuple[Tensor, Tensor]
"""(class logits (P, K + 1), box deltas (P, K*4 or 4))."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How training draws from a picture's proposals: `count` of them, at most `positive_share` objects."""

    matcher: Matcher
    classes: int
    count: int
    positive_share: float
    append_true_boxes: bool

    @torch.no_grad()
    def __call__(self, proposals: Proposals, target: Targets) -> Sampled:
        """A balanced sample of one picture's proposals, the true boxes themselves among the candidates."""
        boxes = torch.cat((proposals.boxes, target.boxes)) if self.append_true_boxes else proposals.boxes
        everything = labelled(boxes, target, self.matcher, self.classes)
        positive, negative = sample(everything.labels, self.count, self.positive_share, background=self.classes)
        chosen = torch.cat((positive, negative))
        return Sampled(
            everything.boxes[chosen], everything.labels[chosen], everything.true_boxes[chosen], everything.matches[chosen]
        )


def labelled(boxes: Tensor, target: Targets, matcher: Matcher, classes: int) -> Sampled:
    """All of `boxes` (S, 4) with their labels: the best true box's class, `classes` for background, or IGNORE."""
    matches, matched = matcher(pairwise_iou(target.boxes, boxes))
    if not len(target.boxes):
        return Sampled(boxes, torch.full_like(matches, classes), torch.zeros_like(boxes), matches)
    labels = target.labels[matches]
    labels[matched == 0] = classes
    labels[matched == IGNORE] = IGNORE
    return Sampled(boxes, labels, target.boxes[matches], matches)


class ROIHeads(nn.Module):
    """What every shape of heads has in common. A subclass says what its branches see of a box."""

    mask_head: MaskHead | None

    def __init__(self, in_features: tuple[str, ...], sampling: Sampling, selection: Selection) -> None:
        super().__init__()
        self.in_features, self.sampling, self.selection = in_features, sampling, selection

    def levels(self, features: Features) -> list[Tensor]:
        return [features[name] for name in self.in_features]

    def mask_features(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """(N, C, M/2, M/2): what the mask head sees of boxes (N_i, 4) a picture."""
        raise NotImplementedError

    def losses(
        self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses of the box branch, and {"loss_mask"} with a mask head."""
        raise NotImplementedError

    def find(self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize]) -> list[Found]:
        """The detections of each picture without masks, in the batch's pixels."""
        raise NotImplementedError

    def with_masks(self, features: Features, found: Sequence[Found]) -> list[Found]:
        """The same detections with a mask each, where there is a mask head."""
        if self.mask_head is None:
            return list(found)
        logits = self.mask_head(self.mask_features(features, [f.boxes for f in found]))
        masks = self.mask_head.of_labels(logits, concatenated([f.labels for f in found])).sigmoid()
        parts = torch.split(masks, [len(f) for f in found])
        return [replace(f, masks=part) for f, part in zip(found, parts, strict=True)]

    def select(self, scores: Tensor, refined: Tensor, boxes: Sequence[Tensor], sizes: Sequence[ImageSize]) -> list[Found]:
        """Picture by picture, of scores (P, K + 1) and refined boxes (P, K*4 or 4) of all pictures together."""
        counts = [len(b) for b in boxes]
        parts = zip(torch.split(scores, counts), torch.split(refined, counts), sizes, strict=True)
        return [self.selection(s, b, size) for s, b, size in parts]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects among one picture's sample. boxes: (F, 4); labels, matches, rows: (F,), rows being places in the sample."""

    boxes: Tensor
    labels: Tensor
    matches: Tensor
    rows: Tensor


def objects_of(sampled: Sampled, classes: int) -> Objects:
    rows = ((sampled.labels != IGNORE) & (sampled.labels != classes)).nonzero().squeeze(1)
    return Objects(sampled.boxes[rows], sampled.labels[rows], sampled.matches[rows], rows)


def mask_losses(head: MaskHead, features: Tensor, objects: Sequence[Objects], targets: Sequence[Targets]) -> dict[str, Tensor]:
    """{"loss_mask"} of `features` (F, C, M/2, M/2), one for each of the objects of all pictures."""
    masks = []
    for found, target in zip(objects, targets, strict=True):
        assert target.masks is not None or not len(target.boxes), "a mask head learns from masks"
        known = target.masks or ()
        masks.append([known[index] for index in found.matches.tolist()])
    labels = concatenated([found.labels for found in objects])
    return head.loss(head(features), labels, [found.boxes for found in objects], masks)


class StandardROIHeads(ROIHeads):
    """One pooled patch a proposal for the box branch, one a detection for the mask branch.

    train_on_refined: the mask branch learns from the boxes that the box branch has refined instead of the proposals
    """

    def __init__(
        self,
        *,
        box_pooler: Pooler,
        box_head: BoxHead,
        box_predictor: BoxPredictor,
        mask_pooler: Pooler | None,
        mask_head: MaskHead | None,
        in_features: tuple[str, ...],
        sampling: Sampling,
        selection: Selection,
        train_on_refined: bool,
    ) -> None:
        super().__init__(in_features, sampling, selection)
        self.train_on_refined = train_on_refined
        self.box_pooler, self.box_head, self.box_predictor = box_pooler, box_head, box_predictor
        self.mask_pooler, self.mask_head = mask_pooler, mask_head

    def predict(self, features: Features, boxes: Sequence[Tensor]) -> Refined:
        """Logits and deltas for boxes (P_i, 4) a picture."""
        logits, deltas = self.box_predictor(self.box_head(self.box_pooler(self.levels(features), boxes)))
        return logits, deltas

    def losses(
        self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        sampled = [self.sampling(p, t) for p, t in zip(proposals, targets, strict=True)]
        logits, deltas = self.predict(features, [s.boxes for s in sampled])
        losses = self.box_predictor.losses(logits, deltas, sampled)
        if self.mask_head is None:
            return losses
        if self.train_on_refined:
            sampled = self.moved(sampled, deltas)
        objects = [objects_of(s, self.sampling.classes) for s in sampled]
        pooled = self.mask_features(features, [o.boxes for o in objects])
        return losses | mask_losses(self.mask_head, pooled, objects, targets)

    @torch.no_grad()
    def moved(self, sampled: Sequence[Sampled], deltas: Tensor) -> list[Sampled]:
        """The sample at the boxes that the box branch predicts for its labels."""
        boxes, labels = concatenated([s.boxes for s in sampled]), concatenated([s.labels for s in sampled])
        refined = self.box_predictor.refined_for_labels(deltas, boxes, labels)
        parts = torch.split(refined, [len(s.boxes) for s in sampled])
        return [replace(s, boxes=part) for s, part in zip(sampled, parts, strict=True)]

    def mask_features(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        assert self.mask_pooler is not None
        pooled: Tensor = self.mask_pooler(self.levels(features), boxes)
        return pooled

    def find(self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize]) -> list[Found]:
        boxes = [p.boxes for p in proposals]
        logits, deltas = self.predict(features, boxes)
        refined = self.box_predictor.refined(deltas, concatenated(boxes))
        return self.select(self.box_predictor.scores(logits), refined, boxes, sizes)


class Res5ROIHeads(ROIHeads):
    """The C4 shape: the backbone's last stage runs on each proposal's patch, and both branches share what it gives."""

    def __init__(
        self,
        *,
        pooler: Pooler,
        res5: nn.Sequential,
        box_predictor: BoxPredictor,
        mask_head: MaskHead | None,
        in_features: tuple[str, ...],
        sampling: Sampling,
        selection: Selection,
    ) -> None:
        super().__init__(in_features, sampling, selection)
        self.pooler, self.res5, self.box_predictor, self.mask_head = pooler, res5, box_predictor, mask_head

    def mask_features(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        shared: Tensor = self.res5(self.pooler(self.levels(features), boxes))
        return shared

    def losses(
        self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        sampled = [self.sampling(p, t) for p, t in zip(proposals, targets, strict=True)]
        shared = self.mask_features(features, [s.boxes for s in sampled])
        logits, deltas = self.box_predictor(shared.mean(dim=(2, 3)))
        losses = self.box_predictor.losses(logits, deltas, sampled)
        if self.mask_head is None:
            return losses
        objects = [objects_of(s, self.sampling.classes) for s in sampled]
        parts = torch.split(shared, [len(s.boxes) for s in sampled])
        chosen = concatenated([part[o.rows] for part, o in zip(parts, objects, strict=True)])
        return losses | mask_losses(self.mask_head, chosen, objects, targets)

    def find(self, features: Features, proposals: Sequence[Proposals], sizes: Sequence[ImageSize]) -> list[Found]:
        boxes = [p.boxes for p in proposals]
        logits, deltas = self.box_predictor(self.mask_features(features, boxes).mean(dim=(2, 3)))
        refined = self.box_predictor.refined(deltas, concatenated(boxes))
        return self.select(self.box_predictor.scores(logits), refined, boxes, sizes)
