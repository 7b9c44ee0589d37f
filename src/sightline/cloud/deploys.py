"""A model as an endpoint: planned (nothing made), sent, waited for, updated without a gap.

Models and endpoint configurations are named by their content, so that the same command done again makes nothing twice.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sightline
from sightline.cloud import hosting
from sightline.cloud.account import Account, Say, find_bucket, find_image, find_role
from sightline.cloud.endpoints import FACTS, describe
from sightline.cloud.failures import failure, is_lost, is_missing, send
from sightline.cloud.jobs import PREFIX, send_call, send_files, upload
from sightline.cloud.logs import ENDPOINTS, Line, Tail
from sightline.cloud.naming import MAX_NAME, plain_name
from sightline.cloud.requests import Surroundings
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import Problem, RunError, SightlineError, nearest
from sightline.storage import is_remote, write_json

SCALING = "application-autoscaling"
"""The service that counts machines."""

IMAGE_VARIABLE, REPOSITORY = "SIGHTLINE_SERVE_IMAGE", "sightline-serve"

POLL_S = 10.0
STUCK_S = 1800.0
"""An endpoint that is not in service after that has a container that does not come up."""

BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
MAX_LATENCY_S, ANSWER_S = 10.0, 60.0
"""Of the alarm for slow answers, unless asked otherwise; an answer's own limit."""

MAX_VARIANTS = 5
"""Of one endpoint: an update heeds ten alarms, and each variant has two."""

