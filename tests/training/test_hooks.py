"""What happens after a step: losses checked, medians written and shown, checkpoints saved."""

import errno
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import a_learner
from rich.console import Console
from torch import nn

from sightline.dataset.loader import Example
from sightline.errors import RunError
from sightline.training.hooks import WINDOW, Bar, Guard, Progress, Report, SaveCheckpoints, Signal, log_line
from sightline.training.processes import Processes
from sightline.training.state import LAST, TrainingState, remedy

PROGRESS = Progress(
    step=40,
    steps=100,
    losses={"loss_rpn_cls": 0.25, "loss_cls": 1.5},
    total_loss=1.75,
    lr=0.0125,
    time_s=0.5,
    last_time_s=0.4,
    images_per_s=16.0,
    eta_s=3725.0,
    max_mem_mib=812,
)


def an_example(name: str = "a.jpg") -> Example:
    return Example(torch.zeros(3, 4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), name)


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (r"total_loss: ([0-9.]+)", "1.75"),
        (r"loss_cls: ([0-9.]+)", "1.5"),
        (r"loss_rpn_cls: ([0-9.]+)", "0.25"),
        (r"lr: ([0-9.]+)", "0.0125"),
        (r"iter: ([0-9]+)", "39"),
        (r"eta: (\S+)", "01:02:05"),
        (r"(?<!_)time: ([0-9.]+)", "0.5000"),
        (r"last_time: ([0-9.]+)", "0.4000"),
        (r"max_mem: ([0-9]+)M", "812"),
        (r"img/s: ([0-9.]+)", "16.0"),
    ],
)
def test_the_line_answers_peoples_metric_expressions(expression: str, value: str) -> None:
    found = re.search(expression, PROGRESS.line())
    assert found is not None
    assert found[1] == value


def test_long_times_are_in_days() -> None:
    assert "eta: 3.0 days" in replace(PROGRESS, eta_s=3 * 86400.0).line()


def test_metrics_have_detectron2s_keys() -> None:
    assert PROGRESS.as_metrics() == {
        "iteration": 39,
        "total_loss": 1.75,
        "loss_rpn_cls": 0.25,
        "loss_cls": 1.5,
        "lr": 0.0125,
        "time": 0.5,
        "images_per_s": 16.0,
        "data_wait_share": 0.0,
        "eta_seconds": 3725.0,
        "max_mem_mib": 812,
    }


def test_the_line_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="sightline"):
        log_line(PROGRESS)
    assert caplog.messages == [PROGRESS.line()]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_the_run(value: float) -> None:
    batch = [an_example("street/1.jpg"), an_example("2.jpg")]
    message = r"^step 6: losses are no numbers any more: \{'loss_cls': .*\}; the batch was street/1\.jpg, 2\.jpg\. Lower SOLVER"
    with pytest.raises(RunError, match=message) as caught:
        Guard(Processes(), Signal()).after_step(TrainingState(7), losses(loss_rpn_cls=0.5, loss_cls=value), batch)
    assert caught.value.exit_code == 1


def test_sound_losses_stop_nothing() -> None:
    Guard(Processes(), Signal()).after_step(TrainingState(1), losses(loss_cls=1e5), [])


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_report(folder: Path, steps: int, shown: list[Progress], clock: Callable[[], float] | None = None) -> Report:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    options = {} if clock is None else {"clock": clock}
    return Report(steps, optimizer, folder / "metrics.json", shown.append, torch.device("cpu"), **options)  # type: ignore[arg-type]


def test_a_report_every_window_and_at_the_end(tmp_path: Path) -> None:
    shown: list[Progress] = []
    report = a_report(tmp_path, 2 * WINDOW + 3, shown)
    for step in range(1, 2 * WINDOW + 4):
        report.after_step(TrainingState(step), losses(loss_cls=1.0), [an_example()])
    assert [progress.step for progress in shown] == [WINDOW, 2 * WINDOW, 2 * WINDOW + 3]
    lines = (tmp_path / "metrics.json").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [WINDOW - 1, 2 * WINDOW - 1, 2 * WINDOW + 2]


@pytest.mark.parametrize(("number", "fix"), [(errno.ENOSPC, "Make room"), (errno.EDQUOT, "Make room"), (errno.EACCES, "Check")])
def test_what_helps_depends_on_why_nothing_can_be_written(number: int, fix: str) -> None:
    assert remedy(OSError(number, "of the system")).startswith(fix)


def test_a_run_folder_that_was_removed_is_not_called_full(tmp_path: Path) -> None:
    report = a_report(tmp_path / "removed", 1, [])
    with pytest.raises(RunError, match=r"cannot be written \(No such file or directory\)\. Check that the run folder is there"):
        report.after_step(TrainingState(1), losses(loss_cls=1.0), [an_example()])


def test_medians_of_the_window(tmp_path: Path) -> None:
    """One odd batch of 1000 must not show; the time left is the median step times what is left."""
    shown: list[Progress] = []
    clock = Clock()
    report = a_report(tmp_path, 3 * WINDOW, shown, clock)
    for step in range(1, WINDOW + 1):
        clock.now += 8.0 if step == 5 else 2.0
        report.after_step(
            TrainingState(step), losses(loss_cls=1000.0 if step == 3 else 2.0, loss_box_reg=0.5), [an_example()] * 4
        )
    (progress,) = shown
    assert progress.losses == {"loss_cls": 2.0, "loss_box_reg": 0.5}
    assert (progress.total_loss, progress.lr, progress.time_s, progress.last_time_s) == (2.5, 0.5, 2.0, 2.0)
    assert progress.eta_s == 2.0 * 2 * WINDOW
    assert progress.images_per_s == WINDOW * 4 / (WINDOW * 2.0 + 6.0)
    assert progress.max_mem_mib > 50  # this process with torch in it


def test_checkpoints_every_period_but_not_the_last(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    hook = SaveCheckpoints(tmp_path, a_learner(model, torch.optim.SGD(model.parameters(), lr=0.1)), period=2, steps=6)
    for step in range(1, 7):
        hook.after_step(TrainingState(step), {}, [])
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000001.pth", "model_0000003.pth"]
    assert (tmp_path / LAST).read_text(encoding="utf-8") == "model_0000003.pth"


@pytest.mark.parametrize("period", [0, -1, 100])
def test_no_checkpoints_on_the_way(tmp_path: Path, period: int) -> None:
    model = nn.Linear(1, 1)
    hook = SaveCheckpoints(tmp_path, a_learner(model, torch.optim.SGD(model.parameters(), lr=0.1)), period=period, steps=6)
    for step in range(1, 7):
        hook.after_step(TrainingState(step), {}, [])
    assert list(tmp_path.iterdir()) == []


def test_the_bar_says_what_the_line_says_and_ends_itself() -> None:
    text = io.StringIO()
    bar = Bar(Console(file=text, force_terminal=True, width=160))
    bar(PROGRESS)
    assert not bar.bar.finished
    bar(replace(PROGRESS, step=100))
    assert bar.bar.finished
    assert "loss 1.750" in text.getvalue()
    assert "100/100" in text.getvalue()
    assert "812 MiB" in text.getvalue()
