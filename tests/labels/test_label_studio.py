import contextlib
import copy
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import a_dataset, a_mask, a_picture, a_record, an_instance
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import LabelError, SightlineError
from sightline.geometry import masks
from sightline.labels import label_studio
from sightline.labels.report import Imported, ReadOptions, WriteOptions
from sightline.records import ImageSize, Rle


def a_region(kind: str = "rectanglelabels", name: object = "cat", **value: object) -> dict[str, object]:
    shape = value or {"x": 10, "y": 25, "width": 30, "height": 50, "rotation": 0}
    return {
        "id": "Dx_aB91ISN",
        "type": kind,
        "from_name": "tag",
        "to_name": "img",
        "original_width": 100,
        "original_height": 80,
        "image_rotation": 0,
        "value": {**shape, kind: [name]},
    }


def an_answer(*regions: object, **facts: object) -> dict[str, object]:
    return {"id": 1, "result": list(regions), "was_cancelled": False, "ground_truth": False} | facts


def a_task(*answers: object, image: object = "/data/upload/3/0123abcd-a.jpg", **facts: object) -> dict[str, object]:
    return {"id": 1, "data": {"image": image}, "annotations": list(answers), "predictions": []} | facts


def with_regions(*regions: object) -> list[object]:
    return [a_task(an_answer(*regions))]


def options(**facts: object) -> Any:
    """`ReadOptions`, with what this format alone asks for."""
    defaults = {field.name: field.default for field in dataclasses.fields(ReadOptions)} | {"on_duplicate": "error"}
    return SimpleNamespace(**(defaults | facts))


def read(folder: Path, tasks: object, **facts: object) -> Imported:
    path = folder / "project.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return label_studio.read([path], options=options(**facts))


def problems(imported: Imported) -> str:
    return "\n".join(map(str, imported.report.skipped))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(b'[{"id": 1, "annotations": [{', True, id="JSON"),
        pytest.param(b'\xef\xbb\xbf [\n{"id":1,"completions":[', True, id="an old JSON"),
        pytest.param(b'[{"image": "a.jpg", "tag": [{"x": 1, "rectanglelabels": ["a"]', True, id="JSON-MIN"),
        pytest.param(b'{"images": [], "annotations": []}', False, id="COCO"),
        pytest.param(b'[{"image": "a.jpg", "caption": "x"}]', False, id="another list"),
    ],
)
def test_a_file_is_recognised(tmp_path: Path, head: bytes, expected: bool) -> None:
    assert label_studio.recognise(tmp_path / "a.json", head) is expected


def test_percents_become_pixels(tmp_path: Path) -> None:
    polygon = a_region("polygonlabels", "dog", points=[[10, 25], [40, 25], [40, 75]])
    ellipse = a_region("ellipselabels", "ant", x=50, y=50, radiusX=10, radiusY=25)
    imported = read(tmp_path, with_regions(a_region(), polygon, ellipse))
    (image,) = imported.dataset.images
    assert (image.file_name, image.source, image.size) == ("a.jpg", "data/upload/3/0123abcd-a.jpg", ImageSize(80, 100))
    assert imported.dataset.class_names == ("ant", "cat", "dog")
    box, outline, oval = image.instances
    assert box == an_instance(1, (10.0, 20.0, 40.0, 60.0))
    assert outline == an_instance(2, (10.0, 20.0, 40.0, 60.0), area=600.0, segmentation=((10, 20, 40, 20, 40, 60),))
    assert oval.box == pytest.approx((40, 20, 60, 60))
    assert oval.area == pytest.approx(math.pi * 200, rel=0.002)


def test_a_turned_rectangle_turns_around_its_top_left_corner(tmp_path: Path) -> None:
    region = a_region(x=50, y=25, width=30, height=25, rotation=90)  # 30 x 20 px at (50, 20), a quarter clockwise
    (instance,) = read(tmp_path, with_regions(region)).dataset.images[0].instances
    assert instance.box == pytest.approx((30, 20, 50, 50))
    assert isinstance(instance.segmentation, tuple)
    assert instance.segmentation[0] == pytest.approx((50, 20, 50, 50, 30, 50, 30, 20))
    tilted = a_region(x=50, y=25, width=10, height=12.5, rotation=405)
    (instance,) = read(tmp_path, with_regions(tilted)).dataset.images[0].instances
    half = 10 / math.sqrt(2)
    assert instance.box == pytest.approx((50 - half, 20, 50 + half, 20 + 2 * half))
    assert instance.area == pytest.approx(100)


