"""Processes that train together: they agree, count every picture once, and none waits for one that is gone."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import COUNTING, RETINANET, a_config, a_data_folder, a_detector, in_processes, overrides
from torch import nn
from torch.testing import assert_close

from sightline.errors import ConfigError, DatasetError, Interrupted, RunError, SightlineError
from sightline.records import Dataset
from sightline.training.hooks import Guard
from sightline.training.learner import Learner
from sightline.training.processes import Processes, interface_towards, joined
from sightline.training.run import Job, Run, run_training
from sightline.training.settings import Settings

THREE_STEPS = overrides("SOLVER.MAX_ITER 3  SOLVER.CHECKPOINT_PERIOD 2")


def exchanges() -> dict[str, Any]:
    with joined() as processes:
        rank = processes.rank
        model = nn.BatchNorm1d(1)
        model.running_mean.fill_(rank + 1.0)
        processes.share_buffers(model)
        return {
            "most": processes.most([rank, 5 - rank]),
            "mean": processes.mean({"a": float(rank), "b": 2.0}),
            "gather": processes.gather({"rank": rank}),
            "from_first": processes.from_first(f"of {rank}"),
            "shared": model.running_mean.item(),
            "first": processes.first,
        }


def test_what_processes_tell_each_other() -> None:
    common = {
        "most": [1.0, 5.0],
        "mean": {"a": 0.5, "b": 2.0},
        "gather": [{"rank": 0}, {"rank": 1}],
        "from_first": "of 0",
        "shared": 1.0,
    }
    assert in_processes(2, exchanges) == [{**common, "first": True}, {**common, "first": False}]


def test_one_process_talks_to_itself() -> None:
    alone = Processes()
    assert (alone.most([1.0]), alone.mean({"a": 2.0}), alone.gather("x"), alone.from_first("y")) == (
        [1.0],
        {"a": 2.0},
        ["x"],
        "y",
    )


def test_a_world_without_addresses_is_refused() -> None:
    message = r"WORLD_SIZE: is 4, and RANK, MASTER_ADDR, MASTER_PORT is not set\. Start with torchrun"
    with pytest.raises(ConfigError, match=message), joined({"WORLD_SIZE": "4"}):
        pass


def test_the_interface_of_an_address_of_this_host() -> None:
    assert interface_towards("127.0.0.1") == "lo"
    assert interface_towards("no.such.host.invalid") is None


def trained(folder: Path, name: str, *keys: str, step: Callable[..., None] | None = None, **options: Any) -> Run:
    """A run of this process on pictures in `folder`; its final weights are also in {name}-{rank}.pth."""
    rank = os.environ.get("RANK", "0")
    images = folder / f"images-{name}-{rank}"
    dataset = a_data_folder(images, 13)
    finish, guard = Job.finish, Guard.after_step

    def keep(self: Job, learner: Learner, *rest: Any) -> Run:
        torch.save(dict(learner.detector.state_dict()), folder / f"{name}-{rank}.pth")
        return finish(self, learner, *rest)

    def watched(self: Guard, state: Any, *rest: Any) -> None:
        if step is not None:
            step(state.step)
        guard(self, state, *rest)

    Job.finish = keep  # in a process of its own
    Guard.after_step = watched
    try:
        train, val = (Dataset(dataset.categories, part) for part in (dataset.images[:8], dataset.images[8:]))
        defaults = {"images": images, "output": folder / name, "workers": 0, "validation": (val, images)}
        return run_training(a_config(*keys), dataset=train, **(defaults | options))
    finally:
        Job.finish, Guard.after_step = finish, guard


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return dict(content.get("model", content))


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text(encoding="utf-8").splitlines()]


def test_two_learn_what_one_would_and_measure_every_picture_once(tmp_path: Path) -> None:
    (one,) = in_processes(1, trained, tmp_path, "one", *COUNTING)
    first, second = in_processes(2, trained, tmp_path, "two", *COUNTING)
    assert one.steps == first.steps == second.steps == 4
    ours = weights(tmp_path / "two-0.pth")
    assert_close(weights(tmp_path / "two-1.pth"), ours, rtol=0, atol=0)
    assert_close(weights(first.checkpoint), ours, rtol=0, atol=0)
    alone = weights(tmp_path / "one-0.pth")
    assert_close(ours, alone, rtol=1e-4, atol=1e-6)
    begun = a_detector(*COUNTING).state_dict()
    assert max((alone[name] - begun[name]).abs().max().item() for name in alone) > 1e-3, "they have learned"
    told, together = lines(one.folder), lines(first.folder)
    assert [line["iteration"] for line in together] == [line["iteration"] for line in told] == [1, 3, 3]
    for mine, theirs in zip(told, together, strict=True):
        for name in [name for name in mine if name.startswith(("lr", "val_", "box_proposals"))]:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-3), name
    assert {path.name for path in one.folder.iterdir()} == {path.name for path in first.folder.iterdir()}
    assert json.loads((first.folder / "run.json").read_text(encoding="utf-8"))["processes"] == 2


def measured_and_not(folder: Path) -> None:
    keys = RETINANET + THREE_STEPS
    trained(folder, "not", *keys)


def measured(folder: Path) -> None:
    trained(folder, "measured", *RETINANET, *THREE_STEPS, "TEST.EVAL_PERIOD", "1", settings=Settings(metric="val_loss"))


def test_measuring_leaves_no_trace_in_any_process(tmp_path: Path) -> None:
    """RetinaNet's running normaliser is each process's own."""
    assert in_processes(2, measured_and_not, tmp_path) == [None, None]
    assert in_processes(2, measured, tmp_path) == [None, None]
    one, other = (torch.load(tmp_path / name / "model_final.pth", weights_only=True) for name in ("not", "measured"))
    assert_close(dict(other["model"]), dict(one["model"]), rtol=0, atol=0)
    assert_close(other["sightline"]["ranks"], one["sightline"]["ranks"], rtol=0, atol=0)


def killed_by_all(step: int) -> None:
    if step == 3:
        raise KeyError("killed")


def broken_off(folder: Path, name: str) -> None:
    trained(folder, name, *THREE_STEPS, step=killed_by_all)


def gone_on(folder: Path, name: str) -> int:
    return trained(folder, name, *THREE_STEPS, resuming=True).steps


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    whole, _ = in_processes(2, trained, tmp_path, "whole", *THREE_STEPS)
    assert [type(error) for error in in_processes(2, broken_off, tmp_path, "killed")] == [KeyError, KeyError]
    assert in_processes(2, gone_on, tmp_path, "killed") == [3, 3]
    one, other = (torch.load(tmp_path / name / "model_final.pth", weights_only=True) for name in ("whole", "killed"))
    assert whole.steps == 3
    assert_close(dict(other["model"]), dict(one["model"]), rtol=0, atol=0)
    assert_close(other["optimizer"]["state"], one["optimizer"]["state"], rtol=0, atol=0)
    assert_close(other["sightline"]["ranks"], one["sightline"]["ranks"], rtol=0, atol=0)


def test_levels_that_no_head_takes_hold_nobody_up(tmp_path: Path) -> None:
    """What makes p6 and p7 gets no gradients: the exchange of the second step would wait for them for ever."""
    levels = overrides("MODEL.RETINANET.IN_FEATURES ('p3','p4')  MODEL.ANCHOR_GENERATOR.SIZES ((12,),(24,))")
    first, second = in_processes(2, trained, tmp_path, "run", *RETINANET, *levels, *THREE_STEPS)
    assert first.steps == second.steps == 3
    one, other = weights(tmp_path / "run-1.pth"), weights(tmp_path / "run-0.pth")
    learned = [name for name in one if name.endswith((".weight", ".bias"))]
    assert_close([other[name] for name in learned], [one[name] for name in learned], rtol=0, atol=0)


@pytest.mark.parametrize(("begun", "going_on"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(begun: int, going_on: int, tmp_path: Path) -> None:
    in_processes(begun, broken_off, tmp_path, "run")
    assert in_processes(going_on, gone_on, tmp_path, "run") == [3] * going_on
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert facts["processes"] == going_on
    ranks = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["sightline"]["ranks"]
    assert len({tuple(rank["rng"]["cpu"].tolist()) for rank in ranks}) == going_on, "each draws for itself"


def without_pictures(folder: Path) -> None:
    """The second process's pictures are gone."""

    def remove(step: int) -> None:
        if step == 1 and os.environ["RANK"] == "1":
            for path in (folder / "images-run-1").iterdir():
                path.unlink()

    trained(folder, "run", *THREE_STEPS, step=remove)


