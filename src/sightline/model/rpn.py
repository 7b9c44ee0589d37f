"""Region proposal network (arXiv:1506.01497, 3.1): feature levels to class-agnostic proposals, and its two losses.

B: pictures. L: levels. A: anchors a cell. R: all anchors of a picture, level by level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import clip, nonempty, pairwise_iou, places
from sightline.model.instances import Proposals, Targets
from sightline.model.losses import BoxLoss
from sightline.model.matching import IGNORE, Matcher, sample
from sightline.model.norms import Conv, fill_normal
from sightline.model.operators import batched_nms
from sightline.records import ImageSize


class RPNHead(nn.Module):
    """Shared 3x3 convolution(s), then per cell A objectness logits and A*4 box deltas.

    conv_dims: widths of the 3x3 convolutions; -1 is the width of what comes in.
    """

    def __init__(self, in_channels: int, anchors: int, conv_dims: tuple[int, ...]) -> None:
        super().__init__()
        convs = []
        last = in_channels
        for dim in conv_dims:
            width = last if dim == -1 else dim
            convs.append(Conv(last, width, 3, padding=1, relu=True))
            last = width
        self.conv: nn.Module
        if len(convs) == 1:
            self.conv = convs[0]
        else:
            self.conv = nn.Sequential()
            for index, conv in enumerate(convs):
                self.conv.add_module(f"conv{index}", conv)
        self.objectness_logits = nn.Conv2d(last, anchors, 1)
        self.anchor_deltas = nn.Conv2d(last, anchors * 4, 1)
        for layer in (*convs, self.objectness_logits, self.anchor_deltas):
            fill_normal(layer, std=0.01)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """([(B, H*W*A) logits a level], [(B, H*W*A, 4) deltas a level]), anchors in AnchorGrid's order."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.conv(feature)
            logits.append(self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1))
            raw: Tensor = self.anchor_deltas(hidden)
            batch, _, height, width = raw.shape
            deltas.append(raw.view(batch, -1, 4, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3))
        return logits, deltas

    def at(self, features: Sequence[Tensor], pictures: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """((S,) logits, (S, 4) deltas): what `forward` says of S anchors of all levels (0 to R - 1) in their pictures.

        With one 3x3 convolution the head runs on the 3x3 neighbourhoods of those anchors' cells alone. A loss on a few hundred
        anchors has no gradient anywhere else, so its backward through everything would multiply zeros, a seventh of a
        training step on the CPU. Other heads run on everything, once more than for the proposals.
        """
        if not isinstance(self.conv, Conv):
            logits, deltas = self(features)
            return torch.cat(logits, 1)[pictures, anchors], torch.cat(deltas, 1)[pictures, anchors]
        per_cell = self.objectness_logits.out_channels
        first, patches, order = 0, [], []
        for feature in features:
            height, width = feature.shape[-2:]
            here = ((anchors >= first) & (anchors < first + height * width * per_cell)).nonzero().squeeze(1)
            patches.append(neighbourhoods(feature, pictures[here], (anchors[here] - first) // per_cell))
            order.append(here)
            first += height * width * per_cell
        weight = self.conv.weight.permute(0, 2, 3, 1).flatten(1)  # (D, 9 * C), in the order of the patches
        hidden = F.relu_(F.linear(torch.cat(patches).flatten(1), weight, self.conv.bias))  # (S, D), level by level
        hidden = hidden.index_select(0, torch.cat(order).argsort())
        logit = F.linear(hidden, self.objectness_logits.weight.flatten(1), self.objectness_logits.bias)  # (S, A)
        delta = F.linear(hidden, self.anchor_deltas.weight.flatten(1), self.anchor_deltas.bias)  # (S, A*4)
        # A level begins with a cell's first anchor, so what is left over counts the anchors of a cell in every level.
        own, rows = anchors % per_cell, torch.arange(len(anchors), device=anchors.device)
        return logit[rows, own], delta.view(-1, per_cell, 4)[rows, own]


def neighbourhoods(feature: Tensor, pictures: Tensor, cells: Tensor) -> Tensor:
    """(S, 9, C): the 3x3 cells around each of `cells` (S,) in a feature (B, C, H, W), row by row; zeros beyond its edge."""
    height, width = feature.shape[-2:]
    near = torch.arange(-1, 2, device=cells.device)
    y = (cells // width)[:, None] + near.repeat_interleave(3)  # (S, 9)
    x = (cells % width)[:, None] + near.repeat(3)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    taken = feature[pictures[:, None], :, y.clamp(0, height - 1), x.clamp(0, width - 1)]  # (S, 9, C)
    return taken * inside[:, :, None]


class RPN(nn.Module):
    """Proposals for inference; proposals and losses for training.

    pre_nms, post_nms: proposals kept a level before, and a picture after suppression, as (training, inference)
    """

    def __init__(
        self,
        *,
        head: RPNHead,
        anchors: AnchorGrid,
        box_loss: BoxLoss,
        matcher: Matcher,
        in_features: tuple[str, ...],
        samples: int,
        positive_share: float,
        pre_nms: tuple[int, int],
        post_nms: tuple[int, int],
        nms_iou: float,
        min_side_px: float,
        boundary_px: float,
        loss_weight: float,
        box_loss_weight: float,
    ) -> None:
        super().__init__()
        self.rpn_head = head
        self.anchors, self.box_loss, self.matcher, self.in_features = anchors, box_loss, matcher, in_features
        self.samples, self.positive_share = samples, positive_share
        self.pre_nms, self.post_nms, self.nms_iou = pre_nms, post_nms, nms_iou
        self.min_side_px, self.boundary_px = min_side_px, boundary_px
        self.loss_weight, self.box_loss_weight = loss_weight, box_loss_weight

    def forward(
        self, features: dict[str, Tensor], sizes: Sequence[ImageSize], targets: Sequence[Targets] | None = None
    ) -> tuple[list[Proposals], dict[str, Tensor]]:
        """(proposals a picture, losses). sizes: of the pictures inside the padded batch. Losses only with targets."""
        levels = [features[name] for name in self.in_features]
        anchors = self.anchors(levels)
        # The losses come first: autocast would hand them the copies of the biases that it makes where nothing has gradients.
        losses = {} if targets is None else self.losses(anchors, levels, sizes, targets)
        with torch.no_grad():  # proposals are inputs to the next stage, not a path for its gradients
            logits, deltas = self.rpn_head(levels)
            decoded = [
                self.box_loss.coder.decode(d.flatten(0, 1), a.repeat(len(d), 1)).view(len(d), -1, 4)
                for d, a in zip(deltas, anchors, strict=True)
            ]
            proposals = self.select(decoded, logits, sizes)
        return proposals, losses

    def select(self, boxes: Sequence[Tensor], logits: Sequence[Tensor], sizes: Sequence[ImageSize]) -> list[Proposals]:
        """The best proposals of each picture after suppression within each level.

        boxes: (B, H*W*A, 4) a level. logits: (B, H*W*A) a level.
        """
        mode = 0 if self.training else 1
        top_boxes, top_logits, top_levels = [], [], []
        for index, (level_boxes, level_logits) in enumerate(zip(boxes, logits, strict=True)):
            count = min(level_logits.shape[1], self.pre_nms[mode])
            best, order = level_logits.topk(count, dim=1)
            top_boxes.append(level_boxes.gather(1, order[:, :, None].expand(-1, -1, 4)))
            top_logits.append(best)
            top_levels.append(torch.full((count,), index, dtype=torch.int64, device=best.device))
        all_boxes, all_logits, all_levels = torch.cat(top_boxes, 1), torch.cat(top_logits, 1), torch.cat(top_levels)
        chosen = []
        for picture, size in enumerate(sizes):
            found, scores, levels = all_boxes[picture], all_logits[picture], all_levels
            finite = torch.isfinite(found).all(dim=1) & torch.isfinite(scores)
            found = clip(found, *size)
            rows = places(finite & nonempty(found, self.min_side_px))
            found, scores, levels = found[rows], scores[rows], levels[rows]
            keep = batched_nms(found, scores, levels, self.nms_iou)[: self.post_nms[mode]]
            chosen.append(Proposals(found[keep], scores[keep]))
        return chosen

    def losses(
        self, anchors: Sequence[Tensor], levels: Sequence[Tensor], sizes: Sequence[ImageSize], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """Objectness (binary cross entropy) and box loss, both summed and divided by the sample's size."""
        all_anchors = torch.cat(tuple(anchors))  # (R, 4)
        labels, matched = zip(*(self.assign(all_anchors, s, t) for s, t in zip(sizes, targets, strict=True)), strict=True)
        all_labels = torch.stack(labels)  # (B, R)
        pictures, drawn = (all_labels != IGNORE).nonzero().unbind(1)  # (S,): the anchors that count, of all pictures
        logits, deltas = self.rpn_head.at(levels, pictures, drawn)
        drawn_labels = all_labels[pictures, drawn]
        positive = (drawn_labels == 1).nonzero().squeeze(1)
        true_boxes = torch.stack(matched)[pictures[positive], drawn[positive]]
        box_loss = self.box_loss(deltas[positive], all_anchors[drawn[positive]], true_boxes)
        class_loss = F.binary_cross_entropy_with_logits(logits, drawn_labels.to(logits.dtype), reduction="sum")
        normaliser = self.samples * len(targets)
        return {
            "loss_rpn_cls": class_loss / normaliser * self.loss_weight,
            "loss_rpn_loc": box_loss / normaliser * self.loss_weight * self.box_loss_weight,
        }

    @torch.no_grad()
    def assign(self, anchors: Tensor, size: ImageSize, target: Targets) -> tuple[Tensor, Tensor]:
        """((R,) label 1 object, 0 background, IGNORE not drawn; (R, 4) the true box of each) for one picture."""
        matches, labels = self.matcher(pairwise_iou(target.boxes, anchors))
        if self.boundary_px >= 0:
            low, high = -self.boundary_px, self.boundary_px
            outside = (
                (anchors[:, :2] < low).any(1) | (anchors[:, 2] >= size.width + high) | (anchors[:, 3] >= size.height + high)
            )
            labels[outside] = IGNORE
        positive, negative = sample(labels, self.samples, self.positive_share, background=0)
        drawn = torch.full_like(labels, IGNORE)
        drawn[positive], drawn[negative] = 1, 0
        return drawn, target.boxes[matches] if len(target.boxes) else torch.zeros_like(anchors)
