"""A whole search: what it finds, how it ends trials, and that it goes on after a kill as if there had been none."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import a_config, a_data_folder

from sightline import coco
from sightline.config.schema import Config
from sightline.config.yaml_dialect import load_file
from sightline.dataset.folder import DatasetPart
from sightline.errors import ConfigError, Interrupted, RunError, SightlineError
from sightline.training.asked import Asked
from sightline.training.hooks import Judge, Progress
from sightline.training.settings import Settings
from sightline.tuning.outcome import Tuned
from sightline.tuning.study import Study, alone
from sightline.tuning.tune import best_of, read_values, tune

SPACE = {"SOLVER.BASE_LR": {"low": 1e-4, "high": 1.0, "log": True}, "rotate": {"choices": [True, False]}}

Score = Callable[[Config, Settings], float]


def near_a_hundredth(config: Config, settings: Settings) -> float:
    """Best, 1, at a rate of 0.01 with pictures turned."""
    return 1 - (math.log10(config.solver.base_lr) + 2) ** 2 / 4 - (0 if settings.rotate else 0.2)


class Fake:
    """Trains nothing: a score that grows with the steps, told after each evaluation as `run_training` tells it.

    cut: (call, evaluation) at which `how` is raised; calls and evaluations are counted from 1
    """

    def __init__(
        self, score: Score = near_a_hundredth, cut: tuple[int, int] = (0, 0), how: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.score, self.cut, self.how = score, cut, how
        self.calls: list[tuple[str, bool]] = []
        self.evaluations: list[int] = []

    def __call__(self, config: Config, *, output: Path, settings: Settings, resuming: bool, judge: Judge) -> object:
        self.calls.append((output.name, resuming))
        self.evaluations.append(0)
        output.mkdir(parents=True, exist_ok=True)
        (output / "metrics.json").unlink(missing_ok=True)
        period, last = config.test.eval_period, config.solver.max_iter
        for step in range(period, last + 1, period):
            self.evaluations[-1] += 1
            if (len(self.calls), self.evaluations[-1]) == self.cut:
                raise self.how()
            numbers = {"bbox/AP": self.score(config, settings) * step / last}
            with (output / "metrics.json").open("a") as file:
                file.write(json.dumps({"iteration": step - 1, **numbers}) + "\n")
            if judge(step, numbers):
                break
        (output / "model_final.pth").touch()
        return None


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> DatasetPart:
    folder = tmp_path_factory.mktemp("data")
    dataset = a_data_folder(folder / "images")
    coco.write(dataset, folder / "all.json")
    return DatasetPart(dataset, folder / "images", folder / "all.json")


def search(part: DatasetPart, folder: Path, **options: Any) -> Tuned:
    """A search that trains nothing."""
    defaults = {"space": SPACE, "validation": part, "train": Fake(), "trials": 6, "prune": False}
    return tune(a_config(), part, output=folder, **(defaults | options))


def test_it_finds_the_region_of_the_optimum(part: DatasetPart, tmp_path: Path) -> None:
    found = search(part, tmp_path / "study", trials=30)
    assert found.best.values["rotate"] is True
    assert 0.003 < float(str(found.best.values["SOLVER.BASE_LR"])) < 0.03
    assert found.best.value == max(trial.value or 0 for trial in found.trials)
    best = load_file(tmp_path / "study" / "best.yaml")
    assert best.solver.base_lr == found.best.values["SOLVER.BASE_LR"]
    assert best.test.eval_period == 1
    assert found.words() == ["--config", str(tmp_path / "study" / "best.yaml"), "--rotate"]
    assert len((tmp_path / "study" / "trials.csv").read_text().splitlines()) == 31


def values_of(found: Tuned) -> list[Mapping[str, object]]:
    return [trial.values for trial in found.trials]


def test_the_same_seed_tries_the_same(part: DatasetPart, tmp_path: Path) -> None:
    first, second = search(part, tmp_path / "a", trials=14), search(part, tmp_path / "b", trials=14)
    assert values_of(first) == values_of(second)
    assert values_of(search(part, tmp_path / "c", seed=1)) != values_of(first)[:6]


@pytest.mark.parametrize(
    "how", [KeyboardInterrupt, pytest.param(lambda: Interrupted("run", "was asked", "Go on."), id="SIGTERM")]
)
def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been(how: Any, part: DatasetPart, tmp_path: Path) -> None:
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        search(part, tmp_path / "study", train=Fake(cut=(3, 3), how=how), trials=14, prune=True)
    again = Fake()
    found = search(part, tmp_path / "study", train=again, trials=14, prune=True)
    assert again.calls[:2] == [("0002", True), ("0003", False)]
    whole = search(part, tmp_path / "whole", trials=14, prune=True)
    assert [(trial.values, trial.state, trial.value) for trial in found.trials] == [
        (trial.values, trial.state, trial.value) for trial in whole.trials
    ]


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_tune import Fake, a_config, search, opened
class Killed(Fake):
    def __call__(self, config, **options):
        if len(self.calls) == 2:
            os.kill(os.getpid(), 9)
        return super().__call__(config, **options)
search(opened(Path({data!r})), Path({study!r}), train=Killed())
"""


