import json
import math
from pathlib import Path

import pytest
from builders import a_dataset, a_picture, a_record, an_instance

from sightline import labels
from sightline.errors import LabelError
from sightline.records import ImageSize

RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
POLYGON = {"name": "polygon", "all_points_x": [10, 40, 40], "all_points_y": [20, 20, 60]}


def a_region(shape: object = RECT, **attributes: object) -> dict[str, object]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def a_via(folder: Path, *regions: object, wrap: str = "list", name: str = "a.jpg", filename: str | None = None) -> Path:
    """A label file of one picture of 100 x 80 px, beside it. wrap: version 1 (dict), 2 (list), or a project."""
    a_picture(folder / name)
    own = {str(number): region for number, region in enumerate(regions)} if wrap == "dict" else list(regions)
    entry = {"filename": filename or name, "size": 1, "regions": own, "file_attributes": {"note": "x"}}
    content: dict[str, object] = {f"{name}1": entry}
    if wrap == "project":
        content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}}
    path = folder / "via_region_data.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("wrap", ["dict", "list", "project"])
def test_all_versions(tmp_path: Path, wrap: str) -> None:
    path = a_via(tmp_path, a_region(RECT, type="dog"), a_region(POLYGON, type="cat"), wrap=wrap)
    imported = labels.read(path)
    assert imported.report.format == "via"
    (image,) = imported.dataset.images
    assert (image.file_name, image.size, imported.dataset.class_names) == ("a.jpg", ImageSize(80, 100), ("cat", "dog"))
    assert image.instances[0] == an_instance(1)
    assert (image.instances[1].box, image.instances[1].area) == ((10.0, 20.0, 40.0, 60.0), 600.0)
    assert image.instances[1].segmentation == ((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),)
    assert imported.pictures == {"a.jpg": tmp_path / "a.jpg"}


def test_csv(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        a_picture(tmp_path / name)
    shape = json.dumps(RECT).replace('"', '""')
    (tmp_path / "via.csv").write_text(
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        f'a.jpg,1,"{{}}",2,0,"{shape}","{{""type"":""cat""}}"\n'
        f'a.jpg,1,"{{}}",2,1,"{shape}","{{""type"":""dog""}}"\n'
        'b.jpg,1,"{}",0,0,"{}","{}"\n'
    )
    imported = labels.read(tmp_path / "via.csv")
    assert [len(image.instances) for image in imported.dataset.images] == [2, 0]
    assert imported.dataset.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ({"name": "circle", "cx": 50, "cy": 40, "r": 20}, math.pi * 400),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10}, math.pi * 200),
        ({"name": "ellipse", "cx": "50", "cy": 40, "rx": 20, "ry": 10, "theta": math.pi / 2}, math.pi * 200),
    ],
)
def test_round_shapes_become_polygons(tmp_path: Path, shape: dict[str, object], area: float) -> None:
    (instance,) = labels.read(a_via(tmp_path, a_region(shape))).dataset.images[0].instances
    assert instance.area == pytest.approx(area, rel=0.003)
    x1, y1, x2, y2 = instance.box
    assert (x2 - x1) * (y2 - y1) * math.pi / 4 == pytest.approx(area, rel=0.01)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((50, 40))


