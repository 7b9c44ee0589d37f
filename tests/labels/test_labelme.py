import base64
import contextlib
import copy
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from builders import a_dataset, a_mask, a_picture, a_record, an_instance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from sightline.errors import LabelError, SightlineError
from sightline.geometry import masks
from sightline.labels import labelme
from sightline.labels.report import Imported, ReadOptions, WriteOptions
from sightline.records import ImageSize, Rle

SQUARE = [[10, 20], [40, 20], [40, 60], [10, 60]]


def a_shape(points: object = None, kind: str | None = "polygon", label: object = "cat", **facts: object) -> dict[str, object]:
    shape = {"label": label, "points": SQUARE if points is None else points, "group_id": None, "flags": {}}
    return shape | ({"shape_type": kind} if kind else {}) | facts


def a_page(*shapes: object, **facts: object) -> dict[str, object]:
    page = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    return page | {"imageHeight": 80, "imageWidth": 100} | facts


def png(bitmap: object) -> str:
    file = io.BytesIO()
    Pillow.fromarray(np.array(bitmap, dtype=bool)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def save(path: Path, page: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(page), encoding="utf-8")
    return path


def read(folder: Path, page: object, **options: object) -> Imported:
    return labelme.read([save(folder / "a.json", page)], options=ReadOptions(**options))  # type: ignore[arg-type]


def problems(imported: Imported) -> str:
    return "\n".join(map(str, imported.report.skipped))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(b'{"version": "5.5.0", "flags": {}, "shapes": [', True, id="version 5"),
        pytest.param(b'\n{ "imageData" : "/9j/4AAQ', True, id="the picture first"),
        pytest.param(b'{"a.jpg1": {"regions": [{"shape_attributes": {}', False, id="VIA"),
        pytest.param(b'{"images": [], "annotations": []', False, id="COCO"),
        pytest.param(b'[{"shapes": []}]', False, id="a list"),
    ],
)
def test_a_file_is_recognised(tmp_path: Path, head: bytes, expected: bool) -> None:
    assert labelme.recognise(tmp_path / "a.json", head) is expected


def test_a_folder_is_recognised_by_the_files_in_it(tmp_path: Path) -> None:
    save(tmp_path / "settings.json", {"theme": "dark"})
    assert not labelme.recognise(tmp_path, b"")
    save(tmp_path / "deep" / "a.json", a_page())
    assert labelme.recognise(tmp_path, b"")


def test_shapes_become_objects(tmp_path: Path) -> None:
    imported = read(
        tmp_path,
        a_page(
            a_shape(),
            a_shape([[40, 60], [10, 20]], "rectangle", "dog"),
            a_shape([[40, 20], [10, 60]], "rectangle", "dog"),
            a_shape([[50, 40], [50, 30]], "circle", "ant"),
        ),
    )
    (image,) = imported.dataset.images
    assert (image.file_name, image.size) == ("a.jpg", ImageSize(80, 100))
    assert imported.dataset.class_names == ("ant", "cat", "dog")
    polygon, one, other, circle = image.instances
    assert polygon == an_instance(1, area=1200.0, segmentation=((10.0, 20.0, 40.0, 20.0, 40.0, 60.0, 10.0, 60.0),))
    assert one == other == an_instance(2)
    assert circle.box == pytest.approx((40, 30, 60, 50))
    assert circle.area == pytest.approx(math.pi * 100, rel=0.002)


def test_a_circle_is_cut_off_at_the_edge(tmp_path: Path) -> None:
    (circle,) = read(tmp_path, a_page(a_shape([[0, 40], [10, 40]], "circle"))).dataset.images[0].instances
    assert circle.box == pytest.approx((0, 30, 10, 50))
    assert circle.area == pytest.approx(math.pi * 50, rel=0.002)


def test_a_group_id_joins_the_parts_of_one_object_of_one_class(tmp_path: Path) -> None:
    left, right = [[0, 0], [10, 0], [10, 10]], [[50, 50], [60, 50], [60, 60]]
    shapes = [a_shape(left, group_id=1), a_shape(right, group_id=1), a_shape(right, label="dog", group_id=1), a_shape(left)]
    cat, dog, alone = read(tmp_path, a_page(*shapes)).dataset.images[0].instances
    assert cat.box == (0.0, 0.0, 60.0, 60.0)
    assert cat.area == 100.0
    assert isinstance(cat.segmentation, tuple)
    assert len(cat.segmentation) == 2
    assert (dog.box, alone.box) == ((50.0, 50.0, 60.0, 60.0), (0.0, 0.0, 10.0, 10.0))


