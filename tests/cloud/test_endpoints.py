"""Endpoints: deployed, asked, updated and taken away; moto for what it keeps, botocore's Stubber for what it only fakes."""

import hashlib
import io
import json
import logging
import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from sightline import wire
from sightline.cli import cloud as command
from sightline.cli import cloud_endpoints
from sightline.cli.main import main
from sightline.cloud import deletion, deploys, endpoints, hosting, policies
from sightline.cloud.account import Account
from sightline.cloud.endpoints import Asker, Facts
from sightline.cloud.logs import Line
from sightline.cloud.requests import Surroundings
from sightline.errors import RequestError, RunError, SightlineError
from sightline.records import Detections, ImageSize

from .conftest import IMAGE, ROLE, Pauses, asked_for, keys
from .test_logs import Logs

NAMES = ("cat", "dog")
FOUND = Detections(
    ImageSize(24, 32),
    np.array([[1.5, 2.0, 10.0, 12.25]], np.float32),
    np.array([0.75], np.float32),
    np.array([1], np.int64),
)
PICTURE = np.full((24, 32, 3), 127, np.uint8)
ANSWER = json.dumps(wire.to_json(FOUND, NAMES)).encode()
NOISE = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
"""36,000 bytes of pixels that no lossless format makes smaller."""


def told(body: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": wire.JSON}


def asked_of(content_type: str = "image/png", body: object = ANY) -> dict[str, Any]:
    fixed = {"EndpointName": "parts", "Accept": "application/json", "CustomAttributes": "threshold=0"}
    return {**fixed, "ContentType": content_type, "Body": body}


def asker(account: Account, **facts: Any) -> Asker:
    return Asker(account, "parts", Facts(**{"serverless": False, "inputs": "", "model": {}, **facts}), sleep=Pauses())


@contextmanager
def runtime(account: Account) -> Iterator[Stubber]:
    with Stubber(account.client("sagemaker-runtime")) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_the_same_detections_as_here(empty: Account) -> None:
    with runtime(empty) as stub:
        stub.add_response("invoke_endpoint", told(ANSWER), asked_of(body=wire.as_png(PICTURE)))
        (found,) = asker(empty).predict([PICTURE])
    np.testing.assert_array_equal(found.boxes, FOUND.boxes)
    np.testing.assert_array_equal(found.scores, FOUND.scores)
    assert found.size == FOUND.size


def test_an_answer_about_another_picture(empty: Account) -> None:
    with runtime(empty) as stub:
        stub.add_response("invoke_endpoint", told(ANSWER), asked_of())
        with pytest.raises(RequestError, match=r"answered for a picture of 32 x 24 px .* when sent one of 8 x 8 px"):
            asker(empty).predict([PICTURE[:8, :8]])


def test_a_model_that_is_not_ready_is_asked_again(empty: Account) -> None:
    one = asker(empty)
    with runtime(empty) as stub:
        stub.add_client_error("invoke_endpoint", "ModelNotReadyException", "loading", 429)
        stub.add_client_error("invoke_endpoint", "ModelNotReadyException", "loading", 429)
        stub.add_response("invoke_endpoint", told(ANSWER), asked_of())
        assert len(one.predict([PICTURE])) == 1
    assert getattr(one.sleep, "slept") == [2.0, 4.0]  # noqa: B009


@pytest.mark.parametrize(
    ("status", "message", "kind", "expected"),
    [
        (
            413,
            '{"error": {"where": "body", "what": "is large", "fix": "Shrink it."}}',
            RequestError,
            r"^body: is large\. Shrink",
        ),
        (500, "Traceback", RunError, r"the model answered 500: 'Traceback'\. See the endpoint's log: arn:log"),
    ],
)
def test_the_models_own_refusal(empty: Account, status: int, message: str, kind: type[Exception], expected: str) -> None:
    meta = {"OriginalStatusCode": status, "OriginalMessage": message, "LogStreamArn": "arn:log"}
    with runtime(empty) as stub:
        stub.add_client_error("invoke_endpoint", "ModelError", "model", 424, modeled_fields=meta)
        with pytest.raises(kind, match=expected):
            asker(empty).predict([PICTURE])


def test_a_picture_beyond_the_limit_goes_with_loss_and_that_is_said(
    empty: Account, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "SERVERLESS_BYTES", 20_000)
    serverless = asker(empty, serverless=True)
    with caplog.at_level(logging.WARNING):
        content_type, body = serverless.body(NOISE)
        serverless.body(NOISE)
    assert content_type == "image/webp"
    assert len(body) <= endpoints.SERVERLESS_BYTES < NOISE.size
    assert len(caplog.records) == 1
    assert "takes 20,000 bytes" in caplog.text
    assert asker(empty).body(NOISE) == ("image/png", wire.as_png(NOISE))


def test_limits() -> None:
    assert Facts(True, "", {}).max_bytes == 4 * 2**20
    assert Facts(False, "", {}).max_bytes == 6 * 2**20
    assert Facts(False, "s3://b/i/", {}).max_bytes == 2**30


def test_a_picture_that_is_too_large_in_every_form(empty: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "SERVERLESS_BYTES", 1000)
    with pytest.raises(RequestError, match=r"takes 1,000 bytes, and a picture of 120 x 100 px has .* deploy with --async"):
        asker(empty, serverless=True).body(NOISE)


def test_an_asynchronous_endpoint(empty: Account) -> None:
    s3 = empty.client("s3")
    s3.create_bucket(Bucket="parts")
    place = {"OutputLocation": "s3://parts/outputs/1.out", "FailureLocation": "s3://parts/failures/1.out"}
    wanted = {**asked_of(), "InputLocation": ANY}
    wanted.pop("Body")
    one = asker(empty, inputs="s3://parts/inputs/")

    def answered(seconds: float) -> None:
        s3.put_object(Bucket="parts", Key="outputs/1.out", Body=ANSWER)

    one.sleep = answered
    with runtime(empty) as stub:
        stub.add_response("invoke_endpoint_async", {"InferenceId": "1", **place}, wanted)
        (found,) = one.predict([PICTURE])
        assert found.size == FOUND.size
        s3.delete_object(Bucket="parts", Key="outputs/1.out")
        s3.put_object(Bucket="parts", Key="failures/1.out", Body=b"out of memory")
        stub.add_response("invoke_endpoint_async", {"InferenceId": "1", **place}, wanted)
        with pytest.raises(RunError, match="the model failed: 'out of memory'"):
            one.predict([PICTURE])
    assert any(key.startswith("inputs/") for key in keys(empty, "parts"))


FACTS = {"class_names": list(NAMES), "thresholds": [0.25, 0.5], "proposes": False, "facts": {"scores": {"bbox/AP": 0.5}}}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"weights")
    return path


