"""The training loop. Everything optional is a hook; everything that must survive a kill is in `TrainingState`."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from torch import Tensor

from sightline.dataset.loader import Example
from sightline.training.learner import Learner
from sightline.training.state import TrainingState

Losses = Mapping[str, Tensor]


class Hook(Protocol):
    """Something to do after every step."""

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None: ...


def train(
    learner: Learner, batches: Iterator[list[Example]], *, state: TrainingState, hooks: Iterable[Hook], steps: int
) -> None:
    """Train until `state.step == steps`, or until a hook gives the run another ending."""
    began = time.perf_counter()
    before = state.seconds
    asked = began
    for batch in islice(batches, 0 if state.ending else max(steps - state.step, 0)):
        state.waited = time.perf_counter() - asked
        losses = learner.step(batch, state.step)
        state.step += 1
        state.seconds = before + time.perf_counter() - began
        for hook in hooks:
            hook.after_step(state, losses, batch)
        if state.ending:
            return
        asked = time.perf_counter()
