"""`sightline cloud template`: the same endpoint as `cloud deploy`, as CloudFormation takes it."""

import base64
import hashlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody

import sightline as package
from sightline.bundle.archive import write_archive
from sightline.cloud import deploys, front, hosting, shapes
from sightline.cloud.account import Account
from sightline.cloud.endpoints import FACTS
from sightline.cloud.template import Stack, check, template
from sightline.errors import MissingDependencyError, SightlineError

from .conftest import ROLE, Run

BUNDLE = "s3://some-bucket/parts/model.tar.gz"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline-serve:0.1.0"
ON_MACHINES = ("--instance-type", "ml.g4dn.xlarge")
NETWORK = ("--subnets", "subnet-0123456789abcdef0", "--security-groups", "sg-0123456789abcdef0")
VARIANTS: dict[str, tuple[str, ...]] = {
    "real_time": (*ON_MACHINES, "--scale", "1", "4", "--capture", "10", "--cuda", "12.4", "--http", "iam", "--tag", "team=a"),
    "serverless": ("--serverless", "4096", "--http", "open", "--max-latency", "20"),
    "asynchronous": (*ON_MACHINES, "--async", "--scale", "0", "2", *NETWORK, "--bucket", "another-bucket"),
    "encrypted": ("--instance-type", "ml.m5.large", "--kms-key", "alias/parts", "--image", IMAGE),
    "two": (*ON_MACHINES, "--variant", "new-2=s3://other-bucket/new.tar.gz@0.1@ml.m5.large", "--scale", "1", "2"),
}


def linted(template: dict[str, Any]) -> list[str]:
    """What cfn-lint has to say."""
    api, config = pytest.importorskip("cfnlint.api"), pytest.importorskip("cfnlint.config")
    return [str(one) for one in api.lint(json.dumps(template), config=config.ManualArgs(regions=["us-east-1"]))]


def asked(**more: Any) -> deploys.Asked:
    return deploys.Asked(**{"archive": BUNDLE, "name": "parts", "facts": {}, "instance_type": "ml.g4dn.xlarge", **more})


@pytest.fixture
def made(sightline: Run) -> Iterator[Any]:
    """The template of a command's words."""

    def call(*words: object) -> dict[str, Any]:
        code, out, err = sightline("template", BUNDLE, "--name", "parts", "--no-check", *words)
        assert code == 0, err
        found: dict[str, Any] = yaml.safe_load(out)
        return found

    yield call


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_passes_cfn_lint(variant: str, made: Any) -> None:
    assert linted(made(*VARIANTS[variant])) == []


def test_properties_are_what_a_deploy_sends(made: Any, account: Account) -> None:
    """What CloudFormation is given for model, configuration, endpoint and scaling, field by field."""
    words = {"instance_type": "ml.g4dn.xlarge", "capture": 10, "scale": (1, 4), "bucket": "", "ami": ""}
    account.client("s3").create_bucket(Bucket="some-bucket")
    plan = deploys.plan_deploy(account, asked(**{**words, "bucket": "some-bucket"}), {"SIGHTLINE_SERVE_IMAGE": IMAGE}, print)
    sent = {call.operation: dict(call.request) for call in (*plan.calls, *plan.scaling)}
    options = ("--capture", "10", "--scale", "1", "4", "--image", IMAGE)
    properties = {name: one["Properties"] for name, one in made(*ON_MACHINES, *options)["Resources"].items()}
    properties["Model"].update(ExecutionRoleArn=ROLE, ModelName=sent["CreateModel"]["ModelName"])
    facts = {"Key": "sightline:facts"}
    for tags in (properties["Model"]["Tags"], sent["CreateModel"]["Tags"]):
        tags[:] = [facts if tag["Key"] == facts["Key"] else tag for tag in tags]
    assert properties["Model"] == sent["CreateModel"]
    (variant,) = properties["Config"]["ProductionVariants"]
    variant["ModelName"] = sent["CreateModel"]["ModelName"]
    name = sent["CreateEndpointConfig"].pop("EndpointConfigName")
    assert properties["Config"] == sent["CreateEndpointConfig"]
    properties["Endpoint"]["EndpointConfigName"] = name
    for name in ("DeploymentConfig", "RetainAllVariantProperties", "ExcludeRetainedVariantProperties"):  # of updates
        del properties["Endpoint"][name]
    assert properties["Endpoint"] == sent["CreateEndpoint"]
    assert properties["Scaling"] == sent["RegisterScalableTarget"]
    assert properties["ScalingPolicy"] == sent["PutScalingPolicy"]


