"""The expressions that the platform gets, against what our training really prints."""

import json
import logging
from pathlib import Path

import pytest

from sightline.cloud.metrics import METRICS, OBJECTIVES, step_of, values_of
from sightline.containers.train import scores_told
from sightline.training.hooks import Progress, log_line, shown

LOSSES = {"loss_rpn_cls": 0.01234, "loss_rpn_loc": 1e-05, "loss_cls": 0.5, "loss_box_reg": 0.25}
PROGRESS = Progress(
    step=40, steps=100, losses=LOSSES, total_loss=0.7624, lr=0.0025, time_s=0.51, last_time_s=0.49, images_per_s=7.9,
    eta_s=30.6, max_mem_mib=812,
)  # fmt: skip


@pytest.fixture
def line(caplog: pytest.LogCaptureFixture) -> str:
    """As `sightline train` logs it where there is no terminal."""
    with caplog.at_level(logging.INFO, "sightline"):
        log_line(PROGRESS)
    return caplog.messages[-1]


def test_every_figure_of_the_console_line_is_read(line: str) -> None:
    told = {"total_loss": 0.7624, "lr": 0.0025, "seconds-per-step": 0.51, "images-per-second": 7.9}
    assert values_of(line) == {**LOSSES, **told}


def test_progress_is_read(line: str) -> None:
    step = step_of(line)
    assert step is not None
    assert (step.step, step.eta, step.loss) == (40, "00:00:30", "0.7624")
    assert step_of("evaluation after step 39: bbox/AP: 0.5") is None


def test_days_to_go() -> None:
    from dataclasses import replace

    step = step_of(replace(PROGRESS, eta_s=200_000.0).line())
    assert step is not None
    assert step.eta == "2.3 days"


def test_scores_are_read() -> None:
    told = shown({"bbox/AP": 0.3125, "bbox/AP50": 0.6, "val_loss": 1.5}, "bbox/AP")
    assert values_of(f"evaluation after step 39: {told}") == {"bbox-AP": 0.3125, "bbox-AP50": 0.6, "val_loss": 1.5}
    told = shown({"bbox/AP": 0.3125, "val_loss": 1.5}, "bbox/AP", 0.5)
    assert values_of(told) == {"bbox-AP": 0.3125, "val_loss": 1.5, "best-bbox-AP": 0.5}
    assert set(OBJECTIVES.values()) <= set(METRICS)


def test_the_finished_models_scores_are_metrics_of_their_own(tmp_path: Path) -> None:
    """What the entry point prints after its evaluation does not change what a search maximizes."""
    (tmp_path / "inference").mkdir()
    scores = {"bbox": {"AP": 0.3125, "AP50": 0.6, "APs": 0.1}, "segm": {"AP": None}}
    (tmp_path / "inference" / "scores.json").write_text(json.dumps(scores))
    line = f"the finished model on the part test: {scores_told(tmp_path)}"
    assert values_of(line) == {"model-bbox-AP": 0.3125, "model-bbox-AP50": 0.6}
    assert len(METRICS) <= 40  # as many as a job may have
    assert scores_told(tmp_path / "no-such-run") == ""


def test_losses_of_a_cascade_and_what_is_no_number() -> None:
    assert values_of(" iter: 1  total_loss: nan  loss_cls_stage2: 2e-06  lr: 1") == {"loss_cls_stage2": 2e-06, "lr": 1.0}
