"""Drawing: the right pixels, readable tags inside the picture, and nothing that makes it fail."""

import dataclasses

import numpy as np
import pytest
from builders import a_mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sightline.geometry.masks import encode
from sightline.records import Detections, ImageSize, Rle
from sightline.view.draw import COLOURS, cut_out, draw, find_place, ink_on, inside, overlap, shrunk

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


SIZE = ImageSize(120, 160)
BOX = (40.0, 50.0, 100.0, 100.0)


def masked(*masks: Rle, labels: tuple[int, ...] = ()) -> Detections:
    """One detection of BOX for each mask, best first."""
    found = [(BOX, 0.9 - 0.1 * number, label) for number, label in enumerate(labels or (0,) * len(masks))]
    return dataclasses.replace(detections(*found), masks=masks)


def test_a_mask_is_half_its_colour_with_a_darker_contour() -> None:
    drawn = draw(picture(), masked(a_mask((60, 65, 80, 85), SIZE)), ["bee"])
    half = np.array([(GREY + share) / 2 for share in COLOURS[0]])
    np.testing.assert_allclose(drawn[66:84, 61:79], np.broadcast_to(half, (18, 18, 3)), atol=1)
    edge = drawn[65, 60:80].astype(float)
    np.testing.assert_allclose(edge, np.broadcast_to(0.55 * np.array(COLOURS[0]), edge.shape), atol=1)
    np.testing.assert_array_equal(drawn[86:95, 50:90], GREY)


def test_the_contour_grows_with_the_picture() -> None:
    size = ImageSize(1200, 1000)
    found = dataclasses.replace(masked(a_mask((60, 65, 80, 85), size)), size=size)
    drawn = draw(picture(*size), found, ["bee"])
    np.testing.assert_array_equal(drawn[75, 60], drawn[75, 61])
    assert (drawn[75, 61] != drawn[75, 62]).any()


def test_masks_lie_under_all_boxes_and_the_best_on_top() -> None:
    whole = a_mask((0, 0, 160, 120), SIZE)
    drawn = draw(picture(), masked(whole, whole, labels=(1, 0)), ["bee", "wasp"])
    assert tuple(drawn[75, 40]) == COLOURS[1]
    expected = [((GREY + under) / 2 + over) / 2 for under, over in zip(COLOURS[0], COLOURS[1], strict=True)]
    np.testing.assert_allclose(drawn[110, 20], expected, atol=2)


def test_a_mask_below_the_threshold_is_left_out() -> None:
    masks = (a_mask((2, 2, 20, 20), SIZE), a_mask((120, 90, 150, 110), SIZE))
    drawn = draw(picture(), masked(*masks), ["bee"], threshold=0.85)
    assert (drawn[10, 10] != GREY).any()
    np.testing.assert_array_equal(drawn[100, 130], GREY)


@pytest.mark.parametrize("shape", [(120, 160), (1, 1), (5, 300), (100, 30)])
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 160, 120), (159, 119, 160, 120), (3, 0, 5, 120), (0, 3, 160, 4)])
def test_any_mask_can_be_drawn(box: tuple[float, float, float, float], shape: tuple[int, int]) -> None:
    image = picture(*shape)
    drawn = draw(image, masked(a_mask(box, SIZE)), ["bee"])
    assert drawn.shape == (*shape, 3)
    np.testing.assert_array_equal(image, GREY)


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_what_is_cut_out_is_the_mask_and_no_larger(bitmap: np.ndarray) -> None:
    left, top, filled = cut_out(encode(bitmap))
    whole = np.zeros_like(bitmap)
    whole[top : top + filled.shape[0], left : left + filled.shape[1]] = filled
    np.testing.assert_array_equal(whole, bitmap)
    assert not filled.size or (filled[:, 0].any() and filled[:, -1].any())


def test_a_mask_of_one_piece_is_shrunk_from_all_sides() -> None:
    bitmap = np.ones((5, 6), dtype=bool)
    assert shrunk(bitmap, 2).sum() == 2
    assert not shrunk(bitmap, 3).any()
