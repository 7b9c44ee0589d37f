"""ResNet (arXiv:1512.03385) and ResNeXt (arXiv:1611.05431): a picture batch to features at strides 4, 8, 16, 32.

B: batch. Names in the state dict are Detectron2's: `stem.conv1`, `res2.0.conv1.norm`, `res2.0.shortcut`, ...
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from sightline.model.norms import Conv, fill_msra, frozen

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> blocks in res2, res3, res4, res5."""

STAGES = ("res2", "res3", "res4", "res5")


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, C, H/4, W/4): 7x7 convolution, norm, max pooling."""

    def __init__(self, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = Conv(3, out_channels, 7, stride=2, padding=3, norm=norm, relu=True)
        fill_msra(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


def shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> Conv | None:
    """The projection beside a block, where its output has another number of channels."""
    return None if in_channels == out_channels else Conv(in_channels, out_channels, 1, stride=stride, norm=norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet 18 and 34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str) -> None:
        super().__init__()
        self.shortcut = shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = Conv(in_channels, out_channels, 3, stride=stride, padding=1, norm=norm, relu=True)
        self.conv2 = Conv(out_channels, out_channels, 3, padding=1, norm=norm)
        for layer in (self.conv1, self.conv2, self.shortcut):
            if layer is not None:
                fill_msra(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return F.relu_(out.add_(x if self.shortcut is None else self.shortcut(x)))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt), 1x1 and a shortcut: ResNet 50 and deeper.

    stride_in_1x1: where the stride sits; the first 1x1 in MSRA's original weights, the 3x3 in torchvision's and ResNeXt's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        stride: int,
        groups: int,
        dilation: int,
        stride_in_1x1: bool,
        norm: str,
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = Conv(in_channels, width, 1, stride=stride_1x1, norm=norm, relu=True)
        self.conv2 = Conv(
            width, width, 3, stride=stride_3x3, padding=dilation, dilation=dilation, groups=groups, norm=norm, relu=True
        )
        self.conv3 = Conv(width, out_channels, 1, norm=norm)
        for layer in (self.conv1, self.conv2, self.conv3, self.shortcut):
            if layer is not None:
                fill_msra(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.conv2(self.conv1(x)))
        return F.relu_(out.add_(x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """Features by stage name, {"res2": (B, C, H/4, W/4), ...}.

    recomputed: training keeps no activations inside the blocks and computes them again for the gradients (arXiv:1604.06174)
    """

    recomputed = False

    def __init__(self, stem: Stem, stages: dict[str, nn.Sequential], out_features: tuple[str, ...]) -> None:
        super().__init__()
        self.stem = stem
        self.stage_names = tuple(stages)
        self.out_features = self.learned_features = out_features
        for name, stage in stages.items():
            self.add_module(name, stage)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        features = {"stem": x} if "stem" in self.out_features else {}
        for name in self.stage_names:
            x = self.run_stage(name, x)
            if name in self.out_features:
                features[name] = x
        return features

    def run_stage(self, name: str, x: Tensor) -> Tensor:
        """One stage; block by block where activations are computed again, since that is what memory is counted in."""
        stage = self.get_submodule(name)
        if not (self.recomputed and self.training and torch.is_grad_enabled()):
            out: Tensor = stage(x)
            return out
        for block in stage.children():
            x = checkpoint(block, x, use_reentrant=False)
        return x

    def freeze(self, at: int) -> None:
        """Stop learning in the stem (1) and the stages up to res`at` (2: stem and res2, ...). 0 freezes nothing."""
        if at >= 1:
            frozen(self.stem)
        for index, name in enumerate(self.stage_names, start=2):
            if at >= index:
                frozen(self.get_submodule(name))


def bottleneck_stage(
    blocks: int,
    *,
    in_channels: int,
    out_channels: int,
    width: int,
    stride: int,
    groups: int,
    dilation: int,
    stride_in_1x1: bool,
    norm: str,
) -> nn.Sequential:
    """`blocks` bottlenecks; the first of them has the stride."""
    return nn.Sequential(
        *(
            BottleneckBlock(
                out_channels if block else in_channels,
                out_channels,
                width=width,
                stride=1 if block else stride,
                groups=groups,
                dilation=dilation,
                stride_in_1x1=stride_in_1x1,
                norm=norm,
            )
            for block in range(blocks)
        )
    )


def basic_stage(blocks: int, *, in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Sequential:
    """`blocks` basic blocks; the first of them has the stride."""
    return nn.Sequential(
        *(
            BasicBlock(out_channels if block else in_channels, out_channels, stride=1 if block else stride, norm=norm)
            for block in range(blocks)
        )
    )


def resnet(
    *,
    depth: int,
    stem_channels: int,
    res2_channels: int,
    width_per_group: int,
    groups: int,
    stride_in_1x1: bool,
    res5_dilation: int,
    norm: str,
    out_features: tuple[str, ...],
) -> ResNet:
    """A ResNet up to the last stage asked for. Channels double, and strides too, from stage to stage."""
    stages: dict[str, nn.Sequential] = {}
    in_channels, out_channels, width = stem_channels, res2_channels, groups * width_per_group
    last = max(STAGES.index(name) for name in out_features if name in STAGES)
    for name, blocks in zip(STAGES[: last + 1], BLOCKS[depth], strict=False):
        dilation = res5_dilation if name == "res5" else 1
        stride = 1 if name == "res2" or dilation == 2 else 2
        if depth < 50:
            stages[name] = basic_stage(blocks, in_channels=in_channels, out_channels=out_channels, stride=stride, norm=norm)
        else:
            stages[name] = bottleneck_stage(
                blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                width=width,
                stride=stride,
                groups=groups,
                dilation=dilation,
                stride_in_1x1=stride_in_1x1,
                norm=norm,
            )
        in_channels, out_channels, width = out_channels, out_channels * 2, width * 2
    return ResNet(Stem(stem_channels, norm), stages, out_features)
