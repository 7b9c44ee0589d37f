"""`sightline train` as people type it: what its options reach, and what is refused with the option's name."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from builders import TINY, a_dataset_folder

from sightline.cli.main import main
from sightline.cli.train import parts_of_fold, weights_by_class
from sightline.config.yaml_dialect import load_file
from sightline.dataset.folds import write_folds
from sightline.errors import ConfigError

SHORT = [*TINY.split(), "SOLVER.MAX_ITER", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_dataset_folder(tmp_path_factory.mktemp("data") / "data", train=6, val=2, late=2)


def sightline(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `sightline WORDS`."""
    monkeypatch.setattr(sys, "argv", ["sightline", *map(str, words)])
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def test_options_reach_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = [
        "--epochs", 1, "--batch-size", 3, "--learning-rate", 0.003, "--image-size", 48, "--seed", 5, "--patience", 4,
        "--metric", "val_loss", "--keep", 1, "--precision", "bf16", "--accumulate", 2, "--ema", 0.9, "--channels-last",
        "--colour", 0.2, "--rotate", "--scale-jitter", 0.8, 1.2, "--mosaic", 0.1, "--class-weights", "dog=2",
        "--time-limit", 3000, "--on-bad-picture", "skip", "--workers", 0, "--validate-on", "late", "--json",
    ]  # fmt: skip
    code = sightline(monkeypatch, "train", "--data", data, "-o", run, *options, *TINY.split())
    told = capsys.readouterr()
    assert code == 0, told.err
    assert json.loads(told.out)["steps"] == 2
    assert "1 epochs of 6 pictures are 2 steps of 3" in told.err
    config = load_file(run / "config.yaml")
    assert (config.solver.max_iter, config.solver.ims_per_batch, config.solver.base_lr, config.seed) == (2, 3, 0.003, 5)
    assert (config.input.min_size_train, config.input.min_size_test, config.test.eval_period) == ((48,), 48, 2)
    assert config.solver.amp.enabled
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]
    assert settings == {
        "keep": 1, "metric": "val_loss", "patience": 4, "time_limit_s": 3000.0, "on_bad_picture": "skip",
        "precision": "bf16", "accumulate": 2, "ema": 0.9, "recompute": False, "compile": False, "channels_last": True,
        "colour": 0.2, "rotate": True, "scale_jitter": [0.8, 1.2], "mosaic": 0.1, "class_weights": [1.0, 2.0],
        "tensorboard": False, "mlflow": "",
    }  # fmt: skip
    assert (run / "model_best.pth").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--epochs", "0"], "--epochs: is 0.0. Give a number above 0.", id="epochs"),
        pytest.param(["--learning-rate", "-1"], "--learning-rate: is -1.0", id="learning rate"),
        pytest.param(["--batch-size", "0"], "--batch-size", id="batch size"),
        pytest.param(["--image-size", "5"], "--image-size", id="image size"),
        pytest.param(["--accumulate", "0"], "--accumulate", id="accumulate"),
        pytest.param(["--ema", "1"], "--ema", id="ema"),
        pytest.param(["--precision", "fp8"], "--precision", id="precision"),
        pytest.param(["--mosaic", "2"], "--mosaic", id="mosaic"),
        pytest.param(["--scale-jitter", "2", "1"], "--scale-jitter: is 2.0 1.0. Give two factors", id="scale jitter"),
        pytest.param(["--class-weights", "bird=2"], "--class-weights: names 'bird'", id="no such class"),
        pytest.param(["--class-weights", "dog=much"], "--class-weights: gives 'dog' the factor 'much'", id="no factor"),
        pytest.param(["--validate-on", "vall"], "has no part 'vall'. Its parts: all, late, train, val", id="no such part"),
        pytest.param(["--patience", "1", "--metric", "bbox/AQ"], "--metric: is 'bbox/AQ'", id="no such metric"),
        pytest.param(["--resumed"], "--resumed: is no option of this command", id="no such option"),
        pytest.param(["--recompute"], "--recompute: would feed batch norms' statistics twice", id="recompute"),
    ],
)
def test_wrong_values_are_named(
    words: list[str],
    expected: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code = sightline(monkeypatch, "train", "--data", data, "-o", tmp_path / "run", *words, *SHORT)
    told = capsys.readouterr()
    assert code == 2
    assert expected in told.err
    assert not (tmp_path / "run").exists()


def test_a_fold_is_trained_and_measured_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    write_folds(copy, 2)
    words = ("train", "--data", copy, "--fold", 2, "-o", tmp_path / "run", *SHORT, "TEST.EVAL_PERIOD", "2")
    assert sightline(monkeypatch, *words) == 0
    assert (tmp_path / "run/model_final.pth").is_file()
    assert sightline(monkeypatch, "evaluate", tmp_path / "run", "--data", copy, "--split", "fold2_val") == 0


def test_a_fold_names_both_parts() -> None:
    assert parts_of_fold(3, "train", "val") == ("fold3_train", "fold3_val")
    with pytest.raises(ConfigError, match="--fold: names the parts that --split and --validate-on name, too"):
        parts_of_fold(3, "train", "test")


def test_a_validation_part_that_nothing_measures_on_may_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who trains on train2017 alone need not have val2017's pictures."""
    folder = a_dataset_folder(tmp_path / "data", train=4, val=2)
    for number in (5, 6):
        (folder / "images" / f"{number:03d}.png").unlink()
    words = ["train", "--data", folder, "-o", tmp_path / "run", "--workers", 0]
    assert sightline(monkeypatch, *words, *SHORT) == 0
    assert sightline(monkeypatch, *words, "--resume", *SHORT, "TEST.EVAL_PERIOD", "1") == 2
    assert "005.png" in capsys.readouterr().err


def test_other_processes_of_torchrun_say_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    keys = ["VIS_PERIOD", "7"]
    assert sightline(monkeypatch, "train", "--data", data, "-o", tmp_path / "run", "--workers", 0, *SHORT, *keys) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("", ()),
        ("cat=2", (2.0, 1.0, 1.0)),
        ("dog=0.5,cat=3", (3.0, 0.5, 1.0)),
        ("a=b=4", (1.0, 1.0, 4.0)),
    ],
)
def test_class_weights(text: str | None, expected: tuple[float, ...]) -> None:
    assert weights_by_class(text, ("cat", "dog", "a=b")) == expected


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", ""])
def test_class_weights_above_zero(value: str) -> None:
    with pytest.raises(ConfigError, match=rf"--class-weights: gives 'cat' the factor '{value}'\. Give a number above 0"):
        weights_by_class(f"cat={value}", ("cat", "dog"))
