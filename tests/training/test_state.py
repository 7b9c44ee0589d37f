"""Checkpoints: Detectron2's structure, whole or absent, and everything that a run needs to go on."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sightline import storage
from sightline.errors import CheckpointError
from sightline.training.state import FINAL, LAST, TrainingState, last_checkpoint, resume, save_checkpoint


def a_model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def an_optimizer(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": list(model.parameters()), "initial_lr": lr}], lr=lr, momentum=0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 2)).square().sum().backward()
    optimizer.step()


def saved(folder: Path, name: str = FINAL, steps: int = 3) -> tuple[nn.Module, torch.optim.SGD]:
    model = a_model()
    optimizer = an_optimizer(model)
    for _ in range(steps):
        step(model, optimizer)
    save_checkpoint(folder, name, model, optimizer, TrainingState(steps))
    return model, optimizer


def test_the_structure_is_detectron2s(tmp_path: Path) -> None:
    model, _ = saved(tmp_path)
    content = torch.load(tmp_path / FINAL, weights_only=True)
    assert {"model", "optimizer", "scheduler", "iteration"} <= set(content)
    assert (content["iteration"], content["scheduler"]["last_epoch"]) == (2, 3)
    assert_close(dict(content["model"]), dict(model.state_dict()))
    assert set(content["optimizer"]) == {"state", "param_groups"}
    assert (tmp_path / LAST).read_text(encoding="utf-8") == FINAL


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    for _ in range(2):
        step(model, optimizer)
    torch.manual_seed(99)  # another process
    again = a_model()
    again_optimizer = an_optimizer(again)
    state = resume(tmp_path / FINAL, again, again_optimizer)
    assert state == TrainingState(3)
    for _ in range(2):
        step(again, again_optimizer)
    assert_close(dict(again.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_the_configuration_decides_the_rate_after_a_resume(tmp_path: Path) -> None:
    """config.yaml tells the new rate, so the new one must act; the momenta are the past's."""
    _, before = saved(tmp_path)
    model = a_model()
    optimizer = an_optimizer(model, lr=0.01)
    resume(tmp_path / FINAL, model, optimizer)
    assert optimizer.param_groups[0]["initial_lr"] == optimizer.param_groups[0]["lr"] == 0.01
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert_close(momenta, [state["momentum_buffer"] for state in before.state.values()])


def test_last_checkpoint_follows_the_newest(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    saved(tmp_path, "model_0000001.pth")
    saved(tmp_path, "model_0000003.pth")
    assert last_checkpoint(tmp_path) == tmp_path / "model_0000003.pth"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_is_cut_off_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    model, _ = saved(tmp_path, "model_0000001.pth")

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((storage.os, "fsync", fail) if failing == "fsync" else (Path, "replace", fail)))
        with pytest.raises(OSError, match="No space left"):
            saved(tmp_path, "model_0000003.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "model_0000001.pth"]
    found = last_checkpoint(tmp_path)
    assert found is not None
    fresh = a_model()
    resume(found, fresh, an_optimizer(fresh))
    assert_close(dict(fresh.state_dict()), dict(model.state_dict()))


def test_a_pointer_to_nothing(tmp_path: Path) -> None:
    (tmp_path / LAST).write_text("model_0000009.pth\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"last_checkpoint: names model_0000009\.pth, which is not there\. Restore"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [{"model": a_model().state_dict()}, {"model": {}, "optimizer": {}, "iteration": "x"}])
def test_weights_alone_are_nothing_to_resume_from(tmp_path: Path, content: dict[str, object]) -> None:
    torch.save(content, tmp_path / FINAL)
    model = a_model()
    with pytest.raises(CheckpointError, match=r"holds weights only\. Start from it with --weights instead of --resume\."):
        resume(tmp_path / FINAL, model, an_optimizer(model))


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    saved(tmp_path)
    other = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(3))
    with pytest.raises(
        CheckpointError, match=r"tensor '0\.weight' has shape \[3, 2\], the model needs \[4, 2\]\. Give"
    ) as caught:
        resume(tmp_path / FINAL, other, an_optimizer(other))
    assert [problem.what for problem in caught.value.problems][2:] == [
        "tensor '2.weight' has no place in the model",
        "tensor '2.bias' has no place in the model",
    ]


@pytest.mark.parametrize("optimizer", ["text", {}, {"state": {}, "param_groups": []}], ids=["text", "empty", "no groups"])
def test_an_optimizer_that_is_none(tmp_path: Path, optimizer: object) -> None:
    torch.save({"model": a_model().state_dict(), "optimizer": optimizer, "iteration": 1}, tmp_path / FINAL)
    model = a_model()
    with pytest.raises(CheckpointError, match="does not fit the configuration"):
        resume(tmp_path / FINAL, model, an_optimizer(model))


def test_detectron2s_own_checkpoint_without_random_states(tmp_path: Path) -> None:
    _, optimizer = saved(tmp_path)
    content = torch.load(tmp_path / FINAL, weights_only=True)
    del content["sightline"]
    torch.save(content, tmp_path / FINAL)
    assert resume(tmp_path / FINAL, a_model(), optimizer).step == 3
