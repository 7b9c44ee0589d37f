"""What SageMaker demands beyond the shapes of its requests: fields that must or must not come together.

From the service's documentation; each rule would otherwise cost a failed call, or minutes and an endpoint that never comes up.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sightline.errors import Problem

Request = Mapping[str, Any]

MAX_RUNTIME_S = 28 * 86_400
"""Of a training job, and of its waiting for spot capacity."""

MAX_TRANSFORM_MB = 100
"""MaxPayloadInMB, and also MaxPayloadInMB times MaxConcurrentTransforms."""

MAX_ENVIRONMENT_BYTES = 32 * 2**10
"""Of a model's environment, keys and values together."""

SERVERLESS_STEP_MB = 1024
"""Serverless memory is a multiple of this."""

GPU_FAMILIES = re.compile(r"ml\.(p|g|gr)\d")

LOCAL_DISKS = re.compile(r"ml\.(g4dn|g5|g6|g6e|g7e?|gr6|p3dn|p4de?|p5\w*|p6\w*|dl1|trn\w+|[cmr]\d[a-z]*d[a-z]*)\.")
"""Machines with disks of their own, whose hardware encrypts them: the platform takes no key for those.

The documentation of VolumeKmsKeyId (trainings, searches, batch transforms) refuses one; that of an endpoint's KmsKeyId did so
once, and says now that it has no effect on these disks.
"""

KEEP_ALIVE_NEEDS = "Leave out --keep-alive or --spot."


def has_local_disk(instance_type: str) -> bool:
    return LOCAL_DISKS.match(instance_type) is not None


def disk_key(field: str, instance_type: str, key: str) -> dict[str, str]:
    """The part of a request that encrypts a machine's disks; empty without a key, or where the machine takes none."""
    return {field: key} if key and not has_local_disk(instance_type) else {}


def notes_of_key(key: str, instance_type: str) -> list[str]:
    """What to tell of a key that `disk_key` leaves out of a job."""
    if not key or not has_local_disk(instance_type):
        return []
    return [f"--kms-key encrypts the results alone: {instance_type} has disks of its own, which its hardware encrypts"]


def disk_key_rules(field: str, machines: Request) -> Iterator[Problem]:
    """Of a key for the disks of machines. field: which one; machines: the request's part with their type."""
    machine = str(machines.get("InstanceType", ""))
    if field in machines and has_local_disk(machine):
        what = f"{machine} has disks of its own, which its hardware encrypts, and then takes no key"
        yield Problem(f"{field} (--kms-key)", what, "Leave it out, or take other machines.")


def broken_rules(operation: str, request: Request) -> Iterator[Problem]:
    """The rules that a request breaks; none for operations without rules."""
    rule = RULES.get(operation)
    return rule(request) if rule else iter(())


def training_rules(request: Request) -> Iterator[Problem]:
    """Of CreateTrainingJob, and of a tuning job's definition."""
    spot, stop = request.get("EnableManagedSpotTraining", False), request.get("StoppingCondition", {})
    runtime, wait = stop.get("MaxRuntimeInSeconds"), stop.get("MaxWaitTimeInSeconds")
    machines = request.get("ResourceConfig", {})
    if spot and (wait is None or (runtime is not None and wait < runtime)):
        what = f"is {wait} s for a job on spot capacity that may run {runtime} s"
        yield Problem("MaxWaitTimeInSeconds (--max-wait)", what, "Give at least --max-runtime; it includes the running.")
    if not spot and wait is not None:
        yield Problem("MaxWaitTimeInSeconds (--max-wait)", "is for spot capacity only", "Add --spot, or leave it out.")
    for name, seconds in (("MaxRuntimeInSeconds", runtime), ("MaxWaitTimeInSeconds", wait)):
        if seconds is not None and seconds > MAX_RUNTIME_S:
            yield Problem(name, f"is {seconds:,} s", f"Give at most {MAX_RUNTIME_S:,}, which are 28 days.")
    if spot and machines.get("InstancePreferences"):
        yield Problem("InstancePreferences", "cannot be had with spot capacity", "Leave out one of the two.")
    if spot and machines.get("KeepAlivePeriodInSeconds"):
        yield Problem("KeepAlivePeriodInSeconds (--keep-alive)", "spot machines are not kept", KEEP_ALIVE_NEEDS)
    if machines.get("InstanceCount", 1) < 1:
        yield Problem("InstanceCount (--instance-count)", f"is {machines['InstanceCount']}", "Give at least 1.")
    if machines.get("VolumeSizeInGB", 1) < 1:
        yield Problem("VolumeSizeInGB (--volume)", f"is {machines['VolumeSizeInGB']}", "Give at least 1.")
    yield from disk_key_rules("VolumeKmsKeyId", machines)
    yield from channel_rules(request)


