"""The loop: rate, losses, backward, clip, step, hooks, in that order, until the last step."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from builders import a_learner
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.dataset.loader import Example
from sightline.model.instances import Targets
from sightline.training.loop import train
from sightline.training.state import TrainingState


class Line(nn.Module):
    """One weight; its losses are weight x the picture's mean, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.seen: list[tuple[int, list[Targets]]] = []

    def forward(self, images: Sequence[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        self.seen.append((len(images), targets))
        mean = torch.stack([image.float().mean() for image in images]).mean()
        return {"loss_a": self.weight * mean, "loss_b": self.weight * mean}


class Watch:
    """A hook that notes what it is given."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.notes: list[tuple[int, float, float, int]] = []

    def after_step(self, state: TrainingState, losses: Mapping[str, Tensor], batch: Sequence[Example]) -> None:
        total = sum(loss.item() for loss in losses.values())
        self.notes.append((state.step, self.optimizer.param_groups[0]["lr"], total, len(batch)))


def some_batches(taken: list[int] | None = None) -> Iterator[list[Example]]:
    number = 0
    while True:
        number += 1
        if taken is not None:
            taken.append(number)
        boxes, labels = torch.zeros(1, 4), torch.ones(1, dtype=torch.int64)
        yield [Example(torch.ones(3, 2, 2), boxes, labels, f"{number}.jpg")] * 2


def run(steps: int, state: TrainingState, clip: float | None = None) -> tuple[Line, Watch, list[int]]:
    model, taken = Line().eval(), list[int]()
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.1}], lr=0.1)
    watch = Watch(optimizer)

    def limit(parameters: object) -> None:
        if clip is not None:
            nn.utils.clip_grad_value_(list(parameters), clip)  # type: ignore[call-overload]

    learner = a_learner(model, optimizer, factor=lambda step: 1.0 / (step + 1), clip=limit)
    train(learner, some_batches(taken), state=state, hooks=(watch,), steps=steps)
    return model, watch, taken


def test_steps_by_hand() -> None:
    """Gradient 2 (two losses, mean 1): weight 1 -> 0.8 at rate 0.1 -> 0.7 at 0.05. Hooks see the losses before the step."""
    state = TrainingState()
    model, watch, _ = run(2, state)
    assert_close(model.weight.item(), 0.7)
    assert_close(watch.notes, [(1, 0.1, 2.0, 2), (2, 0.05, 1.6, 2)])
    assert state.step == 2
    assert model.training


def test_clipping_comes_between_gradient_and_step() -> None:
    assert_close(run(1, TrainingState(), clip=0.5)[0].weight.item(), 1 - 0.1 * 0.5)


def test_the_model_gets_pictures_and_truth() -> None:
    model, _, _ = run(1, TrainingState())
    ((count, targets),) = model.seen
    assert count == 2
    assert_close((targets[0].boxes, targets[0].labels), (torch.zeros(1, 4), torch.ones(1, dtype=torch.int64)))


def test_a_resumed_run_makes_only_the_steps_that_are_left() -> None:
    _, watch, taken = run(5, TrainingState(3))
    assert [step for step, _, _, _ in watch.notes] == [4, 5]
    assert_close([rate for _, rate, _, _ in watch.notes], [0.1 / 4, 0.1 / 5])
    assert len(taken) == 2


@pytest.mark.parametrize("done", [5, 7])
def test_a_finished_run_reads_nothing(done: int) -> None:
    state = TrainingState(done)
    _, watch, taken = run(5, state)
    assert (watch.notes, taken, state.step) == ([], [], done)


class Ending:
    """A hook that ends the run after its second step."""

    def after_step(self, state: TrainingState, losses: Mapping[str, Tensor], batch: Sequence[Example]) -> None:
        state.ending = "enough" if state.step == 2 else ""


def test_a_hook_ends_a_run_early() -> None:
    model = Line()
    learner = a_learner(model, torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.1}], lr=0.1))
    state = TrainingState()
    train(learner, some_batches(), state=state, hooks=(Ending(),), steps=9)
    assert (state.step, state.ending) == (2, "enough")
    assert state.seconds > 0
