import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import a_dataset, a_line, a_record, an_instance

from sightline import wire
from sightline.errors import LabelError
from sightline.labels import ground_truth
from sightline.labels.prelabels import from_dataset, from_detections, read_predictions, read_results, write
from sightline.records import Detections, ImageSize

CREATED = "2026-01-31T12:00:00.000000"
NAMES = ("cat", "dog")


def some_detections(
    *boxes: tuple[float, float, float, float], labels: tuple[int, ...] = (0, 1), score: float = 0.75
) -> Detections:
    return Detections(
        ImageSize(80, 100),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.full(len(boxes), score, dtype=np.float32),
        np.array(labels[: len(boxes)], dtype=np.int64),
    )


def test_a_dataset_is_written_as_a_job_that_nobody_worked_on(tmp_path: Path) -> None:
    dataset = a_dataset([a_record(1, (1,)), a_record(2, (), source="s3://other/b c+%20.jpg")])
    path = tmp_path / "input.manifest"
    assert write(from_dataset(dataset, prefix="s3://bucket/in/"), path, class_names=NAMES, created=CREATED) == []
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "source-ref": "s3://bucket/in/001.jpg",
        "pre-labels": {
            "image_size": [{"width": 100, "height": 80, "depth": 3}],
            "annotations": [{"class_id": 1, "left": 10.0, "top": 20.0, "width": 30.0, "height": 40.0}],
        },
        "pre-labels-metadata": {
            "objects": [{"confidence": 1.0}],
            "class-map": {"1": "dog"},
            "type": "groundtruth/object-detection",
            "human-annotated": "no",
            "creation-date": CREATED,
            "job-name": "labeling-job/sightline-pre-labels",
        },
    }
    assert second["source-ref"] == "s3://other/b c+%20.jpg"
    assert first["pre-labels"].keys() == a_line()["job"].keys()  # type: ignore[attr-defined]
    assert first["pre-labels-metadata"].keys() == a_line()["job-metadata"].keys()  # type: ignore[attr-defined]


def test_detections_become_boxes_with_their_scores(tmp_path: Path) -> None:
    found = {
        "pictures/a/1.jpg": some_detections((1.234, 2, 30, 40), (-3, -4, 101, 50)),
        "pictures/2.jpg": some_detections((0, 0, 9, 9), score=0.1),
    }
    path = tmp_path / "input.manifest"
    pictures = from_detections(found, prefix="s3://b/x", root="pictures", threshold=0.5)
    write(pictures, path, class_names=NAMES, created=CREATED)
    dataset = ground_truth.read([path]).dataset
    assert [image.source for image in dataset.images] == ["s3://b/x/a/1.jpg", "s3://b/x/2.jpg"]
    assert dataset.images[0].instances == (an_instance(0, (1.23, 2.0, 30.0, 40.0)), an_instance(1, (0.0, 0.0, 100.0, 50.0)))
    assert dataset.images[1].instances == ()
    assert '"confidence":0.75' in path.read_text()


def test_predicted_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    answer = wire.to_json(some_detections((1, 2, 30, 40), labels=(1,)), NAMES)
    lines = [
        {"image": "s3://b/1.jpg", **answer},
        {"image": "2.jpg", "error": {"where": "2.jpg", "what": "is empty", "fix": ""}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, names, notes = read_predictions(path)
    assert names == ["class 0", "dog"]
    assert found["s3://b/1.jpg"].boxes.tolist() == [[1, 2, 30, 40]]
    assert notes == ["Pictures that could not be predicted are left out: 2.jpg (1 in all)."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("nonsense", "is not JSON", id="no JSON"),
        pytest.param("[]", "names no image", id="a list"),
        pytest.param('{"image": "1.jpg"}', "is no detection answer", id="no boxes"),
        pytest.param('{"image": "s3://b/1.jpg", "error": {}}\n{"image": 5}', "out.jsonl:2: names no image", id="a number"),
    ],
)
def test_broken_predictions_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(line)
    with pytest.raises(LabelError, match=message):
        read_predictions(path)


@pytest.mark.parametrize("attribute", ["", "source", "source-ref", "$x", "x-metadata", "x-ref"])
def test_names_that_mean_something_else_are_refused(tmp_path: Path, attribute: str) -> None:
    with pytest.raises(LabelError, match="attribute: cannot be"):
        write([], tmp_path / "x", class_names=NAMES, created=CREATED, attribute=attribute)


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"--created: is 'yesterday'\. Give a time of ISO 8601"):
        write(
            from_dataset(a_dataset([a_record(1, source="s3://b/1.jpg")])),
            tmp_path / "x",
            class_names=NAMES,
            created="yesterday",
        )