def asked(archive: Path | str, **given: Any) -> deploys.Asked:
    machine = {} if "serverless_mb" in given else {"instance_type": "ml.m5.xlarge"}
    return deploys.Asked(**{"archive": str(archive), "name": "parts", "facts": FACTS, **machine, **given})


def quiet(text: str) -> None:
    pass


def deployed(account: Account, wish: deploys.Asked) -> deploys.Plan:
    plan = deploys.plan_deploy(account, wish, os.environ, quiet)
    deploys.carry_out(account, plan, quiet)
    return plan


def test_a_deploy_and_the_model_behind_its_name(account: Account, archive: Path) -> None:
    plan = deployed(account, asked(archive, scale=(1, 4)))
    assert [call.operation for call in plan.calls] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert [call.operation for call in plan.scaling] == ["RegisterScalableTarget", "PutScalingPolicy"]
    model = plan.calls[0].request
    assert (model["ExecutionRoleArn"], model["PrimaryContainer"]["Image"]) == (
        ROLE,
        IMAGE.replace("train", "serve") + ":0.1.0",
    )
    names = [key.rpartition("/")[2] for key in keys(account, account.default_bucket)]
    assert names == ["model.json", "model.tar.gz"]
    opened = endpoints.connect(account, "sagemaker://parts")
    assert (opened.class_names, opened.thresholds, opened.facts) == (NAMES, (0.25, 0.5), FACTS["facts"])
    assert opened.origin == "sagemaker://parts"


