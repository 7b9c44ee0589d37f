"""The pyramid equals torchvision's with the same numbers, and its levels are what they should be."""

from collections import OrderedDict

import pytest
import torch
from builders import a_detector
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from sightline.model.fpn import FPN, ConvolvedTop, PooledTop


class Given(nn.Module):
    """A backbone whose features are given."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.features


def some_features(size: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"res{3 + i}": torch.randn(2, 4 * 2**i, size >> i, (size >> i) * 2, generator=generator) for i in range(3)}


def an_fpn(**changes: object) -> FPN:
    defaults = {
        "in_features": ("res3", "res4", "res5"),
        "levels": (3, 4, 5),
        "in_channels": (4, 8, 16),
        "out_channels": 6,
        "norm": "",
        "fuse": "sum",
        "top_block": PooledTop(),
    }
    return FPN(Given(some_features()), **(defaults | changes))  # type: ignore[arg-type]


def test_levels_equal_torchvisions() -> None:
    ours, theirs = an_fpn(), FeaturePyramidNetwork([4, 8, 16], 6)
    tensors = ours.state_dict()
    for index, level in enumerate((3, 4, 5)):
        for part in ("weight", "bias"):
            theirs.inner_blocks[index].state_dict()[f"0.{part}"].copy_(tensors[f"fpn_lateral{level}.{part}"])
            theirs.layer_blocks[index].state_dict()[f"0.{part}"].copy_(tensors[f"fpn_output{level}.{part}"])
    found = ours(torch.zeros(0))
    expected = theirs(OrderedDict(some_features()))
    assert_close([found["p3"], found["p4"], found["p5"]], list(expected.values()))


def test_the_level_on_top_is_every_second_pixel() -> None:
    found = an_fpn()(torch.zeros(0))
    assert list(found) == ["p3", "p4", "p5", "p6"]
    assert_close(found["p6"], found["p5"][:, :, ::2, ::2])


def test_two_levels_convolved_from_the_backbones_last() -> None:
    """RetinaNet's p6 comes from res5, not from p5; p7 from what is positive of p6."""
    top = ConvolvedTop(16, 6)
    found = an_fpn(top_block=top)(torch.zeros(0))
    assert list(found) == ["p3", "p4", "p5", "p6", "p7"]
    p6 = F.conv2d(some_features()["res5"], top.p6.weight, top.p6.bias, stride=2, padding=1)
    assert_close(found["p6"], p6)
    assert (p6 < 0).any()
    assert_close(found["p7"], F.conv2d(p6.clamp(min=0), top.p7.weight, top.p7.bias, stride=2, padding=1))


def test_convolved_levels_equal_torchvisions() -> None:
    ours, theirs = ConvolvedTop(16, 6), LastLevelP6P7(16, 6)
    theirs.load_state_dict(ours.state_dict())
    res5, p5 = some_features()["res5"], torch.zeros(2, 6, 4, 8)
    assert_close(ours(res5, p5), theirs([p5], [res5], [])[0][1:])


def test_average_halves_what_is_merged() -> None:
    summed, averaged = an_fpn(), an_fpn(fuse="avg")
    averaged.load_state_dict(summed.state_dict())
    for fpn in (summed, averaged):
        for level in (3, 4, 5):
            nn.init.dirac_(fpn.get_submodule(f"fpn_output{level}").weight)
    one, half = summed(torch.zeros(0)), averaged(torch.zeros(0))
    assert_close(half["p5"], one["p5"])
    assert_close(half["p4"], one["p4"] / 2)


def test_names() -> None:
    assert set(an_fpn().state_dict()) == {
        f"fpn_{kind}{level}.{part}" for kind in ("lateral", "output") for level in (3, 4, 5) for part in ("weight", "bias")
    }
    convolved = set(an_fpn(top_block=ConvolvedTop(16, 6)).state_dict())
    assert {f"top_block.{level}.{part}" for level in ("p6", "p7") for part in ("weight", "bias")} <= convolved
    assert "fpn_lateral4.norm.weight" in an_fpn(norm="BN").state_dict()
    assert "fpn_lateral4.bias" not in an_fpn(norm="BN").state_dict()


@pytest.mark.parametrize("size", [(32, 32), (64, 96)], ids=str)
def test_every_level_is_twice_as_coarse(size: tuple[int, int]) -> None:
    backbone = a_detector().backbone
    with torch.no_grad():
        shapes = {name: tuple(feature.shape) for name, feature in backbone(torch.zeros(1, 3, *size)).items()}
    height, width = size
    assert shapes == {
        "p3": (1, 16, height // 8, width // 8),
        "p4": (1, 16, height // 16, width // 16),
        "p5": (1, 16, height // 32, width // 32),
        "p6": (1, 16, -(-height // 64), -(-width // 64)),
    }
