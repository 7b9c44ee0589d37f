"""Convolutions rebuilt for prediction compute what the layers compute that they were made of."""

import pytest
import torch
from torch import Tensor, nn

from sightline.model.fast_convs import POINTS, FoldedConv, NormedConv, PointwiseConv, WinogradConv, fast_conv, winograd
from sightline.model.norms import Conv
from sightline.model.workspace import Workspace

ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


def a_layer(width_in: int, width_out: int, kernel: int, norm: str, **facts: int | bool) -> Conv:
    """With norms that are far from the identity."""
    torch.manual_seed(0)
    layer = Conv(width_in, width_out, kernel, norm=norm, **facts).eval()  # type: ignore[arg-type]
    nn.init.kaiming_normal_(layer.weight)
    with torch.no_grad():
        for tensor in (*layer.norm.parameters(), *layer.norm.buffers()) if layer.norm is not None else ():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return layer


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


KINDS = [
    pytest.param(64, 64, 3, {"padding": 1}, WinogradConv, id="3x3"),
    pytest.param(64, 96, 3, {"padding": 1, "relu": True}, WinogradConv, id="3x3 to another width"),
    pytest.param(8, 8, 3, {"padding": 1, "relu": True}, FoldedConv, id="3x3 narrow"),
    pytest.param(64, 64, 3, {"padding": 1, "stride": 2}, FoldedConv, id="3x3 with a stride"),
    pytest.param(64, 64, 3, {"padding": 2, "dilation": 2}, FoldedConv, id="3x3 dilated"),
    pytest.param(64, 64, 3, {"padding": 1, "groups": 4}, FoldedConv, id="3x3 in groups"),
    pytest.param(16, 32, 1, {"relu": True}, PointwiseConv, id="1x1"),
    pytest.param(16, 32, 1, {"stride": 2}, PointwiseConv, id="1x1 with a stride"),
    pytest.param(3, 8, 7, {"stride": 2, "padding": 3, "relu": True}, FoldedConv, id="7x7"),
]


@pytest.mark.parametrize("norm", ["", "FrozenBN", "BN"])
@pytest.mark.parametrize(("width_in", "width_out", "kernel", "facts", "kind"), KINDS)
def test_a_layer_and_its_fast_form_agree(
    width_in: int, width_out: int, kernel: int, facts: dict[str, int], kind: type, norm: str
) -> None:
    layer = a_layer(width_in, width_out, kernel, norm, **facts)
    fast = fast_conv(layer, Workspace(), torch.float32)
    assert type(fast) is kind
    for shape in ((2, width_in, 9, 13), (1, width_in, 8, 8), (3, width_in, 1, 1)):
        x = numbers(*shape)
        before = x.clone()
        with torch.inference_mode():
            torch.testing.assert_close(fast(x), layer(x), **ROUNDING)
            torch.testing.assert_close(fast(x.contiguous(memory_format=torch.channels_last)), layer(x), **ROUNDING)
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("width_in", "width_out", "kernel", "facts", "kind"), [kind for kind in KINDS if kind.id in ("3x3", "3x3 narrow", "1x1")]
)
def test_what_is_added_comes_before_the_relu(
    width_in: int, width_out: int, kernel: int, facts: dict[str, int], kind: type
) -> None:
    layer = a_layer(width_in, width_out, kernel, "FrozenBN", **(facts | {"relu": False}))
    fast = fast_conv(layer, Workspace(), torch.float32)
    fast.relu = True
    x, onto = numbers(2, width_in, 6, 7), numbers(2, width_out, 6, 7)
    with torch.inference_mode():
        wanted = (layer(x) + onto).relu()
        torch.testing.assert_close(fast(x, onto.clone(memory_format=torch.channels_last)), wanted, **ROUNDING)
        torch.testing.assert_close(fast(x, onto.clone()), wanted, **ROUNDING)


def test_a_norm_that_depends_on_the_picture_stays() -> None:
    layer = a_layer(64, 64, 3, "GN", padding=1, relu=True)
    fast = fast_conv(layer, Workspace(), torch.float32)
    assert isinstance(fast, NormedConv)
    x = numbers(1, 64, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), layer(x), **ROUNDING)


def test_many_strips_and_many_small_pictures_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = a_layer(64, 64, 3, "FrozenBN", padding=1)
    one = fast_conv(a_layer(64, 64, 1, "FrozenBN"), Workspace(), torch.float32)
    fast, x = fast_conv(layer, Workspace(), torch.float32), numbers(3, 64, 22, 21)
    with torch.inference_mode():
        wanted = fast(x), one(x)
        monkeypatch.setattr("sightline.model.fast_convs.TILES", 7)
        monkeypatch.setattr("sightline.model.fast_convs.STRIP_BYTES", 1 << 16)
        torch.testing.assert_close((fast(x), one(x)), wanted, **ROUNDING)
        torch.testing.assert_close(fast(x), layer(x), **ROUNDING)


def test_winograd_is_a_convolution_in_exact_arithmetic() -> None:
    answers, kernel, tiles = (torch.from_numpy(matrix) for matrix in winograd(POINTS))
    filter_, line = torch.tensor([2.0, -3.0, 5.0]).double(), torch.arange(6.0).double() ** 2
    found = answers @ ((kernel @ filter_) * (tiles @ line))
    torch.testing.assert_close(found, torch.stack([(line[i : i + 3] * filter_).sum() for i in range(4)]))


def test_it_rounds_hardly_more_than_a_direct_convolution() -> None:
    layer = a_layer(256, 256, 3, "", padding=1)
    fast, x = fast_conv(layer, Workspace(), torch.float32), numbers(1, 256, 16, 16).relu()
    with torch.inference_mode():
        found, wanted = fast(x), layer.double()(x.double())
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 5e-6
