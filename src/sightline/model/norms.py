"""Normalisation layers by Detectron2's names, and the convolution that carries its norm, so that state dicts agree."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

EPSILON = 1e-5

GROUPS = 32
"""Of a group norm (arXiv:1803.08494); its channels are a multiple of it."""


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine numbers are constants: y = (x - mean) / sqrt(var + eps) * weight + bias.

    Starts as (nearly) the identity; real numbers come from a checkpoint.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - EPSILON)

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), each (C,): y = x * scale + shift."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            # F.batch_norm would keep activations for gradients that its constants don't need.
            scale, shift = self.affine()
            return torch.addcmul(shift.to(x.dtype)[:, None, None], x, scale.to(x.dtype)[:, None, None])
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=EPSILON)


def make_norm(name: str, channels: int) -> nn.Module | None:
    """The layer that Detectron2's `NORM: name` means; None for "". SyncBN in one process is batch norm."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "BN": lambda: nn.BatchNorm2d(channels),
        "SyncBN": lambda: nn.BatchNorm2d(channels),
        "nnSyncBN": lambda: nn.BatchNorm2d(channels),
        "FrozenBN": lambda: FrozenBatchNorm2d(channels),
        "GN": lambda: nn.GroupNorm(GROUPS, channels),
    }
    return makers[name]() if name else None


def frozen(module: nn.Module) -> nn.Module:
    """`module` with no parameter that learns and every batch norm in it made constant, as Detectron2's FREEZE_AT does."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    return with_frozen_norms(module)


def with_frozen_norms(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        constant = FrozenBatchNorm2d(module.num_features)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(constant, name).copy_(getattr(module, name).detach())
        return constant
    for name, child in module.named_children():
        setattr(module, name, with_frozen_norms(child))
    return module


class Conv(nn.Conv2d):
    """A convolution, its norm (state-dict name `.norm`) and its activation. Without a norm it has a bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        norm: str = "",
        relu: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups, bias=norm == ""
        )
        self.norm = make_norm(norm, out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, FrozenBatchNorm2d) and self.folds(x):
            scale, shift = self.norm.affine()
            x = self._conv_forward(x, self.weight * scale[:, None, None, None], shift)
        else:
            x = super().forward(x)
            if self.norm is not None:
                x = self.norm(x)
        return F.relu_(x) if self.relu else x

    def folds(self, x: Tensor) -> bool:
        """Whether to multiply a constant norm into the weights: a pass over them instead of one over the answer.

        That is 3 % of a prediction on the CPU. Done anew every time: what is kept would have to follow every load and move.
        Training gains nothing by it and keeps Detectron2's order of roundings.
        """
        cells = x.shape[0] * (x.shape[-2] // self.stride[0]) * (x.shape[-1] // self.stride[1])
        return not torch.is_grad_enabled() and cells > self.weight[0].numel()


def fill_msra(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """He initialisation by fan out (arXiv:1502.01852), biases zero: what Caffe2 and Detectron2 call MSRA fill."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def fill_xavier(layer: nn.Conv2d | nn.Linear) -> None:
    """Caffe2's XavierFill: uniform within sqrt(3 / fan in), biases zero."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def fill_normal(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    """Normal with `std`, biases zero: what the detection heads' last layers start from."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
