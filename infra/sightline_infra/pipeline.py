"""Labels in, endpoint out: a new Ground Truth manifest starts a training, and what passes the gate is deployed."""

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from sightline_infra import requests, state_machine
from sightline_infra.requests import allow, arn, get, s3_arn, sub
from sightline_infra.resources import add, add_alarms, add_front, add_outputs
from sightline_infra.settings import BUCKET_OF_STORAGE, Settings

FINISHED_MANIFEST = "*/manifests/output/output.manifest"
"""Below a labelling job's output; what it writes on the way lies in `manifests/intermediate`."""

STATES, EVENTS = "states.amazonaws.com", "events.amazonaws.com"


class PipelineStack(cdk.Stack):
    """The endpoint itself is made by the first run that passes, and is not part of the stack (docs/infra.md removes it)."""

    def __init__(self, scope: Construct, construct_id: str, given: Settings, **options: Any) -> None:
        super().__init__(scope, construct_id, description=f"Trains and deploys {given.name}, by sightline", **options)
        archives = f"s3://{bucket_of(given)}/sightline/jobs/{given.name}-*"
        add(self, "Role", "AWS::IAM::Role", requests.endpoint_role(given, archives))
        add(self, "TrainRole", "AWS::IAM::Role", train_role(given))
        add(self, "Score", "AWS::SSM::Parameter", score(given))
        add_alarms(self, given)
        machine = {
            "StateMachineName": f"sightline-{given.name}",
            "Definition": state_machine.definition(given),
            "DefinitionSubstitutions": substitutions(given),
            "RoleArn": get("MachineRole", "Arn"),
            "Tags": requests.tags(given, "pipeline", given.name),
        }
        add(self, "MachineRole", "AWS::IAM::Role", machine_role(given))
        add(self, "Machine", "AWS::StepFunctions::StateMachine", machine)
        add(self, "EventRole", "AWS::IAM::Role", event_role(given))
        target = {"Id": "machine", "Arn": {"Ref": "Machine"}, "RoleArn": get("EventRole", "Arn")}
        rule = {
            "Description": f"New manifests start the pipeline of {given.name}",
            "EventPattern": pattern(given),
            "Targets": [target],
        }
        add(self, "Arrival", "AWS::Events::Rule", rule)
        add_outputs(
            self,
            [
                ("MachineArn", "Start it by hand with an event of your own", {"Ref": "Machine"}),
                ("EndpointName", "For sagemaker://NAME, when the first model has passed", given.name),
            ],
        )
        if given.http:
            add_front(self, given)


def bucket_of(given: Settings) -> str:
    return given.bucket.removeprefix("s3://").rstrip("/") or BUCKET_OF_STORAGE


def manifests_of(given: Settings) -> tuple[str, str]:
    """(bucket, prefix with `/` at its end, or empty)."""
    bucket, _, prefix = given.manifests.removeprefix("s3://").partition("/")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def pattern(given: Settings) -> dict[str, Any]:
    """EventBridge's events of finished manifests."""
    bucket, prefix = manifests_of(given)
    detail = {"bucket": {"name": [bucket]}, "object": {"key": [{"wildcard": f"{prefix}{FINISHED_MANIFEST}"}]}}
    return {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}


def substitutions(given: Settings) -> dict[str, Any]:
    """What CloudFormation fills into the definition."""
    return {
        "Bucket": sub(bucket_of(given)) if not given.bucket else bucket_of(given),
        "TrainImage": requests.image_of(given.train_image, "sightline-train"),
        "Image": requests.image_of(given.image, "sightline-serve"),
        "TrainRole": get("TrainRole", "Arn"),
        "Role": get("Role", "Arn"),
        "Parameter": {"Ref": "Score"},
        "ErrorsAlarm": {"Ref": "ErrorsAlarm"},
        "LatencyAlarm": {"Ref": "LatencyAlarm"},
    }


def score(given: Settings) -> dict[str, Any]:
    """Where the deployed model's score is kept. A later deployment of the stack leaves the value alone."""
    return {
        "Name": f"/sightline/{given.name}/score",
        "Type": "String",
        "Value": "0",
        "Description": f"{given.metric} of the model behind the endpoint {given.name}, when it was deployed",
        "Tags": requests.as_map(requests.tags(given, "score", given.name)),
    }


def train_role(given: Settings) -> dict[str, Any]:
    """Reads manifests and pictures, writes its jobs' folders."""
    bucket, prefix = manifests_of(given)
    jobs = f"s3://{bucket_of(given)}/sightline/jobs/{given.name}-*"
    folders = [f"{one.rstrip('/')}/" for one in given.pictures] or [f"s3://{bucket}/"]
    read = sorted({f"s3://{bucket}/{prefix}*", *(f"{one}*" for one in folders)})
    buckets = sorted({f"s3://{one.split('/')[2]}" for one in (*read, jobs)})
    statements = [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], *map(s3_arn, buckets)),
        allow(["s3:GetObject"], *map(s3_arn, read)),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], s3_arn(jobs)),
        *requests.logging("/aws/sagemaker/TrainingJobs"),
        *requests.pulling(given.train_image, "sightline-train"),
        *requests.networking(given),
        *requests.key_statements(given.kms_key),
    ]
    return requests.role(given, requests.SAGEMAKER, f"What trainings for {given.name} may do", statements, "training")


def machine_role(given: Settings) -> dict[str, Any]:
    """What the state machine calls, on the resources of its own names."""

    def named(kind: str, rest: str) -> list[Any]:
        """SageMaker writes names in ARNs in small letters."""
        return [arn("sagemaker", f"{kind}/{one}{rest}") for one in sorted({given.name, given.name.lower()})]

    jobs, models, configs = (named(kind, "-*") for kind in ("training-job", "model", "endpoint-config"))
    endpoint = named("endpoint", "")
    passed = {"iam:PassedToService": requests.SAGEMAKER}
    watching = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
    scaling = ["application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"]
    service = {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}
    statements = [
        allow([f"sagemaker:{verb}TrainingJob" for verb in ("Create", "Describe", "Stop")], *jobs),
        allow(["sagemaker:CreateModel"], *models),
        allow(["sagemaker:CreateEndpointConfig"], *configs),
        allow([f"sagemaker:{verb}Endpoint" for verb in ("Create", "Update")], *endpoint, *configs),
        allow(["sagemaker:DescribeEndpoint"], *endpoint),
        allow(["sagemaker:ListEndpoints"], "*"),
        allow(["sagemaker:AddTags"], *jobs, *models, *configs, *endpoint),
        allow(["iam:PassRole"], get("TrainRole", "Arn"), get("Role", "Arn"), StringEquals=passed),
        allow(["ssm:GetParameter", "ssm:PutParameter"], arn("ssm", f"parameter/sightline/{given.name}/score")),
        allow(watching, arn("events", "rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule")),
    ]
    if requests.wakes(given):
        alarm = arn("cloudwatch", f"alarm:sightline-{given.name}-waking")
        statements.append(allow(["cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"], alarm))
    if given.scale is not None:
        statements += [
            allow(scaling, "*"),
            allow(["cloudwatch:PutMetricAlarm"], arn("cloudwatch", "alarm:TargetTracking-*")),
            allow(["iam:CreateServiceLinkedRole"], "*", StringLike=service),
        ]
    return requests.role(given, STATES, f"What the pipeline of {given.name} may do", statements, "pipeline")


def event_role(given: Settings) -> dict[str, Any]:
    statements = [allow(["states:StartExecution"], {"Ref": "Machine"})]
    return requests.role(given, EVENTS, f"Starts the pipeline of {given.name}", statements, "start")
