"""A whole training, tiny: the run folder, what is refused before it starts, and resuming bit by bit."""

import json
import logging
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import a_config, a_data_folder, a_detector, a_measure, a_run, in_processes
from torch.testing import assert_close

from sightline.cloud.metrics import values_of
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import load_file
from sightline.errors import CheckpointError, ConfigError, DatasetError, Interrupted, RunError, SightlineError
from sightline.training.hooks import Guard, Progress, Validate
from sightline.training.run import DEFAULT_CLASSES, Run, run_training, with_classes, with_seed
from sightline.training.settings import PLAIN, Settings
from sightline.training.validation import Validation


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["model"])


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A run that is killed when `step` steps are done, before anything of that step is saved."""

    def after_step(self: Guard, state: Any, losses: object, batch: object) -> None:
        if state.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Guard, "after_step", after_step)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return a_run(tmp_path_factory.mktemp("finished") / "run")


def test_what_a_run_leaves(finished: Run) -> None:
    assert {path.name for path in finished.folder.iterdir()} >= {
        "config.yaml", "run.json", "metrics.json", "model_0000001.pth", "last_checkpoint", "model_final.pth",
    }  # fmt: skip
    assert not list(finished.folder.glob("*.partial"))
    assert (finished.checkpoint, finished.class_names, finished.steps) == (
        finished.folder / "model_final.pth",
        ("cat", "dog"),
        4,
    )
    assert (finished.folder / "last_checkpoint").read_text(encoding="utf-8") == "model_final.pth"


def test_the_config_tells_everything(finished: Run) -> None:
    config = load_file(finished.folder / "config.yaml")
    require_supported(config, "config.yaml")
    assert config == replace(a_config(), model=config.model)
    assert (config.model.roi_heads.num_classes, config.model.retinanet.num_classes) == (2, 2)


def test_run_json_tells_what_the_config_cannot(finished: Run) -> None:
    facts = json.loads((finished.folder / "run.json").read_text(encoding="utf-8"))
    assert facts["versions"].keys() == {"sightline", "torch"}
    del facts["versions"]
    assert facts.pop("settings") == json.loads(json.dumps(PLAIN.as_dict()))
    assert facts == {
        "format": 1,
        "class_names": ["cat", "dog"],
        "images": 6,
        "boxes": 6,
        "steps": 4,
        "batch_size": 2,
        "seed": 0,
        "processes": 1,
    }


def test_metrics_are_json_lines(finished: Run) -> None:
    (line,) = (finished.folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    metrics = json.loads(line)
    assert metrics["iteration"] == 3
    assert {"total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "lr", "eta_seconds"} <= metrics.keys()


def test_the_weights_have_learned(finished: Run) -> None:
    fresh, trained = a_detector(seed=0).state_dict(), weights_of(finished.checkpoint)
    assert fresh.keys() == trained.keys()
    assert not torch.equal(
        fresh["roi_heads.box_predictor.cls_score.weight"], trained["roi_heads.box_predictor.cls_score.weight"]
    )


def test_the_same_seed_gives_the_same_bits(finished: Run, tmp_path: Path) -> None:
    assert_close(weights_of(a_run(tmp_path / "run").checkpoint), weights_of(finished.checkpoint), rtol=0, atol=0)


def test_another_seed_gives_others(finished: Run, tmp_path: Path) -> None:
    other = weights_of(a_run(tmp_path / "run", "SEED", "5").checkpoint)
    assert not torch.equal(
        other["backbone.fpn_lateral3.weight"], weights_of(finished.checkpoint)["backbone.fpn_lateral3.weight"]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Killed at step 5 of 6, two steps after a checkpoint: weights, momentum and random draws continue as if nothing was."""
    overrides = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "3", "INPUT.RANDOM_FLIP", "horizontal")
    whole = a_run(tmp_path / "whole", *overrides, workers=workers)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(KeyboardInterrupt):
            a_run(tmp_path / "killed", *overrides, workers=workers)
    assert (tmp_path / "killed" / "last_checkpoint").read_text(encoding="utf-8") == "model_0000002.pth"
    torch.manual_seed(12345)  # another process
    resumed = a_run(tmp_path / "killed", *overrides, workers=workers, resuming=True)
    one, other = (torch.load(run.checkpoint, weights_only=True) for run in (whole, resumed))
    assert_close(dict(other["model"]), dict(one["model"]), rtol=0, atol=0)
    assert_close(other["optimizer"]["state"], one["optimizer"]["state"], rtol=0, atol=0)
    assert (other["iteration"], other["scheduler"]) == (one["iteration"], one["scheduler"])
    assert_close(other["sightline"]["ranks"], one["sightline"]["ranks"])


