"""The pipeline's state machine, run by moto's interpreter of Amazon States Language; what it would call is answered here."""

import fnmatch
import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("aws_cdk", reason="no CDK here: pip install 'sightline[infra]'")

from sightline_infra import pipeline, state_machine

from sightline.cloud import hosting
from sightline.cloud.metrics import METRICS
from sightline.cloud.requests import Machines, Surroundings, training_request
from sightline.cloud.shapes import Call, require_valid

from .conftest import PIPELINE

Stacks = Mapping[str, dict[str, Any]]
ROLE = "arn:aws:iam::123456789012:role/sightline"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline"
FILLED = {"Bucket": "some-bucket", "TrainImage": IMAGE, "Image": IMAGE, "TrainRole": ROLE, "Role": ROLE, "Parameter": "/kept"}
ID = "6a7e8feb-b491-4cf7-a9f1-bf3703467718"
JOB = f"parts-{ID}"
EVENT = {"id": ID, "detail": {"bucket": {"name": "labels"}, "object": {"key": "jobs/a b/manifests/output/output.manifest"}}}
SETTLED = {"EndpointName": "parts", "EndpointStatus": "InService", "EndpointConfigName": JOB}


def trained(**scores: float) -> dict[str, Any]:
    """DescribeTrainingJob, as far as the pipeline reads it."""
    told = [{"MetricName": name.replace("_", "-"), "Value": value} for name, value in scores.items()]
    metrics = {"FinalMetricDataList": told} if scores else {}
    return {"ModelArtifacts": {"S3ModelArtifacts": f"s3://some-bucket/sightline/jobs/{JOB}/output/model.tar.gz"}, **metrics}


@pytest.fixture
def definition(stacks: Stacks) -> dict[str, Any]:
    """The stack's own, filled in as CloudFormation does it."""
    machine = stacks["sightline-pipeline-parts"]["Resources"]["Machine"]["Properties"]
    names = set(re.findall(r"\$\{(.+?)\}", json.dumps(machine["Definition"])))
    assert names == set(machine["DefinitionSubstitutions"])
    text = json.dumps(machine["Definition"])
    for name in names:
        text = text.replace(f"${{{name}}}", FILLED.get(name, f"sightline-parts-{name}"))
    found: dict[str, Any] = json.loads(text)
    found["States"]["Wait"]["Seconds"] = 0
    return found


class Run:
    """One execution. answers: action -> what it answers; a list: one after the other."""

    def __init__(self, definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
        import boto3
        from moto import mock_aws
        from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk as tasks

        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "any")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        self.sent: dict[str, dict[str, Any]] = {}

        def answer(task: Any, env: Any, normalised_parameters: dict[str, Any], **_: object) -> None:
            action = task.resource.api_action
            self.sent[action] = normalised_parameters
            given = answers.get(action, {})
            env.stack.append(given.pop(0) if isinstance(given, list) else given)

        monkeypatch.setattr(tasks.StateTaskServiceAwsSdk, "_eval_service_task", answer)
        train = definition["States"]["Train"]
        assert train["Resource"] == "arn:aws:states:::sagemaker:createTrainingJob.sync"  # which moto does not know
        train["Resource"] = "arn:aws:states:::aws-sdk:sagemaker:createTrainingJob"
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
            client = boto3.client("stepfunctions")
            made = client.create_state_machine(name="parts", definition=json.dumps(definition), roleArn=ROLE)
            began = client.start_execution(stateMachineArn=made["stateMachineArn"], input=json.dumps(EVENT))
            for _ in range(600):
                self.end = client.describe_execution(executionArn=began["executionArn"])
                if self.end["status"] != "RUNNING":
                    break
                time.sleep(0.05)

    @property
    def told(self) -> tuple[str, str, str]:
        return self.end["status"], self.end.get("error", ""), self.end.get("cause", "")


def answers(score: float, present: str = "0.4", **more: Any) -> dict[str, Any]:
    return {
        "describeTrainingJob": trained(bbox_AP=0.99, model_bbox_AP=score),
        "getParameter": {"Parameter": {"Value": present}},
        "listEndpoints": {"Endpoints": [{"EndpointName": "parts-2"}, {"EndpointName": "parts"}]},
        "describeEndpoint": [{**SETTLED, "EndpointStatus": "Updating", "EndpointConfigName": "old"}, SETTLED],
        **more,
    }


