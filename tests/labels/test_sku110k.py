"""SKU-110K's CSV: no header, many boxes, and the faults of the real files."""

from pathlib import Path

import pytest
from builders import a_picture

from sightline import labels
from sightline.dataset import folder as folders
from sightline.errors import LabelError

ROWS = """train_0.jpg,0,0,30,40,object,100,80
train_0.jpg,30,0,60,40,object,100,80
train_1.jpg,10,10,100,80,object,100,80
"""


def a_set(folder: Path, rows: str = ROWS, name: str = "annotations_train.csv") -> Path:
    """A label file below the folder as the archive has it, and pictures."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for number in (0, 1):
        a_picture(folder / f"images/train_{number}.jpg")
    (folder / "annotations" / name).write_text(rows)
    return folder / "annotations" / name


def test_rows_become_boxes(tmp_path: Path) -> None:
    file = a_set(tmp_path)
    assert labels.recognise(file) == labels.recognise(tmp_path) == "sku110k"
    imported = labels.read(file)
    assert imported.dataset.class_names == ("object",)
    first, second = imported.dataset.images
    assert (first.file_name, first.size) == ("train_0.jpg", (80, 100))
    assert [instance.box for instance in first.instances] == [(0, 0, 30, 40), (30, 0, 60, 40)]
    assert [instance.box for instance in second.instances] == [(10, 10, 100, 80)]
    assert imported.pictures == {f"train_{number}.jpg": tmp_path / f"images/train_{number}.jpg" for number in (0, 1)}
    assert str(imported.report) == "sku110k: 2 images (0 without objects), 3 boxes"


def test_a_folder_as_it_is_unpacked(tmp_path: Path) -> None:
    a_set(tmp_path)
    a_set(tmp_path, "test_0.jpg,1,1,9,9,object,50,50\n", "annotations_test.csv")
    assert [image.file_name for image in labels.read(tmp_path).dataset.images] == ["test_0.jpg", "train_0.jpg", "train_1.jpg"]


def test_a_header_is_no_row(tmp_path: Path) -> None:
    plain = labels.read(a_set(tmp_path)).dataset
    headed = a_set(tmp_path, "image_name,x1,y1,x2,y2,class,image_width,image_height\n" + ROWS)
    assert labels.recognise(headed) == "sku110k"
    assert labels.read(headed).dataset == plain


def test_it_becomes_a_dataset_folder(tmp_path: Path) -> None:
    """And a picture that cannot be decoded is left out, as five of the real ones have to be."""
    file = a_set(tmp_path / "SKU110K_fixed")
    (tmp_path / "SKU110K_fixed/images/train_1.jpg").write_bytes(b"\xff\xd8\xff cut off")
    imported = labels.read(file, on_problem="skip")
    report = folders.create(imported.dataset, tmp_path / "data", pictures=imported.pictures, on_problem="skip")
    assert (report.images, report.boxes) == (1, 2)
    assert "train_1.jpg" in str(report.skipped[0])


@pytest.mark.parametrize(
    ("row", "what", "left"),
    [
        (
            "train_1.jpg,30,10,30,40,object,100,80",
            ":4: has a box of zero size (x1 30, y1 10, x2 30, y2 40). Remove the row.",
            2,
        ),
        ("train_1.jpg,90,10,130,40,object,100,80", ":4: has a box outside its picture (left 90", 1),
        ("train_1.jpg,40,10,30,40,object,100,80", ":4: has a box of negative size", 1),
        ("train_1.jpg,1,10,30,40,object,200,80", "says that train_1.jpg is 200 x 80 px (width x height), and rows before", 1),
        ("train_1.jpg,one,10,30,40,object,100,0", "has x1 'one'. Give finite numbers of pixels, and the class.", 1),
        ("train_1.jpg,1,10,30,40,,100,0.5", "has a size of 100 x 0.5, no class. Give finite", 1),
        ("train_1.jpg,1,10,30,40,object", ":4: has 6 columns. Give image_name,x1,y1,x2,y2,class,image_width,image_height.", 1),
        ("../train_1.jpg,1,10,30,40,object,100,80", "names the picture '../train_1.jpg', outside its folder", 2),
    ],
)
def test_faults(tmp_path: Path, row: str, what: str, left: int) -> None:
    file = a_set(tmp_path, f"{ROWS}{row}\n")
    with pytest.raises(LabelError) as raised:
        labels.read(file)
    assert what in str(raised.value)
    skipped = labels.read(file, on_problem="skip")
    assert len(skipped.dataset.images) == left
    assert len(skipped.report.skipped) == 1


def test_every_fault_at_once(tmp_path: Path) -> None:
    file = a_set(tmp_path, ROWS + "a.jpg,1,1,1,1,object,9,9\n" + "b.jpg,0,0,99,9,object,9,9\n")
    with pytest.raises(LabelError) as raised:
        labels.read(file)
    assert [problem.where for problem in raised.value.problems] == [f"{file}:4", f"{file}:5"]


def test_a_picture_in_two_files_of_one_folder(tmp_path: Path) -> None:
    a_set(tmp_path)
    a_set(tmp_path, ROWS, "annotations_val.csv")
    with pytest.raises(LabelError, match=r"annotations_val\.csv:1: labels train_0\.jpg again, after .*annotations_train\.csv"):
        labels.read(tmp_path)
