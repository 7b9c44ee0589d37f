"""Model, endpoint and what surrounds it, as CloudFormation's properties: plain data without the CDK.

CloudFormation and SageMaker's API call everything the same here, so a stack and a state machine can be made of the same dicts.
`role` and names may be intrinsic functions, `{"Fn::GetAtt": [...]}`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline_infra import __version__
from sightline_infra.settings import BUCKET_OF_STORAGE, ECR_IMAGE, FRONTS, Settings

Data = dict[str, Any]

VARIANT = "AllTraffic"
STARTUP_S = 600
"""Until the container has to answer: weights and torch's libraries take a slow machine more than the default."""

POLICY_VERSION = "2012-10-17"
SAGEMAKER = "sagemaker.amazonaws.com"
FRONT_S, FRONT_MB, FRONT_RATE, FRONT_BURST = 30, 256, 50, 100
"""Of the HTTP API: its limit for an answer, its function's memory, requests a second and at once that it lets through."""

NETWORK = (
    "CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface", "DeleteNetworkInterfacePermission",
    "DescribeDhcpOptions", "DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs",
)  # fmt: skip


def sub(text: str) -> Data:
    return {"Fn::Sub": text}


def get(name: str, attribute: str) -> Data:
    return {"Fn::GetAtt": [name, attribute]}


def arn(service: str, rest: str) -> Data:
    """Of something of the stack's own account and region."""
    return sub(f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}")


def s3_arn(address: str) -> Data:
    return sub(f"arn:${{AWS::Partition}}:s3:::{address.removeprefix('s3://')}")


def tags(given: Settings, kind: str, of: str = "") -> list[Data]:
    """Those of `sightline cloud`, then those of the settings."""
    ours = {"sightline:made-by": f"sightline {__version__}", "sightline:kind": kind, **({"sightline:of": of} if of else {})}
    return [{"Key": key, "Value": value} for key, value in {**ours, **given.tags}.items()]


def as_map(listed: list[Data]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed}


def image_of(image: str, repository: str) -> object:
    """The image as it is, else the one that `sightline cloud image push` leaves in the account."""
    return image or sub(f"${{AWS::AccountId}}.dkr.ecr.${{AWS::Region}}.${{AWS::URLSuffix}}/{repository}:{__version__}")


def repository_arn(image: str, repository: str) -> Data:
    found = ECR_IMAGE.fullmatch(image)
    if found is None:
        return arn("ecr", f"repository/{repository}")
    return sub(f"arn:${{AWS::Partition}}:ecr:{found[2]}:{found[1]}:repository/{found[3]}")


def bucket_of(given: Settings) -> str:
    """For captured data and answers. A pipeline without a bundle takes the storage stack's."""
    named = given.bucket.removeprefix("s3://").rstrip("/")
    return named or (given.bundle.split("/")[2] if given.bundle else BUCKET_OF_STORAGE)


def base_of(given: Settings) -> str:
    return f"s3://{bucket_of(given)}/sightline/endpoints/{given.name}/"


def text(value: str) -> object:
    """The text, for CloudFormation to fill in where it names the account or the region."""
    return sub(value) if "${" in value else value


def model(given: Settings, archive: object, role: object, facts_at: str = "") -> Data:
    own = tags(given, "model", given.name)
    if facts_at:
        own.insert(3, {"Key": "sightline:facts", "Value": facts_at})
    container = {"Image": image_of(given.image, "sightline-serve"), "ModelDataUrl": archive, "Environment": {}}
    return {"PrimaryContainer": container, "ExecutionRoleArn": role, **vpc(given), "Tags": own}


def vpc(given: Settings) -> Data:
    if not given.subnets:
        return {}
    return {"VpcConfig": {"SecurityGroupIds": list(given.security_groups), "Subnets": list(given.subnets)}}


def variant(given: Settings, model_name: object) -> Data:
    shared: Data = {"VariantName": VARIANT, "ModelName": model_name, "InitialVariantWeight": 1.0}
    if given.serverless:
        return {**shared, "ServerlessConfig": {"MemorySizeInMB": given.serverless, "MaxConcurrency": given.concurrency}}
    return {
        **shared,
        "InstanceType": given.instance_type,
        "InitialInstanceCount": given.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
        **({"InferenceAmiVersion": given.ami} if given.ami else {}),
    }


