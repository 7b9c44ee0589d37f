import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_picture, an_instance
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import labels
from sightline.errors import LabelError, SightlineError
from sightline.labels import ground_truth, open_images
from sightline.labels.report import Imported, ReadOptions
from sightline.records import Dataset, ImageSize

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
CLICKS = "," + ",".join(f"XClick{number}{axis}" for axis in "XY" for number in range(1, 5))
CAT, DOG, OWL = "/m/01yrx", "/m/0bt9lr", "/m/09d5_"
NAMES = f"{CAT},Cat\n{DOG},Dog\n{OWL},Owl\n"
ROTATIONS = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,Rotation"


def a_row(
    image: str = "0001", name: str = CAT, xs: str = "0.1,0.4", ys: str = "0.25,0.75", flags: str = "0,0,0,0,0", more: str = ""
) -> str:
    return f"{image},xclick,{name},1,{xs},{ys},{flags}{more}"


def options(**facts: object) -> Any:
    """`ReadOptions`, with what this format alone asks for."""
    defaults = {field.name: field.default for field in dataclasses.fields(ReadOptions)} | {"classes": ()}
    return SimpleNamespace(**(defaults | facts))


def a_folder(folder: Path, *rows: str, header: str = HEADER, pictures: tuple[str, ...] = ("0001", "0002")) -> Path:
    """Boxes, class names, and pictures of 100 x 80 px."""
    for name in pictures:
        a_picture(folder / "images" / f"{name}.jpg")
    (folder / "class-descriptions-boxable.csv").write_text(NAMES)
    path = folder / "validation-annotations-bbox.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def read(folder: Path, *rows: str, **facts: object) -> Imported:
    return open_images.read([a_folder(folder, *rows)], options=options(**facts))


def problems(imported: Imported) -> str:
    return "\n".join(map(str, imported.report.skipped))


def named(dataset: Dataset) -> dict[str, list[str]]:
    return {image.file_name: [dataset.class_names[one.label] for one in image.instances] for image in dataset.images}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(f"{HEADER}\n".encode(), "boxes", id="boxes"),
        pytest.param(f"\ufeff{HEADER}{CLICKS}\r\n".encode(), "boxes", id="boxes of version 6"),
        pytest.param(f"{ROTATIONS}\n".encode(), "rotations", id="rotations"),
        pytest.param(NAMES.encode(), "classes", id="classes"),
        pytest.param(b"LabelName,DisplayName\r\n/m/011k07,Tortoise", "classes", id="classes of version 7"),
        pytest.param(b"MaskPath,ImageID,LabelName,BoxID,BoxXMin", None, id="masks"),
        pytest.param(b"filename,file_size,region_shape_attributes", None, id="VIA"),
        pytest.param(b'{"images": []}', None, id="COCO"),
    ],
)
def test_files_are_told_apart_by_their_first_line(tmp_path: Path, head: bytes, expected: str | None) -> None:
    assert open_images.kind_of(head) == expected
    assert open_images.recognise(tmp_path / "a.csv", head) is (expected is not None)


def test_a_folder_is_recognised_by_its_boxes(tmp_path: Path) -> None:
    assert not open_images.recognise(tmp_path, b"")
    a_folder(tmp_path, a_row())
    assert open_images.recognise(tmp_path, b"")
    assert open_images.read([tmp_path], options=options()).report.images == 1


def test_shares_become_pixels_of_the_picture(tmp_path: Path) -> None:
    imported = read(tmp_path, a_row(), a_row("0002", DOG), a_row(xs="0,1", ys="0,1"))
    first, second = imported.dataset.images
    assert (first.file_name, first.size) == ("0001.jpg", ImageSize(80, 100))
    assert first.instances == (an_instance(0, (10.0, 20.0, 40.0, 60.0)), an_instance(0, (0.0, 0.0, 100.0, 80.0)))
    assert named(imported.dataset) == {"0001.jpg": ["Cat", "Cat"], "0002.jpg": ["Dog"]}
    assert imported.pictures == {name: tmp_path / "images" / name for name in ("0001.jpg", "0002.jpg")}
    assert second.instances[0].label == 1


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row(more=",-1" * 8), header=HEADER + CLICKS)
    assert open_images.read([path], options=options()).report.boxes == 1
    path = a_folder(tmp_path, f"0.75,0.25,0.4,0.1,{CAT},0001", header="YMax,YMin,XMax,XMin,LabelName,ImageID")
    assert open_images.read([path], options=options()).dataset.images[0].instances == (an_instance(0),)


