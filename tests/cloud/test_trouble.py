"""What goes wrong with AWS, met by whole commands over HTTP: told clearly, nothing forgotten, no secret in any line."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_dataset_folder

from sightline.cli import cloud as command
from sightline.cloud import deploys, jobs
from sightline.cloud.account import Account, open_account

from .between import LOST, Answer, Between, between, refused, refused_in_xml, with_fields
from .conftest import SECRET, TOKEN, Run, log_in

QUOTED = (
    "The request signature we calculated does not match. The Canonical String for this request should have been"
    f" 'POST / x-amz-security-token:{TOKEN} {SECRET}'"
)


@pytest.fixture(scope="session")
def server(moto_address: str) -> Iterator[Between]:
    with between(moto_address) as state:
        yield state


@pytest.fixture(scope="session")
def asking(server: Between) -> Account:
    """An account whose clients ask the server between."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        log_in(monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        account = open_account(os.environ)
        for service in ("iam", "s3", "ecr", "sagemaker", "logs"):
            account.client(service)
    return account


@pytest.fixture
def aws(server: Between, asking: Account, sightline: Run, monkeypatch: pytest.MonkeyPatch) -> Between:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    monkeypatch.setattr(command, "open_account", lambda: asking)
    monkeypatch.setattr(jobs, "POLL_S", 0.001)
    server.wrong, server.asked = {}, []
    return server


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_dataset_folder(tmp_path_factory.mktemp("trouble") / "parts", train=2, val=1)


def told(sightline: Run, *words: object) -> tuple[int, str]:
    """(exit code, all that a command says), in which there is no secret."""
    code, out, err = sightline(*words)
    assert SECRET not in out + err
    assert TOKEN not in out + err
    return code, out + err


def test_credentials_that_have_expired_are_none_or_false(
    sightline: Run, aws: Between, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "open_account", lambda: open_account(os.environ))
    for code, status, expected in (
        ("ExpiredToken", 403, "AWS: the AWS credentials have expired. Log in again."),
        ("InvalidClientTokenId", 403, "AWS: AWS does not accept the credentials (InvalidClientTokenId). Log in (aws configure"),
        ("SignatureDoesNotMatch", 403, "AWS: AWS does not accept the credentials (SignatureDoesNotMatch)"),
    ):
        aws.wrong["GetCallerIdentity"] = [refused_in_xml(code, QUOTED, status)]
        found, text = told(sightline, "train", "--data", data)
        assert (found, expected in text) == (2, True), text
    assert set(aws.asked) == {"GetCallerIdentity"}
    monkeypatch.setenv("AWS_REGION", "us-est-1")
    found, text = told(sightline, "status", "x")
    assert (found, "'us-est-1', where there is no SageMaker. Did you mean 'us-" in text) == (2, True), text
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    found, text = told(sightline, "train", "--data", data)
    assert (found, "there are no AWS credentials. Log in (aws configure" in text) == (2, True), text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refused_in_xml("403", status=403), "'theirs' belongs to another account, or these credentials may not look at it"),
        (
            refused_in_xml("301", status=301, x_amz_bucket_region="eu-west-1"),
            "'theirs' is in eu-west-1, and the job would run in",
        ),
        (refused_in_xml("404", status=404), "there is no bucket 'theirs'"),
    ],
    ids=["another account's", "another region's", "none"],
)
def test_a_bucket_that_cannot_be_used(sightline: Run, aws: Between, data: Path, answer: Answer, expected: str) -> None:
    aws.wrong["HeadBucket"] = [answer]
    code, text = told(sightline, "train", "--data", data, "--bucket", "theirs")
    assert code == 2
    assert f"--bucket: {expected}" in text
    assert not {"PutObject", "CreateBucket", "CreateTrainingJob"} & set(aws.asked)


