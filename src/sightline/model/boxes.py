"""Boxes as torch tensors: areas, overlaps, clipping, and the deltas that a detector regresses.

N, M: boxes. Boxes are (x1, y1, x2, y2) in pixels. The numpy twin for files and scores is geometry/boxes.py.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""exp() of a box delta is capped so a 16 px anchor grows to at most 1000 px; one wild early prediction cannot become inf.
Same value as Detectron2."""


def area(boxes: Tensor) -> Tensor:
    """(N,) px² of (N, 4) boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) overlaps in [0, 1] between a: (N, 4) and b: (M, 4). Boxes that do not touch overlap 0."""
    sides = torch.min(a[:, None, 2:], b[:, 2:]) - torch.max(a[:, None, :2], b[:, :2])  # (N, M, 2)
    overlap = sides.clamp_(min=0).prod(dim=2)  # (N, M)
    union = area(a)[:, None] + area(b) - overlap
    return torch.where(overlap > 0, overlap / union, torch.zeros_like(overlap))


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """(..., 4) boxes moved inside the picture. No numbers go to a GPU for it, which would wait for them."""
    inside = boxes.clamp(min=0)
    inside[..., 0::2].clamp_(max=width)
    inside[..., 1::2].clamp_(max=height)
    return inside


def nonempty(boxes: Tensor, min_side: float = 0.0) -> Tensor:
    """(N,) whether both sides are longer than `min_side` pixels."""
    return (boxes[:, 2] - boxes[:, 0] > min_side) & (boxes[:, 3] - boxes[:, 1] > min_side)


def places(chosen: Tensor) -> Tensor:
    """(N,) booleans -> indices of the true ones. Rows of several tensors taken by these wait for a GPU once, not each time."""
    return chosen.nonzero().squeeze(1)


@dataclass(frozen=True, slots=True)
class BoxCoder:
    """R-CNN's box deltas (arXiv:1311.2524, appendix C): centre shifts in units of the side, log of the scale, times weights."""

    weights: tuple[float, float, float, float]

    def encode(self, sources: Tensor, targets: Tensor) -> Tensor:
        """(N, 4) deltas that move `sources` onto `targets`, both (N, 4)."""
        wx, wy, ww, wh = self.weights
        source_w, source_h = sources[:, 2] - sources[:, 0], sources[:, 3] - sources[:, 1]
        target_w, target_h = targets[:, 2] - targets[:, 0], targets[:, 3] - targets[:, 1]
        dx = wx * (targets[:, 0] + 0.5 * target_w - sources[:, 0] - 0.5 * source_w) / source_w
        dy = wy * (targets[:, 1] + 0.5 * target_h - sources[:, 1] - 0.5 * source_h) / source_h
        dw = ww * torch.log(target_w / source_w)
        dh = wh * torch.log(target_h / source_h)
        return torch.stack((dx, dy, dw, dh), dim=1)

    def decode(self, deltas: Tensor, sources: Tensor) -> Tensor:
        """(N, K*4) boxes: `sources` (N, 4) moved by each of the K deltas in (N, K*4)."""
        wx, wy, ww, wh = self.weights
        if deltas.dtype.itemsize < 4:  # in half precision a box at 800 px would be off by pixels
            deltas = deltas.float()
        sources = sources.to(deltas.dtype)
        width, height = (sources[:, 2] - sources[:, 0])[:, None], (sources[:, 3] - sources[:, 1])[:, None]
        centre_x, centre_y = sources[:, 0, None] + 0.5 * width, sources[:, 1, None] + 0.5 * height
        x = deltas[:, 0::4] / wx * width + centre_x  # (N, K)
        y = deltas[:, 1::4] / wy * height + centre_y
        w = torch.exp((deltas[:, 2::4] / ww).clamp(max=MAX_LOG_SCALE)) * width
        h = torch.exp((deltas[:, 3::4] / wh).clamp(max=MAX_LOG_SCALE)) * height
        corners = torch.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), dim=-1)  # (N, K, 4)
        return corners.reshape(deltas.shape)
