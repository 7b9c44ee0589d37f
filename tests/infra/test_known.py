"""The app's copies of names are what the package and the platform have, and a misspelt one is told before it costs."""

import pytest
from sightline_infra.known import HYPERPARAMETERS, IGNORED, KEY, KEYS, hyperparameter_problems

from sightline.config.yaml_dialect import TYPES
from sightline.containers import hyperparameters as container


def test_hyperparameters_are_the_containers() -> None:
    read = (*container.TRAIN, *container.OWN, *container.READING, *container.ALSO, *container.PLATFORM)
    assert read == HYPERPARAMETERS
    assert container.IGNORED == IGNORED
    assert sorted(key for key in TYPES if "." not in key) == sorted(KEYS)
    assert all(KEY.fullmatch(key) for key in TYPES if "." in key)


@pytest.mark.parametrize(
    ("name", "near"),
    [("epoch", "epochs"), ("learning_rte", "learning-rate"), ("confg", "config"), ("SEDE", "SEED"), ("solver.base_lr", "")],
)
def test_a_misspelt_hyperparameter_is_told(name: str, near: str) -> None:
    (problem,) = hyperparameter_problems({name: "1", "config": "r50"})
    assert problem.startswith(f"hyperparameters: {name!r} is none. " + (f"Did you mean {near}?" if near else ""))


@pytest.mark.parametrize(
    "name", ["epochs", "--batch_size", "num-gpus", "SEED", "SOLVER.BASE_LR", "sagemaker_region", "MODEL.RPN.NMS_THRESH"]
)
def test_what_the_container_takes_passes(name: str) -> None:
    assert list(hyperparameter_problems({name: "1"})) == []
    assert container.parse({name: "1"})[1] == []
