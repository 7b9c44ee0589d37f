"""`sightline tune` as a user types it."""

import json
import sys
from pathlib import Path

import pytest
from builders import TINY, a_data_folder
from typer.testing import CliRunner

from sightline import coco
from sightline.cli.main import app
from sightline.errors import ConfigError, MissingDependencyError, SightlineError

SPACE = "learning-rate: {low: 1e-3, high: 1e-2, log: true}\nrotate: {choices: [true]}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with the parts train and val."""
    folder = tmp_path_factory.mktemp("data")
    dataset = a_data_folder(folder / "images")
    for part in ("train", "val"):
        coco.write(dataset, folder / "annotations" / f"{part}.json")
    return folder


def tune(data: Path, study: Path, *words: str, space: str = SPACE) -> str:
    """What `sightline tune ... WORDS` prints."""
    path = study.with_suffix(".yaml")
    path.write_text(space, encoding="utf-8")
    command = ["tune", "--data", str(data), "--space", str(path), "-o", str(study), "--workers", "0", *words]
    done = CliRunner().invoke(app, [*command, *TINY.split()], catch_exceptions=True)
    if isinstance(done.exception, SightlineError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_study_and_the_command_that_it_ends_with(data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    found = json.loads(tune(data, study, "--trials", "2", "--evaluations", "1", "--json"))
    assert [trial["state"] for trial in found["trials"]] == ["finished", "finished"]
    assert found["config"] == str(study / "best.yaml")
    assert found["command"] == [
        "sightline", "train", "--data", str(data), "--config", str(study / "best.yaml"), "--rotate", "-o", "run",
    ]  # fmt: skip
    text = tune(data, study, "--trials", "2", "--evaluations", "1")
    assert text.splitlines()[0].split() == ["trial", "bbox/AP", "state", "learning-rate", "rotate"]
    assert text.splitlines()[-1] == f"  sightline train --data {data} --config {study / 'best.yaml'} --rotate -o run"
    trained = ["train", *found["command"][2:-2], "-o", str(tmp_path / "run"), "--workers", "0"]
    assert CliRunner().invoke(app, trained, catch_exceptions=False).exit_code == 0


def test_what_is_wrong_with_a_space_is_told_with_its_file(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml: SOLVER\.BASE_LRS: .* Did you mean 'SOLVER\.BASE_LR'\?"):
        tune(data, tmp_path / "study", space="SOLVER.BASE_LRS: {low: 1, high: 2}")


def test_a_key_is_searched_or_given(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR: is searched, and given a value, too"):
        tune(data, tmp_path / "study", space="SOLVER.BASE_LR: {choices: [0.1, 0.2]}")  # TINY gives it, too


def test_without_optuna_it_says_how_to_get_it(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sightline\[tune\]'"):
        tune(data, tmp_path / "study")
