from pathlib import Path

import pytest
from builders import a_dataset, a_picture, a_record, an_instance

from sightline import labels
from sightline.errors import LabelError
from sightline.records import ImageSize


def a_set(folder: Path, lines: dict[str, str | None], config: str = "names: [cat, dog]\ntrain: images\n") -> Path:
    """data.yaml, a picture of 100 x 80 px for every name, and its lines; None: no label file."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(config, encoding="utf-8")
    for name, text in lines.items():
        a_picture(folder / "images" / f"{name}.jpg")
        if text is not None:
            (folder / "labels" / f"{name}.txt").write_text(text)
    return folder


def test_boxes_are_shares_of_the_picture(tmp_path: Path) -> None:
    imported = labels.read(a_set(tmp_path, {"a": "1 0.25 0.5 0.3 0.5\n", "b": "", "c": None}))
    assert imported.report.format == "yolo"
    assert [image.file_name for image in imported.dataset.images] == ["a.jpg", "b.jpg", "c.jpg"]
    (instance,) = imported.dataset.images[0].instances
    assert instance == an_instance(1, (10.0, 20.0, 40.0, 60.0))
    assert imported.report.empty_images == 2
    assert imported.pictures["c.jpg"] == tmp_path / "images/c.jpg"


def test_outlines(tmp_path: Path) -> None:
    imported = labels.read(a_set(tmp_path, {"a": "0 0.1 0.25 0.4 0.25 0.4 0.75\n"}))
    (instance,) = imported.dataset.images[0].instances
    assert instance.box == (10.0, 20.0, 40.0, 60.0)
    assert instance.area == pytest.approx(600)
    assert instance.segmentation == ((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [b, a]", ("b", "a")),
        ("names: {1: a, 0: b}", ("b", "a")),
        ("names:\n  0: no\n  1: 1.0\n  2: null", ("no", "1.0", "null")),
        ("names:\n- 猫\n- 'dog '", ("猫", "dog ")),
    ],
)
def test_class_names_are_text_in_the_order_of_their_numbers(tmp_path: Path, names: str, expected: tuple[str, ...]) -> None:
    imported = labels.read(a_set(tmp_path, {"a": None}, f"train: images\n{names}\n"))
    assert imported.dataset.class_names == expected


@pytest.mark.parametrize(
    ("layout", "train", "val", "config"),
    [
        ("images/train", "images/train/a.jpg", "images/val/b.jpg", "train: images/train\nval: images/val"),
        ("roboflow", "train/images/a.jpg", "valid/images/b.jpg", "train: ../train/images\nval: ../valid/images"),
        (
            "a path elsewhere",
            "images/train/a.jpg",
            "images/val/b.jpg",
            "path: /home/x/set\ntrain: images/train\nval: [images/val]",
        ),
        ("lists", "images/train/a.jpg", "images/val/b.jpg", "train: train.txt\nval: val.txt\ntest:"),
        ("one folder twice", "images/a.jpg", "images/b.jpg", "train: images\nval: images"),
    ],
)
def test_layouts(tmp_path: Path, layout: str, train: str, val: str, config: str) -> None:
    for picture in (train, val):
        a_picture(tmp_path / picture)
        label = tmp_path / picture.replace("images", "labels").replace(".jpg", ".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "train.txt").write_text(f"./{train}\n\n")
    (tmp_path / "val.txt").write_text(f"{val}\n")
    (tmp_path / "data.yaml").write_text(f"{config}\nnames: [cat]\n")
    imported = labels.read(tmp_path / "data.yaml")
    assert imported.report.boxes == 2, layout
    assert [path.name for path in imported.pictures.values()] == ["a.jpg", "b.jpg"]
    assert len(imported.report.notes) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "a.txt:1: has class 2 of 2"),
        ("-1 0.5 0.5 0.1 0.1", "has class -1 of 2"),
        ("0.5 0.5 0.5 0.1 0.1", "has class 0.5 of 2"),
        ("0 0.5 0.5 0.1", "has 3 numbers after the class"),
        ("0 0.5 0.5 0.1 0.1 0.3", "has five numbers: an oriented box"),
        ("0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 plane 0", "has 'plane', no finite number .oriented boxes in DOTA's form"),
        ("0 0.5 0.5 nan 0.1", "has 'nan', no finite number"),
        ("0 0.5 0.5 inf 0.1", "has 'inf', no finite number"),
        ("0 0.5 0.5 -0.1 0.1", "has the size -0.1 x 0.1"),
        ("0 50 50 10 10", "reaches outside its picture"),
        ("0 0.5 0.5 0 0.1", "has an object of zero size"),
        ("0 0.1 0.1 0.2 0.2 0.3", "five numbers"),
        ("0 0.1 0.1 0.1 0.2 0.1 0.3", "has an object of zero size"),
    ],
)
def test_broken_lines_are_problems(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        labels.read(a_set(tmp_path, {"a": line}))


def test_rounding_is_cut_off(tmp_path: Path) -> None:
    imported = labels.read(a_set(tmp_path, {"a": "0 0.5 0.5 1.0000009 1\n0 0.50390625 0.5 1 1\n"}))
    assert [one.box for one in imported.dataset.images[0].instances] == [(0.0, 0.0, 100.0, 80.0), (0.390625, 0.0, 100.0, 80.0)]
    assert imported.report.notes == ("1 objects reached up to 1 px outside their picture; they were cut off at its edge.",)


def test_a_label_file_without_its_picture_and_a_damaged_picture_are_problems(tmp_path: Path) -> None:
    a_set(tmp_path, {"a": "", "b": ""})
    (tmp_path / "labels/x.txt").write_text("")
    (tmp_path / "labels/classes.txt").write_text("cat\n")
    (tmp_path / "images/b.jpg").write_bytes(b"no picture")
    imported = labels.read(tmp_path, on_problem="skip")
    assert [image.file_name for image in imported.dataset.images] == ["a.jpg"]
    assert [problem.where.rpartition("/")[2] for problem in imported.report.skipped] == ["b.jpg", "x.txt"]


def test_turned_pictures_are_as_shown(tmp_path: Path) -> None:
    a_picture(a_set(tmp_path, {"a": ""}) / "images/a.jpg", orientation=6)
    imported = labels.read(tmp_path)
    assert imported.dataset.images[0].size == ImageSize(100, 80)
    assert "turned by their EXIF orientation" in imported.report.notes[0]


def test_pictures_elsewhere(tmp_path: Path) -> None:
    a_set(tmp_path / "set", {"a": "0 0.5 0.5 0.1 0.1"})
    (tmp_path / "set/images").rename(tmp_path / "pictures")
    assert labels.read(tmp_path / "set", images=tmp_path / "pictures").report.boxes == 1
    with pytest.raises(LabelError, match="names train: images, which does not exist"):
        labels.read(tmp_path / "set")


BOMB = "names: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("names: [a\n", "is not YAML"),
        ("names: " + "[" * 5000, "has values nested more than 20 deep"),
        (BOMB, r"has the alias \*a"),
        ("names: []\ntrain: images", "has no list 'names'"),
        ("names: {0: a, 2: b}\ntrain: images", "has names without number 1"),
        ("names: [a, a]\ntrain: images", "has the class name 'a' under number 1"),
        ("names: [a, [b]]\ntrain: images", r"has the class name \['b'\] under number 1"),
        ("names: [a]", "names no pictures"),
        ("names: [a]\ntrain: [{x: 1}]", "has train"),
        ("names: [a]\npath: [x]\ntrain: images", "has path"),
        ("names: [a]\ntrain: images\ntask: obb", "is of oriented boxes"),
        ("names: [a]\ntrain: images\nkpt_shape: [17, 3]", "is of poses"),
        ("names: [a]\ntrain: nowhere", "names train: nowhere, which does not exist"),
        ('names: [a]\ntrain: "a\\0b"', "which does not exist"),
        ("- names", "holds a list, not keys"),
    ],
)
def test_broken_configs_are_refused(tmp_path: Path, config: str, message: str) -> None:
    a_set(tmp_path, {"a": ""}, config)
    with pytest.raises(LabelError, match=message):
        labels.read(tmp_path / "data.yaml", format="yolo")


def test_what_is_written_and_what_is_lost(tmp_path: Path) -> None:
    outline = ((10.0, 20.0, 40.0, 20.0, 40.0, 60.0), (50.0, 60.0, 60.0, 60.0, 60.0, 70.0))
    record = a_record(instances=(an_instance(0, (10, 20, 60, 70), segmentation=outline), an_instance(1, crowd=True)))
    dataset = a_dataset([record])
    assert labels.write(dataset, tmp_path / "auto", format="yolo") == [
        "1 objects in several parts have one outline, with lines between the parts",
        "1 crowd regions were left out",
    ]
    assert (tmp_path / "auto/labels/001.txt").read_text().split()[:5] == ["0", "0.1", "0.25", "0.4", "0.25"]
    lost = labels.write(dataset, tmp_path / "boxes", format="yolo", yolo_task="detect")
    assert lost == ["1 outlines or masks became boxes", "1 crowd regions were left out"]
    assert (tmp_path / "boxes/labels/001.txt").read_text() == "0 0.35 0.5625 0.5 0.625\n"


def test_unusual_class_names_come_back(tmp_path: Path) -> None:
    dataset = a_dataset(names=("one\x85two", "Käfer\u2028"))
    labels.write(dataset, tmp_path / "out", format="yolo")
    a_picture(tmp_path / "out/images/001.jpg")
    assert labels.read(tmp_path / "out/data.yaml").dataset.class_names == ("one\x85two", "Käfer\u2028")
