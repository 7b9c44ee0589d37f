"""AWS over HTTP on loopback: moto's server, with a role and an image as `sightline cloud` wants them."""

import hashlib
import io
import json
import os
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from sightline import storage
from sightline.cli import cloud as command
from sightline.cli.main import main
from sightline.cloud import jobs, transforms
from sightline.cloud.account import Account, open_account

Run = Callable[..., tuple[int, str, str]]
"""The command line: words after `sightline cloud` -> (exit code, stdout, stderr)."""

SECRET, TOKEN = "very-secret-key-5up3r", "very-secret-session-token"
ACCOUNT = "123456789012"
"""Of everybody who asks moto."""

ROLE = f"arn:aws:iam::{ACCOUNT}:role/sightline-jobs"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/sightline-train"
MOMENT = datetime(2026, 11, 21, 19, 15, tzinfo=UTC)
TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


@pytest.fixture(scope="session")
def moto_address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


SETTINGS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": TOKEN,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/no/such/file",
    "AWS_SHARED_CREDENTIALS_FILE": "/no/such/file",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}


def log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody who is logged in, with nothing of this machine's own configuration."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SIGHTLINE_"))]:
        monkeypatch.delenv(name)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch)
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def opened(moto_address: str) -> Account:
    """One for all tests: a client takes a third of a second to make, and remembers nothing."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        log_in(monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_address)
        account = open_account(os.environ)
        for service in ("iam", "s3", "ecr", "sagemaker", "logs"):
            account.client(service)
    return account


@pytest.fixture
def empty(opened: Account, moto_address: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account in which nothing is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_address)
    urllib.request.urlopen(urllib.request.Request(f"{moto_address}/moto-api/reset", method="POST")).close()
    return opened


@pytest.fixture
def account(empty: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account with a role that SageMaker may assume, and repositories; their images are named in the environment."""
    empty.client("iam").create_role(RoleName="sightline-jobs", AssumeRolePolicyDocument=json.dumps(TRUST))
    for kind in ("train", "serve"):
        push(empty, f"sightline-{kind}", "0.1.0")
    return empty


@pytest.fixture
def sightline(account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line: (exit code, stdout, stderr)."""
    monkeypatch.setattr(command, "open_account", lambda: account)
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    monkeypatch.setattr(transforms, "POLL_S", 0.0)
    capsys.readouterr()

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", "cloud", *map(str, words)])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return call


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What a deploy packs; the server does not read it here."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    files = {"model.pth": b"weights", "config.yaml": b"MODEL: {}\n"}
    manifest = {
        "format": 1,
        "class_names": ["bolt", "nut"],
        "files": {n: hashlib.sha256(c).hexdigest() for n, c in files.items()},
    }
    for name, content in {**files, "bundle.json": json.dumps(manifest).encode()}.items():
        (folder / name).write_bytes(content)
    return folder


def push(account: Account, repository: str, tag: str) -> None:
    """An image, as far as ECR looks at it."""
    ecr = account.client("ecr")
    ecr.create_repository(repositoryName=repository)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": "sha256:" + "0" * 64},
        "layers": [],
    }
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)


def archive(**files: bytes) -> bytes:
    """A .tar.gz; `_` in a name stands for `/`."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return written.getvalue()


class Pauses:
    """A clock's sleep that takes no time, and ends a loop that should have ended long ago."""

    def __init__(self, most: int = 1000) -> None:
        self.slept: list[float] = []
        self.most = most

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < self.most, "it waits for ever"


def keys(account: Account, bucket: str) -> list[str]:
    found: list[dict[str, Any]] = account.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"] for entry in found]


IAM = {
    "HeadBucket": "ListBucket", "HeadObject": "GetObject", "ListObjectsV2": "ListBucket",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}  # fmt: skip
"""S3's operations whose permission is called otherwise."""


@contextmanager
def asked_for(account: Account) -> Iterator[set[str]]:
    """The permissions that the account's clients need inside the block, and the one that sends and fetches files."""
    found: set[str] = set()

    def note(model: Any, **_: object) -> None:
        service = {"monitoring": "cloudwatch"}.get(model.service_model.signing_name, model.service_model.signing_name)
        found.add(f"{service}:{IAM.get(model.name, model.name)}")

    clients = [
        account.client(name) for name in ("iam", "s3", "ecr", "logs", "sagemaker", "cloudwatch", "application-autoscaling")
    ]
    clients.append(storage.store().client)
    for client in clients:
        client.meta.events.register("before-call", note)
    yield found
    for client in clients:
        client.meta.events.unregister("before-call", note)