DIGITS = 12
"""Of the digest in names: 48 bits."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Another model that answers a share of an endpoint's requests. weight: beside the first model's 1.

    instance_type: empty: that of the first model
    """

    name: str
    archive: str
    facts: Mapping[str, Any]
    weight: float = 1.0
    instance_type: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants deployed.

    archive: model.tar.gz, here or on S3
    facts:   what a server answers on `GET /model`: class names, thresholds, whether it only proposes, facts
    scale:   (least, most) machines; None: as many as `count`
    per_minute: requests that a machine takes before there is another one; `later`: that wait for each
    max_latency_s: slower answers after an update take it back, as errors do
    beside:  other variants; the first one's name is `hosting.VARIANT`
    """

    archive: str
    name: str
    facts: Mapping[str, Any]
    instance_type: str = ""
    count: int = 1
    serverless_mb: int = 0
    concurrency: int = 5
    later: bool = False
    capture: int = 0
    ami: str = ""
    scale: tuple[int, int] | None = None
    per_minute: float = 60.0
    max_latency_s: float = MAX_LATENCY_S
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    role: str = ""
    bucket: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    own_tags: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be made, in order; nothing of it is there yet. Names of models and configurations follow from content.

    config: the name of the configuration that the endpoint will have
    facts:  s3:// address -> what lies there of a model
    change: whether there is anything to make at all
    """

    name: str
    config: str
    bucket: str
    uploads: Mapping[Path, str]
    facts: Mapping[str, Mapping[str, Any]]
    calls: tuple[Call, ...]
    scaling: tuple[Call, ...]
    own_tags: Mapping[str, str]
    change: bool = True
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What --dry-run shows."""
        calls = (*self.calls, *self.scaling)
        return {
            "name": self.name,
            "creates": [*([f"s3://{self.bucket}"] if self.bucket else []), *(call.operation for call in calls)],
            "uploads": {str(here): there for here, there in self.uploads.items()},
            "requests": [call.as_dict() for call in calls],
            "warnings": list(self.warnings),
        }


def plan_deploy(account: Account, asked: Asked, environ: Mapping[str, str], say: Say) -> Plan:
    """The endpoint, new or updated, checked in every way that costs nothing.

    Raises:
        SightlineError, RunError: role, bucket or image cannot be used, a request breaks the platform's limits, or there is an
            endpoint of this name that cannot be updated now.
    """
    if problems := list(contradictions(asked)):
        raise SightlineError.collected(problems)
    bucket, there = find_bucket(account, asked.bucket, environ, say)
    role = find_role(account, asked.role, environ, say)
    image = find_image(account, asked.image, IMAGE_VARIABLE, environ, REPOSITORY, sightline.__version__)
    surroundings = Surroundings(role, asked.subnets, asked.security_groups, asked.kms_key, asked.own_tags)
    base = f"s3://{bucket}/{PREFIX}endpoints/{asked.name}/"
    require_alike(asked)
    first = Beside(hosting.VARIANT, asked.archive, asked.facts)
    uploads: dict[Path, str] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    for one in (first, *asked.beside):
        archive, sent, facts_at = placed(one.archive, base)
        request = hosting.model_request("", image, archive, asked.environment, surroundings, asked.name, facts_at)
        models[one.name] = named("ModelName", asked.name, request)
        uploads |= sent
        facts[facts_at] = one.facts
    names = {variant: model["ModelName"] for variant, model in models.items()}
    config = named("EndpointConfigName", asked.name, config_request(asked, names, base, surroundings))
    config_name: str = config["EndpointConfigName"]
    distinct = {model["ModelName"]: model for model in models.values()}.values()
    made = [*(Call("sagemaker", "CreateModel", model) for model in distinct), Call("sagemaker", "CreateEndpointConfig", config)]
    new = [Call("sagemaker", "CreateEndpoint", hosting.endpoint_request(asked.name, config_name, surroundings))]
    scaling = scaling_calls(asked)
    warnings = require_valid([*made, *new, *scaling])
    now = describe(account, asked.name)
    require_changeable(asked.name, now or {})
    change = now is None or now["EndpointConfigName"] != config_name
    calls: list[Call] = []
    if now is None:
        calls = [*made, *new]
    elif change:
        updates, notes = update_calls(account, asked, now, config, surroundings)
        calls, warnings = [*made, *updates], [*warnings, *notes]
    else:
        warnings += other_weights(asked, now)
    return Plan(
        name=asked.name,
        config=config_name,
        bucket="" if there else bucket,
        uploads=uploads if change else {},
        facts=facts,
        calls=tuple(calls),
        scaling=tuple(scaling),
        own_tags=asked.own_tags,
        change=change,
        warnings=tuple(warnings),
    )


def contradictions(asked: Asked) -> Iterator[Problem]:
    """Options that exclude each other; what a single request shows is among `rules`."""
    if asked.serverless_mb and (asked.subnets or asked.security_groups):
        yield Problem("--subnets", "are of a VPC, and serverless endpoints are in none", "Leave them out, or give machines.")
    if asked.serverless_mb and asked.beside:
        yield Problem("--variant", "a serverless endpoint has one model", "Give an instance type, or one model.")
    if asked.serverless_mb and asked.scale is not None:
        yield Problem("--scale", "serverless endpoints scale by themselves", "Leave it out.")
    if asked.scale is not None and asked.scale[0] < 1 and not asked.later:
        what = "is from 0, and only asynchronous endpoints can have no machine at all"
        yield Problem("--scale", what, "Begin with 1, or add --async.")
    if not 0 < asked.max_latency_s <= ANSWER_S:
        fix = f"Give more than 0, and at most the {ANSWER_S:.0f} s of an answer."
        yield Problem("--max-latency", f"is {asked.max_latency_s:g} s", fix)
    if len(asked.beside) >= MAX_VARIANTS:
        what = f"is given {len(asked.beside)} times, and an update heeds the alarms of {MAX_VARIANTS} variants with MODEL's own"
        yield Problem("--variant", what, f"Give at most {MAX_VARIANTS - 1}.")


def require_alike(asked: Asked) -> None:
    """Nothing, if one endpoint can have these variants.

    Raises:
        SightlineError: the models name other classes, so that labels would mean different things.
    """
    names = list(asked.facts.get("class_names") or ())
    for one in asked.beside:
        others = list(one.facts.get("class_names") or ())
        if others != names:
            what = f"names the classes {', '.join(map(str, others))}, and the first model {', '.join(map(str, names))}"
            raise SightlineError(f"--variant {one.name}", what, "Give models of the same classes, in the same order.")


def update_calls(
    account: Account, asked: Asked, now: Mapping[str, Any], config: Mapping[str, Any], surroundings: Surroundings
) -> tuple[list[Call], list[str]]:
    """(another configuration for an endpoint that is there, what to tell of it).

    It is undone when answers of 5xx or slow ones ring an alarm of a variant. The platform refuses other machines for a variant
    that scales, so that is ended before, and begun again by `scaling_calls`; one that goes on scaling keeps its number of
    machines, but for one that has none now: the new ones have to show that they come up.
    """
    name, method = asked.name, account.client("sagemaker").describe_endpoint_config
    before = send(method, name, "sagemaker:DescribeEndpointConfig", EndpointConfigName=now["EndpointConfigName"])
    machines, wanted = machines_of(before), machines_of(config)
    scaled = scaled_variants(account, name)
    moved = [one for one in scaled if one not in wanted or wanted[one] != machines.get(one)]
    alarms = [alarm for variant in wanted for alarm in alarm_requests(asked, surroundings, variant)]
    names = [str(alarm["AlarmName"]) for alarm in alarms]
    asleep = any(one.get("DesiredInstanceCount", one.get("CurrentInstanceCount", 1)) == 0 for one in now["ProductionVariants"])
    keep = bool(scaled) and not moved and not asleep
    update = hosting.update_request(name, config["EndpointConfigName"], names, keep_counts=keep)
    calls = [
        *(Call(SCALING, "DeregisterScalableTarget", hosting.scaled(name, variant)) for variant in moved),
        *(Call("cloudwatch", "PutMetricAlarm", alarm) for alarm in alarms),
        Call("sagemaker", "UpdateEndpoint", update),
    ]
    require_valid(calls)
    told = {True: "does not scale any more on its other machines", False: "goes on scaling as it was asked for before"}
    return calls, [f"{name} {told[bool(moved)]}: --scale is not given"] if scaled and asked.scale is None else []


def alarm_requests(asked: Asked, surroundings: Surroundings, variant: str) -> list[dict[str, Any]]:
    """The alarms of a variant that undo an update: errors, slow answers."""
    return [
        hosting.alarm_request(asked.name, surroundings, variant),
        hosting.latency_alarm_request(asked.name, surroundings, asked.max_latency_s, variant),
    ]


def machines_of(config: Mapping[str, Any]) -> dict[str, str]:
    """{variant: its instance type}, empty for a serverless one."""
    return {str(one["VariantName"]): str(one.get("InstanceType", "")) for one in config["ProductionVariants"]}


def scaled_variants(account: Account, name: str) -> list[str]:
    """The variants of an endpoint whose machines autoscaling counts; also of one that is gone.

    Raises:
        SightlineError, RunError: they cannot be looked at.
    """
    begins = f"endpoint/{name}/variant/"
    try:
        pages = account.client(SCALING).get_paginator("describe_scalable_targets").paginate(ServiceNamespace="sagemaker")
        found = [str(target["ResourceId"]) for page in pages for target in page["ScalableTargets"]]
    except Exception as error:
        raise failure(error, name, f"{SCALING}:DescribeScalableTargets") from error
    return [resource.removeprefix(begins) for resource in found if resource.startswith(begins)]


def other_weights(asked: Asked, now: Mapping[str, Any]) -> list[str]:
    """What to tell of an endpoint whose requests `cloud weights` has shared out otherwise: that stays, it was on purpose."""
    wanted = {hosting.VARIANT: 1.0, **{one.name: one.weight for one in asked.beside}}
    found = {
        str(one["VariantName"]): float(one.get("DesiredWeight", one.get("CurrentWeight", 1)))
        for one in now["ProductionVariants"]
    }
    if len(wanted) < 2 or found == wanted:
        return []
    words = " ".join(f"{name}={weight:g}" for name, weight in wanted.items())
    shown = ", ".join(f"{name} {weight:g}" for name, weight in found.items())
    told = f"its variants have other weights now, which stay ({shown})"
    return [f"{told}; for those of this command: sightline cloud weights {asked.name} {words}"]


def placed(given: str, base: str) -> tuple[str, dict[Path, str], str]:
    """(where the archive is on S3, what has to be sent there, where its facts go); one on S3 is used where it is."""
    if is_remote(given):
        digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
        return given, {}, f"{base}models/{digest}/{FACTS}"
    path = Path(given)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]
    folder = f"{base}models/{digest}/"
    return f"{folder}model.tar.gz", {path: f"{folder}model.tar.gz"}, f"{folder}{FACTS}"


def named(key: str, endpoint: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request with a name that follows from all else in it."""
    rest = {other: value for other, value in request.items() if other not in (key, "Tags")}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:DIGITS]
    return {**request, key: f"{plain_name(endpoint, MAX_NAME - DIGITS - 1)}-{digest}"}


