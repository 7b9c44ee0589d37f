"""Channels in every layout that a job may have, to one data set with parts."""

import json
import os
import shutil
from pathlib import Path

import pytest
from builders import a_box, a_coco, a_data_folder, a_dataset_folder, a_line, a_manifest, a_picture

from sightline.coco import to_json
from sightline.containers.channels import Prepared, by_role, prepare, weights_in
from sightline.containers.hyperparameters import Hyperparameters
from sightline.containers.opt_ml import Channel
from sightline.dataset.folder import open_part, require_sound
from sightline.errors import DatasetError, LabelError, SightlineError

ASKED = Hyperparameters()


def prepared(work: Path, asked: Hyperparameters = ASKED, **folders: Path) -> Prepared:
    channels = {name: Channel(name, folder) for name, folder in folders.items()}
    return prepare(by_role(channels, 1), asked, work)


def counts(found: Prepared) -> dict[str, int]:
    """{part: its pictures, all of which can be read}."""
    parts = {name: open_part(found.data, name) for name in (found.train, found.validation, found.evaluated) if name}
    for part in parts.values():
        require_sound(part)
    return {name: len(part.dataset.images) for name, part in parts.items()}


def a_labelled_folder(folder: Path, count: int = 5, names: tuple[str, ...] = ("cat", "dog"), prefix: str = "") -> Path:
    """A manifest with its pictures beside it, class numbers in the order of `names`."""
    lines = []
    for number in range(count):
        name = f"{prefix}{number}.jpg"
        a_picture(folder / "images" / name)
        label = names[number % len(names)]
        lines.append(a_line(f"s3://bucket/images/{name}", [a_box(names.index(label))], {str(names.index(label)): label}))
    a_manifest(folder / "output.manifest", lines)
    return folder


