"""An endpoint as one CloudFormation template: what `sightline cloud deploy` makes, with its role, alarms and rollback inside.

Plain data made by functions without a connection. The requests of `hosting` are CloudFormation's properties, field by field;
where they need what the stack itself makes (`Ref`, `Fn::GetAtt`, `Fn::Sub`), an intrinsic function stands in place of the text.
The CDK app in `infra/` makes the same resources (tests/infra compares them).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import sightline
from sightline.cloud import deploys, hosting, policies
from sightline.cloud.account import ECR_IMAGE
from sightline.cloud.endpoints import FACTS
from sightline.cloud.jobs import PREFIX
from sightline.cloud.naming import plain_name, tags
from sightline.cloud.requests import Surroundings
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import MissingDependencyError, Problem, SightlineError
from sightline.s3.address import bucket_fault

Data = dict[str, Any]

OPEN, IAM = "open", "iam"
FRONTS = {OPEN: "NONE", IAM: "AWS_IAM"}
"""Who may ask the HTTP API: everybody, or whoever signs with rights to it."""

FRONT_S, FRONT_MB, FRONT_RATE, FRONT_BURST = 30, 256, 50, 100
"""Of the HTTP API: its limit for an answer, its function's memory, requests a second and at once that it lets through."""

FRONT_CODE = Path(__file__).with_name("front.py")
"""The function between the HTTP API and the endpoint."""

SAMPLE_ARCHIVE = "s3://some-bucket/model.tar.gz"
SAMPLE_ROLE = "arn:aws:iam::123456789012:role/sightline"
"""Stand for the stack's own role, and for an impossible address, where the requests are checked."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What somebody wants as a template. asked: as for a deploy, with every archive on S3.

    http: an HTTP API in front: `iam`, `open`, or none
    """

    asked: deploys.Asked
    http: str = ""

    @property
    def bucket(self) -> str:
        """For data capture and asynchronous answers: the one named, else the bundle's."""
        return self.asked.bucket.removeprefix("s3://").rstrip("/") or self.asked.archive.removeprefix("s3://").partition("/")[0]

    @property
    def base(self) -> str:
        return f"s3://{self.bucket}/{PREFIX}endpoints/{self.asked.name}/"

    @property
    def archives(self) -> dict[str, str]:
        """{variant: s3:// address of its model.tar.gz}, MODEL's first."""
        return {hosting.VARIANT: self.asked.archive, **{one.name: one.archive for one in self.asked.beside}}


def check(stack: Stack) -> list[str]:
    """Warnings about the requests that CloudFormation will send for this template.

    Raises:
        SightlineError: everything that the platform would refuse, and options that contradict each other, at once.
    """
    problems = list(contradictions(stack))
    try:
        warnings = require_valid(calls(sound(stack)))
    except MissingDependencyError:
        if not problems:  # else what is known without botocore is told alone
            raise
        warnings = []
    except SightlineError as error:
        problems += error.problems
        warnings = []
    if problems:
        raise SightlineError.collected(list({problem.where: problem for problem in reversed(problems)}.values())[::-1])
    return warnings


def sound(stack: Stack) -> Stack:
    """The stack with something possible in place of what `contradictions` tells of, for the requests not to tell it again."""
    asked = stack.asked
    if asked.instance_type and asked.serverless_mb:
        asked = replace(asked, serverless_mb=0)
    elif not asked.instance_type and not asked.serverless_mb:
        asked = replace(asked, instance_type="ml.m5.large", ami="", kms_key="")
    if address_fault(asked.archive):
        asked = replace(asked, archive=SAMPLE_ARCHIVE)
    beside = tuple(replace(one, archive=SAMPLE_ARCHIVE) if address_fault(one.archive) else one for one in asked.beside)
    return replace(stack, asked=replace(asked, beside=beside))


