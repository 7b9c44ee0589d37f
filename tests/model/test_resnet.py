"""ResNets equal torchvision's with the same numbers, carry Detectron2's names, and freeze what they are told to."""

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.model.norms import FrozenBatchNorm2d
from sightline.model.resnet import STAGES, ResNet, resnet


def a_resnet(**changes: object) -> ResNet:
    """A narrow ResNet-18 by default."""
    defaults = {
        "depth": 18,
        "stem_channels": 8,
        "res2_channels": 8,
        "width_per_group": 4,
        "groups": 1,
        "stride_in_1x1": False,
        "res5_dilation": 1,
        "norm": "BN",
        "out_features": STAGES,
    }
    return resnet(**(defaults | changes))  # type: ignore[arg-type]


BOTTLENECK = {"depth": 50, "stem_channels": 8, "res2_channels": 16}


def torchvision_name(name: str) -> str:
    """res2.0.conv1.norm.weight -> layer1.0.bn1.weight; res2.0.shortcut.norm.bias -> layer1.0.downsample.1.bias"""
    name = name.removeprefix("stem.")
    name = re.sub(r"^res(\d)", lambda match: f"layer{int(match[1]) - 1}", name)
    name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    return re.sub(r"conv(\d)\.norm", r"bn\1", name)


def torchvision_features(theirs: nn.Module, x: Tensor) -> dict[str, Tensor]:
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    features = {}
    for stage in STAGES:
        x = getattr(theirs, f"layer{int(stage[3:]) - 1}")(x)
        features[stage] = x
    return features


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        pytest.param("resnet18", {"depth": 18, "stem_channels": 64, "res2_channels": 64}, id="18"),
        pytest.param("resnet50", {"depth": 50, "stem_channels": 64, "res2_channels": 256, "width_per_group": 64}, id="50"),
        pytest.param(
            "resnext50_32x4d",
            {"depth": 50, "stem_channels": 64, "res2_channels": 256, "width_per_group": 4, "groups": 32},
            id="ResNeXt 50",
        ),
    ],
)
def test_features_equal_torchvisions(builder: str, options: dict[str, object]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = getattr(torchvision.models, builder)(weights=None)
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        x = torch.randn(1, 3, 64, 96)
    ours = a_resnet(**options).eval()
    tensors = theirs.state_dict()
    ours.load_state_dict({name: tensors[torchvision_name(name)] for name in ours.state_dict()})
    with torch.no_grad():
        assert_close(ours(x), torchvision_features(theirs.eval(), x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    """Stem and classifier are two of them; shortcuts are not counted."""
    network = a_resnet(depth=depth, res2_channels=8 if depth < 50 else 16)
    convs = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and "shortcut" not in name]
    assert len(convs) + 1 == depth


@pytest.mark.parametrize(("options", "width"), [({}, 8), (BOTTLENECK, 16)], ids=["18", "50"])
@pytest.mark.parametrize("size", [(64, 96), (65, 33), (1, 1), (31, 200)], ids=str)
def test_channels_double_and_strides_too(options: dict[str, object], width: int, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = a_resnet(**options).eval()(torch.zeros(2, 3, *size))
    expected = {
        stage: (2, width * 2**index, *(-(-side // 2 ** (index + 2)) for side in size)) for index, stage in enumerate(STAGES)
    }
    assert {name: tuple(feature.shape) for name, feature in features.items()} == expected


def test_stages_after_the_last_one_asked_for_are_not_built() -> None:
    network = a_resnet(out_features=("res3",))
    assert list(network(torch.zeros(1, 3, 32, 32))) == ["res3"]
    assert not any(name.startswith(("res4", "res5")) for name in network.state_dict())


@pytest.mark.parametrize(("in_1x1", "expected"), [(True, ((2, 2), (1, 1))), (False, ((1, 1), (2, 2)))])
def test_where_the_stride_sits(in_1x1: bool, expected: tuple[tuple[int, int], tuple[int, int]]) -> None:
    network = a_resnet(**BOTTLENECK, stride_in_1x1=in_1x1)
    first = network.get_submodule("res3.0")
    assert (first.conv1.stride, first.conv2.stride) == expected
    assert first.shortcut.stride == (2, 2)
    second = network.get_submodule("res3.1")
    assert (second.conv1.stride, second.conv2.stride, second.shortcut) == ((1, 1), (1, 1), None)
    assert network.get_submodule("res2.0").conv2.stride == (1, 1)


def test_dilation_keeps_the_last_stage_as_fine_as_the_one_before() -> None:
    network = a_resnet(**BOTTLENECK, res5_dilation=2).eval()
    with torch.no_grad():
        features = network(torch.zeros(1, 3, 64, 64))
    assert features["res5"].shape[-2:] == features["res4"].shape[-2:] == (4, 4)
    assert [(b.conv2.dilation, b.conv2.padding) for b in network.get_submodule("res5")] == [((2, 2), (2, 2))] * 3
    assert {b.conv2.dilation for b in network.get_submodule("res4")} == {(1, 1)}
    assert {m.stride for m in network.get_submodule("res5").modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


def test_dilated_features_equal_torchvisions() -> None:
    """Apart from the first block: torchvision dilates it only from the next stage on, Detectron2 at once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, False, True]).eval()
        x = torch.randn(1, 3, 64, 64)
    ours = a_resnet(depth=50, stem_channels=64, res2_channels=256, width_per_group=64, res5_dilation=2).eval()
    tensors = theirs.state_dict()
    ours.load_state_dict({name: tensors[torchvision_name(name)] for name in ours.state_dict()})
    first = theirs.layer4[0].conv2
    assert first.dilation == (1, 1)
    first.dilation = first.padding = (2, 2)
    with torch.no_grad():
        assert_close(ours(x), torchvision_features(theirs, x), rtol=1e-4, atol=1e-4)


def test_the_stem_is_a_feature_too() -> None:
    network = a_resnet(out_features=("stem", "res3")).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = network(x)
        assert list(features) == ["stem", "res3"]
        assert features["stem"].shape == (1, 8, 16, 24)
        assert_close(features["stem"], network.stem(x))


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_names_of_resnet_18() -> None:
    names = set(a_resnet().state_dict())
    stem = {"stem.conv1.weight", *(f"stem.conv1.norm.{part}" for part in NORM)}
    assert stem <= names
    assert {"res2.0.conv1.weight", "res2.1.conv2.norm.bias", "res3.0.shortcut.weight", "res5.1.conv2.weight"} <= names
    assert not {"res2.0.shortcut.weight", "res2.0.conv3.weight", "res2.2.conv1.weight", "stem.conv1.bias"} & names


def test_names_and_shapes_of_resnet_50() -> None:
    shapes = {name: tuple(value.shape) for name, value in a_resnet(**BOTTLENECK).state_dict().items()}
    assert shapes["res2.0.shortcut.weight"] == (16, 8, 1, 1)
    assert shapes["res2.0.conv1.weight"] == (4, 8, 1, 1)
    assert shapes["res2.2.conv3.weight"] == (16, 4, 1, 1)
    assert shapes["res4.5.conv2.weight"] == (16, 16, 3, 3)
    assert shapes["res5.2.conv3.norm.running_var"] == (128,)
    assert "res2.1.shortcut.weight" not in shapes
    assert "res4.6.conv1.weight" not in shapes


def test_groups_of_resnext() -> None:
    shapes = {k: tuple(v.shape) for k, v in a_resnet(**BOTTLENECK, groups=4, width_per_group=2).state_dict().items()}
    assert shapes["res2.0.conv2.weight"] == (8, 2, 3, 3)
    assert shapes["res5.0.conv2.weight"] == (64, 16, 3, 3)


@pytest.mark.parametrize("at", range(6))
def test_freeze_stops_the_stem_and_exactly_the_stages_before(at: int) -> None:
    network = a_resnet()
    network.freeze(at)
    parts = ("stem", *STAGES)
    for index, part in enumerate(parts, start=1):
        module = network.get_submodule(part)
        assert {p.requires_grad for p in module.parameters()} == {at < index}, part
        kind = FrozenBatchNorm2d if at >= index else nn.BatchNorm2d
        assert {type(m) for m in module.modules() if "Norm" in type(m).__name__} == {kind}, part


def test_frozen_stages_keep_their_numbers_in_training() -> None:
    network = a_resnet()
    network.freeze(2)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(2, 3, 64, 64))["res5"].sum().backward()
    after = network.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"res3", "res4", "res5"}  # running statistics
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"res3", "res4", "res5"}