def config_request(asked: Asked, models: Mapping[str, str], base: str, surroundings: Surroundings) -> dict[str, Any]:
    """The configuration without its name. models: variant -> model's name, the first variant first."""
    first = hosting.Variant(
        models[hosting.VARIANT], asked.instance_type, asked.count,
        serverless_mb=asked.serverless_mb, concurrency=asked.concurrency, ami=asked.ami,
    )  # fmt: skip
    others = [
        replace(
            first, model=models[one.name], name=one.name, weight=one.weight,
            instance_type=one.instance_type or asked.instance_type,
        )
        for one in asked.beside
    ]  # fmt: skip
    later = hosting.Later(f"{base}outputs/", f"{base}failures/") if asked.later else None
    capture = hosting.Capture(f"{base}captured/", asked.capture) if asked.capture else None
    return hosting.endpoint_config_request("", [first, *others], surroundings, asked.name, later=later, capture=capture)


def require_changeable(name: str, now: Mapping[str, Any]) -> None:
    """Nothing, if the endpoint is not there, or can be updated.

    Raises:
        RunError: it is busy, or failed for good.
    """
    state = str(now.get("EndpointStatus", ""))
    if state in BUSY:
        raise RunError(name, f"is {state}", "Wait until it is in service, then do it again.")
    if state in ("Failed", "OutOfService"):
        raise RunError(
            name, f"is {state} ({now.get('FailureReason', '')})", f"Take it away first: sightline cloud delete {name}"
        )


