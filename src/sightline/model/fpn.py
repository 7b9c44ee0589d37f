"""Feature pyramid (arXiv:1612.03144): backbone features to levels p2, p3, ... of one width, each twice as coarse as the last.

State-dict names are Detectron2's: `bottom_up`, `fpn_lateral2`, `fpn_output2`, ...
"""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sightline.model.norms import Conv, fill_xavier
from sightline.model.resnet import ResNet


class FPN(nn.Module):
    """{"p2": (B, C, H/4, W/4), ..., "p6": ...} of a picture batch.

    levels:         pyramid level of each feature taken, ascending: 2 for stride 4
    in_channels:    their widths
    fuse:           "sum" or "avg" of the lateral and the coarser level
    pool_top_level: one more level, every second pixel of the coarsest (only anchors use it)
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
        pool_top_level: bool = True,
    ) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.in_features, self.levels, self.fuse, self.pool_top_level = in_features, levels, fuse, pool_top_level
        for level, channels in zip(levels, in_channels, strict=True):
            lateral = Conv(channels, out_channels, 1, norm=norm)
            output = Conv(out_channels, out_channels, 3, padding=1, norm=norm)
            fill_xavier(lateral)
            fill_xavier(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)

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
        if self.pool_top_level:
            top = self.levels[-1]
            features[f"p{top + 1}"] = F.max_pool2d(features[f"p{top}"], kernel_size=1, stride=2)
        return features