def test_a_folder_with_its_parts_is_used_where_it_is(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", train=3, val=1, test=1)
    found = prepared(tmp_path / "work", training=data)
    assert found == Prepared(data, "train", "val", "test")
    assert not (tmp_path / "work").exists()
    asked = Hyperparameters(options={"split": "test", "validate-on": "val"})
    assert prepared(tmp_path / "work", asked, training=data) == Prepared(data, "test", "val", "val")


def test_a_single_channel_of_any_name_is_for_training(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", train=3)
    assert prepared(tmp_path / "work", bees=data, code=tmp_path) == Prepared(data, "train", None, None)


def test_cocos_own_layout(tmp_path: Path) -> None:
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    for part, count in (("train2017", 3), ("val2017", 2)):
        dataset = a_data_folder(tmp_path / "data" / part, count)
        text = json.dumps(to_json(dataset))
        (tmp_path / "data" / "annotations" / f"instances_{part}.json").write_text(text, encoding="utf-8")
    found = prepared(tmp_path / "work", train=tmp_path / "data")
    assert found.data == tmp_path / "data"
    assert counts(found) == {"train": 3, "val": 2}


def test_the_older_layout_in_channels_of_its_own(tmp_path: Path) -> None:
    """train.json + train/, and the validation set in another channel."""
    for channel, part, count in (("a", "train", 3), ("b", "validation", 2)):
        dataset = a_data_folder(tmp_path / channel / part, count)
        (tmp_path / channel / f"{part}.json").write_text(json.dumps(to_json(dataset)), encoding="utf-8")
    found = prepared(tmp_path / "work", train=tmp_path / "a", validation=tmp_path / "b")
    assert (found.train, found.validation, found.evaluated) == ("train", "val", "val")
    assert counts(found) == {"train": 3, "val": 2}


def test_a_whole_data_set_is_divided_the_same_way_every_time(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", whole=10)
    (data / "annotations" / "whole.json").unlink()
    found = prepared(tmp_path / "work", train=data)
    assert counts(found) == {"train": 6, "val": 2, "test": 2}
    again = prepared(tmp_path / "again", train=data)
    for part in ("train", "val", "test"):
        assert open_part(found.data, part).dataset == open_part(again.data, part).dataset
    other = prepared(tmp_path / "other", Hyperparameters(fractions=("train=0.5", "val=0.5")), train=data)
    assert counts(other) == {"train": 5, "val": 5}
    assert {path.name for path in data.iterdir()} == {"images", "annotations"}, "a channel is read-only"
    assert [path.name for path in (data / "annotations").iterdir()] == ["all.json"]


def test_a_manifest_with_its_pictures_beside_it(tmp_path: Path) -> None:
    folder = a_labelled_folder(tmp_path / "data", 10)
    found = prepared(tmp_path / "work", train=folder)
    assert sum(counts(found).values()) == 10
    picture = next((tmp_path / "work").rglob("0.jpg"))
    assert picture.resolve() == folder / "images" / "0.jpg", "pictures are referred to, not copied"


def test_manifests_in_two_channels_whose_jobs_number_classes_differently(tmp_path: Path) -> None:
    train = a_labelled_folder(tmp_path / "train", 4, ("cat", "dog"))
    val = a_labelled_folder(tmp_path / "val", 3, ("dog", "cat"), "v")
    found = prepared(tmp_path / "work", train=train, validation=val)
    assert counts(found) == {"train": 4, "val": 3}
    part = open_part(found.data, "val").dataset
    assert part.class_names == ("cat", "dog")
    assert [part.class_names[image.instances[0].label] for image in part.images] == ["dog", "cat", "dog"]


def test_a_test_channel_beside_a_folder_with_parts(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", train=3, val=2)
    test = a_dataset_folder(tmp_path / "more", test=1)
    found = prepared(tmp_path / "work", train=data, test=test)
    assert (found.validation, found.evaluated) == ("val", "test")
    assert counts(found) == {"train": 3, "val": 2, "test": 1}


def test_pictures_in_a_channel_of_their_own(tmp_path: Path) -> None:
    folder = a_labelled_folder(tmp_path / "data", 10)
    shutil.move(folder / "images", tmp_path / "images")
    found = prepared(tmp_path / "work", train=folder, images=tmp_path / "images")
    assert sum(counts(found).values()) == 10


def test_read_only_channels_are_enough(tmp_path: Path) -> None:
    """As FastFile mounts them. Root may write anywhere, so what is there afterwards is looked at, too."""
    folder = a_labelled_folder(tmp_path / "data", 10)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        prepared(tmp_path / "work", train=folder)
        assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    finally:
        for path in before:
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("channels", "hosts", "messages"),
    [
        ({}, 1, ["channels: are none, and none is for training"]),
        ({"a": "full", "b": "full"}, 1, ["channels: are a, b, and none is for training. Name one 'train'"]),
        ({"train": "empty"}, 1, ["channel 'train': is empty"]),
        ({"train": "nowhere", "val": "empty"}, 1, ["channel 'train': is not there", "channel 'val': is empty"]),
        ({"train": "full", "training": "full"}, 1, ["is for the same as channel 'train'"]),
        ({"train": "Pipe"}, 1, ["is in Pipe mode"]),
        ({"train": "sharded"}, 2, ["ShardedByS3Key", "FullyReplicated"]),
    ],
)
def test_channels_that_cannot_be_used(channels: dict[str, str], hosts: int, messages: list[str], tmp_path: Path) -> None:
    for name in ("full", "Pipe", "sharded"):
        (tmp_path / name / "x").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    given = {
        name: Channel(name, tmp_path / kind, "Pipe" if kind == "Pipe" else "File", kind == "sharded")
        for name, kind in channels.items()
    }
    with pytest.raises(DatasetError) as caught:
        by_role(given, hosts)
    for message in messages:
        assert message in str(caught.value)


def test_what_a_shard_is_good_for_on_one_host(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert by_role({"train": Channel("train", tmp_path, sharded=True)}, 1)


def test_broken_contents(tmp_path: Path) -> None:
    a_picture(tmp_path / "pictures" / "a.jpg")
    with pytest.raises(DatasetError, match=r"channel 'train': holds no data set and no labels \(a.jpg\)"):
        prepared(tmp_path / "work", train=tmp_path / "pictures")
    folder = a_labelled_folder(tmp_path / "data", 3)
    os.truncate(folder / "images" / "1.jpg", 300)
    with pytest.raises(DatasetError, match=r"1\.jpg"):
        prepared(tmp_path / "work", train=folder)
    a_manifest(folder / "output.manifest", ["{"])
    with pytest.raises(LabelError, match=r"output\.manifest"):
        prepared(tmp_path / "work", train=folder)
    several = a_dataset_folder(tmp_path / "several", a=2, b=2)
    (several / "annotations" / "all.json").unlink()
    with pytest.raises(DatasetError, match="has the parts a, b, and none of them is called train"):
        prepared(tmp_path / "work", train=several)


def test_another_channels_classes(tmp_path: Path) -> None:
    train, val = a_labelled_folder(tmp_path / "a", 3, ("cat",)), a_labelled_folder(tmp_path / "b", 3, ("bee",), "v")
    with pytest.raises(DatasetError, match="channel 'validation': has classes that the training channel has not: bee"):
        prepared(tmp_path / "work", train=train, validation=val)


def test_one_coco_file_with_its_pictures(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        a_picture(tmp_path / "data" / name)
    (tmp_path / "data" / "labels.json").write_text(json.dumps(a_coco()), encoding="utf-8")
    found = prepared(tmp_path / "work", Hyperparameters(fractions=("train=0.5", "val=0.5")), train=tmp_path / "data")
    assert counts(found) == {"train": 1, "val": 1}


def test_weights_of_a_channel(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "resnet.pth").write_bytes(b"1")
    channel = Channel("model", tmp_path / "w")
    assert weights_in(channel, tmp_path) == (tmp_path / "w" / "resnet.pth", None)
    (tmp_path / "w" / "config.yaml").write_text("", encoding="utf-8")
    assert weights_in(channel, tmp_path)[1] == tmp_path / "w" / "config.yaml"
    (tmp_path / "w" / "other.pth").write_bytes(b"1")
    with pytest.raises(DatasetError, match="holds no weights, or several"):
        weights_in(channel, tmp_path)
    (tmp_path / "w" / "model_final.pth").write_bytes(b"1")
    assert weights_in(channel, tmp_path)[0].name == "model_final.pth"


def test_weights_of_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.pth").write_bytes(b"1")
    (tmp_path / "in" / "config.yaml").write_text("", encoding="utf-8")
    (tmp_path / "w").mkdir()
    shutil.make_archive(str(tmp_path / "w" / "model"), "gztar", tmp_path / "in")
    weights, config = weights_in(Channel("model", tmp_path / "w"), tmp_path)
    assert (weights.read_bytes(), config) == (b"1", tmp_path / "pretrained" / "config.yaml")
    (tmp_path / "w" / "model.tar.gz").write_bytes(b"none")
    with pytest.raises(SightlineError, match="is no archive"):
        weights_in(Channel("model", tmp_path / "w"), tmp_path)
