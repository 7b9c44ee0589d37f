"""The running mean of the weights, which often scores better than the last weights themselves (arXiv:1703.01780)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """mean <- decay * mean + (1 - decay) * weights after every step. Norms' statistics are taken as they are.

    In the first steps the mean follows faster, by (1 + step) / (10 + step), so that it forgets the random beginning.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.mean = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After step number `step`, counted from 0."""
        kept = min(self.decay, (1 + step) / (10 + step))
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for name, value in model.state_dict().items():
            if name in learning:
                self.mean[name].lerp_(value, 1 - kept)
            else:
                self.mean[name].copy_(value)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """`model` with the mean for its weights, inside the block."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.mean)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state(self) -> dict[str, Tensor]:
        """The mean as a state dict."""
        return self.mean

    def load(self, mean: dict[str, Tensor]) -> None:
        for name, value in mean.items():
            self.mean[name].copy_(value)
