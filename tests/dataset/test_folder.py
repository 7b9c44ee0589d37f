import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_coco, a_dataset, a_picture, a_record, an_instance

from sightline import coco, labels
from sightline.dataset import folder as folders
from sightline.dataset.folder import create, open_part, require_sound
from sightline.errors import DatasetError, SightlineError
from sightline.images import read_image
from sightline.records import Dataset, ImageSize, Rle


def pictures_for(dataset: Dataset, folder: Path) -> Path:
    for image in dataset.images:
        a_picture(folder / image.file_name, image.size)
    return folder


def test_a_folder_holds_linked_pictures_and_coco_annotations(tmp_path: Path) -> None:
    dataset = a_dataset([a_record(file_name="x/1.jpg", source="s3://b/x/1.jpg"), a_record(2, labels=())])
    pictures = pictures_for(dataset, tmp_path / "pictures")
    report = create(dataset, tmp_path / "set", pictures=pictures)
    assert (report.images, report.boxes, report.skipped) == (2, 1, ())
    assert (tmp_path / "set/images/x/1.jpg").samefile(pictures / "x/1.jpg")
    part = open_part(tmp_path / "set")
    assert part.dataset == dataset
    assert part.images_dir == tmp_path / "set/images"
    assert part.annotations == tmp_path / "set/annotations/all.json"


def test_pictures_are_copied_where_links_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    pictures = pictures_for(a_dataset(), tmp_path / "pictures")
    create(a_dataset(), tmp_path / "set", pictures=pictures)
    assert (tmp_path / "set/images/001.jpg").read_bytes() == (pictures / "001.jpg").read_bytes()


def test_pictures_may_be_referred_to_by_name(tmp_path: Path) -> None:
    """On a mounted bucket a link costs nothing, a copy everything."""
    pictures = pictures_for(a_dataset(), tmp_path / "pictures")
    create(a_dataset(), tmp_path / "set", pictures=pictures, by_name=True)
    assert (tmp_path / "set/images/001.jpg").readlink() == pictures / "001.jpg"
    require_sound(open_part(tmp_path / "set"))


def test_pictures_may_be_given_one_by_one(tmp_path: Path) -> None:
    picture = a_picture(tmp_path / "other name.jpg")
    assert create(a_dataset(), tmp_path / "set", pictures={"001.jpg": picture}).images == 1
    with pytest.raises(DatasetError, match=r"001.jpg: has no picture. Add the picture or name"):
        create(a_dataset(), tmp_path / "other", pictures={})


def test_labels_only(tmp_path: Path) -> None:
    report = create(a_dataset(), tmp_path / "set", pictures=None)
    assert str(report) == f"{tmp_path / 'set'}: 1 images, 1 boxes, labels only"
    assert not (tmp_path / "set/images").exists()
    assert open_part(tmp_path / "set").images_dir is None


BROKEN = {
    "truncated.jpg": "truncated.jpg: is damaged or cut off .*Replace the file",
    "empty.jpg": r"empty.jpg: is empty \(0 bytes\)",
    "text.jpg": 'text.jpg: is no picture .begins with "this is no p".',
    "missing.jpg": "missing.jpg: has no picture below .*",
    "small.jpg": r"small.jpg: is 50 x 40 px .*, but its label s3://b/small.jpg says 100 x 80 px .*Use the picture",
}


def broken_set(folder: Path) -> tuple[Dataset, Path]:
    """One sound picture called .jpg that is a PNG, and one of each kind of BROKEN."""
    a_picture(folder / "good.jpg", format="PNG")
    whole = a_picture(folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[:-100])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture")
    a_picture(folder / "small.jpg", ImageSize(40, 50))
    names = ["good.jpg", *BROKEN]
    images = [a_record(number, file_name=name, source=f"s3://b/{name}") for number, name in enumerate(names, 1)]
    return a_dataset(images), folder