def test_groups_are_crowds_and_depictions_and_insides_are_kept(tmp_path: Path) -> None:
    flags = ["0,0,1,0,0", "0,0,0,1,0", "0,0,0,0,1", "-1,-1,-1,-1,-1"]
    imported = read(tmp_path, *[a_row(flags=flag) for flag in flags])
    assert [instance.crowd for instance in imported.dataset.images[0].instances] == [True, False, False, False]
    assert [note.split(" are ")[0] for note in imported.report.notes] == ["1 boxes", "1 objects", "1 objects"]


def test_only_the_classes_asked_for_are_kept_in_their_order(tmp_path: Path) -> None:
    rows = [a_row(), a_row("0002", DOG), a_row("0001", OWL)]
    imported = read(tmp_path, *rows, classes=("owl", "Dog"))
    assert imported.dataset.class_names == ("Owl", "Dog")
    assert named(imported.dataset) == {"0002.jpg": ["Dog"], "0001.jpg": ["Owl"]}
    assert read(tmp_path, *rows, classes=(DOG,)).dataset.class_names == ("Dog",)
    with pytest.raises(LabelError, match=r"has no class 'Owll'. Did you mean 'Owl'\?"):
        read(tmp_path, *rows, classes=("Owll",))


def test_classes_without_names_are_noted(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row())
    (tmp_path / "class-descriptions-boxable.csv").unlink()
    imported = open_images.read([path], options=options())
    assert imported.dataset.class_names == (CAT,)
    assert imported.report.notes == (f"1 classes have no name ({CAT}): add class-descriptions-boxable.csv.",)
    names = tmp_path / "elsewhere" / "names.csv"
    names.parent.mkdir()
    names.write_text("LabelName,DisplayName\n" + NAMES)
    assert open_images.read([path, names], options=options()).dataset.class_names == ("Cat",)
    with pytest.raises(LabelError, match=r"has no class 'Cat'\. Add class-descriptions-boxable"):
        open_images.read([path], options=options(classes=("Cat",)))


def test_a_picture_that_is_not_here_is_a_problem_of_its_own(tmp_path: Path) -> None:
    imported = read(tmp_path, a_row("0003"), a_row(), a_row("0003"), a_row("../../etc/x"))
    path = tmp_path / "validation-annotations-bbox.csv"
    assert named(imported.dataset) == {"0001.jpg": ["Cat"]}
    assert [str(problem) for problem in imported.report.skipped] == [
        f"{path}:2: needs the picture 0003.jpg, which is not here. Add the picture or name the folder that holds it.",
        f"{path}:5: has ImageID '../../etc/x'. Add the picture or name the folder that holds it.",
    ]


def test_a_million_missing_pictures_are_not_all_listed(tmp_path: Path) -> None:
    imported = read(tmp_path, a_row(), *[a_row(f"x{number}") for number in range(1_500)])
    assert len(imported.report.skipped) == 1_001
    assert problems(imported).endswith(
        "open-images: 500 more pictures are not here. Add the picture or name the folder that holds it."
    )


def test_without_any_picture_nothing_can_be_read(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row(), pictures=())
    with pytest.raises(LabelError, match=r"has no picture below .*Name the folder of the pictures, whose sizes are needed"):
        open_images.read([path], options=options())


def test_pictures_come_from_the_folder_that_is_named_each_once(tmp_path: Path) -> None:
    for name in ("Cat", "Dog"):  # as tools leave them that download by class
        a_picture(tmp_path / "dataset" / name / "0001.jpg", ImageSize(40, 50))
    imported = read(tmp_path, a_row(), images=tmp_path / "dataset")
    assert imported.dataset.images[0].size == ImageSize(40, 50)
    assert imported.pictures == {"0001.jpg": tmp_path / "dataset" / "Cat" / "0001.jpg"}


def test_boxes_are_of_the_stored_pixels_and_turn_with_exif(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row())
    a_picture(tmp_path / "images" / "0001.jpg", orientation=6)  # shown after a quarter clockwise
    (image,) = open_images.read([path], options=options()).dataset.images
    assert (image.size, image.instances[0].box) == (ImageSize(100, 80), (20.0, 10.0, 60.0, 40.0))
    a_picture(tmp_path / "images" / "0001.jpg", orientation=3)  # half a turn, which the size does not show
    (image,) = open_images.read([path], options=options()).dataset.images
    assert (image.size, image.instances[0].box) == (ImageSize(80, 100), (60.0, 20.0, 90.0, 60.0))


@pytest.mark.parametrize(
    ("rotation", "count"),
    [("90.0", 1), ("270", 1), ("0.0", 0), ("nan", 0), ("", 0)],
)
def test_rotation_changes_no_box_and_is_noted(tmp_path: Path, rotation: str, count: int) -> None:
    path = a_folder(tmp_path, a_row())
    names = "u,u,l,p,a,t,1"
    (tmp_path / "image_ids_and_rotation.csv").write_text(f"{ROTATIONS}\n0001,validation,{names},{rotation}\n9,x,{names},90\n")
    imported = open_images.read([path], options=options())
    assert imported.dataset.images[0].instances == (an_instance(0),)
    assert [note.split(". ")[0] for note in imported.report.notes] == ["1 pictures have a Rotation"] * count


