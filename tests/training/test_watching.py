"""What people see of a training: its first batches, its curves, a word on waiting. None of it may change or end the run."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sightline.dataset.loader import Example
from sightline.training.hooks import WINDOW, Progress
from sightline.training.state import TrainingState
from sightline.training.watching import WARM_UP_STEPS, AdviseOnWaiting, DrawFirstBatches, wait_advice, write_curves

PROGRESS = Progress(
    step=WARM_UP_STEPS + WINDOW,
    steps=1000,
    losses={"loss_cls": 1.5},
    total_loss=1.5,
    lr=0.01,
    time_s=0.5,
    last_time_s=0.4,
    images_per_s=16.0,
    eta_s=3725.0,
    max_mem_mib=812,
    data_wait_share=0.34,
)


def an_example(masks: bool = False) -> Example:
    square = (np.array([10.0, 10, 60, 10, 60, 60, 10, 60]),)
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]])
    image = torch.full((3, 80, 100), 90, dtype=torch.uint8)
    return Example(image, boxes, torch.tensor([1]), "a.jpg", (square,) if masks else None)


@pytest.mark.parametrize("masks", [False, True])
def test_the_first_batches_are_drawn_and_no_later_ones(tmp_path: Path, masks: bool) -> None:
    hook = DrawFirstBatches(tmp_path, ["bee", "wasp"], "BGR")
    for step in range(1, 6):
        hook.after_step(TrainingState(step), {}, [an_example(masks)] * 2)
    assert sorted(path.name for path in (tmp_path / "batches").iterdir()) == ["batch_0.jpg", "batch_1.jpg", "batch_2.jpg"]
    with Pillow.open(tmp_path / "batches" / "batch_0.jpg") as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert np.asarray(picture).std() > 5


def test_a_resumed_run_draws_none(tmp_path: Path) -> None:
    DrawFirstBatches(tmp_path, ["bee", "wasp"], "BGR").after_step(TrainingState(41), {}, [an_example()])
    assert not list(tmp_path.iterdir())


def test_drawing_changes_neither_the_batch_nor_the_random_state(tmp_path: Path) -> None:
    example, before = an_example(masks=True), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    DrawFirstBatches(tmp_path, ["bee", "wasp"], "BGR").after_step(TrainingState(1), {}, [example])
    (tmp_path / "metrics.json").write_text('{"iteration": 19, "total_loss": 1.0}\n', encoding="utf-8")
    write_curves(tmp_path / "metrics.json")
    torch.testing.assert_close(example.image, an_example().image, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_a_batch_that_cannot_be_drawn_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(an_example(), boxes=torch.zeros(3))
    DrawFirstBatches(tmp_path, ["bee", "wasp"], "BGR").after_step(TrainingState(1), {}, [broken])
    assert "batch_0.jpg not drawn" in caplog.text
    assert not list(tmp_path.rglob("*.jpg"))


def test_curves_are_drawn_beside_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [PROGRESS.as_metrics(), {"iteration": 69, "bbox/AP": 0.3}]
    (tmp_path / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_curves(tmp_path / "metrics.json")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_without_matplotlib_a_line_says_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(PROGRESS.as_metrics()), encoding="utf-8")
    monkeypatch.setattr("sightline.training.watching.find_spec", lambda name: None)
    caplog.set_level("INFO")
    write_curves(tmp_path / "metrics.json")
    (record,) = caplog.records
    assert record.message == "curves.png is drawn with matplotlib. To have it, run: pip install 'sightline[report]'"
    assert record.exc_info is None


def test_a_run_without_figures_ends_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_curves(tmp_path / "metrics.json")
    assert "curves.png not drawn" in caplog.text


@pytest.mark.parametrize(
    ("share", "step", "begun", "expected"),
    [
        pytest.param(0.34, 70, 0, True, id="waiting"),
        pytest.param(0.1, 70, 0, False, id="a tenth is fine"),
        pytest.param(0.34, 60, 0, False, id="the window reaches into the warm-up"),
        pytest.param(0.34, 140, 100, False, id="a resumed run warms up, too"),
        pytest.param(0.34, 170, 100, True, id="a resumed run, waiting"),
    ],
)
def test_waiting_is_worth_a_word(share: float, step: int, begun: int, expected: bool) -> None:
    progress = replace(PROGRESS, step=step, data_wait_share=share)
    assert (wait_advice(progress, 2, 8, begun) is not None) is expected


@pytest.mark.parametrize(
    ("workers", "cores", "expected"),
    [
        (0, 8, "34% of its time for pictures (no process reads ahead): give --workers 2 (fewer, if the machine swaps)"),
        (1, 8, "(one process reads them): give --workers 2"),
        (2, 8, "(2 processes read them): give --workers 4"),
        (4, 8, "give --workers 7"),
        (7, 8, "take a machine of more than 8 cores"),
        (0, 2, "give --workers 2"),
        (2, 2, "take a machine of more than 2 cores"),
    ],
)
def test_the_word_says_what_to_change(workers: int, cores: int, expected: str) -> None:
    advice = wait_advice(PROGRESS, workers, cores)
    assert advice is not None
    assert expected in advice
    assert "make the pictures smaller" in advice
    assert "local disk" in advice


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    advisor = AdviseOnWaiting(workers=2, cores=8)
    with caplog.at_level(logging.WARNING):
        for step in range(20, 200, 20):
            advisor.progress(replace(PROGRESS, step=step))
        advisor.evaluation(100, {"bbox/AP": 0.1})
        advisor.close()
    assert len(caplog.records) == 1


def test_matplotlib_is_loaded_only_when_curves_are_drawn() -> None:
    """It costs most of a second; nobody who imports the training wants to pay that."""
    code = "import sys, sightline.training.watching, sightline.training.trackers; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