def test_the_class(tmp_path: Path) -> None:
    several = a_via(tmp_path / "several", a_region(RECT, type="cat", colour="red"))
    with pytest.raises(LabelError, match=r"several region attributes: 'type' .1 regions., 'colour' .*--class-attribute"):
        labels.read(several)
    assert labels.read(several, class_attribute="colour").dataset.class_names == ("red",)
    with pytest.raises(LabelError, match=r"no region attribute 'size'. There are: 'type'"):
        labels.read(several, class_attribute="size")
    none = a_via(tmp_path / "none", a_region(RECT))
    imported = labels.read(none)
    assert imported.dataset.class_names == ("object",)
    assert "--class-name gives it another name" in imported.report.notes[0]
    assert labels.read(none, class_name="balloon").dataset.class_names == ("balloon",)
    blank = a_via(tmp_path / "blank", a_region(RECT, type="cat"), a_region(RECT, type=""))
    with pytest.raises(LabelError, match="region 1: has no class: no 'type'"):
        labels.read(blank)
    assert labels.read(blank, class_name="thing").dataset.class_names == ("cat", "thing")
    ticked = a_via(tmp_path / "ticked", a_region(RECT, type={"cat": True, "dog": False}), a_region(RECT, type="cat "))
    imported = labels.read(ticked)
    assert imported.dataset.class_names == ("cat",)
    assert imported.report.notes == ("The classes 'cat ' and 'cat' differ only in blanks; they are one class.",)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (a_region({"name": "point", "cx": 1, "cy": 2}), "region 0: is a point, which encloses no object"),
        (a_region({"name": "polyline", "all_points_x": [1], "all_points_y": [1]}), "is an open line"),
        (a_region({"name": "blob"}), "has the shape 'blob'"),
        (a_region({}), "has the shape None"),
        (a_region(RECT | {"x": math.nan}), "has x nan"),
        (a_region(RECT | {"x": math.inf}), "has x inf"),
        (a_region(RECT | {"x": "ten", "y": None}), "has x 'ten', y None"),
        (a_region(RECT | {"x": 10**400}), "has x 1000"),
        (a_region(RECT | {"width": -3}), "has the size -3 x 40"),
        (a_region(RECT | {"width": 0}), "has zero size"),
        (a_region(RECT | {"x": 500}), "has a box outside its picture"),
        (a_region(POLYGON | {"all_points_x": [1, 2]}), "has 2 x and 3 y"),
        (a_region(POLYGON | {"all_points_x": [1, "b", 2]}), "has all_points_x with 'b'"),
        (a_region(POLYGON | {"all_points_y": 7}), "has all_points_y 7"),
        (a_region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}), "has zero size"),
        (a_region(RECT, type={"cat": True, "dog": True}), "has several classes: cat, dog"),
        (a_region(RECT, type=7), "has type 7"),
        (a_region(RECT, type="\ud800"), "is no Unicode text"),
        ({"shape_attributes": 1}, "has no shape_attributes"),
        (None, "has no shape_attributes"),
    ],
)
def test_broken_regions_are_problems(tmp_path: Path, region: object, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        labels.read(a_via(tmp_path, region))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"region_attributes"', "is not JSON"),
        ("[" * 100_000, "is not JSON|is neither"),
        ("[]", "holds a JSON list"),
        ('{"a": 1}', "a: is a JSON int"),
        ('{"a": {"filename": 3}}', "has filename 3"),
        ('{"a": {"filename": "a.jpg", "regions": 4}}', "has regions of type int"),
        ('{"a": {"filename": "b.jpg", "regions": []}}', "has no picture in .*--images"),
        ('{"a": {"filename": "../a.jpg", "regions": []}}', "outside its folder"),
        ('{"a": {"filename": "/etc/passwd", "regions": []}}', "outside its folder"),
        ('{"a": {"filename": "a\\u0000.jpg", "regions": []}}', "outside its folder"),
        ('{"a": {"filename": "\\ud800.jpg", "regions": []}}', "has no picture"),
        (f'{{"a": {{"filename": "{"x" * 5000}", "regions": []}}}}', "has no picture"),
        ("filename,other\n", "is neither VIA's JSON nor its CSV"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = a_via(tmp_path)
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        labels.read(path, format="via")


def test_old_labels_of_turned_pictures_are_of_the_stored_pixels(tmp_path: Path) -> None:
    wide = a_region({"name": "rect", "x": 60, "y": 10, "width": 35, "height": 20})
    path = a_via(tmp_path, wide)
    a_picture(tmp_path / "a.jpg", orientation=6)
    assert labels.read(path).dataset.images[0].size == ImageSize(80, 100)
    path = a_via(tmp_path, a_region())
    a_picture(tmp_path / "a.jpg", orientation=6)
    imported = labels.read(path)
    assert imported.dataset.images[0].size == ImageSize(100, 80)
    assert "1 pictures are turned" in imported.report.notes[0]


def test_two_files_with_the_same_picture_names(tmp_path: Path) -> None:
    paths = [a_via(tmp_path / part, a_region(RECT, type="cat")) for part in ("train", "val")]
    for sources in (paths, tmp_path):
        assert [image.file_name for image in labels.read(sources).dataset.images] == ["train/a.jpg", "val/a.jpg"]


def test_what_is_written_and_what_is_lost(tmp_path: Path) -> None:
    outline = ((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),)
    record = a_record(instances=(an_instance(0), an_instance(0, segmentation=outline), an_instance(0, crowd=True)))
    lost = labels.write(a_dataset([record]), tmp_path, format="via")
    assert lost == ["1 crowd regions were left out", "classes without objects are forgotten: dog"]
    entry = json.loads((tmp_path / "via_region_data.json").read_text())["001.jpg-1"]
    assert [region["shape_attributes"] for region in entry["regions"]] == [RECT, POLYGON]
    with pytest.raises(LabelError, match="leads out of the folder"):
        labels.write(a_dataset([a_record(file_name="a/../../b.jpg")]), tmp_path, format="via")


def test_balloons(shared: Path) -> None:
    parts = [shared / "data/balloon" / part / "via_region_data.json" for part in ("train", "val")]
    imported = labels.read(parts, class_name="balloon")
    assert (imported.report.images, imported.report.boxes, imported.report.skipped) == (35, 159, ())
    assert imported.dataset.class_names == ("balloon",)
    assert all(one.segmentation and one.area for image in imported.dataset.images for one in image.instances)
