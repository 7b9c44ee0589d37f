"""A detector's prediction as one function of tensors, which torch can trace: the same inputs and outputs as the ONNX graph.

Nothing goes picture by picture or asks a tensor's value in Python, so batch and sizes stay free in what is traced.

B: pictures. A: anchors a cell. K: classes. N: candidates of a picture. P: proposals, D: detections of all pictures together.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from sightline.errors import ConfigError
from sightline.exporting.backbone import folded
from sightline.exporting.chosen import ABSENT, LEAST
from sightline.exporting.heads import predictor_of, stage_count
from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import BoxCoder, nonempty
from sightline.model.cascade import CascadeROIHeads
from sightline.model.detector import Detector, Features
from sightline.model.norms import Conv
from sightline.model.pooling import CANONICAL_LEVEL, CANONICAL_SIZE, Pooler
from sightline.model.rcnn import GeneralizedRCNN, ProposalNetwork
from sightline.model.retinanet import RetinaNet
from sightline.model.roi_heads import Res5ROIHeads, ROIHeads, StandardROIHeads
from sightline.model.rpn import RPN

Answer = tuple[Tensor, ...]
"""boxes (D, 4), scores (D,), labels (D,), picture (D,), and with masks (D, M, M)."""


def with_folded_norms(detector: Detector) -> Detector:
    """A copy whose convolutions have their constant norms in their weights."""
    detector = copy.deepcopy(detector).eval().requires_grad_(False)
    for module in detector.modules():
        if isinstance(module, Conv) and module.norm is not None:
            weight, bias, norm = folded(module)
            module.weight = nn.Parameter(weight.float(), requires_grad=False)
            module.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)
            module.norm = norm
    return detector


class Forward(nn.Module):
    """pictures (B, H, W, 3) uint8 RGB, sizes (B, 2) int64, score_threshold () float32 -> `Answer`."""

    def __init__(self, detector: Detector, color_order: str) -> None:
        super().__init__()
        self.detector = with_folded_norms(detector)
        self.color_order = color_order
        if not isinstance(detector, GeneralizedRCNN | ProposalNetwork | RetinaNet):
            raise ConfigError("export", f"has no graph for a {type(detector).__name__}", "Export an R-CNN or a RetinaNet.")

    def forward(self, pictures: Tensor, sizes: Tensor, score_threshold: Tensor) -> Answer:
        detector = self.detector
        features = detector.extract(self.prepared(pictures, sizes))
        limits = sizes[:, [1, 0, 1, 0]].to(torch.float32)  # (B, 4)
        if isinstance(detector, RetinaNet):
            return retinanet(detector, features, limits, score_threshold)
        assert isinstance(detector, GeneralizedRCNN | ProposalNetwork)
        boxes, logits, owners = proposals(detector.proposal_generator, features, limits)
        if isinstance(detector, ProposalNetwork):
            scores = logits.sigmoid()
            rows = (scores >= score_threshold).nonzero().squeeze(1)
            return boxes[rows], scores[rows], torch.zeros_like(rows), owners[rows]
        found = found_by_heads(detector.roi_heads, features, boxes, owners, limits, score_threshold)
        if detector.roi_heads.mask_head is None:
            return found
        return *found, masks_of(detector.roi_heads, features, found)

    def prepared(self, pictures: Tensor, sizes: Tensor) -> Tensor:
        """(B, 3, H, W) normalised, zeros beyond each picture."""
        planes = pictures.permute(0, 3, 1, 2)
        planes = planes.flip(1) if self.color_order == "BGR" else planes
        normal = (planes.to(torch.float32) - self.detector.pixel_mean) / self.detector.pixel_std
        inside_y = torch.arange(pictures.shape[1]) < sizes[:, :1]  # (B, H)
        inside_x = torch.arange(pictures.shape[2]) < sizes[:, 1:]
        return normal * (inside_y[:, None, :, None] & inside_x[:, None, None, :])


def clipped(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


def best_of_level(
    logits: Tensor, deltas: Tensor, anchors: AnchorGrid, level: int, coder: BoxCoder, classes: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(boxes (B, count, 4), logits (B, count), labels (B, count)) of logits (B, A*K, H, W), deltas (B, A*4, H, W).

    A level of fewer is filled with ABSENT.
    """
    height, width = logits.shape[2], logits.shape[3]
    flat = logits.flatten(1)
    values, places = nn.functional.pad(flat, (0, count), value=ABSENT).topk(count, dim=1)
    places = places % flat.shape[1]
    cells = height * width
    plane, cell = places // cells, places % cells
    anchor, labels = plane // classes, plane % classes
    x, y = cell % width, cell // width
    shift = torch.stack((x, y, x, y), dim=2) * anchors.strides[level] + anchors.offset * anchors.strides[level]
    sources = shift + anchors.cells[level][anchor]  # (B, count, 4)
    rows = (anchor[:, :, None] * 4 + torch.arange(4)) * cells + cell[:, :, None]
    own = deltas.flatten(1).gather(1, rows.flatten(1))
    boxes = coder.decode(own.reshape(-1, 4), sources.reshape(-1, 4)).reshape(-1, count, 4)
    return boxes, values, labels


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Rows that stay, best first; boxes of different groups never touch.

    Groups lie side by side, in float64: at float32 the last of them would be a tenth of a pixel off.
    """
    wide = boxes.to(torch.float64)
    step = 2 * torch.cat((wide.flatten().abs(), wide.new_ones(1))).max() + 1
    kept: Tensor = nms(wide + (groups * step)[:, None], scores.to(torch.float64), iou)
    return kept


def first_of_each(owners: Tensor, pictures: int, count: int | None) -> Tensor:
    """Rows in the order of pictures, `count` of each at most, otherwise as they come. owners: (S,) picture of each."""
    order = owners.argsort(stable=True)
    if count is None:
        return order
    own = owners[:, None] == torch.arange(pictures)
    rank = own.cumsum(0).gather(1, owners[:, None]).squeeze(1)  # 1 for the first of a picture
    first: Tensor = order[rank[order] <= count]
    return first


def proposals(rpn: RPN, features: Features, limits: Tensor) -> Answer:
    """(boxes (P, 4), logits (P,), picture (P,)), picture by picture, best first."""
    boxes, logits, levels = [], [], []
    coder, count = rpn.box_loss.coder, rpn.pre_nms[1]
    for level, name in enumerate(rpn.in_features):
        hidden = rpn.rpn_head.conv(features[name])
        of_level = rpn.rpn_head.objectness_logits(hidden), rpn.rpn_head.anchor_deltas(hidden)
        some, values, _ = best_of_level(*of_level, rpn.anchors, level, coder, 1, count)
        boxes.append(clipped(some, limits[:, None]))
        logits.append(values)
        levels.append(torch.full((count,), level))
    all_boxes, all_logits = torch.cat(boxes, 1), torch.cat(logits, 1)
    large = nonempty(all_boxes.flatten(0, 1), rpn.min_side_px).view_as(all_logits)
    owners, rows = (large & (all_logits > LEAST)).nonzero().unbind(1)
    found, values = all_boxes[owners, rows], all_logits[owners, rows]
    groups = owners * len(boxes) + torch.cat(levels)[rows]
    keep = suppressed(found, values, groups, rpn.nms_iou)
    keep = keep[first_of_each(owners[keep], limits.shape[0], rpn.post_nms[1])]
    return found[keep], values[keep], owners[keep]


def retinanet(detector: RetinaNet, features: Features, limits: Tensor, threshold: Tensor) -> Answer:
    levels = [features[name] for name in detector.in_features]
    boxes: list[Tensor] = []
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    head, coder = detector.head, detector.box_loss.coder
    for level, feature in enumerate(levels):
        logits = head.cls_score(head.cls_subnet.at(level, feature))
        deltas = head.bbox_pred(head.bbox_subnet.at(level, feature))
        of_level = best_of_level(logits, deltas, detector.anchors, level, coder, head.classes, detector.candidates)
        for numbers, all_numbers in zip(of_level, (boxes, scores, labels), strict=True):
            all_numbers.append(numbers)
    all_boxes, all_scores, all_labels = torch.cat(boxes, 1), torch.cat(scores, 1).sigmoid(), torch.cat(labels, 1)
    owners, rows = (all_scores > threshold).nonzero().unbind(1)
    found, values, own = all_boxes[owners, rows], all_scores[owners, rows], all_labels[owners, rows]
    keep = suppressed(found, values, owners * head.classes + own, detector.nms_iou)
    keep = keep[first_of_each(owners[keep], limits.shape[0], detector.max_detections)]
    return clipped(found[keep], limits[owners[keep]]), values[keep], own[keep], owners[keep]


def pooled(pooler: Pooler, features: Sequence[Tensor], boxes: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """((P, C, resolution, resolution) level by level, (P,) the rows of `boxes` in that order)."""
    rois = torch.cat((owners[:, None].to(boxes.dtype), boxes), dim=1)
    size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt() / CANONICAL_SIZE + 1e-8
    steps = [2.0 ** (number + pooler.first_level - CANONICAL_LEVEL) for number in range(1, len(pooler.strides))]
    levels = (size[:, None] >= torch.tensor(steps)).sum(1)
    parts, order = [], []
    for index, (feature, stride) in enumerate(zip(features, pooler.strides, strict=True)):
        rows = (levels == index).nonzero().squeeze(1)
        side = (pooler.resolution, pooler.resolution)
        parts.append(roi_align(feature, rois[rows], side, 1.0 / stride, pooler.sampling_ratio, pooler.aligned))
        order.append(rows)
    return torch.cat(parts), torch.cat(order)


def found_by_heads(
    heads: ROIHeads, features: Features, boxes: Tensor, owners: Tensor, limits: Tensor, threshold: Tensor
) -> Answer:
    levels = [features[name] for name in heads.in_features]
    total: Tensor | None = None
    refined = boxes
    for stage in range(stage_count(heads)):
        boxes = clipped(refined, limits[owners]) if stage else boxes
        pooler = heads.pooler if isinstance(heads, Res5ROIHeads) else heads.box_pooler
        assert isinstance(pooler, Pooler)
        patches, order = pooled(pooler, levels, boxes, owners)
        boxes, owners = boxes[order], owners[order]
        predictor = predictor_of(heads, stage)
        logits, deltas = predictor(patch_features(heads, stage, patches))
        scores = predictor.scores(logits)[:, :-1]
        total = scores if total is None else total[order] + scores
        refined = predictor.refined(deltas, boxes)  # (P, K*4 or 4)
    assert total is not None
    mean = total * (1.0 / stage_count(heads))
    rows, labels = (mean > threshold).nonzero().unbind(1)
    inside = clipped(refined.reshape(-1, predictor.bbox_pred.out_features // 4, 4), limits[owners][:, None])
    found = inside[rows, 0] if predictor.bbox_pred.out_features == 4 else inside[rows, labels]
    values, own = mean[rows, labels], owners[rows]
    selection = heads.selection
    keep = suppressed(found, values, own * predictor.classes + labels, selection.nms_iou)
    keep = keep[first_of_each(own[keep], limits.shape[0], selection.max_detections)]
    return found[keep], values[keep], labels[keep], own[keep]


def patch_features(heads: ROIHeads, stage: int, patches: Tensor) -> Tensor:
    """(P, D) that the box predictor sees."""
    if isinstance(heads, Res5ROIHeads):
        return heads.res5(patches).mean(dim=(2, 3))  # type: ignore[no-any-return]
    if isinstance(heads, CascadeROIHeads):
        return heads.box_head[stage](patches)  # type: ignore[no-any-return]
    assert isinstance(heads, StandardROIHeads)
    return heads.box_head(patches)  # type: ignore[no-any-return]


def masks_of(heads: ROIHeads, features: Features, found: Answer) -> Tensor:
    """(D, M, M) probabilities."""
    boxes, _, labels, owners = found
    levels = [features[name] for name in heads.in_features]
    pooler = heads.pooler if isinstance(heads, Res5ROIHeads) else heads.mask_pooler
    assert isinstance(pooler, Pooler)
    assert heads.mask_head is not None
    x, order = pooled(pooler, levels, boxes, owners)
    x = heads.res5(x) if isinstance(heads, Res5ROIHeads) else x
    logits = heads.mask_head(x)  # (D, K or 1, M, M)
    own = labels[order] if heads.mask_head.predictor.out_channels > 1 else torch.zeros_like(order)
    side = 2 * pooler.resolution if not isinstance(heads, Res5ROIHeads) else int(logits.shape[3])
    masks = logits.gather(1, own[:, None, None, None].expand(-1, 1, side, side)).squeeze(1).sigmoid()
    sorted_back: Tensor = masks[order.argsort()]
    return sorted_back
