"""Kinds of error one by one, and tidecv's numbers where it is installed (pip install tidecv)."""

import numpy as np
import pytest
from builders import a_random_scene, a_scene, matches_of

from sightline.evaluation import curves
from sightline.evaluation.mistakes import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    KINDS,
    LOCALISATION,
    MISSED,
    find_mistakes,
)

CAT, DOG = 0, 1
BOX = (10.0, 10.0, 40.0, 40.0)
NEAR, FAR = (30.0, 10.0, 40.0, 40.0), (120.0, 40.0, 20.0, 20.0)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        pytest.param((0, DOG, BOX, 0.5), CLASSIFICATION, id="class"),
        pytest.param((0, CAT, NEAR, 0.5), LOCALISATION, id="place"),
        pytest.param((0, DOG, NEAR, 0.5), BOTH, id="class and place"),
        pytest.param((0, CAT, FAR, 0.5), BACKGROUND, id="nothing"),
    ],
)
def test_one_error(found: tuple, kind: str) -> None:
    mistakes = find_mistakes(matches_of(*a_scene([(0, CAT, BOX)], [found])))
    expected = dict.fromkeys(KINDS, 0) | {kind: 1, MISSED: int(kind in (BOTH, BACKGROUND))}
    assert mistakes.counts() == expected
    mended = kind in (CLASSIFICATION, LOCALISATION)
    assert mistakes.gains[kind] == pytest.approx(float(mended))
    assert mistakes.blamed.tolist() == [-1 if kind == BACKGROUND else 0]


def test_a_duplicate_costs_what_stands_behind_it() -> None:
    found = [(0, CAT, BOX, 0.9), (0, CAT, BOX, 0.8), (0, CAT, FAR, 0.7)]
    mistakes = find_mistakes(matches_of(*a_scene([(0, CAT, BOX), (0, CAT, FAR)], found)))
    assert mistakes.counts() == dict.fromkeys(KINDS, 0) | {DUPLICATE: 1}
    assert mistakes.gains[DUPLICATE] == pytest.approx(1 - (51 + 50 * 2 / 3) / 101)
    assert mistakes.perfect_precision == pytest.approx(mistakes.gains[DUPLICATE])


def test_one_of_several_mends_an_object() -> None:
    found = [(0, CAT, NEAR, 0.9), (0, DOG, BOX, 0.8)]
    mistakes = find_mistakes(matches_of(*a_scene([(0, CAT, BOX), (0, DOG, FAR)], found)))
    assert mistakes.gains[LOCALISATION] == pytest.approx(0.5)
    assert mistakes.gains[CLASSIFICATION] == 0  # the better scored one is the one that mends it
    assert mistakes.missed.tolist() == [False, True]


def test_crowds_make_no_errors() -> None:
    scene = a_scene([(0, CAT, BOX)], [(0, CAT, BOX, 0.9), (0, DOG, BOX, 0.8)], crowd=0)
    assert find_mistakes(matches_of(*scene)).counts() == dict.fromkeys(KINDS, 0) | {BACKGROUND: 1}


@pytest.mark.parametrize("empty", ["objects", "detections"])
def test_nothing_at_all(empty: str) -> None:
    scene = a_scene([], [(0, CAT, BOX, 0.9)]) if empty == "objects" else a_scene([(0, CAT, BOX)], [])
    gains = find_mistakes(matches_of(*scene)).gains
    assert all(np.isfinite(gain) for gain in gains.values())


@pytest.mark.parametrize("seed", range(12))
def test_counts_and_gains_are_tidecvs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its recalls some differ from COCO's in the last digit, which decides where a recall is reached exactly."""
    tidecv = pytest.importorskip("tidecv")
    from tidecv.quantify import TIDERun

    monkeypatch.setattr(curves, "RECALLS", np.array([place / 100 for place in range(101)]))
    truth, results = a_random_scene(seed, images=8, skill=0.25)
    labelled, found = tidecv.Data("truth", max_dets=500), tidecv.Data("results", max_dets=500)
    for label in truth["categories"]:
        labelled.add_class(label["id"], label["name"])
    for image in truth["images"]:
        labelled.add_image(image["id"], image["file_name"])
    for entry in truth["annotations"]:
        labelled.add_ground_truth(entry["image_id"], entry["category_id"], entry["bbox"])
    for entry in results:
        found.add_detection(entry["image_id"], entry["category_id"], entry["score"], entry["bbox"])
    run = TIDERun(labelled, found, 0.5, 0.1, tidecv.TIDE.BOX, 500)
    names = {"Cls": CLASSIFICATION, "Loc": LOCALISATION, "Both": BOTH, "Dupe": DUPLICATE, "Bkg": BACKGROUND, "Miss": MISSED}
    mistakes = find_mistakes(matches_of(truth, results))
    assert mistakes.counts() == {names[kind.short_name]: count for kind, count in run.count_errors().items()}
    for kind, gain in run.fix_main_errors().items():
        assert mistakes.gains[names[kind.short_name]] == pytest.approx(gain / 100, abs=1e-12)
    special = {kind.short_name: gain / 100 for kind, gain in run.fix_special_errors().items()}
    assert mistakes.perfect_precision == pytest.approx(special["FalsePos"], abs=1e-12)
    assert mistakes.perfect_recall == pytest.approx(special["FalseNeg"], abs=1e-12)