def test_a_mask_is_placed_at_its_corner(tmp_path: Path) -> None:
    shape = a_shape([[30, 10], [33, 12]], "mask", mask=png([[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]))
    (instance,) = read(tmp_path, a_page(shape)).dataset.images[0].instances
    expected = np.zeros((80, 100), dtype=bool)
    expected[10, 31:34] = expected[11:13, 31] = True
    assert isinstance(instance.segmentation, Rle)
    np.testing.assert_array_equal(masks.decode(instance.segmentation), expected)
    assert (instance.box, instance.area) == ((31.0, 10.0, 34.0, 13.0), 5.0)


def test_a_mask_and_a_polygon_of_one_group_are_one_mask(tmp_path: Path) -> None:
    mask = a_shape([[0, 0], [1, 1]], "mask", mask=png([[1, 1], [1, 1]]), group_id=7)
    (instance,) = read(tmp_path, a_page(a_shape(group_id=7), mask)).dataset.images[0].instances
    assert (instance.box, instance.area) == ((0.0, 0.0, 40.0, 60.0), 1204.0)


def test_lines_and_points_are_counted(tmp_path: Path) -> None:
    shapes = [a_shape([[1, 1]], "point"), a_shape([[1, 1], [2, 2]], "line"), a_shape([[1, 1], [2, 2]], "line"), a_shape()]
    imported = read(tmp_path, a_page(*shapes))
    assert imported.report.boxes == 1
    assert imported.report.notes == (
        "2 shapes of type line enclose no object and were left out.",
        "1 shapes of type point enclose no object and were left out.",
    )


def test_version_3_has_no_shape_type_no_group_and_no_size(tmp_path: Path) -> None:
    page = {
        "version": "3.16.7",
        "flags": {},
        "shapes": [{"label": "cat", "line_color": None, "fill_color": None, "points": SQUARE, "flags": {}}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "a.jpg",
    }
    assert "has no imageHeight and imageWidth, and its picture is not here" in problems(read(tmp_path, page))
    picture = a_picture(tmp_path / "a.jpg", orientation=6)
    imported = read(tmp_path, page | {"shapes": []})
    assert imported.dataset.images[0].size == ImageSize(100, 80)  # as shown
    assert imported.pictures == {"a.jpg": picture}
    inside = base64.b64encode(a_picture(tmp_path / "other.jpg", ImageSize(70, 90)).read_bytes()).decode()
    assert read(tmp_path, page | {"imageData": inside}).dataset.images[0].size == ImageSize(70, 90)


def test_the_picture_inside_only_checks_the_size(tmp_path: Path) -> None:
    inside = base64.b64encode(a_picture(tmp_path / "other.png", ImageSize(70, 90), format="PNG").read_bytes()).decode()
    assert "says 100 x 80 px (width x height), and the picture inside it is 90 x 70 px" in problems(
        read(tmp_path, a_page(imageData=inside))
    )
    assert read(tmp_path, a_page(imageData="no picture")).report.images == 1


@pytest.mark.parametrize(
    ("written", "file", "name"),
    [
        pytest.param("a.jpg", "ann/a.jpg", "ann/a.jpg", id="beside"),
        pytest.param("..\\img\\a.jpg", "img/a.jpg", "img/a.jpg", id="from Windows, in a neighbour"),
        pytest.param("../img/a.jpg", "img/a.jpg", "img/a.jpg", id="in a neighbour"),
        pytest.param("sub/./b.jpg", "ann/sub/b.jpg", "ann/sub/b.jpg", id="below"),
        pytest.param("C:\\Users\\me\\a.jpg", "ann/a.jpg", "ann/a.jpg", id="another machine"),
        pytest.param("/home/me/img/a.jpg", "img/a.jpg", "ann/a.jpg", id="another home"),
        pytest.param("old-name.jpg", "ann/page.png", "ann/old-name.jpg", id="renamed with its JSON file"),
        pytest.param("../../../../etc/a.jpg", None, "etc/a.jpg", id="climbing out"),
        pytest.param("", "ann/page.jpg", "ann/page.jpg", id="none"),
    ],
)
def test_the_picture_of_a_path(tmp_path: Path, written: str, file: str | None, name: str) -> None:
    picture = a_picture(tmp_path / "set" / file) if file else None
    a_picture(tmp_path / "etc" / "a.jpg")  # outside of what was given: never looked at
    save(tmp_path / "set" / "ann" / "page.json", a_page(imagePath=written))
    imported = labelme.read([tmp_path / "set"], options=ReadOptions())
    assert [image.file_name for image in imported.dataset.images] == [name]
    assert imported.pictures == ({name: picture} if picture else {})


def test_pictures_are_looked_for_in_the_folder_that_is_named_first(tmp_path: Path) -> None:
    a_picture(tmp_path / "a.jpg")
    picture = a_picture(tmp_path / "elsewhere" / "a.jpg")
    assert read(tmp_path, a_page(), images=tmp_path / "elsewhere").pictures == {"a.jpg": picture}


def test_equal_names_in_several_folders_stay_apart_and_twice_the_same_is_a_problem(tmp_path: Path) -> None:
    for name in ("x/1.json", "y/1.json", "y/2.json"):
        save(tmp_path / name, a_page())
    save(tmp_path / "config.json", {"theme": "dark"})
    imported = labelme.read([tmp_path], options=ReadOptions())
    assert [image.file_name for image in imported.dataset.images] == ["x/a.jpg", "y/a.jpg"]
    assert f"{tmp_path / 'y/2.json'}: labels y/a.jpg again, after {tmp_path / 'y/1.json'}" in problems(imported)
    assert imported.report.notes == (f"1 JSON files are not labelme's and were left out: {tmp_path / 'config.json'}.",)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        pytest.param([], "is a JSON list, not an object", id="a list"),
        pytest.param(a_page(shapes={}), "has shapes {}", id="no shapes"),
        pytest.param(a_page(imagePath=3), "has imagePath 3", id="no path"),
        pytest.param(a_page(imagePath="a\ud800.jpg"), "which is no Unicode text", id="half a character"),
        pytest.param(a_page(imageHeight="80"), "has imageHeight '80'", id="text for a size"),
        pytest.param(a_page(imageHeight=0), "has the size 100 x 0 px", id="no height"),
        pytest.param(a_page(5), "shape 1: is a JSON int", id="no shape"),
        pytest.param(a_page(a_shape(label=None)), "shape 1: has label None", id="no class"),
        pytest.param(a_page(a_shape(kind="cube")), "has shape_type 'cube'. Known: polygon, rectangle", id="unknown"),
        pytest.param(a_page(a_shape("x")), "has points 'x'", id="no points"),
        pytest.param(a_page(a_shape([[1, 2, 3]])), "has a point .1, 2, 3.", id="three numbers"),
        pytest.param(a_page(a_shape([["1", "2"]])), "has a point .'1', '2'.", id="text for numbers"),
        pytest.param(a_page(a_shape([[float("nan"), 2]])), "has a point .nan, 2.", id="nan"),
        pytest.param(a_page(a_shape([[1e300, 2], [0, 0]], "circle")), "has the point 1e.300, 2", id="far away"),
        pytest.param(a_page(a_shape([[1, 2]], "rectangle")), "is a rectangle of 1 points. Give 2", id="half a rectangle"),
        pytest.param(
            a_page(a_shape([[1, 2], [5, 1], [6, 6], [2, 7]], "rectangle")), "is a rectangle that is turned", id="turned"
        ),
        pytest.param(a_page(a_shape([[90, 2], [130, 9]], "rectangle")), "has a box outside its picture", id="outside"),
        pytest.param(a_page(a_shape(group_id=[1])), r"has group_id \[1\]", id="a list of groups"),
        pytest.param(a_page(a_shape([[0, 0], [1, 1]], "mask", mask=3)), "has mask 3", id="no mask"),
        pytest.param(a_page(a_shape([[0, 0], [1, 1]], "mask", mask="%%%")), "has a mask that is no picture", id="no base64"),
        pytest.param(a_page(a_shape([[0, 0], [1, 1]], "mask", mask="aGVsbG8=")), "has a mask that is no picture", id="no PNG"),
        pytest.param(
            a_page(a_shape([[0, 0], [9, 9]], "mask", mask=png([[1]]))), "has a mask of 1 x 1 px between", id="wrong corners"
        ),
        pytest.param(
            a_page(a_shape([[99, 0], [100, 0]], "mask", mask=png([[1, 1]]))),
            "has a mask outside its picture",
            id="mask outside",
        ),
        pytest.param(
            a_page(a_shape([[0, 0], [1, 1]], "mask", mask=png(np.ones((81, 100))))), "has a mask that is no", id="too large"
        ),
    ],
)
def test_what_spoils_a_picture_is_named(tmp_path: Path, page: object, message: str) -> None:
    imported = read(tmp_path, page)
    assert not imported.dataset.images
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(imported.report.skipped)
    assert problems(imported).startswith(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(a_shape([[1, 1], [2, 2]]), id="two corners"),
        pytest.param(a_shape([[1, 1], [1, 5]], "rectangle"), id="no width"),
        pytest.param(a_shape([[5, 5], [5, 5]], "circle"), id="no radius"),
        pytest.param(a_shape([[0, 0], [1, 0]], "mask", mask=png([[0, 0]])), id="no pixel"),
    ],
)
def test_what_is_empty_is_left_out_alone(tmp_path: Path, shape: dict[str, object]) -> None:
    imported = read(tmp_path, a_page(a_shape(), shape))
    assert imported.report.boxes == 1
    assert "shape 2: has zero size. Remove the shape." in problems(imported)