def address_fault(archive: str) -> str:
    """What is wrong with a bundle's address; empty where nothing is."""
    if not archive.startswith("s3://") or not archive.endswith(".tar.gz") or archive.count("/") < 3:
        return f"is {archive!r}"
    fault = bucket_fault(archive.split("/")[2])
    return f"is {archive!r}, and {fault}" if fault else ""


def calls(stack: Stack) -> list[Call]:
    """What CloudFormation will ask of the platform, with names and a role as they might be."""
    asked = stack.asked
    image = asked.image or f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{deploys.REPOSITORY}"
    names = {variant: plain_name(f"{asked.name}-{variant}") for variant in stack.archives}
    models = [{**model, "ModelName": names[variant]} for variant, model in model_properties(stack, SAMPLE_ROLE, image).items()]
    config = deploys.config_request(asked, names, stack.base, surroundings_of(stack, SAMPLE_ROLE))
    return [
        *(Call("sagemaker", "CreateModel", model) for model in models),
        Call("sagemaker", "CreateEndpointConfig", {**config, "EndpointConfigName": "any"}),
        Call("sagemaker", "CreateEndpoint", {"EndpointConfigName": "any", **endpoint_properties(stack)}),
        *(Call("cloudwatch", "PutMetricAlarm", alarm) for alarm in alarm_properties(stack).values()),
        *([] if asked.serverless_mb else deploys.scaling_calls(asked)),
    ]


def contradictions(stack: Stack) -> Iterator[Problem]:
    """Options that exclude each other; what a single request shows is among `rules`."""
    asked = stack.asked
    if bool(asked.instance_type) == bool(asked.serverless_mb):
        what = f"is given with {asked.instance_type}" if asked.instance_type else "is not given, and no machines either"
        yield Problem("--serverless", what, "Give --instance-type or --serverless, one of both; serverless has no GPU.")
    yield from deploys.contradictions(asked)
    for variant, archive in stack.archives.items():
        if what := address_fault(archive):
            where = "MODEL" if variant == hosting.VARIANT else f"--variant {variant}"
            yield Problem(where, what, "Give the s3://BUCKET/.../model.tar.gz of a bundle.")
    if asked.bucket and (fault := bucket_fault(stack.bucket)):
        yield Problem("--bucket", f"is {asked.bucket!r}, and {fault}", "Give the name of a bucket.")
    names = {logical("Model", variant) for variant in stack.archives}
    if len(names) < 1 + len(asked.beside):
        told = ", ".join(one.name for one in asked.beside)
        yield Problem("--variant", f"{told} cannot be told apart in a template", "Give names whose letters and digits differ.")
    if stack.http and stack.http not in FRONTS:
        yield Problem("--http", f"is {stack.http!r}", f"Give {' or '.join(FRONTS)}.")
    if stack.http and asked.later:
        yield Problem("--http", "answers at once, and an asynchronous endpoint later, on S3", "Leave out one of the two.")
    if asked.image and ECR_IMAGE.fullmatch(asked.image) is None:
        yield Problem("--image", f"{asked.image!r} is no image in ECR", "Push it there first: sightline cloud image push.")


def template(stack: Stack) -> Data:
    """The CloudFormation template, ready for `aws cloudformation deploy`. `check` has seen to what goes into it."""
    asked = stack.asked
    role = get("Role", "Arn")
    models = model_properties(stack, role, image_of(asked.image))
    names = {variant: get(logical("Model", variant), "ModelName") for variant in models}
    config = deploys.config_request(asked, cast(Mapping[str, str], names), stack.base, surroundings_of(stack, role))
    del config["EndpointConfigName"]  # CloudFormation's own: another configuration is another resource
    alarms = alarm_properties(stack)
    resources: Data = {
        "Role": resource("AWS::IAM::Role", role_properties(stack)),
        **{logical("Model", variant): resource("AWS::SageMaker::Model", model) for variant, model in models.items()},
        "Config": resource("AWS::SageMaker::EndpointConfig", config),
        **{name: resource("AWS::CloudWatch::Alarm", alarm) for name, alarm in alarms.items()},
        "Endpoint": resource(
            "AWS::SageMaker::Endpoint",
            {
                **endpoint_properties(stack),
                "EndpointConfigName": get("Config", "EndpointConfigName"),
                **updating(list(alarms), asked.scale is not None and asked.scale[0] > 0),
            },
        ),
        **scaling_resources(asked),
        **(front_resources(stack) if stack.http else {}),
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The endpoint {asked.name}, by sightline {sightline.__version__}",
        "Resources": resources,
        "Outputs": outputs(stack),
    }


