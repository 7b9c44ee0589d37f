"""Every format that is written, written and read again: what is kept, exactly, for data sets of any shape."""

import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_mask, a_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import labels
from sightline.errors import LabelError
from sightline.geometry.masks import decode, encode
from sightline.images import read_header
from sightline.labels.outlines import area, bounds
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance, Rle

SIZE = ImageSize(48, 64)
ROUNDING_PX = 1e-6
"""Formats hold decimal text: shares of twelve digits, corners counted from 1."""

NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp", "Cn")) | st.sampled_from(" '\"<&:#-"),
    min_size=1,
    max_size=8,
).filter(lambda name: name == name.strip() and name[0] not in "\ufeff")
"""Class names in any script, without blanks at their ends and control characters."""

X, Y = (st.floats(0, side).map(lambda value: round(value, 3)) for side in (SIZE.width, SIZE.height))


@st.composite
def outlines(draw: st.DrawFn, parts: int) -> tuple[tuple[float, ...], ...]:
    """Polygons of three to six corners that enclose something."""
    found = []
    for _ in range(draw(st.integers(1, parts))):
        corners = draw(st.lists(st.tuples(X, Y), min_size=3, max_size=6))
        polygon = tuple(value for corner in corners for value in corner)
        x1, y1, x2, y2 = bounds((polygon,))
        found.append(polygon if x2 - x1 >= 1 and y2 - y1 >= 1 else (1.5, 2.0, 9.25, 2.0, 9.25, 8.0))
    return tuple(found)


@st.composite
def instances(draw: st.DrawFn, classes: int, parts: int, crowds: bool) -> Instance:
    label, crowd = draw(st.integers(0, classes - 1)), crowds and draw(st.booleans())
    if parts and draw(st.booleans()):
        polygons = draw(outlines(parts))
        return Instance(bounds(polygons), label, crowd, area(polygons), polygons)
    x1, y1 = draw(X.filter(lambda x: x < 60)), draw(Y.filter(lambda y: y < 44))
    width, height = draw(st.floats(1.5, SIZE.width - x1)), draw(st.floats(1.5, SIZE.height - y1))
    return Instance((x1, y1, min(x1 + width, SIZE.width), min(y1 + height, SIZE.height)), label, crowd)


@st.composite
def datasets(draw: st.DrawFn, *, parts: int = 0, crowds: bool = False) -> Dataset:
    """Up to three pictures, some empty, of up to three classes; parts: of an outline, 0 for boxes only."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    pictures = draw(st.lists(st.lists(instances(len(names), parts, crowds), max_size=3), min_size=1, max_size=3))
    images = tuple(
        ImageRecord(number, draw(st.sampled_from(["", "ä b/"])) + f"{number} é.png", SIZE, tuple(own))
        for number, own in enumerate(pictures, 1)
    )
    return Dataset(tuple(Category(number, name) for number, name in enumerate(names, 1)), images)


def again(dataset: Dataset, format: str, **options: object) -> tuple[Dataset, list[str]]:
    """(the dataset written with its pictures and read, what the writer says is lost)."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "out")
        lost = labels.write(dataset, folder / labels.FILES.get(format, "").format(part="all"), format=format, **options)  # type: ignore[arg-type]
        for image in dataset.images:
            a_picture(folder / labels.PICTURE_FOLDERS.get(format, "images") / image.file_name, format="PNG", size=SIZE)
        source = folder / "annotations/all.json" if format == "coco" else folder
        imported = labels.read(source, format=format, **{key: value for key, value in options.items() if key == "voc_origin"})  # type: ignore[arg-type]
        assert labels.recognise(source) == format
        assert imported.report.skipped == ()
        return imported.dataset, lost


def by_name(dataset: Dataset) -> dict[str, tuple[ImageSize, list[tuple[str, Instance]]]]:
    """{last part of the file name: (size, [(class name, object)])}: ids and the order of pictures are no facts."""
    return {
        image.file_name.rpartition("/")[2]: (image.size, [(dataset.class_names[one.label], one) for one in image.instances])
        for image in dataset.images
    }


