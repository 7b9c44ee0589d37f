"""Models and endpoints as the platform's requests: real-time, serverless, asynchronous, variants, captured data, scaling.

Plain data made by functions without a connection, as in `requests`; the golden files show what comes out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.cloud.naming import FACTS, tags
from sightline.cloud.requests import Surroundings
from sightline.cloud.rules import disk_key

VARIANT = "AllTraffic"
"""The name of a single variant, as AWS's own tools give it."""

SCALED = "sagemaker:variant:DesiredInstanceCount"
"""What autoscaling changes of an endpoint."""

WAKING_POLICY = "PolicyARN of the policy before"
"""Stands in a plan for what the platform tells only when the policy is there."""

STARTUP_S = 600
"""Until /ping has to answer: weights of 200 MB and torch's libraries take a slow machine more than the default."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What answers a share of an endpoint's requests: machines, or serverless.

    model:         name of a model on the platform
    serverless_mb: memory; 0: on machines of `instance_type`
    ami:           host image with the GPU driver (`drivers.endpoint_host`); empty: the platform's default
    """

    model: str
    instance_type: str = ""
    count: int = 1
    name: str = VARIANT
    weight: float = 1.0
    serverless_mb: int = 0
    concurrency: int = 5
    ami: str = ""

    def as_request(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"VariantName": self.name, "ModelName": self.model, "InitialVariantWeight": self.weight}
        if self.serverless_mb:
            serverless = {"MemorySizeInMB": self.serverless_mb, "MaxConcurrency": self.concurrency}
            on_machines = {"InstanceType": self.instance_type} if self.instance_type else {}
            return {**shared, "ServerlessConfig": serverless, **on_machines}
        return {
            **shared,
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.count,
            "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
            **({"InferenceAmiVersion": self.ami} if self.ami else {}),
        }


def model_request(
    name: str,
    image: str,
    archive: str,
    environment: Mapping[str, str],
    surroundings: Surroundings,
    endpoint: str,
    facts_at: str = "",
) -> dict[str, Any]:
    """CreateModel.

    archive:  s3:// address of a model.tar.gz, which is unpacked to /opt/ml/model
    facts_at: s3:// address of what a server would say of the model; goes into a tag
    """
    own = {**({FACTS: facts_at} if facts_at else {}), **surroundings.own_tags}
    container = {"Image": image, "ModelDataUrl": archive, "Environment": dict(environment)}
    return {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": surroundings.role,
        **surroundings.vpc(),
        "Tags": tags("model", own, endpoint),
    }


@dataclass(frozen=True, slots=True)
class Later:
    """An asynchronous endpoint: pictures and answers are on S3, up to 1 GB each. output, failures: s3:// folders."""

    output: str
    failures: str
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class Capture:
    """A share of requests and answers is kept. percentage: 1 to 100; to: s3:// folder."""

    to: str
    percentage: int = 100


def endpoint_config_request(
    name: str,
    variants: Sequence[Variant],
    surroundings: Surroundings,
    endpoint: str,
    *,
    later: Later | None = None,
    capture: Capture | None = None,
) -> dict[str, Any]:
    """CreateEndpointConfig."""
    request: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [variant.as_request() for variant in variants],
        "Tags": tags("endpoint-config", surroundings.own_tags, endpoint),
    }
    if later is not None:
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": later.at_once},
            "OutputConfig": {"S3OutputPath": later.output, "S3FailurePath": later.failures},
        }
    if capture is not None:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.percentage,
            "DestinationS3Uri": capture.to,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    if surroundings.kms_key:
        request["KmsKeyId"] = surroundings.kms_key
    return request


def endpoint_request(name: str, config: str, surroundings: Surroundings) -> dict[str, Any]:
    """CreateEndpoint."""
    return {
        "EndpointName": name,
        "EndpointConfigName": config,
        "Tags": tags("endpoint", surroundings.own_tags, name),
    }


def update_request(name: str, config: str, alarms: Sequence[str] = (), *, keep_counts: bool = False) -> dict[str, Any]:
    """UpdateEndpoint: new machines beside the old ones, which go when all is well; any alarm brings them back.

    keep_counts: as many machines as there are now, which autoscaling has found; the shares of requests are the new ones
    """
    deployment: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300 if alarms else 0},
            "TerminationWaitInSeconds": 0,
        }
    }
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    kept = {
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
    }
    asked = {"EndpointName": name, "EndpointConfigName": config, "DeploymentConfig": deployment}
    return {**asked, **kept} if keep_counts else asked


def scaling_target_request(endpoint: str, least: int, most: int, variant: str = VARIANT) -> dict[str, Any]:
    """RegisterScalableTarget: between how many machines."""
    return {**scaled(endpoint, variant), "MinCapacity": least, "MaxCapacity": most}


