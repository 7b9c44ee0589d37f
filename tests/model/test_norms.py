"""Norms by Detectron2's names; constant ones compute what torch's batch norm computes in evaluation."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sightline.model.norms import Conv, FrozenBatchNorm2d, fill_msra, fill_normal, fill_xavier, frozen, make_norm


def a_batch_norm(channels: int = 5) -> nn.BatchNorm2d:
    """With numbers that are far from the identity."""
    norm = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(0)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor, generator=generator)
    nn.init.uniform_(norm.running_var, 0.1, 3, generator=generator)
    return norm


@pytest.mark.parametrize("gradient", [False, True], ids=["prediction", "training"])
def test_frozen_batch_norm_is_batch_norm_in_evaluation(gradient: bool) -> None:
    norm = a_batch_norm().eval()
    constant = FrozenBatchNorm2d(5)
    constant.load_state_dict({name: value for name, value in norm.state_dict().items() if name != "num_batches_tracked"})
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1), requires_grad=gradient)
    assert_close(constant(x), norm(x))
    if gradient:
        (ours,) = torch.autograd.grad(constant(x).square().sum(), x)
        (theirs,) = torch.autograd.grad(norm(x).square().sum(), x)
        assert_close(ours, theirs)


def test_frozen_batch_norm_stays_constant_in_training_mode() -> None:
    constant = FrozenBatchNorm2d(3).train()
    before = {name: value.clone() for name, value in constant.state_dict().items()}
    constant(torch.randn(4, 3, 8, 8) * 9 + 5)
    assert_close(dict(constant.state_dict()), before)
    assert list(constant.parameters()) == []


def test_a_fresh_frozen_batch_norm_is_the_identity() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert_close(FrozenBatchNorm2d(3)(x), x)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.BatchNorm2d),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", nn.GroupNorm),
        ("", type(None)),
    ],
)
def test_norms_by_name(name: str, kind: type) -> None:
    assert type(make_norm(name, 64)) is kind


def test_group_norm_has_32_groups() -> None:
    norm = make_norm("GN", 64)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 32


def test_freezing_keeps_the_numbers_and_stops_learning() -> None:
    block = nn.Sequential(Conv(3, 4, 3, norm="BN"), nn.Sequential(nn.ReLU(), Conv(4, 4, 1)))
    inner = block[0].norm
    assert isinstance(inner, nn.BatchNorm2d)
    nn.init.normal_(inner.running_mean)
    x = torch.randn(2, 3, 6, 6)
    expected = block.eval()(x)
    stopped = frozen(block).train()
    assert_close(stopped(x), expected)
    assert not any(parameter.requires_grad for parameter in stopped.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in stopped.modules())


def test_freezing_a_norm_itself() -> None:
    norm = a_batch_norm().eval()
    x = torch.randn(1, 5, 2, 2)
    assert_close(frozen(norm)(x), norm(x))


def test_a_convolution_has_a_bias_only_without_norm() -> None:
    assert Conv(3, 4, 1, norm="BN").bias is None
    assert Conv(3, 4, 1).bias is not None
    assert set(Conv(3, 4, 1, norm="FrozenBN").state_dict()) == {
        "weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    }  # fmt: skip


def test_convolution_then_norm_then_relu() -> None:
    conv = Conv(1, 1, 1, norm="FrozenBN", relu=True)
    nn.init.constant_(conv.weight, 2.0)
    assert isinstance(conv.norm, FrozenBatchNorm2d)
    conv.norm.bias.fill_(-3.0)
    assert_close(conv(torch.tensor([[[[1.0, 2.0]]]])), torch.tensor([[[[0.0, 1.0]]]]))


def test_fills() -> None:
    """Standard deviations: MSRA sqrt(2 / fan out), Xavier sqrt(3 / fan in) / sqrt(3), normal as asked; biases 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Conv2d(64, 128, 3)
        fill_msra(layer)
        assert_close(layer.weight.std().item(), (2 / (128 * 9)) ** 0.5, rtol=0.02, atol=0)
        fill_xavier(layer)
        assert_close(layer.weight.std().item(), (1 / (64 * 9)) ** 0.5, rtol=0.02, atol=0)
        assert layer.weight.abs().max() <= (3 / (64 * 9)) ** 0.5
        fill_normal(layer, std=0.01)
        assert_close(layer.weight.std().item(), 0.01, rtol=0.02, atol=0)
        assert layer.bias is not None
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("side", [2, 12], ids=["norm after the convolution", "norm within its weights"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_constant_norm_is_the_same_wherever_it_is_applied(side: int, stride: int) -> None:
    """Small pictures have fewer cells than the layer has weights a channel, large ones have more."""
    layer = Conv(4, 5, 3, stride=stride, padding=1, norm="FrozenBN", relu=True)
    norm = a_batch_norm().eval()
    layer.norm.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})  # type: ignore[union-attr]
    x = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))
    assert not layer.folds(x)  # with gradients
    with torch.no_grad():
        assert layer.folds(x) == (side == 12)
        expected = norm(nn.functional.conv2d(x, layer.weight, stride=stride, padding=1)).relu()
        assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_norm_within_the_weights_follows_what_is_loaded() -> None:
    layer = Conv(2, 5, 1, norm="FrozenBN").eval()
    x = torch.ones(1, 2, 8, 8)
    assert layer.folds(x)
    before = layer(x)
    layer.load_state_dict(layer.state_dict() | {"norm.bias": torch.full((5,), 3.0)})
    assert_close(layer(x), before + 3)
