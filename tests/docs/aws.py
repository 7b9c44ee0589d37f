"""AWS for the pages: moto on loopback with what they name, and a platform that does the jobs it is given."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cloud import platform
from cloud.conftest import SETTINGS, TRUST, push

import sightline
from docs.things import BUCKET, Store
from sightline.cloud.account import Account, open_account

if TYPE_CHECKING:
    from docs.world import World

ENDPOINT = re.compile(r"sagemaker://([\w-]+)|sightline cloud (?:benchmark|weights|invoke|delete) ([\w-]+)")
JOB = re.compile(r"\b[\w-]+-20\d{6}-\d{6}\b")
MODEL = re.compile(r"--model-name ([\w-]+)")


SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), sep=":", flush=True)
sys.stdin.read()
"""


@contextmanager
def moto() -> Iterator[str]:
    """The address of an AWS of its own: what moto has made belongs to its process, and other tests empty theirs."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        yield f"http://{server.stdout.readline().decode().strip()}"
        server.stdin.close()  # which ends it, as the end of this process does


def environment(address: str, folder: Path) -> dict[str, str]:
    """Of somebody who is logged in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGHTLINE_"))}
    return {**kept, **SETTINGS, "AWS_ENDPOINT_URL": address, "SIGHTLINE_CACHE": str(folder / "cache")}


def fill(account: Account, store: Store, folder: Path) -> None:
    """A role, images, and `s3://bucket` with labels, pictures, a data set, weights and a bundle."""
    account.client("iam").create_role(RoleName="sightline-jobs", AssumeRolePolicyDocument=json.dumps(TRUST))
    for kind in ("train", "serve"):
        push(account, f"sightline-{kind}", sightline.__version__)
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    from docs import things

    things.new_pictures(store, folder / "new")
    things.dataset(store, folder / "sets" / "parts")
    things.manifest(store, folder / "jobs" / "parts" / "manifests" / "output" / "output.manifest")
    things.run(store, folder / "runs" / "first")
    things.bundle(store, folder / "models" / "parts" / "model.tar.gz")
    things.of_run("model_final.pth")(store, folder / "base" / "model_final.pth")
    things.pictures(store, folder / "pictures")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        s3.put_object(Bucket=BUCKET, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes())


def opened(environ: dict[str, str]) -> Account:
    """An account whose clients are made once."""
    made = open_account(environ)
    clients: dict[str, Any] = {}

    def client(name: str) -> Any:
        if name not in clients:
            clients[name] = made.client(name)
        return clients[name]

    for name in ("sagemaker", "sagemaker-runtime", "logs", "s3", "iam", "ecr", "cloudwatch", "application-autoscaling"):
        client(name)
    return Account(made.id, made.region, made.partition, made.caller, client)


def archive(folder: Path, *but: str) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in but:
                opened.add(path, path.relative_to(folder).as_posix())
    return written.getvalue()


def work(world: "World", account: Account) -> None:
    """Let the platform do what moto only notes: a training leaves a run, a batch transform answers."""
    client = account.client("sagemaker")

    def trained(parsed: dict[str, Any], **_: object) -> None:
        name = parsed["TrainingJobArn"].rpartition("/")[2]
        answer = client.describe_training_job(TrainingJobName=name)
        bucket, _, key = answer["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        s3 = account.client("s3")
        s3.put_object(Bucket=bucket, Key=key, Body=world.store.bundle.read_bytes())
        s3.put_object(Bucket=bucket, Key=key.replace("model.tar", "output.tar"), Body=archive(world.store.run, ".pth"))

    def transformed(parsed: dict[str, Any], **_: object) -> None:
        platform.transform(account, parsed["TransformJobArn"].rpartition("/")[2], world.server())

    def known(params: dict[str, Any], **_: object) -> None:  # moto's machines end with those of 2020
        for variant in params["ProductionVariants"]:
            if "InstanceType" in variant:
                variant["InstanceType"] = "ml.m5.xlarge"

    client.meta.events.register("provide-client-params.sagemaker.CreateEndpointConfig", known)
    client.meta.events.register("after-call.sagemaker.CreateTrainingJob", trained)
    client.meta.events.register("after-call.sagemaker.CreateTransformJob", transformed)


def use(monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
    """Every command asks this account, and waits for nothing."""
    from sightline.cloud import account as module
    from sightline.cloud import deploys, endpoints, jobs, transforms

    monkeypatch.setattr(module, "open_account", lambda environ: account)
    monkeypatch.setattr(endpoints, "open_account", lambda environ: account)
    for each in (jobs, transforms, deploys, endpoints):
        monkeypatch.setattr(each, "POLL_S", 0.0 if each is not endpoints else 0.01)


def equip(world: "World", text: str) -> None:
    """The endpoints, jobs and models that a command names, unless they are there."""
    from botocore.exceptions import ClientError

    sagemaker = world.account.client("sagemaker")
    container = {
        "Image": world.account.registry() + "/sightline-serve:1",
        "ModelDataUrl": f"s3://{BUCKET}/models/parts/model.tar.gz",
    }
    role = f"arn:aws:iam::{world.account.id}:role/sightline-jobs"
    for found in ENDPOINT.finditer(text):
        name = found[1] or found[2]
        try:
            sagemaker.describe_endpoint(EndpointName=name)
        except ClientError:
            done = world.sightline(
                "cloud", "deploy", str(world.store.bundle), "--name", name, "--instance-type", "ml.g5.xlarge"
            )
            assert done.code == 0, done.err
    for name in re.findall(r"sightline cloud deploy .*--name ([\w-]+)", text):  # moto cannot update an endpoint
        with suppress(ClientError):
            sagemaker.delete_endpoint(EndpointName=name)
    for name in MODEL.findall(text):
        sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
    for name in set(JOB.findall(text)) - {
        one["TrainingJobName"] for one in sagemaker.list_training_jobs()["TrainingJobSummaries"]
    }:
        sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": container["Image"], "TrainingInputMode": "File"},
            RoleArn=role,
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/jobs-of-mine/"},
            ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": 3600},
        )
        log(world.account, name)


def log(account: Account, name: str) -> None:
    """What a training says on its way."""
    logs, group, stream = account.client("logs"), "/aws/sagemaker/TrainingJobs", f"{name}/algo-1-1"
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    event = {"timestamp": int(time.time() * 1000), "message": " eta: 0:00:01  iter: 0  total_loss: 1.5"}
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