def scaling_policy_request(endpoint: str, per_minute: float, variant: str = VARIANT, *, later: bool = False) -> dict[str, Any]:
    """PutScalingPolicy: machines are added until none gets more than `per_minute` requests a minute.

    later: an asynchronous endpoint: until no more than a minute's requests wait for each; the metric is of the endpoint then
    """
    backlog = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
    }
    by_requests = {"PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}}
    return {
        **scaled(endpoint, variant),
        "PolicyName": f"{endpoint}-{variant}-requests",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": per_minute,
            **({"CustomizedMetricSpecification": backlog} if later else by_requests),
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 60,
        },
    }


def waking_policy_request(endpoint: str, variant: str = VARIANT) -> dict[str, Any]:
    """PutScalingPolicy: one machine more, when `waking_alarm_request` rings."""
    return {
        **scaled(endpoint, variant),
        "PolicyName": f"{endpoint}-{variant}-waking",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }


def waking_alarm_request(endpoint: str, own_tags: Mapping[str, str], policy: str = WAKING_POLICY) -> dict[str, Any]:
    """PutMetricAlarm: requests wait for two minutes at an asynchronous endpoint without a machine.

    policy: ARN of that of `waking_policy_request`
    """
    return {
        "AlarmName": f"sightline-{endpoint}-waking",
        "AlarmDescription": f"Requests wait at the endpoint {endpoint}, which has no machine",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy],
        "Tags": tags("alarm", own_tags, endpoint),
    }


def scaled(endpoint: str, variant: str) -> dict[str, Any]:
    resource = f"endpoint/{endpoint}/variant/{variant}"
    return {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": SCALED}


def transform_request(
    name: str,
    model: str,
    pictures: str,
    output: str,
    instance_type: str,
    surroundings: Surroundings,
    *,
    count: int = 1,
    max_payload_mb: int = 6,
    at_once: int = 4,
    ami: str = "",
    listed: bool = False,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """CreateTransformJob: one picture a request.

    pictures: s3:// prefix, or of a manifest where `listed`; output: s3:// folder, where KEY.out comes
    """
    key = surroundings.kms_key
    kind = "ManifestFile" if listed else "S3Prefix"
    return {
        "TransformJobName": name,
        "ModelName": model,
        "MaxConcurrentTransforms": at_once,
        "MaxPayloadInMB": max_payload_mb,
        "BatchStrategy": "SingleRecord",
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 600, "InvocationsMaxRetries": 3},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": pictures}},
            "ContentType": "image/jpeg",  # the picture itself decides, see wire.PICTURE_TYPES
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": output,
            "Accept": "application/json",
            "AssembleWith": "None",
            **({"KmsKeyId": key} if key else {}),
        },
        "TransformResources": {
            "InstanceType": instance_type,
            "InstanceCount": count,
            **disk_key("VolumeKmsKeyId", instance_type, key),
            **({"TransformAmiVersion": ami} if ami else {}),
        },
        **({"Environment": dict(environment)} if environment else {}),
        "Tags": tags("transform-job", surroundings.own_tags),
    }


def repository_request(name: str, own_tags: Mapping[str, str]) -> dict[str, Any]:
    """CreateRepository of ECR, for one of our images."""
    return {
        "repositoryName": name,
        "imageScanningConfiguration": {"scanOnPush": True},
        "tags": tags("image-repository", own_tags),
    }


def alarm_request(endpoint: str, surroundings: Surroundings, variant: str = VARIANT) -> dict[str, Any]:
    """PutMetricAlarm of CloudWatch: any answer of 5xx in a minute, which undoes an update under way."""
    return {
        "AlarmName": alarm_name(endpoint, variant),
        "AlarmDescription": f"Errors of the endpoint {endpoint}, for the rollback of updates",
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocation5XXErrors",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": tags("alarm", surroundings.own_tags, endpoint),
    }


def latency_alarm_request(
    endpoint: str, surroundings: Surroundings, max_latency_s: float, variant: str = VARIANT
) -> dict[str, Any]:
    """PutMetricAlarm: the 95th percentile of a minute's answers slower than that, twice in a row."""
    errors = alarm_request(endpoint, surroundings, variant)
    del errors["Statistic"]
    return {
        **errors,
        "AlarmName": alarm_name(endpoint, variant, "latency"),
        "AlarmDescription": f"Slow answers of the endpoint {endpoint}, for the rollback of updates",
        "MetricName": "ModelLatency",
        "ExtendedStatistic": "p95",
        "EvaluationPeriods": 2,
        "Threshold": max_latency_s * 1e6,  # the metric is in microseconds
        "ComparisonOperator": "GreaterThanThreshold",
    }


def alarm_name(endpoint: str, variant: str = VARIANT, of: str = "errors") -> str:
    """No endpoint's name has an underscore, so variants of one cannot be taken for another endpoint."""
    return f"sightline-{endpoint}{'' if variant == VARIANT else f'_{variant}'}-{of}"


def weights_request(endpoint: str, weights: Mapping[str, float]) -> dict[str, Any]:
    """UpdateEndpointWeightsAndCapacities: other shares of the requests, without new machines."""
    desired = [{"VariantName": name, "DesiredWeight": float(weight)} for name, weight in weights.items()]
    return {"EndpointName": endpoint, "DesiredWeightsAndCapacities": desired}
