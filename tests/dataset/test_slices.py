"""Dataset folders cut into tiles: every pixel and every label where the whole picture has it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import a_data_folder, a_dataset_folder
from painted import painted
from PIL import Image as Pillow
from typer.testing import CliRunner

from sightline import coco
from sightline.cli.dataset import app
from sightline.dataset.folder import open_part
from sightline.dataset.slices import slice_folder
from sightline.dataset.split import write_split
from sightline.errors import ConfigError, DatasetError
from sightline.geometry.masks import decode, encode, rasterise
from sightline.images import read_image
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance
from sightline.slicing import Slices

SIZE = ImageSize(60, 100)
BOXES: tuple[Box, ...] = ((10, 10, 22, 20), (36, 30, 76, 50), (90, 52, 100, 60))


def outline(box: Box) -> tuple[tuple[float, ...], ...]:
    x1, y1, x2, y2 = box
    return ((x1, y1, x2, y1, x2, y2, x1, y2),)


def a_folder(to: Path, instances: tuple[Instance, ...], *, suffix: str = ".png", size: ImageSize = SIZE) -> Path:
    """A dataset folder of one painted picture, street/a, and an empty small one."""
    (to / "images/street").mkdir(parents=True)
    Pillow.fromarray(painted(size, BOXES)).save(to / f"images/street/a{suffix}")
    Pillow.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(to / "images/small.png")
    records = (ImageRecord(7, f"street/a{suffix}", size, instances), ImageRecord(9, "small.png", ImageSize(20, 30)))
    coco.write(Dataset((Category(3, "even"), Category(5, "odd")), records), to / "annotations/all.json")
    return to


PLAIN = tuple(Instance(box, number % 2) for number, box in enumerate(BOXES, 1))
SLICES = Slices.square(40, overlap=0.25)


def test_pixels_and_labels_are_those_of_the_picture(tmp_path: Path) -> None:
    report = slice_folder(a_folder(tmp_path / "data", PLAIN), tmp_path / "tiles", SLICES, min_visible=0.5)
    part = open_part(tmp_path / "tiles")
    whole = painted(SIZE, BOXES)
    names = [f"street/a_{top}_{left}.png" for top in (0, 20) for left in (0, 30, 60)]
    assert [image.file_name for image in part.dataset.images] == [*names, "small.png"]
    assert [image.id for image in part.dataset.images] == list(range(1, 8))
    assert {image.group for image in part.dataset.images} == {"street/a.png", "small.png"}
    for image in part.dataset.images[:-1]:
        top, left = map(int, image.file_name[:-4].split("_")[1:])
        np.testing.assert_array_equal(read_image(part.pictures / image.file_name), whole[top : top + 40, left : left + 40])
        for instance in image.instances:
            x1, y1, x2, y2 = (round(edge) for edge in instance.box)
            pixels = whole[top + y1 : top + y2, left + x1 : left + x2, 0]
            assert (pixels == pixels[0, 0]).all() and pixels[0, 0] % 2 == instance.label
    boxes = {image.file_name: [instance.box for instance in image.instances] for image in part.dataset.images}
    assert boxes["street/a_0_30.png"] == []  # of the second 17 in 40 are seen
    assert boxes["street/a_20_30.png"] == [(6, 10, 40, 30)]
    assert boxes["street/a_20_60.png"] == [(30, 32, 40, 40)]
    assert (report.images, report.tiles, report.boxes, report.dropped) == (2, 7, sum(map(len, boxes.values())), 0)


def test_what_is_hardly_seen_is_no_label_and_is_told(tmp_path: Path) -> None:
    data = a_folder(tmp_path / "data", PLAIN)
    report = slice_folder(data, tmp_path / "tiles", Slices.square(32, overlap=0), min_visible=1.0)
    assert report.dropped == 1  # 40 px wide, and in no tile of 32 px
    assert "1 objects of which no tile shows enough" in str(report)
    labelled = {instance.box for image in open_part(tmp_path / "tiles").dataset.images for instance in image.instances}
    assert all(x2 - x1 < 40 for x1, _, x2, _ in labelled)


@pytest.mark.parametrize("form", ["outlines", "run lengths"])
def test_masks_are_cut_with_the_picture(tmp_path: Path, form: str) -> None:
    bitmap = painted(SIZE, BOXES)[..., 0] == 2
    segmentation = outline(BOXES[1]) if form == "outlines" else encode(bitmap)
    data = a_folder(tmp_path / "data", (Instance(BOXES[1], 0, segmentation=segmentation),))
    slice_folder(data, tmp_path / "tiles", SLICES, min_visible=0.1)
    seen = 0
    for image in open_part(tmp_path / "tiles").dataset.images[:-1]:
        top, left = map(int, image.file_name[:-4].split("_")[1:])
        for instance in image.instances:
            shape = instance.segmentation
            assert shape is not None
            mask = rasterise(tuple(map(np.array, shape)), image.size) if isinstance(shape, tuple) else decode(shape)
            np.testing.assert_array_equal(mask, bitmap[top : top + 40, left : left + 40])
            seen += 1
    assert seen == 5


def test_a_crowd_stays_however_little_of_it_is_seen(tmp_path: Path) -> None:
    data = a_folder(tmp_path / "data", (Instance((0, 0, 100, 60), 0, crowd=True),))
    report = slice_folder(data, tmp_path / "tiles", SLICES)
    assert report.boxes == 6
    assert all(instance.crowd for image in open_part(tmp_path / "tiles").dataset.images for instance in image.instances)


def test_parts_stay_and_tiles_stay_together(tmp_path: Path) -> None:
    folder = a_dataset_folder(tmp_path / "data", train=4, test=2)
    report = slice_folder(folder, tmp_path / "tiles", Slices.square(40, overlap=0.0))
    assert dict(report.parts) == {"all": 24, "test": 8, "train": 16}
    of = {
        name: {image.file_name: image for image in open_part(tmp_path / "tiles", name).dataset.images} for name in report.parts
    }
    assert of["train"].keys() | of["test"].keys() == of["all"].keys()
    assert not of["train"].keys() & of["test"].keys()
    assert all(of["all"][name].id == tile.id for name, tile in of["train"].items())
    whole = {image.file_name for image in open_part(folder, "train").dataset.images}
    assert {tile.group for tile in of["train"].values()} == whole
    write_split(tmp_path / "tiles", {"train": 0.5, "val": 0.5})
    groups = [{image.group for image in open_part(tmp_path / "tiles", name).dataset.images} for name in ("train", "val")]
    assert not groups[0] & groups[1]


def test_empty_tiles_stay_or_go(tmp_path: Path) -> None:
    data = a_folder(tmp_path / "data", PLAIN[:1])
    kept = slice_folder(data, tmp_path / "kept", SLICES)
    assert (kept.tiles, kept.empty) == (7, 6)
    gone = slice_folder(data, tmp_path / "gone", SLICES, with_empty=False)
    assert (gone.tiles, gone.empty) == (1, 0)
    assert [path.name for path in (tmp_path / "gone/images").rglob("*.png")] == ["a_0_0.png"]


def test_jpegs_stay_jpegs(tmp_path: Path) -> None:
    slice_folder(a_folder(tmp_path / "data", PLAIN, suffix=".JPG"), tmp_path / "tiles", SLICES)
    tile = tmp_path / "tiles/images/street/a_0_0.JPG"
    assert Pillow.open(tile).format == "JPEG"
    whole = read_image(tmp_path / "data/images/street/a.JPG")
    assert np.abs(read_image(tile).astype(int) - whole[:40, :40]).max() < 40  # encoded twice
    assert (tmp_path / "tiles/images/small.png").read_bytes() == (tmp_path / "data/images/small.png").read_bytes()


def test_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    folder = a_dataset_folder(tmp_path / "data", train=3, test=1)
    for name in ("001.png", "003.png"):
        (folder / "images" / name).unlink()
        (folder / "images" / name).write_bytes(b"no picture")
    with pytest.raises(DatasetError) as raised:
        slice_folder(folder, tmp_path / "tiles", SLICES)
    assert len(raised.value.problems) == 2
    assert not (tmp_path / "tiles").exists()
    with pytest.raises(ConfigError, match=r"min_visible: is 0\. Give a share above 0"):
        slice_folder(folder, tmp_path / "tiles", SLICES, min_visible=0)
    with pytest.raises(DatasetError, match="holds no data set"):
        slice_folder(tmp_path, tmp_path / "tiles", SLICES)


def test_two_pictures_with_tiles_of_one_name(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path / "data/images", 2)
    for old, new in (("001.png", "x.png"), ("002.png", "x.bmp")):
        (tmp_path / "data/images" / old).rename(tmp_path / "data/images" / new)
    size = ImageSize(48, 64)
    images = tuple(
        replace(one, file_name=name, size=size) for one, name in zip(dataset.images, ("x.png", "x.bmp"), strict=True)
    )
    coco.write(replace(dataset, images=images), tmp_path / "data/annotations/all.json")
    with pytest.raises(DatasetError, match=r"x\.bmp: would have tiles of the same names as .*x\.png\. Rename one"):
        slice_folder(tmp_path / "data", tmp_path / "tiles", SLICES)


def test_as_a_command(tmp_path: Path) -> None:
    data = a_folder(tmp_path / "data", PLAIN)
    asked = ["slice", str(data), "-o", str(tmp_path / "tiles"), "--size", "40", "--overlap", "0.25", "--without-empty"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.exception
    assert shown.stdout.startswith(f"{tmp_path / 'tiles'}: 4 tiles of 2 images, 5 boxes, 0 tiles without")
    again = CliRunner().invoke(app, asked).exception
    assert "exists" in str(again)
