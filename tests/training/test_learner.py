"""One training step: parts of a batch, mixed precision, the running mean, and what a checkpoint keeps of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from builders import MASKS, PROPOSALS_ONLY, RETINANET, a_config, a_detector, a_learner, a_run, overrides
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.dataset.loader import Example
from sightline.training.ema import Ema
from sightline.training.learner import Learner, split
from sightline.training.optimizer import build_optimizer
from sightline.training.precision import Precision
from sightline.training.settings import Settings
from sightline.training.state import FINAL, TrainingState, resume, save_checkpoint

CPU = torch.device("cpu")
EVERY_ANCHOR = PROPOSALS_ONLY + overrides(
    """
    MODEL.RPN.BATCH_SIZE_PER_IMAGE 100000  MODEL.RPN.LOSS_WEIGHT 300.0  MODEL.RPN.POSITIVE_FRACTION 1.0
    MODEL.RESNETS.NORM FrozenBN  MODEL.FPN.NORM ""  SOLVER.BASE_LR 0.1
    """
)
"""Losses that are means over pictures, without a random choice and without statistics of a batch."""


def an_example(number: int, masks: bool = False) -> Example:
    """A 64 x 64 picture with one object."""
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
    boxes = torch.tensor([[8.0, 8.0, 30.0 + number, 40.0]])
    bitmap = torch.zeros(64, 64, dtype=torch.bool)
    bitmap[8:40, 8 : 30 + number] = True
    known = (bitmap.numpy(),) if masks else None
    return Example(image, boxes, torch.tensor([number % 2]), f"{number}.png", known)


def after(steps: int, batch: Sequence[Example], *keys: str, **options: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights, the last step's losses) of a tiny detector."""
    detector = a_detector(*keys)
    learner = a_learner(detector, build_optimizer(detector, a_config(*keys).solver), **options)
    for number in range(steps):
        losses = learner.step(batch, number)
    return dict(detector.state_dict()), losses


@pytest.mark.parametrize("parts", [2, 3, 4, 9])
def test_a_batch_in_parts_is_learned_like_one(parts: int) -> None:
    """Losses are means over pictures, so parts of other sizes count for as many pictures as they have."""
    batch = [an_example(number) for number in range(4)]
    whole, losses = after(3, batch, *EVERY_ANCHOR)
    divided, of_parts = after(3, batch, *EVERY_ANCHOR, accumulate=parts)
    assert_close(divided, whole, rtol=1e-4, atol=1e-6)
    assert_close(of_parts, losses, rtol=1e-4, atol=1e-6)
    begun = a_detector(*EVERY_ANCHOR).state_dict()
    assert max((whole[name] - begun[name]).abs().max().item() for name in whole) > 1e-3, "they have learned"


@given(count=st.integers(1, 40), parts=st.integers(1, 50))
def test_parts_are_all_of_the_batch_and_differ_by_one(count: int, parts: int) -> None:
    batch = [an_example(0)] * count
    sizes = [len(part) for part in split(batch, parts)]
    assert sum(sizes) == count
    assert len(sizes) == min(parts, count)
    assert 0 <= max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


