"""A batch transform and an endpoint from the command line, the container's side being a real server on loopback."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from sightline import wire
from sightline.cloud import policies, transforms
from sightline.cloud.account import Account
from sightline.errors import RunError
from sightline.records import Detections, Image, ImageSize, Model
from sightline.s3.address import Address
from sightline.serving.server import running

from . import platform
from .conftest import IMAGE, ROLE, Pauses, Run, asked_for, keys

NAMES = ("cat", "dog")


def predict(images: Sequence[Image]) -> list[Detections]:
    """One detection, whose score is the picture's shade."""
    return [
        Detections(
            ImageSize(*image.shape[:2]),
            np.float32([[1, 2, 10, 12]]),
            np.array([image[0, 0, 0] / 255], np.float32),
            np.array([1], np.int64),
        )
        for image in images
    ]


def picture(shade: int) -> bytes:
    return wire.as_png(np.full((24, 32, 3), shade, np.uint8))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running(Model(predict, NAMES, "fake")) as address:
        yield address


@pytest.fixture
def pictures(account: Account) -> dict[str, bytes]:
    """Below s3://theirs/in/: pictures in folders, of one name twice, one that is none, and labels that are not sent."""
    objects = {"a.png": picture(100), "more/a.png": picture(200), "more/b c.png": picture(50), "bad.png": b"no picture"}
    s3 = account.client("s3")
    s3.create_bucket(Bucket="theirs")
    for key, body in {**objects, "labels.json": b"{}"}.items():
        s3.put_object(Bucket="theirs", Key=f"in/{key}", Body=body)
    return objects


def play(monkeypatch: pytest.MonkeyPatch, server: str, kept: str = "") -> None:
    """The platform does its work before somebody looks at the job for the first time."""
    real = transforms.follow

    def follow(account: Account, name: str, *rest: Any, **more: Any) -> transforms.Transform:
        platform.transform(account, name, server, kept)
        return real(account, name, *rest, **more)

    monkeypatch.setattr(transforms, "follow", follow)


@pytest.mark.parametrize("kept", ["", "in/"], ids=["below the prefix", "with the prefix"])
def test_a_prefix_through_a_model_of_its_own(
    sightline: Run, account: Account, pictures: dict[str, bytes], bundle: Path, server: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, kept: str,
) -> None:  # fmt: skip
    play(monkeypatch, server, kept)
    code, _, err = sightline(
        "transform", bundle, "s3://theirs/in", "-o", tmp_path / "found.jsonl", "--env", "SAGEMAKER_TS_BATCH_SIZE=4"
    )
    assert code == 1, err  # one picture is none
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {line["image"].removeprefix("s3://theirs/in/"): line for line in lines}
    assert set(found) == set(pictures)
    for key, shade in {"a.png": 100, "more/a.png": 200, "more/b c.png": 50}.items():
        detections, _ = wire.from_json(found[key], key)
        np.testing.assert_allclose(detections.scores, [shade / 255], rtol=1e-3)
    assert found["bad.png"]["error"]["what"] == "Bad HTTP status 400"
    assert "failed: s3://theirs/in/bad.png: Bad HTTP status 400" in err
    assert "1 of 4 pictures have no answer" in err
    assert "cost: " in err
    client = account.client("sagemaker")
    assert client.list_models()["Models"] == []
    assert not any(key.endswith(".tar.gz") for key in keys(account, account.default_bucket))
    (job,) = client.list_transform_jobs()["TransformJobSummaries"]
    told = client.describe_transform_job(TransformJobName=job["TransformJobName"])
    assert told["Environment"] == {"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "600", "SAGEMAKER_TS_BATCH_SIZE": "4"}
    # later, and again: the answers are still there
    code, _, err = sightline("fetch", job["TransformJobName"], "-o", tmp_path / "again.jsonl")
    assert code == 1
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "found.jsonl").read_bytes()
    assert json.loads(sightline("status", job["TransformJobName"], "--json")[1])["status"] == "Completed"
    assert "[sagemaker logs]: theirs/in/bad.png: Bad HTTP status 400" in sightline("logs", job["TransformJobName"])[1]


