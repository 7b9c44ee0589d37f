"""Who, where, as whom and into which bucket: found and checked before anything is made."""

import json
import os
from pathlib import Path

import pytest

from sightline.cloud.account import Account, find_bucket, find_image, find_role, make_bucket, open_account
from sightline.errors import SightlineError

from .conftest import ACCOUNT, IMAGE, ROLE, TRUST


def quiet(text: str) -> None:
    pass


def test_who_is_logged_in(empty: Account) -> None:
    assert (empty.id, empty.region, empty.partition) == (ACCOUNT, "us-east-1", "aws")
    assert empty.default_bucket == f"sightline-sagemaker-us-east-1-{ACCOUNT}"


def test_awss_own_variable_for_the_region_counts_for_s3_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline import storage

    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert storage.store().client.meta.region_name == "eu-west-3"


def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SightlineError, match=r"^AWS: there are no AWS credentials\. Log in"):
        open_account(os.environ)


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(SightlineError, match=r"^AWS_REGION: is not set"):
        open_account(os.environ)


def test_no_region_and_nobody_logged_in_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SightlineError) as error:
        open_account(os.environ)
    assert [problem.where for problem in error.value.problems] == ["AWS_REGION", "AWS"]


def test_a_region_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-eat-1")
    with pytest.raises(SightlineError, match=r"'us-eat-1', where there is no SageMaker\. Did you mean 'us-east-1'"):
        open_account(os.environ)


def test_the_role_named_or_the_only_one(account: Account) -> None:
    said: list[str] = []
    assert find_role(account, ROLE, {}, said.append) == ROLE
    assert find_role(account, "sightline-jobs", {}, said.append) == ROLE
    assert find_role(account, "", {"SIGHTLINE_CLOUD_ROLE": "sightline-jobs"}, said.append) == ROLE
    assert said == []
    assert find_role(account, "", {}, said.append) == ROLE
    assert said == [f"role: {ROLE}"]


def test_roles_that_will_not_do(account: Account) -> None:
    iam = account.client("iam")
    lambdas = json.dumps(TRUST).replace("sagemaker", "lambda")
    iam.create_role(RoleName="sightline-lambda", AssumeRolePolicyDocument=lambdas)
    with pytest.raises(SightlineError, match=r"SageMaker may not assume arn.*sightline-lambda\. Let its trust policy"):
        find_role(account, "sightline-lambda", {}, quiet)
    with pytest.raises(SightlineError, match=r"there is no role 'nobody' in account 123456789012\. Check .* cloud policy role"):
        find_role(account, "nobody", {}, quiet)
    with pytest.raises(SightlineError, match=r"is in account 999999999999, and you are logged in to 123456789012"):
        find_role(account, "arn:aws:iam::999999999999:role/r", {}, quiet)
    with pytest.raises(SightlineError, match=r"is no ARN of a role"):
        find_role(account, "arn:aws:iam::123456789012:user/r", {}, quiet)
    assert find_role(account, "", {}, quiet) == ROLE
    iam.create_role(RoleName="AmazonSageMaker-ExecutionRole-2", AssumeRolePolicyDocument=json.dumps(TRUST))
    with pytest.raises(SightlineError, match=r"is not given, and 2 would do: .*ExecutionRole-2.*Give one of them"):
        find_role(account, "", {}, quiet)


def test_no_role_at_all(empty: Account) -> None:
    with pytest.raises(
        SightlineError, match=r"^--role: is not given, and account .* has none .* `sightline cloud policy role`"
    ):
        find_role(empty, "", {}, quiet)


def test_the_default_bucket_is_made_closed_and_tagged_once(empty: Account) -> None:
    name, there = find_bucket(empty, "", {}, quiet)
    assert (name, there) == (empty.default_bucket, False)
    make_bucket(empty, name, {"team": "vision"})
    make_bucket(empty, name, {"team": "vision"})
    assert find_bucket(empty, "", {}, quiet) == (name, True)
    s3 = empty.client("s3")
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    tagged = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]}
    assert tagged["sightline:kind"] == "bucket"
    assert tagged["team"] == "vision"


def test_a_named_bucket_has_to_be_there(empty: Account) -> None:
    with pytest.raises(SightlineError, match=r"^--bucket: there is no bucket 'parts-of-mine'"):
        find_bucket(empty, "s3://parts-of-mine/", {}, quiet)
    empty.client("s3").create_bucket(Bucket="parts-of-mine")
    said: list[str] = []
    assert find_bucket(empty, "", {"SIGHTLINE_CLOUD_BUCKET": "parts-of-mine"}, said.append) == ("parts-of-mine", True)
    assert "only buckets with 'sagemaker' in their name" in said[0]


def test_a_bucket_in_another_region(empty: Account) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    empty.client("s3").create_bucket(Bucket="far-away", CreateBucketConfiguration=where)
    with pytest.raises(
        SightlineError, match=r"'far-away' is in eu-west-1, and the job would run in us-east-1\. Set AWS_REGION"
    ):
        find_bucket(empty, "far-away", {}, quiet)


def test_a_bucket_of_another_account(empty: Account) -> None:
    from botocore.stub import Stubber

    s3 = empty.client("s3")
    with Stubber(s3) as stub:
        asked = {"Bucket": "theirs", "ExpectedBucketOwner": ACCOUNT}
        stub.add_client_error("head_bucket", "403", "Forbidden", 403, expected_params=asked)
        with pytest.raises(SightlineError, match=r"^--bucket: 'theirs' belongs to another account, or .* \(s3:ListBucket\)"):
            find_bucket(empty, "theirs", {}, quiet)


def image(account: Account, given: str = "") -> str:
    return find_image(account, given, "SIGHTLINE_TRAIN_IMAGE", os.environ, "sightline-train", "0.1.0")


def test_the_image(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image(account) == f"{IMAGE}:0.1.0"
    theirs = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.10-cpu"
    assert image(account, theirs) == theirs
    monkeypatch.setenv("SIGHTLINE_TRAIN_IMAGE", f"{IMAGE}:9")
    with pytest.raises(SightlineError, match=r"there is no .*sightline-train:9 .*Build and push it"):
        image(account)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sightline-train", "is no image in ECR. Push it"),
        ("public.ecr.aws/x/y:1", "is no image in ECR"),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/sightline-train:1", "is in eu-west-1"),
        (f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/nothing:1", "there is no"),
    ],
)
def test_images_that_will_not_do(account: Account, given: str, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        image(account, given)
