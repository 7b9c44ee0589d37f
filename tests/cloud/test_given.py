"""What a training on SageMaker is given: options of label files, told here what is wrong with them, and understood there."""

import json
from pathlib import Path

import pytest
from builders import a_box, a_dataset_folder, a_line, a_manifest, a_picture

from sightline.cli import cloud_given
from sightline.cloud.account import Account
from sightline.containers import channels
from sightline.containers.hyperparameters import understood
from sightline.containers.opt_ml import Channel
from sightline.dataset.folder import open_part
from sightline.errors import DatasetError

from .conftest import Run, asked_for, keys

READING = ["--label-attribute", "job", "--rename", "bolt=screw", "--drop", "dust", "--on-duplicate", "last"]
DIVIDING = ["--fractions", "train=0.5", "val=0.5", "--split-seed", "3", "--group-by", "prefix:1"]


@pytest.fixture
def labels(tmp_path: Path) -> tuple[Path, Path]:
    """A manifest of eight pictures in which two classes are, and their folder."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    lines = []
    for number in range(8):
        a_picture(pictures / f"{number}.jpg")
        boxes = [a_box(class_id=0), a_box(class_id=1)]
        lines.append(a_line(f"{number}.jpg", boxes, {"0": "bolt", "1": "dust"}))
    return a_manifest(tmp_path / "labels.manifest", lines), pictures


def test_label_files_go_with_their_pictures(
    sightline: Run, account: Account, tmp_path: Path, labels: tuple[Path, Path]
) -> None:
    """A manifest by itself, its pictures in a folder; the container divides them."""
    manifest, pictures = labels
    code, _, err = sightline("train", "--data", manifest)
    assert code == 2
    assert "names 8 pictures that are not on S3, and it is sent alone. Name their folder with --images." in err
    assert sightline("train", "--data", manifest, "--images", tmp_path / "nowhere")[0] == 2
    assert account.client("s3").list_buckets()["Buckets"] == []
    code, out, err = sightline("train", "--data", manifest, "--images", pictures, "--no-wait", "--json")
    assert code == 0, err
    told = account.client("sagemaker").describe_training_job(TrainingJobName=json.loads(out)["name"])
    places = {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in told["InputDataConfig"]}
    assert set(places) == {"training", "images"}
    sent = {f"s3://{account.default_bucket}/{key}" for key in keys(account, account.default_bucket)}
    assert sent == {f"{places['training']}labels.manifest", *(f"{places['images']}{number}.jpg" for number in range(8))}
    with asked_for(account) as rights:
        assert sightline("train", "--data", manifest, "--images", pictures, "--no-wait")[0] == 0
    assert "s3:PutObject" not in rights, "nothing has changed"
    pictures.joinpath("labels.manifest").write_bytes(manifest.read_bytes())
    code, out, err = sightline("train", "--data", pictures, "--dry-run")  # both in one folder
    assert code == 0, err
    assert list(json.loads(out)["uploads"]) == [str(pictures)]


def test_the_container_reads_and_divides_them_as_they_were_checked_here(
    sightline: Run, account: Account, tmp_path: Path, labels: tuple[Path, Path]
) -> None:
    manifest, pictures = labels
    code, out, err = sightline("train", "--data", manifest, "--images", pictures, *READING, *DIVIDING, "--dry-run")
    assert code == 0, err
    (call,) = json.loads(out)["requests"]
    asked = understood(call["request"]["HyperParameters"], lambda name: name or "small")
    (tmp_path / "channel").mkdir()
    (tmp_path / "channel" / "labels.manifest").write_bytes(manifest.read_bytes())
    roles = {"train": Channel("training", tmp_path / "channel"), "images": Channel("images", pictures)}
    made = channels.prepare(roles, asked, tmp_path / "work")
    part = open_part(made.data, "train").dataset
    assert part.class_names == ("screw",)
    assert len(part.images) == 4
    given = cloud_given.given_options(["--config", "small", *READING, *DIVIDING])
    assert cloud_given.pictures_here(str(manifest), str(pictures), given) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rename", "bolt"], "--rename: is 'bolt'. Give OLD=NEW"),
        (["--label-attribute", "other"], "other"),
        (["--class-name", "x"], "--class-name: no file has regions without a class"),
        (["--fractions", "val=0.5", "test=0.5"], "fractions: names the parts val, test, and none is trained on"),
        (["--fractions", "train=0.5", "val=0.2"], "fractions"),
        (["--group-by", "suffix:1"], "group-by"),
        (["--fold", "1", "--split", "mine"], "--split and --fold: for a data set with its parts, and this is label files"),
        (["--on-duplicate", "both"], "--on-duplicate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_label_files_costs_nothing(
    sightline: Run, account: Account, labels: tuple[Path, Path], words: list[str], told: str
) -> None:
    manifest, pictures = labels
    code, out, err = sightline("train", "--data", manifest, "--images", pictures, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert account.client("s3").list_buckets()["Buckets"] == []


def test_options_of_label_files_are_not_for_a_data_set_with_parts(sightline: Run, tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "parts", train=2, val=1)
    code, _, err = sightline("train", "--data", data, "--images", tmp_path, *READING, *DIVIDING)
    assert code == 2
    assert "--images and --fractions and --split-seed and --group-by and --label-attribute" in err
    assert "for label files, and this is a data set with its parts. Leave out what is not for it." in err
    asked = understood({"rename": '["a=b"]', "fractions": "train=1"}, lambda name: name or "small")
    with pytest.raises(DatasetError, match=r"hyperparameter 'rename': is for label files, and channel 'training' holds a data"):
        channels.prepare({"train": Channel("training", data)}, asked, tmp_path / "work")


def test_pictures_that_are_not_there_are_left_out_where_that_is_asked(
    sightline: Run, account: Account, labels: tuple[Path, Path]
) -> None:
    manifest, pictures = labels
    (pictures / "3.jpg").unlink()
    code, _, err = sightline("train", "--data", manifest, "--images", pictures, "--dry-run")
    assert (code, "3.jpg" in err) == (2, True)
    code, _, err = sightline("train", "--data", manifest, "--images", pictures, "--on-problem", "skip", "--dry-run")
    assert code == 0, err
    assert "note: left out: " in err


def test_a_search_over_label_files_is_measured(sightline: Run, account: Account, labels: tuple[Path, Path]) -> None:
    manifest, pictures = labels
    words = ["tune", "--data", manifest, "--images", pictures, "--space", "learning-rate=1e-3,1e-2", "--epochs", "8"]
    code, out, err = sightline(*words, "--batch-size", "2", *DIVIDING, "--dry-run")
    assert code == 0, err
    fixed = json.loads(out)["requests"][0]["request"]["TrainingJobDefinition"]["StaticHyperParameters"]
    assert fixed["TEST.EVAL_PERIOD"] == "4", "four times in the 16 steps of 8 epochs over 4 pictures"
    assert json.loads(fixed["fractions"]) == ["train=0.5", "val=0.5"]


def test_a_fold_is_trained_on_without_other_parts(sightline: Run, tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "parts", fold1_train=2, fold1_val=1)
    code, out, err = sightline("train", "--data", data, "--fold", "1", "--dry-run")
    assert (code, '"fold": "1"' in out) == (0, True), err
