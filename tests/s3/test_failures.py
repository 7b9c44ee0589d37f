"""What goes wrong with S3: where, what, and how to fix it; everything together, and nothing in vain."""

import errno

import pytest

from sightline import storage
from sightline.errors import RunError, SightlineError
from sightline.s3 import transfers
from sightline.s3.address import Address, parse
from sightline.s3.failures import unanswered

from .conftest import BUCKET, Bucket, Server


@pytest.mark.parametrize(
    ("status", "code", "what", "fix"),
    [
        (403, "AccessDenied", "access is denied: s3:GetObject", "Allow s3:GetObject on it"),
        (403, "AccessDenied", "access is denied", "set SIGHTLINE_S3_REQUESTER_PAYS=1"),
        (403, "InvalidAccessKeyId", "S3 does not accept the AWS credentials", "Check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "S3 does not accept the AWS credentials", "AWS_PROFILE"),
        (400, "ExpiredToken", "the AWS credentials have expired", "Log in again"),
        (403, "RequestTimeTooSkewed", "clock is wrong", "Set the clock"),
        (404, "NoSuchBucket", "there is no such bucket", "Check its name"),
        (403, "InvalidObjectState", "S3 answers InvalidObjectState", "Restore it first"),
        (400, "Strange", r"S3 answers Strange \(so it is\)", "permission s3:GetObject"),
    ],
)
def test_answers_are_explained(server: Server, status: int, code: str, what: str, fix: str) -> None:
    server.fails(status, code, "so it is")
    with pytest.raises(SightlineError, match=rf"^s3://b/a\.jpg: .*{what}.*{fix}"):
        storage.local_path("s3://b/a.jpg", "Reading")


def test_a_bucket_elsewhere_tells_its_region(server: Server) -> None:
    server.fails(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-central-1"})
    with pytest.raises(SightlineError, match=r"the bucket is in the region eu-central-1\. Set AWS_REGION=eu-central-1"):
        storage.local_path("s3://b/a.jpg", "Reading")


def test_a_busy_server_is_no_fault_of_the_user(server: Server) -> None:
    server.fails(503, "SlowDown")
    with pytest.raises(RunError, match="S3 answers SlowDown again and again"):
        storage.local_path("s3://b/a.jpg", "Reading")
    assert len(server.asked) == 2  # AWS_MAX_ATTEMPTS


def test_no_credentials(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SightlineError, match=r"there are no AWS credentials\. Log in .*SIGHTLINE_S3_ANONYMOUS=1"):
        storage.local_path("s3://b/a.jpg", "Reading")
    assert server.asked == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"S3 cannot be reached .*Check the network, AWS_REGION and AWS_ENDPOINT_URL"):
        storage.local_path("s3://b/a.jpg", "Reading")


def test_no_such_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SightlineError, match=r"AWS configuration: cannot be used .*nobody"):
        storage.local_path("s3://b/a.jpg", "Reading")


@pytest.mark.parametrize("name", ["B_", "a..b", "x"])
def test_impossible_buckets(bucket: Bucket, name: str) -> None:
    with pytest.raises(SightlineError, match=rf"^s3://{name}/a: "):
        storage.local_path(f"s3://{name}/a", "Reading")


@pytest.mark.parametrize("reference", ["s3://", "s3:///key", "bucket/key"])
def test_no_bucket_at_all(reference: str) -> None:
    with pytest.raises(SightlineError, match=r"names no bucket\. Give s3://BUCKET/KEY\.$"):
        parse(reference)


def test_a_missing_key_gets_the_nearest_name(bucket: Bucket) -> None:
    bucket.put("in/bees_0001.jpg")
    with pytest.raises(SightlineError, match=rf"does not exist.* Did you mean s3://{BUCKET}/in/bees_0001\.jpg\?$"):
        storage.local_path(f"s3://{BUCKET}/in/bees_001.jpg", "Reading")


def test_all_failures_are_told_together(bucket: Bucket) -> None:
    there = Address(BUCKET, "in/0.jpg")
    bucket.put(there.key, b"x")
    missing = [Address(BUCKET, f"in/{number}.jpg") for number in range(1, 30)]
    fetched = transfers.fetch_all(storage.store(), [there, *missing, there])
    assert set(fetched.files) == {there}
    assert set(fetched.problems) == set(missing)
    assert fetched.problems[missing[0]].what == "does not exist"
    assert (
        sum(problem.fix == "Did you mean s3://parts/in/0.jpg?" for problem in fetched.problems.values()) == transfers.MAX_NEAR
    )


def test_what_all_share_ends_at_once(server: Server) -> None:
    server.fails(403, "InvalidAccessKeyId")
    with pytest.raises(SightlineError, match="does not accept the AWS credentials") as caught:
        transfers.fetch_all(storage.store(), [Address("bkt", f"{number}.jpg") for number in range(1000)])
    assert len(caught.value.problems) == 1
    assert len(server.asked) < 200


def test_where_nothing_succeeds_the_rest_is_not_tried(server: Server) -> None:
    server.fails(403, "AccessDenied")
    fetched = transfers.fetch_all(storage.store(), [Address("bkt", f"{number}.jpg") for number in range(1000)])
    assert len(fetched.problems) == 1000
    assert len(server.asked) < 300
    assert sum("was not tried" in problem.what for problem in fetched.problems.values()) > 700


@pytest.mark.parametrize(("number", "fix"), [(errno.ENOSPC, "Make room there"), (errno.EACCES, "may be written")])
def test_only_a_full_disk_asks_for_room(number: int, fix: str) -> None:
    failure = unanswered(OSError(number, "no"), Address("labels", "a.jpg"))
    assert failure.ends_all
    assert fix in failure.problem.fix
