"""What a report is put together from: outlines of masks, thumbnails, the choice of pictures, plots as files."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_picture, a_random_scene, a_scene
from PIL import Image as Pillow

from sightline.evaluation.analysis import Evaluation, examine
from sightline.evaluation.asked import Measuring
from sightline.evaluation.results import check_results, check_truth
from sightline.geometry.masks import encode
from sightline.records import ImageSize
from sightline.reporting import mistakes, thumbnails
from sightline.reporting.comparison import Sides, outlined
from sightline.reporting.mistakes import Drawn, Outlines, counts_in_steps, points, report_data, score_range, worst_pictures
from sightline.reporting.outlines import path_of
from sightline.reporting.plots import write_plots
from sightline.reporting.thumbnails import place_of

BOX, AWAY = (10.0, 10.0, 40.0, 40.0), (100.0, 50.0, 9.0, 9.0)


def examined(truth: dict[str, Any], results: list[dict[str, Any]]) -> Evaluation:
    checked = check_truth(truth, "truth.json")
    return examine(checked, check_results(results, checked, "a model"), Measuring(resamples=10))


def filled(path: str, size: ImageSize) -> np.ndarray:
    """(H, W): cells inside the vertical lines of a path on a grid of one pixel: each line turns what is right of it."""
    inside = np.zeros(size, dtype=np.int64)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        inside[int(y) : int(y) + int(length), int(x) :] += 1
    return inside % 2 == 1


def test_the_outline_of_a_bitmap_encloses_it() -> None:
    size = ImageSize(30, 40)
    mask = np.random.default_rng(0).random(size) < 0.5
    rle = encode(mask)
    path = path_of({"size": list(size), "counts": rle.counts}, size)
    np.testing.assert_array_equal(filled(path, size), mask)
    assert len(re.findall("h", path)) > 0


def test_the_outline_of_polygons_is_theirs() -> None:
    assert path_of([[1, 2, 30.2, 2, 30, 40], [1, 2, 3, 4]], ImageSize(50, 50)) == "M1 2L30 2L30 40Z"


def test_pictures_with_most_mistakes_come_first() -> None:
    found = [(0, 0, BOX, 0.9), *((1, 0, AWAY, 0.99 - n / 100) for n in range(3)), (1, 0, BOX, 0.8), (2, 0, BOX, 0.8)]
    one = examined(*a_scene([(0, 0, BOX), (1, 0, BOX), (2, 0, BOX), (2, 1, AWAY)], found, images=4)).analyses["bbox"]
    assert worst_pictures(one).tolist() == [1, 2, 0]  # the last one is empty, and nothing was found in it


def test_beyond_the_bounds_a_page_keeps_a_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    one = examined(*a_random_scene(3, images=8)).analyses["bbox"]
    few = points(one.micro, 10, one.threshold)
    assert 10 <= len(few["scores"]) <= 11
    assert max(few["true"]) == one.micro.true[-1]
    assert few["true"][few["scores"].index(one.threshold)] == one.best.reached["true"]
    assert not counts_in_steps(one)
    monkeypatch.setattr(mistakes, "MAX_POINTS", 2)
    assert counts_in_steps(one)
    monkeypatch.setattr(mistakes, "MAX_FOUND_IN_ALL", 4)
    data = report_data(one, Drawn((0, 1), {}, 5))
    assert [len(picture["found"]) for picture in data["pictures"]] == [2, 2]
    assert data["left_out"] == 5


@pytest.mark.parametrize(
    ("scores", "expected"), [([], (0, 1)), ([0.2, 1.0], (0, 1)), ([0.2, 7.3], (0, 8)), ([-3.0, 0.5], (-3, 1))]
)
def test_the_range_of_the_slider_covers_all_scores(scores: list[float], expected: tuple[float, float]) -> None:
    assert score_range(np.array(scores)) == expected


def test_thumbnails_stop_before_the_page_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [a_picture(tmp_path / f"{n}.jpg", ImageSize(40, 60)) for n in range(4)]
    whole = thumbnails.thumbnails([paths[0], None, tmp_path / "missing.jpg", paths[1]])
    assert [bool(uri) for uri in whole] == [True, False, False, True]
    monkeypatch.setattr(thumbnails, "MAX_CHARACTERS", len(whole[0]) * 2 + 10)
    assert len(thumbnails.thumbnails(paths)) == 2


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "a/../../secret.jpg", ""])
def test_names_that_climb_are_no_pictures(name: str, tmp_path: Path) -> None:
    truth, _ = a_scene([], [])
    truth["images"][0]["file_name"] = name
    assert place_of(check_truth(truth, "truth"), 0, tmp_path) is None


@pytest.mark.parametrize("boxed", [True, False])
def test_a_comparison_draws_masks_and_all_that_is_false(boxed: bool) -> None:
    """Of results with masks alone, too."""
    found_boxes = [(0, 0, BOX, 0.9), (0, 0, AWAY, 0.95), (1, 0, AWAY, 0.95)]
    truth, found = a_scene([(0, 0, BOX), (1, 0, BOX)], found_boxes, images=2)
    for entry in (*truth["annotations"], *found):
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    if not boxed:
        for entry in found:
            del entry["bbox"]
    checked = check_truth(truth, "truth.json")
    sides = Sides(*(examine(checked, check_results(some, checked, "a model")).analyses["segm"] for some in (found, found[:2])))
    masks = Outlines(sides.first), Outlines(sides.second)
    drawn = [(one.look, one.box, one.path) for row in (0, 1) for one in outlined(row, sides, masks)]
    away, own = "M100 50L109 50L109 59L100 59Z", (100.0, 50.0, 109.0, 59.0)
    nobody = ("faint", (10.0, 10.0, 50.0, 50.0), "M10 10L50 10L50 50L10 50Z")
    assert drawn == [("own-dashed", own, away), ("other", own, away), nobody, ("own-dashed", own, away)]


def test_plots_as_png_and_svg(tmp_path: Path) -> None:
    truth, results = a_random_scene(1)
    truth["categories"][0]["name"] = "$1 & <b>_{^"
    (tmp_path / "metrics.json").write_text('{"iteration": 19, "total_loss": 1.0}\n{"iteration": 39, "total_loss": 0.5}\n')
    made = write_plots(examined(truth, results), tmp_path / "plots", tmp_path)
    names = {path.name for path in made}
    expected = {f"bbox_{name}" for name in ("precision_recall", "f1", "confusion", "classes")} | {"training"}
    assert names == {f"{name}.{format}" for name in expected for format in ("png", "svg")}
    for path in made:
        if path.suffix == ".png":
            with Pillow.open(path) as picture:
                assert min(picture.size) > 300
        else:
            assert "<svg" in path.read_text(encoding="utf-8")
