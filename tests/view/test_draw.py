"""Drawing: the right pixels, readable tags inside the picture, and nothing that makes it fail."""

import numpy as np
import pytest

from sightline.records import Detections, ImageSize
from sightline.view.draw import COLOURS, draw, find_place, ink_on, inside, overlap

GREY = 90


def picture(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def detections(*found: tuple[tuple[float, float, float, float], float, int], size: ImageSize | None = None) -> Detections:
    """Each: (box, score, label)."""
    return Detections(
        size or ImageSize(120, 160),
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for _, _, label in found], np.int64),
    )


def shows(image: np.ndarray, label: int) -> bool:
    return bool((image == COLOURS[label]).all(axis=2).any())


def test_the_frame_has_the_labels_colour_and_leaves_the_inside_alone() -> None:
    drawn = draw(picture(), detections(((40, 50, 100, 100), 0.9, 0)), ["bee"])
    for x, y in ((40, 75), (100, 75), (70, 50), (70, 100)):
        assert tuple(drawn[y, x]) == COLOURS[0]
    np.testing.assert_array_equal(drawn[60:90, 50:90], GREY)


def test_the_argument_is_not_painted_on() -> None:
    image = picture()
    draw(image, detections(((10, 30, 50, 60), 0.9, 0)), ["bee"])
    np.testing.assert_array_equal(image, picture())


def test_nothing_found_changes_nothing() -> None:
    np.testing.assert_array_equal(draw(picture(), detections(), ["bee"]), picture())


def test_scores_below_the_threshold_are_left_out() -> None:
    found = detections(((10, 30, 50, 60), 0.6, 0), ((90, 30, 130, 60), 0.4, 1))
    drawn = draw(picture(), found, ["bee", "wasp"], threshold=0.5)
    assert shows(drawn, 0)
    assert not shows(drawn, 1)


def test_the_best_frame_lies_on_top() -> None:
    box = (40.0, 50.0, 100.0, 100.0)
    drawn = draw(picture(), detections((box, 0.9, 1), (box, 0.6, 0)), ["bee", "wasp"])
    assert tuple(drawn[75, 40]) == COLOURS[1]


def test_a_tag_holds_letters_in_a_contrasting_colour() -> None:
    drawn = draw(picture(), detections(((40, 50, 100, 100), 0.9, 4)), ["a", "b", "c", "d", "wasp"])
    tag = drawn[36:49, 42:80]
    assert (tag == COLOURS[4]).all(axis=2).any()
    assert tag.max() > 200  # white on blue


@pytest.mark.parametrize(("colour", "ink"), [((240, 228, 66), 0), ((255, 255, 255), 0), ((0, 114, 178), 255), ((0, 0, 0), 255)])
def test_letters_are_dark_on_bright_and_bright_on_dark(colour: tuple[int, int, int], ink: int) -> None:
    assert ink_on(colour) == (ink, ink, ink)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0, 0, 30, 20), id="top left"),
        pytest.param((140, 0, 160, 20), id="top right"),
        pytest.param((150, 110, 160, 120), id="bottom right"),
        pytest.param((0, 0, 160, 120), id="all of it"),
        pytest.param((-50, -50, 300, 300), id="beyond it"),
        pytest.param((60, 60, 60, 60), id="of no size"),
        pytest.param((80, 80, 20, 20), id="inside out"),
        pytest.param((200, 200, 220, 220), id="beside it"),
        pytest.param((float("nan"), 0, float("inf"), 9), id="not finite"),
    ],
)
@pytest.mark.parametrize("shape", [(120, 160), (1, 1), (5, 300)])
def test_any_box_can_be_drawn(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    drawn = draw(picture(*shape), detections((box, 0.9, 0)), ["bee"])
    assert drawn.shape == (*shape, 3)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize("name", ["Hornisse ♀", "蜜蜂", "🐝", "نحلة", "two\nlines", "\x00", "", "x" * 300])
def test_any_name_can_be_drawn(name: str) -> None:
    assert shows(draw(picture(), detections(((40, 50, 100, 100), 0.9, 0)), [name]), 0)


def test_a_label_without_a_name_is_drawn_with_its_number() -> None:
    assert shows(draw(picture(), detections(((40, 50, 100, 100), 0.9, 3)), ["bee"]), 3)


def test_colours_repeat_beyond_the_palette() -> None:
    found = detections(((40, 50, 100, 100), 0.9, len(COLOURS) + 1))
    assert shows(draw(picture(), found, []), 1)


def test_lines_grow_with_the_picture() -> None:
    def frame_width(height: int, width: int) -> int:
        box = (width * 0.3, height * 0.3, width * 0.7, height * 0.7)
        drawn = draw(picture(height, width), detections((box, 0.9, 0)), ["bee"])
        return int((drawn[height // 2, : width // 2] == COLOURS[0]).all(axis=1).sum())

    assert frame_width(120, 160) == 2
    assert frame_width(1800, 2400) > 5


def test_tags_make_way_for_each_other_and_stay_in_the_picture() -> None:
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(4):
        place = find_place((40, 40, 100, 100), (50, 12), (160, 120), taken)
        assert not any(overlap(place, other) for other in taken)
        assert 0 <= place[0] < place[2] < 160
        assert 0 <= place[1] < place[3] < 120
        taken.append(place)


def test_a_crowded_place_falls_back_to_the_first() -> None:
    everywhere = [(0.0, 0.0, 160.0, 120.0)]
    assert find_place((40, 40, 100, 100), (50, 12), (160, 120), everywhere) == (40, 28, 90, 40)


def test_a_box_is_cut_off_at_the_last_pixel() -> None:
    assert inside((-5, 10, 500, 40), (160, 120)) == (0, 10, 159, 40)