def channel_rules(request: Request) -> Iterator[Problem]:
    names = [channel.get("ChannelName") for channel in request.get("InputDataConfig", ())]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield Problem(f"channel {name!r}", "is there twice", "Give every channel its own name.")
    for channel in request.get("InputDataConfig", ()):
        source = channel.get("DataSource", {}).get("S3DataSource", {})
        mode = channel.get("InputMode") or request.get("AlgorithmSpecification", {}).get("TrainingInputMode")
        if mode == "FastFile" and source.get("S3DataType", "S3Prefix") != "S3Prefix":
            yield Problem(f"channel {channel.get('ChannelName')!r}", "FastFile needs S3Prefix", "Use File.")
        if mode == "FastFile" and not str(source.get("S3Uri", "/")).endswith("/"):
            yield Problem(f"channel {channel.get('ChannelName')!r}", "is no folder, which FastFile needs", "End it with /.")


def tuning_rules(request: Request) -> Iterator[Problem]:
    definition, config = request.get("TrainingJobDefinition", {}), request.get("HyperParameterTuningJobConfig", {})
    yield from training_rules(definition)
    limits = config.get("ResourceLimits", {})
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits.get("MaxParallelTrainingJobs", 1)
    if most is not None and parallel > most:
        yield Problem("MaxParallelTrainingJobs", f"is {parallel} of {most} jobs", "Give at most as many as there are jobs.")
    objective = config.get("HyperParameterTuningJobObjective", {}).get("MetricName")
    metrics = [entry.get("Name") for entry in definition.get("AlgorithmSpecification", {}).get("MetricDefinitions", ())]
    if objective is not None and objective not in metrics:
        yield Problem("the objective", f"{objective!r} is no metric of the job", f"Known: {', '.join(map(str, metrics))}.")
    ranges = config.get("ParameterRanges", {})
    named = [entry.get("Name") for kind in ranges.values() for entry in kind]
    for name in sorted(set(named) & set(definition.get("StaticHyperParameters", {}))):
        yield Problem(str(name), "is searched for and fixed at the same time", "Leave it out of one of the two.")


def model_rules(request: Request) -> Iterator[Problem]:
    container = request.get("PrimaryContainer", {})
    size = sum(len(str(key)) + len(str(value)) for key, value in container.get("Environment", {}).items())
    if size > MAX_ENVIRONMENT_BYTES:
        yield Problem("Environment", f"has {size:,} bytes", f"Give at most {MAX_ENVIRONMENT_BYTES:,}.")
    url = container.get("ModelDataUrl", ".tar.gz")
    if not url.endswith(".tar.gz"):
        yield Problem("ModelDataUrl", f"is {url!r}, no archive", "Give the s3:// address of a model.tar.gz.")


def endpoint_config_rules(request: Request) -> Iterator[Problem]:
    variants = request.get("ProductionVariants", ())
    names = [variant.get("VariantName") for variant in variants]
    if len(set(names)) < len(names):
        yield Problem("variants", f"are called {', '.join(map(str, names))}", "Give every variant its own name.")
    for variant in variants:
        yield from variant_rules(variant, len(variants), bool(request.get("AsyncInferenceConfig")))
    if any("ServerlessConfig" in variant for variant in variants):
        for field, what in {
            "AsyncInferenceConfig": "answers later",
            "DataCaptureConfig": "captures data",
            "KmsKeyId (--kms-key)": "encrypts disks with a key of yours",
        }.items():
            if field.partition(" ")[0] in request:
                yield Problem(field, f"a serverless endpoint never {what}", "Leave it out, or give an instance type.")
    for machine in sorted({str(variant.get("InstanceType", "")) for variant in variants} if "KmsKeyId" in request else ()):
        yield from disk_key_rules("KmsKeyId", {"KmsKeyId": request["KmsKeyId"], "InstanceType": machine})
    if variants and sum(variant.get("InitialVariantWeight", 1) for variant in variants) <= 0:
        yield Problem("InitialVariantWeight", "is 0 for all variants", "Give one of them more.")


