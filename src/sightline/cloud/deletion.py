"""Everything that a deploy made, found again and taken away: nothing that costs money is forgotten."""

from dataclasses import dataclass
from typing import Any

from sightline.cloud import hosting
from sightline.cloud.account import Account, Say
from sightline.cloud.deploys import DIGITS
from sightline.cloud.endpoints import describe
from sightline.cloud.failures import failure, is_missing
from sightline.cloud.jobs import PREFIX
from sightline.cloud.naming import KIND, MAX_NAME, OWNER, plain_name


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
        asked = {"ServiceNamespace": "sagemaker", "ResourceIds": [f"endpoint/{name}/variant/{hosting.VARIANT}"]}
        targets = account.client("application-autoscaling").describe_scalable_targets(**asked)["ScalableTargets"]
        found += [Part("scaling", name)] if targets else []
        found += [Part("endpoint", name)] if describe(account, name) is not None else []
        alarms = account.client("cloudwatch").describe_alarms(AlarmNames=[hosting.alarm_name(name)])["MetricAlarms"]
        found += [Part("alarm", str(alarm["AlarmName"])) for alarm in alarms]
        begins = plain_name(name, MAX_NAME - DIGITS - 1)
        lists = (("endpoint-config", "list_endpoint_configs", "EndpointConfig"), ("model", "list_models", "Model"))
        for kind, method, key in lists:
            for page in client.get_paginator(method).paginate(NameContains=begins):
                entries = page[f"{key}s"]
                found += [Part(kind, str(e[f"{key}Name"])) for e in entries if is_of(client, str(e[f"{key}Arn"]), kind, name)]
    except Exception as error:
        raise failure(error, name, "sagemaker:ListModels") from error
    return [*found, *archives_of(account, name)]


def is_of(client: Any, arn: str, kind: str, name: str) -> bool:
    """Whether the tags of a resource say that it was made for the endpoint `name`."""
    told = {str(tag["Key"]): str(tag["Value"]) for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    return told.get(OWNER) == name and told.get(KIND) == kind


def archives_of(account: Account, name: str) -> list[Part]:
    """Models and pictures sent to an endpoint, in the account's own bucket; answers and captured data stay."""
    bucket, found = account.default_bucket, list[Part]()
    try:
        for folder in ("models", "inputs"):
            asked = {"Bucket": bucket, "Prefix": f"{PREFIX}endpoints/{name}/{folder}/"}
            for page in account.client("s3").get_paginator("list_objects_v2").paginate(**asked):
                found += [Part("s3", f"s3://{bucket}/{entry['Key']}") for entry in page.get("Contents", ())]
        return found
    except Exception as error:
        if is_missing(error):
            return []
        raise failure(error, f"s3://{account.default_bucket}", "s3:ListBucket") from error


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
        client("application-autoscaling").deregister_scalable_target(**hosting.scaled(name, hosting.VARIANT))
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