def test_broken_json_is_named_with_its_file(tmp_path: Path) -> None:
    for text in ('{"shapes": [', '{"shapes": ' + "[" * 100_000, "\xff"):
        (tmp_path / "a.json").write_text(text, encoding="latin-1")
        imported = labelme.read([tmp_path / "a.json"], options=ReadOptions())
        assert "a.json: is not JSON" in problems(imported)
    (tmp_path / "a.json").unlink()
    with pytest.raises(LabelError, match="holds no JSON file of labelme"):
        labelme.read([tmp_path], options=ReadOptions())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    parts = ((1.5, 1.0, 9.0, 1.0, 9.0, 5.25), (20.0, 20.0, 30.0, 20.0, 30.0, 30.0))
    outlined = an_instance(1, (1.5, 1.0, 30.0, 30.0), segmentation=parts, area=65.9375)
    masked = an_instance(0, segmentation=a_mask(), area=1200.0)
    images = [
        a_record(1, file_name="x/a.jpg", instances=(an_instance(0, crowd=True), outlined, masked)),
        a_record(2, file_name="b.png", instances=()),
        a_record(3, file_name="c.jpg", instances=(an_instance(1, segmentation=parts),), group="g"),
    ]
    losses = labelme.write(a_dataset(images, ("cat", "dog", "owl")), tmp_path, options=WriteOptions())
    assert losses == [
        "1 pictures lose their group",
        "1 boxes become the bounds of their outlines",
        "classes without objects are forgotten: owl",
    ]
    again = labelme.read([tmp_path], options=ReadOptions()).dataset
    assert again.class_names == ("cat", "dog")
    found = {image.file_name: image for image in again.images}
    assert found["x/a.jpg"].instances == images[0].instances
    assert found["b.png"].instances == ()
    assert found["c.jpg"].instances[0].box == (1.5, 1.0, 30.0, 30.0)