def endpoint_config(given: Settings, model_name: object) -> Data:
    made: Data = {
        "ProductionVariants": [variant(given, model_name)],
        "Tags": tags(given, "endpoint-config", given.name),
    }
    base = base_of(given)
    if given.async_:
        made["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            "OutputConfig": {"S3OutputPath": text(f"{base}outputs/"), "S3FailurePath": text(f"{base}failures/")},
        }
    if given.capture:
        made["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": given.capture,
            "DestinationS3Uri": text(f"{base}captured/"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    if given.kms_key:
        made["KmsKeyId"] = given.kms_key
    return made


def updating(given: Settings, alarms: Sequence[object]) -> Data:
    """New machines beside the old ones, which stay when an alarm rings within five minutes; as many as scaling has found.

    Of an endpoint that may have none, as many as at first: the new ones have to show that they come up.
    """
    deployment = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300},
            "TerminationWaitInSeconds": 0,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm} for alarm in alarms]},
    }
    kept = {
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
    }
    return {"DeploymentConfig": deployment, **(kept if given.scale is not None and given.scale[0] > 0 else {})}


def alarms(given: Settings) -> dict[str, Data]:
    """Answers of 5xx, and slow ones."""
    shared = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": given.name}, {"Name": "VariantName", "Value": VARIANT}],
        "Period": 60,
        "TreatMissingData": "notBreaching",
        "Tags": tags(given, "alarm", given.name),
    }
    errors = {
        **shared,
        "AlarmName": f"sightline-{given.name}-errors",
        "AlarmDescription": f"Errors of the endpoint {given.name}, for the rollback of updates",
        "MetricName": "Invocation5XXErrors",
        "Statistic": "Sum",
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }
    latency = {
        **shared,
        "AlarmName": f"sightline-{given.name}-latency",
        "AlarmDescription": f"Slow answers of the endpoint {given.name}, for the rollback of updates",
        "MetricName": "ModelLatency",
        "ExtendedStatistic": "p95",
        "EvaluationPeriods": 2,
        "Threshold": given.max_latency * 1e6,  # microseconds
        "ComparisonOperator": "GreaterThanThreshold",
    }
    return {"ErrorsAlarm": errors, "LatencyAlarm": latency}


def scaling_target(given: Settings) -> Data:
    least, most = given.scale or (given.instance_count, given.instance_count)
    return {**scaled(given), "MinCapacity": least, "MaxCapacity": most}


def scaling_policy(given: Settings) -> Data:
    """By requests a minute; of an asynchronous endpoint by how many wait for each machine."""
    backlog = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": given.name}],
        "Statistic": "Average",
    }
    by_requests = {"PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}}
    return {
        **scaled(given),
        "PolicyName": f"{given.name}-{VARIANT}-requests",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": given.per_minute,
            **({"CustomizedMetricSpecification": backlog} if given.async_ else by_requests),
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 60,
        },
    }


def wakes(given: Settings) -> bool:
    """Whether there may be no machine at all, so that something has to bring one back."""
    return given.scale is not None and given.scale[0] == 0


def waking_policy(given: Settings) -> Data:
    return {
        **scaled(given),
        "PolicyName": f"{given.name}-{VARIANT}-waking",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }


def waking_alarm(given: Settings) -> Data:
    """Requests wait, and there is no machine. Its action, the policy, is not in it."""
    return {
        "AlarmName": f"sightline-{given.name}-waking",
        "AlarmDescription": f"Requests wait at the endpoint {given.name}, which has no machine",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": given.name}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "Tags": tags(given, "alarm", given.name),
    }


def scaled(given: Settings) -> Data:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{given.name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def allow(actions: Sequence[str], *resources: object, **conditions: Any) -> Data:
    only = {"Condition": conditions} if conditions else {}
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": list(resources), **only}


def role(given: Settings, service: str, description: str, statements: Sequence[Data], name: str) -> Data:
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {
        "Description": description,
        "AssumeRolePolicyDocument": {"Version": POLICY_VERSION, "Statement": [trust]},
        "Policies": [{"PolicyName": name, "PolicyDocument": {"Version": POLICY_VERSION, "Statement": list(statements)}}],
        "Tags": tags(given, "role", given.name),
    }


def endpoint_role(given: Settings, archive: str) -> Data:
    """What one endpoint needs. archive: of its bundle, or a pattern for all that a pipeline will make."""
    statements = endpoint_statements(given, archive)
    return role(given, SAGEMAKER, f"What the endpoint {given.name} may do", statements, "endpoint")


def endpoint_statements(given: Settings, archive: str) -> list[Data]:
    base = base_of(given)
    written = [f"{base}captured/"] if given.capture else []
    written += [f"{base}outputs/", f"{base}failures/"] if given.async_ else []
    buckets = {archive.split("/")[2]} | ({bucket_of(given)} if written else set())
    read = [archive, *([f"{base}inputs/*"] if given.async_ else [])]
    return [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], *(s3_arn(f"s3://{bucket}") for bucket in sorted(buckets))),
        allow(["s3:GetObject"], *map(s3_arn, sorted(read))),
        *([allow(["s3:PutObject", "s3:AbortMultipartUpload"], *(s3_arn(f"{one}*") for one in written))] if written else []),
        *logging(f"/aws/sagemaker/Endpoints/{given.name}"),
        allow(["cloudwatch:DescribeAlarms"], arn("cloudwatch", f"alarm:sightline-{given.name}*")),
        *pulling(given.image, "sightline-serve"),
        *networking(given),
        *key_statements(given.kms_key),
    ]


