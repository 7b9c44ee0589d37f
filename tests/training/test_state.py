"""Checkpoints: Detectron2's structure, whole or absent, and everything that a run needs to go on."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import a_config, a_detector, a_learner
from torch import nn
from torch.testing import assert_close

from sightline import storage
from sightline.config.sources import load
from sightline.errors import CheckpointError, RunError
from sightline.model.build import build_detector
from sightline.training.optimizer import build_optimizer
from sightline.training.state import (
    FINAL,
    LAST,
    TrainingState,
    last_checkpoint,
    resume,
    save_checkpoint,
)

NARROW = ("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8")


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
    save_checkpoint(folder, name, a_learner(model, optimizer), TrainingState(steps))
    return model, optimizer


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_the_structure_is_that_of_detectron2s_trainer_and_of_its_plain_script(tmp_path: Path) -> None:
    model, _ = saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    schedule = {"base_lrs": [0.1], "last_epoch": 3}
    assert (content["iteration"], content["scheduler"]) == (2, schedule)
    trainer = content["trainer"]
    assert (trainer["iteration"], trainer["hooks"]) == (2, {"LRScheduler": schedule})
    assert trainer["_trainer"]["iteration"] == 2
    for optimizer in (content["optimizer"], trainer["_trainer"]["optimizer"]):
        assert set(optimizer) == {"state", "param_groups"}
        assert len(optimizer["state"]) == len(optimizer["param_groups"][0]["params"]) == 6
    assert_close(content["model"], dict(model.state_dict()))
    assert (tmp_path / LAST).read_text(encoding="utf-8") == FINAL


def test_torch_alone_goes_on_as_detectron2s_trainer_would(tmp_path: Path) -> None:
    """A fresh optimizer and schedule take what the file holds for them, and the next step is the one we would take."""
    model, optimizer = saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    again = a_model()
    again.load_state_dict(content["model"])
    theirs = torch.optim.SGD(again.parameters(), lr=9.0, momentum=0.5)
    theirs.load_state_dict(content["trainer"]["_trainer"]["optimizer"])
    schedule = torch.optim.lr_scheduler.LambdaLR(theirs, lambda step: 0.5)
    schedule.load_state_dict(schedule.state_dict() | content["trainer"]["hooks"]["LRScheduler"])
    assert (schedule.last_epoch, schedule.base_lrs) == (3, [0.1])
    theirs.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"]
    for net, steps in ((model, optimizer), (again, theirs)):
        torch.manual_seed(5)
        step(net, steps)
    assert_close(dict(again.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_the_momenta_are_named_twice_and_stored_once(tmp_path: Path) -> None:
    model = nn.Linear(300, 300)
    optimizer = an_optimizer(model)
    model(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    path = save_checkpoint(tmp_path, FINAL, a_learner(model, optimizer), TrainingState(1))
    once = 300 * 301 * 4  # bytes
    assert 2 * once < path.stat().st_size < 2.2 * once


def test_no_versions_of_our_modules_are_stored(tmp_path: Path) -> None:
    """By a version below 3 Detectron2's frozen norms would subtract epsilon from our running variances."""
    saved(tmp_path)
    assert type(content_of(tmp_path / FINAL)["model"]) is dict