def assert_same(dataset: Dataset, read: Dataset) -> None:
    """Pictures, sizes, classes of objects, crowds; boxes and outlines to ROUNDING_PX."""
    expected, found = by_name(dataset), by_name(read)
    assert found.keys() == expected.keys()
    for name, (size, objects) in expected.items():
        assert found[name][0] == size
        assert [(kind, one.crowd) for kind, one in found[name][1]] == [(kind, one.crowd) for kind, one in objects]
        for (_, one), (_, other) in zip(objects, found[name][1], strict=True):
            assert other.box == pytest.approx(one.box, abs=ROUNDING_PX)
            assert isinstance(other.segmentation, tuple) == isinstance(one.segmentation, tuple)
            for part, same in zip(one.segmentation or (), other.segmentation or (), strict=True):
                assert same == pytest.approx(part, abs=ROUNDING_PX)


def without_unused(lost: list[str]) -> list[str]:
    return [line for line in lost if not line.startswith("classes without objects")]


@settings(max_examples=30)
@given(datasets(parts=2, crowds=True))
def test_coco_keeps_everything(dataset: Dataset) -> None:
    read, lost = again(dataset, "coco")
    assert lost == []
    assert (read.categories, [image.file_name for image in read.images]) == (
        dataset.categories,
        [image.file_name for image in dataset.images],
    )
    assert_same(dataset, read)


@settings(max_examples=30)
@given(datasets(crowds=True), st.sampled_from([0, 1]))
def test_voc_keeps_boxes_and_crowds(dataset: Dataset, origin: int) -> None:
    read, lost = again(dataset, "voc", voc_origin=origin)
    assert without_unused(lost) == []
    assert sorted(image.file_name for image in read.images) == sorted(image.file_name for image in dataset.images)
    assert_same(dataset, read)


@settings(max_examples=30)
@given(datasets())
def test_yolo_keeps_boxes_and_the_order_of_classes(dataset: Dataset) -> None:
    read, lost = again(dataset, "yolo")
    assert lost == []
    assert read.class_names == dataset.class_names
    assert_same(dataset, read)


@settings(max_examples=30)
@given(datasets(parts=1))
def test_via_keeps_boxes_and_outlines(dataset: Dataset) -> None:
    read, lost = again(dataset, "via")
    assert without_unused(lost) == []
    assert_same(dataset, read)


@settings(max_examples=30)
@given(datasets(parts=3, crowds=True))
def test_yolo_outlines_keep_the_area_and_the_bounds(dataset: Dataset) -> None:
    read, lost = again(dataset, "yolo", yolo_task="segment")
    told = " ".join(lost)
    assert ("crowd" in told) == any(one.crowd for image in dataset.images for one in image.instances)
    for name, (_, objects) in by_name(read).items():
        expected = [(kind, one) for kind, one in by_name(dataset)[name][1] if not one.crowd]
        assert [kind for kind, _ in objects] == [kind for kind, _ in expected]
        for (_, found), (_, one) in zip(objects, expected, strict=True):
            assert found.box == pytest.approx(one.box, abs=ROUNDING_PX)
            outline = one.segmentation
            if isinstance(outline, tuple) and len(outline) > 1:
                assert "in several parts" in told
            elif outline is not None:
                assert math.isclose(found.area or 0, one.area or 0, abs_tol=1e-3)
            else:
                assert "without an outline" in told


@settings(max_examples=25)
@given(datasets(parts=2, crowds=True), st.sampled_from(["coco", "voc", "yolo", "via", "cvat"]))
def test_what_a_format_holds_stays_from_then_on(dataset: Dataset, format: str) -> None:
    """Losses happen once: what was read from a format can be written to it without any."""
    once, _ = again(dataset, format)
    twice, lost = again(once, format)
    assert lost == []
    assert_same(once, twice)


@settings(max_examples=30)
@given(datasets(parts=3, crowds=True))
def test_cvat_keeps_everything(dataset: Dataset) -> None:
    read, lost = again(dataset, "cvat")
    assert lost == []
    assert read.class_names == dataset.class_names
    assert [image.file_name for image in read.images] == [image.file_name for image in dataset.images]
    assert_same(dataset, read)