def test_no_name_is_written_outside(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="leads out of the folder"):
        labelme.write(a_dataset([a_record(file_name="../a.jpg")]), tmp_path / "to", options=WriteOptions())


coordinates = st.integers(0, 320).map(lambda quarter: quarter / 4)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 80), st.integers(1, 80)).map(
    lambda box: (box[0], box[1], min(box[0] + box[2] / 4, 100.0), min(box[1] + box[3] / 4, 80.0))
)
instances = st.builds(an_instance, st.integers(0, 1), boxes.filter(lambda box: box[0] < box[2] and box[1] < box[3]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(instances, min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_boxes_are_read_back(tmp_path_factory: pytest.TempPathFactory, pictures: list[list[object]]) -> None:
    folder = tmp_path_factory.mktemp("labelme")
    images = [a_record(number, instances=tuple(found)) for number, found in enumerate(pictures, 1)]
    dataset = a_dataset(images)
    labelme.write(dataset, folder, options=WriteOptions())
    again = labelme.read([folder], options=ReadOptions()).dataset

    def named(one: object) -> list[list[tuple[str, object]]]:
        return [[(one.class_names[i.label], i.box) for i in image.instances] for image in one.images]  # type: ignore[attr-defined]

    assert named(again) == named(dataset)


rubbish = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([[[[]]]])
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items: list[tuple[object, object]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(found for key, one in items for found in places(one, (*path, key)))]


WHOLE = a_page(
    a_shape(group_id=1),
    a_shape([[1, 1], [5, 5]], "rectangle", flags={"crowd": True}),
    a_shape([[5, 5], [7, 7]], "circle"),
    a_shape([[0, 0], [1, 0]], "mask", mask=png([[1, 1]])),
    imageData="aGVsbG8=",
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(places(WHOLE)), rubbish)
def test_a_damaged_file_gives_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[object, ...], value: object
) -> None:
    page: object = copy.deepcopy(WHOLE)
    if place:
        inner = page
        for key in place[:-1]:
            inner = inner[key]  # type: ignore[index]
        inner[place[-1]] = value  # type: ignore[index]
    else:
        page = value
    folder = tmp_path_factory.mktemp("damaged")
    with contextlib.suppress(SightlineError):
        read(folder, page)