def scaling_calls(asked: Asked) -> list[Call]:
    """How many machines there are: a target and a policy for every variant; from none, what wakes the endpoint, too."""
    if asked.scale is None:
        return []
    calls = []
    for variant in (hosting.VARIANT, *(one.name for one in asked.beside)):
        target = hosting.scaling_target_request(asked.name, *asked.scale, variant)
        policy = hosting.scaling_policy_request(asked.name, asked.per_minute, variant, later=asked.later)
        calls += [Call(SCALING, "RegisterScalableTarget", target), Call(SCALING, "PutScalingPolicy", policy)]
    if asked.scale[0] == 0:  # an asynchronous endpoint, which has one variant
        calls.append(Call(SCALING, "PutScalingPolicy", hosting.waking_policy_request(asked.name)))
        calls.append(Call("cloudwatch", "PutMetricAlarm", hosting.waking_alarm_request(asked.name, asked.own_tags)))
    return calls


def let_scale(account: Account, plan: Plan) -> None:
    """Send what a plan has for the scaling; the alarm gets the address of the policy before it.

    Raises:
        SightlineError, RunError: it cannot be sent.
    """
    policy = ""
    for call in plan.scaling:
        actions = {"AlarmActions": [policy]} if "AlarmActions" in call.request else {}
        answer = send_call(account, replace(call, request={**call.request, **actions}), plan.name)
        policy = str(answer.get("PolicyARN", ""))


def carry_out(account: Account, plan: Plan, say: Say) -> None:
    """Make bucket, uploads, model, configuration and endpoint; what is there already by its content's name is used.

    Raises:
        SightlineError, RunError: what could not be made; everything before it stays and is used by the next call.
    """
    import tempfile

    send_files(account, plan.bucket, plan.own_tags, plan.uploads, say)
    if plan.change:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            for place, facts in plan.facts.items():
                path = Path(folder, FACTS)
                write_json(path, dict(facts))
                upload(path, place)
    for call in plan.calls:
        if not there_already(account, call):
            send_call(account, call, plan.name)