@settings(max_examples=30)
@given(datasets(crowds=True))
def test_open_images_keeps_the_boxes_of_pictures_that_have_some(dataset: Dataset) -> None:
    labelled = replace(dataset, images=tuple(image for image in dataset.images if image.instances))
    if not labelled.images:
        return
    read, lost = again(dataset, "open-images")
    assert any("pictures without objects" in line for line in lost) == (len(labelled.images) < len(dataset.images))
    assert_same(labelled, read)


def test_open_images_boxes_are_of_the_stored_pixels(tmp_path: Path) -> None:
    box = (4.0, 8.0, 20.0, 12.0)
    for orientation in range(1, 9):
        name = f"{orientation}.jpg"
        a_picture(tmp_path / "pictures" / name, SIZE, orientation=orientation)
        shown = read_header(tmp_path / "pictures" / name).shown
        dataset = Dataset((Category(1, "cat"),), (ImageRecord(1, name, shown, (Instance(box, 0),)),))
        to = tmp_path / str(orientation)
        assert labels.write(dataset, to, format="open-images", pictures=tmp_path / "pictures") == []
        (image,) = labels.read(to, images=tmp_path / "pictures").dataset.images
        assert (image.size, image.instances[0].box) == (shown, pytest.approx(box))


def test_pictures_of_one_image_id_are_refused(tmp_path: Path) -> None:
    images = tuple(ImageRecord(number, name, SIZE) for number, name in enumerate(("a/1.jpg", "b/1.png"), 1))
    with pytest.raises(LabelError, match=r"a/1.jpg: shares the ImageID 1 with another picture"):
        labels.write(Dataset((), images), tmp_path / "out", format="open-images")


@pytest.mark.parametrize("format", ["cvat", "open-images"])
def test_class_names_that_would_come_back_as_others_are_refused(tmp_path: Path, format: str) -> None:
    with pytest.raises(LabelError, match="' cat': cannot be held by"):
        labels.write(Dataset((Category(1, " cat"),), ()), tmp_path / "out", format=format)


def test_cvat_keeps_masks(tmp_path: Path) -> None:
    mask = a_mask((3.0, 4.0, 9.0, 11.0), SIZE)
    ring = decode(mask)
    ring[6:8, 5:7] = False
    one = Instance((3.0, 4.0, 9.0, 11.0), 0, True, float(ring.sum()), encode(ring))
    dataset = Dataset((Category(1, "cat"), Category(2, "unused")), (ImageRecord(1, "1.png", SIZE, (one,)),))
    assert labels.write(dataset, tmp_path, format="cvat") == []
    assert labels.read(tmp_path).dataset == dataset
    wrong = replace(dataset.images[0], instances=(replace(one, segmentation=Rle(SIZE, "~~")),))
    with pytest.raises(LabelError, match=r"1.png: has run lengths that are no mask"):
        labels.write(replace(dataset, images=(wrong,)), tmp_path, format="cvat")


@pytest.mark.parametrize(
    ("format", "theirs", "place"), [("cvat", "cvat", "annotations.xml"), ("open-images", "openimages", "")]
)
def test_an_independent_reader_sees_the_same_boxes(tmp_path: Path, format: str, theirs: str, place: str) -> None:
    boxes = ((1.5, 2.0, 10.0, 20.0), (0.0, 0.0, 64.0, 48.0))
    instances = (Instance(boxes[0], 1), Instance(boxes[1], 0))
    dataset = Dataset((Category(1, "cat"), Category(2, "dog")), (ImageRecord(1, "1.png", SIZE, instances),))
    labels.write(dataset, tmp_path / "out", format=format)
    a_picture(tmp_path / "out/images/1.png", SIZE, format="PNG")
    source = tmp_path / "out" / (place or "annotations-bbox.csv")
    arguments = ["convert", "--from", theirs, "--to", "ir-json", "-i", str(source), "-o", str(tmp_path / "ir.json")]
    subprocess.run([sys.executable, "-m", "panlabel", *arguments, "--allow-lossy"], check=True, capture_output=True)
    seen = json.loads((tmp_path / "ir.json").read_text())["annotations"]
    assert [tuple(one["bbox"][key] for key in ("xmin", "ymin", "xmax", "ymax")) for one in seen] == [
        pytest.approx(box) for box in boxes
    ]
    assert [one["category_id"] for one in seen] == [2, 1]
