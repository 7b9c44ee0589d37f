import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from builders import a_coco, a_dataset, a_record, an_instance
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import coco
from sightline.errors import LabelError
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance, Rle

SIZE = ImageSize(80, 100)
ANNOTATION = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}


def hundredths(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(int(low * 100), int(high * 100)).map(lambda number: number / 100)


@st.composite
def instances(draw: st.DrawFn, classes: int) -> Instance:
    left, top = draw(hundredths(0, 60)), draw(hundredths(0, 40))
    box = (left, top, left + draw(hundredths(0.01, 39)), top + draw(hundredths(0.01, 39)))
    points = st.lists(hundredths(0, 80), min_size=3, max_size=6).map(lambda xs: tuple(n for x in xs for n in (x, x / 2)))
    outlines = st.one_of(
        st.none(),
        st.lists(points, min_size=1, max_size=3).map(tuple),
        st.just(Rle(SIZE, (10, 20, 7970))),
        st.just(Rle(SIZE, "abc0Q")),
    )
    area = draw(st.one_of(st.none(), hundredths(4000, 5000)))
    return Instance(box, draw(st.integers(0, classes - 1)), draw(st.booleans()), area, draw(outlines))


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    ids = sorted(draw(st.sets(st.integers(1, 90), min_size=1, max_size=4)))
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=len(ids), max_size=len(ids), unique=True))
    image_ids = draw(st.lists(st.integers(1, 10**6), max_size=4, unique=True))
    images = tuple(
        ImageRecord(
            id=number,
            file_name=f"a/{number}.jpg",
            size=SIZE,
            instances=tuple(draw(st.lists(instances(len(ids)), max_size=3))),
            source=draw(st.sampled_from(["", "s3://b/ä 1.jpg"])),
            group=draw(st.sampled_from(["", "scene"])),
        )
        for number in image_ids
    )
    return Dataset(tuple(Category(*both) for both in zip(ids, names, strict=True)), images)


@settings(max_examples=60, deadline=None)
@given(datasets())
def test_reading_what_was_written_gives_the_dataset_again(dataset: Dataset) -> None:
    text = json.dumps(coco.to_json(dataset))
    assert coco.from_json(json.loads(text), "file") == (dataset, [])


def test_category_ids_may_have_gaps_and_give_labels_in_their_order() -> None:
    content = a_coco(categories=[{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}])
    dataset, _ = coco.from_json(content, "file")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.images[0].instances[0].label == 0
    assert dataset.images[1].instances == ()


