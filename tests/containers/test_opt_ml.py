"""The platform's JSON files, as they come and broken."""

import json
from pathlib import Path

import pytest

from sightline.containers.local import lay_out
from sightline.containers.opt_ml import ALONE, Channel, OptMl, read_channels, read_cluster, read_hyperparameters
from sightline.errors import ConfigError, SightlineError


def config(root: Path, name: str, content: object) -> OptMl:
    opt_ml = OptMl(root)
    opt_ml.config.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (opt_ml.config / f"{name}.json").write_text(text, encoding="utf-8")
    return opt_ml


def test_the_root_is_where_aws_toolkits_say() -> None:
    assert OptMl.from_env({}).model == Path("/opt/ml/model")
    assert OptMl.from_env({"SAGEMAKER_BASE_DIR": "/x"}).output_data == Path("/x/output/data")


def test_hosts_are_sorted_as_text_and_the_first_leads(tmp_path: Path) -> None:
    facts = {"current_host": "algo-10", "hosts": ["algo-2", "algo-10", "algo-1"], "network_interface_name": "eth0"}
    cluster = read_cluster(config(tmp_path, "resourceconfig", facts))
    assert cluster.hosts == ("algo-1", "algo-10", "algo-2")
    assert (cluster.rank, cluster.first, cluster.interface) == (1, False, "eth0")


def test_a_host_alone_needs_no_file(tmp_path: Path) -> None:
    assert read_cluster(OptMl(tmp_path)) == ALONE
    assert ALONE.first
    assert read_hyperparameters(OptMl(tmp_path)) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"current_host": "b", "hosts": ["a"]}, "says this is 'b', and names a"),
        (
            {"current_host": "a", "hosts": ["a"], "instance_groups": [{"instance_type": "ml.g5"}, {"instance_type": "ml.c5"}]},
            "instances of several kinds",
        ),
        ("{", "cannot be read as JSON"),
        ([], "holds a list"),
    ],
)
def test_broken_hosts(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_cluster(config(tmp_path, "resourceconfig", content))


def test_channels_with_their_modes(tmp_path: Path) -> None:
    told = {"train": {"TrainingInputMode": "FastFile", "S3DistributionType": "ShardedByS3Key"}, "model": {}}
    opt_ml = config(tmp_path, "inputdataconfig", told)
    assert read_channels(opt_ml) == {
        "model": Channel("model", opt_ml.data / "model"),
        "train": Channel("train", opt_ml.data / "train", "FastFile", sharded=True),
    }


def test_channels_that_nobody_tells_of_are_the_folders(tmp_path: Path) -> None:
    (tmp_path / "input" / "data" / "train").mkdir(parents=True)
    assert list(read_channels(OptMl(tmp_path))) == ["train"]


@pytest.mark.parametrize(("asked", "found"), [("/opt/ml/checkpoints/a", "checkpoints/a"), (None, "checkpoints")])
def test_checkpoints_are_where_the_job_says(asked: str | None, found: str, tmp_path: Path) -> None:
    assert config(tmp_path, "checkpointconfig", {"LocalPath": asked}).checkpoints == tmp_path / found


def test_the_local_twin_lays_out_what_the_platform_does(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "w.pth").write_bytes(b"w")
    channels: dict[str, str | Path] = {"train": tmp_path / "data", "model": str(tmp_path / "w.pth")}
    old = tmp_path / "ml" / "output" / "failure"
    old.parent.mkdir(parents=True)
    old.write_text("of the last time", encoding="utf-8")
    kept = tmp_path / "ml" / "checkpoints" / "last_checkpoint"
    kept.parent.mkdir()
    kept.write_text("x", encoding="utf-8")
    opt_ml = lay_out(tmp_path / "ml", channels=channels, hyperparameters={"epochs": 3, "rotate": True, "config": "small"})
    assert read_hyperparameters(opt_ml) == {"epochs": "3", "rotate": "true", "config": "small"}
    assert (opt_ml.data / "model" / "w.pth").read_bytes() == b"w"
    assert read_cluster(opt_ml).hosts == ("localhost",)
    assert set(read_channels(opt_ml)) == {"train", "model"}
    assert kept.is_file(), "a job goes on from there"
    assert not old.exists()
    lay_out(tmp_path / "ml", channels={"train": tmp_path / "data"})
    assert [path.name for path in opt_ml.data.iterdir()] == ["train"]
    with pytest.raises(SightlineError, match="does not exist"):
        lay_out(tmp_path / "ml", channels={"train": tmp_path / "nowhere"})
