"""Everything that a deploy made, found again and taken away: nothing that costs money is forgotten."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.cloud import hosting
from sightline.cloud.account import Account, Say
from sightline.cloud.deploys import DIGITS, scaled_variants
from sightline.cloud.endpoints import describe
from sightline.cloud.failures import failure, is_missing
from sightline.cloud.jobs import PREFIX
from sightline.cloud.logs import ENDPOINTS
from sightline.cloud.naming import FACTS, KIND, MAX_NAME, OWNER, plain_name

OURS = ("models", "inputs")
"""Folders of an endpoint's that are nobody's work: archives, and pictures that were sent to it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a deploy made. kind: as in `sightline:kind`; what: as people read it."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def parts_of(account: Account, name: str) -> list[Part]:
    """Everything of an endpoint, in the order in which it is taken away; models and configurations by their tags.

    Raises:
        SightlineError, RunError: it cannot be listed.
    """
    client = account.client("sagemaker")
    found: list[Part] = []
    try:
        now = describe(account, name)
        found += [Part("scaling", f"endpoint/{name}/variant/{one}") for one in scaled_variants(account, name)]
        found += [Part("endpoint", name)] if now is not None else []
        pages = account.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"sightline-{name}")
        found += [Part("alarm", str(one["AlarmName"])) for page in pages for one in page["MetricAlarms"] if watches(one, name)]
        begins = plain_name(name, MAX_NAME - DIGITS - 1)
        lists = (("endpoint-config", "list_endpoint_configs", "EndpointConfig"), ("model", "list_models", "Model"))
        for kind, method, key in lists:
            for page in client.get_paginator(method).paginate(NameContains=begins):
                entries = page[f"{key}s"]
                found += [Part(kind, str(e[f"{key}Name"])) for e in entries if is_of(client, str(e[f"{key}Arn"]), kind, name)]
        models = [part for part in found if part.kind == "model"]
        buckets = {account.default_bucket, *(bucket for part in models for bucket in buckets_of(client, part.name, name))}
    except Exception as error:
        raise failure(error, name, "sagemaker:ListModels") from error
    archives = [part for bucket in sorted(buckets) for part in archives_of(account, bucket, name)]
    return [*(part for part in found if part.kind != "model"), *archives, *models]  # models last: they tell the buckets


def watches(alarm: Mapping[str, Any], endpoint: str) -> bool:
    """Whether an alarm is about this endpoint, and not one whose name begins with it."""
    return {"Name": "EndpointName", "Value": endpoint} in alarm.get("Dimensions", ())


def buckets_of(client: Any, model: str, endpoint: str) -> Iterator[str]:
    """Buckets in which a deploy has put something for this model: archive, class names."""
    told = client.describe_model(ModelName=model)
    tagged = {str(tag["Key"]): str(tag["Value"]) for tag in client.list_tags(ResourceArn=told["ModelArn"])["Tags"]}
    for place in (str(told.get("PrimaryContainer", {}).get("ModelDataUrl", "")), tagged.get(FACTS, "")):
        bucket, _, key = place.removeprefix("s3://").partition("/")
        if key.startswith(f"{PREFIX}endpoints/{endpoint}/"):
            yield bucket


def is_of(client: Any, arn: str, kind: str, name: str) -> bool:
    """Whether the tags of a resource say that it was made for the endpoint `name`."""
    told = {str(tag["Key"]): str(tag["Value"]) for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    return told.get(OWNER) == name and told.get(KIND) == kind


def archives_of(account: Account, bucket: str, name: str) -> list[Part]:
    """Models and pictures sent to an endpoint, in one bucket; answers and captured data stay."""
    found = list[Part]()
    try:
        for folder in OURS:
            asked = {"Bucket": bucket, "Prefix": f"{PREFIX}endpoints/{name}/{folder}/"}
            for page in account.client("s3").get_paginator("list_objects_v2").paginate(**asked):
                found += [Part("s3", f"s3://{bucket}/{entry['Key']}") for entry in page.get("Contents", ())]
        return found
    except Exception as error:
        if is_missing(error):
            return []
        raise failure(error, f"s3://{bucket}", "s3:ListBucket") from error


def staying(account: Account, name: str, parts: list[Part]) -> list[str]:
    """Folders of answers and captured data below an endpoint's own, which are somebody's work and stay; and its log.

    Raises:
        SightlineError, RunError: they cannot be listed.
    """
    own = f"{PREFIX}endpoints/{name}/"
    buckets = {account.default_bucket, *(part.name.split("/")[2] for part in parts if part.kind == "s3")}
    found: list[str] = []
    for bucket in sorted(buckets):
        try:
            answer = account.client("s3").list_objects_v2(Bucket=bucket, Prefix=own, Delimiter="/")
        except Exception as error:
            if is_missing(error):
                continue
            raise failure(error, f"s3://{bucket}", "s3:ListBucket") from error
        folders = [str(one["Prefix"]) for one in answer.get("CommonPrefixes", ())]
        found += [f"s3://{bucket}/{one}" for one in folders if one.removeprefix(own).rstrip("/") not in OURS]
    return [*found, f"its log, the group {ENDPOINTS}/{name}"]


def take_away(account: Account, parts: list[Part], say: Say) -> None:
    """Delete the parts, in order; one that is gone already is no failure.

    Raises:
        SightlineError, RunError: one cannot be deleted; those after it stay, and the next call finds them.
    """
    for part in parts:
        try:
            remove(account, part)
        except Exception as error:
            if not is_missing(error):
                raise failure(error, str(part), f"the deletion of this {part.kind}") from error
        say(f"deleted {part}")


def remove(account: Account, part: Part) -> None:
    client, name = account.client, part.name
    if part.kind == "scaling":
        _, endpoint, _, variant = name.split("/")
        client("application-autoscaling").deregister_scalable_target(**hosting.scaled(endpoint, variant))
    elif part.kind == "endpoint":
        client("sagemaker").delete_endpoint(EndpointName=name)
    elif part.kind == "endpoint-config":
        client("sagemaker").delete_endpoint_config(EndpointConfigName=name)
    elif part.kind == "model":
        client("sagemaker").delete_model(ModelName=name)
    elif part.kind == "alarm":
        client("cloudwatch").delete_alarms(AlarmNames=[name])
    else:
        bucket, _, key = name.removeprefix("s3://").partition("/")
        client("s3").delete_object(Bucket=bucket, Key=key)
