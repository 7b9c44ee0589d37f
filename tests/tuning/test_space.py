"""A search's space: what is read from it, and everything that is refused before a trial begins."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import a_config
from hypothesis import given
from hypothesis import strategies as st

from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.errors import ConfigError
from sightline.tuning.options import OPTIONS, Recipe, varied
from sightline.tuning.space import Choices, Range, load_space, number


def attempt(values: Mapping[str, object]) -> Config:
    config = varied(Recipe(a_config()), values, "config").config
    require_supported(config, "config")
    return config


def refused(space: Mapping[str, object]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_space(space, attempt)
    return caught.value


def test_a_file_with_all_kinds_of_entries(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        """
        SOLVER.BASE_LR: {low: 1e-4, high: 1e-1, log: true}
        SOLVER:
          IMS_PER_BATCH: {choices: [2, 4, 8]}
        MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE: {low: 16, high: 128, step: 16}
        INPUT.MIN_SIZE_TRAIN: {choices: [[48, 64], [96]]}
        SOLVER.MOMENTUM: {choices: [8e-1, 0.9]}
        mosaic: {low: 0, high: 0.5}
        rotate: {choices: [true, false]}
        scale-jitter: {choices: [[0.8, 1.2]]}
        """,
        encoding="utf-8",
    )
    assert load_space(path, attempt) == {
        "SOLVER.BASE_LR": Range(low=1e-4, high=0.1, log=True),
        "SOLVER.IMS_PER_BATCH": Choices((2, 4, 8)),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": Range(low=16, high=128, step=16, whole=True),
        "INPUT.MIN_SIZE_TRAIN": Choices(([48, 64], [96])),
        "SOLVER.MOMENTUM": Choices((0.8, 0.9)),
        "mosaic": Range(low=0, high=0.5),
        "rotate": Choices((True, False)),
        "scale-jitter": Choices(([0.8, 1.2],)),
    }


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        pytest.param("SOLVER.BASE_LRS", {"choices": [1.0]}, "Did you mean 'SOLVER.BASE_LR'?", id="misspelt key"),
        pytest.param("learning_rate", {"choices": [1.0]}, "Did you mean 'learning-rate'?", id="misspelt option"),
        pytest.param(
            "xyzzy", {"choices": [1.0]}, "Give a Detectron2 key, or one of accumulate, batch-size", id="no such thing"
        ),
        pytest.param("patience", {"choices": [1]}, "is no key and no option that can be searched", id="option of the run"),
        pytest.param("SOLVER.BASE_LR", 0.1, "is 0.1. Give {low: ..., high: ...}", id="no entry"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "hihg": 2}, "has 'hihg'. Did you mean 'high'?", id="misspelt word"),
        pytest.param("SOLVER.BASE_LR", {"low": 1}, "has no 'high'", id="half a range"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": "much"}, "has high: 'much'. Give a number.", id="no number"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": math.inf}, "has high: inf. Give a number.", id="infinite"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": True}, "has high: True. Give a number.", id="truth as number"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": 1}, "goes from 1 to 1", id="empty range"),
        pytest.param("SOLVER.BASE_LR", {"low": 0, "high": 1, "log": True}, "has a log scale from 0", id="log of 0"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": 2, "log": "yes"}, "has log: 'yes'", id="log is no truth"),
        pytest.param(
            "SOLVER.BASE_LR", {"low": 1, "high": 2, "log": True, "step": 0.5}, "has a log scale and a step", id="log and step"
        ),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": 2, "step": 0.3}, "has step 0.3 from 1 to 2", id="step misses high"),
        pytest.param("SOLVER.BASE_LR", {"low": 1, "high": 2, "step": -1}, "has step -1 from 1 to 2", id="step down"),
        pytest.param(
            "SOLVER.BASE_LR", {"low": 0, "high": 1}, "SOLVER.BASE_LR is 0.0, which is not supported", id="refused end"
        ),
        pytest.param("SOLVER.MAX_ITER", {"low": 1.5, "high": 3}, "has low: 1.5. Give a whole number.", id="half a step"),
        pytest.param(
            "SOLVER.MAX_ITER", {"choices": ["ten"]}, "SOLVER.MAX_ITER is 'ten'. Give a whole number.", id="wrong kind"
        ),
        pytest.param("MODEL.RESNETS.NORM", {"low": 1, "high": 2}, "is no number, and has no range", id="range of texts"),
        pytest.param("MODEL.RESNETS.NORM", {"choices": ["BN", "XN"]}, "MODEL.RESNETS.NORM is 'XN'", id="refused choice"),
        pytest.param("SOLVER.BASE_LR", {"choices": []}, "has the choices []", id="no choices"),
        pytest.param("SOLVER.BASE_LR", {"choices": [0.1, "1e-1"]}, "has a choice twice", id="a choice twice"),
        pytest.param("SOLVER.BASE_LR", {"choices": [{}]}, "has the choice {}", id="no plain value"),
        pytest.param("SOLVER.BASE_LR", {"choices": [1.0], "low": 1}, "has choices and a range", id="both"),
        pytest.param(
            "ema", {"low": 0, "high": 1}, "reaches 1.0. Give a number from 0 to 0.99999.", id="option beyond its limit"
        ),
        pytest.param("epochs", {"choices": [0]}, "has the choice 0. Give a number above 0.", id="no epochs"),
        pytest.param("rotate", {"choices": [1]}, "has the choice 1. Give true or false.", id="number as truth"),
        pytest.param("precision", {"choices": ["fp8"]}, "has the choice 'fp8'. Give fp32 or bf16 or fp16.", id="no precision"),
        pytest.param("scale-jitter", {"choices": [[1]]}, "has the choice [1]. Give two numbers above 0.", id="no pair"),
        pytest.param("OUTPUT_DIR", {"choices": ["a"]}, "changes nothing: the run folder is what -o names", id="ignored"),
        pytest.param("MODEL.RETINANET.PRIOR_PROB", {"low": 0.1, "high": 0.2}, "acts only in or with RetinaNet", id="idle"),
    ],
)
def test_refused(name: str, entry: object, expected: str) -> None:
    error = refused({name: entry})
    assert expected in str(error)
    assert error.where.startswith(f"space: {name}")


def test_everything_wrong_is_said_at_once() -> None:
    error = refused({"SOLVER.BASE_LRS": 1, "ema": {"low": 2, "high": 1}, "MODEL.RESNETS.NORM": {"choices": ["XN", "YN"]}})
    assert [problem.where for problem in error.problems] == [
        "space: SOLVER.BASE_LRS", "space: ema", "space: MODEL.RESNETS.NORM 'XN'", "space: MODEL.RESNETS.NORM 'YN'",
    ]  # fmt: skip


def test_nothing_to_search() -> None:
    assert "varies nothing" in str(refused({}))


def test_two_names_for_one_setting() -> None:
    error = refused({"learning-rate": {"low": 0.1, "high": 1}, "SOLVER.BASE_LR": {"low": 0.1, "high": 1}})
    assert str(error) == "space: learning-rate: and SOLVER.BASE_LR decide the same. Keep one of them."


def test_a_key_that_another_one_switches_on_is_no_idle_one() -> None:
    space = {
        "SOLVER.CLIP_GRADIENTS.ENABLED": {"choices": [True, False]},
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": {"low": 0.1, "high": 1},
    }
    assert len(load_space(space, attempt)) == 2


def test_every_option_is_one_of_train() -> None:
    """By name, in `sightline train`, `Asked` or `Settings`."""
    import inspect

    from sightline.cli.train import train

    assert {name.replace("-", "_") for name in OPTIONS} <= set(inspect.signature(train).parameters)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_text_are_numbers(value: float) -> None:
    assert number(repr(value), whole=False) == value


numbers = st.floats(-10, 10, allow_nan=False)


@given(numbers, numbers, st.booleans(), st.none() | st.floats(-1, 5))
def test_a_range_is_refused_or_can_be_drawn_from(low: float, high: float, log: bool, step: float | None) -> None:
    """Whatever Optuna would not take is refused here, with a sentence."""
    optuna = pytest.importorskip("optuna")
    from sightline.tuning.study import distribution

    entry: dict[str, Any] = {"low": low, "high": high, "log": log} | ({} if step is None else {"step": step})
    try:
        (found,) = load_space({"SOLVER.WEIGHT_DECAY": entry}, lambda values: a_config()).values()
    except ConfigError:
        return
    assert isinstance(found, Range)
    drawn = distribution(found, optuna)
    assert (drawn.low, drawn.high) == (low, high)
