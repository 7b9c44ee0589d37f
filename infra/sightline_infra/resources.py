"""Plain properties as resources of a stack, under the logical names that `sightline cloud template` gives them, too."""

from collections.abc import Iterable, Mapping
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from sightline_infra import requests
from sightline_infra.settings import Settings


def add(scope: Construct, name: str, kind: str, properties: Mapping[str, Any]) -> cdk.CfnResource:
    """A resource. Its logical name is `name`, so that properties can refer to it."""
    made = cdk.CfnResource(scope, name, type=kind, properties=dict(properties))
    made.override_logical_id(name)
    return made


def add_alarms(scope: Construct, given: Settings) -> list[cdk.CfnResource]:
    return [add(scope, name, "AWS::CloudWatch::Alarm", alarm) for name, alarm in requests.alarms(given).items()]


def add_front(scope: Construct, given: Settings) -> None:
    """The HTTP API, and its address as an output."""
    made = {name: add(scope, name, kind, properties) for name, (kind, properties) in requests.front(given).items()}
    made["Front"].add_resource_dependency(made["FrontLog"])
    made["FrontLog"].apply_removal_policy(cdk.RemovalPolicy.DESTROY)
    add_outputs(scope, [("Url", "Pictures go there by POST", requests.sub(requests.URL))])


def add_outputs(scope: Construct, outputs: Iterable[tuple[str, str, object]]) -> None:
    """outputs: (name, description, value)."""
    for name, description, value in outputs:
        cdk.CfnOutput(scope, f"{name}Output", description=description, value=cdk.Token.as_string(value)).override_logical_id(
            name
        )
