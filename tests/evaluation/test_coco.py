"""COCO's numbers at the edges, from detections, as JSON and as a table. That they are right: test_pycocotools.py."""

import copy
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import a_mask

from sightline.evaluation.coco import evaluate_detections, evaluate_results, headline, table, to_dict
from sightline.records import Category, Dataset, Detections, ImageRecord, ImageSize, Instance

Json = dict[str, Any]

SIZE = ImageSize(100, 100)


def truth(*boxes: list[float], **changed: Any) -> Json:
    """One image of 100 x 100 px and one category, with these boxes."""
    annotations = [
        {"id": index, "image_id": 1, "category_id": 7, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for index, box in enumerate(boxes, start=1)
    ]
    image = {"id": 1, "width": 100, "height": 100, "file_name": "a.jpg"}
    return {"images": [image], "categories": [{"id": 7, "name": "bee"}], "annotations": annotations} | changed


def result(box: list[float], score: float = 0.9, **changed: Any) -> Json:
    return {"image_id": 1, "category_id": 7, "bbox": box, "score": score} | changed


BOX = [10.0, 10.0, 50.0, 50.0]


def test_arguments_are_not_changed() -> None:
    mask = {"size": [100, 100], "counts": [1000, 500, 8500]}
    labels, found = truth(BOX), [result(BOX, segmentation=mask)]
    labels["annotations"][0]["segmentation"] = [[1, 1, 50, 1, 50, 50]]
    before = copy.deepcopy((labels, found))
    evaluate_results(labels, found)
    assert (labels, found) == before


def test_a_perfect_result() -> None:
    scores = evaluate_results(truth(BOX), [result(BOX)])["bbox"]
    np.testing.assert_allclose(scores.AP, 1)
    assert scores.AR1 == 1
    assert math.isnan(scores.APs)
    assert scores.per_class == {"bee": scores.AP}
    assert scores.AP50_per_class == {"bee": scores.AP50}


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [pytest.param([BOX], 0.0, id="all is missed"), pytest.param([], math.nan, id="there was nothing to find")],
)
def test_no_results_at_all(boxes: list[list[float]], expected: float) -> None:
    scores = evaluate_results(truth(*boxes), [])
    assert list(scores) == ["bbox"]
    np.testing.assert_equal(scores["bbox"].AP, expected)
    np.testing.assert_equal(scores["bbox"].AR100, expected)


@pytest.mark.parametrize("gone", ["images", "categories"])
def test_a_truth_without_images_or_categories_is_undefined(gone: str) -> None:
    assert math.isnan(evaluate_results(truth(**{gone: []}), [])["bbox"].AP)


def test_annotation_numbers_do_not_matter() -> None:
    """pycocotools takes a match with annotation 0 for a miss, and loses annotations that share a number."""
    labels = truth(BOX, [70.0, 70.0, 20.0, 20.0])
    for annotation in labels["annotations"]:
        annotation["id"] = 0
    scores = evaluate_results(labels, [result(BOX), result([70.0, 70.0, 20.0, 20.0])])["bbox"]
    np.testing.assert_allclose(scores.AP, 1)


def test_iscrowd_overrides_ignore() -> None:
    labels = truth(BOX)
    labels["annotations"][0]["ignore"] = 1
    assert evaluate_results(labels, [])["bbox"].AP == 0


def test_optional_facts_have_defaults() -> None:
    bare = truth(images=[{"id": 1}], annotations=[{"id": 1, "image_id": 1, "category_id": 7, "bbox": BOX}])
    assert evaluate_results(bare, [result(BOX)])["bbox"].APm == pytest.approx(1)


def test_masks_without_labelled_masks_leave_the_boxes() -> None:
    found = result(BOX, segmentation={"size": [100, 100], "counts": "PPP"})
    assert list(evaluate_results(truth(BOX), [found])) == ["bbox"]


def dataset(*boxes: tuple[float, float, float, float]) -> Dataset:
    """Image 1 with these boxes of the second category, image 2 with nothing."""
    instances = tuple(Instance(box, label=1) for box in boxes)
    categories = (Category(3, "wasp"), Category(9, "bee"))
    return Dataset(categories, (ImageRecord(1, "a.jpg", SIZE, instances), ImageRecord(2, "b.jpg", SIZE)))


