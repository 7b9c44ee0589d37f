"""Mixed precision: which numbers a forward pass computes in, and the scaling that half precision needs."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from sightline.errors import ConfigError

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """float32, or autocast to `kind` ("bf16", "fp16", "auto"). Weights stay float32; fp16 scales its losses (arXiv:1710.03740).

    Raises:
        ConfigError: no such kind.
    """

    def __init__(self, *, enabled: bool, kind: str, device: torch.device) -> None:
        if kind not in ("auto", *TYPES):
            raise ConfigError("--precision", f"is {kind!r}", f"Choose from auto, {', '.join(TYPES)}.")
        self.enabled, self.device = enabled, device
        self.type = chosen_type(kind, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=enabled and self.type is torch.float16)

    def __str__(self) -> str:
        return str(self.type).removeprefix("torch.") if self.enabled else "float32"

    def forward(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, self.type) if self.enabled else nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        clip: Callable[[Iterable[nn.Parameter]], None],
        parameters: Iterable[nn.Parameter],
    ) -> None:
        """Clip the true gradients and take a step; fp16 leaves out one whose gradients overflowed, and scales less."""
        self.scaler.unscale_(optimizer)
        clip(parameters)
        self.scaler.step(optimizer)
        self.scaler.update()


def chosen_type(kind: str, device: torch.device) -> torch.dtype:
    """ "auto" is bf16, whose range needs no scaling, where the device computes in it; older GPUs have fp16 only."""
    if kind == "auto":
        return torch.float16 if device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
    return TYPES[kind]