@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        (refused("ThrottlingException", "Rate exceeded"), 1, "AWS is asked too often (ThrottlingException), also after pauses"),
        (
            refused("ResourceLimitExceeded", "limit 'ml.g5.xlarge for training job usage' is 0 Instances"),
            2,
            "the quota 'ml.g5.xlarge for training job usage' is 0. Ask for more under Service Quotas",
        ),
        (
            refused("AccessDeniedException", "User: x is not authorized to perform: sagemaker:CreateTrainingJob"),
            2,
            "access is denied: sagemaker:CreateTrainingJob. Allow sagemaker:CreateTrainingJob",
        ),
        (refused("ExpiredTokenException", "expired"), 2, "the AWS credentials have expired. Log in again."),
        (refused("ValidationException", QUOTED), 2, "AWS answers ValidationException to sagemaker:CreateTrainingJob"),
    ],
    ids=["throttled", "quota", "rights", "expired", "quoting"],
)
def test_a_job_that_is_refused_is_no_job(
    sightline: Run, aws: Between, account: Account, data: Path, answer: Answer, code: int, expected: str
) -> None:
    aws.wrong["CreateTrainingJob"] = [answer]
    found, text = told(sightline, "train", "--data", data)
    assert (found, expected in text) == (code, True), text
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_throttled_call_is_made_again_after_a_pause(
    sightline: Run, aws: Between, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    account = open_account(os.environ)
    monkeypatch.setattr(command, "open_account", lambda: account)
    aws.wrong["CreateTrainingJob"] = [refused("ThrottlingException", "Rate exceeded"), LOST, lambda answer: answer]
    code, text = told(sightline, "train", "--data", data, "--no-wait")
    assert code == 0, text
    assert aws.asked.count("CreateTrainingJob") == 3


RUNNING = with_fields(TrainingJobStatus="InProgress", SecondaryStatus="Training", SecondaryStatusTransitions=[])
FULL = "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type"


def test_no_capacity(sightline: Run, aws: Between, data: Path) -> None:
    aws.wrong["DescribeTrainingJob"] = [with_fields(TrainingJobStatus="Failed", FailureReason=FULL)]
    code, text = told(sightline, "train", "--data", data)
    assert code == 1
    assert "Try again later, with another --instance-type, another region, or without --spot." in text


def test_a_connection_that_is_lost_while_a_log_is_followed(sightline: Run, aws: Between, account: Account, data: Path) -> None:
    aws.wrong["DescribeTrainingJob"] = [RUNNING, LOST, LOST, RUNNING, lambda answer: answer]
    code, text = told(sightline, "train", "--data", data)
    assert code == 0, text
    assert text.count("the connection to AWS is lost") == 1
    assert "cost: " in text


def test_credentials_that_expire_while_a_log_is_followed(sightline: Run, aws: Between, data: Path) -> None:
    aws.wrong["DescribeTrainingJob"] = [RUNNING, RUNNING, refused("ExpiredTokenException", QUOTED)]
    code, text = told(sightline, "train", "--data", data)
    assert code == 2
    assert (
        "the AWS credentials have expired. Log in again. The job goes on; follow it again: sightline cloud logs parts-" in text
    )


def interrupting(answer: Answer) -> Answer:
    """Somebody presses Ctrl-C while the answer is waited for."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    return answer


def test_ctrl_c_leaves_job_and_endpoint_and_says_so(
    sightline: Run, aws: Between, account: Account, data: Path, tmp_path: Path
) -> None:
    aws.wrong["DescribeTrainingJob"] = [RUNNING, interrupting]
    code, text = told(sightline, "train", "--data", data)
    assert code == 130
    (job,) = account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    name = job["TrainingJobName"]
    assert f"The job goes on. Follow it again: sightline cloud logs {name}\nEnd it: sightline cloud stop {name}" in text
    assert "StopTrainingJob" not in aws.asked


def test_an_endpoint_that_stays_in_creating_shows_its_log(
    sightline: Run, aws: Between, account: Account, monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    logs, group = account.client("logs"), "/aws/sagemaker/Endpoints/stuck"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-1")
    event = {"timestamp": int(time.time() * 1000), "message": "error: model.pth: is damaged"}
    logs.put_log_events(logGroupName=group, logStreamName="AllTraffic/i-1", logEvents=[event])
    monkeypatch.setattr(deploys, "POLL_S", 0.01)
    monkeypatch.setattr(deploys, "STUCK_S", 0.02)
    aws.wrong["DescribeEndpoint"] = [lambda answer: answer, with_fields(EndpointStatus="Creating")]
    words = ["deploy", bundle, "--name", "stuck", "--instance-type", "ml.m5.xlarge"]
    code, text = told(sightline, *words)
    assert code == 1
    assert "error: model.pth: is damaged" in text
    assert "stuck: is still Creating after 0 minutes. Its log is above, and in CloudWatch under" in text
    aws.wrong["DescribeEndpoint"] = [lambda answer: answer, interrupting]
    code, text = told(sightline, *words[:2], "--name", "other", *words[4:])
    assert code == 130
    assert "The endpoint goes on being made, and costs. Take it away: sightline cloud delete other" in text


COMMANDS = [
    ["train", "--data", "DATA"],
    ["tune", "--data", "DATA", "--space", "learning-rate=1e-3,1e-2"],
    ["transform", "--model-name", "m", "s3://parts/in/"],
    ["status", "parts"], ["logs", "parts"], ["stop", "parts"], ["fetch", "parts", "-o", "RUN"],
    ["weights", "parts", "a=1"], ["delete", "parts", "--yes"], ["benchmark", "parts", "--images", "DATA"],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_no_secret_is_in_what_a_command_says_of_a_refusal(
    sightline: Run, aws: Between, data: Path, tmp_path: Path, words: list[str]
) -> None:
    """Every service quotes the request with its token and more, in every call that is made."""
    given = [{"DATA": data, "RUN": tmp_path / "run"}.get(word, word) for word in words]
    for code in ("SignatureDoesNotMatch", "ValidationException", "AccessDeniedException", "StrangeException"):
        status, headers, body = refused(code, QUOTED)
        _, _, xml = refused_in_xml(code, QUOTED)
        aws.wrong["*"] = [(status, headers, xml if words[0] == "train" else body)]
        found, text = told(sightline, *given)
        assert found in (1, 2), text
        assert "Traceback" not in text