def test_a_refused_job_leaves_no_model(
    sightline: Run, account: Account, pictures: dict[str, bytes], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "Error": {"Code": "ResourceLimitExceeded", "Message": "limit 'ml.g4dn.xlarge for transform job usage' is 0 Instances"}
    }

    def refused(**_: object) -> None:
        assert len(account.client("sagemaker").list_models()["Models"]) == 1
        raise ClientError(told, "CreateTransformJob")  # type: ignore[arg-type]

    monkeypatch.setattr(account.client("sagemaker"), "create_transform_job", refused)
    code, _, err = sightline("transform", bundle, "s3://theirs/in")
    assert code == 2
    assert "the quota 'ml.g4dn.xlarge for transform job usage' is 0" in err
    assert account.client("sagemaker").list_models()["Models"] == []
    assert not any(key.endswith(".tar.gz") for key in keys(account, account.default_bucket))


def test_a_model_that_is_there_stays(
    sightline: Run, account: Account, pictures: dict[str, bytes], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.client("s3").delete_object(Bucket="theirs", Key="in/bad.png")
    client = account.client("sagemaker")
    container = {"Image": IMAGE, "ModelDataUrl": "s3://theirs/model.tar.gz"}
    client.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    play(monkeypatch, server)
    code, out, err = sightline("transform", "--model-name", "m", "s3://theirs/in/")
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert [model["ModelName"] for model in client.list_models()["Models"]] == ["m"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["s3://theirs/in/"], "Give MODEL PICTURES, or --model-name NAME PICTURES."),
        (["--model-name", "m", "run/", "s3://theirs/in/"], "Give PICTURES alone with --model-name."),
        (["run/", "pictures/"], "pictures/ is not on S3, from where batch transform reads"),
        (["--model-name", "m", "s3://theirs/nothing/"], "s3://theirs/nothing/: holds no pictures"),
        (["--model-name", "m", "s3://theirs/in/", "--max-payload", "101"], "MaxPayloadInMB: is 101. Give at most 100."),
        (["--model-name", "m", "s3://theirs/in/", "--max-payload", "40", "--concurrent", "3"], "40 x 3 = 120 MB"),
        (
            ["--model-name", "m", "s3://theirs/in/", "--cuda", "13.0"],
            "--cuda: is 13.0, which needs driver 580, and batch transform has at most 535",
        ),
        (["--model-name", "m", "s3://theirs/in/", "--env", "X"], "--env: is 'X'. Give NAME=VALUE."),
        (["sagemaker://none", "s3://theirs/in/"], "sagemaker://none: is no endpoint of account 123456789012"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_asked_wrongly_makes_nothing(
    sightline: Run, account: Account, pictures: dict[str, bytes], words: list[str], told: str
) -> None:
    code, _, err = sightline("transform", *words)
    assert code == 2
    assert told in err
    assert account.client("sagemaker").list_transform_jobs()["TransformJobSummaries"] == []
    assert [bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]] == ["theirs"]


def test_answers_find_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    job = transforms.Transform("t", "Completed", "", "m", 60, "ml.g4dn.xlarge", 2, "s3://b/t/pictures.json", "s3://b/out/")
    names = ["a.png", "in/a.png", "in/in/a.png"]
    for kept in ("", "in/", "sets/in/", "theirs/sets/in/"):
        there = [Address("b", f"out/{kept}{name}.out") for name in names]
        monkeypatch.setattr(transforms, "answers_below", lambda _, there=there: iter(there))
        assert transforms.joined(job, Address("theirs", "sets/in/"), names) == dict(zip(names, there, strict=True))
    monkeypatch.setattr(transforms, "answers_below", lambda _: iter([Address("b", "out/other.png.out")]))
    assert transforms.joined(job, Address("theirs", "sets/in/"), names) == {}
    assert job.cost(3.6).usd == pytest.approx(2 * 60 * 0.001)
    with pytest.raises(RunError, match=r"^t: completed: 1 of 3 pictures have no answer\. See its log: sightline cloud logs t"):
        transforms.require_answers(job, 1, 3)


def test_the_policy_of_a_transform_has_all_that_it_asks(
    sightline: Run, account: Account, pictures: dict[str, bytes], bundle: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, server)
    with asked_for(account) as found:
        sightline("transform", bundle, "s3://theirs/in")
    found -= {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}  # the platform's own
    assert found >= {"sagemaker:CreateTransformJob", "sagemaker:DeleteModel", "s3:DeleteObject"}
    assert found <= policies.actions_of(policies.policy("transform", policies.Scope()))


def test_deployed_asked_and_taken_away_from_the_command_line(
    sightline: Run, account: Account, bundle: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container's side is the real server, so what comes back is what `sightline predict` of the model would give."""
    code, out, err = sightline("deploy", bundle, "--name", "parts", "--instance-type", "ml.m5.xlarge", "--json")
    assert code == 0, err
    assert json.loads(out) == {"endpoint": "parts", "model": "sagemaker://parts", "changed": True}
    for name, shade in (("a.png", 100), ("b.png", 200)):
        (tmp_path / name).write_bytes(picture(shade))
    with platform.runtime_before(server) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", address)
        code, out, err = sightline("invoke", "parts", tmp_path / "a.png", tmp_path / "b.png", "--draw", tmp_path / "drawn")
        assert code == 0, err
        lines = [json.loads(line) for line in out.splitlines()]
        scores = [wire.from_json(line, "line")[0].scores[0] for line in lines]
        np.testing.assert_allclose(scores, [100 / 255, 200 / 255], rtol=1e-3)
        assert [Path(line["image"]).name for line in lines] == ["a.png", "b.png"]
        assert len(list((tmp_path / "drawn").iterdir())) == 2
        words = ["--images", tmp_path / "a.png", "--samples", "3", "--seconds", "0.1", "--clients", "1", "--json"]
        code, out, err = sightline("benchmark", "parts", *words)
        assert code == 0, err
        assert "ml.m5.xlarge" in out
    assert sightline("status", "parts")[1] == "sagemaker://parts: InService\n  AllTraffic: weight 1.0, 1 machines\n"
    code, out, err = sightline("deploy", bundle, "--name", "parts", "--instance-type", "ml.m5.xlarge", "--json")
    assert (code, json.loads(out)["changed"]) == (0, False)
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    (other / "config.yaml").write_text("MODEL: {}\n\n")
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["files"]["config.yaml"] = hashlib.sha256(b"MODEL: {}\n\n").hexdigest()
    (other / "bundle.json").write_text(json.dumps(manifest))
    words = ["--name", "split", "--instance-type", "ml.m5.xlarge", "--variant", f"new={other}@0.25"]
    code, out, err = sightline("deploy", bundle, *words)
    assert code == 0, err
    code, out, err = sightline("weights", "split", "new=3")
    assert (code, out) == (0, "AllTraffic: 25.0% (weight 1 -> 1)\nnew: 75.0% (weight 0.25 -> 3)\n"), err
    assert sightline("weights", "split", "new")[0] == 2
    code, out, err = sightline("delete", "split", "--yes", "--json")
    assert (code, len(json.loads(out)["deleted"])) == (0, 8), err
    code, out, err = sightline("delete", "parts", "--yes", "--json")
    assert (code, len(json.loads(out)["deleted"])) == (0, 5), err
    assert account.client("sagemaker").list_models()["Models"] == []


def test_many_answers_are_counted_seldom_and_a_lost_connection_is_tried_again(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 answers are 100 requests to list: at every tenth second they would cost as much as the machine."""
    looks = {"describe": 0, "count": 0}
    answer = {
        "TransformJobName": "parts", "TransformJobStatus": "InProgress", "TransformResources": {},
        "TransformOutput": {"S3OutputPath": "s3://parts/out/"},
    }  # fmt: skip

    class SageMaker:
        def describe_transform_job(self, TransformJobName: str) -> dict[str, Any]:  # noqa: N803
            looks["describe"] += 1
            return {**answer, "TransformJobStatus": "Completed" if looks["describe"] > 50 else "InProgress"}

    def answers(job: transforms.Transform) -> list[None]:
        looks["count"] += 1
        if looks["count"] == 2:
            raise RunError("s3://parts/out/", "cannot be reached", "Try again.") from ConnectionError("gone")
        return [None] * 9_999

    fake = Account(account.id, account.region, account.partition, account.caller, {"sagemaker": SageMaker()}.__getitem__)
    monkeypatch.setattr(transforms, "answers_below", answers)
    monkeypatch.setattr(transforms, "sent_pictures", lambda account, job: (None, ["a"] * 10_000))
    said: list[str] = []
    assert transforms.follow(fake, "parts", said.append, sleep=Pauses()).over
    assert looks == {"describe": 51, "count": 7}
    lost = "the connection to AWS is lost (ConnectionError), trying again"
    assert said == [
        "InProgress: 9,999 of 10,000 pictures are answered", lost, "Completed: 9,999 of 10,000 pictures are answered",
    ]  # fmt: skip
