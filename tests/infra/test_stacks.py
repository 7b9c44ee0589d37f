"""What the CDK app makes, against what `sightline cloud` makes; everything is as cfn-lint wants it."""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sightline_infra import __version__ as infra_version
from sightline_infra import front as infra_front
from sightline_infra import requests as infra_requests
from sightline_infra import settings as infra_settings
from sightline_infra.settings import Settings

import sightline
from sightline.cloud import deploys, drivers, front, policies, rules
from sightline.cloud.template import Stack, check, template

from .conftest import BUNDLE, ENDPOINTS, endpoint_settings

INFRA = Path(__file__).resolve().parents[2] / "infra"
Stacks = Mapping[str, dict[str, Any]]


def linted(made: dict[str, Any]) -> list[str]:
    api, config = pytest.importorskip("cfnlint.api"), pytest.importorskip("cfnlint.config")
    return [str(one) for one in api.lint(json.dumps(made), config=config.ManualArgs(regions=["us-east-1"]))]


def test_the_app_knows_the_cdk_and_nothing_else() -> None:
    known = {"aws_cdk", "constructs", "sightline_infra", *sys.stdlib_module_names}
    for path in [INFRA / "app.py", *INFRA.glob("sightline_infra/*.py")]:
        if path.name == "front.py":  # a Lambda function of its own: text here
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= known, path


def test_what_is_in_both_places_is_the_same() -> None:
    assert infra_version == sightline.__version__
    assert Path(str(infra_front.__file__)).read_bytes() == Path(str(front.__file__)).read_bytes()
    assert infra_settings.LOCAL_DISKS.pattern == rules.LOCAL_DISKS.pattern
    assert set(infra_requests.NETWORK) == set(policies.NETWORK)
    for cuda in ("11.8", "12.1", "12.2", "12.4", "12.6", "12.9", "13.0", "13.2"):
        assert Settings(cuda=cuda).ami == drivers.endpoint_host(cuda).ami, cuda


def as_asked(settings: Settings) -> Stack:
    """The same wish for `cloud template`."""
    asked = deploys.Asked(
        archive=settings.bundle, name=settings.name, facts={}, instance_type=settings.instance_type,
        count=settings.instance_count, serverless_mb=settings.serverless, concurrency=settings.concurrency,
        later=settings.async_, capture=settings.capture, ami=settings.ami, scale=settings.scale,
        per_minute=settings.per_minute, max_latency_s=settings.max_latency,
        image=settings.image, bucket=settings.bucket, subnets=settings.subnets,
        security_groups=settings.security_groups, kms_key=settings.kms_key, own_tags=settings.tags,
    )  # fmt: skip
    return Stack(asked, settings.http)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_is_that_of_cloud_template(name: str, stacks: Stacks) -> None:
    wanted = as_asked(endpoint_settings(name))
    assert check(wanted) == []  # botocore and the platform's rules have nothing against it
    made = template(wanted)
    found = stacks[f"sightline-endpoint-{name}"]
    resources = json.loads(json.dumps(made["Resources"]))
    for one in (*resources.values(), *found["Resources"].values()):
        if isinstance(one.get("DependsOn"), list):
            (one["DependsOn"],) = one["DependsOn"]
    assert found["Resources"] == resources
    assert {key: one["Value"] for key, one in found["Outputs"].items()} == {
        key: one["Value"] for key, one in made["Outputs"].items()
    }


@pytest.mark.parametrize("name", ["sightline-storage", "sightline-endpoint-asynchronous", "sightline-pipeline-parts"])
def test_stacks_pass_cfn_lint(name: str, stacks: Stacks) -> None:
    """The other endpoints are those of `cloud template`, which tests/cloud/test_template.py looks at."""
    assert linted(stacks[name]) == []


def of_kind(stack: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in stack["Resources"].values() if one["Type"] == kind]


def test_the_bucket_is_closed_encrypted_and_stays(stacks: Stacks) -> None:
    storage = stacks["sightline-storage"]
    (bucket,) = of_kind(storage, "AWS::S3::Bucket")
    properties = bucket["Properties"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert properties["BucketName"] == {"Fn::Sub": "sightline-sagemaker-${AWS::Region}-${AWS::AccountId}"}
    assert properties["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    expired = {one.get("Prefix") for one in properties["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in one}
    assert "sightline/endpoints/parts/captured/" in expired and None not in expired  # models and data never go by themselves
    (policy,) = of_kind(storage, "AWS::S3::BucketPolicy")
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_registries_scan_what_comes(stacks: Stacks) -> None:
    found = of_kind(stacks["sightline-storage"], "AWS::ECR::Repository")
    assert {one["Properties"]["RepositoryName"] for one in found} == {"sightline-train", deploys.REPOSITORY}
    assert all(one["Properties"]["ImageScanningConfiguration"] == {"ScanOnPush": True} for one in found)
    assert all(one["DeletionPolicy"] == "Retain" for one in found)


def test_every_variant_is_rolled_back_by_its_alarms(stacks: Stacks) -> None:
    for name in ENDPOINTS:
        stack = stacks[f"sightline-endpoint-{name}"]
        (endpoint,) = of_kind(stack, "AWS::SageMaker::Endpoint")
        heeded = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        metrics = {stack["Resources"][one["AlarmName"]["Ref"]]["Properties"]["MetricName"] for one in heeded}
        assert metrics == {"Invocation5XXErrors", "ModelLatency"}
        (model,) = of_kind(stack, "AWS::SageMaker::Model")
        assert model["Properties"]["PrimaryContainer"]["ModelDataUrl"] == BUNDLE
