"""A new Ground Truth manifest becomes a training, an evaluation gate and a deployment: the state machine, as plain data.

Amazon States Language with JSONPath. Its input is EventBridge's event of the manifest on S3, of which it reads `id`,
`detail.bucket.name` and `detail.object.key`. `${...}` are filled in by CloudFormation.
"""

from typing import Any

from sightline_infra import requests
from sightline_infra.requests import Data
from sightline_infra.settings import Settings

NUMBER = r"(-?[0-9.]+(?:e[-+]?[0-9]+)?)"

LOSSES = (
    "total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask",
    "loss_cls_stage0", "loss_cls_stage1", "loss_cls_stage2",
    "loss_box_reg_stage0", "loss_box_reg_stage1", "loss_box_reg_stage2",
)  # fmt: skip
FIGURES = {"lr": "lr", "time": "seconds-per-step", "img/s": "images-per-second"}
SCORES = ("bbox/AP", "bbox/AP50", "segm/AP", "val_loss")
BEST = tuple(f"best/{score}" for score in SCORES)
FINISHED = ("model/bbox/AP", "model/bbox/AP50", "model/segm/AP")
"""What the training's entry point prints of the finished model, on its test part, after `sightline evaluate`."""

POLL_S = 60
SETTLED, BUSY = ("InService",), ("Creating", "Updating", "SystemUpdating", "RollingBack")


def figure(key: str) -> str:
    """The expression of `key: NUMBER` between blanks."""
    return rf"(?:^|\s){key}: {NUMBER}(?:\s|$)"


def metrics() -> list[Data]:
    """What the platform draws of a training, and what the gate reads."""
    named = {**{key: key for key in LOSSES}, **FIGURES, **{key: key.replace("/", "-") for key in (*SCORES, *BEST, *FINISHED)}}
    return [{"Name": name, "Regex": figure(key)} for key, name in named.items()]


FORGOTTEN = "$.answer"
"""Where answers go that nobody reads. The CDK drops `null`, with which the language itself would discard them."""


def task(action: str, arguments: Data, after: str, keep: str = FORGOTTEN, **more: Any) -> Data:
    """One call. keep: where its answer goes in the state."""
    return {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{action}",
        "Parameters": arguments,
        "ResultPath": keep,
        "Next": after,
        **more,
    }


def sagemaker(action: str, arguments: Data, after: str, keep: str = FORGOTTEN, **more: Any) -> Data:
    return task(f"aws-sdk:sagemaker:{action}", arguments, after, keep, **{"Retry": RETRY, **more})


def either(rule: Data, then: str, otherwise: str) -> Data:
    return {"Type": "Choice", "Choices": [{**rule, "Next": then}], "Default": otherwise}


RETRY = [
    {
        "ErrorEquals": ["States.Timeout", "SageMaker.ThrottlingException", "SageMaker.SdkClientException"],
        "IntervalSeconds": 5,
        "MaxAttempts": 5,
        "BackoffRate": 2.0,
    }
]


def definition(given: Settings) -> Data:
    """The whole machine."""
    return {
        "Comment": f"A new manifest trains, and what passes the gate becomes the endpoint {given.name}",
        "StartAt": "Name",
        "States": {**training(given), **gate(given), **deploying(given), **settling(given)},
    }


def training(given: Settings) -> Data:
    """From the event to the finished job, as the platform describes it."""
    names = {
        "job.$": f"States.Format('{given.name}-{{}}', $.id)",
        "manifest.$": "States.Format('s3://{}/{}', $.detail.bucket.name, $.detail.object.key)",
    }
    asked = {"TrainingJobName.$": "$.job"}
    return {
        "Name": {"Type": "Pass", "Parameters": names, "Next": "Train"},
        "Train": task("sagemaker:createTrainingJob.sync", training_job(given), "Look"),
        "Look": sagemaker("describeTrainingJob", asked, "Measured", "$.trained"),
    }


