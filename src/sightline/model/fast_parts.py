"""Parts of detectors for prediction alone, each made of the part that learns: the same numbers with fewer passes over memory.

B: pictures. A: anchors a cell.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.box_head import BoxHead
from sightline.model.fast_convs import FastConv, fast_conv
from sightline.model.fpn import FPN
from sightline.model.norms import Conv
from sightline.model.pooling import Pooler
from sightline.model.resnet import BasicBlock, BottleneckBlock, Stem
from sightline.model.roi_rows import roi_align_rows
from sightline.model.rpn import RPNHead
from sightline.model.workspace import Workspace


class FastStem(nn.Module):
    """(B, 3, H, W) -> (B, C, H/4, W/4). The ReLU follows the pooling, with which it commutes, on a quarter of the numbers."""

    def __init__(self, stem: Stem, maker: "Maker") -> None:
        super().__init__()
        self.conv1 = maker.conv(stem.conv1)
        self.conv1.relu = False

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1))


class FastBlock(nn.Module):
    """A residual block that adds its last convolution onto the shortcut where that lies.

    owns_input: whether `x` may be overwritten; a stage's input is also a feature, and the model's own otherwise
    """

    def __init__(self, block: BasicBlock | BottleneckBlock, maker: "Maker", *, owns_input: bool) -> None:
        super().__init__()
        convs = (block.conv1, block.conv2, block.conv3) if isinstance(block, BottleneckBlock) else (block.conv1, block.conv2)
        *first, last = (maker.conv(conv) for conv in convs)
        self.convs, self.last = nn.ModuleList(first), last
        self.last.relu = True
        self.shortcut = None if block.shortcut is None else maker.conv(block.shortcut)
        self.owns_input = owns_input

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv in self.convs:
            out = conv(out)
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif not self.owns_input:
            x = x.clone(memory_format=torch.channels_last)
        answer: Tensor = self.last(out, x)
        return answer


class FastFPN(nn.Module):
    """A pyramid whose coarser levels are added onto the finer ones without being enlarged first."""

    def __init__(self, fpn: FPN, maker: "Maker") -> None:
        super().__init__()
        self.in_features, self.levels, self.fuse = fpn.in_features, fpn.levels, fpn.fuse
        self.learned_features = fpn.learned_features
        self.laterals = nn.ModuleList([maker.conv(fpn.get_submodule(f"fpn_lateral{n}")) for n in fpn.levels])
        self.outputs = nn.ModuleList([maker.conv(fpn.get_submodule(f"fpn_output{n}")) for n in fpn.levels])
        self.top_block, self.bottom_up = maker(fpn.top_block), maker(fpn.bottom_up)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        below = self.bottom_up(x)
        coarser: Tensor | None = None
        features: dict[str, Tensor] = {}
        for index in reversed(range(len(self.levels))):
            merged: Tensor = self.laterals[index](below[self.in_features[index]])
            if coarser is not None:
                add_enlarged(merged, coarser)
                if self.fuse == "avg":
                    merged.div_(2)
            coarser = merged
            features[f"p{self.levels[index]}"] = self.outputs[index](merged)
        features = dict(reversed(features.items()))
        top = self.levels[-1]
        extra = self.top_block(below[self.in_features[-1]], features[f"p{top}"])
        return features | {f"p{top + number}": feature for number, feature in enumerate(extra, start=1)}


def add_enlarged(fine: Tensor, coarse: Tensor) -> None:
    """Add each cell of `coarse` (B, C, H, W) to four of `fine` (B, C, 2 H, 2 W), in place."""
    cells = coarse.permute(0, 2, 3, 1)[:, :, None, :, None]  # (B, H, 1, W, 1, C)
    batch, height, _, width, _, channels = cells.shape
    fine.permute(0, 2, 3, 1).view(batch, height, 2, width, 2, channels).add_(cells)


class FastRPNHead(nn.Module):
    """Logits and deltas of all anchors from one product: what is hidden is read once."""

    def __init__(self, head: RPNHead, maker: "Maker") -> None:
        super().__init__()
        convs = [head.conv] if isinstance(head.conv, Conv) else list(head.conv.children())
        self.convs = nn.ModuleList([maker.conv(conv) for conv in convs])
        self.anchors = head.objectness_logits.out_channels
        both = nn.Conv2d(head.objectness_logits.in_channels, 5 * self.anchors, 1, device="meta")
        logits, deltas = head.objectness_logits, head.anchor_deltas
        assert logits.bias is not None and deltas.bias is not None
        both.weight = nn.Parameter(torch.cat((logits.weight, deltas.weight)), requires_grad=False)
        both.bias = nn.Parameter(torch.cat((logits.bias, deltas.bias)), requires_grad=False)
        self.both = maker.conv(both)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """([(B, H*W*A) logits a level], [(B, H*W*A, 4) deltas a level]), anchors in AnchorGrid's order."""
        logits, deltas = [], []
        for feature in features:
            hidden = feature
            for conv in self.convs:
                hidden = conv(hidden)
            cells = self.both(hidden).permute(0, 2, 3, 1).float()  # (B, H, W, 5 A); suppression takes nothing shorter
            logits.append(cells[..., : self.anchors].flatten(1))
            deltas.append(cells[..., self.anchors :].reshape(len(cells), -1, 4))
        return logits, deltas


