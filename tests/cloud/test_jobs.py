"""A training from the folder here to the run fetched back, against moto; what moto only fakes against botocore's Stubber."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from builders import a_dataset_folder

from sightline.cli import cloud as command
from sightline.cli import cloud_given
from sightline.cloud import fetching, jobs, policies
from sightline.cloud.account import Account
from sightline.cloud.costs import Cost
from sightline.cloud.requests import Machines
from sightline.errors import RunError, SightlineError

from .conftest import IMAGE, MOMENT, ROLE, SECRET, TOKEN, Pauses, Run, archive, asked_for, keys


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of eight pictures with its parts."""
    return a_dataset_folder(tmp_path_factory.mktemp("made") / "parts", train=6, val=2)


def asked(data: str | Path, **given: Any) -> jobs.Asked:
    return jobs.Asked(**{"data": str(data), "name": "parts", "hyperparameters": {"config": "small"}, **given})


def plan(account: Account, wish: jobs.Asked) -> jobs.Plan:
    return jobs.plan_training(account, wish, os.environ, MOMENT, lambda text: None)


def test_a_dry_run_shows_all_and_makes_nothing(sightline: Run, account: Account, data: Path) -> None:
    code, out, err = sightline(
        "train", "--data", data, "--epochs", "3", "--batch-size", "2", "--rotate", "SOLVER.BASE_LR", "0.01",
        "--spot", "--tag", "team=vision", "--dry-run",
    )  # fmt: skip
    assert code == 0, err
    shown = json.loads(out)
    (call,) = shown["requests"]
    assert call["operation"] == "CreateTrainingJob"
    request = call["request"]
    wanted = {"config": "small", "epochs": "3.0", "batch-size": "2", "rotate": "true", "SOLVER.BASE_LR": "0.01"}
    assert request["HyperParameters"] == wanted
    assert request["EnableManagedSpotTraining"] is True
    assert request["RoleArn"] == ROLE
    assert request["AlgorithmSpecification"]["TrainingImage"] == f"{IMAGE}:0.1.0"
    assert shown["creates"] == [f"s3://{account.default_bucket}", "CreateTrainingJob"]
    assert list(shown["uploads"]) == [str(data)]
    assert account.client("s3").list_buckets()["Buckets"] == []
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert not {word for word in (SECRET, TOKEN) if word in out + err}


def test_a_key_on_the_default_machine_is_for_results_and_that_is_said(sightline: Run, data: Path) -> None:
    code, out, err = sightline("train", "--data", data, "--kms-key", "alias/parts", "--dry-run")
    request = json.loads(out)["requests"][0]["request"]
    assert (code, request["OutputDataConfig"]["KmsKeyId"]) == (0, "alias/parts")
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]
    assert "note: --kms-key encrypts the results alone: ml.g5.xlarge has disks of its own" in err
    _, _, err = sightline("train", "--data", data, "--kms-key", "alias/parts", "--instance-type", "ml.p3.2xlarge", "--dry-run")
    assert "--kms-key encrypts" not in err


