"""The CDK app's stacks, all synthesised once: jsii starts a Node process, which takes seconds."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from sightline_infra.settings import Settings

BUNDLE = "s3://some-bucket/parts/model.tar.gz"
NETWORK = {"subnets": ("subnet-0123456789abcdef0",), "security_groups": ("sg-0123456789abcdef0",)}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "real-time": {
        "instance_type": "ml.g4dn.xlarge", "instance_count": 2, "scale": (1, 4), "per_minute": 30.0, "capture": 10,
        "cuda": "12.4", "http": "iam", "tags": {"team": "a"},
    },
    "serverless": {"serverless": 4096, "concurrency": 7, "http": "open", "max_latency": 20.0},
    "asynchronous": {
        "instance_type": "ml.g5.xlarge", "async_": True, "bucket": "another-bucket", "cuda": "13.2", "scale": (0, 2), **NETWORK,
    },
    "encrypted": {
        "instance_type": "ml.m5.large", "kms_key": "alias/parts",
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:3",
    },
}  # fmt: skip
"""Endpoint stacks by name."""

PIPELINE = Settings(
    name="parts", storage=False, manifests="s3://labels/jobs/", instance_type="ml.g5.xlarge", scale=(1, 3), min_ap=0.3,
    capture=5, cuda="13.2", http="iam", hyperparameters={"epochs": "20", "config": "r50"}, pictures=("s3://photos/2026/",),
)  # fmt: skip


def endpoint_settings(name: str) -> Settings:
    return Settings(name=name, bundle=BUNDLE, storage=False, **ENDPOINTS[name])


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """{stack's name: its template}."""
    if shutil.which("node") is None:
        pytest.skip("the CDK needs Node, which is not here")
    cdk = pytest.importorskip("aws_cdk")
    import app as infra

    app = cdk.App(analytics_reporting=False, outdir=str(tmp_path_factory.mktemp("cdk")))
    for settings in (Settings(name="parts"), *map(endpoint_settings, ENDPOINTS), PIPELINE):
        infra.add_stacks(app, settings)
    return {stack.stack_name: json.loads(json.dumps(stack.template)) for stack in app.synth().stacks}
