"""Trainings and searches as the platform's requests: plain data, made by functions without a connection.

The golden files in `tests/cloud/golden` show what comes out. Nothing here is sent; `shapes.require_valid` checks it first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.cloud.metrics import METRICS
from sightline.cloud.naming import KIND, tags
from sightline.cloud.rules import MAX_RUNTIME_S, disk_key

CHECKPOINTS = "/opt/ml/checkpoints"
"""Where the container keeps what it goes on from; the platform copies it to S3 and back."""

DEFAULT_MAX_RUNTIME_S = 86_400
"""The platform's own default: a day."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What a job runs on.

    volume_gb:     disk beside the machine's own, for data and model
    spot:          on capacity that AWS may take back; the job goes on from its checkpoint when there is some again
    max_runtime_s: the job is ended after that
    max_wait_s:    running and waiting for spot capacity together; None: twice `max_runtime_s` where `spot`
    keep_alive_s:  the machines stay reserved (and cost) for so long after the job, for the next one
    """

    instance_type: str = "ml.g5.xlarge"
    count: int = 1
    volume_gb: int = 50
    spot: bool = False
    max_runtime_s: int = DEFAULT_MAX_RUNTIME_S
    max_wait_s: int | None = None
    keep_alive_s: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """On whose behalf and where a job or a model runs.

    role:            ARN that the platform assumes
    subnets, security_groups: of a VPC; both or none
    kms_key:         encrypts what comes out, and volumes but those of machines with disks of their own (`rules.LOCAL_DISKS`)
    own_tags:        beside Sightline's
    """

    role: str
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    own_tags: Mapping[str, str] = field(default_factory=dict)

    def vpc(self) -> dict[str, Any]:
        """The part of a request that names the VPC; empty outside one."""
        if not self.subnets and not self.security_groups:
            return {}
        return {"VpcConfig": {"SecurityGroupIds": list(self.security_groups), "Subnets": list(self.subnets)}}


def training_request(
    name: str,
    image: str,
    channels: Mapping[str, str],
    output: str,
    hyperparameters: Mapping[str, str],
    machines: Machines,
    surroundings: Surroundings,
    *,
    input_mode: str = "File",
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """CreateTrainingJob.

    channels:   name -> s3:// folder; the container finds it at /opt/ml/input/data/NAME
    output:     s3:// folder; `NAME/output/model.tar.gz` and `NAME/checkpoints/` come below it
    input_mode: File (copied before the training) or FastFile (read when needed)
    """
    return {
        "TrainingJobName": name,
        **training_definition(image, channels, output, machines, surroundings, input_mode, environment or {}),
        "CheckpointConfig": {"S3Uri": f"{output}{name}/checkpoints/", "LocalPath": CHECKPOINTS},
        "HyperParameters": dict(hyperparameters),
        "Tags": tags("training-job", surroundings.own_tags),
    }


def training_definition(
    image: str,
    channels: Mapping[str, str],
    output: str,
    machines: Machines,
    surroundings: Surroundings,
    input_mode: str,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """What a training job and a search's trainings have in common."""
    key = surroundings.kms_key
    stopping = {"MaxRuntimeInSeconds": machines.max_runtime_s}
    if machines.spot or machines.max_wait_s is not None:
        usual = max(min(2 * machines.max_runtime_s, MAX_RUNTIME_S), machines.max_runtime_s)
        wait = usual if machines.max_wait_s is None else machines.max_wait_s
        stopping["MaxWaitTimeInSeconds"] = wait
    return {
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": input_mode,
            "MetricDefinitions": [{"Name": metric, "Regex": pattern} for metric, pattern in METRICS.items()],
        },
        "RoleArn": surroundings.role,
        "InputDataConfig": [channel(channel_name, address) for channel_name, address in channels.items()],
        "OutputDataConfig": {"S3OutputPath": output, "CompressionType": "GZIP", **({"KmsKeyId": key} if key else {})},
        "ResourceConfig": {
            "InstanceType": machines.instance_type,
            "InstanceCount": machines.count,
            "VolumeSizeInGB": machines.volume_gb,
            **disk_key("VolumeKmsKeyId", machines.instance_type, key),
            **({"KeepAlivePeriodInSeconds": machines.keep_alive_s} if machines.keep_alive_s else {}),
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": machines.spot,
        **surroundings.vpc(),
        **({"Environment": dict(environment)} if environment else {}),
    }


def channel(name: str, address: str) -> dict[str, Any]:
    """One folder on S3 as a channel; every machine gets all of it, since the training itself shares it out."""
    source = {"S3DataType": "S3Prefix", "S3Uri": address, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


@dataclass(frozen=True, slots=True)
class Range:
    """What a search tries of one hyperparameter: numbers between two, or one of some values.

    scale: Auto, Linear, Logarithmic or ReverseLogarithmic
    """

    name: str
    low: float = 0
    high: float = 0
    whole: bool = False
    scale: str = "Auto"
    values: tuple[str, ...] = ()


def ranges(given: Sequence[Range]) -> dict[str, list[dict[str, Any]]]:
    """ParameterRanges: the platform wants numbers as text."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in given:
        if one.values:
            found.setdefault("CategoricalParameterRanges", []).append({"Name": one.name, "Values": list(one.values)})
            continue
        kind = "IntegerParameterRanges" if one.whole else "ContinuousParameterRanges"
        low, high = (str(int(edge)) if one.whole else repr(float(edge)) for edge in (one.low, one.high))
        entry = {"Name": one.name, "MinValue": low, "MaxValue": high, "ScalingType": one.scale}
        found.setdefault(kind, []).append(entry)
    return found


def tuning_request(
    name: str,
    training: Mapping[str, Any],
    searched: Sequence[Range],
    *,
    objective: str,
    maximize: bool = True,
    jobs: int = 20,
    parallel: int = 2,
    strategy: str = "Bayesian",
    stop_early: bool = True,
    seed: int | None = None,
    parents: Sequence[str] = (),
) -> dict[str, Any]:
    """CreateHyperParameterTuningJob around a `training_request`, whose hyperparameters without a range stay as they are.

    objective: the name of one of our metrics, as `best-bbox-AP`
    parents:   earlier searches whose trainings this one begins with what they found, on other data, too
    """
    searched_names = {one.name for one in searched}
    own = (
        "TrainingJobName",
        "HyperParameters",
        "Tags",
        "CheckpointConfig",
    )  # trials must not go on from each other's checkpoints
    shared = {key: value for key, value in training.items() if key not in own}
    fixed = {key: value for key, value in training["HyperParameters"].items() if key not in searched_names}
    config: dict[str, Any] = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": {"Type": "Maximize" if maximize else "Minimize", "MetricName": objective},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": parallel},
        "ParameterRanges": ranges(searched),
        "TrainingJobEarlyStoppingType": "Auto" if stop_early else "Off",
        **({} if seed is None else {"RandomSeed": seed}),
    }
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": {**shared, "StaticHyperParameters": fixed},
        **({"WarmStartConfig": warm_start(parents)} if parents else {}),
        "Tags": [{**tag, "Value": "tuning-job"} if tag["Key"] == KIND else tag for tag in training["Tags"]],
    }


def warm_start(parents: Sequence[str]) -> dict[str, Any]:
    """TransferLearning takes other data, images and ranges, where IdenticalDataAndAlgorithm takes none of them."""
    named = [{"HyperParameterTuningJobName": name} for name in parents]
    return {"ParentHyperParameterTuningJobs": named, "WarmStartType": "TransferLearning"}
