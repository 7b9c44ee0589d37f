"""`sightline benchmark` as a user types it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from builders import a_config, a_detector, a_picture
from typer.testing import CliRunner, Result

from sightline.benchmarking.prices import FOLDER, Instance, Region, write_region
from sightline.cli.benchmark import endpoint_of, several
from sightline.cli.main import app
from sightline.cloud.account import Account
from sightline.errors import RunError, SightlineError

QUICK = ("--samples", "5", "--warm-up", "1", "--batch-sizes", "1", "2", "--no-start")


def call(*words: object) -> Result:
    done = CliRunner().invoke(app, ["benchmark", *map(str, words)])
    if isinstance(done.exception, SightlineError):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as Detectron2 leaves it, and a folder of pictures."""
    import torch

    from sightline.config.yaml_dialect import dump

    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "model").mkdir()
    torch.save({"model": a_detector().state_dict()}, folder / "model" / "model_final.pth")
    (folder / "model" / "config.yaml").write_text(dump(a_config()), encoding="utf-8")
    a_picture(folder / "pictures" / "a.jpg")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_from_the_model_to_the_plan(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    words = ["--images", folder / "pictures", *QUICK, "--instance-type", "ml.c5.large", "ml.m5.xlarge", "-o", out]
    done = call(folder / "model", *words, "--markdown", tmp_path / "table.md", "--plot", tmp_path / "plot.png", "--json")
    told = json.loads(done.stdout)
    assert [batch["size"] for batch in told["batches"]] == [1, 2]
    assert [cost["price"]["instance_type"] for cost in told["costs"]] == ["ml.c5.large", "ml.m5.xlarge"]
    assert "THIS machine" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "plot.png").stat().st_size > 1000
    planned = call("plan", out, "--per-day", "1000", "--within-s", "600")
    assert planned.exit_code == 0
    assert "Cheapest: " in planned.stdout
    none = call("plan", out, "--per-day", "1000", "--within-s", "0.000001", "--json")
    assert none.exit_code == 1
    assert json.loads(none.stdout)["best"] is None


def test_text_says_whose_seconds_they_are(folder: Path) -> None:
    done = call("run", folder / "model", "--images", folder / "pictures", *QUICK, "--instance-type", "ml.c5.large")
    assert done.exit_code == 0
    assert "priced as if it were ml.c5.large" in done.stdout
    assert "one at a time" in done.stdout


def test_an_unknown_instance_type(folder: Path) -> None:
    with pytest.raises(SightlineError, match=r"'ml\.g5\.9xlarge' has no price .*Near it: .*prices refresh"):
        call(folder / "model", "--images", folder / "pictures", "--instance-type", "ml.g5.9xlarge")


def test_the_list_of_prices_is_that_which_was_fetched(cache: Path) -> None:
    assert "ml.g4dn.xlarge" in call("prices", "list").stdout
    write_region(Region("eu-west-1", {"ml.c5.large": Instance(0.11, 2, 4, None, "AWS's list", "2026-11-01")}, None), cache)
    assert (cache / FOLDER).is_dir()
    assert "0.11" in call("prices", "list", "--region", "eu-west-1").stdout
    with pytest.raises(SightlineError, match=r"Give a region's code"):
        call("prices", "refresh", "--region", "nowhere")


class RefusedError(Exception):
    """As boto3 raises it."""

    def __init__(self, **response: object) -> None:
        super().__init__("refused")
        self.response = response


class Client:
    """What SageMaker answers: a picture, a busy model, a throttled request, then nothing at all."""

    def __init__(self, *, asynchronous: bool = False) -> None:
        self.asynchronous, self.sent = asynchronous, list[dict[str, Any]]()

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:  # noqa: N803
        return {"EndpointStatus": "InService", "EndpointConfigName": "config"}

    def describe_endpoint_config(self, EndpointConfigName: str) -> dict[str, Any]:  # noqa: N803
        later = (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/x/outputs"}}} if self.asynchronous else {}
        )
        return {"ProductionVariants": [{"VariantName": "all", "InstanceType": "ml.m5.xlarge", "ModelName": "model"}], **later}

    def invoke_endpoint(self, **asked: Any) -> dict[str, Any]:
        self.sent.append(asked)
        if len(self.sent) == 2:
            raise RefusedError(Error={"Code": "ModelError"}, OriginalStatusCode=503, ResponseMetadata={"HTTPStatusCode": 424})
        if len(self.sent) == 3:
            raise RefusedError(Error={"Code": "ThrottlingException"}, ResponseMetadata={"HTTPStatusCode": 400})
        if len(self.sent) == 4:
            raise OSError("no network")
        return {"Body": io.BytesIO(b"{}")}


def an_account(client: Client) -> Account:
    return Account("1" * 12, "us-east-1", "aws", "arn", lambda service: client)


def test_an_endpoint_is_measured_as_a_server_is() -> None:
    client = Client()
    served = endpoint_of(an_account(client), "sagemaker://bees")
    assert served.instance_type == "ml.m5.xlarge"
    assert served.send(b"picture", "image/jpeg").body == b"{}"
    assert client.sent[0] == {
        "EndpointName": "bees", "Accept": "application/json", "ContentType": "image/jpeg", "Body": b"picture"
    }  # fmt: skip
    assert [served.send(b"", "image/jpeg").status for _ in range(2)] == [503, 400]
    with pytest.raises(RunError, match="cannot be reached"):
        served.send(b"", "image/jpeg")


def test_an_asynchronous_endpoint_has_no_latency() -> None:
    with pytest.raises(SightlineError, match="answers later, through S3"):
        endpoint_of(an_account(Client(asynchronous=True)), "sagemaker://bees")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["m", "--clients", "1", "4", "16", "--json"], ["m", "--clients", "1", "--clients", "4", "--clients", "16", "--json"]),
        (["--instance-type", "ml.a", "ml.b", "m"], ["--instance-type", "ml.a", "--instance-type", "ml.b", "m"]),
        (["--clients=1", "7"], ["--clients=1", "7"]),
        (["plan", "1", "2"], ["plan", "1", "2"]),
    ],
)  # fmt: skip
def test_several_values_of_one_option(given: list[str], meant: list[str]) -> None:
    assert several(given, ("--clients", "--instance-type")) == meant