def test_an_update_is_undone_as_that_of_a_deploy_and_by_slow_answers_too() -> None:
    resources = template(Stack(asked(max_latency_s=3.5)))["Resources"]
    update = hosting.update_request("parts", "any", ["sightline-parts-errors"])["DeploymentConfig"]
    found = resources["Endpoint"]["Properties"]["DeploymentConfig"]
    assert found["BlueGreenUpdatePolicy"] == update["BlueGreenUpdatePolicy"]
    heeded = [resources[one["AlarmName"]["Ref"]]["Properties"] for one in found["AutoRollbackConfiguration"]["Alarms"]]
    assert [one["AlarmName"] for one in heeded] == ["sightline-parts-errors", "sightline-parts-latency"]
    assert (heeded[1]["MetricName"], heeded[1]["Threshold"], heeded[1]["ExtendedStatistic"]) == ("ModelLatency", 3.5e6, "p95")


def test_the_role_reads_its_bundle_and_writes_what_it_has_to() -> None:
    def rights(**more: Any) -> dict[str, list[str]]:
        policy = template(Stack(asked(**more)))["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]
        found: dict[str, list[str]] = {}
        for one in policy["Statement"]:
            for action in one["Action"]:
                found.setdefault(action, []).extend(
                    resource["Fn::Sub"] if isinstance(resource, dict) else resource for resource in one["Resource"]
                )
        return found

    plain = rights()
    assert plain["s3:GetObject"] == ["arn:${AWS::Partition}:s3:::some-bucket/parts/model.tar.gz"]
    assert "s3:PutObject" not in plain and "ec2:CreateNetworkInterface" not in plain and "kms:Decrypt" not in plain
    assert plain["ecr:BatchGetImage"] == [
        "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/sightline-serve"
    ]
    assert [action for action, where in plain.items() if where == ["*"]] == [
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
    ]
    kept = rights(capture=10, bucket="other")
    assert kept["s3:PutObject"] == ["arn:${AWS::Partition}:s3:::other/sightline/endpoints/parts/captured/*"]
    later = rights(later=True)
    assert len(later["s3:PutObject"]) == 2 and any(one.endswith("/inputs/*") for one in later["s3:GetObject"])
    other = rights(image="999999999999.dkr.ecr.eu-west-1.amazonaws.com/mine:1", kms_key="alias/a", subnets=("subnet-1",))
    assert other["ecr:BatchGetImage"] == ["arn:${AWS::Partition}:ecr:eu-west-1:999999999999:repository/mine"]
    assert other["ec2:CreateNetworkInterface"] == ["*"] and other["kms:Decrypt"][0].endswith(":key/*")


def test_cloudformation_makes_it(made: Any, account: Account) -> None:
    """Role, model, configuration and endpoint, by moto's CloudFormation: it knows neither alarms nor scaling."""
    text = json.dumps(made(*ON_MACHINES, "--capture", "10", "--tag", "team=a"))
    formation, sagemaker = account.client("cloudformation"), account.client("sagemaker")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tried to parse AWS::")
        formation.create_stack(StackName="parts", TemplateBody=text, Capabilities=["CAPABILITY_IAM"])
    (endpoint,) = sagemaker.list_endpoints()["Endpoints"]
    endpoint = sagemaker.describe_endpoint(EndpointName=endpoint["EndpointName"])
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    assert config["DataCaptureConfig"]["DestinationS3Uri"] == "s3://some-bucket/sightline/endpoints/parts/captured/"
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    assert model["PrimaryContainer"]["ModelDataUrl"] == BUNDLE
    assert (
        model["PrimaryContainer"]["Image"]
        == f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline-serve:{package.__version__}"
    )
    role = model["ExecutionRoleArn"].rpartition("/")[2]
    assert account.client("iam").list_role_policies(RoleName=role)["PolicyNames"] == ["endpoint"]
    (output,) = (
        one for one in formation.describe_stacks(StackName="parts")["Stacks"][0]["Outputs"] if one["OutputKey"] == "RoleArn"
    )
    assert output["OutputValue"] == model["ExecutionRoleArn"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"serverless_mb": 4096}, r"--serverless: is given with ml\.g4dn\.xlarge\. .* serverless has no GPU"),
        ({"instance_type": ""}, r"--serverless: is not given, and no machines either"),
        ({"instance_type": "", "serverless_mb": 4096, "subnets": ("a",)}, r"--subnets: are of a VPC"),
        ({"instance_type": "", "serverless_mb": 4096, "kms_key": "alias/a"}, r"--kms-key\): a serverless .* never encrypts"),
        ({"instance_type": "", "serverless_mb": 4096, "capture": 5}, r"never captures data"),
        ({"instance_type": "", "serverless_mb": 4096, "scale": (1, 2)}, r"--scale: serverless endpoints scale by themselves"),
        ({"kms_key": "alias/a"}, r"ml\.g4dn\.xlarge has disks of its own"),
        ({"archive": "s3://b"}, r"MODEL: is 's3://b'\. Give the s3://BUCKET"),
        ({"archive": "s3://b/model.zip"}, r"MODEL: is 's3://b/model\.zip'"),
        ({"image": "docker.io/x/y"}, r"--image: 'docker\.io/x/y' is no image in ECR"),
        ({"scale": (0, 1)}, r"--scale: is from 0, and only asynchronous endpoints"),
        ({"scale": (4, 1)}, r"MinCapacity: is 4, more than the 1"),
        ({"capture": 101}, r"InitialSamplingPercentage: is 101"),
        ({"name": "no_name"}, r"EndpointName: is 'no_name'"),
        ({"instance_type": "ml.m5.large", "ami": "al2-ami-sagemaker-inference-gpu-3-1"}, "which has no GPU"),
        ({"beside": (deploys.Beside("a-1", BUNDLE, {}), deploys.Beside("a1", BUNDLE, {}))}, r"cannot be told apart"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before(more: dict[str, Any], said: str) -> None:
    with pytest.raises(SightlineError, match=said):
        check(Stack(asked(**more)))


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(SightlineError) as error:
        check(Stack(asked(archive="parts.zip", later=True, scale=(3, 1), max_latency_s=90), http="iam"))
    assert [problem.where for problem in error.value.problems][:3] == ["--max-latency", "MODEL", "--http"]
    assert "MinCapacity" in str(error.value)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"serverless_mb": 4096}, "--serverless"),
        ({"instance_type": ""}, "--serverless"),
        ({"archive": "s3://b-b/model.tgz"}, "MODEL"),
        ({"archive": "s3://REGION/model.tar.gz"}, "MODEL"),
        ({"beside": (deploys.Beside("new", "s3://REGION/model.tar.gz", {}),)}, "--variant new"),
        ({"bucket": "s3://Mine/"}, "--bucket"),
    ],
)
@pytest.mark.parametrize("installed", [True, False], ids=["with botocore", "without"])
def test_one_fault_is_told_once(more: dict[str, Any], where: str, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's own words, and without botocore alone."""
    if not installed:
        shapes.service_model.cache_clear()
        monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(SightlineError) as error:
        check(Stack(asked(**more)))
    assert [problem.where for problem in error.value.problems] == [where]
    if not installed:
        with pytest.raises(MissingDependencyError, match="needs 'botocore'"):
            check(Stack(asked()))


def test_an_impossible_bucket_and_a_file_that_is_not_there(sightline: Run, tmp_path: Path) -> None:
    code, out, err = sightline("template", "s3://REGION/parts/1/model.tar.gz", "--name", "parts", *ON_MACHINES)
    assert (code, out) == (2, "") and "and the bucket's name 'REGION' has capitals. Give the s3://" in err
    missing = tmp_path / "nothere.tar.gz"
    code, out, err = sightline("template", missing, "--name", "parts", *ON_MACHINES)
    assert (code, out) == (2, "") and f"{missing}: does not exist. " in err and "--bucket" not in err


def test_a_bundle_that_does_not_exist_prints_nothing(sightline: Run, account: Account) -> None:
    account.client("s3").create_bucket(Bucket="some-bucket")
    account.client("s3").put_object(Bucket="some-bucket", Key="parts/models.tar.gz", Body=b"1")
    code, out, err = sightline("template", BUNDLE, "--name", "parts", *ON_MACHINES)
    assert (code, out) == (2, "")
    assert (
        "error: s3://some-bucket/parts/model.tar.gz: does not exist. Did you mean s3://some-bucket/parts/models.tar.gz?" in err
    )
    account.client("s3").put_object(Bucket="some-bucket", Key="parts/model.tar.gz", Body=b"1")
    code, out, _ = sightline("template", BUNDLE, "--name", "parts", *ON_MACHINES)
    assert code == 0 and "AWS::SageMaker::Endpoint" in out


def test_without_credentials_nobody_looks_and_that_is_said(
    sightline: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    file = tmp_path / "parts.json"
    code, out, err = sightline("template", BUNDLE, "--name", "parts", *ON_MACHINES, "--format", "json", "-o", file)
    assert (code, out) == (0, "") and "note: nobody has looked whether s3://some-bucket/parts/model.tar.gz is there" in err
    assert f"aws cloudformation deploy --stack-name parts --template-file {file} --capabilities CAPABILITY_IAM" in err
    assert json.loads(file.read_text())["Resources"]["Model"]["Properties"]["PrimaryContainer"]["ModelDataUrl"] == BUNDLE


def test_a_model_of_this_machine(sightline: Run, tmp_path: Path) -> None:
    """Its address follows from its content, and the commands that put it there are told."""
    archive = tmp_path / "model.tar.gz"
    files = {"model.pth": b"weights", "config.yaml": b"MODEL: {}\n"}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    names = ["bee", "wasp's \\n"]
    manifest = {"format": 1, "class_names": names, "files": sums}
    with archive.open("wb") as file:
        write_archive({**files, "bundle.json": json.dumps(manifest).encode()}, file)
    code, out, err = sightline("template", archive, "--name", "parts", *ON_MACHINES)
    assert (code, out) == (2, "") and "CloudFormation takes models from S3. Give --bucket NAME" in err
    code, out, err = sightline("template", archive, "--name", "parts", *ON_MACHINES, "--bucket", "some-bucket")
    assert code == 0, err
    model = yaml.safe_load(out)["Resources"]["Model"]["Properties"]
    address = model["PrimaryContainer"]["ModelDataUrl"]
    assert address.startswith("s3://some-bucket/sightline/endpoints/parts/models/") and f"aws s3 cp {archive} {address}" in err
    facts_at = next(tag["Value"] for tag in model["Tags"] if tag["Key"] == "sightline:facts")
    assert facts_at == address.replace("model.tar.gz", FACTS)
    (command,) = (line for line in err.splitlines() if line.endswith(f" | aws s3 cp - {facts_at}"))
    echoed = subprocess.run(["sh", "-c", command.partition(" | ")[0]], capture_output=True, check=True).stdout
    assert json.loads(echoed)["class_names"] == names
    file = tmp_path / "parts.yaml"
    code, _, err = sightline("template", archive, "--name", "parts", *ON_MACHINES, "--bucket", "some-bucket", "-o", file)
    assert code == 0 and f"aws s3 cp {tmp_path / 'parts.model.json'} {facts_at}\n" in err
    assert json.loads((tmp_path / "parts.model.json").read_text())["class_names"] == names


class Runtime:
    """boto3's client, as far as the function asks it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def invoke_endpoint(self, **asked: object) -> object:
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask(monkeypatch: pytest.MonkeyPatch, answer: object, **event: object) -> tuple[Runtime, dict[str, Any]]:
    runtime = Runtime(answer)
    monkeypatch.setattr(front, "runtime", runtime)
    monkeypatch.setenv("ENDPOINT", "parts")
    return runtime, front.handler(event, None)


def test_the_function_before_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(256))  # no text
    answer = {"Body": StreamingBody(io.BytesIO(b'{"a": "\xc3\xa9"}'), 11), "ContentType": "application/json"}
    headers = {"Content-Type": "image/png", "x-amzn-sagemaker-custom-attributes": "threshold=0.3", "cookie": "no"}
    event = {"body": base64.b64encode(body).decode(), "isBase64Encoded": True, "headers": headers}
    runtime, got = ask(monkeypatch, answer, **event)
    assert runtime.asked == {
        "EndpointName": "parts", "Body": body, "ContentType": "image/png", "CustomAttributes": "threshold=0.3",
    }  # fmt: skip
    assert (got["statusCode"], got["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(got["body"]).decode() == '{"a": "é"}'


def test_refusals_come_through_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"OriginalStatusCode": 415, "OriginalMessage": '{"error": {}}', "Error": {"Code": "ModelError"}}
    _, got = ask(monkeypatch, ClientError(told, "InvokeEndpoint"), body="text")  # type: ignore[arg-type]
    assert (got["statusCode"], got["body"]) == (415, '{"error": {}}')
    missing = {"Error": {"Code": "ValidationError", "Message": "not found"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    _, got = ask(monkeypatch, ClientError(missing, "InvokeEndpoint"))  # type: ignore[arg-type]
    assert got["statusCode"] == 400 and json.loads(got["body"])["error"]["what"] == "not found"
    _, got = ask(monkeypatch, ReadTimeoutError(endpoint_url="x"))
    assert got["statusCode"] == 504 and "28 s" in got["body"]
