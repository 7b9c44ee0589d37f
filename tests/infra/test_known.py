"""The app's copies of names are what the package and the platform have, and a misspelt one is told before it costs."""

import pytest
from sightline_infra.known import HYPERPARAMETERS, IGNORED, KEY, KEYS, MACHINES, TRAINING_MACHINES, hyperparameter_problems
from sightline_infra.settings import Settings, bucket_fault, warnings_of

from sightline.config.yaml_dialect import TYPES
from sightline.containers import hyperparameters as container
from sightline.s3 import address


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


def test_machines_are_the_platforms() -> None:
    """A newer botocore knows more of them."""
    pytest.importorskip("botocore")
    from sightline.cloud.shapes import service_model

    def known(operation: str, *path: str) -> set[str]:
        shape = service_model("sagemaker").operation_model(operation).input_shape
        for name in path:
            shape = getattr(shape.members[name], "member", shape.members[name])
        return set(shape.metadata["enum"])

    assert set(MACHINES) <= known("CreateEndpointConfig", "ProductionVariants", "InstanceType")
    assert {*TRAINING_MACHINES} <= known("CreateTrainingJob", "ResourceConfig", "InstanceType")


def test_an_unknown_machine_is_a_warning_with_the_nearest() -> None:
    given = Settings(name="parts", manifests="s3://labels/", instance_type="ml.g5.xlrge", train_instance_type="ml.p3dn.24xlarg")
    endpoint, training = warnings_of(given)
    assert endpoint.startswith("instance-type: is 'ml.g5.xlrge', which this app does not know. Did you mean ml.g5.xlarge or ")
    assert training.startswith("train-instance-type: is 'ml.p3dn.24xlarg'") and "ml.p3dn.24xlarge" in training
    assert (
        warnings_of(Settings(manifests="s3://labels/", instance_type="ml.m5.large", train_instance_type="ml.c5n.xlarge")) == []
    )


@pytest.mark.parametrize("name", ["REGION", "ab", "a_b", "good-one.2", "-ab", "a" * 64])
def test_buckets_are_refused_as_by_the_package(name: str) -> None:
    told = address.bucket_fault(name)
    assert bucket_fault(f"s3://{name}/key") == (f", and {told}" if told else "")