def opened(folder: Path) -> DatasetPart:
    return DatasetPart(coco.read(folder / "all.json"), folder / "images", folder / "all.json")


def test_a_killed_process_leaves_a_study_that_goes_on(part: DatasetPart, tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = KILLED.format(
        tests=str(here.parent), here=str(here), data=str(part.annotations.parent), study=str(tmp_path / "study")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = Fake()
    found = search(part, tmp_path / "study", train=again)
    assert again.calls == [("0002", False), ("0003", False), ("0004", False), ("0005", False)]
    assert values_of(found) == values_of(search(part, tmp_path / "whole"))


def test_a_run_that_ended_before_it_was_recorded_is_not_trained_again(part: DatasetPart, tmp_path: Path) -> None:
    class Late(Fake):
        def __call__(self, config: Config, **options: Any) -> object:
            super().__call__(config, **options)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(part, tmp_path / "study", train=Late())
    again = Fake()
    search(part, tmp_path / "study", train=again, trials=2)
    assert again.calls == [("0001", False)]


def test_more_trials_are_added_and_finished_ones_stay(part: DatasetPart, tmp_path: Path) -> None:
    first = search(part, tmp_path / "study", trials=3)
    nothing = Fake()
    assert search(part, tmp_path / "study", train=nothing, trials=3).trials == first.trials
    assert nothing.calls == []
    more = search(part, tmp_path / "study", trials=5)
    assert more.trials[:3] == first.trials
    assert len(more.trials) == 5


def test_a_failed_trial_is_told_and_the_search_goes_on(part: DatasetPart, tmp_path: Path) -> None:
    def score(config: Config, settings: Settings) -> float:
        if not settings.rotate:
            raise RunError("step 3", "losses are no numbers any more", "Lower SOLVER.BASE_LR.")
        return near_a_hundredth(config, settings)

    said: list[str] = []
    found = search(part, tmp_path / "study", train=Fake(score), say=said.append)
    states = {trial.values["rotate"]: trial.state for trial in found.trials}
    assert states == {True: "finished", False: "failed"}
    assert any("failed: step 3: losses are no numbers any more" in line for line in said)
    assert "losses are no numbers any more" in (tmp_path / "study" / "trials.csv").read_text()


def test_memory_that_runs_out_is_the_trials_fault_a_full_disk_is_not(part: DatasetPart, tmp_path: Path) -> None:
    def hungry(config: Config, settings: Settings) -> float:
        if not settings.rotate:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.5

    assert {trial.state for trial in search(part, tmp_path / "a", train=Fake(hungry)).trials} == {"finished", "failed"}

    def full(config: Config, settings: Settings) -> float:
        raise RunError("model.pth", "cannot be saved", "Make room.") from OSError(28, "No space left on device")

    with pytest.raises(RunError, match="cannot be saved"):
        search(part, tmp_path / "b", train=Fake(full))
    again = Fake()
    search(part, tmp_path / "b", train=again, trials=1)
    assert again.calls == [("0000", True)]


def test_values_that_are_refused_together_end_the_search_and_are_not_tried_again(part: DatasetPart, tmp_path: Path) -> None:
    def score(config: Config, settings: Settings) -> float:
        raise ConfigError("config", "these two do not go together", "Change one.")

    with pytest.raises(ConfigError, match="do not go together"):
        search(part, tmp_path / "study", train=Fake(score))
    found = search(part, tmp_path / "study", trials=2)
    assert [(trial.state, "do not go together" in trial.reason) for trial in found.trials] == [
        ("failed", True),
        ("finished", False),
    ]


def test_a_path_with_letters_that_addresses_reserve(part: DatasetPart, tmp_path: Path) -> None:
    folder = tmp_path / "a 50% #1"
    search(part, folder, trials=1)
    assert (folder / "study.db").is_file()
    with pytest.raises(SightlineError, match="has a question mark in its path"):
        search(part, tmp_path / "what?")
    assert not (tmp_path / "what?").exists()


def test_no_trial_finished(part: DatasetPart, tmp_path: Path) -> None:
    def score(config: Config, settings: Settings) -> float:
        raise RunError("step 3", "diverged", "Lower it.")

    with pytest.raises(RunError, match=r"no trial was finished \(3 failed\)"):
        search(part, tmp_path / "study", train=Fake(score), trials=3)
    assert (tmp_path / "study" / "trials.csv").read_text().count("diverged") == 3


def test_hopeless_trials_are_pruned(part: DatasetPart, tmp_path: Path) -> None:
    fake = Fake()
    found = search(part, tmp_path / "study", train=fake, trials=20, prune=True)
    states = [trial.state for trial in found.trials]
    assert states[:5] == ["finished"] * 5
    assert "pruned" in states
    for trial, evaluations in zip(found.trials, fake.evaluations, strict=True):
        assert (evaluations < 4) == (trial.state == "pruned")
        assert trial.reason.startswith("hopeless: bbox/AP") == (trial.state == "pruned")
    assert found.best.state == "finished"


def test_without_pruning_all_are_finished(part: DatasetPart, tmp_path: Path) -> None:
    assert {trial.state for trial in search(part, tmp_path / "study", trials=12).trials} == {"finished"}


def ticking() -> Iterator[float]:
    yield from range(1000)


def test_no_trial_begins_after_the_time_limit(part: DatasetPart, tmp_path: Path) -> None:
    ticks = ticking()
    found = search(part, tmp_path / "study", time_limit_s=5.5, clock=lambda: next(ticks))
    assert len(found.trials) == 2


def test_another_search_in_the_same_folder_is_refused(part: DatasetPart, tmp_path: Path) -> None:
    search(part, tmp_path / "study", trials=1)
    with alone(tmp_path / "study"), pytest.raises(SightlineError, match="another search works in it"):
        search(part, tmp_path / "study")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"space": SPACE | {"rotate": {"choices": [True]}}}, "space: rotate: is", id="other choices"),
        pytest.param({"space": {"rotate": SPACE["rotate"]}}, "space: SOLVER.BASE_LR: is absent, and was", id="less space"),
        pytest.param({"space": SPACE | {"ema": {"choices": [0.5]}}}, "space: ema: is", id="more space"),
        pytest.param({"seed": 3}, "search: seed: is 3, and was 0 when the study in", id="another seed"),
        pytest.param({"asked": Asked(epochs=2)}, "asked: epochs: is 2, and was absent", id="more epochs"),
        pytest.param({"settings": Settings(metric="val_loss")}, 'settings: metric: is "val_loss"', id="another metric"),
    ],
)
def test_a_changed_study_is_refused(options: dict[str, Any], expected: str, part: DatasetPart, tmp_path: Path) -> None:
    search(part, tmp_path / "study", trials=1)
    with pytest.raises(ConfigError) as caught:
        search(part, tmp_path / "study", **options)
    assert expected in str(caught.value)
    assert "Set it back, or begin another study with -o." in str(caught.value)


