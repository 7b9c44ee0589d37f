from pathlib import Path

import pytest
from builders import a_dataset, a_record

from sightline.dataset.pictures import beside, folders_beside, locate
from sightline.errors import DatasetError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("files", "source", "expected"),
    [
        pytest.param(["b/a/c.jpg", "a/c.jpg", "c.jpg"], "s3://b/a/c.jpg", "b/a/c.jpg", id="with its bucket"),
        pytest.param(["a/c.jpg", "c.jpg"], "s3://b/a/c.jpg", "a/c.jpg", id="with its key"),
        pytest.param(["c.jpg", "x/c.jpg"], "s3://b/a/c.jpg", "c.jpg", id="by its ending"),
        pytest.param(["x/y/c.jpg"], "s3://b/a/c.jpg", "x/y/c.jpg", id="by its base name anywhere"),
        pytest.param(["a b+%20.jpg", "a b+ .jpg"], "s3://b/a b+%20.jpg", "a b+%20.jpg", id="keys are literal"),
        pytest.param(["u\u0308.jpg"], "s3://b/ü.jpg", "u\u0308.jpg", id="decomposed by macOS"),
        pytest.param(["001.jpg"], "", "001.jpg", id="by its file name"),
        pytest.param(["up/001.jpg"], "../up/001.jpg", "up/001.jpg", id="a path that goes up"),
    ],
)
def test_a_reference_finds_its_file(tmp_path: Path, files: list[str], source: str, expected: str) -> None:
    touch(tmp_path, *files)
    located = locate([a_record(source=source)], [tmp_path])
    assert located.paths == {1: tmp_path / expected}
    assert located.problems == {}


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "here/empty.txt", "there/x.jpg")
    located = locate([a_record(source=str(tmp_path / "there/x.jpg"))], [tmp_path / "here"])
    assert located.paths == {1: tmp_path / "there/x.jpg"}


@pytest.mark.parametrize(
    ("files", "sources", "message"),
    [
        pytest.param(
            ["IMG_1.JPG"], ["s3://b/IMG_1.jpg"], "IMG_1.jpg: has no picture below .*. Did you mean 'IMG_1.JPG'?", id="missing"
        ),
        pytest.param([], ["s3://b/1.jpg"], "has no picture below .*. Add the picture or name the folder", id="empty folder"),
        pytest.param(
            ["x/1.jpg", "y/1.jpg"], ["s3://b/1.jpg"], "could be any of 2 pictures: .*x/1.jpg, .*y/1.jpg", id="ambiguous"
        ),
        pytest.param(
            ["1.jpg"], ["s3://b/x/1.jpg", "s3://b/y/1.jpg"], "y/1.jpg: resolves to .*1.jpg, as s3://b/x/1.jpg does", id="shared"
        ),
    ],
)
def test_what_cannot_be_found_is_named(tmp_path: Path, files: list[str], sources: list[str], message: str) -> None:
    touch(tmp_path, *files)
    images = [a_record(number, source=source, file_name=source[5:]) for number, source in enumerate(sources, 1)]
    (problem,) = locate(images, [tmp_path]).problems.values()
    with pytest.raises(DatasetError, match=message):
        raise DatasetError.collected([problem])


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/1.jpg")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "pictures" / "circle").symlink_to(tmp_path / "pictures")
    assert locate([a_record(source="s3://b/1.jpg")], [tmp_path / "pictures"]).paths[1].name == "1.jpg"


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="missing: is no folder"):
        locate([a_record()], [tmp_path / "missing"])


@pytest.mark.parametrize(
    ("annotations", "picture"),
    [
        ("annotations/instances_train2017.json", "train2017/001.jpg"),
        ("annotations/instances_val2017.json", "images/val2017/001.jpg"),
        ("train.json", "train/001.jpg"),
        ("annotations/all.json", "images/001.jpg"),
        ("labels.json", "001.jpg"),
        ("train/_annotations.coco.json", "train/001.jpg"),
    ],
)
def test_pictures_beside_a_coco_file(tmp_path: Path, annotations: str, picture: str) -> None:
    touch(tmp_path, annotations, picture)
    assert beside(tmp_path / annotations, ["001.jpg"]) == (tmp_path / picture).parent


def test_a_name_that_no_file_can_have_is_no_file(tmp_path: Path) -> None:
    touch(tmp_path, "images/001.jpg")
    assert beside(tmp_path / "labels.json", ["x" * 300 + ".jpg", "nul\0.jpg", "001.jpg"]) == tmp_path / "images"


def test_without_pictures_beside_both_options_are_named(tmp_path: Path) -> None:
    for source, message in (("s3://b/1.jpg", r"has pictures on S3 .s3://b/1.jpg"), ("", "has no pictures beside it .001.jpg")):
        with pytest.raises(DatasetError, match=f"{message}.*--images DIR.*--labels-only"):
            folders_beside([str(tmp_path / "labels")], a_dataset([a_record(source=source)]))
