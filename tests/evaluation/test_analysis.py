"""The whole analysis: as JSON, as text, what it lists, what it warns of; and two models side by side."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import a_random_scene, a_scene

from sightline.errors import ConfigError
from sightline.evaluation.analysis import Evaluation, examine
from sightline.evaluation.asked import Measuring
from sightline.evaluation.comparing import BETTER, NOISE, TOO_FEW, UNDEFINED, WORSE, compare
from sightline.evaluation.curves import Wish
from sightline.evaluation.results import check_results, check_truth

BOX, OTHER, AWAY = (10.0, 10.0, 40.0, 40.0), (100.0, 10.0, 40.0, 40.0), (60.0, 60.0, 9.0, 9.0)
FEW = Measuring(resamples=50)


def examined(truth: dict, results: list, measuring: Measuring = FEW) -> Evaluation:
    checked = check_truth(truth, "truth")
    return examine(checked, check_results(results, checked, "results"), measuring)


def values(truth: dict, results: list, measuring: Measuring = FEW) -> dict[str, Any]:
    """The analysis of boxes after a way through JSON, which has no nan."""
    whole = examined(truth, results, measuring).to_dict()
    return json.loads(json.dumps(whole, allow_nan=False))["bbox"]["analysis"]


SCENE = a_scene(
    [(0, 0, BOX), (0, 1, OTHER), (1, 0, BOX)],
    [(0, 0, BOX, 0.9), (0, 0, OTHER, 0.8), *((n // 2, 0, AWAY, 0.7 - n / 10) for n in range(3)), (1, 0, BOX, 0.1)],
    images=2,
)
"""A cat found surely, a dog taken for a cat, three cats where nothing is, a cat found hardly."""


def test_counts_and_lists() -> None:
    found = values(*SCENE)
    assert found["counts"] == {
        "images": 2, "objects": 3, "crowds": 0, "detections": 6,
        "true": 2, "false": 4, "in_crowds": 0, "missed": 1, "beyond_100": 0,
    }  # fmt: skip
    assert found["false"]["count"] == 4
    wrong, nothing, *_ = found["false"]["listed"]
    dog = {"annotation": 1, "id": 2, "class": "dog", "box": list(OTHER)}
    assert wrong == {
        "image_id": 10, "file_name": "0.jpg", "result": 1, "class": "cat", "score": 0.8, "box": list(OTHER), "iou": 0.0,
        "kind": "classification", "object": dog,
    }  # fmt: skip
    assert (nothing["kind"], nothing["object"]) == ("background", None)
    missed = found["missed"]
    assert missed["threshold"] == 0.9
    assert [(one["id"], one["found_below"], one["nothing_near"]) for one in missed["listed"]] == [
        (2, None, False),
        (3, 0.1, False),
    ]


def test_classes() -> None:
    cat, dog, bee = values(*SCENE)["classes"]
    assert (cat["objects"], cat["detections"], cat["best"]["threshold"]) == (2, 6, 0.9)
    assert cat["VOC"] == pytest.approx((1 + 2 / 6) / 2)
    assert (dog["objects"], dog["detections"], dog["AP"]) == (1, 0, 0)
    assert (bee["AP"], bee["AP_interval"]["low"]) == (None, None)
    assert bee["best"] == {"threshold": None, "why_none": "the labels have no object of this class"}


def test_advice_where_nothing_is_found() -> None:
    advice = values(*a_scene([(0, 0, BOX)], []))["advice"]
    assert advice.startswith("No object is found. To do: look whether classes")
    assert "trained for too few steps" in advice


def test_lists_end_where_asked_and_say_how_many_there_are() -> None:
    listed = examined(*SCENE).analyses["bbox"].to_dict(listed=1)
    assert (listed["false"]["count"], len(listed["false"]["listed"])) == (4, 1)
    assert (listed["missed"]["count"], len(listed["missed"]["listed"])) == (2, 1)


def test_for_people() -> None:
    text = examined(*SCENE, replace(FEW, wish=Wish("recall", 0.9))).text()
    assert "Most is lost by 1 error of classification: without them AP50 would be" in text
    assert re.search(r"AP 0\.\d{3}, on other such pictures 0\.\d{3} to 0\.\d{3} \(95%\)", text)
    assert re.search(r"bee +- +- +0 ", text)
    assert "Thresholds for recall=0.9" in text


def test_one_kind_for_each_that_the_results_have() -> None:
    truth, results = SCENE
    outline = [[10, 10, 50, 10, 50, 50, 10, 50]]
    masked = {**truth, "annotations": [{**entry, "segmentation": outline} for entry in truth["annotations"]]}
    found = [{**entry, "segmentation": outline} for entry in results]
    assert list(examined(masked, found).analyses) == ["bbox", "segm"]
    alone = [{key: value for key, value in entry.items() if key != "bbox"} for entry in found]
    (segm,) = examined(masked, alone).analyses.values()
    assert segm.to_dict()["false"]["listed"][0]["box"] is None


@pytest.mark.parametrize(
    ("scene", "note"),
    [
        pytest.param(a_scene([(0, 0, BOX)], []), "there are no detections at all: every AP is 0", id="nothing found"),
        pytest.param(SCENE, "the labels have no object of 'bee': these classes do not count", id="no object"),
        pytest.param(SCENE, "nothing was detected of 'dog': AP 0. Are the classes the same", id="never detected"),
        pytest.param(SCENE, "2 pictures are few", id="few"),
        pytest.param(a_scene([(0, 0, BOX)], []), "1 picture is few", id="one"),
        pytest.param(a_scene([], []), "there are neither objects nor detections: no AP is defined", id="nothing at all"),
        pytest.param(
            a_scene([(0, 0, BOX), (1, 0, BOX)], [(0, 0, BOX, 0.5)], images=2),
            "1 of 2 pictures with objects have no detection: are these results of a part of them?",
            id="a part",
        ),
        pytest.param(
            a_scene([(0, 0, BOX)], [(0, 1, BOX, 0.5)]), "detections of 'dog' without a single object", id="invented class"
        ),
        pytest.param(
            a_scene([(0, 0, BOX)], [(0, 0, BOX, 1.5), (0, 0, BOX, -2.0)]),
            "2 scores are outside 0 to 1 (-2 to 1.5): average precision is right, calibration is left out",
            id="scores",
        ),
        pytest.param(
            a_scene([(0, 0, BOX)], [(0, 0, (500.0, 10.0, 9.0, 9.0), 0.5)]), "100% of the detections lie outside", id="outside"
        ),
        pytest.param(
            a_scene([(0, 0, BOX)], [(0, 0, (90.0, 60.0, 140.0, 90.0), 0.5)]), "100% of the boxes reach beyond", id="corners"
        ),
        pytest.param(
            a_scene([(0, 0, BOX)], [(0, 0, (0.05, 0.1, 0.2, 0.4), 0.5)]), "no detected box is larger than 1 px", id="shares"
        ),
        pytest.param(a_scene([(0, 0, BOX)], [(0, 0, BOX, 1.0)] * 10), "all 10 scores are 1: average", id="no scores"),
        pytest.param(a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.5)] * 101), "1 detections do not count", id="surplus"),
    ],
)
def test_doubts_are_said(scene: tuple[dict, list], note: str) -> None:
    assert any(note in one for one in values(*scene)["notes"])


def test_an_annotation_with_the_id_0_is_found_and_pycocotools_is_said_to_differ() -> None:
    truth, results = a_scene([(0, 0, BOX), (0, 0, OTHER)], [(0, 0, BOX, 0.9), (0, 0, OTHER, 0.8)])
    truth["annotations"][0]["id"] = 0
    evaluation = examined(truth, results)
    assert evaluation.scores["bbox"].numbers()["AP"] == pytest.approx(1)
    assert any(
        "an annotation has the id 0: pycocotools' numbers are wrong" in note for note in evaluation.analyses["bbox"].notes
    )


def test_advice_where_nothing_is_labelled() -> None:
    assert examined(*a_scene([], [(0, 0, BOX, 0.5)])).analyses["bbox"].advice.startswith("The labels have no object")


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(a_scene([], []), id="nothing"),
        pytest.param(a_scene([], [(0, 0, BOX, 0.5)]), id="nothing to find"),
        pytest.param(a_scene([(0, 0, BOX)], []), id="nothing found"),
        pytest.param(a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.5)], crowd=0), id="a crowd alone"),
        pytest.param(a_scene([], [], categories=[]), id="no categories"),
        pytest.param(({"images": [], "categories": [], "annotations": []}, []), id="no images"),
    ],
)
def test_empty_sets_are_answered(scene: tuple[dict, list]) -> None:
    evaluation = examined(*scene)
    assert json.dumps(evaluation.to_dict(), allow_nan=False)
    assert "AP50" in evaluation.text()


def pair(first: tuple[dict, list], second: list, measuring: Measuring = FEW) -> tuple[Evaluation, Evaluation]:
    truth = check_truth(first[0], "truth")
    return tuple(  # type: ignore[return-value]
        examine(truth, check_results(found, truth, name), measuring) for name, found in (("A", first[1]), ("B", second))
    )


def test_the_better_one_is_called_better_and_the_same_one_noise() -> None:
    truth, results = a_random_scene(2, images=60, skill=0.3)
    perfect = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 0.9}
        for one in truth["annotations"]
    ]
    first, second = pair((truth, results), perfect)
    compared = compare(first, second)["bbox"]
    assert {one.verdict for one in compared.metrics.values()} == {BETTER}
    assert compare(second, first)["bbox"].metrics["AP"].verdict == WORSE
    assert compare(first, first)["bbox"].metrics["AP"].verdict == NOISE
    assert json.dumps(compared.to_dict(), allow_nan=False)


def test_doubts_are_said_of_both_or_of_one() -> None:
    """A comparison shows no other notes."""
    scene, (_, strange) = a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.5)]), a_scene([], [(0, 0, BOX, 1.5)])
    one = compare(*pair(scene, strange))["bbox"]
    assert one.notes[1:] == (
        "1 picture is few: the intervals are rough",
        "B: 1 scores are outside 0 to 1 (1.5 to 1.5): average precision is right, calibration is left out",
    )
    assert [f"  note: {note}" for note in one.notes] == one.lines()[-3:]
    assert one.to_dict()["notes"] == list(one.notes)


def test_what_only_one_has_is_not_compared_and_said() -> None:
    truth, found = a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.5)])
    outline = [[10, 10, 50, 10, 50, 50, 10, 50]]
    masked = {**truth, "annotations": [{**entry, "segmentation": outline} for entry in truth["annotations"]]}
    compared = compare(*pair((masked, [{**entry, "segmentation": outline} for entry in found]), found))
    assert list(compared) == ["bbox"]
    assert compared["bbox"].notes[0] == "B has no masks: they are not compared"


def test_few_other_boxes_are_noise() -> None:
    """The same detections, a little moved: a difference, and none to act upon."""
    truth, results = a_random_scene(3, images=20)
    rng = np.random.default_rng(0)
    moved = [{**one, "bbox": (np.array(one["bbox"]) + rng.normal(0, 0.3, 4)).clip(1).tolist()} for one in results]
    difference = compare(*pair((truth, results), moved, Measuring(resamples=200)))["bbox"].metrics["AP"]
    assert difference.difference.value != 0
    assert difference.verdict == NOISE


def test_pairing_is_what_makes_small_differences_seen() -> None:
    first, second = pair(a_random_scene(4, images=30), a_random_scene(4, images=30)[1][:-8])
    one = compare(first, second)["bbox"].metrics["AP"].difference
    alone = first.analyses["bbox"].intervals["AP"]
    assert one.high - one.low < 0.7 * (alone.high - alone.low)


def test_pictures_where_they_disagree_come_first() -> None:
    scene = a_scene(
        [(0, 0, BOX), (1, 0, BOX), (2, 0, BOX), (2, 1, OTHER)],
        [(0, 0, BOX, 0.9), (1, 0, BOX, 0.9)],
        images=3,
    )
    found = [(0, 0, BOX, 0.9), (2, 0, BOX, 0.9), (2, 1, OTHER, 0.9), (1, 0, AWAY, 0.9)]
    compared = compare(*pair(scene, a_scene([], found)[1]))["bbox"]
    rows = [(p.file_name, p.only_first, p.only_second, p.false_first, p.false_second) for p in compared.pictures]
    assert rows == [("1.jpg", 1, 0, 0, 1), ("2.jpg", 0, 2, 0, 0), ("0.jpg", 0, 0, 0, 0)]
    assert compared.per_class["bee"].verdict == UNDEFINED
    assert compared.per_class["dog"].verdict == TOO_FEW
    assert compared.metrics["AP"].verdict == TOO_FEW


def test_each_may_have_read_the_truth_for_itself() -> None:
    truth, found = SCENE
    first, other = examined(truth, found), examined(json.loads(json.dumps(truth)), found[:1])
    apart = {name: one.to_dict() for name, one in compare(first, other)["bbox"].metrics.items()}
    assert apart == {name: one.to_dict() for name, one in compare(*pair(SCENE, found[:1]))["bbox"].metrics.items()}


def test_what_cannot_be_compared() -> None:
    first, _ = pair(SCENE, [])
    truth, found = SCENE
    with pytest.raises(ConfigError, match="not measured on the same pictures"):
        compare(first, examined({**truth, "annotations": truth["annotations"][1:]}, found))
    with pytest.raises(ConfigError, match="as many resamples"):
        compare(first, examined(truth, found, Measuring(resamples=FEW.resamples + 1)))
    with pytest.raises(ConfigError, match="nothing can be compared: A has bbox and P has box_proposals"):
        compare(first, Evaluation("P", {"box_proposals": first.scores["bbox"]}, {}))