def with_nan(folder: Path) -> None:
    """The second process's losses are no numbers."""
    losses = Learner.losses

    def poisoned(self: Learner, examples: Any) -> Any:
        found = losses(self, examples)
        return {name: value * float("nan") for name, value in found.items()} if os.environ["RANK"] == "1" else found

    Learner.losses = poisoned  # in a process of its own
    trained(folder, "run", *THREE_STEPS)


def test_a_process_that_fails_ends_all_with_its_own_words(tmp_path: Path) -> None:
    first, second = in_processes(2, without_pictures, tmp_path)
    assert isinstance(second, DatasetError)
    assert "cannot be read (No such file" in str(second)
    assert isinstance(first, RunError)
    assert first.where == "process 0 of 2"
    assert "its own message says why" in first.fix


def test_losses_that_are_no_numbers_in_one_process_end_all(tmp_path: Path) -> None:
    first, second = in_processes(2, with_nan, tmp_path)
    assert isinstance(first, RunError) and isinstance(second, RunError)
    assert (first.where, second.where) == ("step 0", "step 0")
    assert "another process has no numbers any more" in str(first)
    assert "losses are no numbers any more" in str(second)
    assert "png" in str(second)
    assert not list((tmp_path / "run").glob("*.pth"))


def asked_to_end(folder: Path) -> None:
    def ask(step: int) -> None:
        if step == 1 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    trained(folder, "run", *THREE_STEPS, step=ask)