def model_properties(stack: Stack, role: object, image: object) -> dict[str, Data]:
    """{variant: CreateModel without a name}."""
    found = {}
    for variant, archive in stack.archives.items():
        facts_at = f"{archive.rpartition('/')[0]}/{FACTS}"
        surroundings = surroundings_of(stack, role)
        request = hosting.model_request(
            "", cast(str, image), archive, stack.asked.environment, surroundings, stack.asked.name, facts_at
        )
        del request["ModelName"]
        found[variant] = request
    return found


def surroundings_of(stack: Stack, role: object) -> Surroundings:
    asked = stack.asked
    return Surroundings(cast(str, role), asked.subnets, asked.security_groups, asked.kms_key, asked.own_tags)


def endpoint_properties(stack: Stack) -> Data:
    request = hosting.endpoint_request(stack.asked.name, "", surroundings_of(stack, ""))
    del request["EndpointConfigName"]
    return request


def updating(alarms: Sequence[str], scales: bool) -> Data:
    """As UpdateEndpoint has it: new machines beside the old ones, which stay when one of the alarms rings.

    scales: as many machines as autoscaling has found, of which there is always one
    """
    request = hosting.update_request("", "", alarms, keep_counts=scales)
    rollback = {"Alarms": [{"AlarmName": {"Ref": alarm}} for alarm in alarms]}
    deployment = {**request.pop("DeploymentConfig"), "AutoRollbackConfiguration": rollback}
    del request["EndpointName"], request["EndpointConfigName"]
    return {"DeploymentConfig": deployment, **request}


def alarm_properties(stack: Stack) -> dict[str, Data]:
    """{logical name: PutMetricAlarm}: answers of 5xx, and slow ones, of every variant."""
    surroundings, found = surroundings_of(stack, ""), dict[str, Data]()
    for variant in stack.archives:
        errors, latency = deploys.alarm_requests(stack.asked, surroundings, variant)
        found |= {logical("ErrorsAlarm", variant): errors, logical("LatencyAlarm", variant): latency}
    return found


def scaling_resources(asked: deploys.Asked) -> Data:
    """A target and a policy for every variant, and what wakes an endpoint without machines, as a deploy sends them."""
    found: Data = {}
    for call in deploys.scaling_calls(asked):
        request = dict(call.request)
        if call.operation == "PutMetricAlarm":
            found["WakingAlarm"] = resource("AWS::CloudWatch::Alarm", {**request, "AlarmActions": [{"Ref": "WakingPolicy"}]})
            continue
        variant = str(request["ResourceId"]).rpartition("/")[2]
        if call.operation == "RegisterScalableTarget":
            kind, name, after = "ScalableTarget", logical("Scaling", variant), "Endpoint"
        else:
            own = "WakingPolicy" if request["PolicyType"] == "StepScaling" else "ScalingPolicy"
            kind, name, after = "ScalingPolicy", logical(own, variant), logical("Scaling", variant)
        found[name] = {**resource(f"AWS::ApplicationAutoScaling::{kind}", request), "DependsOn": after}
    return found