def test_annotations_are_numbered_from_one_and_keep_their_decimals() -> None:
    content = a_coco(annotations=[ANNOTATION | {"id": 0, "bbox": [13.88, 4.1, 44.38, 61.3], "area": 12.5}])
    dataset, _ = coco.from_json(content, "file")
    written = coco.to_json(dataset)["annotations"]
    assert isinstance(written, list)
    assert written[0] == ANNOTATION | {"bbox": [13.88, 4.1, 44.38, 61.3], "area": 12.5, "iscrowd": 0, "segmentation": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param([], "holds a JSON list, not an object", id="results file"),
        pytest.param({"images": []}, "has no list 'annotations'.*\n.*has no list 'categories'", id="lists missing"),
    ],
)
def test_what_is_not_coco_is_refused(content: object, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        coco.from_json(content, "file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"bbox": [1, 2, 3]}, r"annotations\[0\]: has bbox \[1, 2, 3\]. Give 4 finite numbers", id="three numbers"),
        pytest.param({"bbox": [1, 2, 3, float("nan")]}, "has bbox .*nan.*finite", id="nan"),
        pytest.param({"bbox": ["1", 2, 3, 4]}, "has bbox", id="text"),
        pytest.param({"bbox": [1, 2, 3, 10**400]}, "has bbox", id="beyond any float"),
        pytest.param({"bbox": None}, "has bbox None", id="no bbox"),
        pytest.param({"bbox": [1, 2, 0, 4]}, "has an empty box", id="zero width"),
        pytest.param({"bbox": [1, 2, 3, -4]}, "has a box of negative size", id="negative height"),
        pytest.param({"bbox": [90, 2, 30, 4]}, "outside its picture", id="outside"),
        pytest.param({"image_id": 8}, "belongs to image 8, which is not in the file", id="unknown image"),
        pytest.param({"category_id": 4}, "has the category 4, which is not in the file", id="unknown category"),
        pytest.param({"category_id": "3"}, "has category_id '3'", id="category of text"),
        pytest.param({"id": None}, "has id None", id="no id"),
        pytest.param({"iscrowd": 2}, "has iscrowd 2", id="crowd"),
        pytest.param({"area": -1}, "has the area -1", id="negative area"),
        pytest.param({"area": "x"}, "has area 'x'", id="area of text"),
        pytest.param({"segmentation": [[1, 2, 3, 4]]}, "a polygon of 4 numbers", id="two corners"),
        pytest.param({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "a polygon of 7 numbers", id="odd"),
        pytest.param({"segmentation": "x"}, "a segmentation of type str", id="segmentation of text"),
        pytest.param({"segmentation": {"size": [9, 9], "counts": "x"}}, "a mask of 9 x 9 px", id="mask of another size"),
        pytest.param({"segmentation": {"size": [80, 100], "counts": [5]}}, "sum to 5, not 8000", id="run lengths"),
    ],
)
def test_a_broken_annotation_is_named(changes: dict[str, object], message: str) -> None:
    _, problems = coco.from_json(a_coco(annotations=[ANNOTATION | changes]), "file.json")
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(problems)
    assert len(problems) == 1
    assert problems[0].where == "file.json: annotations[0]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"annotations": [ANNOTATION, ANNOTATION]}, "annotations.1.: has the id 1, which an earlier one", id="annotation"
        ),
        pytest.param(
            {"images": [{"id": 7, "file_name": name, "width": 100, "height": 80} for name in "ab"]},
            "images.1.: has the id 7",
            id="image",
        ),
        pytest.param(
            {"images": [{"id": number, "file_name": "a", "width": 100, "height": 80} for number in (7, 8)]},
            "file_name 'a'",
            id="name",
        ),
        pytest.param({"categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]}, "has the name 'a'", id="category name"),
        pytest.param({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "has the id 3", id="category"),
        pytest.param({"images": [{"id": 7, "file_name": "a", "width": 100}]}, "has no 'height'", id="no height"),
        pytest.param({"images": [{"id": 7, "file_name": "a", "width": 0, "height": 5}]}, "has the size 0 x 5 px", id="size"),
        pytest.param({"categories": [{"id": 3, "name": "\ud800"}]}, "which is no Unicode text", id="half a character"),
        pytest.param({"images": [7]}, "is a JSON int, not an object", id="no object"),
    ],
)
def test_a_broken_list_is_named(changes: dict[str, object], message: str) -> None:
    _, problems = coco.from_json(a_coco(**changes), "file.json")
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(problems)


def test_what_points_to_a_broken_image_is_not_reported_again() -> None:
    _, problems = coco.from_json(a_coco(images=[{"id": 7, "file_name": "a", "width": 100}]), "file")
    assert [problem.where for problem in problems] == ["file: images[0]"]


def test_a_picture_with_a_broken_box_is_left_out_and_one_with_an_empty_box_is_not() -> None:
    annotations = [
        ANNOTATION,
        ANNOTATION | {"id": 2, "bbox": [1, 1, 0, 5]},
        ANNOTATION | {"id": 3, "image_id": 9, "bbox": [99, 0, 50, 5]},
        ANNOTATION | {"id": 4, "image_id": 9},
    ]
    dataset, problems = coco.from_json(a_coco(annotations=annotations), "file")
    assert [(image.id, len(image.instances)) for image in dataset.images] == [(7, 1)]
    assert [problem.where for problem in problems] == ["file: annotations[1]", "file: annotations[2]"]


def test_every_problem_of_a_file_comes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(a_coco(annotations=[ANNOTATION | {"image_id": 1}, ANNOTATION | {"id": 2, "bbox": []}])))
    with pytest.raises(LabelError) as caught:
        coco.read(path)
    assert [problem.where for problem in caught.value.problems] == [f"{path}: annotations[{index}]" for index in (0, 1)]


