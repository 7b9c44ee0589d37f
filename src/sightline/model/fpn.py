"""Feature pyramid (arXiv:1612.03144): backbone features to levels p2, p3, ... of one width, each twice as coarse as the last.

State-dict names are Detectron2's: `bottom_up`, `fpn_lateral2`, `fpn_output2`, ...
"""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.norms import Conv, fill_xavier
from sightline.model.resnet import ResNet


class PooledTop(nn.Module):
    """One more level, every second pixel of the coarsest (only anchors use it): p6 above p5."""

    levels = 1

    def forward(self, backbone_top: Tensor, pyramid_top: Tensor) -> list[Tensor]:
        return [F.max_pool2d(pyramid_top, kernel_size=1, stride=2)]


class ConvolvedTop(nn.Module):
    """Two more levels, convolved from the backbone's coarsest feature: RetinaNet's p6 and p7 (arXiv:1708.02002)."""

    levels = 2

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        fill_xavier(self.p6)
        fill_xavier(self.p7)

    def forward(self, backbone_top: Tensor, pyramid_top: Tensor) -> list[Tensor]:
        finer: Tensor = self.p6(backbone_top)
        return [finer, self.p7(F.relu(finer))]


class FPN(nn.Module):
    """{"p2": (B, C, H/4, W/4), ..., "p6": ...} of a picture batch.

    levels:           pyramid level of each feature taken, ascending: 2 for stride 4
    in_channels:      their widths
    fuse:             "sum" or "avg" of the lateral and the coarser level
    learned_features: the levels that have weights of their own; a pooled one has none
    """

    def __init__(
        self,
        bottom_up: ResNet,
        *,
        in_features: tuple[str, ...],
        levels: tuple[int, ...],
        in_channels: tuple[int, ...],
        out_channels: int,
        norm: str,
        fuse: str,
        top_block: PooledTop | ConvolvedTop,
    ) -> None:
        super().__init__()
        self.in_features, self.levels, self.fuse = in_features, levels, fuse
        for level, channels in zip(levels, in_channels, strict=True):
            lateral = Conv(channels, out_channels, 1, norm=norm)
            output = Conv(out_channels, out_channels, 3, padding=1, norm=norm)
            fill_xavier(lateral)
            fill_xavier(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        self.top_block = top_block
        convolved = top_block.levels if isinstance(top_block, ConvolvedTop) else 0
        self.learned_features = tuple(f"p{level}" for level in range(levels[0], levels[-1] + convolved + 1))
        self.bottom_up = bottom_up  # last, as in Detectron2: an optimizer's state is in the order of registration

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        below = self.bottom_up(x)
        coarser: Tensor | None = None
        features: dict[str, Tensor] = {}
        for name, level in reversed(list(zip(self.in_features, self.levels, strict=True))):
            merged: Tensor = self.get_submodule(f"fpn_lateral{level}")(below[name])
            if coarser is not None:
                merged = merged + F.interpolate(coarser, scale_factor=2.0, mode="nearest")
                if self.fuse == "avg":
                    merged = merged / 2
            coarser = merged
            features[f"p{level}"] = self.get_submodule(f"fpn_output{level}")(merged)
        features = dict(reversed(features.items()))
        top = self.levels[-1]
        extra = self.top_block(below[self.in_features[-1]], features[f"p{top}"])
        return features | {f"p{top + number}": feature for number, feature in enumerate(extra, start=1)}