def test_every_broken_picture_is_reported_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    dataset, pictures = broken_set(tmp_path / "pictures")
    with pytest.raises(DatasetError) as caught:
        create(dataset, tmp_path / "set", pictures=pictures)
    assert len(caught.value.problems) == len(BROKEN)
    for message in BROKEN.values():
        assert caught.match(message)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_broken_pictures_are_skipped_when_asked(tmp_path: Path) -> None:
    dataset, pictures = broken_set(tmp_path / "pictures")
    report = create(dataset, tmp_path / "set", pictures=pictures, on_problem="skip")
    assert (report.images, len(report.skipped)) == (1, len(BROKEN))
    assert [image.file_name for image in open_part(tmp_path / "set").dataset.images] == ["good.jpg"]
    assert read_image(tmp_path / "set/images/good.jpg").shape == (80, 100, 3)


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DatasetError, match=r"001.jpg: has no picture below"):
        create(a_dataset(), tmp_path / "set", pictures=tmp_path / "pictures", on_problem="skip")


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    create(a_dataset(), tmp_path / "set", pictures=None)
    with pytest.raises(SightlineError, match=r"set: already exists"):
        create(a_dataset([]), tmp_path / "set", pictures=None)
    assert create(a_dataset([]), tmp_path / "set", pictures=None, replace=True).images == 0


# the top left quarter of the stored picture is white; EXIF 6 shows it at the top right, 8 at the bottom left, 3 opposite
STORED, SHOWN = ImageSize(60, 100), ImageSize(100, 60)
QUARTER = (0.0, 0.0, 50.0, 30.0)


@pytest.mark.parametrize(
    ("stored", "orientation", "size", "expected", "turned", "noted"),
    [
        pytest.param(STORED, 1, STORED, QUARTER, 0, False, id="not turned"),
        pytest.param(STORED, 6, STORED, (30.0, 0.0, 60.0, 50.0), 1, False, id="labels of the stored frame turn"),
        pytest.param(STORED, 8, STORED, (0.0, 50.0, 30.0, 100.0), 1, False, id="the other way"),
        pytest.param(STORED, 6, SHOWN, QUARTER, 0, False, id="labels of the shown frame stay"),
        pytest.param(STORED, 3, STORED, QUARTER, 0, True, id="upside down is undecidable"),
        pytest.param(ImageSize(60, 60), 6, ImageSize(60, 60), QUARTER, 0, True, id="a square is undecidable"),
    ],
)
def test_exif(
    tmp_path: Path, *, stored: ImageSize, orientation: int, size: ImageSize, expected: object, turned: int, noted: bool
) -> None:
    a_picture(tmp_path / "pictures/001.jpg", stored, orientation=orientation)
    dataset = a_dataset(
        [a_record(size=size, instances=(an_instance(box=QUARTER, segmentation=((0.0, 0.0, 50.0, 0.0, 50.0, 30.0),)),))]
    )
    report = create(dataset, tmp_path / "set", pictures=tmp_path / "pictures")
    (image,) = open_part(tmp_path / "set").dataset.images
    shown = read_image(tmp_path / "set/images/001.jpg")
    assert image.size == shown.shape[:2]
    assert image.instances[0].box == expected
    assert (report.turned, bool(report.notes)) == (turned, noted)
    if turned:
        x1, y1, x2, y2 = map(int, image.instances[0].box)
        assert shown[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].min() > 200
        xs, ys = image.instances[0].segmentation[0][::2], image.instances[0].segmentation[0][1::2]  # type: ignore[index]
        assert (min(xs), min(ys), max(xs), max(ys)) == expected


def test_the_note_on_an_undecidable_picture_names_it(tmp_path: Path) -> None:
    a_picture(tmp_path / "pictures/001.jpg", orientation=3)
    report = create(a_dataset(), tmp_path / "set", pictures=tmp_path / "pictures")
    assert report.notes == ("001.jpg: EXIF orientation 3 leaves its size alone; labels are taken as shown.",)