def training_job(given: Settings) -> Data:
    """CreateTrainingJob, as `sightline cloud train` sends it for label files whose pictures are on S3."""
    bucket = f"s3://{given.bucket.removeprefix('s3://').rstrip('/') or '${Bucket}'}/sightline/jobs/"
    key = {"KmsKeyId": given.kms_key} if given.kms_key else {}
    stopping: Data = {"MaxRuntimeInSeconds": given.train_max_runtime}
    if given.spot:
        stopping["MaxWaitTimeInSeconds"] = max(min(2 * given.train_max_runtime, 28 * 86_400), given.train_max_runtime)
    source = {"S3DataType": "S3Prefix", "S3Uri.$": "$.manifest", "S3DataDistributionType": "FullyReplicated"}
    return {
        "TrainingJobName.$": "$.job",
        "AlgorithmSpecification": {
            "TrainingImage": "${TrainImage}",
            "TrainingInputMode": "File",
            "MetricDefinitions": metrics(),
        },
        "RoleArn": "${TrainRole}",
        "InputDataConfig": [{"ChannelName": "training", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": bucket, "CompressionType": "GZIP", **key},
        "ResourceConfig": {
            "InstanceType": given.train_instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": given.train_volume,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": given.spot,
        **requests.vpc(given),
        "CheckpointConfig": {
            "S3Uri.$": f"States.Format('{bucket}{{}}/checkpoints/', $.job)",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "HyperParameters": dict(given.hyperparameters),
        "Tags": requests.tags(given, "training-job", given.name),
    }


def gate(given: Settings) -> Data:
    """The finished model's score: there at all, enough, and at least what the present model had."""
    metrics = "$.trained.FinalMetricDataList"
    measured = {"measured.$": f"States.ArrayContains({metrics}[*].MetricName, '{given.metric}')"}
    score = {
        "job.$": "$.job",
        "archive.$": "$.trained.ModelArtifacts.S3ModelArtifacts",
        "score.$": f"States.ArrayGetItem({metrics}[?(@.MetricName == '{given.metric}')].Value, 0)",
    }
    present = {"score.$": "States.StringToJson($.kept.Parameter.Value)"}
    enough: list[Data] = [{"Variable": "$.score", "NumericGreaterThanEquals": given.min_ap}]
    if given.must_beat:
        enough.append({"Variable": "$.score", "NumericGreaterThanEqualsPath": "$.present.score"})
    asked = f"{given.metric} is {{}}; {given.min_ap:g} is asked for, and the present model had {{}}"
    told = f"States.Format('{asked}', $.score, $.present.score)"
    return {
        "Measured": either({"Variable": f"{metrics}[0]", "IsPresent": True}, "Scores", "NotMeasured"),
        "Scores": {"Type": "Pass", "Parameters": measured, "ResultPath": "$.scores", "Next": "Scored"},
        "Scored": either({"Variable": "$.scores.measured", "BooleanEquals": True}, "Score", "NotMeasured"),
        "Score": {"Type": "Pass", "Parameters": score, "Next": "Present"},
        "Present": task("aws-sdk:ssm:getParameter", {"Name": "${Parameter}"}, "Compare", "$.kept"),
        "Compare": {"Type": "Pass", "Parameters": present, "ResultPath": "$.present", "Next": "Gate"},
        "Gate": either({"And": enough}, "Model", "Rejected"),
        "Rejected": {"Type": "Fail", "Error": "NotGoodEnough", "CausePath": told},
        "NotMeasured": {
            "Type": "Fail",
            "Error": "NotMeasured",
            "Cause": f"The training told no {given.metric}: its evaluation failed, or it had no part to evaluate on",
        },
    }


def deploying(given: Settings) -> Data:
    """Model and configuration, named like the job, and the endpoint made or updated with them."""
    model = {"ModelName.$": "$.job", **requests.model(given, None, "${Role}")}
    model["PrimaryContainer"] = {"Image": "${Image}", "ModelDataUrl.$": "$.archive", "Environment": {}}
    config = {"EndpointConfigName.$": "$.job", **requests.endpoint_config(given, None)}
    for variant in config["ProductionVariants"]:
        del variant["ModelName"]
        variant["ModelName.$"] = "$.job"
    made = {"EndpointName": given.name, "EndpointConfigName.$": "$.job"}
    alarms = ["${ErrorsAlarm}", "${LatencyAlarm}"]
    there = f"States.ArrayContains($.endpoints.Endpoints[*].EndpointName, '{given.name}')"
    return {
        "Model": sagemaker("createModel", resolved(model), "Config"),
        "Config": sagemaker("createEndpointConfig", resolved(config), "Endpoints"),
        "Endpoints": sagemaker("listEndpoints", {"NameContains": given.name, "MaxResults": 100}, "Any", "$.endpoints"),
        "Any": either({"Variable": "$.endpoints.Endpoints[0]", "IsPresent": True}, "Names", "Create"),
        "Names": {"Type": "Pass", "Parameters": {"there.$": there}, "ResultPath": "$.names", "Next": "There"},
        "There": either({"Variable": "$.names.there", "BooleanEquals": True}, "Update", "Create"),
        "Create": sagemaker("createEndpoint", {**made, "Tags": requests.tags(given, "endpoint", given.name)}, "Wait"),
        "Update": sagemaker("updateEndpoint", {**made, **requests.updating(given, alarms)}, "Wait"),
    }


def settling(given: Settings) -> Data:
    """Until the endpoint has the new configuration, or has gone back; then scaling, and the score is kept."""
    last = "Scale" if given.scale is not None else "Keep"
    state = {"EndpointName": given.name}
    target, policy = requests.scaling_target(given), requests.scaling_policy(given)
    service = "aws-sdk:applicationautoscaling"
    scaling = {
        "Scale": task(f"{service}:registerScalableTarget", target, "ScaleBy"),
        "ScaleBy": task(f"{service}:putScalingPolicy", policy, "Wake" if requests.wakes(given) else "Keep"),
    }
    if requests.wakes(given):
        alarm = {**requests.waking_alarm(given), "AlarmActions.$": "States.Array($.waking.PolicyARN)"}
        scaling["Wake"] = task(f"{service}:putScalingPolicy", requests.waking_policy(given), "WakeBy", "$.waking")
        scaling["WakeBy"] = task("aws-sdk:cloudwatch:putMetricAlarm", alarm, "Keep")
    kept = {"Name": "${Parameter}", "Value.$": "States.JsonToString($.score)", "Overwrite": True}
    return {
        "Wait": {"Type": "Wait", "Seconds": POLL_S, "Next": "State"},
        "State": sagemaker("describeEndpoint", state, "Settled", "$.endpoint"),
        "Settled": {
            "Type": "Choice",
            "Choices": [
                *({"Variable": "$.endpoint.EndpointStatus", "StringEquals": one, "Next": "Wait"} for one in BUSY),
                {
                    "And": [
                        *({"Variable": "$.endpoint.EndpointStatus", "StringEquals": one} for one in SETTLED),
                        {"Variable": "$.endpoint.EndpointConfigName", "StringEqualsPath": "$.job"},
                    ],
                    "Next": last,
                },
            ],
            "Default": "RolledBack",
        },
        "RolledBack": {
            "Type": "Fail",
            "Error": "RolledBack",
            "CausePath": "States.Format('{} is {} with {}, not with the new model', $.endpoint.EndpointName,"
            " $.endpoint.EndpointStatus, $.endpoint.EndpointConfigName)",
        },
        **(scaling if given.scale is not None else {}),
        "Keep": task("aws-sdk:ssm:putParameter", kept, "Done"),
        "Done": {"Type": "Succeed"},
    }


def resolved(value: Any) -> Any:
    """Without `Fn::Sub`: in a definition CloudFormation fills in `${...}` by its substitutions."""
    if isinstance(value, dict):
        if set(value) == {"Fn::Sub"}:
            return value["Fn::Sub"].replace(requests.BUCKET_OF_STORAGE, "${Bucket}")
        return {key: resolved(one) for key, one in value.items()}
    return [resolved(one) for one in value] if isinstance(value, list) else value