def test_a_file_cut_short_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": [')
    with pytest.raises(LabelError, match=r"labels.json: is not JSON \(Expecting value: line 1 column 13"):
        coco.read(path)


def test_write_is_read_back(tmp_path: Path) -> None:
    dataset = a_dataset(
        [a_record(labels=(1, 0), group="scene"), a_record(2, labels=()), a_record(3, instances=(an_instance(crowd=True),))]
    )
    coco.write(dataset, tmp_path / "all.json")
    assert coco.read(tmp_path / "all.json") == dataset


def test_official_coco_keeps_polygons_crowds_and_numbers(shared: Path) -> None:
    path = shared / "data/coco_tiny/annotations/instances_train2017.json"
    dataset = coco.read(path)
    original = json.loads(path.read_bytes())
    written = coco.to_json(dataset)["annotations"]
    assert isinstance(written, list)
    assert len(written) == len(original["annotations"]) == 470

    def facts(annotation: dict[str, object]) -> list[object]:
        return [annotation[key] for key in ("image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")]

    place = {image["id"]: index for index, image in enumerate(original["images"])}  # annotations are written image by image
    expected = sorted(original["annotations"], key=lambda annotation: place[annotation["image_id"]])
    assert [facts(annotation) for annotation in written] == [facts(annotation) for annotation in expected]


ODD_NUMBERS = (
    st.floats() | st.integers(-5, 2**53) | st.sampled_from([1e-5, 0.0001, -0.00001, 1e15, 1e16, 10.00001, -0.0, 138.8])
)
"""What `write` has to spell as Python's own JSON does; boxes in real data sets are tamer."""


@given(
    st.lists(st.lists(st.tuples(*[ODD_NUMBERS] * 4, st.none() | ODD_NUMBERS, st.booleans()), max_size=3), max_size=4),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
)
def test_a_file_is_written_in_parts_as_it_would_be_whole(pictures: list[list[tuple[float, ...]]], name: str) -> None:
    images = tuple(
        ImageRecord(
            number,
            f"{name}{number}.jpg",
            SIZE,
            tuple(Instance((x1, y1, x2, y2), 0, bool(crowd), area) for x1, y1, x2, y2, area, crowd in boxes),
            source=name,
            group=name[:1],
        )
        for number, boxes in enumerate(pictures, 1)
    )
    dataset = Dataset((Category(7, "Katze ü"),), images)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco, "PART", 2)
        coco.write(dataset, Path(folder, "all.json"))
        assert Path(folder, "all.json").read_bytes() == f"{json.dumps(coco.to_json(dataset), ensure_ascii=False)}\n".encode()


def test_numbers_of_numpy_and_outlines_are_written_too(tmp_path: Path) -> None:
    box = tuple(np.array([1.5, 2, 30, 4.25]))
    polygons, mask = ((1.0, 2.0, 3.5, 2.0, 1e-7, 4.0),), Rle(SIZE, 'abc\\"')
    instances = [Instance(box, 0, segmentation=polygons), Instance(box, 0, True, 3.0, mask)]
    dataset = a_dataset([ImageRecord(1, "a.jpg", SIZE, tuple(instances))])
    coco.write(dataset, tmp_path / "all.json")
    assert (tmp_path / "all.json").read_text(encoding="utf-8") == json.dumps(coco.to_json(dataset), ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "[NaN, -Infinity]",
        "[" + "9" * 400 + "]",
        '{"a": 1, "a": 2}',
        '["\\ud800", "\\ud83d\\ude00"]',
        "[1e400, -0, 1E5]",
        "[" * 500 + "]" * 500,
    ],
)
def test_json_is_taken_as_python_takes_it(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        raw = text.encode(encoding)
        assert repr(coco.parse(raw)) == repr(json.loads(raw))
