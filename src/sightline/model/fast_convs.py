"""Convolutions for prediction alone: norm folded into the weights, bias, residual and ReLU in one pass, channels last.

Each takes (B, C, H, W) in any layout and gives (B, D, H', W') in channels_last. What they compute is what the layer they were
made from computes, up to float32's rounding; the sums run in another order.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.norms import EPSILON, Conv, FrozenBatchNorm2d
from sightline.model.workspace import Workspace

STRIP_BYTES = 4 << 20
"""Rows of an answer that are finished together, bias and ReLU included, while they are in the cache."""

LEAST_CHANNELS = 64
"""From this width on, the multiplications that Winograd's way saves are worth its transforms (measured). Below some 12 tiles,
20 at this width, a direct convolution would be faster by 0.1 to 0.3 ms a layer: not worth a second copy of the weights."""

MOST_WEIGHTS = 512 * 512
"""From so many pairs of channels on a convolution stays direct: Winograd's weights are four times as many, 28 MB more each at
512 channels, for layers on few cells (res5) that it makes 1 % of a prediction faster."""

POINTS = (0.0, math.sqrt(0.5), -math.sqrt(0.5), math.sqrt(2.0), -math.sqrt(2.0))
"""Where Winograd's F(4x4, 3x3) evaluates, besides infinity. The usual 0, 1, -1, 2, -2 round five times as coarsely: 8e-6 of
the largest answer at 256 channels against 1.7e-6; a direct convolution's error is 1.3e-6 there."""

TILE = 4
"""Answers on a side of one of Winograd's tiles."""

POINTS_2D = (TILE + 2) ** 2
"""Products a tile."""

TILES = 512
"""Tiles that are worked on together: with 256 channels 19 MB before and after the products."""


def constant(tensor: Tensor) -> nn.Parameter:
    """What belongs to a module, moves with it, and does not learn."""
    return nn.Parameter(tensor, requires_grad=False)


class FastConv(nn.Module):
    """What they have in common. A subclass's `forward(x, onto)` adds `onto`, which it may overwrite, before the ReLU."""

    relu: bool

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class FoldedConv(FastConv):
    """torch's own convolution, on any device and of any kind."""

    def __init__(self, like: nn.Conv2d, weight: Tensor, bias: Tensor, *, relu: bool) -> None:
        super().__init__()
        self.weight = constant(weight.contiguous(memory_format=torch.channels_last))
        self.bias = constant(bias)
        self.stride, self.padding, self.dilation, self.groups = like.stride, like.padding, like.dilation, like.groups
        self.relu = relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        x = x.to(self.weight.dtype, memory_format=torch.channels_last)
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if onto is not None:
            out = out.add_(onto)
        return F.relu_(out) if self.relu else out


