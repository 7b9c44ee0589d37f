"""Settings of the CDK app: read as a whole, refused as a whole, before anything is synthesised."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from sightline_infra.settings import Settings, SettingsError, read, require_known

INFRA = Path(__file__).resolve().parents[2] / "infra"
GOOD = {"name": "parts", "bundle": "s3://some-bucket/parts/model.tar.gz", "instance-type": "ml.g5.xlarge"}
SERVERLESS = {**GOOD, "instance-type": None, "serverless": "4096"}
PIPELINE = {"name": "parts", "manifests": "s3://labels/jobs/", "instance-type": "ml.g5.xlarge"}


def of(given: dict[str, Any]) -> Settings:
    return read({key: value for key, value in given.items() if value is not None}.get)


def test_texts_become_what_they_mean() -> None:
    text = {**GOOD, "scale": "1,4", "async": "false", "tags": "team=a,stage=b", "per-minute": "12.5", "storage": "no"}
    found = of({**text, "subnets": "subnet-1, subnet-2", "security-groups": ["sg-1"]})
    assert (found.scale, found.async_, found.per_minute, found.storage) == ((1, 4), False, 12.5, False)
    assert (found.tags, found.subnets, found.security_groups) == (
        {"team": "a", "stage": "b"},
        ("subnet-1", "subnet-2"),
        ("sg-1",),
    )
    assert of({**PIPELINE, "hyperparameters": {"epochs": 20, "config": "r50"}}).hyperparameters == {
        "epochs": "20",
        "config": "r50",
    }
    assert of({**PIPELINE, "hyperparameters": '{"opts": "A,B=1"}'}).hyperparameters == {"opts": "A,B=1"}
    with pytest.raises(FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**GOOD, "serverless": "4096"}, "serverless: is given with instance-type=ml.g5.xlarge, which has a GPU"),
        ({**GOOD, "instance-type": None}, "instance-type: is not given, and serverless neither"),
        ({**GOOD, "instance-type": "g5.xlarge"}, "instance-type: is 'g5.xlarge'"),
        ({**SERVERLESS, "serverless": "3000"}, "serverless: is 3000. Give 1024"),
        ({**SERVERLESS, "capture": "10"}, "capture: serverless endpoints capture no data"),
        ({**SERVERLESS, "kms-key": "alias/a"}, "kms-key: it encrypts disks"),
        ({**SERVERLESS, "async": "true"}, "async: serverless endpoints answer at once"),
        ({**SERVERLESS, "scale": "1,2"}, "scale: serverless endpoints scale by themselves"),
        ({**SERVERLESS, "subnets": "a", "security-groups": "b"}, "subnets: serverless endpoints are in no VPC"),
        ({**SERVERLESS, "cuda": "12.4"}, "cuda: serverless endpoints have no GPU"),
        ({**GOOD, "kms-key": "alias/a"}, "kms-key: ml.g5.xlarge has disks of its own"),
        ({**GOOD, "subnets": "a"}, "subnets, security-groups: are given alone"),
        ({**GOOD, "scale": "4,1"}, "scale: is 4,1. Give LEAST,MOST"),
        ({**GOOD, "scale": "0,1"}, "scale: is from 0"),
        ({**GOOD, "scale": "many"}, "scale: is 'many'. Give LEAST,MOST."),
        ({**GOOD, "storage": "perhaps"}, "storage: is 'perhaps'. Give true or false."),
        ({**GOOD, "image": "docker.io/library/x"}, "image: 'docker.io/library/x' is no image in ECR"),
        ({**GOOD, "cuda": "latest"}, "cuda: is 'latest'"),
        ({**GOOD, "instance-type": "ml.m5.large", "cuda": "12.4"}, "cuda: is given, and ml.m5.large has no GPU"),
        ({**GOOD, "http": "public"}, "http: is 'public'. Give iam or open."),
        ({**GOOD, "http": "iam", "async": "yes"}, "http: answers at once"),
        ({**GOOD, "bundle": "parts/model.tar.gz"}, "bundle: is 'parts/model.tar.gz'. Give the s3://"),
        ({**GOOD, "bundle": "s3://some-bucket/model.zip"}, "bundle: is 's3://some-bucket/model.zip'"),
        ({**GOOD, "bundle": "s3://REGION/model.tar.gz"}, "/model.tar.gz', and the bucket's name 'REGION' has capitals. Give"),
        ({**GOOD, "bucket": "Mine"}, "bucket: is 'Mine', and the bucket's name 'Mine' has capitals"),
        ({**GOOD, "manifests": "s3://labels/"}, "bundle: is given with manifests"),
        ({**GOOD, "max-latency": "90"}, "max-latency: is 90 s"),
        ({**GOOD, "tags": "sightline:of=x"}, "tags: the key 'sightline:of' is reserved"),
        ({**GOOD, "name": "no name"}, "name: is 'no name'"),
        ({**PIPELINE, "name": "a" * 30}, "name: has 30 letters"),
        ({**PIPELINE, "min-ap": "30"}, "min-ap: is 30. AP is between 0 and 1."),
        ({**PIPELINE, "metric": "bbox/AP"}, "metric: is 'bbox/AP'. Give model-bbox-AP"),
        ({**PIPELINE, "hyperparameters": "config=r50,epoch=20"}, "hyperparameters: 'epoch' is none. Did you mean epochs?"),
        ({**PIPELINE, "manifests": "labels"}, "manifests: is 'labels'"),
        ({"storage": "false"}, "nothing is wanted"),
    ],
)  # fmt: skip
def test_contradictions(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        of(given)
    assert any(problem.startswith(said) or said in problem for problem in error.value.problems), error.value.problems


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        of({**GOOD, "serverless": "4096", "bundle": "x", "scale": "3,2", "http": "x", "capture": "101"})
    assert len(error.value.problems) >= 5


def test_a_misspelt_setting_is_told() -> None:
    with pytest.raises(SettingsError, match=r"instance-typ: is no setting\. Did you mean instance-type\?"):
        require_known({"instance-typ": "ml.g5.xlarge", "aws:cdk:enable-path-metadata": True, "@aws-cdk/core:x": True})


def run_app(folder: Path, context: dict[str, str], **environ: str) -> subprocess.CompletedProcess[str]:
    words = {**os.environ, "CDK_CONTEXT_JSON": json.dumps(context), "CDK_OUTDIR": str(folder), **environ}
    return subprocess.run(
        [sys.executable, str(INFRA / "app.py")], env=words, capture_output=True, text=True, timeout=200, check=False
    )


def test_the_app_itself_about_a_bundle_that_does_not_exist(stacks: object, tmp_path: Path) -> None:
    """As the CDK's command line starts it. AWS's answer comes from a program in place of `aws`."""
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text('#!/bin/sh\necho "$@" > "$0.asked"\necho "An error occurred (404): Not Found" >&2\nexit 254\n')
    aws.chmod(0o755)
    path = f"{aws.parent}:{os.environ['PATH']}"
    context = {key: str(value) for key, value in GOOD.items()}
    over = run_app(tmp_path / "out", context, PATH=path, CDK_DEFAULT_ACCOUNT="123456789012")
    assert over.returncode == 1
    assert (
        "error: bundle: s3://some-bucket/parts/model.tar.gz cannot be found (An error occurred (404): Not Found)" in over.stderr
    )
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.template.json"))
    asked = Path(f"{aws}.asked").read_text()
    assert asked == "s3api head-object --bucket some-bucket --key parts/model.tar.gz\n"


def test_when_nobody_looks_for_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("aws_cdk")
    from app import require_there

    bundle, logged_in = str(GOOD["bundle"]), {"CDK_DEFAULT_ACCOUNT": "123456789012", "PATH": str(tmp_path)}
    require_there(bundle, logged_in, "false")
    require_there(bundle, {"PATH": str(tmp_path)}, "")  # no credentials, as in a test of the stacks
    require_there(bundle, logged_in, "")  # no `aws` here, and nobody asked for the check
    with pytest.raises(SettingsError, match=r"check: needs AWS's command line"):
        require_there(bundle, {"PATH": str(tmp_path)}, "true")
