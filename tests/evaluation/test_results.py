"""Broken results and truths: every problem of a file in one error, each with its place and what to do."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_mask

from sightline.errors import DatasetError, LabelError
from sightline.evaluation.coco import evaluate_files, evaluate_results
from sightline.evaluation.results import (
    GEOMETRY,
    Known,
    check_results,
    check_truth,
    read_results,
    result_columns,
    results_from,
)
from sightline.records import Detections, ImageSize, Rle

Json = dict[str, Any]

MASK = {"size": [10, 20], "counts": [50, 30, 120]}


def truth(**changed: Any) -> Json:
    annotation = {"id": 1, "image_id": 4, "category_id": 7, "bbox": [0, 0, 5, 5], "area": 25, "segmentation": MASK}
    return {
        "images": [{"id": 4, "height": 10, "width": 20}],
        "categories": [{"id": 7, "name": "bee"}],
        "annotations": [annotation],
    } | changed


def result(**changed: Any) -> Json:
    entry: Json = {"image_id": 4, "category_id": 7, "bbox": [0, 0, 5, 5], "score": 0.5} | changed
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(7, "result 0: is a JSON int, not an object", id="no object"),
        pytest.param(result(image_id=...), "result 0: has no 'image_id'", id="no image"),
        pytest.param(result(image_id="4"), "has image_id '4'. Give image_id as a whole number", id="image id is text"),
        pytest.param(result(image_id=5), "has image_id 5, which the ground truth does not know", id="unknown image"),
        pytest.param(result(category_id=0), "has category_id 0, .* not the class indices 0, 1", id="class index"),
        pytest.param(result(score=...), "has score None. Give a finite number", id="no score"),
        pytest.param(result(score="0.5"), "has score '0.5'", id="score is text"),
        pytest.param(result(score=math.nan), "has score nan", id="score is nan"),
        pytest.param(result(score=1e308), r"has score 1e\+308. Give numbers up to 1e\+100", id="score that overflows"),
        pytest.param(result(bbox=[0, 0, 1e200, 1e200]), "has bbox .*Give numbers up to", id="area that overflows"),
        pytest.param(result(bbox=[0, 0, 5]), r"has bbox \[0, 0, 5\]. Give 4 finite numbers", id="three numbers"),
        pytest.param(result(bbox=[0, 0, math.inf, 5]), "has bbox .*inf", id="infinite box"),
        pytest.param(result(bbox=[9, 9, -5, 5]), r"of negative size. Write it as \[left, top, width, height\]", id="corners"),
        pytest.param(result(bbox=...), "has neither a bbox nor a segmentation", id="no place"),
        pytest.param(result(segmentation={"size": [9, 9], "counts": "0"}), "mask of 9 x 9 px in a picture of", id="mask size"),
        pytest.param(result(segmentation={"size": [10, 20], "counts": "PPPP"}), "has a damaged mask", id="damaged mask"),
        pytest.param(result(segmentation={"size": [10, 20], "counts": [1, 2]}), "run lengths that sum to 3", id="short mask"),
        pytest.param(result(segmentation="mask"), "segmentation of type str", id="mask is text"),
    ],
)
def test_a_broken_result(entry: object, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        evaluate_results(truth(), [entry])


def test_boxes_and_masks_must_not_be_mixed() -> None:
    mixed = [result(), result(bbox=..., segmentation=MASK), result(segmentation=MASK)]
    with pytest.raises(LabelError, match="result 1: has segmentation, where earlier results have bbox") as caught:
        evaluate_results(truth(), mixed)
    assert len(caught.value.problems) == 2


def test_what_comes_after_a_broken_result_is_not_blamed_for_it() -> None:
    with pytest.raises(LabelError) as caught:
        evaluate_results(truth(), [result(score=None), result(), result()])
    assert len(caught.value.problems) == 1


def test_all_problems_come_together() -> None:
    entries = [result(), result(score=None), result(), result(image_id=1, category_id=1), 3]
    with pytest.raises(LabelError) as caught:
        evaluate_results(truth(), entries)
    assert [problem.where for problem in caught.value.problems] == [
        "results: result 1",
        "results: result 3",
        "results: result 4",
    ]


def test_results_of_another_data_set_are_told_in_one_sentence() -> None:
    strange = [result(image_id=number) for number in range(100, 110)]
    with pytest.raises(
        LabelError, match=r"10 of its 11 images are not in ground truth: these are results of another"
    ) as caught:
        evaluate_results(truth(), [result(), *strange])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("kind", ["bbox", "segmentation", "both"])
def test_what_is_read_at_once_is_what_is_read_one_by_one(kind: str) -> None:
    checked = check_truth(truth(), "truth")
    entry = result(bbox=[0, 1.5, 5, 2**50 + 1], segmentation=MASK)
    content = [{key: value for key, value in entry.items() if kind == "both" or key not in GEOMETRY or key == kind}] * 3
    known = Known({4: 0}, {7: 0})
    at_once, one_by_one = check_results(content, checked, "r"), read_results(content, known, "r")
    again = result_columns(one_by_one, known, "r")
    assert at_once.kinds == again.kinds
    assert at_once.found.segmentations == again.found.segmentations
    np.testing.assert_array_equal(at_once.scores, again.scores)
    np.testing.assert_array_equal(at_once.found.boxes, again.found.boxes)


@pytest.mark.parametrize("content", [{"annotations": []}, "text", None, 3])
def test_results_must_be_a_list(content: object) -> None:
    with pytest.raises(LabelError, match=r"not a list of results\. A results file is a JSON list of"):
        evaluate_results(truth(), content)


@pytest.mark.parametrize("content", [[], {}, {"images": [], "categories": []}, None])
def test_the_truth_must_be_coco(content: object) -> None:
    with pytest.raises(LabelError, match="is no ground truth"):
        evaluate_results(content, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"images": [{"id": "4"}]}, r"images\[0\]: has id '4'", id="image id is text"),
        pytest.param(
            {"images": [{"id": 4}, {"id": 4}]}, r"images\[1\]: has the id 4, which an earlier one has", id="image twice"
        ),
        pytest.param({"images": [{"id": 4, "width": 1, "height": None}]}, "has height None", id="no height"),
        pytest.param({"categories": [{"id": 7}]}, "has no 'name'", id="nameless"),
        pytest.param(
            {"categories": [{"id": 7, "name": "bee"}, {"id": 8, "name": "bee"}]}, "has the name 'bee', which", id="name twice"
        ),
        pytest.param({"annotations": [{"image_id": 5}]}, r"annotations\[0\]: has bbox None", id="no box"),
        pytest.param({"annotations": [{"bbox": [0, 0, 1, 1], "image_id": 5}]}, "has image_id 5", id="unknown image"),
        pytest.param(
            {"annotations": [{"bbox": [0, 0, 1, 1], "image_id": 4, "category_id": 7, "area": "9"}]}, "has area '9'", id="area"
        ),
        pytest.param(
            {"annotations": [{"bbox": [0, 0, 1, 1], "image_id": 4, "category_id": 7, "iscrowd": "0"}]},
            "has iscrowd '0'. Write 0 or 1",
            id="text is true in Python",
        ),
        pytest.param({"annotations": [{"bbox": [0, 0, 1e200, 1e200]}]}, "Give numbers up to", id="area that overflows"),
    ],
)
def test_a_broken_truth(changed: Json, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        evaluate_results(truth(**changed), [])


def test_masks_need_labelled_masks() -> None:
    bare = truth(annotations=[{"id": 1, "image_id": 4, "category_id": 7, "bbox": [0, 0, 5, 5]}])
    with pytest.raises(LabelError, match="has no masks to compare those of results with"):
        evaluate_results(bare, [result(bbox=..., segmentation=MASK)])


def test_every_object_needs_a_mask_where_masks_are_scored() -> None:
    labels = truth()
    labels["annotations"].append({"id": 2, "image_id": 4, "category_id": 7, "bbox": [0, 0, 5, 5]})
    with pytest.raises(LabelError, match=r"annotations\[1\]: has no segmentation"):
        evaluate_results(labels, [result(bbox=..., segmentation=MASK)])


def test_masks_need_the_size_of_their_image() -> None:
    with pytest.raises(LabelError, match="image of unknown size"):
        evaluate_results(truth(images=[{"id": 4}]), [result(bbox=..., segmentation=MASK)])


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_files_that_are_not_json_are_named(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "results.json"
    broken.write_bytes(content)
    with pytest.raises(LabelError, match=r"results\.json: is not JSON"):
        evaluate_files(broken, broken)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"absent\.json: cannot be read \(No such file"):
        evaluate_files(tmp_path / "absent.json", tmp_path / "absent.json")


def test_results_from_detections_are_coco_results() -> None:
    boxes, scores = np.array([[1, 2, 11.5, 22]], np.float32), np.array([0.5], np.float32)
    found = Detections(ImageSize(10, 20), boxes, scores, np.array([1]))
    results = results_from({4: found}, category_ids=[3, 7])
    assert results == [{"image_id": 4, "category_id": 7, "bbox": [1.0, 2.0, 10.5, 20.0], "score": 0.5}]
    assert check_results(results, check_truth(truth(), "truth"), "results").kinds == ("bbox",)


def test_masks_are_written_as_segmentations() -> None:
    size = ImageSize(10, 20)
    masks = (a_mask((1, 2, 11, 9), size), Rle(size, (50, 30, 120)))
    empty = Detections(size, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ())
    found = Detections(size, np.ones((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64), masks)
    results = results_from({4: found, 5: empty}, category_ids=[7])
    assert [entry["segmentation"] for entry in results] == [
        {"size": [10, 20], "counts": masks[0].counts},
        {"size": [10, 20], "counts": [50, 30, 120]},
    ]
    assert check_results(results, check_truth(truth(), "truth"), "results").kinds == ("bbox", "segm")


def test_a_label_without_a_category_is_an_error() -> None:
    found = Detections(ImageSize(10, 20), np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([2]))
    with pytest.raises(DatasetError, match=r"image 4 has a detection with the label 2\. The dataset has 2 categories"):
        results_from({4: found}, category_ids=[3, 7])