def test_a_drawn_seed_is_kept_when_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            a_run(tmp_path / "run", "SEED", "-1")
    drawn = load_file(tmp_path / "run" / "config.yaml").seed
    assert drawn >= 0
    a_run(tmp_path / "run", "SEED", "-1", resuming=True)
    assert load_file(tmp_path / "run" / "config.yaml").seed == drawn


def test_drawn_seeds_differ() -> None:
    config = a_config("SEED", "-1")
    assert len({with_seed(config, {}).seed for _ in range(8)}) > 1
    assert with_seed(a_config("SEED", "3"), {}).seed == 3
    assert with_seed(a_config("SEED", "3"), {"seed": 9}).seed == 9  # of the run that goes on


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            a_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text('{"iteration": 0}\n', encoding="utf-8")
    again = a_run(tmp_path / "run", resuming=True)
    assert_close(weights_of(again.checkpoint), weights_of(finished.checkpoint), rtol=0, atol=0)
    lines = (tmp_path / "run" / "metrics.json").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [3]


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    before = weights_of(a_run(tmp_path / "run").checkpoint)
    again = a_run(tmp_path / "run", resuming=True)
    assert again.steps == 4
    assert_close(weights_of(again.checkpoint), before, rtol=0, atol=0)


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    shown: list[Progress] = []
    longer = a_run(tmp_path / "run", "SOLVER.MAX_ITER", "6", resuming=True, show=shown.append)
    assert (longer.steps, [progress.step for progress in shown]) == (6, [6])


def test_classes_come_from_the_data_set() -> None:
    for asked in (DEFAULT_CLASSES, 3):
        config = with_classes(a_config("MODEL.ROI_HEADS.NUM_CLASSES", str(asked)), ("a", "b", "c"), "config")
        assert (config.model.roi_heads.num_classes, config.model.retinanet.num_classes) == (3, 3)


def test_a_contradicting_number_of_classes(tmp_path: Path) -> None:
    message = r"mine\.yaml: MODEL\.ROI_HEADS\.NUM_CLASSES is 5, the data set has 2 classes \(cat, dog\)\. Leave the key out"
    with pytest.raises(ConfigError, match=message):
        a_run(tmp_path / "run", "MODEL.ROI_HEADS.NUM_CLASSES", "5", where="mine.yaml")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("leftover", ["metrics.json", "last_checkpoint", "model_final.pth"])
def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, leftover: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / leftover).write_text("", encoding="utf-8")
    with pytest.raises(SightlineError, match=r"run: already holds a run\. Choose another folder, .* --resume") as caught:
        a_run(tmp_path / "run")
    assert caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == [leftover]


def test_a_model_without_state_is_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_final.pth").write_text("", encoding="utf-8")
    with pytest.raises(SightlineError, match=r"holds a model_final\.pth, but no last_checkpoint to go on from\. .*--weights"):
        a_run(tmp_path / "run", resuming=True)


