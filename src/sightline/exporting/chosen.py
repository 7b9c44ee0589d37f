"""What every detector does to boxes, as nodes: anchors of the best cells, deltas, clipping, suppression, the best of a picture.

B: pictures. A: anchors a cell. K: classes. N: boxes of a picture.
"""

from dataclasses import dataclass

import numpy as np

from sightline.exporting.backbone import numbers
from sightline.exporting.graph import Graph, Input, Value
from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import MAX_LOG_SCALE, BoxCoder

ABSENT, LEAST = -1e30, -1e29
"""Score of what is not there, and one that everything that is there exceeds: logits are among the scores."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """boxes: (B, N, 4); scores: (B, N), logits at first; labels: (B, N)."""

    boxes: Value
    scores: Value
    labels: Value


@dataclass(frozen=True, slots=True)
class Detected:
    """All pictures' detections together, picture by picture, best first. boxes: (D, 4); the others (D,)."""

    boxes: Value
    scores: Value
    labels: Value
    pictures: Value


def limits_of(graph: Graph, sizes: Value) -> Value:
    """(B, 4) float32: the largest coordinates inside each picture."""
    return graph.cast(graph("Gather", sizes, [1, 0, 1, 0], axis=1), "FLOAT")


def clipped(graph: Graph, boxes: Value, limits: Value) -> Value:
    """Boxes moved inside their pictures."""
    return graph("Min", graph("Max", boxes, 0.0), limits)


def decoded(graph: Graph, coder: BoxCoder, deltas: Value, sources: Value) -> Value:
    """(..., 4): boxes `sources` moved by deltas, as `BoxCoder.decode`."""
    near, far = [0, 1], [2, 3]
    shift_weights, scale_weights = np.array(coder.weights, np.float32).reshape(2, 2)
    corner = graph("Gather", sources, near, axis=-1)
    sides = graph("Sub", graph("Gather", sources, far, axis=-1), corner)
    centre = graph("Add", corner, graph("Mul", sides, 0.5))
    shift = graph("Div", graph("Gather", deltas, near, axis=-1), shift_weights)
    scale = graph("Min", graph("Div", graph("Gather", deltas, far, axis=-1), scale_weights), MAX_LOG_SCALE)
    moved = graph("Add", graph("Mul", shift, sides), centre)
    half = graph("Mul", graph("Mul", graph("Exp", scale), sides), 0.5)
    return graph("Concat", graph("Sub", moved, half), graph("Add", moved, half), axis=-1)


def best(graph: Graph, scores: Value, count: Input) -> tuple[Value, Value]:
    """(values, places) (B, at most `count`) of the best of scores (B, N), falling."""
    most = graph.side(scores, 1)
    many = most if count is None else graph("Min", count, most)
    values, places = graph.many("TopK", scores, graph("Reshape", many, [1]), outputs=2, axis=1)
    return values, places


def best_of_level(
    graph: Graph, logits: Value, deltas: Value, anchors: AnchorGrid, level: int, coder: BoxCoder, classes: int, count: int
) -> Candidates:
    """The `count` best pairs of anchor and class of a level. Only their anchors and boxes are computed.

    logits: (B, A*K, H, W); deltas: (B, A*4, H, W)
    """
    cells_of = numbers(anchors.cells[level])
    stride = anchors.strides[level]
    pictures, width = graph.side(logits, 0), graph.side(logits, 3)
    cells = graph("Mul", graph.side(logits, 2), width)
    values, places = best(graph, graph.reshaped(logits, pictures, -1), count)
    plane, cell = graph("Div", places, cells), graph("Mod", places, cells)
    anchor, label = (graph("Div", plane, classes), graph("Mod", plane, classes)) if classes > 1 else (plane, None)
    x, y = (graph("Unsqueeze", graph(operator, cell, width), [-1]) for operator in ("Mod", "Div"))
    shift = graph("Mul", graph.cast(graph("Concat", x, y, x, y, axis=-1), "FLOAT"), float(stride))
    shift = graph("Add", shift, float(anchors.offset * stride)) if anchors.offset else shift
    sources = graph("Add", shift, graph("Gather", cells_of, anchor))  # (B, N, 4)
    four = graph("Add", graph("Unsqueeze", graph("Mul", anchor, 4), [-1]), np.arange(4))
    rows = graph("Add", graph("Mul", four, cells), graph("Unsqueeze", cell, [-1]))  # (B, N, 4) into a picture's deltas
    own = graph("GatherElements", graph.reshaped(deltas, pictures, -1), graph.reshaped(rows, pictures, -1), axis=1)
    boxes = decoded(graph, coder, graph("Reshape", own, graph("Shape", sources)), sources)
    zeros = graph("Sub", plane, plane) if label is None else label
    return Candidates(boxes, values, zeros)


def kept(graph: Graph, boxes: Value, scores: Value, iou: float, count: Input) -> Value:
    """`scores` (M, C, N) with ABSENT for what a better box of the same row overlaps; `count` stay in a row at most.

    boxes: (M, N, 4), the same for all of C
    """
    selected = graph("NonMaxSuppression", boxes, scores, graph("Reshape", count, [1]), [iou], [LEAST])  # (S, 3)
    nothing = graph("Expand", ABSENT, graph("Shape", scores))
    return graph("ScatterND", nothing, selected, graph("GatherND", scores, selected))


def best_of_picture(graph: Graph, boxes: Value, scores: Value, count: int | None) -> Detected:
    """The `count` best of each picture that are there.

    boxes: (B, K, N, 4), or (B, 1, N, 4) where classes share them; scores: (B, K, N)
    """
    pictures, many = graph.side(scores, 0), graph.side(scores, 2)
    values, places = best(graph, graph.reshaped(scores, pictures, -1), count)
    labels = graph("Div", places, many)
    rows = graph.reshaped(boxes, pictures, -1, 4)
    own = graph("Mod", places, graph.side(rows, 1))  # all of K*N, or the N that classes share
    found = graph.places(graph("Greater", values, LEAST))  # (D, 2)
    return Detected(
        boxes=graph("GatherND", graph.taken(rows, own), found),
        scores=graph("GatherND", values, found),
        labels=graph("GatherND", labels, found),
        pictures=graph("Gather", found, 0, axis=1),
    )


def above(graph: Graph, scores: Value, threshold: Value) -> Value:
    """Scores, those not above the threshold ABSENT."""
    return graph("Where", graph("Greater", scores, threshold), scores, ABSENT)