def test_a_better_model_becomes_the_endpoint(definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(definition, monkeypatch, answers(0.41))
    assert run.told == ("SUCCEEDED", "", "")
    assert "createEndpoint" not in run.sent
    update = run.sent["updateEndpoint"]
    alarms = update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [one["AlarmName"] for one in alarms] == ["sightline-parts-ErrorsAlarm", "sightline-parts-LatencyAlarm"]
    assert run.sent["createModel"]["PrimaryContainer"]["ModelDataUrl"] == trained()["ModelArtifacts"]["S3ModelArtifacts"]
    kept = run.sent["putParameter"]
    assert (kept["Name"], float(kept["Value"]), kept["Overwrite"]) == ("/kept", 0.41, True)
    names = {"updateEndpoint": "UpdateEndpoint", "createModel": "CreateModel", "createEndpointConfig": "CreateEndpointConfig"}
    calls = [Call("sagemaker", operation, run.sent[action]) for action, operation in names.items()]
    scaling = {"registerScalableTarget": "RegisterScalableTarget", "putScalingPolicy": "PutScalingPolicy"}
    calls += [Call("application-autoscaling", operation, run.sent[action]) for action, operation in scaling.items()]
    calls += [Call("sagemaker", "CreateTrainingJob", run.sent["createTrainingJob"]), Call("ssm", "PutParameter", kept)]
    assert require_valid(calls) == []


@pytest.mark.parametrize("endpoints", [[], [{"EndpointName": "parts-2"}]])
def test_the_first_model_makes_the_endpoint(
    endpoints: list[dict[str, str]], definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(definition, monkeypatch, answers(0.31, "0", listEndpoints={"Endpoints": endpoints}))
    assert run.told[0] == "SUCCEEDED" and "updateEndpoint" not in run.sent
    assert require_valid([Call("sagemaker", "CreateEndpoint", run.sent["createEndpoint"])]) == []


@pytest.mark.parametrize(
    ("given", "error", "cause"),
    [
        (answers(0.39), "NotGoodEnough", "model-bbox-AP is 0.39; 0.3 is asked for, and the present model had 0.4"),
        (answers(0.29, "0"), "NotGoodEnough", "model-bbox-AP is 0.29; 0.3 is asked for, and the present model had 0"),
        (answers(0.9, describeTrainingJob=trained()), "NotMeasured", "The training told no model-bbox-AP"),
        (answers(0.9, describeTrainingJob=trained(bbox_AP=0.9)), "NotMeasured", "The training told no model-bbox-AP"),
        (
            answers(0.9, describeEndpoint=[{**SETTLED, "EndpointConfigName": "old"}]),
            "RolledBack", "parts is InService with old, not with the new model",
        ),
        (answers(0.9, describeEndpoint=[{**SETTLED, "EndpointStatus": "Failed"}]), "RolledBack", "parts is Failed"),
    ],
)  # fmt: skip
def test_what_is_not_deployed(
    given: dict[str, Any], error: str, cause: str, definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(definition, monkeypatch, given)
    assert run.told[:2] == ("FAILED", error)
    assert run.told[2].startswith(cause)
    assert "putParameter" not in run.sent
    assert ("createModel" in run.sent) == (error == "RolledBack")


def test_the_training_is_that_of_cloud_train(definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(definition, monkeypatch, answers(0.1))
    machines = Machines("ml.g5.xlarge", 1, 50)
    manifest = {"training": "s3://labels/jobs/a b/manifests/output/output.manifest"}
    asked = dict(PIPELINE.hyperparameters)
    wanted = training_request(JOB, IMAGE, manifest, "s3://some-bucket/sightline/jobs/", asked, machines, Surroundings(ROLE))
    wanted["Tags"].append({"Key": "sightline:of", "Value": "parts"})
    assert run.sent["createTrainingJob"] == wanted
    assert {one["Name"]: one["Regex"] for one in state_machine.metrics()} == METRICS


def test_only_finished_manifests_start_it(stacks: Stacks) -> None:
    pattern = stacks["sightline-pipeline-parts"]["Resources"]["Arrival"]["Properties"]["EventPattern"]
    assert (pattern["source"], pattern["detail-type"]) == (["aws.s3"], ["Object Created"])
    assert pattern["detail"]["bucket"]["name"] == ["labels"]
    (key,) = pattern["detail"]["object"]["key"]
    assert fnmatch.fnmatchcase("jobs/parts-01/manifests/output/output.manifest", key["wildcard"])
    assert not fnmatch.fnmatchcase("jobs/parts-01/manifests/intermediate/1/output.manifest", key["wildcard"])
    assert not fnmatch.fnmatchcase("other/parts-01/manifests/output/output.manifest", key["wildcard"])


def test_an_asynchronous_endpoint_without_machines_is_woken() -> None:
    given = replace(PIPELINE, async_=True, http="", scale=(0, 2))
    states = state_machine.definition(given)["States"]
    order = [states["Settled"]["Choices"][-1]["Next"]]
    while order[-1] != "Keep":
        order.append(states[order[-1]]["Next"])
    assert order == ["Scale", "ScaleBy", "Wake", "WakeBy", "Keep"]
    alarm = dict(states["WakeBy"]["Parameters"])
    assert alarm.pop("AlarmActions.$") == "States.Array($.waking.PolicyARN)" and states["Wake"]["ResultPath"] == "$.waking"
    assert {**alarm, "AlarmActions": [hosting.WAKING_POLICY]} == hosting.waking_alarm_request("parts", {})
    assert states["Wake"]["Parameters"] == hosting.waking_policy_request("parts")
    statements = pipeline.machine_role(given)["Policies"][0]["PolicyDocument"]["Statement"]
    alarms = [one["Resource"][0]["Fn::Sub"] for one in statements if "cloudwatch:PutMetricAlarm" in one["Action"]]
    assert alarms[0].endswith(":alarm:sightline-parts-waking")


def test_roles_name_what_they_may_touch() -> None:
    statements = pipeline.machine_role(PIPELINE)["Policies"][0]["PolicyDocument"]["Statement"]
    everywhere = {action for one in statements if "*" in one["Resource"] for action in one["Action"]}
    assert everywhere == {
        "sagemaker:ListEndpoints", "application-autoscaling:RegisterScalableTarget",
        "application-autoscaling:PutScalingPolicy", "iam:CreateServiceLinkedRole",
    }  # fmt: skip
    (passing,) = (one for one in statements if "iam:PassRole" in one["Action"])
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    reading = next(
        one
        for one in pipeline.train_role(PIPELINE)["Policies"][0]["PolicyDocument"]["Statement"]
        if one["Action"] == ["s3:GetObject"]
    )
    places = [one["Fn::Sub"] for one in reading["Resource"]]
    assert places == ["arn:${AWS::Partition}:s3:::labels/jobs/*", "arn:${AWS::Partition}:s3:::photos/2026/*"]
