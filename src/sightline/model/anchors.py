"""Anchors: the boxes that every cell of every feature level begins from."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """(A, 4) boxes around the origin, size by size, ratio by ratio. size: square root of the area; ratio: height / width."""
    boxes = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


class AnchorGrid:
    """All anchors of a picture, level by level; remembers the grids of sizes it has seen.

    sizes, aspect_ratios: one sequence a level (A = their product)
    strides:              pixels between cells, one a level
    offset:               of the first cell's centre, in strides (Detectron2's default: 0)
    """

    REMEMBERED = 256
    """Grid shapes kept; multi-scale training meets some dozens, each a few MB at most."""

    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float,
    ) -> None:
        self.cells = [cell_anchors(s, r) for s, r in zip(sizes, aspect_ratios, strict=True)]
        self.strides = strides
        self.offset = offset
        self.grids: dict[tuple[int, int, int, torch.device], Tensor] = {}

    @property
    def per_cell(self) -> int:
        return len(self.cells[0])

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One (H*W*A, 4) a level for features (B, C, H, W): row by row, cell by cell, anchor by anchor."""
        return [self.level(i, f.shape[-2], f.shape[-1], f.device) for i, f in enumerate(features)]

    def level(self, index: int, height: int, width: int, device: torch.device) -> Tensor:
        key = (index, height, width, device)
        grid = self.grids.get(key)  # once: another thread may clear the grids at any time
        if grid is None:
            if len(self.grids) >= self.REMEMBERED:
                self.grids.clear()
            grid = self.grids[key] = self.make_level(index, height, width).to(device)
        return grid

    def make_level(self, index: int, height: int, width: int) -> Tensor:
        stride = self.strides[index]
        xs = torch.arange(width, dtype=torch.float32) * stride + self.offset * stride
        ys = torch.arange(height, dtype=torch.float32) * stride + self.offset * stride
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        shifts = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)  # (H*W, 1, 4)
        return (shifts + self.cells[index]).reshape(-1, 4)  # (H*W*A, 4)