def test_a_turned_rectangle_is_cut_off_at_the_edge(tmp_path: Path) -> None:
    region = a_region(x=5, y=25, width=30, height=25, rotation=90)
    (instance,) = read(tmp_path, with_regions(region)).dataset.images[0].instances
    assert instance.box == pytest.approx((0, 20, 5, 50))


def test_the_brush_is_decoded() -> None:
    # by hand: 24 values of 8 bits, sizes 3, 4, 8, 16; a run of 12 zeros, one of 4 x 255, one of 8 zeros
    text = f"{24:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    text += "101" + f"{11:04b}" + f"{0:08b}" + "100" + f"{3:03b}" + f"{255:08b}" + "110" + f"{7:08b}" + f"{0:08b}"
    data = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    assert label_studio.decode_brush(data, 24).tolist() == [0] * 12 + [1] * 4 + [0] * 8
    literal = f"{4:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    literal += "000" + f"{3:03b}" + f"{0:08b}{1:08b}{0:08b}{128:08b}"
    data = int(literal.ljust(-(-len(literal) // 8) * 8, "0"), 2).to_bytes(-(-len(literal) // 8), "big")
    assert label_studio.decode_brush(data, 4).tolist() == [0, 1, 0, 1]


def test_a_brush_becomes_a_mask(tmp_path: Path) -> None:
    bitmap = np.zeros((80, 100), dtype=bool)
    bitmap[30:32, 5:9] = True
    region = a_region("brushlabels", format="rle", rle=label_studio.encode_brush(bitmap))
    (instance,) = read(tmp_path, with_regions(region)).dataset.images[0].instances
    assert isinstance(instance.segmentation, Rle)
    np.testing.assert_array_equal(masks.decode(instance.segmentation), bitmap)
    assert (instance.box, instance.area) == ((5.0, 30.0, 9.0, 32.0), 8.0)


def test_a_shape_and_its_labels_are_one_region(tmp_path: Path) -> None:
    labelled = a_region("labels", x=10, y=25, width=30, height=50)
    bare = a_region("rectangle") | {"value": {"x": 10, "y": 25, "width": 30, "height": 50}}
    imported = read(tmp_path, with_regions(bare, labelled, a_region("choices"), a_region("keypointlabels")))
    assert imported.report.boxes == 1
    assert imported.report.notes == (
        "1 results of type choices are no objects and were left out.",
        "1 results of type keypointlabels are no objects and were left out.",
    )
    assert "region 1: has no class" in problems(read(tmp_path, with_regions(bare)))


def test_a_task_without_annotation_is_not_labelled_and_an_empty_one_is_a_negative(tmp_path: Path) -> None:
    a_picture(tmp_path / "b.jpg", ImageSize(40, 50))
    tasks = [
        a_task(),
        a_task(an_answer(a_region(), was_cancelled=True)),
        a_task(an_answer(), image="s3://bucket/x/b.jpg"),
        a_task(an_answer(), image="s3://bucket/x/c.jpg"),
    ]
    imported = read(tmp_path, tasks)
    assert [(image.file_name, image.size) for image in imported.dataset.images] == [("b.jpg", ImageSize(40, 50))]
    assert imported.pictures == {"b.jpg": tmp_path / "b.jpg"}
    assert imported.report.notes == ("2 tasks have no annotation (or only cancelled ones) and were left out.",)
    assert "task 4: does not tell its size, and its picture is not here" in problems(imported)


def test_several_annotations_need_a_choice(tmp_path: Path) -> None:
    old = an_answer(a_region(name="old"), updated_at="2024-01-01T00:00:00.000000Z")
    new = an_answer(a_region(name="new"), updated_at="2024-02-01T00:00:00.000000Z")
    cancelled = an_answer(was_cancelled=True, updated_at="2025-01-01T00:00:00.000000Z")
    task = a_task(new, old, cancelled)
    assert "task 1: has 2 annotations. Remove all but one, or choose with --on-duplicate" in problems(read(tmp_path, [task]))
    for choice, name in (("first", "old"), ("last", "new")):
        imported = read(tmp_path, [task], on_duplicate=choice)
        assert imported.dataset.class_names == (name,)
        assert imported.report.notes[0].startswith("1 tasks have several annotations; --on-duplicate decided")
    both = a_task(old, new, an_answer(a_region(name="new"), updated_at="2024-03-01T00:00:00Z"))
    (image,) = read(tmp_path, [both], on_duplicate="merge").dataset.images
    assert [instance.label for instance in image.instances] == [1, 0]


def test_json_min(tmp_path: Path) -> None:
    region = {"x": 10, "y": 25, "width": 30, "height": 50, "rotation": 0, "original_width": 100, "original_height": 80}
    item = {
        "image": "/data/upload/3/0123abcd-a.jpg",
        "id": 7,
        "tag": [region | {"rectanglelabels": ["cat"]}],
        "quality": "good",
        "annotator": 1,
        "annotation_id": 5,
        "updated_at": "2024-01-01T00:00:00Z",
    }
    (image,) = read(tmp_path, [item]).dataset.images
    assert (image.file_name, image.instances) == ("a.jpg", (an_instance(0, (10.0, 20.0, 40.0, 60.0)),))
    again = item | {"updated_at": "2024-02-01T00:00:00Z", "tag": []}
    assert "has 2 annotations" in problems(read(tmp_path, [item, again]))
    a_picture(tmp_path / "a.jpg")
    assert read(tmp_path, [item, again], on_duplicate="last").report.empty_images == 1


@pytest.mark.parametrize(
    ("address", "name", "source"),
    [
        pytest.param("/data/upload/3/0123abcd-my-a.jpg", "my-a.jpg", "data/upload/3/0123abcd-my-a.jpg", id="uploaded"),
        pytest.param("/data/local-files/?d=set/a%20b.jpg", "set/a b.jpg", "", id="local file"),
        pytest.param("data/local-files/?d=set\\a.jpg", "set/a.jpg", "", id="local file from Windows"),
        pytest.param("s3://bucket/x/a%20b+.jpg", "a%20b+.jpg", "s3://bucket/x/a%20b+.jpg", id="S3, literal"),
        pytest.param("gs://bucket/x/a.jpg", "bucket/x/a.jpg", "", id="Google"),
        pytest.param("https://host/x/a%20b.jpg?token=1", "x/a b.jpg", "", id="web"),
        pytest.param("http://[broken/a.jpg", "[broken/a.jpg", "", id="no address"),
        pytest.param("images/a.jpg", "images/a.jpg", "", id="path"),
        pytest.param("/home/me/a.jpg", "home/me/a.jpg", "", id="absolute"),
    ],
)
def test_the_picture_of_an_address(tmp_path: Path, address: str, name: str, source: str) -> None:
    (image,) = read(tmp_path, [a_task(an_answer(a_region()), image=address)]).dataset.images
    assert (image.file_name, image.source) == (name, source)


def test_uploads_of_one_name_stay_apart(tmp_path: Path) -> None:
    tasks = [a_task(an_answer(a_region()), image=f"/data/upload/3/{mark}-a.jpg") for mark in ("0123abcd", "4567abcd")]
    dataset = read(tmp_path, tasks).dataset
    assert [image.file_name for image in dataset.images] == ["data/upload/3/0123abcd-a.jpg", "data/upload/3/4567abcd-a.jpg"]
    assert "labels data/upload/3/0123abcd-a.jpg again" in problems(read(tmp_path, [tasks[0], tasks[0]]))


def test_the_picture_is_the_only_value_that_names_one(tmp_path: Path) -> None:
    task = a_task(an_answer(a_region()), data={"url": "x/a.jpg", "text": "no picture"})
    assert read(tmp_path, [task]).dataset.images[0].file_name == "x/a.jpg"
    task = a_task(an_answer(a_region()), data={"one": "x/a.jpg", "other": "b.jpg"})
    assert "has 2 pictures in its data ('one': 'x/a.jpg', 'other': 'b.jpg')" in problems(read(tmp_path, [task]))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        pytest.param([3], "task 1: is a JSON int", id="no task"),
        pytest.param([a_task(an_answer(), image=None)], "has 0 pictures in its data", id="no picture"),
        pytest.param([a_task(an_answer(), image="file:///etc/a.jpg")], "a file: address", id="file address"),
        pytest.param([a_task(an_answer(), image="data:image/png;base64,x")], "a data: address", id="picture inside"),
        pytest.param([a_task(an_answer(), image="/data/local-files/?d=../../etc/a.jpg")], "no path to a file", id="climbing"),
        pytest.param([a_task(an_answer(), image="x\ud800.jpg")], "no Unicode text", id="half a character"),
        pytest.param([a_task(annotations=5)], "has annotations 5", id="no annotations"),
        pytest.param([a_task({"result": 5})], "has result 5", id="no result"),
        pytest.param(with_regions(5), "region 1: is a JSON int", id="no region"),
        pytest.param(with_regions(a_region("bitmasklabels")), "is of type 'bitmasklabels'. Known: rectanglelabels", id="kind"),
        pytest.param(with_regions(a_region() | {"original_width": "100"}), "has original_width '100'", id="text for a side"),
        pytest.param(with_regions(a_region() | {"original_width": 0}), "has the size 0 x 80", id="no width"),
        pytest.param(with_regions(a_region(), a_region() | {"original_width": 90}), "has regions of several sizes", id="sizes"),
        pytest.param(with_regions(a_region(name=None)), "has no class", id="no class"),
        pytest.param(with_regions(a_region() | {"value": {"rectanglelabels": ["a", "b"]}}), "has several classes", id="two"),
        pytest.param(with_regions(a_region() | {"value": None}), "is a JSON NoneType", id="no value"),
        pytest.param(with_regions(a_region(x=1, y=2)), "has width None, height None", id="half a box"),
        pytest.param(with_regions(a_region(x=float("nan"), y=2, width=3, height=4)), "has x nan", id="nan"),
        pytest.param(with_regions(a_region(x="1", y=2, width=3, height=4)), "has x '1'", id="text"),
        pytest.param(with_regions(a_region(x=1e300, y=2, width=3, height=4)), "Give percents of the picture", id="far away"),
        pytest.param(with_regions(a_region(x=90, y=2, width=30, height=4)), "has a box outside its picture", id="outside"),
        pytest.param(with_regions(a_region(x=1, y=2, width=3, height=4, rotation="x")), "has rotation 'x'", id="rotation"),
        pytest.param(with_regions(a_region("polygonlabels", points=5)), "has points 5", id="no points"),
        pytest.param(with_regions(a_region("polygonlabels", points=[[1]])), r"has a point \[1\]", id="half a point"),
        pytest.param(
            with_regions(a_region("brushlabels", format="png")), "has a mask of format 'png'. Known: rle", id="format"
        ),
        pytest.param(with_regions(a_region("brushlabels", rle=[300])), "run lengths that are no bytes", id="no bytes"),
        pytest.param(with_regions(a_region("brushlabels", rle=[0, 0])), "are not of 32000 values", id="short"),
        pytest.param(
            with_regions(a_region("brushlabels", rle=[0, 0, 125, 0, 57, 27, 252, 0])), "end within a run", id="cut off"
        ),
    ],
)
def test_what_spoils_a_picture_is_named(tmp_path: Path, tasks: object, message: str) -> None:
    imported = read(tmp_path, tasks)
    assert not imported.dataset.images
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(imported.report.skipped)


def test_what_is_empty_is_left_out_alone(tmp_path: Path) -> None:
    empty = a_region(x=1, y=1, width=0, height=4), a_region("polygonlabels", points=[[1, 1], [2, 2]])
    none = a_region("brushlabels", rle=label_studio.encode_brush(np.zeros((80, 100), dtype=bool)))
    imported = read(tmp_path, with_regions(a_region(), *empty, none))
    assert (imported.report.boxes, len(imported.report.skipped)) == (1, 3)


@pytest.mark.parametrize("text", ["{}", "[", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_list_of_tasks_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(LabelError, match=r"a.json: (is not JSON|holds a JSON dict, not a list)"):
        label_studio.read([tmp_path / "a.json"], options=options())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    triangle = ((1.5, 1.0, 9.0, 1.0, 9.0, 5.25),)
    outlined = an_instance(1, (1.5, 1.0, 9.0, 5.25), segmentation=triangle, area=15.9375)
    masked = an_instance(0, segmentation=a_mask(), area=1200.0)
    parts = an_instance(1, (1.0, 1.0, 30.0, 30.0), segmentation=(*triangle, (20.0, 20.0, 30.0, 20.0, 30.0, 30.0)))
    images = [
        a_record(1, file_name="x/a b.jpg", instances=(an_instance(0), outlined, masked)),
        a_record(2, file_name="b.png", instances=(parts, an_instance(1, crowd=True)), group="g"),
    ]
    dataset = a_dataset(images, ("cat", "dog", "owl"))
    losses = label_studio.write(dataset, tmp_path, options=WriteOptions())
    assert losses == [
        "1 pictures lose their group",
        "1 objects in several parts become masks",
        "1 boxes become the bounds of their masks",
        "1 crowd regions were left out",
        "classes without objects are forgotten: owl",
    ]
    assert label_studio.recognise(tmp_path, b"")
    assert '<Label value="owl"/>' in (tmp_path / "label_config.xml").read_text()
    again = label_studio.read([tmp_path], options=options()).dataset
    assert [image.file_name for image in again.images] == ["x/a b.jpg", "b.png"]
    for one, other in zip(again.images[0].instances, images[0].instances, strict=True):
        assert (one.label, one.box, one.area) == (other.label, pytest.approx(other.box), pytest.approx(other.area))
    assert again.images[0].instances[2].segmentation == masked.segmentation


def test_pre_labels_are_predictions(tmp_path: Path) -> None:
    image = a_record(source="s3://bucket/x/001.jpg")
    label_studio.write(a_dataset([image]), tmp_path, options=WriteOptions(), as_predictions=True)
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"] == {"image": "s3://bucket/x/001.jpg"}
    assert "annotations" not in task
    assert task["predictions"][0]["result"][0]["value"]["rectanglelabels"] == ["cat"]
    assert label_studio.read([tmp_path], options=options()).report.images == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=9))
def test_any_mask_is_decoded_as_it_was_encoded(rows: list[list[bool]]) -> None:
    bitmap = np.array(rows)
    values = label_studio.decode_brush(bytes(label_studio.encode_brush(bitmap)), bitmap.size * 4)
    np.testing.assert_array_equal(values[3::4].reshape(bitmap.shape).astype(bool), bitmap)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items: list[tuple[object, object]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(found for key, one in items for found in places(one, (*path, key)))]


WHOLE = [
    a_task(
        an_answer(
            a_region(),
            a_region("polygonlabels", points=[[1, 1], [9, 1], [9, 9]]),
            a_region("ellipselabels", x=50, y=50, radiusX=9, radiusY=9, rotation=30),
            a_region("brushlabels", format="rle", rle=[0, 0, 125, 0, 57, 27, 252, 0]),
        )
    ),
    {"image": "b.jpg", "id": 3, "tag": [{"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["cat"]}]},
]
RUBBISH = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from([[], {}, [[[]]]])
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(places(WHOLE)), RUBBISH)
def test_a_damaged_file_gives_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[object, ...], value: object
) -> None:
    tasks: Any = copy.deepcopy(WHOLE)
    if place:
        inner = tasks
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
    else:
        tasks = value
    with contextlib.suppress(SightlineError):
        read(tmp_path_factory.mktemp("damaged"), tasks)