def test_changed_data_are_refused(part: DatasetPart, tmp_path: Path) -> None:
    search(part, tmp_path / "study", trials=1)
    dataset = a_data_folder(tmp_path / "images", 7)
    coco.write(dataset, tmp_path / "all.json")
    with pytest.raises(ConfigError, match="data: validation images: is 7, and was 6 when the study"):
        search(part, tmp_path / "study", validation=DatasetPart(dataset, tmp_path / "images", tmp_path / "all.json"))


def test_what_is_asked_wrongly_leaves_nothing(part: DatasetPart, tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"validation": None}, "is missing, and trials are compared on it"),
        ({"settings": Settings(metric="segm/AP")}, "segm/AP"),
        ({"settings": Settings(rotate=True)}, "space: rotate: is searched, and given a value, too"),
        ({"fixed": ["SOLVER.BASE_LR"]}, "space: SOLVER.BASE_LR: is searched, and given a value, too"),
        ({"space": {"MODEL.ROI_HEADS.NUM_CLASSES": {"choices": [3]}}}, "the data set has 2 classes"),
        ({"space": tmp_path / "none.yaml"}, "cannot be read"),
    ]
    for options, expected in refused:
        with pytest.raises(ConfigError, match=expected):
            search(part, tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_several_processes_are_refused(part: DatasetPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="Start it without torchrun"):
        search(part, tmp_path / "study")


def test_foreign_folders_and_broken_records(part: DatasetPart, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(ConfigError, match=r"holds files, and no study.json"):
        search(part, tmp_path / "mine")
    search(part, tmp_path / "study", trials=1)
    (tmp_path / "study" / "study.db").write_bytes(b"no database at all")
    with pytest.raises(SightlineError, match="is no record of a study"):
        Study(tmp_path / "study", {}, metric="bbox/AP", seed=0)
    (tmp_path / "study" / "study.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        search(part, tmp_path / "study")


def test_a_loss_is_the_better_the_lower(part: DatasetPart, tmp_path: Path) -> None:
    trials = search(part, tmp_path / "study").trials
    lowest, highest = best_of(trials, "val_loss"), best_of(trials, "bbox/AP")
    assert lowest is not None
    assert highest is not None
    assert (lowest.value or 0) < (highest.value or 0)


def test_values_of_a_log_that_a_kill_has_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1, "bbox/AP": 0.5}\n{"iteration": 1, "total_loss": 2}\n{"bbox/AP": NaN}\n{"bbox/AP": 0.')
    assert read_values(path, "bbox/AP") == [0.5]
    assert read_values(tmp_path / "none", "bbox/AP") == []


def test_real_trainings_are_searched_and_resumed(part: DatasetPart, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed after its last step and before its end, the first trial goes on from its last checkpoint."""
    caplog.set_level("INFO")
    space = {"SOLVER.BASE_LR": {"low": 0.001, "high": 0.01}, "batch-size": {"choices": [1, 2]}}

    def killed(progress: Progress) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"validation": part, "trials": 2, "evaluations": 2, "workers": 0, "say": lambda line: None}
    with pytest.raises(KeyboardInterrupt):
        tune(a_config(), part, space, tmp_path / "study", show=killed, **options)
    found = tune(a_config(), part, space, tmp_path / "study", **options)
    assert "resumed from" in caplog.text
    assert [trial.state for trial in found.trials] == ["finished", "finished"]
    for trial in found.trials:
        left = {path.name for path in trial.folder.iterdir()}
        assert left >= {"config.yaml", "run.json", "metrics.json", "model_final.pth", "last_checkpoint"}
        config = load_file(trial.folder / "config.yaml")
        assert config.solver.base_lr == trial.values["SOLVER.BASE_LR"] or trial.values["batch-size"] == 1
        assert config.solver.ims_per_batch == trial.values["batch-size"]
        assert len(read_values(trial.folder / "metrics.json", "bbox/AP")) >= 2
    assert load_file(found.config) == load_file(found.best.folder / "config.yaml")