def test_all_end_when_one_is_asked_to(tmp_path: Path) -> None:
    endings = in_processes(2, asked_to_end, tmp_path)
    assert [type(ending) for ending in endings] == [Interrupted, Interrupted]
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["model_0000000.pth"]


def reference(folder: Path) -> int:
    return trained(folder, "run", *THREE_STEPS, "SOLVER.REFERENCE_WORLD_SIZE", "1").steps


def test_a_run_made_for_fewer_processes_is_scaled(tmp_path: Path) -> None:
    assert in_processes(2, reference, tmp_path) == [2, 2]  # 3 steps of 2 pictures: 1.5 of 4, rounded as Python does
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["batch_size"] == 4


def too_many(folder: Path) -> None:
    trained(folder, "run", "SOLVER.IMS_PER_BATCH", "1")


def test_more_processes_than_pictures_in_a_batch(tmp_path: Path) -> None:
    for error in in_processes(2, too_many, tmp_path):
        assert isinstance(error, ConfigError)
        assert (error.exit_code, error.where) == (2, "SOLVER.IMS_PER_BATCH")
        assert "2 processes train" in error.what
    assert not (tmp_path / "run").exists()


def resumed_apart(folder: Path) -> None:
    """Only the first host sees the run's folder."""
    rank = os.environ["RANK"]
    trained(folder, "run", *THREE_STEPS, resuming=True, output=folder / ("run" if rank == "0" else "elsewhere"))


def test_hosts_that_do_not_share_the_run_cannot_resume_it(tmp_path: Path) -> None:
    in_processes(1, trained, tmp_path, "run", *THREE_STEPS)
    for error in in_processes(2, resumed_apart, tmp_path):
        assert isinstance(error, SightlineError)
        assert "different checkpoints for different processes (model_final.pth, none)" in str(error)