def test_the_same_again_makes_nothing(account: Account, archive: Path) -> None:
    deployed(account, asked(archive))
    again = deployed(account, asked(archive))
    assert (again.change, again.calls, again.uploads) == (False, (), {})
    archive.write_bytes(b"other weights")
    other = deploys.plan_deploy(account, asked(archive), os.environ, quiet)
    assert [call.operation for call in other.calls] == [
        "CreateModel", "CreateEndpointConfig", "PutMetricAlarm", "PutMetricAlarm", "UpdateEndpoint",
    ]  # fmt: skip
    heeded = other.calls[-1].request["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert heeded == [{"AlarmName": "sightline-parts-errors"}, {"AlarmName": "sightline-parts-latency"}]


def test_an_update_of_an_endpoint_that_scales(account: Account, archive: Path) -> None:
    """It keeps the machines that autoscaling has found; other machines need the scaling ended first, or AWS refuses them."""
    first = deployed(account, asked(archive, scale=(1, 4)))
    account.client("application-autoscaling").register_scalable_target(**first.scaling[0].request)
    archive.write_bytes(b"other weights")
    update = deploys.plan_deploy(account, asked(archive), os.environ, quiet)
    assert [call.operation for call in update.calls][-2:] == ["PutMetricAlarm", "UpdateEndpoint"]
    assert update.calls[-1].request["RetainAllVariantProperties"] is True
    assert update.calls[-1].request["ExcludeRetainedVariantProperties"] == [{"VariantPropertyType": "DesiredWeight"}]
    assert "parts goes on scaling as it was asked for before: --scale is not given" in update.warnings
    larger = replace(asked(archive, scale=(1, 4)), instance_type="ml.c5.xlarge")
    update = deploys.plan_deploy(account, larger, os.environ, quiet)
    assert [call.operation for call in update.calls][2:] == [
        "DeregisterScalableTarget", "PutMetricAlarm", "PutMetricAlarm", "UpdateEndpoint",
    ]  # fmt: skip
    assert update.calls[2].request["ResourceId"] == "endpoint/parts/variant/AllTraffic"
    assert "RetainAllVariantProperties" not in update.calls[-1].request
    assert [call.operation for call in update.scaling] == ["RegisterScalableTarget", "PutScalingPolicy"]
    assert update.warnings == ()
    update = deploys.plan_deploy(account, replace(larger, scale=None), os.environ, quiet)
    assert update.warnings == ("parts does not scale any more on its other machines: --scale is not given",)
    account.client("sagemaker").delete_endpoint(EndpointName="parts")  # by somebody else, who forgot the rest
    assert deletion.Part("scaling", "endpoint/parts/variant/AllTraffic") in deletion.parts_of(account, "parts")


def test_an_asynchronous_endpoint_comes_up_from_nothing_and_nothing_is_left(account: Account, archive: Path) -> None:
    """By what waits for each machine; a step policy and its alarm bring the first machine back."""
    plan = deployed(account, asked(archive, later=True, scale=(0, 2), max_latency_s=2.5))
    deploys.let_scale(account, plan)
    policies_ = account.client("application-autoscaling").describe_scaling_policies(ServiceNamespace="sagemaker")
    steps = {one["PolicyType"]: one for one in policies_["ScalingPolicies"]}
    tracked = steps["TargetTrackingScaling"]["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    assert tracked["MetricName"] == "ApproximateBacklogSizePerInstance"
    (alarm,) = account.client("cloudwatch").describe_alarms(AlarmNames=["sightline-parts-waking"])["MetricAlarms"]
    assert (alarm["MetricName"], alarm["AlarmActions"]) == ("HasBacklogWithoutCapacity", [steps["StepScaling"]["PolicyARN"]])

    archive.write_bytes(b"other weights")
    update = deploys.plan_deploy(account, asked(archive, later=True, scale=(0, 2), max_latency_s=2.5), os.environ, quiet)
    assert update.calls[-2].request["Threshold"] == 2.5e6
    assert update.calls[-1].request["RetainAllVariantProperties"] is True
    now = endpoints.describe(account, "parts")
    assert now is not None
    asleep = {**now, "ProductionVariants": [{**now["ProductionVariants"][0], "DesiredInstanceCount": 0}]}
    config = {
        "EndpointConfigName": "c-2",
        "ProductionVariants": [{"VariantName": "AllTraffic", "InstanceType": "ml.m5.xlarge"}],
    }
    calls, _ = deploys.update_calls(account, asked(archive, later=True, scale=(0, 2)), asleep, config, Surroundings(ROLE))
    assert "RetainAllVariantProperties" not in calls[-1].request  # none would be nobody's proof

    for call in calls[:-1]:
        account.client("cloudwatch").put_metric_alarm(**call.request)
    parts = deletion.parts_of(account, "parts")
    names = ["sightline-parts-errors", "sightline-parts-latency", "sightline-parts-waking"]
    assert sorted(part.name for part in parts if part.kind == "alarm") == names
    deletion.take_away(account, parts, quiet)
    assert deletion.parts_of(account, "parts") == []


def test_an_update_that_was_cut_off_goes_on(account: Account, archive: Path) -> None:
    deployed(account, asked(archive))
    archive.write_bytes(b"other weights")
    plan = deploys.plan_deploy(account, asked(archive), os.environ, quiet)
    for _ in range(2):  # cut off before the update, and done again: model and configuration are there already
        with Stubber(account.client("cloudwatch")) as stub:
            stub.add_client_error("put_metric_alarm", "InternalFailure", "later", 500)
            with pytest.raises(RunError, match="InternalFailure again and again"):
                deploys.carry_out(account, plan, quiet)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"serverless_mb": 5000}, "has 5000 MB of memory"),
        ({"serverless_mb": 2048, "scale": (1, 2)}, "--scale: serverless endpoints scale by themselves"),
        ({"scale": (4, 2)}, "more than the 2 of MaxCapacity"),
        ({"scale": (0, 2)}, r"--scale: is from 0, and only asynchronous .* Begin with 1, or add --async"),
        ({"max_latency_s": 61}, r"--max-latency: is 61 s\. Give more than 0, and at most the 60 s"),
        ({"name": "two words"}, "EndpointName: is 'two words'"),
        ({"capture": 101}, "Give at most 100"),
        ({"serverless_mb": 2048, "later": True}, "a serverless endpoint never answers later"),
        ({"serverless_mb": 2048, "subnets": ("subnet-1",), "security_groups": ("sg-1",)}, "--subnets: are of a VPC"),
        ({"serverless_mb": 2048, "kms_key": "alias/parts"}, r"\(--kms-key\): a serverless endpoint never encrypts disks"),
        ({"instance_type": "ml.g5.xlarge", "kms_key": "alias/parts"}, r"\(--kms-key\): ml.g5.xlarge has disks of its own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_asked_wrongly_makes_nothing(account: Account, archive: Path, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(SightlineError, match=expected):
        deployed(account, asked(archive, **given))
    assert account.client("sagemaker").list_models()["Models"] == []
    assert account.client("s3").list_buckets()["Buckets"] == []


STATE = {"EndpointName": "parts", "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/parts"}


def state(status: str, config: str = "c-2", **more: Any) -> dict[str, Any]:
    return {**STATE, "EndpointConfigName": config, "EndpointStatus": status, **more}


class SageMaker:
    """describe_endpoint's answers, one after the other; the last one again and again."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:  # noqa: N803
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def wait(*answers: dict[str, Any], lines: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """(what was said, the log's lines) while waiting for the configuration c-2."""
    clients = {"sagemaker": SageMaker(*answers), "logs": Logs({"AllTraffic/i-1": list(lines)} if lines else {})}
    said: list[str] = []
    shown: list[str] = []

    def show(line: Line) -> None:
        shown.append(line.text)

    account = Account("1", "us-east-1", "aws", "arn", clients.__getitem__)
    deploys.wait_in_service(account, "parts", "c-2", said.append, show, sleep=Pauses())
    return said, shown


def test_waiting_for_an_endpoint() -> None:
    said, shown = wait(state("Creating"), state("Creating"), state("InService"), lines=("loading", "ready"))
    assert said == ["parts: Creating", "parts: InService"]
    assert shown == ["loading", "ready"]


def test_an_endpoint_that_fails_says_why() -> None:
    failed = state("Failed", FailureReason="The primary container did not pass the ping health check.")
    with pytest.raises(RunError, match=r"Failed: .*health check.* Its log is above.* sightline cloud delete parts"):
        wait(state("Creating"), failed, lines=("error: no space",))
    with pytest.raises(RunError, match=r"wrote no log: it does not start\. Check that the role may pull .* CUDA \(--cuda\)"):
        wait(state("Creating"), failed)


def test_an_endpoint_that_is_stuck_or_rolled_back() -> None:
    with pytest.raises(RunError, match=r"is still Creating after 30 minutes\. Its container wrote no log"):
        wait(state("Creating"))
    with pytest.raises(RunError, match=r"went back to what it was \(an alarm for errors or slow answers rang\)"):
        wait(state("Updating"), state("RollingBack"), state("InService", "c-1"))


@pytest.mark.parametrize(
    ("status", "expected"), [("Updating", "Wait until it is in service"), ("Failed", "sightline cloud delete")]
)
def test_an_endpoint_that_cannot_be_changed_now(status: str, expected: str) -> None:
    with pytest.raises(RunError, match=expected):
        deploys.require_changeable("parts", state(status))


def test_all_that_a_deploy_made_is_found_and_nothing_else(account: Account, archive: Path) -> None:
    deployed(account, asked(archive))
    other = asked(archive, name="parts-2")  # its names begin with those of `parts`
    deployed(account, other)
    parts = deletion.parts_of(account, "parts")
    assert [part.kind for part in parts] == ["endpoint", "endpoint-config", "s3", "s3", "model"]
    deletion.take_away(account, parts, quiet)
    deletion.take_away(account, parts, quiet)  # gone already
    assert deletion.parts_of(account, "parts") == []
    assert len(deletion.parts_of(account, "parts-2")) == 5


def test_delete_lists_first(
    account: Account, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(account, asked(archive))
    captured = "sightline/endpoints/parts/captured/"
    account.client("s3").put_object(Bucket=account.default_bucket, Key=f"{captured}AllTraffic/1.jsonl", Body=b"{}")
    monkeypatch.setattr(command, "open_account", lambda: account)
    for words, gone in ((["--dry-run"], False), (["--yes"], True)):
        monkeypatch.setattr(sys, "argv", ["sightline", "cloud", "delete", "parts", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        printed = capsys.readouterr()
        assert "  endpoint parts\n" in printed.err
        assert f"  stays, and costs its storage: s3://{account.default_bucket}/{captured}\n" in printed.err
        assert printed.err.count("stays, and costs") == 2
        assert ("deleted endpoint parts" in printed.err) is gone
        assert (endpoints.describe(account, "parts") is None) is gone


def test_no_such_endpoint(account: Account) -> None:
    with pytest.raises(SightlineError, match=r"^sagemaker://nothing: is no endpoint of account 123456789012 in us-east-1"):
        endpoints.connect(account, "nothing")


def test_an_archive_that_a_job_left_stays_where_it_is(account: Account) -> None:
    plan = deployed(account, asked("s3://theirs/jobs/parts-1/output/model.tar.gz"))
    assert plan.calls[0].request["PrimaryContainer"]["ModelDataUrl"] == "s3://theirs/jobs/parts-1/output/model.tar.gz"
    assert [key.rpartition("/")[2] for key in keys(account, account.default_bucket)] == ["model.json"]
    assert endpoints.connect(account, "parts").class_names == NAMES


def test_an_endpoint_of_somebody_elses_model(account: Account) -> None:
    client = account.client("sagemaker")
    container = {"Image": IMAGE, "ModelDataUrl": "s3://theirs/model.tar.gz"}
    client.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="parts", EndpointConfigName="c")
    with pytest.raises(SightlineError, match=r"does not tell the names of its classes\. Give --class-names"):
        endpoints.connect(account, "parts")
    assert endpoints.connect(account, "parts", ["a", "b"]).class_names == ("a", "b")


def test_an_unpacked_bundle_gives_the_same_archive_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    files = {"model.pth": b"weights", "config.yaml": b"MODEL: {}\n"}
    manifest = {"format": 1, "class_names": list(NAMES), "files": {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}}
    for name, content in {**files, "bundle.json": json.dumps(manifest).encode(), "log.txt": b"not a part"}.items():
        (folder / name).write_bytes(content)
    seen = []
    for _ in range(2):
        with cloud_endpoints.archive_of(str(folder), None) as (archive, facts):
            assert facts == {"class_names": list(NAMES), "thresholds": None, "proposes": False, "facts": {}}
            with tarfile.open(archive) as opened:
                assert set(opened.getnames()) == {*files, "bundle.json"}
            seen.append(Path(archive).read_bytes())
    assert seen[0] == seen[1]
    (folder / "model.pth").write_bytes(b"damaged")
    with pytest.raises(SightlineError, match=r"model\.pth"), cloud_endpoints.archive_of(str(folder), None):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"instance_type": "ml.c5.xlarge", "count": 2},
            "cost: 2 x ml.c5.xlarge, 0.41 USD an hour (as of ",
        ),
        ({"instance_type": "ml.unheard.xlarge"}, "cost: 1 x ml.unheard.xlarge, whose price is not known here"),
        ({"serverless_mb": 2048}, "cost: serverless"),
    ],
)
def test_a_deploy_tells_its_price(archive: Path, given: dict[str, Any], expected: str) -> None:
    assert cloud_endpoints.price_line(asked(archive, **given), "us-east-1").startswith(expected)