def test_a_rotation_that_is_none_is_a_problem(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row())
    (tmp_path / "rotation.csv").write_text("ImageID,Rotation\n0001,45\n")
    assert "rotation.csv:2: has Rotation '45'. Known: 0, 90, 180 and 270 degrees." in problems(
        open_images.read([path], options=options())
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(a_row(xs="a,0.4"), "has XMin 'a'", id="text"),
        pytest.param(a_row(xs="nan,inf"), "has XMin 'nan', XMax 'inf'", id="nan"),
        pytest.param(a_row(xs="0.5,1.4"), "has a box outside its picture", id="outside"),
        pytest.param(a_row(name=""), "has no LabelName", id="no class"),
        pytest.param("0001,xclick", "has 2 fields, not 13", id="cut off"),
    ],
)
def test_a_broken_row_spoils_its_picture(tmp_path: Path, row: str, message: str) -> None:
    imported = read(tmp_path, a_row("0002"), a_row(), row)
    assert named(imported.dataset) == {"0002.jpg": ["Cat"]}
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(imported.report.skipped)
    assert "validation-annotations-bbox.csv:4" in problems(imported)


def test_a_picture_in_two_files_keeps_the_boxes_of_the_first(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row(), a_row("0002"))
    other = tmp_path / "train-annotations-bbox.csv"
    other.write_text(f"{HEADER}\n{a_row(name=DOG)}\n{a_row(name=DOG)}\n")
    imported = open_images.read([path, other], options=options())
    assert named(imported.dataset) == {"0001.jpg": ["Cat"], "0002.jpg": ["Cat"]}
    assert problems(imported).startswith(f"{other}:2: labels 0001 again, after {path}:2")
    assert len(imported.report.skipped) == 1


def test_an_empty_box_is_left_out_alone(tmp_path: Path) -> None:
    imported = read(tmp_path, a_row(), a_row(xs="0.4,0.4"))
    assert (imported.report.boxes, len(imported.report.skipped)) == (1, 1)


def test_a_damaged_picture_is_a_problem(tmp_path: Path) -> None:
    path = a_folder(tmp_path, a_row(), a_row("0002"))
    (tmp_path / "images" / "0001.jpg").write_bytes(b"no picture")
    imported = open_images.read([path], options=options())
    assert named(imported.dataset) == {"0002.jpg": ["Cat"]}
    assert "0001.jpg, which is no picture" in problems(imported)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"MaskPath,ImageID,LabelName\n", "is no file of boxes, classes or rotations", id="masks"),
        pytest.param(HEADER.encode() + b"\n\xff\xfe,x\n", "is no CSV", id="no UTF-8"),
        pytest.param(HEADER.encode() + b"\n" + b"x" * 200_000 + b"\n", "is no CSV .field larger than", id="a long field"),
        pytest.param(NAMES.encode(), "holds no boxes", id="classes alone"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(LabelError, match=message):
        open_images.read([tmp_path / "a.csv"], options=options())


def test_from_open_images_to_a_ground_truth_manifest_and_back(tmp_path: Path) -> None:
    rows = [a_row(), a_row("0002", DOG, "0.5,0.75", "0.5,0.875"), a_row("0002", CAT)]
    dataset = read(tmp_path, *rows).dataset
    manifest = tmp_path / "open-images.manifest"
    ground_truth.write(dataset, manifest, prefix="s3://bucket/open-images")
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [line["source-ref"] for line in lines] == [f"s3://bucket/open-images/{name}.jpg" for name in ("0001", "0002")]
    assert lines[1]["boxes"]["annotations"][0] == {"class_id": 1, "left": 50, "top": 40, "width": 25, "height": 30}
    again = labels.read(manifest).dataset
    assert named(again) == named(dataset)
    assert [image.instances for image in again.images] == [image.instances for image in dataset.images]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_no_other_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = f"{HEADER}\n{a_row()}\n{a_row('0002', DOG)}\n"
    start, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 12))
    inserted = data.draw(st.sampled_from(["", "nan", "-1", "1e999", '"', ",", "\n", "\0", "\r", "é", "9" * 400]))
    folder = tmp_path_factory.mktemp("damaged")
    path = a_folder(folder, pictures=("0001",))
    path.write_text(whole[:start] + inserted + whole[start + length :], encoding="utf-8")
    with contextlib.suppress(SightlineError):
        open_images.read([path], options=options())
