"""The offline check: everything that is wrong with a request, at once, without a connection."""

import copy
from typing import Any

import pytest

from sightline.cloud import hosting
from sightline.cloud.drivers import endpoint_host
from sightline.cloud.requests import Machines
from sightline.cloud.shapes import Call, matches, require_valid
from sightline.errors import SightlineError

from .test_requests import PLAIN, endpoint_config, training


def changed(request: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with another value at `path`; None takes it away."""
    whole = copy.deepcopy(request)
    *parents, last = path.split(".")
    node: Any = whole
    for name in parents:
        node = node[int(name) if name.isdecimal() else name]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return whole


BROKEN = [
    ("TrainingJobName", "a" * 64, r"TrainingJobName: has 64 characters\. Give at most 63\."),
    ("TrainingJobName", "two words", r"TrainingJobName: is 'two words'\. Give what matches"),
    ("TrainingJobName", None, r"TrainingJobName: is missing"),
    ("TrainingJobName", 7, r"TrainingJobName: is 7, no string"),
    ("RoleArn", "arn:aws:iam::12:role/short-account", r"RoleArn: is 'arn:aws:iam::12:role/short-account'"),
    ("RoleArn", "", r"RoleArn: has 0 characters\. Give at least 20"),
    ("HyperParameters", {"opts": "x" * 2501}, r"HyperParameters\.opts: has 2,501 characters\. Give at most 2,500"),
    ("HyperParameters", {"k" * 257: "1"}, r"has 257 characters\. Give at most 256"),
    ("HyperParameters", {str(n): "1" for n in range(101)}, r"HyperParameters: has 101 entries\. Give at most 100"),
    ("HyperParameters", {"epochs": 3}, r"HyperParameters\.epochs: is 3, no string"),
    ("Environment", {"KEY": "v" * 513}, r"Environment\.KEY: has 513 characters"),
    ("Environment", {"1KEY": "v"}, r"the key '1KEY': is '1KEY'"),
    ("Environment", {f"K{n}": "v" for n in range(101)}, r"Environment: has 101 entries"),
    ("ResourceConfig.KeepAlivePeriodInSeconds", 21_601, r"KeepAlivePeriodInSeconds: is 21601\. Give at most 21,600"),
    ("ResourceConfig.InstanceCount", "2", r"InstanceCount: is '2', no integer"),
    ("ResourceConfig.InstanceCount", True, r"InstanceCount: is True, no integer"),
    ("ResourceConfig.InstanceCount", 0, r"--instance-count\): is 0"),
    ("ResourceConfig.InstanceTyp", "ml.g5.xlarge", r"InstanceTyp: is no field .*\. Did you mean 'InstanceType'"),
    ("InputDataConfig.0.ChannelName", "a b", r"InputDataConfig\[0\]\.ChannelName: is 'a b'"),
    ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "/data", r"S3Uri: is '/data'"),
    ("OutputDataConfig.S3OutputPath", "s3://", r"S3OutputPath: is 's3://'"),
    ("EnableManagedSpotTraining", True, r"--max-wait\): is None s for a job on spot capacity that may run 86400 s"),
    ("StoppingCondition.MaxWaitTimeInSeconds", 90_000, r"--max-wait\): is for spot capacity only"),
    ("StoppingCondition.MaxRuntimeInSeconds", 28 * 86_400 + 1, r"MaxRuntimeInSeconds: is 2,419,201 s\. Give at most"),
    ("Tags.0.Key", "a;b", r"Key: is 'a;b'"),
    ("VpcConfig", {"Subnets": ["subnet-1"], "SecurityGroupIds": []}, r"SecurityGroupIds: has 0 entries"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "told"), BROKEN, ids=[f"{path} {str(value)[:20]}" for path, value, _ in BROKEN])
def test_a_broken_training_is_told(path: str, value: object, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        require_valid([Call("sagemaker", "CreateTrainingJob", changed(training(), path, value))])


def test_everything_wrong_is_told_at_once() -> None:
    request = changed(changed(training(machines=Machines(spot=True, max_wait_s=10)), "RoleArn", "me"), "TrainingJobName", "-")
    with pytest.raises(SightlineError) as caught:
        require_valid([Call("sagemaker", "CreateTrainingJob", request), Call("ecr", "CreateRepository", {})])
    told = str(caught.value)
    assert all(word in told for word in ("TrainingJobName", "RoleArn", "--max-wait", "repositoryName"))
    assert len(caught.value.problems) == 4


def test_the_longest_job_on_spot_capacity_waits_no_longer_than_it_may() -> None:
    request = training(machines=Machines(spot=True, max_runtime_s=28 * 86_400))
    assert request["StoppingCondition"]["MaxWaitTimeInSeconds"] == 28 * 86_400
    assert require_valid([Call("sagemaker", "CreateTrainingJob", request)]) == []


def test_an_instance_type_that_botocore_does_not_know_is_a_warning() -> None:
    request = training(machines=Machines("ml.g5.xlargee"))
    (warning,) = require_valid([Call("sagemaker", "CreateTrainingJob", request)])
    assert "'ml.g5.xlargee', which this version of botocore does not know. Did you mean 'ml.g5.xlarge'?" in warning


GPU_HOST = endpoint_host("12.4").ami
BOTH = hosting.Variant("m", "ml.g5.xlarge", serverless_mb=2048)
MACHINE = hosting.Variant("m", "ml.c5.xlarge")
SERVERLESS = hosting.Variant("m", serverless_mb=2048)
CAPTURE, LATER = hosting.Capture("s3://b/c/"), hosting.Later("s3://b/a/", "s3://b/f/")
FOUR = hosting.transform_request("t", "m", "s3://b/i/", "s3://b/o/", "ml.c5.xlarge", PLAIN, max_payload_mb=30, at_once=4)
HUGE = {f"K{number}": "v" * 1000 for number in range(40)}

HOSTED = [
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m")), "neither an instance type nor serverless"),
    ("CreateEndpointConfig", endpoint_config(BOTH), "serverless has no GPU"),
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m", serverless_mb=1500)), "has 1500 MB of memory"),
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m", serverless_mb=8192)), "Give at most 6,144"),
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m", serverless_mb=1024, concurrency=201)), "Give at most 200"),
    ("CreateEndpointConfig", endpoint_config(SERVERLESS, capture=CAPTURE), "a serverless endpoint never captures data"),
    ("CreateEndpointConfig", endpoint_config(SERVERLESS, later=LATER), "a serverless endpoint never answers later"),
    ("CreateEndpointConfig", endpoint_config(MACHINE, MACHINE), "Give every variant its own name"),
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m", "ml.c5.xlarge", weight=0)), "is 0 for all variants"),
    ("CreateEndpointConfig", endpoint_config(hosting.Variant("m", "ml.c5.xlarge", ami=GPU_HOST)), "has no GPU"),
    (
        "CreateEndpointConfig",
        endpoint_config(MACHINE, hosting.Variant("m", "ml.c5.xlarge", name="b"), later=LATER),
        "an asynchronous endpoint has one",
    ),
    ("CreateEndpointConfig", endpoint_config(MACHINE, capture=hosting.Capture("s3://b/c/", 101)), "Give at most 100"),
    ("CreateTransformJob", FOUR, r"30 x 4 = 120 MB\. Lower one of them"),
    ("CreateTransformJob", {**FOUR, "MaxPayloadInMB": 101}, "Give at most 100"),
    ("CreateTransformJob", {**FOUR, "Environment": dict.fromkeys("ABCDEFGHIJKLMNOPQ", "1")}, "has 17 entries"),
    ("CreateTransformJob", {**FOUR, "MaxPayloadInMB": 0, "BatchStrategy": "MultiRecord"}, "MultiRecord cannot"),
    ("CreateModel", hosting.model_request("m", "i", "s3://b/m.tar.gz", HUGE, PLAIN, "e"), r"Give at most 32,768"),
    ("CreateModel", hosting.model_request("m", "i", "s3://b/m/", {}, PLAIN, "e"), "no archive"),
    ("CreateModel", hosting.model_request("m", "an image", "s3://b/m.tar.gz", {}, PLAIN, "e"), "Image: is 'an image'"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "request_", "told"), HOSTED, ids=[told for *_, told in HOSTED])
def test_a_broken_endpoint_is_told(operation: str, request_: dict[str, Any], told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        require_valid([Call("sagemaker", operation, request_)])


def test_more_machines_at_least_than_at_most() -> None:
    request = hosting.scaling_target_request("e", 4, 2)
    with pytest.raises(SightlineError, match="is 4, more than the 2 of MaxCapacity"):
        require_valid([Call("application-autoscaling", "RegisterScalableTarget", request)])


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "sightline:of größe 1", True),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a;b", False),
        (r"arn:[\p{Alnum}\-]+", "arn:aws-cn", True),
        (r"arn:[\p{Alnum}\-]+", "arn:a_b", False),
        (r"\p{Print}+", "a b", True),
        (r"\p{Print}+", "a\nb", False),
        (r"\p{Unheard}+", "anything", True),
    ],
)
def test_patterns_are_javas(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected
