"""The training loop. Everything optional is a hook; everything that must survive a kill is in `TrainingState`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn

from sightline.dataset.loader import Example
from sightline.model.instances import Targets
from sightline.training.optimizer import Clip
from sightline.training.state import TrainingState

Losses = Mapping[str, Tensor]


class Hook(Protocol):
    """Something to do after every step."""

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None: ...


def train(
    model: nn.Module,
    batches: Iterator[list[Example]],
    *,
    optimizer: torch.optim.Optimizer,
    factor: Callable[[int], float],
    clip: Clip,
    state: TrainingState,
    hooks: Iterable[Hook],
    steps: int,
) -> None:
    """Train until `state.step == steps`. factor: step -> factor on every group's `initial_lr`."""
    model.train()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for batch in islice(batches, max(steps - state.step, 0)):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor(state.step)
        targets = [Targets(example.boxes, example.labels, example.masks) for example in batch]
        losses: Losses = model([example.image for example in batch], targets)
        optimizer.zero_grad()
        torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        clip(parameters)
        optimizer.step()
        state.step += 1
        for hook in hooks:
            hook.after_step(state, losses, batch)
