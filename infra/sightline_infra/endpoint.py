"""A bundle on S3 as an endpoint: on machines that scale, serverless, or asynchronous."""

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from sightline_infra import requests
from sightline_infra.requests import get
from sightline_infra.resources import add, add_alarms, add_front, add_outputs
from sightline_infra.settings import Settings


class EndpointStack(cdk.Stack):
    """Role, model, configuration, alarms, endpoint, scaling, and an HTTP API by choice.

    Another bundle or other machines are an update without a gap. CloudFormation names model and configuration, so that new
    ones come before the old ones go; an alarm that rings takes the whole update back.
    """

    def __init__(self, scope: Construct, construct_id: str, given: Settings, **options: Any) -> None:
        super().__init__(scope, construct_id, description=f"The endpoint {given.name}, by sightline", **options)
        role = get("Role", "Arn")
        facts_at = f"{given.bundle.rpartition('/')[0]}/model.json"
        add(self, "Role", "AWS::IAM::Role", requests.endpoint_role(given, given.bundle))
        add(self, "Model", "AWS::SageMaker::Model", requests.model(given, given.bundle, role, facts_at))
        add(self, "Config", "AWS::SageMaker::EndpointConfig", requests.endpoint_config(given, get("Model", "ModelName")))
        alarms = add_alarms(self, given)
        endpoint = add(
            self,
            "Endpoint",
            "AWS::SageMaker::Endpoint",
            {
                "EndpointName": given.name,
                "EndpointConfigName": get("Config", "EndpointConfigName"),
                **requests.updating(given, [{"Ref": alarm.logical_id} for alarm in alarms]),
                "Tags": requests.tags(given, "endpoint", given.name),
            },
        )
        if given.scale is not None:
            target = add(self, "Scaling", "AWS::ApplicationAutoScaling::ScalableTarget", requests.scaling_target(given))
            target.add_resource_dependency(endpoint)
            policy = add(self, "ScalingPolicy", "AWS::ApplicationAutoScaling::ScalingPolicy", requests.scaling_policy(given))
            policy.add_resource_dependency(target)
            if requests.wakes(given):
                waking = add(self, "WakingPolicy", policy.cfn_resource_type, requests.waking_policy(given))
                waking.add_resource_dependency(target)
                alarm = {**requests.waking_alarm(given), "AlarmActions": [{"Ref": "WakingPolicy"}]}
                add(self, "WakingAlarm", "AWS::CloudWatch::Alarm", alarm)
        add_outputs(self, outputs(given))
        if given.http:
            add_front(self, given)


def outputs(given: Settings) -> list[tuple[str, str, object]]:
    base = requests.base_of(given)
    return [
        ("EndpointName", "For sagemaker://NAME and InvokeEndpoint", get("Endpoint", "EndpointName")),
        ("RoleArn", "What the endpoint runs as", get("Role", "Arn")),
        *([("Captured", "Requests and answers", f"{base}captured/")] if given.capture else []),
        *([("Answers", "Of the asynchronous endpoint", f"{base}outputs/")] if given.async_ else []),
    ]