def test_our_container_understands_what_it_is_given(sightline: Run, data: Path) -> None:
    hyperparameters = pytest.importorskip("sightline.containers.hyperparameters")
    _, out, _ = sightline(
        "train", "--data", data, "--epochs", "3", "--rotate", "--scale-jitter", "0.8", "1.25", "--precision", "bf16",
        "SOLVER.STEPS", "(10, 20)", "--dry-run",
    )  # fmt: skip
    given = json.loads(out)["requests"][0]["request"]["HyperParameters"]
    read = hyperparameters.understood(given, lambda name: name or "small")
    assert read.overrides == ("SOLVER.STEPS", "(10, 20)")
    assert read.words() == ["--epochs", "3.0", "--precision", "bf16", "--rotate", "--scale-jitter", "0.8", "1.25"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--epcohs", "3"], "--epcohs: is no option of this command. Did you mean --epochs?"),
        (["--instance-typ", "ml.m5.large"], "--instance-typ: is no option of this command. Did you mean --instance-type?"),
        (["--epochs", "few"], "--epochs: is 'few'. Give a number."),
        (["--resume"], "--resume: is decided by the platform"),
        (["--device", "cuda"], "--device: is decided by the platform"),
        (["SOLVER.BASE_LT", "0.1"], "SOLVER.BASE_LT"),
        (["--spot", "--max-runtime", "100", "--max-wait", "10"], "--max-wait): is 10 s"),
        (["--tag", "aws:x=1"], "the key 'aws:x' is reserved"),
        (["--tag", "x"], "--tag: is 'x'"),
        (["--subnets", "subnet-1"], "SecurityGroupIds: has 0 entries"),
        (["--config", "no-such"], "is no preset"),
        (["--image", "sightline"], "is no image in ECR"),
        (["--keep-alive", "99999"], "Give at most 21,600"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_asked_wrongly_costs_nothing(sightline: Run, account: Account, data: Path, words: list[str], told: str) -> None:
    code, out, err = sightline("train", "--data", data, *words)
    assert code == 2
    assert told in err
    assert out == ""
    assert account.client("s3").list_buckets()["Buckets"] == []


def test_data_that_is_none(sightline: Run, account: Account, tmp_path: Path) -> None:
    code, _, err = sightline("train", "--data", tmp_path)
    assert code == 2
    assert str(tmp_path) in err
    bucket = account.default_bucket
    code, _, err = sightline("train", "--data", f"s3://{bucket}/nothing")
    assert code == 2
    assert "bucket" in err


def test_data_goes_up_once_and_then_what_changed(account: Account, data: Path) -> None:
    sent: list[str] = []
    one = plan(account, asked(data))
    jobs.submit(account, one, lambda text: None)
    there = keys(account, account.default_bucket)
    prefix = one.uploads[data].split("/", 3)[3]
    files = {prefix + path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    assert set(there) == files
    from sightline import storage

    def note(params: dict[str, Any], **_: object) -> None:
        sent.append(str(params["Key"]))

    client = storage.store().client
    client.meta.events.register("before-parameter-build.s3.PutObject", note)
    try:
        extra = data / "annotations" / "notes.json"
        extra.write_text("{}", encoding="utf-8")
        two = plan(account, asked(data, name="parts-again"))
        jobs.submit(account, two, lambda text: None)
    finally:
        client.meta.events.unregister("before-parameter-build.s3.PutObject", note)
        extra.unlink()
    assert sent == [f"{prefix}annotations/notes.json"]
    assert two.uploads[data] == one.uploads[data]


def test_files_that_options_name_go_along(sightline: Run, data: Path, tmp_path: Path) -> None:
    base, config, weights = tmp_path / "base.yaml", tmp_path / "mine.yaml", tmp_path / "w.pth"
    base.write_text("SOLVER:\n  BASE_LR: 0.125\n", encoding="utf-8")
    config.write_text("_BASE_: base.yaml\n", encoding="utf-8")
    weights.write_bytes(b"weights")
    code, out, err = sightline("train", "--data", data, "--config", config, "--weights", weights, "--dry-run")
    assert code == 0, err
    shown = json.loads(out)
    request = shown["requests"][0]["request"]
    assert request["HyperParameters"]["config"] == "/opt/ml/input/data/config/mine.yaml"
    assert request["HyperParameters"]["weights"] == "/opt/ml/input/data/weights/w.pth"
    assert [channel["ChannelName"] for channel in request["InputDataConfig"]] == ["config", "training", "weights"]
    with cloud_given.files_of({"config": str(config)}) as (_, files):
        assert "BASE_LR: 0.125" in files["config"].read_text(encoding="utf-8")


def test_data_on_s3_is_used_where_it_is(account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="theirs")
    s3.put_object(Bucket="theirs", Key="sets/parts/annotations/train.json", Body=b"{}")
    made = plan(account, asked("s3://theirs/sets/parts"))
    (channel,) = made.calls[0].request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://theirs/sets/parts/"
    assert made.uploads == {}
    with pytest.raises(SightlineError, match=r"^s3://theirs/sets/part: holds nothing\."):
        plan(account, asked("s3://theirs/sets/part"))


def leave(account: Account, name: str, **files: bytes) -> None:
    """What moto says that a job left, which it does not write."""
    answer = account.client("sagemaker").describe_training_job(TrainingJobName=name)
    bucket, _, key = answer["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    s3 = account.client("s3")
    s3.put_object(
        Bucket=bucket, Key=key, Body=archive(model_dot_pth=b"weights", config_dot_yaml=b"A: 1", bundle_dot_json=b"{}")
    )
    s3.put_object(Bucket=bucket, Key=key.replace("model.tar", "output.tar"), Body=archive(**files))


def test_a_job_from_start_to_run_folder(sightline: Run, account: Account, data: Path, tmp_path: Path) -> None:
    code, out, err = sightline("train", "--data", data, "--no-wait", "--json", "--price-per-hour", "1.0")
    assert code == 0, err
    name = json.loads(out)["name"]
    assert name.startswith("parts-20")
    sagemaker = account.client("sagemaker")
    tags = sagemaker.list_tags(ResourceArn=sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobArn"])["Tags"]
    assert {"Key": "sightline:kind", "Value": "training-job"} in tags

    logs = account.client("logs")
    logs.create_log_group(logGroupName="/aws/sagemaker/TrainingJobs")
    logs.create_log_stream(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=f"{name}/algo-1-1")
    event = {"timestamp": int(MOMENT.timestamp() * 1000), "message": " eta: 0:00:01  iter: 0  total_loss: 1.5"}
    logs.put_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=f"{name}/algo-1-1", logEvents=[event])
    assert sightline("logs", name)[1] == event["message"] + "\n"

    leave(account, name, report__index_dot_html=b"page", metrics_dot_json=b"{}", bundle_dot_json=b"another")
    code, out, err = sightline("fetch", name, "-o", tmp_path / "run")
    assert code == 0, err
    found = {path.relative_to(tmp_path / "run").as_posix(): path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    assert found["model.pth"] == b"weights"
    assert found["report/index.html"] == b"page"
    assert found["bundle.json"] == b"{}"
    assert sightline("fetch", name, "-o", tmp_path / "run")[0] == 2  # what is there is not overwritten
    code, out, _ = sightline("status", name, "--json")
    assert code == 0
    assert json.loads(out)["status"] == "Completed"


def test_waiting_shows_the_cost_and_fetches(sightline: Run, account: Account, data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", data, "--instance-type", "ml.unheard.xlarge", "-o", tmp_path / "run"]
    code, _, err = sightline(*words)  # moto has no archive: the job is told, the fetching fails
    assert code != 0
    assert "which this version of botocore does not know" in err
    assert "cost: " in err
    assert "1 x ml.unheard.xlarge; the price of an hour is not known here (--price-per-hour)" in err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_leaves_the_job(sightline: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "follow", interrupted)
    code, _, err = sightline("train", "--data", data)
    assert code == 130
    assert "The job goes on. Follow it again: sightline cloud logs parts-" in err
    assert "End it: sightline cloud stop parts-" in err


def test_no_such_job(sightline: Run) -> None:
    for words in (["status", "x"], ["logs", "x"], ["stop", "x"], ["fetch", "x", "-o", "run"]):
        code, _, err = sightline(*words)
        assert code == 2
        assert "x: is no training job, search or batch transform of account 123456789012 in us-east-1" in err


JOB = {
    "TrainingJobName": "parts",
    "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/parts",
    "ModelArtifacts": {"S3ModelArtifacts": ""},
    "SecondaryStatus": "Training",
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
    "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50},
    "CreationTime": MOMENT,
    "EnableManagedSpotTraining": True,
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
}


def test_stop(account: Account) -> None:
    client = account.client("sagemaker")
    with Stubber(client) as stub:
        stub.add_response("describe_training_job", {**JOB, "TrainingJobStatus": "InProgress"}, {"TrainingJobName": "parts"})
        stub.add_response("stop_training_job", {}, {"TrainingJobName": "parts"})
        assert not jobs.stop(account, "parts").over
        stub.add_response("describe_training_job", {**JOB, "TrainingJobStatus": "Completed"}, {"TrainingJobName": "parts"})
        assert jobs.stop(account, "parts").over
        stub.assert_no_pending_responses()


def test_a_failed_job_says_why(account: Account, tmp_path: Path) -> None:
    reason = "AlgorithmError: sightline: channel 'training' is empty, exit code: 1"
    job = jobs.job_of({**JOB, "TrainingJobStatus": "Failed", "FailureReason": reason, "BillableTimeInSeconds": 30})
    with pytest.raises(RunError, match=r"^parts: failed: AlgorithmError: sightline: channel 'training' is empty.*cloud logs"):
        jobs.require_success(job)
    with pytest.raises(RunError, match="channel 'training' is empty"):
        fetching.fetch_run(job, tmp_path / "run")
    running = jobs.job_of({**JOB, "TrainingJobStatus": "InProgress"})
    with pytest.raises(SightlineError, match=r"is still InProgress\. Wait for it"):
        fetching.fetch_run(running, tmp_path / "run")


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("ResourceLimitExceeded", "limit 'ml.g5.xlarge for training job usage' is 0 Instances", "the quota 'ml.g5.xlarge"),
        ("AccessDeniedException", "not authorized to perform: iam:PassRole on resource: arn", "Allow iam:PassRole"),
        ("ValidationException", "Could not assume role arn:aws:x. Please ensure", "its trust policy has to allow"),
    ],
)
def test_a_refused_job_leaves_nothing_behind_but_data(account: Account, data: Path, code: str, message: str, told: str) -> None:
    made = plan(account, asked(data))
    with Stubber(account.client("sagemaker")) as stub:
        stub.add_client_error("create_training_job", code, message)
        with pytest.raises(SightlineError, match=told):
            jobs.submit(account, made, lambda text: None)


def test_the_policy_of_training_has_all_that_it_asks(account: Account, data: Path) -> None:
    with asked_for(account) as found:
        one = plan(account, asked(data))
        jobs.submit(account, one, lambda text: None)
        jobs.follow(account, one.name, lambda text: None, lambda line: None, sleep=Pauses())
    assert found >= {"sagemaker:CreateTrainingJob", "logs:DescribeLogStreams", "s3:CreateBucket"}
    assert found <= policies.actions_of(policies.policy("train", policies.Scope()))


def test_the_local_twin(sightline: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the container would get, run here; the container's own tests train."""
    from sightline.containers import local

    got: dict[str, Any] = {}

    def trained(root: Path, **given: Any) -> local.Trained:
        got.update(given)
        for folder, name in (
            ("model", "model.pth"),
            ("model", "bundle.json"),
            ("output", "bundle.json"),
            ("output", "log.txt"),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_text(folder, encoding="utf-8")
        return local.Trained(root / "model", root / "output", root / "checkpoints")

    monkeypatch.setattr(local, "train", trained)
    monkeypatch.setattr(command, "open_account", lambda: pytest.fail("no account is needed"))
    code, out, err = sightline("train", "--data", data, "--epochs", "2", "--local", tmp_path / "ml", "-o", tmp_path / "run")
    assert code == 0, err
    assert str(tmp_path / "run") in out
    assert got == {"channels": {"training": str(data)}, "hyperparameters": {"config": "small", "epochs": "2.0"}}
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "run").iterdir()}
    assert found == {"model.pth": "model", "bundle.json": "model", "log.txt": "output"}


def test_costs() -> None:
    spot = Cost(billable_s=1800, used_s=6000, machines=2, instance_type="ml.g5.xlarge", spot=True, price_usd_hour=1.5)
    assert spot.usd == pytest.approx(1.5)
    assert spot.saved_share == pytest.approx(0.7)
    assert str(spot) == "1,800 s on the bill of 2 x ml.g5.xlarge: 1.50 USD at 1.5 USD an hour, 70% saved by spot capacity"
    unknown = Cost(60, 60, 1, "ml.g9.xlarge", False)
    assert unknown.usd is None
    assert unknown.as_dict()["cost_usd"] is None


def test_an_archive_cannot_leave_its_folder(tmp_path: Path) -> None:
    hostile, damaged = tmp_path / "h.tar.gz", tmp_path / "d.tar.gz"
    hostile.write_bytes(archive(**{"__dot__dot__up_dot_txt": b"x", "..__up_dot_txt": b"x"}))
    (tmp_path / "out").mkdir()
    with pytest.raises(SightlineError, match="may not be unpacked"):
        fetching.unpack(hostile, tmp_path / "out", "s3://b/h")
    damaged.write_bytes(archive(a=bytes(range(256)) * 100)[:200])
    with pytest.raises(RunError, match="cannot be unpacked"):
        fetching.unpack(damaged, tmp_path / "out", "s3://b/d")


def test_machines_of_an_answer() -> None:
    job = jobs.job_of({**JOB, "TrainingJobStatus": "InProgress"})
    assert job.machines == Machines("ml.g5.xlarge", 2, 50, True, 3600, 7200)
    assert "parts: InProgress" in str(job)