def test_what_a_job_would_refuse_is_named_and_nothing_written(tmp_path: Path) -> None:
    crowded = a_record(1, instances=(an_instance(),) * 400, source="s3://b/1.jpg")
    outside = a_record(2, instances=(an_instance(box=(90.0, 0.0, 140.0, 9.0)),), source="s3://b/2.jpg")
    path = tmp_path / "input.manifest"
    for record, message in (
        (crowded, "s3://b/1.jpg: needs .* characters in 'pre-labels' for 400 boxes; a job takes 20,000"),
        (outside, "input.manifest:1, box 1: has a box outside its picture"),
    ):
        with pytest.raises(LabelError, match=message):
            write(from_dataset(a_dataset([record])), path, class_names=NAMES, created=CREATED)
    with pytest.raises(LabelError, match="would hold no picture"):
        write([], path, class_names=NAMES, created=CREATED)
    with pytest.raises(LabelError, match=r"s3://b/2.jpg: comes twice"):
        write([*from_dataset(a_dataset([outside]))] * 2, path, class_names=NAMES, created=CREATED)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_this_machine_need_a_prefix() -> None:
    with pytest.raises(LabelError, match=r"001.jpg: has no s3:// address.*--prefix"):
        list(from_dataset(a_dataset()))
    for picture, root in (("/a/1.jpg", None), ("../1.jpg", None), ("/b/1.jpg", "/a")):
        with pytest.raises(LabelError, match="is not below"):
            list(from_detections({picture: some_detections()}, prefix="s3://b", root=root))


def test_an_adjusted_job_supersedes_the_pre_labels(tmp_path: Path) -> None:
    path = tmp_path / "output.manifest"
    write(from_dataset(a_dataset([a_record(source="s3://b/1.jpg")])), path, class_names=NAMES, created=CREATED)
    line = json.loads(path.read_text()) | a_line("s3://b/1.jpg", [], attribute="corrected")
    line["corrected-metadata"]["adjustment-status"] = "adjusted"
    path.write_text(json.dumps(line))
    assert ground_truth.read([path]).report.empty_images == 1


def test_results_are_read_for_all_pictures_of_their_data_set(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    result = {"image_id": 2, "category_id": 2, "bbox": [1, 2, 30, 40], "score": 0.5}
    path.write_text(json.dumps([result, result | {"score": 0.75, "category_id": 1}]))
    found = read_results(path, a_dataset([a_record(1), a_record(2)]))
    assert len(found["001.jpg"]) == 0
    assert found["002.jpg"].scores.tolist() == [0.75, 0.5]
    assert found["002.jpg"].labels.tolist() == [0, 1]
    assert found["002.jpg"].boxes[0].tolist() == [1, 2, 31, 42]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"image_id": 7}, "result 0: has image_id 7, which the data set does not have", id="picture"),
        pytest.param({"category_id": 9}, "result 0: has category_id 9, which the data set does not have", id="class"),
        pytest.param({"bbox": [1, 2, 3]}, "result 0: has bbox", id="box"),
        pytest.param({"score": 2}, "result 0: has score 2. Give a number from 0 to 1", id="score"),
        pytest.param({"score": "0.5"}, "result 0: has score '0.5'", id="text"),
    ],
)
def test_broken_results_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | changes]))
    with pytest.raises(LabelError, match=message):
        read_results(path, a_dataset())


def test_crowd_regions_are_nothing_to_correct() -> None:
    dataset = a_dataset([a_record(instances=(an_instance(1, crowd=True), an_instance()), source="s3://b/1.jpg")])
    (picture,) = from_dataset(dataset)
    assert (picture.labels, picture.confidences) == ((0,), (1.0,))


def panlabel(*arguments: object) -> None:
    """The converter of that name, which shares no code with this project."""
    subprocess.run([sys.executable, "-m", "panlabel", *map(str, arguments)], check=True, capture_output=True)


def test_an_independent_reader_sees_the_same(tmp_path: Path) -> None:
    path, coco = tmp_path / "input.manifest", tmp_path / "coco.json"
    records = [a_record(1, (0, 1), source="s3://b/ä %20+.jpg"), a_record(2, (1,), source="s3://b/2.jpg"), a_record(3, ())]
    dataset = a_dataset(records)
    write(from_dataset(dataset, prefix="s3://c"), path, class_names=NAMES, created=CREATED)
    panlabel("convert", "--from", "sagemaker", "--to", "coco", "--allow-lossy", "-i", path, "-o", coco)
    read = json.loads(coco.read_text())
    assert [annotation["bbox"] for annotation in read["annotations"]] == [[10.0, 20.0, 30.0, 40.0]] * 3
    names = {category["id"]: category["name"] for category in read["categories"]}
    files = {image["id"]: image["file_name"].rpartition("/")[2] for image in read["images"]}
    assert sorted(files.values()) == ["003.jpg", "2.jpg", "ä %20+.jpg"]
    assert sorted((files[one["image_id"]], names[one["category_id"]]) for one in read["annotations"]) == [
        ("2.jpg", "dog"),
        ("ä %20+.jpg", "cat"),
        ("ä %20+.jpg", "dog"),
    ]