def variant_rules(variant: Request, count: int, later: bool) -> Iterator[Problem]:
    where = f"variant {variant.get('VariantName')!r}"
    serverless, instance = variant.get("ServerlessConfig"), str(variant.get("InstanceType", ""))
    if serverless is None and not instance:
        yield Problem(where, "has neither an instance type nor serverless memory", "Give --instance-type or --serverless.")
    if serverless is not None:
        if instance:
            yield Problem(where, f"is serverless and on {instance}", "Give one of the two; serverless has no GPU.")
        memory = serverless.get("MemorySizeInMB", SERVERLESS_STEP_MB)
        if memory % SERVERLESS_STEP_MB:
            yield Problem(where, f"has {memory} MB of memory", "Give 1024, 2048, 3072, 4096, 5120 or 6144.")
        if serverless.get("ProvisionedConcurrency", 0) > serverless.get("MaxConcurrency", 0):
            yield Problem(where, "keeps more ready than it may have at once", "Lower ProvisionedConcurrency.")
        for field in ("InferenceAmiVersion", "VolumeSizeInGB", "ContainerStartupHealthCheckTimeoutInSeconds"):
            if field in variant:
                yield Problem(where, f"is serverless, which has no {field}", "Leave it out.")
    if instance and "InitialInstanceCount" not in variant:
        yield Problem(where, "has no number of instances", "Give --instance-count.")
    ami = variant.get("InferenceAmiVersion", "")
    if "-gpu-" in ami and instance and not GPU_FAMILIES.match(instance):
        yield Problem(where, f"has {instance}, which has no GPU, and the image {ami!r}", "Leave out the AMI.")
    if later and count > 1:
        yield Problem(where, "is one of several, and an asynchronous endpoint has one", "Give one variant.")


def transform_rules(request: Request) -> Iterator[Problem]:
    yield from disk_key_rules("VolumeKmsKeyId", request.get("TransformResources", {}))
    payload, at_once = request.get("MaxPayloadInMB"), request.get("MaxConcurrentTransforms")
    if payload is not None and payload > MAX_TRANSFORM_MB:
        yield Problem("MaxPayloadInMB", f"is {payload}", f"Give at most {MAX_TRANSFORM_MB}.")
    elif payload and at_once and payload * at_once > MAX_TRANSFORM_MB:
        what = f"times MaxConcurrentTransforms is {payload} x {at_once} = {payload * at_once} MB"
        yield Problem("MaxPayloadInMB", what, f"Lower one of them: together at most {MAX_TRANSFORM_MB} MB.")
    if payload == 0 and request.get("BatchStrategy") == "MultiRecord":
        yield Problem("MaxPayloadInMB", "is 0 (streaming), which MultiRecord cannot", "Use SingleRecord.")


def scaling_rules(request: Request) -> Iterator[Problem]:
    least, most = request.get("MinCapacity", 0), request.get("MaxCapacity", 0)
    if least > most:
        yield Problem("MinCapacity", f"is {least}, more than the {most} of MaxCapacity", "Lower it.")


RULES: Mapping[str, Callable[[Request], Iterator[Problem]]] = {
    "CreateTrainingJob": training_rules,
    "CreateHyperParameterTuningJob": tuning_rules,
    "CreateModel": model_rules,
    "CreateEndpointConfig": endpoint_config_rules,
    "CreateTransformJob": transform_rules,
    "RegisterScalableTarget": scaling_rules,
}
"""The rules of each operation."""