def test_the_rate_in_the_file_is_that_of_the_next_step(tmp_path: Path) -> None:
    """Detectron2's first resumed step takes it as it stands there; ours is set anew by the schedule."""
    model = a_model()
    optimizer = an_optimizer(model)
    save_checkpoint(tmp_path, FINAL, a_learner(model, optimizer, factor=lambda step: 0.25), TrainingState())
    assert content_of(tmp_path / FINAL)["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.025)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path)
    for _ in range(2):
        step(model, optimizer)
    torch.manual_seed(99)  # another process
    again = a_model()
    again_optimizer = an_optimizer(again)
    state = resume(tmp_path / FINAL, a_learner(again, again_optimizer))
    assert state == TrainingState(3)
    for _ in range(2):
        step(again, again_optimizer)
    assert_close(dict(again.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_the_configuration_decides_the_rate_after_a_resume(tmp_path: Path) -> None:
    """config.yaml tells the new rate, so the new one must act; the momenta are the past's."""
    _, before = saved(tmp_path)
    model = a_model()
    optimizer = an_optimizer(model, lr=0.01)
    resume(tmp_path / FINAL, a_learner(model, optimizer))
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
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((storage.os, "fsync", fail) if failing == "fsync" else (Path, "replace", fail)))
        with pytest.raises(RunError, match=r"cannot be saved \(No space left.*Make room"):
            saved(tmp_path, "model_0000003.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "model_0000001.pth"]
    found = last_checkpoint(tmp_path)
    assert found is not None
    fresh = a_model()
    resume(found, a_learner(fresh, an_optimizer(fresh)))
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
        resume(tmp_path / FINAL, a_learner(model, an_optimizer(model)))


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    saved(tmp_path)
    other = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(3))
    with pytest.raises(
        CheckpointError, match=r"tensor '0\.weight' has shape \[3, 2\], the model needs \[4, 2\]\. Give"
    ) as caught:
        resume(tmp_path / FINAL, a_learner(other, an_optimizer(other)))
    assert [problem.what for problem in caught.value.problems][2:] == [
        "tensor '2.weight' has no place in the model",
        "tensor '2.bias' has no place in the model",
    ]


@pytest.mark.parametrize("optimizer", ["text", {}, {"state": {}, "param_groups": []}], ids=["text", "empty", "no groups"])
def test_an_optimizer_that_is_none(tmp_path: Path, optimizer: object) -> None:
    torch.save({"model": a_model().state_dict(), "optimizer": optimizer, "iteration": 1}, tmp_path / FINAL)
    model = a_model()
    with pytest.raises(CheckpointError, match="does not fit the configuration"):
        resume(tmp_path / FINAL, a_learner(model, an_optimizer(model)))


@pytest.mark.parametrize("case", ["ours, without random states", "DefaultTrainer's", "SimpleTrainer's"])
def test_detectron2s_own_checkpoints(tmp_path: Path, case: str) -> None:
    _, before = saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    del content["sightline"]
    if case != "ours, without random states":
        del content["optimizer"], content["scheduler"], content["iteration"]
    if case == "SimpleTrainer's":
        content["trainer"] = content["trainer"]["_trainer"]
    torch.save(content, tmp_path / FINAL)
    model = a_model()
    optimizer = an_optimizer(model)
    assert resume(tmp_path / FINAL, a_learner(model, optimizer)) == TrainingState(3)
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert_close(momenta, [state["momentum_buffer"] for state in before.state.values()])


def test_a_checkpoint_in_another_order_of_modules(tmp_path: Path) -> None:
    """Optimizers count their parameters; the order of the tensors' names tells which is which."""
    model, before = saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    names = list(content["model"])
    content["model"] = {name: content["model"][name] for name in reversed(names)}
    content["optimizer"]["param_groups"][0]["params"].reverse()
    torch.save(content, tmp_path / FINAL)
    again = a_model()
    optimizer = an_optimizer(again)
    resume(tmp_path / FINAL, a_learner(again, optimizer))
    for old, new in zip(model.parameters(), again.parameters(), strict=True):
        assert_close(optimizer.state[new]["momentum_buffer"], before.state[old]["momentum_buffer"])


def test_one_group_a_parameter_as_detectron2_wrote_before_0_6(tmp_path: Path) -> None:
    model, before = saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    (group,) = content["optimizer"]["param_groups"]
    content["optimizer"]["param_groups"] = [group | {"params": [number]} for number in group["params"]]
    torch.save(content, tmp_path / FINAL)
    again = a_model()
    optimizer = an_optimizer(again)
    resume(tmp_path / FINAL, a_learner(again, optimizer))
    for old, new in zip(model.parameters(), again.parameters(), strict=True):
        assert_close(optimizer.state[new]["momentum_buffer"], before.state[old]["momentum_buffer"])


def test_momenta_of_other_tensors_are_refused(tmp_path: Path) -> None:
    """torch takes any momentum for any parameter, and fails or learns nonsense at the next step."""
    saved(tmp_path)
    content = content_of(tmp_path / FINAL)
    content["optimizer"]["param_groups"][0]["params"].reverse()
    torch.save(content, tmp_path / FINAL)
    model = a_model()
    with pytest.raises(CheckpointError, match=r"the momentum of '0\.weight' has shape \[1\]\)\. Resume with the configuration"):
        resume(tmp_path / FINAL, a_learner(model, an_optimizer(model)))


class Counting(nn.Module):
    """A model with a running value that Detectron2 keeps out of its state dict."""

    running_buffers = ("counted",)
    counted: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer("counted", torch.tensor(100.0), persistent=False)


def test_running_values_that_are_no_weights_go_on_too(tmp_path: Path) -> None:
    model = Counting()
    model.counted.fill_(7.5)
    save_checkpoint(tmp_path, FINAL, a_learner(model, an_optimizer(model)), TrainingState(1))
    assert "counted" not in content_of(tmp_path / FINAL)["model"]
    again = Counting()
    resume(tmp_path / FINAL, a_learner(again, an_optimizer(again)))
    assert again.counted.item() == 7.5


def test_a_checkpoint_from_before_running_values_were_kept(tmp_path: Path) -> None:
    model = Counting()
    save_checkpoint(tmp_path, FINAL, a_learner(model, an_optimizer(model)), TrainingState(1))
    content = content_of(tmp_path / FINAL)
    (rank,) = content["sightline"].pop("ranks")
    content["sightline"] = {"rng": rank["rng"]}
    torch.save(content, tmp_path / FINAL)
    again = Counting()
    assert resume(tmp_path / FINAL, a_learner(again, an_optimizer(again))).step == 1
    assert again.counted.item() == 100.0


def test_every_group_keeps_its_own_momenta(tmp_path: Path) -> None:
    """Weights, biases and norms in groups of their own."""
    overrides = ["SOLVER.BIAS_LR_FACTOR", "2.0", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN"]
    detector = a_detector(*overrides)
    optimizer = build_optimizer(detector, a_config(*overrides).solver)
    assert len(optimizer.param_groups) == 4
    for number, parameter in enumerate(detector.parameters()):
        optimizer.state[parameter] = {"momentum_buffer": torch.full_like(parameter, float(number))}
    save_checkpoint(tmp_path, FINAL, a_learner(detector, optimizer), TrainingState(1))
    assert content_of(tmp_path / FINAL)["scheduler"]["base_lrs"] == [0.01, 0.01, 0.02, 0.02]
    again = a_detector(*overrides, seed=1)
    other = build_optimizer(again, a_config(*overrides).solver)
    resume(tmp_path / FINAL, a_learner(again, other))
    for number, parameter in enumerate(again.parameters()):
        assert_close(other.state[parameter]["momentum_buffer"], torch.full_like(parameter, float(number)))


def test_a_retinanet_goes_on_with_its_running_normaliser(tmp_path: Path) -> None:
    config = load(
        "COCO-Detection/retinanet_R_50_FPN_1x", ["MODEL.FPN.OUT_CHANNELS", "16", "MODEL.RESNETS.DEPTH", "18", *NARROW]
    )
    detector = build_detector(config)
    detector.get_buffer("loss_normalizer").fill_(42.0)
    save_checkpoint(tmp_path, FINAL, a_learner(detector, build_optimizer(detector, config.solver)), TrainingState(1))
    again = build_detector(config)
    resume(tmp_path / FINAL, a_learner(again, build_optimizer(again, config.solver)))
    assert again.get_buffer("loss_normalizer").item() == 42.0


def test_names_come_in_the_order_of_every_checkpoint_of_detectron2s(shared: Path) -> None:
    """Its optimizer counts parameters in that order."""
    compared = 0
    for path in sorted((shared / "golden").glob("*/model_final.pth")):
        names = list(content_of(path)["model"])
        assert list(build_detector(load(str(path.with_name("config.yaml")))).state_dict()) == names, path
        compared += 1
    assert compared