def role_properties(stack: Stack) -> Data:
    """The endpoint's role: SageMaker may assume it, and it may do what this one endpoint needs."""
    document = {"Version": policies.TRUST["Version"], "Statement": role_statements(stack)}
    return {
        "Description": f"What the endpoint {stack.asked.name} may do",
        "AssumeRolePolicyDocument": policies.TRUST,
        "Policies": [{"PolicyName": "endpoint", "PolicyDocument": document}],
        "Tags": tags("role", stack.asked.own_tags, stack.asked.name),
    }


def role_statements(stack: Stack) -> list[Data]:
    """Narrower than `policies.working`, which is for all jobs and endpoints: these archives, this image, these folders."""
    asked = stack.asked
    group = f"log-group:/aws/sagemaker/Endpoints/{asked.name}"
    written = [f"{stack.base}captured/"] if asked.capture else []
    written += [f"{stack.base}outputs/", f"{stack.base}failures/"] if asked.later else []
    logging = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    named = {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}
    pulling = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
    buckets = {archive.split("/")[2] for archive in stack.archives.values()} | ({stack.bucket} if written else set())
    read = [*stack.archives.values(), *([f"{stack.base}inputs/*"] if asked.later else [])]
    return [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], *(s3_arn(f"s3://{bucket}") for bucket in sorted(buckets))),
        allow(["s3:GetObject"], *map(s3_arn, sorted(set(read)))),
        *([allow(["s3:PutObject", "s3:AbortMultipartUpload"], *(s3_arn(f"{one}*") for one in written))] if written else []),
        allow(logging, arn("logs", group), arn("logs", f"{group}:*")),
        allow(["cloudwatch:PutMetricData"], "*", StringLike=named),
        allow(["cloudwatch:DescribeAlarms"], arn("cloudwatch", f"alarm:sightline-{asked.name}*")),
        allow(["ecr:GetAuthorizationToken"], "*"),
        allow(pulling, repository_arn(asked.image)),
        *(policies.network_use() if asked.subnets else []),
        *(policies.key_statements(asked.kms_key, policies.KEY_USE, arn) if asked.kms_key else []),
    ]


def front_resources(stack: Stack) -> Data:
    """An HTTP API, and the function that hands its requests to the endpoint."""
    name, own = stack.asked.name, stack.asked.own_tags
    plain = {tag["Key"]: tag["Value"] for tag in tags("http-api", own, name)}
    group = f"/aws/lambda/sightline-{name}"
    function = get("Front", "Arn")
    route = {"ApiId": {"Ref": "Api"}, "RouteKey": "POST /invocations", "AuthorizationType": FRONTS[stack.http]}
    throttling = {"ThrottlingRateLimit": FRONT_RATE, "ThrottlingBurstLimit": FRONT_BURST}
    asking = sub("arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*/POST/invocations")
    integration = {
        "ApiId": {"Ref": "Api"}, "IntegrationType": "AWS_PROXY", "IntegrationUri": function,
        "PayloadFormatVersion": "2.0", "TimeoutInMillis": FRONT_S * 1000,
    }  # fmt: skip
    permission = {
        "Action": "lambda:InvokeFunction", "FunctionName": function,
        "Principal": "apigateway.amazonaws.com", "SourceArn": asking,
    }  # fmt: skip
    stage = {
        "ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True,
        "DefaultRouteSettings": throttling, "Tags": plain,
    }  # fmt: skip
    retention = {"LogGroupName": group, "RetentionInDays": 30, "Tags": tags("log-group", own, name)}
    return {
        "FrontLog": {
            **resource("AWS::Logs::LogGroup", retention), "DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"
        },
        "FrontRole": resource("AWS::IAM::Role", front_role(stack, group)),
        "Front": {**resource("AWS::Lambda::Function", front_function(stack)), "DependsOn": "FrontLog"},
        "Api": resource("AWS::ApiGatewayV2::Api", {"Name": f"sightline-{name}", "ProtocolType": "HTTP", "Tags": plain}),
        "Integration": resource("AWS::ApiGatewayV2::Integration", integration),
        "Route": resource(
            "AWS::ApiGatewayV2::Route", {**route, "Target": sub("integrations/${Integration}")}
        ),
        "Stage": resource("AWS::ApiGatewayV2::Stage", stage),
        "FrontPermission": resource("AWS::Lambda::Permission", permission),
    }  # fmt: skip


