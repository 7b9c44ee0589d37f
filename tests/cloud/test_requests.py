"""Requests are pure: what comes out lies beside as JSON, and botocore's own description has nothing against it."""

import json
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.cloud import hosting
from sightline.cloud.drivers import endpoint_host
from sightline.cloud.requests import Machines, Range, Surroundings, training_request, tuning_request
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import SightlineError

GOLDEN = Path(__file__).parent / "golden"

ROLE = "arn:aws:iam::123456789012:role/sightline-jobs"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline-train:0.1.0"
PLAIN = Surroundings(ROLE)
CLOSED = Surroundings(ROLE, ("subnet-1", "subnet-2"), ("sg-1",), "alias/parts", {"team": "vision"})
OUTPUT = "s3://parts/sightline/jobs/"
CHANNELS = {"training": "s3://parts/sightline/data/parts-0/"}
HYPERPARAMETERS = {"config": "small", "epochs": "3.0", "SOLVER.BASE_LR": "0.01", "rotate": "true"}


def training(**given: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"machines": Machines(), "surroundings": PLAIN, **given}
    return training_request("parts-1", IMAGE, CHANNELS, OUTPUT, HYPERPARAMETERS, **options)


def endpoint_config(*variants: hosting.Variant, surroundings: Surroundings = PLAIN, **given: Any) -> dict[str, Any]:
    return hosting.endpoint_config_request("parts-1", variants, surroundings, "parts", **given)


SPOT = Machines("ml.g4dn.12xlarge", 2, 100, True, 3600, keep_alive_s=0)
SEARCHED = [
    Range("SOLVER.BASE_LR", 1e-4, 0.1, scale="Logarithmic"),
    Range("batch-size", 2, 16, whole=True),
    Range("config", values=("small", "r50")),
]
MODEL = ("m-1", IMAGE, "s3://parts/sightline/models/m-1/model.tar.gz", {"SIGHTLINE_THRESHOLD": "0.5"})
MACHINE = hosting.Variant("m-1", "ml.g4dn.xlarge", 2, ami=endpoint_host("12.4").ami)
LATER = hosting.Later("s3://parts/answers/", "s3://parts/failures/")

REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "training": ("sagemaker", "CreateTrainingJob", training()),
    "training_spot_in_a_vpc": (
        "sagemaker", "CreateTrainingJob", training(machines=SPOT, surroundings=CLOSED, input_mode="FastFile"),
    ),
    "tuning": (
        "sagemaker", "CreateHyperParameterTuningJob",
        tuning_request("parts-1", training(), SEARCHED, objective="best-bbox-AP", jobs=6, seed=7),
    ),
    "model": ("sagemaker", "CreateModel", hosting.model_request(*MODEL, CLOSED, "parts")),
    "endpoint_config_real_time": (
        "sagemaker", "CreateEndpointConfig", endpoint_config(MACHINE, capture=hosting.Capture("s3://parts/captured/", 10)),
    ),
    "endpoint_config_serverless": (
        "sagemaker", "CreateEndpointConfig", endpoint_config(hosting.Variant("m-1", serverless_mb=4096)),
    ),
    "endpoint_config_asynchronous": ("sagemaker", "CreateEndpointConfig", endpoint_config(MACHINE, later=LATER)),
    "endpoint_config_two_variants": (
        "sagemaker", "CreateEndpointConfig",
        endpoint_config(
            hosting.Variant("m-1", "ml.c5.xlarge", name="old", weight=9),
            hosting.Variant("m-2", "ml.c5.xlarge", name="new", weight=1),
            surroundings=CLOSED,
        ),
    ),
    "endpoint": ("sagemaker", "CreateEndpoint", hosting.endpoint_request("parts", "parts-1", PLAIN)),
    "endpoint_update": ("sagemaker", "UpdateEndpoint", hosting.update_request("parts", "parts-2", ["parts-errors"])),
    "alarm": ("cloudwatch", "PutMetricAlarm", hosting.alarm_request("parts", CLOSED)),
    "scaling_target": ("application-autoscaling", "RegisterScalableTarget", hosting.scaling_target_request("parts", 1, 4)),
    "scaling_policy": ("application-autoscaling", "PutScalingPolicy", hosting.scaling_policy_request("parts", 60)),
    "scaling_policy_asynchronous": (
        "application-autoscaling", "PutScalingPolicy", hosting.scaling_policy_request("parts", 60, later=True),
    ),
    "waking_policy": ("application-autoscaling", "PutScalingPolicy", hosting.waking_policy_request("parts")),
    "waking_alarm": ("cloudwatch", "PutMetricAlarm", hosting.waking_alarm_request("parts", {"team": "vision"})),
    "alarm_latency": ("cloudwatch", "PutMetricAlarm", hosting.latency_alarm_request("parts", CLOSED, 2.5)),
    "transform": (
        "sagemaker", "CreateTransformJob",
        hosting.transform_request("parts-1", "m-1", "s3://parts/in/", "s3://parts/out/", "ml.g4dn.xlarge", CLOSED),
    ),
    "repository": ("ecr", "CreateRepository", hosting.repository_request("sightline-train", {})),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_as_the_golden_ones(name: str) -> None:
    service, operation, request = REQUESTS[name]
    wanted = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    text = json.dumps(request).replace(f'"sightline {sightline.__version__}"', '"sightline VERSION"')
    assert json.loads(text) == wanted
    assert require_valid([Call(service, operation, request)]) == []


@pytest.mark.parametrize(("instance_type", "takes"), [("ml.m5.xlarge", True), ("ml.p3.2xlarge", True), ("ml.g5.xlarge", False)])
def test_a_key_for_disks_goes_where_the_platform_takes_one(instance_type: str, takes: bool) -> None:
    """Results get theirs everywhere."""
    train = training(machines=Machines(instance_type), surroundings=CLOSED)
    transform = hosting.transform_request("parts-1", "m-1", "s3://parts/in/", "s3://parts/out/", instance_type, CLOSED)
    assert ("VolumeKmsKeyId" in train["ResourceConfig"], "VolumeKmsKeyId" in transform["TransformResources"]) == (takes, takes)
    assert train["OutputDataConfig"]["KmsKeyId"] == transform["TransformOutput"]["KmsKeyId"] == CLOSED.kms_key
    train["ResourceConfig"]["VolumeKmsKeyId"] = transform["TransformResources"]["VolumeKmsKeyId"] = CLOSED.kms_key
    for operation, request in (("CreateTrainingJob", train), ("CreateTransformJob", transform)):
        call = Call("sagemaker", operation, request)
        if takes:
            assert require_valid([call]) == []
        else:
            with pytest.raises(SightlineError, match=r"VolumeKmsKeyId \(--kms-key\): ml\.g5\.xlarge has disks of its own"):
                require_valid([call])


def test_the_same_in_the_same_out() -> None:
    assert training() == training()
    assert training()["HyperParameters"] is not HYPERPARAMETERS