class Line(nn.Module):
    """One weight, whose loss is the weight itself, and a norm that counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.tensor(5.0), requires_grad=False)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, images: Sequence[Tensor], targets: object) -> dict[str, Tensor]:
        self.count += 1
        return {"loss": self.weight * 1.0}


def a_line(decay: float = 0.0) -> tuple[Line, Learner]:
    model = Line()
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.5}], lr=0.5)
    return model, a_learner(model, optimizer, ema=Ema(model, decay) if decay else None)


def test_the_running_mean_follows_every_step() -> None:
    """Weights 1, 0.5, 0, -0.5; kept are 1/10 and 2/11 of the mean in the first steps, then the decay, 0.2 < 3/12."""
    model, learner = a_line(0.2)
    for number in range(3):
        learner.step([an_example(0)], number)
    first = 0.1 * 1.0 + 0.9 * 0.5
    second = 2 / 11 * first + 9 / 11 * 0.0
    third = 0.2 * second + 0.8 * -0.5
    assert model.weight.item() == -0.5
    with learner.evaluated() as detector:
        assert_close(detector.weight.item(), third)
        assert detector.count.item() == 3
    assert model.weight.item() == -0.5


def test_without_a_running_mean_the_weights_themselves_are_evaluated() -> None:
    model, learner = a_line()
    learner.step([an_example(0)], 0)
    with learner.evaluated() as detector:
        assert detector is model
    assert model.weight.item() == 0.5


def test_the_rate_is_the_schedules() -> None:
    model = Line()
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.5}], lr=9.0)
    learner = a_learner(model, optimizer, factor=lambda step: 1 / (1 + step))
    learner.step([an_example(0)], 1)
    assert (optimizer.param_groups[0]["lr"], model.weight.item()) == (0.25, 0.75)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("keys", [(), MASKS, RETINANET], ids=["faster", "mask", "retinanet"])
def test_mixed_precision_learns_much_the_same(kind: str, keys: tuple[str, ...]) -> None:
    batch = [an_example(number, masks=keys is MASKS) for number in range(2)]
    torch.manual_seed(0)
    _, exact = after(3, batch, *keys)
    torch.manual_seed(0)
    state, losses = after(3, batch, *keys, precision=Precision(enabled=True, kind=kind, device=CPU))
    assert losses.keys() == exact.keys()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in state.values())
    total, expected = (sum(value.item() for value in found.values()) for found in (losses, exact))
    assert total == pytest.approx(expected, rel=0.2)


def a_scaled(growth: int) -> Learner:
    """A learner in fp16 whose loss scale doubles every `growth` steps."""
    model = Line()
    optimizer = torch.optim.SGD([{"params": [model.weight], "initial_lr": 0.5}], lr=0.5)
    precision = Precision(enabled=True, kind="fp16", device=CPU)
    precision.scaler.set_growth_interval(growth)
    return a_learner(model, optimizer, precision=precision)


def test_the_loss_scale_goes_on_after_a_resume(tmp_path: Path) -> None:
    learner = a_scaled(growth=2)
    for number in range(3):
        learner.step([an_example(0)], number)
    scale = learner.precision.scaler.get_scale()
    assert scale == 2 * 65536
    path = save_checkpoint(tmp_path, FINAL, learner, TrainingState(3))
    again = a_scaled(growth=2)
    resume(path, again)
    assert again.precision.scaler.get_scale() == scale
    again.step([an_example(0)], 3)  # the second since it grew
    assert again.precision.scaler.get_scale() == 2 * scale


def test_gradients_are_unscaled_before_they_are_clipped() -> None:
    learner = a_scaled(growth=100)
    seen = []
    learner.clip = lambda parameters: seen.extend(parameter.grad.item() for parameter in parameters)
    learner.step([an_example(0)], 0)
    assert seen == [1.0]


def test_a_step_that_overflows_is_left_out() -> None:
    learner = a_scaled(growth=100)
    weight = learner.parameters[0]
    learner.clip = lambda parameters: weight.grad.fill_(float("inf"))
    learner.precision.scaler.unscale_ = lambda optimizer: type(learner.precision.scaler).unscale_(
        learner.precision.scaler, overflowing(optimizer, weight)
    )
    learner.step([an_example(0)], 0)
    assert weight.item() == 1.0
    assert learner.precision.scaler.get_scale() == 65536 / 2


def overflowing(optimizer: torch.optim.Optimizer, weight: Tensor) -> torch.optim.Optimizer:
    assert weight.grad is not None
    weight.grad.fill_(float("inf"))
    return optimizer


def test_a_run_with_a_running_mean_resumes_bit_by_bit(tmp_path: Path) -> None:
    """What is kept as the model is the mean; what goes on learning are the weights themselves."""
    settings = Settings(ema=0.9, accumulate=2, channels_last=True)
    whole = a_run(tmp_path / "whole", "SOLVER.CHECKPOINT_PERIOD", "2", settings=settings)
    content = torch.load(whole.checkpoint, weights_only=True)
    assert not torch.equal(
        content["model"]["backbone.fpn_lateral3.weight"], content["sightline"]["learning"]["backbone.fpn_lateral3.weight"]
    )
    (whole.folder / FINAL).unlink()
    (whole.folder / "last_checkpoint").write_text("model_0000001.pth", encoding="utf-8")
    torch.manual_seed(99)  # another process
    again = torch.load(a_run(whole.folder, settings=settings, resuming=True).checkpoint, weights_only=True)
    assert_close(dict(again["model"]), dict(content["model"]), rtol=0, atol=0)
    assert_close(dict(again["sightline"]["learning"]), dict(content["sightline"]["learning"]), rtol=0, atol=0)