def test_a_deploy_asked_wrongly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["--instance-type", "ml.m5.xlarge", "--serverless", "2048"], "needs machines or --serverless, one of both"),
        ([], "needs machines or --serverless, one of both"),
        (["--instance-type", "ml.g5.xlarge", "--cuda", "12"], "--cuda: is '12'"),
    ):
        monkeypatch.setattr(sys, "argv", ["sightline", "cloud", "deploy", "run", "--name", "parts", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert expected in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_before_aws_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    other, new = tmp_path / "other.tar.gz", tmp_path / "new"
    words = [str(other), "--name", "parts", "--instance-type", "ml.g5.xlarge", "--variant", f"new={new}"]
    monkeypatch.setattr(sys, "argv", ["sightline", "cloud", "deploy", *words])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert f"{other}: does not exist" in told and f"{new}: does not exist" in told
    assert "AWS" not in told


@pytest.mark.parametrize("action", policies.POLICIES)
def test_policies_are_narrow(action: str) -> None:
    scope = policies.Scope("123456789012", "us-east-1", "parts", ROLE)
    document = policies.policy(action, scope)
    assert not any("*" in allowed for allowed in policies.actions_of(document))
    assert all(statement["Resource"] for statement in document["Statement"])
    assert len(json.dumps(document, separators=(",", ":"))) < 6144  # of a managed policy
    with pytest.raises(SightlineError, match="Did you mean 'train'"):
        policies.policy("trian", scope)


def test_the_policy_of_asking_has_all_that_it_asks(account: Account, archive: Path) -> None:
    deployed(account, asked(archive))
    with asked_for(account) as found:
        endpoints.connect(account, "parts")
    assert "sagemaker:DescribeModel" in found
    assert found <= policies.actions_of(policies.policy("invoke", policies.Scope()))


def test_the_policy_of_deploying_has_all_that_it_asks(account: Account, archive: Path) -> None:
    with asked_for(account) as found:
        deployed(account, asked(archive))
        deploys.plan_deploy(account, asked(archive, count=2), os.environ, quiet)
    assert {"sagemaker:CreateEndpoint", "application-autoscaling:DescribeScalableTargets"} <= found
    assert found <= policies.actions_of(policies.policy("deploy", policies.Scope()))


def variant(path: Path, name: str = "new", **given: Any) -> deploys.Beside:
    path.write_bytes(f"weights of {name}".encode())
    return deploys.Beside(name, str(path), given.pop("facts", FACTS), **given)


def test_two_models_share_the_requests(account: Account, archive: Path, tmp_path: Path) -> None:
    new = variant(tmp_path / "new.tar.gz", weight=0.25, instance_type="ml.c5.xlarge")
    plan = deployed(account, asked(archive, beside=(new,), scale=(1, 2)))
    names = ["CreateModel", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert [call.operation for call in plan.calls] == names
    first, second = plan.calls[2].request["ProductionVariants"]
    assert (first["VariantName"], first["InitialVariantWeight"], first["InstanceType"]) == ("AllTraffic", 1.0, "ml.m5.xlarge")
    assert (second["VariantName"], second["InitialVariantWeight"], second["InstanceType"]) == ("new", 0.25, "ml.c5.xlarge")
    assert [first["ModelName"], second["ModelName"]] == [call.request["ModelName"] for call in plan.calls[:2]]
    assert len({call.request["ResourceId"] for call in plan.scaling}) == 2
    assert not deployed(account, asked(archive, beside=(new,))).change

    assert deploys.reweighed(account, "parts", {"AllTraffic": 0, "new": 1}) == {"AllTraffic": 1.0, "new": 0.25}
    now = endpoints.describe(account, "parts")
    assert now is not None
    assert {one["VariantName"]: one["DesiredWeight"] for one in now["ProductionVariants"]} == {"AllTraffic": 0.0, "new": 1.0}

    again = deploys.plan_deploy(account, asked(archive, beside=(new,)), os.environ, quiet)
    (warning,) = again.warnings
    assert (again.change, "other weights now, which stay (AllTraffic 0, new 1)" in warning) == (False, True)
    assert warning.endswith("sightline cloud weights parts AllTraffic=1 new=0.25")

    other = deploys.plan_deploy(account, asked(archive, beside=(replace(new, weight=1.0),)), os.environ, quiet)
    assert [call.operation for call in other.calls][-5:] == [*["PutMetricAlarm"] * 4, "UpdateEndpoint"]
    alarms = other.calls[-1].request["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [alarm["AlarmName"] for alarm in alarms] == [
        f"sightline-{one}" for one in ("parts-errors", "parts-latency", "parts_new-errors", "parts_new-latency")
    ]
    for call in other.calls[-5:-1]:
        account.client("cloudwatch").put_metric_alarm(**call.request)
    account.client("cloudwatch").put_metric_alarm(
        **hosting.alarm_request("parts-new", Surroundings(ROLE))  # of another endpoint, and of the same beginning
    )
    for call in plan.scaling:
        if call.operation == "RegisterScalableTarget":
            account.client("application-autoscaling").register_scalable_target(**call.request)
    parts = deletion.parts_of(account, "parts")
    kinds = ["scaling"] * 2 + ["endpoint"] + ["alarm"] * 4 + ["endpoint-config"] + ["s3"] * 4 + ["model"] * 2
    assert [part.kind for part in parts] == kinds
    deletion.take_away(account, parts, quiet)
    assert deletion.parts_of(account, "parts") == []
    assert [part.kind for part in deletion.parts_of(account, "parts-new")] == ["alarm"]


def test_variants_that_cannot_be(account: Account, archive: Path, tmp_path: Path) -> None:
    other = variant(tmp_path / "new.tar.gz", facts={"class_names": ["dog", "cat"]})
    with pytest.raises(SightlineError, match=r"^--variant new: names the classes dog, cat, and the first model cat, dog\."):
        deployed(account, asked(archive, beside=(other,)))
    same = variant(tmp_path / "new.tar.gz", "AllTraffic")
    with pytest.raises(SightlineError, match="Give every variant its own name"):
        deployed(account, asked(archive, beside=(same,)))
    with pytest.raises(SightlineError, match="a serverless endpoint has one model"):
        deployed(account, asked(archive, beside=(variant(tmp_path / "new.tar.gz"),), serverless_mb=2048))
    deployed(account, asked(archive))
    for weights, expected in (({"nwe": 1}, "has no variant 'nwe'"), ({"AllTraffic": 0}, "would have no variant with a weight")):
        with pytest.raises(SightlineError, match=expected):
            deploys.reweighed(account, "parts", weights)
    with pytest.raises(SightlineError, match=r"^sagemaker://parts: has no variant 'new'"):
        endpoints.connect(account, "sagemaker://parts/new")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("new=run-b/", ("new", "run-b/", 1.0, "")),
        ("new=run-b/@0.1", ("new", "run-b/", 0.1, "")),
        ("new=s3://b/job@2/model.tar.gz@3@ml.g5.xlarge", ("new", "s3://b/job@2/model.tar.gz", 3.0, "ml.g5.xlarge")),
        ("new=run-b/@ml.g5.xlarge", ("new", "run-b/", 1.0, "ml.g5.xlarge")),
    ],
)
def test_variants_in_words(word: str, expected: tuple[str, str, float, str]) -> None:
    assert cloud_endpoints.variant_of(word) == expected
    with pytest.raises(SightlineError, match="Give NAME=MODEL"):
        cloud_endpoints.variant_of(expected[1])


def test_one_variant_is_asked(account: Account, archive: Path, tmp_path: Path) -> None:
    deployed(account, asked(archive, beside=(variant(tmp_path / "new.tar.gz"),)))
    model = endpoints.connect(account, "sagemaker://parts/new")
    assert model.origin == "sagemaker://parts/new"
    with runtime(account) as stub:
        stub.add_response("invoke_endpoint", told(ANSWER), {**asked_of(), "TargetVariant": "new"})
        assert len(model.predict([PICTURE])) == 1


def test_archives_in_a_bucket_of_ones_own_are_found(account: Account, archive: Path) -> None:
    account.client("s3").create_bucket(Bucket="my-sagemaker-models")
    account.client("s3").put_object(Bucket="my-sagemaker-models", Key="mine.txt", Body=b"stays")
    deployed(account, asked(archive, bucket="my-sagemaker-models"))
    assert len(keys(account, "my-sagemaker-models")) == 3
    deletion.take_away(account, deletion.parts_of(account, "parts"), quiet)
    assert keys(account, "my-sagemaker-models") == ["mine.txt"]
