"""The mask branch of Mask R-CNN (arXiv:1703.06870): pooled features of a box to its object's pixels.

K: classes. N: boxes. M: cells on a side of a box's grid, twice what is pooled.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.geometry.masks import Bitmap, Mask, encode_at, in_grid
from sightline.model.norms import Conv, fill_msra, fill_normal
from sightline.model.operators import roi_align
from sightline.records import ImageSize, Rle

THRESHOLD = 0.5
"""Probability from which a pixel is the object's."""


class MaskHead(nn.Module):
    """(N, C, M/2, M/2) -> (N, K or 1, M, M) logits. Names: mask_fcn1, ..., deconv, predictor."""

    def __init__(self, *, in_channels: int, convs: int, width: int, classes: int, norm: str) -> None:
        super().__init__()
        self.convs: list[str] = []
        channels = in_channels
        for index in range(1, convs + 1):
            conv = Conv(channels, width, 3, padding=1, norm=norm, relu=True)
            fill_msra(conv)
            self.add_module(f"mask_fcn{index}", conv)
            self.convs.append(f"mask_fcn{index}")
            channels = width
        self.deconv = nn.ConvTranspose2d(channels, width, 2, stride=2)
        fill_msra(self.deconv)
        self.predictor = nn.Conv2d(width, classes, 1)
        fill_normal(self.predictor, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.convs:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.predictor(F.relu(self.deconv(x)))
        return logits

    def of_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, M, M): the logits of each box's own label (N,), or those that all classes share."""
        if logits.shape[1] == 1:
            return logits[:, 0]
        return logits[torch.arange(len(labels), device=labels.device), labels]

    def loss(
        self, logits: Tensor, labels: Tensor, boxes: Sequence[Tensor], masks: Sequence[Sequence[Mask]]
    ) -> dict[str, Tensor]:
        """{"loss_mask"}: binary cross entropy, averaged over all cells of all boxes.

        labels: (N,) of all pictures together; boxes, masks: N_i a picture, in the same order.
        """
        if not len(logits):
            return {"loss_mask": logits.sum() * 0.0}
        wanted = torch.cat([mask_grids(m, b, logits.shape[-1]) for m, b in zip(masks, boxes, strict=True)])
        chosen = self.of_labels(logits, labels)
        return {"loss_mask": F.binary_cross_entropy_with_logits(chosen, wanted.to(chosen.dtype))}


def mask_grids(masks: Sequence[Mask], boxes: Tensor, side: int) -> Tensor:
    """(N, side, side) booleans on the boxes' device: which cells of a grid over each box its object covers."""
    if not len(boxes):
        return torch.zeros((0, side, side), dtype=torch.bool, device=boxes.device)
    rows = boxes.cpu()
    grids = [
        torch.from_numpy(in_grid(mask, box.tolist(), side)) if isinstance(mask, tuple) else bitmap_grid(mask, box, side)
        for mask, box in zip(masks, rows, strict=True)
    ]
    return torch.stack(grids).to(boxes.device)


def bitmap_grid(bitmap: Bitmap, box: Tensor, side: int) -> Tensor:
    """(side, side): RoIAlign of an (H, W) bitmap over `box` (4,), cut at one half, as Detectron2's BitMasks do."""
    picture = torch.from_numpy(bitmap)[None, None].float()
    roi = torch.cat((torch.zeros(1), box))[None]
    grid: Tensor = roi_align(picture, roi, side, scale=1.0, sampling_ratio=0, aligned=True)[0, 0] >= THRESHOLD
    return grid


def pasted(probabilities: Tensor, boxes: Tensor, size: ImageSize) -> tuple[Rle, ...]:
    """Run lengths of each box's mask in a picture of `size`, sampled between the cells' centres.

    probabilities: (N, M, M); boxes: (N, 4) in the picture's pixels. Only the pixels of its box are computed for a mask, on the
    device where the probabilities are.
    """
    numbers = boxes.tolist()  # at once: a GPU would be waited for at each
    return tuple(paste(grid, box, edges, size) for grid, box, edges in zip(probabilities, boxes, numbers, strict=True))


def paste(grid: Tensor, box: Tensor, edges: Sequence[float], size: ImageSize) -> Rle:
    """edges: the numbers of `box`, here."""
    x1, y1, x2, y2 = box
    left, top = (max(math.floor(edge) - 1, 0) for edge in edges[:2])
    right, bottom = min(math.ceil(edges[2]) + 1, size.width), min(math.ceil(edges[3]) + 1, size.height)
    # -1 to 1 across the box at the pixels' centres, what grid_sample expects.
    xs = (torch.arange(left, right, device=box.device, dtype=torch.float32) + 0.5 - x1) / (x2 - x1) * 2 - 1
    ys = (torch.arange(top, bottom, device=box.device, dtype=torch.float32) + 0.5 - y1) / (y2 - y1) * 2 - 1
    places = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (h, w, 2)
    sampled = F.grid_sample(grid[None, None].float(), places[None], align_corners=False)[0, 0]
    return encode_at((sampled >= THRESHOLD).cpu().numpy(), top, left, size)
