"""From the platform's files to the command that every process runs; nothing is started."""

from pathlib import Path

import pytest
from builders import a_dataset_folder

from sightline.containers.local import lay_out
from sightline.containers.opt_ml import OptMl
from sightline.containers.together import Stop
from sightline.containers.train import Job, read_job, run
from sightline.errors import ConfigError


def a_job(tmp_path: Path, channels: dict[str, str | Path] | None = None, **hyperparameters: object) -> Job:
    if not (tmp_path / "data").exists():
        a_dataset_folder(tmp_path / "data", train=3, val=1)
    given = {"training": tmp_path / "data", **(channels or {})}
    return read_job(lay_out(tmp_path / "ml", channels=given, hyperparameters=hyperparameters), tmp_path / "work", {})


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_command_of_a_plain_job(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    words = job.train_words()[1:]
    place = ["--data", str(tmp_path / "ml/input/data/training"), "--config", "small", "-o", str(tmp_path / "ml/checkpoints")]
    assert words == ["-m", "sightline", "train", *place, "--resume", "--split", "train", "--validate-on", "val"]
    assert job.data.evaluated == "val"


def test_options_keys_and_the_platforms_paths(tmp_path: Path) -> None:
    """A job names files as the container has them; under another root they are there."""
    (tmp_path / "own.yaml").write_text("SOLVER:\n  MAX_ITER: 7\n", encoding="utf-8")
    (tmp_path / "w.pth").write_bytes(b"x")
    sent: dict[str, str | Path] = {"config": tmp_path / "own.yaml", "weights": tmp_path / "w.pth"}
    job = a_job(
        tmp_path,
        sent,
        **{
            "config": "/opt/ml/input/data/config/own.yaml",
            "weights": "/opt/ml/input/data/weights/w.pth",
            "batch-size": "4",
            "SEED": "5",
        },
    )
    words = job.train_words()
    assert after(words, "--config") == str(tmp_path / "ml/input/data/config/own.yaml")
    assert words.count("--weights") == 1
    assert after(words, "--weights") == str(tmp_path / "ml/input/data/weights/w.pth")
    assert words[-4:] == ["--batch-size", "4", "SEED", "5"]


@pytest.mark.parametrize("name", ["config-file", "local-config-file"])
def test_a_configuration_by_its_name_in_a_channel(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.yaml").write_text("SOLVER:\n  MAX_ITER: 7\n", encoding="utf-8")
    words = a_job(tmp_path, {"extra": tmp_path / "own.yaml"}, **{name: "own.yaml"}).train_words()
    assert after(words, "--config") == str(tmp_path / "ml/input/data/extra/own.yaml")


def test_a_configuration_of_the_source_folder_that_no_channel_has(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"own\.yaml: is no preset, no zoo name and no file in any channel\. .*channel, `config` say"
    ):
        a_job(tmp_path, **{"local-config-file": "own.yaml"})
    with pytest.raises(ConfigError, match=r"Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_3x\.yaml'\?"):
        a_job(tmp_path, **{"config-file": "COCO-Detection/faster_rcnn_R_50_FPN_x3.yaml"})


def test_a_channel_of_weights_brings_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.pth").write_bytes(b"x")
    (tmp_path / "base" / "config.yaml").write_text("SOLVER:\n  MAX_ITER: 7\n", encoding="utf-8")
    words = a_job(tmp_path, {"model": tmp_path / "base"}).train_words()
    channel = tmp_path / "ml/input/data/model"
    assert (after(words, "--weights"), after(words, "--config")) == (str(channel / "model.pth"), str(channel / "config.yaml"))
    assert after(a_job(tmp_path, {"model": tmp_path / "base"}, config="r50").train_words(), "--config") == "r50"


def test_parts_by_name_and_folds(tmp_path: Path) -> None:
    words = a_job(tmp_path, split="val", validate_on="train").train_words()
    assert (after(words, "--split"), after(words, "--validate-on")) == ("val", "train")
    assert words.count("--split") == 1
    words = a_job(tmp_path, fold=2).train_words()
    assert after(words, "--fold") == "2"
    assert "--split" not in words


def test_how_many_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.containers.train.gpu_count", lambda: 4)
    assert a_job(tmp_path).processes == 4
    assert a_job(tmp_path, device="cpu").processes == 1
    assert a_job(tmp_path, **{"MODEL.DEVICE": "cpu"}).processes == 1
    assert a_job(tmp_path, num_gpus=2).processes == 2


def test_a_configuration_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no preset, no zoo name and no file"):
        a_job(tmp_path, config="smal.yaml")


def test_a_job_that_cannot_begin_says_why_in_a_file(tmp_path: Path) -> None:
    opt_ml = OptMl(tmp_path)
    assert run(opt_ml, {}, Stop()) == 1
    assert opt_ml.failure.read_text(encoding="utf-8").startswith("channels: are none")
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "resourceconfig.json").write_text("[", encoding="utf-8")
    assert run(opt_ml, {}, Stop()) == 1
    assert "resourceconfig.json: cannot be read as JSON" in opt_ml.failure.read_text(encoding="utf-8")