class PointwiseConv(FastConv):
    """A 1x1 convolution as products of matrices, strip by strip of pixels, written to where the answer is wanted."""

    def __init__(self, weight: Tensor, bias: Tensor, workspace: Workspace, *, stride: tuple[int, int], relu: bool) -> None:
        super().__init__()
        self.weight = constant(weight.flatten(1).t().contiguous())  # (C, D)
        self.bias = constant(bias)
        self.workspace, self.stride, self.relu = workspace, stride, relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        down, across = self.stride
        pixels = x.permute(0, 2, 3, 1)[:, ::down, ::across]
        batch, height, width, channels = pixels.shape
        rows = pixels.reshape(-1, channels)  # a view unless x has another layout or there is a stride
        if onto is None:
            out = self.workspace.empty(batch, height, width, len(self.bias))
        else:
            out = onto.permute(0, 2, 3, 1).contiguous()
        self.fill(out.view(-1, len(self.bias)), rows, adds=onto is not None)
        return out.permute(0, 3, 1, 2)

    def fill(self, out: Tensor, rows: Tensor, *, adds: bool) -> None:
        """out: (N, D), to which `rows` (N, C) times the weights are added, or with which it is replaced."""
        step = max(STRIP_BYTES // (4 * len(self.bias)), 256)
        for start in range(0, len(rows), step):
            strip, some = out[start : start + step], rows[start : start + step]
            if adds:
                strip.addmm_(some, self.weight)
            else:
                torch.mm(some, self.weight, out=strip)
            strip.add_(self.bias)
            if self.relu:
                F.relu_(strip)


class WinogradConv(FastConv):
    """A 3x3 convolution of stride 1 by F(4x4, 3x3) (arXiv:1509.09308): 36 products of matrices a tile of 16 answers, not 144.

    Input tiles of 6x6 become V = B' d B, channels are mixed point by point as M = V U, and the answer is A' M A. Each side of
    a transform is a product of one small matrix with the numbers of many tiles.
    """

    def __init__(self, weight: Tensor, bias: Tensor, workspace: Workspace, *, relu: bool) -> None:
        super().__init__()
        answers, kernel, tiles = (torch.from_numpy(matrix) for matrix in winograd(POINTS))
        by_point = torch.kron(kernel, kernel) @ weight.double().flatten(2).permute(2, 1, 0).flatten(1)
        self.mixing = constant(by_point.view(-1, weight.shape[1], weight.shape[0]).float())  # (36, C, D)
        self.into = constant(tiles.float())  # B' (6, 6)
        self.back = constant(answers.float())  # A' (4, 6)
        self.bias = constant(bias)
        self.workspace, self.relu = workspace, relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        batch, height, width, channels = pixels.shape
        down, across = -(-height // TILE), -(-width // TILE)
        pictures = min(max(TILES // (down * across), 1), batch)  # small ones together, large ones in strips
        rows = min(max(TILES // across, 1), down)
        largest = POINTS_2D * pictures * rows * across * max(channels, len(self.bias))
        room = (self.workspace.empty(largest), self.workspace.empty(largest))
        out = self.workspace.empty(batch, height, width, len(self.bias))
        relu = onto is None and self.relu
        for first in range(0, batch, pictures):
            some = slice(first, min(first + pictures, batch))
            for top in range(0, down, rows):
                strip = slice(top * TILE, min((top + rows) * TILE, height))
                self.fill(out[some, strip], surrounded(pixels[some], strip, across * TILE), room, relu=relu)
        answer = out.permute(0, 3, 1, 2)
        if onto is None:
            return answer
        answer = answer.add_(onto)
        return F.relu_(answer) if self.relu else answer

    def fill(self, out: Tensor, pixels: Tensor, room: tuple[Tensor, Tensor], *, relu: bool) -> None:
        """out: (B, H, W, D), answers of `pixels` (B, 4 h + 2, 4 w + 2, C), where 4 h and 4 w cover H and W."""
        batch, height, width, channels = pixels.shape
        shape, wide, side = (batch, height // TILE, width // TILE), len(self.bias), TILE + 2
        tiles = math.prod(shape)
        picture, row, pixel, _ = pixels.stride()
        overlapping = pixels.as_strided((side, side, *shape, channels), (row, pixel, picture, TILE * row, TILE * pixel, 1))
        given, changed = (r[: POINTS_2D * tiles * channels] for r in room)
        given.view(overlapping.shape).copy_(overlapping)
        torch.mm(self.into, given.view(side, -1), out=changed.view(side, -1))
        torch.matmul(self.into, changed.view(side, side, -1), out=given.view(side, side, -1))
        mixed = room[1][: POINTS_2D * tiles * wide]
        torch.bmm(given.view(-1, tiles, channels), self.mixing, out=mixed.view(-1, tiles, wide))
        half = room[0][: TILE * side * tiles * wide]
        torch.mm(self.back, mixed.view(side, -1), out=half.view(TILE, -1))
        answers = room[1][: TILE * TILE * tiles * wide].view(TILE, TILE, -1)
        torch.matmul(self.back, half.view(TILE, side, -1), out=answers)
        answers = answers.view(TILE, TILE, *shape, wide).permute(2, 3, 0, 4, 1, 5)  # (B, h, 4, w, 4, D)
        if out.shape[1:3] == (height - 2, width - 2):
            target = out.view(batch, height // TILE, TILE, width // TILE, TILE, wide)
        else:  # the last tiles hang over
            answers = answers.reshape(batch, height - 2, width - 2, wide)[:, : out.shape[1], : out.shape[2]]
            target = out
        torch.add(answers, self.bias, out=target)
        if relu:
            F.relu_(target)


def surrounded(pixels: Tensor, strip: slice, width: int) -> Tensor:
    """(B, h + 2, width + 2, C): rows of `pixels` (B, H, W, C) from one above `strip`, zeros beyond the edges.

    h is `strip`'s height, rounded up to whole tiles.
    """
    height = -(-(strip.stop - strip.start) // TILE) * TILE
    out = pixels.new_zeros((len(pixels), height + 2, width + 2, pixels.shape[3]))
    low, high = max(strip.start - 1, 0), min(strip.start + height + 1, pixels.shape[1])
    out[:, low - strip.start + 1 : high - strip.start + 1, 1 : pixels.shape[2] + 1] = pixels[:, low:high]
    return out


def winograd(points: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A' (m, n), G (n, 3), B' (n, n)) of F(m, 3) by Cook and Toom: y = A' ((G g) * (B' d)); n points, the last at infinity."""
    count = len(points) + 1
    answers, kernel, tiles = np.zeros((count - 2, count)), np.zeros((count, 3)), np.zeros((count, count))
    for index, point in enumerate(points):
        others = [other for other in points if other != point]
        answers[:, index] = point ** np.arange(count - 2)
        kernel[index] = point ** np.arange(3) / np.prod([point - other for other in others])
        tiles[index, :-1] = np.poly(others)[::-1]
    answers[-1, -1] = kernel[-1, -1] = 1.0
    tiles[-1] = np.poly(points)[::-1]
    return answers, kernel, tiles


class NormedConv(FastConv):
    """A convolution whose norm depends on what comes in, such as a group norm."""

    def __init__(self, conv: FastConv, norm: nn.Module, *, relu: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = conv, norm, relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        if onto is not None:
            out = out.add_(onto)
        return F.relu_(out) if self.relu else out


def fast_conv(layer: nn.Conv2d, workspace: Workspace | None, dtype: torch.dtype) -> FastConv:
    """What computes the same as `layer` (with its norm and ReLU, if it is a `Conv`) in evaluation mode.

    workspace: None leaves the way to torch, for a compiler
    """
    norm, relu = (layer.norm, layer.relu) if isinstance(layer, Conv) else (None, False)
    with torch.no_grad():
        weight, bias = (tensor.to(dtype) for tensor in folded(layer, norm))
    if norm is None or isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d):
        return shaped(layer, weight, bias, workspace, relu=relu)
    return NormedConv(shaped(layer, weight, bias, workspace, relu=False), norm, relu=relu)


def folded(layer: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """(weight, bias) with the norm's scale and shift in them, where they are constants. New tensors."""
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    if isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d):
        assert norm.running_mean is not None and norm.running_var is not None
        epsilon = norm.eps if isinstance(norm, nn.BatchNorm2d) else EPSILON
        scale = norm.weight.detach() * (norm.running_var + epsilon).rsqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias.detach() + (bias - norm.running_mean) * scale
    return weight, bias


def shaped(layer: nn.Conv2d, weight: Tensor, bias: Tensor, workspace: Workspace | None, *, relu: bool) -> FastConv:
    """The fastest way for a convolution of this shape where its weights are."""
    if workspace is None or weight.device.type != "cpu" or weight.dtype != torch.float32 or layer.groups != 1:
        return FoldedConv(layer, weight, bias, relu=relu)
    if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        return PointwiseConv(weight, bias, workspace, stride=layer.stride, relu=relu)  # type: ignore[arg-type]
    plain = (layer.stride, layer.padding, layer.dilation) == ((1, 1), (1, 1), (1, 1))
    suits = min(weight.shape[:2]) >= LEAST_CHANNELS and weight.shape[0] * weight.shape[1] < MOST_WEIGHTS
    if layer.kernel_size == (3, 3) and plain and suits:
        return WinogradConv(weight, bias, workspace, relu=relu)
    return FoldedConv(layer, weight, bias, relu=relu)
