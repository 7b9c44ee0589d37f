"""The second stage as nodes: RoIAlign, classes, boxes and masks, in the shapes of FPN, DC5, C4 and cascades.

B: pictures. C: channels. K: classes. R: places for proposals of a picture. P: proposals of all pictures together, in any
order: those of a level stand together, so that nothing that is pooled need be sorted. D: detections. M: cells of a mask's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from sightline.errors import ConfigError
from sightline.exporting.backbone import Array, Features, applied, numbers
from sightline.exporting.chosen import LEAST, Detected, above, best_of_picture, clipped, decoded, kept
from sightline.exporting.dense import Proposed
from sightline.exporting.graph import Graph, Value
from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.cascade import CascadeROIHeads
from sightline.model.mask_head import MaskHead
from sightline.model.pooling import CANONICAL_LEVEL, CANONICAL_SIZE, Pooler
from sightline.model.roi_heads import Res5ROIHeads, ROIHeads, StandardROIHeads


@dataclass(frozen=True, slots=True)
class Regions:
    """boxes: (P, 4); places: (P, 2), picture and place among its R."""

    boxes: Value
    places: Value

    def pictures(self, graph: Graph) -> Value:
        return graph("Gather", self.places, 0, axis=1)

    def sorted(self, graph: Graph, order: Value) -> "Regions":
        return Regions(graph("Gather", self.boxes, order), graph("Gather", self.places, order))


def regions_of(graph: Graph, proposed: Proposed) -> Regions:
    """The places that are filled."""
    places = graph.places(graph("Greater", proposed.logits, LEAST))
    return Regions(graph("GatherND", proposed.boxes, places), places)


def level_of(graph: Graph, pooler: Pooler, boxes: Value) -> Value:
    """(P,) index of the feature level. By comparison: a logarithm rounds boxes of exactly 112 or 448 px either way."""
    sides = graph("Sub", graph("Gather", boxes, [2, 3], axis=1), graph("Gather", boxes, [0, 1], axis=1))
    squared = graph("Mul", graph("Gather", sides, 0, axis=1), graph("Gather", sides, 1, axis=1))
    size = graph("Add", graph("Div", graph("Sqrt", squared), float(CANONICAL_SIZE)), 1e-8)
    steps = np.arange(1, len(pooler.strides)) + pooler.first_level - CANONICAL_LEVEL
    reached = graph("GreaterOrEqual", graph("Unsqueeze", size, [1]), np.exp2(steps).astype(np.float32))
    return graph("ReduceSum", graph.cast(reached, "INT64"), [1], keepdims=0)


def pooled(
    graph: Graph, pooler: Pooler, features: Sequence[Value], boxes: Value, pictures: Value
) -> tuple[Value, Value | None]:
    """((P, C, resolution, resolution) level by level, (P,) the rows of `boxes` in that order; None: as they are)."""
    if len(features) == 1:
        return aligned(graph, pooler, features[0], boxes, pictures, pooler.strides[0]), None
    levels = level_of(graph, pooler, boxes)
    parts, order = [], []
    for index, (feature, stride) in enumerate(zip(features, pooler.strides, strict=True)):
        rows = graph("Reshape", graph("NonZero", graph("Equal", levels, index)), [-1])
        own, pictures_of = graph("Gather", boxes, rows), graph("Gather", pictures, rows)
        parts.append(aligned(graph, pooler, feature, own, pictures_of, stride))
        order.append(rows)
    return graph("Concat", *parts, axis=0), graph("Concat", *order, axis=0)


def aligned(graph: Graph, pooler: Pooler, feature: Value, boxes: Value, pictures: Value, stride: int) -> Value:
    return graph(
        "RoiAlign", feature, boxes, pictures,
        coordinate_transformation_mode="half_pixel" if pooler.aligned else "output_half_pixel",
        mode="avg", output_height=pooler.resolution, output_width=pooler.resolution,
        sampling_ratio=pooler.sampling_ratio, spatial_scale=1.0 / stride,
    )  # fmt: skip


def linear(graph: Graph, layer: nn.Linear, x: Value) -> Value:
    return graph("Gemm", x, numbers(layer.weight), numbers(layer.bias), transB=1)


def box_features(graph: Graph, head: BoxHead, x: Value) -> Value:
    """(P, D)."""
    for name in head.convs:
        x = applied(graph, head.get_submodule(name), x)
    x = graph("Flatten", x, axis=1)
    for name in head.fcs:
        layer = head.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        x = graph("Relu", linear(graph, layer, x))
    return x


@dataclass(frozen=True, slots=True)
class Judged:
    """What a box predictor says. scores: (P, K); boxes: (P, K, 4), or (P, 1, 4) where classes share them; not clipped."""

    scores: Value
    boxes: Value


def judged(graph: Graph, predictor: BoxPredictor, x: Value, sources: Value) -> Judged:
    with graph.within("box_predictor"):
        logits, deltas = linear(graph, predictor.cls_score, x), linear(graph, predictor.bbox_pred, x)
    scores = graph("Sigmoid", logits) if predictor.sigmoid else graph("Softmax", logits, axis=1)
    of_classes = graph("Slice", scores, [0], [predictor.classes], [1])
    by_class = graph("Reshape", deltas, [-1, predictor.bbox_pred.out_features // 4, 4])
    return Judged(of_classes, decoded(graph, predictor.box_loss.coder, by_class, graph("Unsqueeze", sources, [1])))


def placed(graph: Graph, rows: Value, regions: Regions, proposed: Proposed, sides: Sequence[int], empty: float) -> Value:
    """(B, R, ...): rows (P, ...) at their places, `empty` elsewhere."""
    whole = graph("Concat", graph("Shape", proposed.logits), list(sides), axis=0)
    return graph("ScatterND", graph("Expand", empty, whole), regions.places, rows)


def selected(graph: Graph, selection: Selection, scores: Value, boxes: Value, threshold: Value, shared: bool) -> Detected:
    """The detections among all classes of all places, class by class suppressed.

    scores: (B, R, K), negative where a place is empty; boxes: (B, R, K, 4), or (B, R, 1, 4) where they are shared
    """
    by_class = graph("Transpose", above(graph, scores, threshold), perm=[0, 2, 1])  # (B, K, R)
    boxes = graph("Transpose", boxes, perm=[0, 2, 1, 3])
    places, count = graph.side(by_class, 2), selection.max_detections
    each = graph.reshaped(boxes, -1, places, 4)
    rows = by_class if shared else graph.reshaped(by_class, -1, 1, places)
    left = kept(graph, each, rows, selection.nms_iou, places if count is None else count)
    return best_of_picture(graph, boxes, graph("Reshape", left, graph("Shape", by_class)), count)


def found_by_heads(
    graph: Graph, heads: ROIHeads, features: Features, proposed: Proposed, limits: Value, threshold: Value
) -> Detected:
    """Boxes of the second stage."""
    levels = [features[name] for name in heads.in_features]
    regions = regions_of(graph, proposed)
    stages = [seen(graph, heads, levels, regions, 0)]
    predictor = predictor_of(heads, 0)
    classes = predictor.classes
    regions, told = stages[0]
    scores = placed(graph, told.scores, regions, proposed, [classes], -1.0)
    for stage in range(1, stage_count(heads)):
        boxes = clipped(graph, graph("Squeeze", told.boxes, [1]), graph("Gather", limits, regions.pictures(graph)))
        regions, told = seen(graph, heads, levels, Regions(boxes, regions.places), stage)
        scores = graph("Add", scores, placed(graph, told.scores, regions, proposed, [classes], -1.0))
    if stage_count(heads) > 1:
        scores = graph("Mul", scores, 1.0 / stage_count(heads))
    own_limits = graph("Unsqueeze", graph("Gather", limits, regions.pictures(graph)), [1])
    different = predictor.bbox_pred.out_features // 4
    boxes = placed(graph, clipped(graph, told.boxes, own_limits), regions, proposed, [different, 4], 0.0)
    return selected(graph, heads.selection, scores, boxes, threshold, shared=different == 1)


def stage_count(heads: ROIHeads) -> int:
    return heads.stages if isinstance(heads, CascadeROIHeads) else 1


def predictor_of(heads: ROIHeads, stage: int) -> BoxPredictor:
    if isinstance(heads, CascadeROIHeads):
        return heads.predictor(stage)
    assert isinstance(heads, StandardROIHeads | Res5ROIHeads)
    return heads.box_predictor


def seen(graph: Graph, heads: ROIHeads, levels: Sequence[Value], regions: Regions, stage: int) -> tuple[Regions, Judged]:
    """(the regions level by level, what the box branch of a stage says of them)."""
    pictures = regions.pictures(graph)
    with graph.within(f"roi_heads/{stage}"):
        if isinstance(heads, Res5ROIHeads):
            patches, order = pooled(graph, heads.pooler, levels, regions.boxes, pictures)
            x = graph("Flatten", graph("GlobalAveragePool", applied(graph, heads.res5, patches)), axis=1)
        elif isinstance(heads, StandardROIHeads | CascadeROIHeads):
            head = heads.box_head[stage] if isinstance(heads, CascadeROIHeads) else heads.box_head
            assert isinstance(head, BoxHead)
            patches, order = pooled(graph, heads.box_pooler, levels, regions.boxes, pictures)
            x = box_features(graph, head, patches)
        else:
            raise ConfigError("export", f"has no graph for {type(heads).__name__}", "Export another model.")
        regions = regions if order is None else regions.sorted(graph, order)
        return regions, judged(graph, predictor_of(heads, stage), x, regions.boxes)


def masks_of(graph: Graph, heads: ROIHeads, features: Features, found: Detected) -> Value | None:
    """(D, M, M) probabilities; None without a mask head."""
    if heads.mask_head is None:
        return None
    levels = [features[name] for name in heads.in_features]
    with graph.within("mask_head"):
        pooler = heads.pooler if isinstance(heads, Res5ROIHeads) else getattr(heads, "mask_pooler", None)
        assert isinstance(pooler, Pooler)
        x, order = pooled(graph, pooler, levels, found.boxes, found.pictures)
        x = applied(graph, heads.res5, x) if isinstance(heads, Res5ROIHeads) else x
        labels = found.labels if order is None else graph("Gather", found.labels, order)
        masks = mask_probabilities(graph, heads.mask_head, x, labels)
        if order is None:
            return masks
        nothing = graph("Expand", 0.0, graph("Shape", masks))
        return graph("ScatterND", nothing, graph("Unsqueeze", order, [1]), masks)


def mask_probabilities(graph: Graph, head: MaskHead, x: Value, labels: Value) -> Value:
    """(D, M, M). Of the last layer only what a detection's own label needs is computed.

    The upsampling by 2 has a kernel of 2, so its four places are four convolutions of one cell; the last layer, of one cell
    as well, comes before they are put side by side.
    """
    for name in head.convs:
        x = applied(graph, head.get_submodule(name), x)
    corners = numbers(head.deconv.weight).transpose(2, 3, 1, 0)  # (2, 2, width, C)
    width, channels = corners.shape[2:]
    weight = corners.reshape(4 * width, channels, 1, 1)
    x = graph("Relu", graph("Conv", x, weight, np.tile(bias_of(head.deconv), 4), kernel_shape=[1, 1]))
    weight, bias = numbers(head.predictor.weight)[:, :, 0, 0], bias_of(head.predictor)
    own = graph("Sub", labels, labels) if len(weight) == 1 else labels
    side = graph.side(x, 2)
    cells = graph("Reshape", x, graph.joined(graph.side(x, 0), 4, width, graph("Mul", side, side)))
    rows = graph("Unsqueeze", graph("Gather", weight, own), [1, 2])  # (D, 1, 1, width)
    logits = graph("Add", graph("MatMul", rows, cells), graph("Reshape", graph("Gather", bias, own), [-1, 1, 1, 1]))
    grids = graph("Reshape", logits, graph.joined(graph.side(x, 0), 4, side, side))
    return graph("Squeeze", graph("Sigmoid", graph("DepthToSpace", grids, blocksize=2)), [1])


def bias_of(layer: nn.Conv2d | nn.ConvTranspose2d) -> Array:
    assert layer.bias is not None  # both have no norm
    return numbers(layer.bias)
