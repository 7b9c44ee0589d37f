"""The dense stages as nodes: a region proposal network, and RetinaNet whole.

B: pictures. A: anchors a cell. K: classes. N: candidates of a picture. R: its places for proposals, filled or not.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from sightline.exporting.backbone import Features, applied
from sightline.exporting.chosen import (
    ABSENT,
    LEAST,
    Candidates,
    Detected,
    above,
    best,
    best_of_level,
    best_of_picture,
    clipped,
    kept,
)
from sightline.exporting.graph import Graph, Value
from sightline.model.retinanet import LevelNorms, RetinaNet, Subnet
from sightline.model.rpn import RPN


@dataclass(frozen=True, slots=True)
class Proposed:
    """boxes: (B, R, 4); logits: (B, R), falling, ABSENT where a place is empty."""

    boxes: Value
    logits: Value


def proposals(graph: Graph, rpn: RPN, features: Features, limits: Value) -> Proposed:
    """The best proposals of each picture. limits: (B, 4) of the boxes inside it."""
    boxes, logits = [], []
    for level, name in enumerate(rpn.in_features):
        with graph.within(name):
            found = proposals_of_level(graph, rpn, features[name], level, limits)
        boxes.append(found.boxes)
        logits.append(found.scores)
    all_boxes = graph("Concat", *boxes, axis=1)
    values, places = best(graph, graph("Concat", *logits, axis=1), rpn.post_nms[1])
    return Proposed(graph.taken(all_boxes, places), values)


def proposals_of_level(graph: Graph, rpn: RPN, feature: Value, level: int, limits: Value) -> Candidates:
    head = rpn.rpn_head
    hidden = applied(graph, head.conv, feature)
    logits, deltas = applied(graph, head.objectness_logits, hidden), applied(graph, head.anchor_deltas, hidden)
    found = best_of_level(graph, logits, deltas, rpn.anchors, level, rpn.box_loss.coder, 1, rpn.pre_nms[1])
    boxes = clipped(graph, found.boxes, graph("Unsqueeze", limits, [1]))
    sides = graph("Sub", graph("Gather", boxes, [2, 3], axis=2), graph("Gather", boxes, [0, 1], axis=2))
    large = graph("Greater", sides, float(rpn.min_side_px))
    both = graph("And", graph("Gather", large, 0, axis=2), graph("Gather", large, 1, axis=2))
    scores = graph("Unsqueeze", graph("Where", both, found.scores, ABSENT), [1])
    left = graph("Squeeze", kept(graph, boxes, scores, rpn.nms_iou, rpn.post_nms[1]), [1])
    return Candidates(boxes, left, found.labels)


def proposals_alone(graph: Graph, proposed: Proposed, threshold: Value) -> Detected:
    """Proposals as detections of label 0, scored by their objectness."""
    places = graph.places(graph("Greater", proposed.logits, LEAST))  # (D, 2)
    scores = graph("Sigmoid", graph("GatherND", proposed.logits, places))
    rows = graph("Reshape", graph("NonZero", graph("GreaterOrEqual", scores, threshold)), [-1])
    pictures = graph("Gather", graph("Gather", places, rows), 0, axis=1)
    return Detected(
        boxes=graph("Gather", graph("GatherND", proposed.boxes, places), rows),
        scores=graph("Gather", scores, rows),
        labels=graph("Sub", pictures, pictures),
        pictures=pictures,
    )


def retinanet(graph: Graph, detector: RetinaNet, features: Features, limits: Value, threshold: Value) -> Detected:
    """What RetinaNet finds. Suppression sees boxes as they are; what is left is clipped."""
    parts = []
    for level, name in enumerate(detector.in_features):
        with graph.within(f"head/{name}"):
            parts.append(candidates_of_level(graph, detector, features[name], level))
    boxes, labels = (graph("Concat", *some, axis=1) for some in zip(*((p.boxes, p.labels) for p in parts), strict=True))
    logits = graph("Concat", *(part.scores for part in parts), axis=1)
    scores = above(graph, graph("Sigmoid", logits), threshold)  # (B, N)
    classes = np.arange(detector.head.classes).reshape(1, -1, 1)
    own = graph("Equal", graph("Unsqueeze", labels, [1]), classes)
    by_class = graph("Where", own, graph("Unsqueeze", scores, [1]), ABSENT)  # (B, K, N)
    count = detector.max_detections
    left = kept(graph, boxes, by_class, detector.nms_iou, graph.side(boxes, 1) if count is None else count)
    found = best_of_picture(graph, boxes, left, count)
    inside = clipped(graph, found.boxes, graph("Gather", limits, found.pictures))
    return Detected(inside, found.scores, found.labels, found.pictures)


def candidates_of_level(graph: Graph, detector: RetinaNet, feature: Value, level: int) -> Candidates:
    head = detector.head
    logits = applied(graph, head.cls_score, through(graph, head.cls_subnet, feature, level))
    deltas = applied(graph, head.bbox_pred, through(graph, head.bbox_subnet, feature, level))
    coder = detector.box_loss.coder
    return best_of_level(graph, logits, deltas, detector.anchors, level, coder, head.classes, detector.candidates)


def through(graph: Graph, subnet: Subnet, x: Value, level: int) -> Value:
    """A subnet at one level; norms of levels have statistics of their own."""
    for layer in subnet:
        x = level_norm(graph, layer, x, level) if isinstance(layer, LevelNorms) else applied(graph, layer, x)
    return x


def level_norm(graph: Graph, norms: LevelNorms, x: Value, level: int) -> Value:
    own = norms[level]
    assert isinstance(own, nn.BatchNorm2d)
    whole = nn.BatchNorm2d(own.num_features, eps=own.eps)
    for mine, theirs in (
        (whole.weight, norms.weight),
        (whole.bias, norms.bias),
        (whole.running_mean, own.running_mean),
        (whole.running_var, own.running_var),
    ):
        assert mine is not None
        assert theirs is not None
        mine.data.copy_(theirs.detach())
    return applied(graph, whole, x)