def test_a_resumed_run_has_the_same_classes(finished: Run, tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path / "images", names=("dog", "cat"))
    message = r"run\.json: says classes \['cat', 'dog'\], the data set has \['dog', 'cat'\]\. Train into another folder"
    with pytest.raises(SightlineError, match=message):
        run_training(a_config(), dataset=dataset, images=tmp_path / "images", output=finished.folder, resuming=True)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        pytest.param(("MODEL.KEYPOINT_ON", "True"), ConfigError, r"MODEL\.KEYPOINT_ON is True, which is not", id="keypoints"),
        pytest.param(("MODEL.MASK_ON", "True"), DatasetError, r"6 of 6 boxes have no mask", id="missing masks"),
        pytest.param(("MODEL.DEVICE", "tpu9"), ConfigError, r"device: 'tpu9' cannot be used", id="a device"),
        pytest.param(("MODEL.WEIGHTS", "gone.pth"), CheckpointError, r"gone\.pth: does not exist", id="missing weights"),
        pytest.param(
            ("INPUT.MIN_SIZE_TRAIN", "()"), ConfigError, r"INPUT\.MIN_SIZE_TRAIN is \[\], .* at least one", id="no size"
        ),
        pytest.param(
            ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", "(64, 48)"),
            ConfigError,
            r"INPUT\.MIN_SIZE_TRAIN is \[64, 48\], sampled by 'range'\. Give the two ends of the range",
            id="a range that falls",
        ),
        pytest.param(("SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0"), ConfigError, r"SOLVER: cannot be used", id="solver"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    tmp_path: Path, overrides: tuple[str, ...], error: type[SightlineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        a_run(tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()


def test_a_data_set_without_boxes(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path / "images", count=2, empty=2)
    with pytest.raises(DatasetError, match=r"training data: 2 pictures hold no box to learn from\. Add labelled pictures"):
        run_training(a_config(), dataset=dataset, images=tmp_path / "images", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_losses_that_are_no_numbers_stop_the_run(tmp_path: Path) -> None:
    message = r"step \d: losses are no numbers any more: .*; the batch was 00\d\.png, 00\d\.png\. Lower SOLVER\.BASE_LR"
    with pytest.raises(RunError, match=message) as caught:
        a_run(tmp_path / "run", "SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0", "SOLVER.CHECKPOINT_PERIOD", "0")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run" / "model_final.pth").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_vanishes_is_named_whoever_reads_it(tmp_path: Path, workers: int) -> None:
    dataset = a_data_folder(tmp_path / "images")
    for record in dataset.images:
        (tmp_path / "images" / record.file_name).unlink()
    with pytest.raises(DatasetError, match=r"00\d\.png: cannot be read \(No such file or directory\)") as caught:
        run_training(a_config(), dataset=dataset, images=tmp_path / "images", output=tmp_path / "run", workers=workers)
    assert len(caught.value.problems) == 2  # the whole batch


def test_starting_from_a_runs_weights(finished: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sightline"):
        a_run(tmp_path / "run", "MODEL.WEIGHTS", str(finished.checkpoint), "SOLVER.BASE_LR", "1e-9")
    loaded = weights_of(tmp_path / "run" / "model_final.pth")
    name = "roi_heads.box_predictor.cls_score.weight"
    assert_close(loaded[name], weights_of(finished.checkpoint)[name])
    assert any(re.search(r"weights .*model_final\.pth: \d+ tensors loaded", line) for line in caplog.messages)


def test_weights_that_fit_in_part_are_reported(finished: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = weights_of(finished.checkpoint)
    tensors["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(81, 16)
    tensors["roi_heads.mask_head.deconv.weight"] = torch.zeros(1)
    del tensors["backbone.fpn_lateral3.weight"]
    torch.save(tensors, tmp_path / "other.pth")
    with caplog.at_level(logging.INFO, logger="sightline"):
        a_run(tmp_path / "run", "MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    text = "\n".join(caplog.messages)
    assert "trained for 80 classes, this data set has 2: roi_heads.box_predictor.cls_score.weight start fresh" in text
    assert "1 not in the file, left as initialised: backbone.fpn_lateral3.weight" in text
    assert "1 in the file that the model has no place for: roi_heads.mask_head.deconv.weight" in text


def test_weights_that_fit_nowhere_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"other\.pth: shares no tensor with the model .*Give weights of this architecture"
    ):
        a_run(tmp_path / "run", "MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    assert not (tmp_path / "run").exists()


FROZEN = r"warning: training starts from random weights, and \d+ tensors of the backbone are frozen and will stay random"


def test_frozen_random_weights_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a_run(tmp_path / "run", "MODEL.BACKBONE.FREEZE_AT", "2")
    assert [record.levelname for record in caplog.records if re.match(FROZEN, record.getMessage())] == ["WARNING"]
    caplog.clear()
    a_run(tmp_path / "run", "MODEL.BACKBONE.FREEZE_AT", "2", "SOLVER.MAX_ITER", "5", resuming=True)
    assert not any(re.match(FROZEN, message) for message in caplog.messages)


def test_nothing_frozen_nothing_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a_run(tmp_path / "run")
    assert not any(re.match(FROZEN, message) for message in caplog.messages)


def test_training_on_background_batches(tmp_path: Path) -> None:
    """Batches of two out of six pictures of which one has a box: most hold none at all."""
    dataset = a_data_folder(tmp_path / "images", empty=5)
    run = run_training(a_config(), dataset=dataset, images=tmp_path / "images", output=tmp_path / "run", workers=0)
    assert all(torch.isfinite(value).all() for value in weights_of(run.checkpoint).values())


def test_a_judge_ends_a_run_after_an_evaluation(tmp_path: Path) -> None:
    asked: list[int] = []

    def judge(step: int, numbers: Mapping[str, float]) -> str:
        assert "val_loss" in numbers
        asked.append(step)
        return "seen enough" if step == 2 else ""

    images = tmp_path / "images"
    dataset = a_data_folder(images)
    config = a_config("TEST.EVAL_PERIOD", "1")
    run = run_training(
        config, dataset=dataset, images=images, validation=(dataset, images), output=tmp_path / "run", workers=0, judge=judge
    )
    assert (asked, run.steps) == ([1, 2], 2)
    assert run.checkpoint.is_file()


LONGER = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "3", "INPUT.RANDOM_FLIP", "horizontal", "TEST.EVAL_PERIOD", "2")


def a_measured_run(folder: Path, *values: float, **options: Any) -> Run:
    """A run of six steps whose evaluations, after every second one, give `values` in their order."""
    measure = a_measure(*values)
    images = folder.parent / f"{folder.name}-images"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Validation, "__call__", lambda self: measure())
        return a_run(folder, *LONGER, validation=(a_data_folder(images), images), **options)


def asked_to_end(step: int) -> pytest.MonkeyPatch:
    """A SIGTERM that comes while `step` is under way."""
    patched = pytest.MonkeyPatch()
    original = Guard.after_step

    def after_step(self: Guard, state: Any, losses: Any, batch: Any) -> None:
        if state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, state, losses, batch)

    patched.setattr(Guard, "after_step", after_step)
    return patched


@pytest.mark.parametrize("step", [1, 4, 6], ids=["first step", "an evaluation is due", "last step"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(step: int, tmp_path: Path) -> None:
    values = {2: 0.3, 4: 0.5, 6: 0.4}
    whole = a_measured_run(tmp_path / "whole", *values.values())
    patched = asked_to_end(step)
    try:
        with pytest.raises(
            Interrupted, match=rf"run: was asked to end, and is saved after {step} steps\. Go on with"
        ) as caught:
            a_measured_run(tmp_path / "run", *values.values())
    finally:
        patched.undo()
    assert caught.value.exit_code == 143
    assert (tmp_path / "run" / "last_checkpoint").read_text(encoding="utf-8") == f"model_{step - 1:07d}.pth"
    assert not (tmp_path / "run" / "model_final.pth").exists()
    torch.manual_seed(99)  # another process
    left = [value for at, value in values.items() if at >= step]
    resumed = a_measured_run(tmp_path / "run", *left, resuming=True)
    one, other = (torch.load(run.checkpoint, weights_only=True) for run in (whole, resumed))
    assert_close(dict(other["model"]), dict(one["model"]), rtol=0, atol=0)
    for state in (one["sightline"]["state"], other["sightline"]["state"]):
        assert (state["best"], state["best_step"], state["stale"], state["owed"]) == (0.5, 4, 1, False)
    assert_close(weights_of(tmp_path / "run" / "model_best.pth"), weights_of(tmp_path / "whole" / "model_best.pth"))


def test_sigterm_ends_a_process_again_after_the_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    a_run(tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before


def killed(folder: Path, module: str, name: str, call: int) -> None:
    """A run that SIGKILL ends in the `call`th call of a function."""
    import importlib

    owner = importlib.import_module(module)
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
    last = name.rpartition(".")[2]
    original, calls = getattr(owner, last), []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, last, counted)
    a_killable_run(folder)


def a_killable_run(folder: Path, **options: Any) -> Run:
    images = folder.parent / "images"
    dataset = a_data_folder(images)
    keys = ("SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2")
    return a_run(folder, *keys, validation=(dataset, images), settings=Settings(ema=0.9, keep=1), **options)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return a_killable_run(tmp_path_factory.mktemp("never_killed") / "run")


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        pytest.param("os", "fsync", 9, id="while a file is written"),
        pytest.param("sightline.training.state", "write_text", 2, id="before last_checkpoint names it"),
        pytest.param("sightline.training.hooks", "remove_old", 1, id="while old ones are removed"),
        pytest.param("sightline.training.learner", "Learner.losses", 4, id="while learning"),
        pytest.param("sightline.training.validation", "Validation.scores", 2, id="while measuring"),
    ],
)
def test_a_killed_run_goes_on_bit_by_bit(module: str, name: str, call: int, never_killed: Run, tmp_path: Path) -> None:
    whole = torch.load(never_killed.checkpoint, weights_only=True)
    assert in_processes(1, killed, tmp_path / "run", module, name, call) == [-signal.SIGKILL]
    assert not (tmp_path / "run" / "model_final.pth").exists()
    torch.manual_seed(99)
    resumed = a_killable_run(tmp_path / "run", resuming=True)
    again = torch.load(resumed.checkpoint, weights_only=True)
    assert_close(dict(again["model"]), dict(whole["model"]), rtol=0, atol=0)
    assert_close(again["sightline"]["ranks"], whole["sightline"]["ranks"], rtol=0, atol=0)
    for key in ("best", "best_step", "stale"):
        assert again["sightline"]["state"][key] == whole["sightline"]["state"][key]
    assert not list(resumed.folder.glob(".*.partial"))
    iterations = [
        json.loads(line)["iteration"] for line in (resumed.folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    ]
    assert iterations == sorted(iterations)
    assert iterations.count(1) == 1, "an evaluation that was made again is told once"


def test_patience_ends_a_run_and_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(patience=2)
    with monkeypatch.context() as patched:
        stop_after(patched, 4)
        with pytest.raises(KeyboardInterrupt):
            a_measured_run(tmp_path / "run", 0.5, settings=settings)
    resumed = a_measured_run(tmp_path / "run", 0.4, 0.3, settings=settings, resuming=True)
    assert resumed.steps == 6
    ended = a_measured_run(tmp_path / "other", 0.5, 0.4, 0.5, 0.9, settings=settings)
    state = torch.load(ended.checkpoint, weights_only=True)["sightline"]["state"]
    assert (ended.steps, state["best"], state["best_step"], state["stale"]) == (6, 0.5, 2, 2)
    early = a_measured_run(tmp_path / "early", 0.5, 0.4, settings=Settings(patience=1))
    assert early.steps == 4
    again = a_measured_run(tmp_path / "early", 0.9, settings=Settings(patience=1), resuming=True)
    assert again.steps == 4, "its patience is used up still"
    assert a_measured_run(tmp_path / "early", 0.9, settings=Settings(patience=2), resuming=True).steps == 6


def test_the_best_checkpoint_has_the_weights_that_were_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sightline"):
        run = a_measured_run(tmp_path / "run", 0.1, 0.2, 0.15, settings=Settings(keep=0))
    told = [values_of(line) for line in caplog.messages if line.startswith("evaluation after")]
    assert [line["best-bbox-AP"] for line in told] == [0.1, 0.2, 0.2], "what a search on SageMaker compares by"
    best = torch.load(run.folder / "model_best.pth", weights_only=True)
    assert best["iteration"] == 3
    final = weights_of(run.checkpoint)
    assert best["model"].keys() == final.keys()
    assert not torch.equal(best["model"]["backbone.fpn_lateral3.weight"], final["backbone.fpn_lateral3.weight"])
    last = a_measured_run(tmp_path / "last", 0.1, 0.2, 0.3)
    assert_close(weights_of(last.folder / "model_best.pth"), weights_of(last.checkpoint), rtol=0, atol=0)


def test_a_loss_is_the_better_the_lower() -> None:
    validate = Validate(None, dict, 1, 1, Path(), "val_loss", 0)  # type: ignore[arg-type]
    assert validate.better(0.5, None) and validate.better(0.4, 0.5)
    assert not validate.better(0.5, 0.5) and not validate.better(float("nan"), None)


def test_a_time_limit_saves_a_final_model_and_holds(tmp_path: Path) -> None:
    hurried = Settings(time_limit_s=1e-9)
    run = a_run(tmp_path / "run", settings=hurried)
    assert (run.steps, run.checkpoint.name) == (1, "model_final.pth")
    assert a_run(tmp_path / "run", settings=hurried, resuming=True).steps == 1
    longer = a_run(tmp_path / "run", resuming=True)
    assert longer.steps == 4
    whole = a_run(tmp_path / "whole")
    assert_close(weights_of(longer.checkpoint), weights_of(whole.checkpoint), rtol=0, atol=0)


def test_a_metric_that_evaluations_do_not_give_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--metric: is 'bbox/AP60', which evaluations do not give"):
        a_measured_run(tmp_path / "run", 0.5, settings=Settings(metric="bbox/AP60"))
    assert not (tmp_path / "run").exists()


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    every = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "1")
    run = a_run(tmp_path / "run", *every, settings=Settings(keep=2))
    assert sorted(path.name for path in run.folder.glob("model_0*.pth")) == ["model_0000003.pth", "model_0000004.pth"]
    assert len(list(a_run(tmp_path / "all", *every, settings=Settings(keep=0)).folder.glob("model_0*.pth"))) == 5


def test_everything_that_differs_from_the_run_that_goes_on_is_told(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    with pytest.raises(ConfigError) as caught:
        a_run(
            tmp_path / "run", "SOLVER.IMS_PER_BATCH", "3", "MODEL.FPN.OUT_CHANNELS", "8", "INPUT.RANDOM_FLIP", "vertical",
            "SOLVER.BASE_LR", "0.5", "MODEL.WEIGHTS", "other.pth", resuming=True, settings=Settings(mosaic=0.5),
        )  # fmt: skip
    assert {problem.where for problem in caught.value.problems} == {
        "SOLVER.IMS_PER_BATCH", "MODEL.FPN.OUT_CHANNELS", "INPUT.RANDOM_FLIP", "--mosaic",
    }  # fmt: skip
    assert "SOLVER.IMS_PER_BATCH: is 3, and was 2 when the run in" in str(caught.value)


def test_another_metric_begins_its_own_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a_measured_run(tmp_path / "run", 0.9)
    measure = a_measure(0.1)
    with pytest.MonkeyPatch.context() as patched, caplog.at_level(logging.INFO, logger="sightline"):
        patched.setattr(Validation, "__call__", lambda self: {"val_loss": measure()["bbox/AP"], "bbox/AP": 0.0})
        images = tmp_path / "run-images"
        part = (a_data_folder(images), images)
        keys = (*LONGER, "SOLVER.MAX_ITER", "8")
        again = a_run(tmp_path / "run", *keys, validation=part, settings=Settings(metric="val_loss"), resuming=True)
    assert torch.load(again.checkpoint, weights_only=True)["sightline"]["state"]["best"] == 0.1
    assert "what is best is chosen by val_loss from here on, and was by bbox/AP" in caplog.messages


def test_exploding_losses_name_their_pictures_and_leave_the_checkpoint(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"step \d: losses (have exploded|are no numbers any more): .*; the batch was 00\d\.png"):
        a_run(tmp_path / "run", "SOLVER.MAX_ITER", "40", "SOLVER.BASE_LR", "1e6", resuming=True)
    assert torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["iteration"] == 3
    last = (tmp_path / "run" / "last_checkpoint").read_text(encoding="utf-8")
    assert (tmp_path / "run" / last).is_file()


def test_no_space_for_a_checkpoint_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2")
    whole = a_run(tmp_path / "whole", *overrides)
    original, calls = os.fsync, []

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 100_000:  # a checkpoint
            calls.append(descriptor)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        message = (
            r"model_0000003\.pth: cannot be saved \(No space left on device\); the checkpoint before it is as it was\. Make"
        )
        with pytest.raises(RunError, match=message):
            a_run(tmp_path / "run", *overrides)
    assert (tmp_path / "run" / "last_checkpoint").read_text(encoding="utf-8") == "model_0000001.pth"
    again = a_run(tmp_path / "run", *overrides, resuming=True)
    assert_close(weights_of(again.checkpoint), weights_of(whole.checkpoint), rtol=0, atol=0)