class FastPooler(Pooler):
    """RoIAlign as sums of rows, level by level, from features in channels_last; the answer is in channels_last, too.

    In half precision it samples in float32: a coordinate of 800 px would be off by pixels.
    """

    workspace: Workspace

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        first = features[0]
        if first.device.type != "cpu" or not sum(len(some) for some in boxes):
            pooled: Tensor = super().forward([feature.float() for feature in features], boxes)
            return pooled
        picture = torch.cat([box.new_full((len(box), 1), float(i)) for i, box in enumerate(boxes)])
        rois = torch.cat((picture, torch.cat(tuple(boxes))), dim=1)  # (P, 5)
        if len(features) == 1:
            return self.rows(first, rois, self.strides[0])
        levels = self.levels(rois[:, 1:])
        out = self.workspace.empty(len(rois), self.resolution, self.resolution, first.shape[1])
        for index, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            places = (levels == index).nonzero().squeeze(1)
            if len(places):
                out[places] = self.rows(feature, rois[places], stride).permute(0, 2, 3, 1)
        return out.permute(0, 3, 1, 2)

    def rows(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        """(P, C, R, R) of rois (P, 5) on one level; P is not 0."""
        return roi_align_rows(
            [feature.float()],
            rois,
            torch.zeros(len(rois), dtype=torch.int64),
            resolution=self.resolution,
            strides=[stride],
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


def fast_pooler(pooler: Pooler, maker: "Maker") -> FastPooler:
    fast = FastPooler(
        resolution=pooler.resolution,
        strides=pooler.strides,
        sampling_ratio=pooler.sampling_ratio,
        aligned=pooler.aligned,
    )
    fast.workspace = maker.workspace
    return fast


class FastBoxHead(nn.Module):
    """The box branch whose first fully connected layer takes (P, R, R, C) as it lies in memory."""

    def __init__(self, head: BoxHead, maker: "Maker") -> None:
        super().__init__()
        self.convs = nn.ModuleList([maker.conv(head.get_submodule(name)) for name in head.convs])
        self.fcs = nn.ModuleList([head.get_submodule(name) for name in head.fcs])
        self.out_dim = head.out_dim
        if not head.fcs:
            return
        channels = head.channels
        first = head.get_submodule(head.fcs[0])
        assert isinstance(first, nn.Linear)
        self.fcs[0] = relaid(first, channels)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        x = x.permute(0, 2, 3, 1).flatten(1) if len(self.fcs) else x.flatten(1)
        for fc in self.fcs:
            x = F.relu_(fc(x))
        return x


def relaid(layer: nn.Linear, channels: int) -> nn.Linear:
    """`layer` of (C, R, R) as one of (R, R, C)."""
    twin = nn.Linear(layer.in_features, layer.out_features, device="meta")
    weight = layer.weight.detach().view(layer.out_features, channels, -1).transpose(1, 2).flatten(1)
    twin.weight, twin.bias = nn.Parameter(weight, requires_grad=False), layer.bias
    return twin


class Maker:
    """Makes copies of parts for prediction. What has no faster form is shared with the part that it was made from.

    for_compiler: convolutions are torch's own, which a compiler knows and joins with what is around them
    """

    def __init__(self, dtype: torch.dtype, *, for_compiler: bool = False) -> None:
        self.dtype, self.for_compiler = dtype, for_compiler
        self.workspace = Workspace()

    def conv(self, layer: nn.Module) -> FastConv:
        assert isinstance(layer, nn.Conv2d)
        return fast_conv(layer, None if self.for_compiler else self.workspace, self.dtype)

    def __call__(self, module: nn.Module) -> nn.Module:
        for kind, make in FASTER.items():
            if type(module) is kind:
                return make(module, self)
        blocks = [part for part in module.children() if isinstance(part, BasicBlock | BottleneckBlock)]
        if type(module) is nn.Sequential and blocks and len(blocks) == len(module):
            return nn.Sequential(*(FastBlock(block, self, owns_input=index > 0) for index, block in enumerate(blocks)))
        return with_parts(module, {name: self(part) for name, part in module.named_children()})


FASTER: dict[type, Callable[[Any, Maker], nn.Module]] = {
    Stem: FastStem,
    FPN: FastFPN,
    RPNHead: FastRPNHead,
    Pooler: fast_pooler,
    BoxHead: FastBoxHead,
    Conv: lambda layer, maker: maker.conv(layer),
    nn.Conv2d: lambda layer, maker: maker.conv(layer),
}


def with_parts(module: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    """A shallow copy of `module`: its parameters and buffers, other parts."""
    twin = object.__new__(type(module))
    # its own tables of parameters, parts and hooks
    twin.__dict__ = {name: copy.copy(value) if isinstance(value, dict) else value for name, value in module.__dict__.items()}
    twin._modules.update(parts)
    return twin
