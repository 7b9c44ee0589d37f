"""Hyperparameters as people and tools write them, and the command that comes of them."""

import dataclasses
from collections.abc import Mapping

import pytest
import typer

from sightline.cli.main import app
from sightline.config.sources import load
from sightline.containers.hyperparameters import (
    FIELDS,
    FOR_LABELS,
    OWN,
    PLATFORM,
    READING,
    TRAIN,
    Hyperparameters,
    said,
    understood,
)
from sightline.errors import ConfigError
from sightline.labels import ReadOptions


def read(**values: object) -> Hyperparameters:
    return from_texts(values)


def from_texts(values: Mapping[str, object]) -> Hyperparameters:
    return understood(values, lambda name: name or "small")


def test_options_are_those_of_sightline_train() -> None:
    """A new option must be put here, too, unless the platform decides it."""
    command = next(one for one in typer.main.get_command(app).commands.values() if one.name == "train")  # type: ignore[attr-defined]
    own = {option.removeprefix("--") for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert set(TRAIN) == own - {"data", "config", "output", "resume", "json", "help"}
    assert not (set(TRAIN) | set(OWN)) & (set(PLATFORM) - {"resume"})


def test_options_for_labels_are_those_of_sightline_run() -> None:
    command = next(one for one in typer.main.get_command(app).commands.values() if one.name == "run")  # type: ignore[attr-defined]
    own = {option.removeprefix("--") for parameter in command.params for option in parameter.opts if option.startswith("--")}
    trained = {"output", "seed", "config", "weights", "device", "workers", "json", "help"}
    assert set(FOR_LABELS) - {"split-seed"} == own - trained - {"images", "download"}
    fields = {FIELDS.get(name, name.replace("-", "_")) for name in READING}
    assert fields == {one.name for one in dataclasses.fields(ReadOptions)} - {"images", "download"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("epochs", "5", ["--epochs", "5.0"]),
        ("epochs", '"0.5"', ["--epochs", "0.5"]),
        ("batch_size", "16", ["--batch-size", "16"]),
        ("batch-size", "16.0", ["--batch-size", "16"]),
        ("--batch-size", "'16'", ["--batch-size", "16"]),
        ("Learning_Rate", "2.5e-4", ["--learning-rate", "0.00025"]),
        ("rotate", "true", ["--rotate"]),
        ("rotate", "True", ["--rotate"]),
        ("rotate", '"True"', ["--rotate"]),
        ("rotate", "1", ["--rotate"]),
        ("rotate", "false", []),
        ("rotate", "False", []),
        ("time-limit", "null", []),
        ("time-limit", "None", []),
        ("scale_jitter", "[0.8, 1.25]", ["--scale-jitter", "0.8", "1.25"]),
        ("scale_jitter", "(0.8, 1.25)", ["--scale-jitter", "0.8", "1.25"]),
        ("scale_jitter", "0.8 1.25", ["--scale-jitter", "0.8", "1.25"]),
        ("metric", '"bbox/AP50"', ["--metric", "bbox/AP50"]),
        ("weights", "", ["--weights", ""]),
        ("class-weights", "it's=2", ["--class-weights", "it's=2"]),
    ],
)
def test_values_as_json_as_python_and_plain(name: str, text: str, words: list[str]) -> None:
    assert from_texts({name: text}).words() == words


OPTS = ("SOLVER.IMS_PER_BATCH", "4", "SOLVER.STEPS", "(20, 30)")


@pytest.mark.parametrize(
    "text",
    [
        "SOLVER.IMS_PER_BATCH 4 SOLVER.STEPS (20, 30)",
        '"SOLVER.IMS_PER_BATCH 4 SOLVER.STEPS (20, 30)"',
        "['SOLVER.IMS_PER_BATCH', 4, 'SOLVER.STEPS', (20, 30)]",
        '["SOLVER.IMS_PER_BATCH", "4", "SOLVER.STEPS", "(20, 30)"]',
    ],
)
def test_opts_of_detectron2_jobs(text: str) -> None:
    asked = from_texts({"config-file": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", "opts": text})
    assert asked.config == "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    assert asked.overrides == OPTS


@pytest.mark.parametrize(
    "name", ["config", "config_file", "config-file", "--config-file", "local-config-file", "local_config_file"]
)
def test_the_configuration_by_all_its_names(name: str) -> None:
    assert from_texts({name: '"r50"'}).config == "r50"


def test_detectron2_keys_are_hyperparameters_and_win_over_opts() -> None:
    asked = from_texts(
        {"SOLVER.MAX_ITER": "10", "SEED": "3", "MODEL.MASK_ON": "true", "opts": "SOLVER.MAX_ITER 7", "SOLVER.STEPS": "[4, 8]"}
    )
    config = load("small", asked.overrides)
    assert (config.solver.max_iter, config.seed, config.model.mask_on, config.solver.steps) == (10, 3, True, (4, 8))


def test_what_the_platform_and_aws_tools_add_is_left_alone() -> None:
    asked = from_texts(
        {
            "sagemaker_program": '"train.py"',
            "_tuning_objective_metric": "bbox/AP",
            "resume": "True",
            "num-machines": "2",
            "eval-only": "False",
            "num_gpus": "2",
        }
    )
    assert asked.processes == 2
    assert asked.words() == []
    assert len(asked.notes) == 2
    assert "'resume' is left alone" in asked.notes[0]


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_texts(
            {
                "epoch": "3",
                "batch_size": "many",
                "rotate": "perhaps",
                "SOLVER.MAX_ITERS": "10",
                "SOLVR.MAX_ITER": "10",
                "eval-only": "true",
                "processes": "0",
                "seed": "1",
                "--seed": "2",
                "opts": "MODEL.X [1",
            }
        )
    text = str(caught.value)
    for part in (
        "'epoch': is none. Did you mean 'epochs'?",
        "'batch_size': is 'many'. Give a whole number.",
        "'rotate': is 'perhaps'. Give true or false.",
        "Did you mean 'SOLVER.MAX_ITER'?",
        "SOLVR.MAX_ITER",
        "'eval-only': is true",
        "'processes': is 0",
        "'--seed': is given twice",
        "opts: '[' at character 9 is never closed",
    ):
        assert part in text


def test_labels_and_their_division() -> None:
    asked = read(fractions='["train=0.8", "val=0.2"]', group_by="prefix,video", label_attribute="job", split_seed="4")
    assert asked.fractions == ("train=0.8", "val=0.2")
    assert asked.group_by == ("prefix", "video")
    assert asked.reading.label_attributes == ("job",)
    assert asked.for_labels == ("fractions", "split-seed", "group-by", "label-attribute")
    assert asked.split_seed == 4
    assert asked.words() == []


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (True, "true"), ("'", "'"), (" x ", "x")])
def test_texts(value: object, text: str) -> None:
    assert said(value) == text