def logging(group: str) -> list[Data]:
    """Its own log group, and SageMaker's own metrics."""
    named = {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    return [
        allow(actions, arn("logs", f"log-group:{group}"), arn("logs", f"log-group:{group}:*")),
        allow(["cloudwatch:PutMetricData"], "*", StringLike=named),
    ]


def pulling(image: str, repository: str) -> list[Data]:
    actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
    return [allow(["ecr:GetAuthorizationToken"], "*"), allow(actions, repository_arn(image, repository))]


def networking(given: Settings) -> list[Data]:
    return [allow([f"ec2:{action}" for action in NETWORK], "*")] if given.subnets else []


def key_statements(key: str) -> list[Data]:
    """The use of a KMS key, which may be given by its ARN, its id or an alias."""
    if not key:
        return []
    actions = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    name = key.rpartition(":")[2]
    if name.startswith("alias/"):
        return [allow(actions, arn("kms", "key/*"), **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}})]
    return [allow(actions, key if key.startswith("arn:") else arn("kms", f"key/{key}"))]


def front(given: Settings) -> dict[str, tuple[str, Data]]:
    """An HTTP API and the function that hands its requests to the endpoint: {logical name: (type, properties)}."""
    name = given.name
    group, own = f"/aws/lambda/sightline-{name}", as_map(tags(given, "http-api", name))
    api, function = {"Ref": "Api"}, get("Front", "Arn")
    asking = [
        allow(["sagemaker:InvokeEndpoint"], *(arn("sagemaker", f"endpoint/{one}") for one in sorted({name, name.lower()})))
    ]
    asking += [allow(["logs:CreateLogStream", "logs:PutLogEvents"], arn("logs", f"log-group:{group}:*"))]
    throttling = {"ThrottlingRateLimit": FRONT_RATE, "ThrottlingBurstLimit": FRONT_BURST}
    integration = {"ApiId": api, "IntegrationType": "AWS_PROXY", "IntegrationUri": function}
    route = {"ApiId": api, "RouteKey": "POST /invocations", "AuthorizationType": FRONTS[given.http]}
    callers = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*/POST/invocations"
    permission = {"Action": "lambda:InvokeFunction", "FunctionName": function, "Principal": "apigateway.amazonaws.com"}
    return {
        "FrontLog": ("AWS::Logs::LogGroup", {
            "LogGroupName": group, "RetentionInDays": 30, "Tags": tags(given, "log-group", name),
        }),
        "FrontRole": ("AWS::IAM::Role", role(
            given, "lambda.amazonaws.com", f"What the function before the endpoint {name} may do", asking, "front",
        )),
        "Front": ("AWS::Lambda::Function", front_function(given)),
        "Api": ("AWS::ApiGatewayV2::Api", {"Name": f"sightline-{name}", "ProtocolType": "HTTP", "Tags": own}),
        "Integration": ("AWS::ApiGatewayV2::Integration", {
            **integration, "PayloadFormatVersion": "2.0", "TimeoutInMillis": FRONT_S * 1000,
        }),
        "Route": ("AWS::ApiGatewayV2::Route", {**route, "Target": sub("integrations/${Integration}")}),
        "Stage": ("AWS::ApiGatewayV2::Stage", {
            "ApiId": api, "StageName": "$default", "AutoDeploy": True, "DefaultRouteSettings": throttling, "Tags": own,
        }),
        "FrontPermission": ("AWS::Lambda::Permission", {**permission, "SourceArn": sub(callers)}),
    }  # fmt: skip


def front_function(given: Settings) -> Data:
    return {
        "FunctionName": f"sightline-{given.name}",
        "Description": f"Hands requests of the HTTP API to the endpoint {given.name}",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Code": {"ZipFile": Path(__file__).with_name("front.py").read_text(encoding="utf-8")},
        "Role": get("FrontRole", "Arn"),
        "Timeout": FRONT_S,
        "MemorySize": FRONT_MB,
        "Environment": {"Variables": {"ENDPOINT": given.name}},
        "Tags": tags(given, "function", given.name),
    }


URL = "https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/invocations"


def environment(values: Mapping[str, str]) -> Data:
    return {"Environment": dict(values)} if values else {}
