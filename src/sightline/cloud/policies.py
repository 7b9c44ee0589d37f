"""The least rights that each command needs, as IAM policies; and the role that jobs and endpoints run as.

Pure data. Where a resource can be named it is; `*` stands where AWS knows no resource for an action, or none was given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.cloud.account import SERVICE
from sightline.errors import SightlineError, nearest

Statement = dict[str, Any]

NETWORK = (
    "CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission",
    "DescribeDhcpOptions", "DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs",
)  # fmt: skip
"""What a role has to be allowed in EC2 for a job or an endpoint in a VPC; AWS's own list, for all resources."""

KEY_USE = ("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey")
"""What a role does with a key: disks by grants, what is on S3 by data keys."""

KEY_GRANT = ("kms:CreateGrant", "kms:DescribeKey")
"""What whoever makes a job or an endpoint has to be allowed for its disks."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the policies are narrowed to.

    role:    ARN or name of the role that jobs run as
    vpc:     jobs and endpoints are in a VPC (`--subnets`)
    kms_key: ARN, id or alias/NAME of what `--kms-key` names; empty where nothing does
    """

    account: str = "*"
    region: str = "*"
    bucket: str = "sightline-sagemaker-*"
    role: str = "sightline-*"
    partition: str = "aws"
    vpc: bool = False
    kms_key: str = ""

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def role_arn(self) -> str:
        return self.role if self.role.startswith("arn:") else f"arn:{self.partition}:iam::{self.account}:role/{self.role}"

    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"


def allow(actions: Sequence[str], *resources: str, **conditions: Any) -> Statement:
    only = {"Condition": conditions} if conditions else {}
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": list(resources), **only}


def network_use() -> list[Statement]:
    return [allow([f"ec2:{action}" for action in NETWORK], "*")]


def key_use(scope: Scope, actions: Sequence[str]) -> list[Statement]:
    """The use of the KMS key, if there is one."""
    return key_statements(scope.kms_key, actions, scope.arn) if scope.kms_key else []


def key_statements(key: str, actions: Sequence[str], arn: Callable[[str, str], Any]) -> list[Statement]:
    """The use of a KMS key, which may be given by its ARN, its id or an alias. arn: of (service, the rest of it)."""
    name = key.rpartition(":")[2]
    if name.startswith("alias/"):
        return [allow(actions, arn("kms", "key/*"), **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}})]
    return [allow(actions, key if key.startswith("arn:") else arn("kms", f"key/{key}"))]


def as_whom(scope: Scope) -> list[Statement]:
    """To know who asks, and to hand the role to SageMaker alone."""
    passed = {"iam:PassedToService": SERVICE}
    return [
        allow(["sts:GetCallerIdentity", "iam:ListRoles"], "*"),
        allow(["iam:GetRole"], scope.role_arn()),
        allow(["iam:PassRole"], scope.role_arn(), StringEquals=passed),
        allow(["ecr:DescribeImages"], scope.arn("ecr", "repository/sightline-*")),
    ]


def sending(scope: Scope) -> list[Statement]:
    """To make the bucket and send what changed."""
    bucket = ["s3:ListBucket", "s3:CreateBucket", "s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging"]
    objects = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
    return [allow(bucket, scope.bucket_arn()), allow(objects, f"{scope.bucket_arn()}/sightline/*")]


def looking(scope: Scope) -> list[Statement]:
    """To see a training, a search or a batch transform and its log, and fetch what it left."""
    groups = [scope.arn("logs", f"log-group:/aws/sagemaker/{kind}") for kind in ("TrainingJobs", "TransformJobs")]
    return [
        allow(["sagemaker:DescribeTrainingJob"], scope.arn("sagemaker", "training-job/*")),
        allow(
            ["sagemaker:DescribeHyperParameterTuningJob", "sagemaker:ListTrainingJobsForHyperParameterTuningJob"],
            scope.arn("sagemaker", "hyper-parameter-tuning-job/*"),
        ),
        allow(["sagemaker:DescribeTransformJob"], scope.arn("sagemaker", "transform-job/*")),
        allow(["sagemaker:DescribeEndpoint"], scope.arn("sagemaker", "endpoint/*")),
        allow(["logs:DescribeLogStreams", "logs:GetLogEvents"], *groups, *(f"{group}:*" for group in groups)),
        allow(["s3:GetObject"], f"{scope.bucket_arn()}/sightline/*"),
        allow(["s3:ListBucket"], scope.bucket_arn()),
        *key_use(scope, ["kms:Decrypt"]),
    ]


def training(scope: Scope) -> list[Statement]:
    jobs = scope.arn("sagemaker", "training-job/*")
    return [
        *as_whom(scope),
        *sending(scope),
        *looking(scope),
        allow(["sagemaker:CreateTrainingJob", "sagemaker:StopTrainingJob", "sagemaker:AddTags"], jobs),
        *key_use(scope, KEY_GRANT),
    ]


def searching(scope: Scope) -> list[Statement]:
    found = ["sagemaker:CreateHyperParameterTuningJob", "sagemaker:StopHyperParameterTuningJob", "sagemaker:AddTags"]
    return [*training(scope), allow(found, scope.arn("sagemaker", "hyper-parameter-tuning-job/*"))]