def test_a_mask_that_would_have_to_turn_is_a_problem(tmp_path: Path) -> None:
    a_picture(tmp_path / "pictures/001.jpg", STORED, orientation=6)
    mask = an_instance(box=QUARTER, segmentation=Rle(STORED, (6000,)))
    with pytest.raises(DatasetError, match=r"001.jpg: is turned by EXIF orientation 6, and its mask is of the unturned pixels"):
        create(a_dataset([a_record(size=STORED, instances=(mask,))]), tmp_path / "set", pictures=tmp_path / "pictures")


def test_labels_of_the_picture_before_its_rotation_are_not_trained_on(tmp_path: Path) -> None:
    """The loader would find another size than the label's; an import turns the labels."""
    dataset = a_dataset([a_record(), a_record(2)])
    create(dataset, tmp_path / "set", pictures=pictures_for(dataset, tmp_path / "pictures"))
    turned = tmp_path / "set/images" / dataset.images[1].file_name
    turned.unlink()  # it is linked to the other folder's
    a_picture(turned, dataset.images[1].size, orientation=6)
    with pytest.raises(DatasetError, match=r"before its EXIF rotation\. Make a folder whose labels are turned") as raised:
        require_sound(open_part(tmp_path / "set"))
    assert [problem.where for problem in raised.value.problems] == [str(turned)]


def test_processes_that_train_together_look_at_every_picture_once(tmp_path: Path) -> None:
    dataset = a_dataset([a_record(number) for number in range(1, 6)])
    create(dataset, tmp_path / "set", pictures=pictures_for(dataset, tmp_path / "pictures"))
    for record in dataset.images:
        (tmp_path / "set/images" / record.file_name).unlink()
    found = []
    for share in range(2):
        with pytest.raises(DatasetError) as raised:
            require_sound(open_part(tmp_path / "set"), share=share, shares=2)
        found.append([Path(problem.where).name for problem in raised.value.problems])
    names = [record.file_name for record in dataset.images]
    assert found == [names[0::2], names[1::2]]


@pytest.mark.parametrize(
    ("annotations", "pictures", "part"),
    [
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "train2017", "train2017"),
        ("val.json", "val", "val"),
        ("annotations/test.json", "images", "test"),
    ],
)
def test_other_layouts_open_as_they_are(tmp_path: Path, annotations: str, pictures: str, part: str) -> None:
    (tmp_path / annotations).parent.mkdir(exist_ok=True)
    (tmp_path / annotations).write_text(json.dumps(a_coco()))
    a_picture(tmp_path / pictures / "a.jpg")
    for opened in (open_part(tmp_path, part), open_part(tmp_path / annotations)):
        assert opened.images_dir == tmp_path / pictures
        assert opened.annotations == tmp_path / annotations
        assert opened.dataset.class_names == ("cat", "dog")


def test_a_part_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    create(a_dataset(), tmp_path / "set", pictures=None)
    with pytest.raises(
        DatasetError, match=r"set: has no part 'val'. Its parts: all. Make others with: sightline dataset split"
    ):
        open_part(tmp_path / "set", "val")
    coco.write(a_dataset(), tmp_path / "set/annotations/train.json")
    with pytest.raises(DatasetError, match=r"Its parts: all, train.$"):
        open_part(tmp_path / "set", "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: holds no data set. Give a folder that `sightline dataset import` made"):
        open_part(tmp_path / "empty")


def test_real_bees(shared: Path, tmp_path: Path) -> None:
    bees = shared / "data/bees"
    dataset = labels.read(bees / "output.manifest").dataset
    some = replace(
        dataset, images=tuple(image for image in dataset.images if image.file_name < "11" or "6381998" in image.file_name)
    )
    report = create(some, tmp_path / "set", pictures=bees / "images")
    assert report.images == len(some.images) == len(list((tmp_path / "set/images").iterdir()))
    assert report.skipped == ()


def test_official_coco(shared: Path) -> None:
    part = open_part(shared / "data/coco_tiny", "train")
    assert part.images_dir == shared / "data/coco_tiny/train2017"
    assert len(part.dataset.images) == 50
    assert folders.ALL not in dict(folders.parts_of(shared / "data/coco_tiny"))