def reweighed(account: Account, name: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Give an endpoint's variants other shares of its requests, within seconds; the shares that were there before.

    Raises:
        SightlineError, RunError: there is no such endpoint or variant, it is busy, or nothing would answer.
    """
    now = describe(account, name)
    if now is None:
        what = f"is no endpoint of account {account.id} in {account.region}"
        raise SightlineError(name, what, "Check the name and AWS_REGION.")
    require_changeable(name, now)
    before = {str(one["VariantName"]): float(one.get("CurrentWeight", 1)) for one in now["ProductionVariants"]}
    for variant in weights:
        if variant not in before:
            raise SightlineError(name, f"has no variant {variant!r}", nearest(variant, list(before)))
    if sum({**before, **weights}.values()) <= 0:
        raise SightlineError(name, "would have no variant with a weight", "Give one of them more than 0.")
    call = Call("sagemaker", "UpdateEndpointWeightsAndCapacities", hosting.weights_request(name, weights))
    require_valid([call])
    send_call(account, call, name)
    return before


def there_already(account: Account, call: Call) -> bool:
    """Whether a model or configuration of this content was made before."""
    asked = {
        "CreateModel": ("describe_model", "ModelName"),
        "CreateEndpointConfig": ("describe_endpoint_config", "EndpointConfigName"),
    }
    if call.operation not in asked:
        return False
    method, key = asked[call.operation]
    try:
        getattr(account.client("sagemaker"), method)(**{key: call.request[key]})
    except Exception as error:
        if is_missing(error):
            return False
        raise failure(error, str(call.request[key]), f"sagemaker:{call.operation.replace('Create', 'Describe')}") from error
    return True


def wait_in_service(
    account: Account,
    name: str,
    config: str,
    say: Say,
    show: Callable[[Line], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the container's log until the endpoint is in service with the configuration `config`.

    Raises:
        RunError: it failed, went back to what it was, or does not come up; with the platform's reason. Its log was shown.
    """
    tail, told, waited_s, lines = Tail(account.client("logs"), f"{ENDPOINTS}/{name}", ""), "", 0.0, 0
    while True:
        now: Mapping[str, Any] = {}
        try:
            now = account.client("sagemaker").describe_endpoint(EndpointName=name)
            for line in tail.new():
                show(line)
                lines += 1
        except Exception as error:
            if not is_lost(error):
                raise failure(error, name, "sagemaker:DescribeEndpoint") from error
        state = str(now.get("EndpointStatus", told))
        if state != told:
            say(f"{name}: {state}")
            told = state
        if now and state not in BUSY:
            require_in_service(name, config, now, lines)
            return
        if waited_s >= STUCK_S:
            raise RunError(name, f"is still {state} after {waited_s / 60:.0f} minutes", stuck_fix(name, lines))
        waited_s += POLL_S
        sleep(POLL_S)


def require_in_service(name: str, config: str, now: Mapping[str, Any], lines: int) -> None:
    """Nothing, if the endpoint is in service as it was asked for."""
    state, reason = str(now["EndpointStatus"]), " ".join(str(now.get("FailureReason", "")).split())
    if state != "InService":
        what = f"is {state}: {reason}" if reason else f"is {state}"
        raise RunError(name, what, f"{stuck_fix(name, lines)} Then take it away: sightline cloud delete {name}")
    if now["EndpointConfigName"] != config:
        what = f"went back to what it was{f': {reason}' if reason else ' (an alarm for errors or slow answers rang)'}"
        raise RunError(name, what, stuck_fix(name, lines))


def stuck_fix(name: str, lines: int) -> str:
    """Where to look, by whether the container has said anything."""
    if lines:
        return f"Its log is above, and in CloudWatch under {ENDPOINTS}/{name}."
    return (
        "Its container wrote no log: it does not start. Check that the role may pull the image and read the model, and on a"
        " GPU that the host's driver is for the image's CUDA (--cuda)."
    )