def front_function(stack: Stack) -> Data:
    return {
        "FunctionName": f"sightline-{stack.asked.name}",
        "Description": f"Hands requests of the HTTP API to the endpoint {stack.asked.name}",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Code": {"ZipFile": FRONT_CODE.read_text(encoding="utf-8")},
        "Role": get("FrontRole", "Arn"),
        "Timeout": FRONT_S,
        "MemorySize": FRONT_MB,
        "Environment": {"Variables": {"ENDPOINT": stack.asked.name}},
        "Tags": tags("function", stack.asked.own_tags, stack.asked.name),
    }


def front_role(stack: Stack, group: str) -> Data:
    name = stack.asked.name
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    statements = [
        allow(["sagemaker:InvokeEndpoint"], *(arn("sagemaker", f"endpoint/{one}") for one in sorted({name, name.lower()}))),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], arn("logs", f"log-group:{group}:*")),
    ]
    document = {"Version": policies.TRUST["Version"], "Statement": statements}
    return {
        "Description": f"What the function before the endpoint {name} may do",
        "AssumeRolePolicyDocument": {"Version": policies.TRUST["Version"], "Statement": [trust]},
        "Policies": [{"PolicyName": "front", "PolicyDocument": document}],
        "Tags": tags("role", stack.asked.own_tags, name),
    }


def outputs(stack: Stack) -> Data:
    """What a person needs of the finished stack."""
    asked = stack.asked
    url = sub("https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/invocations")
    return {
        "EndpointName": output("For sagemaker://NAME and InvokeEndpoint", get("Endpoint", "EndpointName")),
        "RoleArn": output("What the endpoint runs as", get("Role", "Arn")),
        **({"Captured": output("Requests and answers", f"{stack.base}captured/")} if asked.capture else {}),
        **({"Answers": output("Of the asynchronous endpoint", f"{stack.base}outputs/")} if asked.later else {}),
        **({"Url": output("Pictures go there by POST", url)} if stack.http else {}),
    }


def output(description: str, value: object) -> Data:
    return {"Description": description, "Value": value}


def resource(kind: str, properties: Mapping[str, Any]) -> Data:
    return {"Type": kind, "Properties": dict(properties)}


def logical(kind: str, variant: str) -> str:
    """`Model`, `ModelNew2`: CloudFormation takes letters and digits. Of the usual variant it is the kind alone."""
    return kind if variant == hosting.VARIANT else f"{kind}{''.join(filter(str.isalnum, variant.title()))}"


def get(name: str, attribute: str) -> Data:
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str) -> Data:
    return {"Fn::Sub": text}


def arn(service: str, rest: str) -> Data:
    """The ARN of something of the stack's own account and region."""
    return sub(f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}")


def s3_arn(address: str) -> Data:
    return sub(f"arn:${{AWS::Partition}}:s3:::{address.removeprefix('s3://').replace('${', '${!')}")


def image_of(image: str) -> object:
    """The image as it is, else the one that `sightline cloud image push` leaves in the stack's own account."""
    host = "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}"
    return image or sub(f"{host}/{deploys.REPOSITORY}:{sightline.__version__}")


def repository_arn(image: str) -> Data:
    found = ECR_IMAGE.fullmatch(image)
    if found is None:
        return arn("ecr", f"repository/{deploys.REPOSITORY}")
    return sub(f"arn:${{AWS::Partition}}:ecr:{found[2]}:{found[1]}:repository/{found[3]}")


def allow(actions: Sequence[str], *resources: object, **conditions: Any) -> Data:
    return policies.allow(actions, *cast(Sequence[str], resources), **conditions)