def transforming(scope: Scope) -> list[Statement]:
    made = ["sagemaker:CreateTransformJob", "sagemaker:StopTransformJob", "sagemaker:AddTags"]
    models = ["sagemaker:CreateModel", "sagemaker:DescribeModel", "sagemaker:DeleteModel", "sagemaker:ListTags"]
    endpoints = ["sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig"]
    return [
        *as_whom(scope),
        *sending(scope),
        *looking(scope),
        allow(made, scope.arn("sagemaker", "transform-job/*")),
        allow([*models, "sagemaker:AddTags"], scope.arn("sagemaker", "model/*")),
        allow(endpoints, *hosted(scope)[:2]),
        allow(["s3:DeleteObject"], f"{scope.bucket_arn()}/sightline/transforms/*"),
        *key_use(scope, KEY_GRANT),
    ]


def hosted(scope: Scope) -> list[str]:
    """The resources of endpoints."""
    return [scope.arn("sagemaker", f"{kind}/*") for kind in ("endpoint", "endpoint-config", "model")]


def deploying(scope: Scope) -> list[Statement]:
    group = scope.arn("logs", "log-group:/aws/sagemaker/Endpoints/*")
    made = ["Endpoint", "EndpointConfig", "Model"]
    actions = [f"sagemaker:{verb}{kind}" for kind in made for verb in ("Create", "Describe")]
    updates = ["sagemaker:UpdateEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"]
    return [
        *as_whom(scope),
        *sending(scope),
        allow([*actions, *updates, "sagemaker:AddTags"], *hosted(scope)),
        allow(["logs:DescribeLogStreams", "logs:GetLogEvents"], group),
        allow(["cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"], scope.arn("cloudwatch", "alarm:sightline-*")),
        *scaling(),
        *key_use(scope, [*KEY_GRANT, "kms:Decrypt"]),
    ]


def scaling() -> list[Statement]:
    actions = ["RegisterScalableTarget", "PutScalingPolicy", "DescribeScalableTargets", "DeregisterScalableTarget"]
    service = {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}
    return [
        allow([f"application-autoscaling:{action}" for action in actions], "*"),
        allow(["cloudwatch:PutMetricAlarm"], "arn:*:cloudwatch:*:*:alarm:TargetTracking-*"),
        allow(["iam:CreateServiceLinkedRole"], "*", StringLike=service),
    ]


def asking(scope: Scope) -> list[Statement]:
    describing = ["sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig", "sagemaker:DescribeModel"]
    return [
        allow(["sts:GetCallerIdentity"], "*"),
        allow(["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointAsync"], scope.arn("sagemaker", "endpoint/*")),
        allow([*describing, "sagemaker:ListTags"], *hosted(scope)),
        allow(["s3:GetObject", "s3:PutObject"], f"{scope.bucket_arn()}/sightline/*"),
    ]


def deleting(scope: Scope) -> list[Statement]:
    kinds = ("Endpoint", "EndpointConfig", "Model")
    actions = [f"sagemaker:{verb}{kind}" for kind in kinds for verb in ("Delete", "Describe")]
    scaled = ["DescribeScalableTargets", "DeregisterScalableTarget"]
    return [
        allow(["sts:GetCallerIdentity", "sagemaker:ListModels", "sagemaker:ListEndpointConfigs"], "*"),
        allow([*actions, "sagemaker:ListTags"], *hosted(scope)),
        allow([f"application-autoscaling:{action}" for action in scaled], "*"),
        allow(["cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms"], scope.arn("cloudwatch", "alarm:sightline-*")),
        allow(["s3:ListBucket"], scope.bucket_arn()),
        allow(["s3:DeleteObject"], f"{scope.bucket_arn()}/sightline/endpoints/*"),
    ]


def pushing(scope: Scope) -> list[Statement]:
    """To make the repositories of our images and fill them."""
    making = ["DescribeRepositories", "CreateRepository", "TagResource", "DescribeImages"]
    sending_layers = ["BatchCheckLayerAvailability", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"]
    reading = ["BatchGetImage", "GetDownloadUrlForLayer", "PutImage"]
    actions = [f"ecr:{action}" for action in (*making, *sending_layers, *reading)]
    return [
        allow(["sts:GetCallerIdentity", "ecr:GetAuthorizationToken"], "*"),
        allow(actions, scope.arn("ecr", "repository/sightline-*")),
    ]


def working(scope: Scope) -> list[Statement]:
    """What the role of jobs and endpoints itself needs."""
    groups = scope.arn("logs", "log-group:/aws/sagemaker/*")
    pulling = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
    return [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], scope.bucket_arn()),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{scope.bucket_arn()}/sightline/*"),
        allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"], groups),
        allow(["cloudwatch:PutMetricData"], "*", StringLike={"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}),
        allow(["cloudwatch:DescribeAlarms"], scope.arn("cloudwatch", "alarm:sightline-*")),
        allow(["ecr:GetAuthorizationToken"], "*"),
        allow(pulling, scope.arn("ecr", "repository/sightline-*")),
        *(network_use() if scope.vpc else []),
        *key_use(scope, KEY_USE),
    ]


POLICIES = {
    "train": training,
    "tune": searching,
    "transform": transforming,
    "look": looking,
    "deploy": deploying,
    "invoke": asking,
    "delete": deleting,
    "push": pushing,
    "role": working,
}
"""`look` is for status, logs and fetch; `role` for the role that jobs and endpoints run as."""

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"}],
}
"""Who may assume the role."""


def policy(action: str, scope: Scope) -> dict[str, Any]:
    """The IAM policy of an action.

    Raises:
        SightlineError: there is no such action.
    """
    if action not in POLICIES:
        raise SightlineError("ACTION", f"is {action!r}", nearest(action, list(POLICIES)))
    return {"Version": "2012-10-17", "Statement": POLICIES[action](scope)}


def actions_of(document: dict[str, Any]) -> set[str]:
    """All that a policy allows."""
    return {action for statement in document["Statement"] for action in statement["Action"]}