def detections(*boxes: tuple[float, float, float, float], label: int = 1) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Detections(SIZE, np.array(boxes, np.float32).reshape(-1, 4), scores, np.full(len(boxes), label))


def test_detections_against_a_dataset() -> None:
    box = (10.5, 20.0, 60.0, 70.25)
    scores = evaluate_detections(dataset(box), {1: detections(box), 2: detections()})["bbox"]
    np.testing.assert_allclose(scores.AP, 1)
    np.testing.assert_equal(scores.per_class, {"wasp": math.nan, "bee": scores.AP})


def test_images_without_an_entry_have_no_detections() -> None:
    assert evaluate_detections(dataset((1, 2, 30, 40)), {})["bbox"].AP == 0


def test_json_has_the_documented_shape_and_no_nan() -> None:
    values = to_dict(evaluate_detections(dataset((10, 10, 60, 60)), {1: detections((10, 10, 60, 60))}))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "per_class"]
    assert values["bbox"]["APs"] is None
    assert values["bbox"]["per_class"] == {"wasp": None, "bee": values["bbox"]["AP"]}


def test_the_table() -> None:
    scores = evaluate_detections(dataset((10, 10, 60, 60), (70, 70, 90, 90)), {1: detections((10, 10, 60, 60))})
    assert table(scores).splitlines() == [
        "Boxes: COCO average precision and recall, 0 to 1; - where there was nothing to find",
        "      AP   AP50   AP75    APs    APm    APl    AR1   AR10  AR100",
        "   0.505  0.505  0.505  0.000  1.000      -  0.500  0.500  0.500",
        "",
        "  class     AP   AP50",
        "  wasp       -      -",
        "  bee    0.505  0.505",
    ]


def outlined(*boxes: tuple[float, float, float, float]) -> Dataset:
    """`dataset` with the boxes' own corners as outlines."""
    plain = dataset(*boxes)
    instances = tuple(replace(one, segmentation=(corners(one.box),)) for one in plain.images[0].instances)
    return replace(plain, images=(replace(plain.images[0], instances=instances), plain.images[1]))


def corners(box: tuple[float, float, float, float]) -> tuple[float, ...]:
    x1, y1, x2, y2 = box
    return (x1, y1, x2, y1, x2, y2, x1, y2)


def masked(*boxes: tuple[float, float, float, float], moved: int = 0) -> Detections:
    """`detections` whose masks fill the boxes, or lie beside them."""
    masks = tuple(a_mask((x1 + moved, y1, x2 + moved, y2), SIZE) for x1, y1, x2, y2 in boxes)
    return replace(detections(*boxes), masks=masks)


BOXES = ((10.0, 10.0, 60.0, 60.0), (70.0, 65.0, 90.0, 95.0))


def test_perfect_masks() -> None:
    scores = evaluate_detections(outlined(*BOXES), {1: masked(*BOXES), 2: masked()})
    assert list(scores) == ["bbox", "segm"]
    np.testing.assert_allclose([scores["bbox"].AP, scores["segm"].AP], 1)
    assert list(to_dict(scores)) == ["bbox", "segm"]
    assert table(scores).count("COCO average precision") == 2
    assert headline(scores) == "AP50 1.000, AP 1.000, of masks AP50 1.000, AP 1.000"


def test_masks_beside_their_objects_lower_segm_alone() -> None:
    scores = evaluate_detections(outlined(*BOXES), {1: masked(*BOXES, moved=6)})
    np.testing.assert_allclose(scores["bbox"].AP, 1)
    assert 0 < scores["segm"].AP < 0.6


def test_masks_are_not_scored_without_labelled_masks() -> None:
    assert list(evaluate_detections(dataset(*BOXES), {1: masked(*BOXES)})) == ["bbox"]


def test_labelled_masks_do_not_ask_for_masks() -> None:
    assert list(evaluate_detections(outlined(*BOXES), {1: detections(*BOXES)})) == ["bbox"]
