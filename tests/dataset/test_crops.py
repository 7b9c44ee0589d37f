"""A window never leaves its picture, and what is cut out is what was there."""

import numpy as np
import pytest
from builders import a_painting
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.crops import KINDS, Crop, Window, crop_boxes, crop_image, crop_mask, draw_size, draw_window
from sightline.geometry.boxes import clip
from sightline.geometry.masks import bounds, is_empty, rasterise
from sightline.records import ImageSize

PICTURE = ImageSize(40, 60)
SQUARE = (np.array([10.0, 10, 30, 10, 30, 30, 10, 30]),)


def drawn(crop: Crop, count: int = 400) -> list[Window]:
    rng = np.random.default_rng(0)
    return [draw_window(PICTURE, crop, rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        pytest.param(Crop("relative", (0.5, 0.25)), (20, 15), id="shares"),
        pytest.param(Crop("relative", (1, 1)), (40, 60), id="all of it"),
        pytest.param(Crop("relative", (0.51, 0.99)), (20, 59), id="rounded"),
        pytest.param(Crop("relative", (0.5125, 0.525)), (21, 32), id="halves up"),
        pytest.param(Crop("relative", (0.001, 0.001)), (1, 1), id="one pixel at least"),
        pytest.param(Crop("absolute", (30, 20)), (30, 20), id="pixels"),
        pytest.param(Crop("absolute", (100, 50)), (40, 50), id="more than there are"),
        pytest.param(Crop("absolute_range", (25, 25)), (25, 25), id="a range of one"),
        pytest.param(Crop("absolute_range", (50, 50)), (40, 50), id="a range above a side"),
    ],
)
def test_sizes(crop: Crop, expected: tuple[int, int]) -> None:
    assert draw_size(PICTURE, crop, np.random.default_rng(0)) == expected


def test_a_range_of_shares_is_drawn_for_each_side() -> None:
    """height from 20 to 40, width from 45 to 60: ends are half as likely as what is between."""
    sizes = [window.size for window in drawn(Crop("relative_range", (0.5, 0.75)))]
    assert {size.height for size in sizes} == set(range(20, 41))
    assert {size.width for size in sizes} == set(range(45, 61))
    assert abs(np.corrcoef(np.array(sizes).T)[0, 1]) < 0.15


def test_a_range_of_pixels_is_drawn_for_each_side() -> None:
    """Both from 30; up to 40, where the picture ends, and up to 45."""
    sizes = [window.size for window in drawn(Crop("absolute_range", (30, 45)))]
    assert {size.height for size in sizes} == set(range(30, 41))
    assert {size.width for size in sizes} == set(range(30, 46))


def test_every_place_is_drawn() -> None:
    windows = drawn(Crop("absolute", (38, 57)))
    assert {(window.top, window.left) for window in windows} == {(top, left) for top in range(3) for left in range(4)}


SHARES, PIXELS = st.floats(0.01, 1), st.integers(1, 80)


@st.composite
def crops(draw: st.DrawFn) -> Crop:
    kind = draw(st.sampled_from(KINDS))
    one, other = draw(st.tuples(SHARES, SHARES) if kind.startswith("relative") else st.tuples(PIXELS, PIXELS))
    return Crop(kind, (min(one, other), max(one, other)) if kind == "absolute_range" else (one, other))


@given(crops(), st.integers(1, 90), st.integers(1, 90), st.integers(0, 99))
def test_a_window_never_leaves_the_picture(crop: Crop, height: int, width: int, seed: int) -> None:
    top, left, size = draw_window(ImageSize(height, width), crop, np.random.default_rng(seed))
    assert 0 <= top < top + size.height <= height
    assert 0 <= left < left + size.width <= width
    assert draw_window(ImageSize(height, width), crop, np.random.default_rng(seed)) == (top, left, size)


def test_an_image_and_its_boxes_move_together() -> None:
    window = Window(5, 20, ImageSize(20, 30))
    image = crop_image(a_painting(PICTURE, [(25, 10, 35, 20)]), window)
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(crop_boxes(np.array([[25.0, 10, 35, 20], [0, 0, 60, 40]]), window)[0], (5, 5, 15, 15))
    assert (image[5:15, 5:15] == 220).all()


def test_a_square_is_cut_in_half() -> None:
    window = Window(0, 20, ImageSize(40, 40))
    outlines = crop_mask(SQUARE, window)
    assert bounds(outlines) == (0, 10, 10, 30)
    bitmap = crop_mask(rasterise(SQUARE, PICTURE), window)
    assert isinstance(bitmap, np.ndarray)
    assert (bitmap.shape, bounds(bitmap)) == ((40, 40), (0, 10, 10, 30))


def test_what_lies_outside_vanishes() -> None:
    window = Window(0, 30, ImageSize(40, 30))
    assert is_empty(crop_mask(SQUARE, window))
    assert is_empty(crop_mask(rasterise(SQUARE, PICTURE), window))
    box = clip(crop_boxes(np.array([[10.0, 10, 30, 30]]), window), window.size)
    assert (box[:, 2] - box[:, 0]).tolist() == [0]


def near_border(bitmap: np.ndarray, reach: int = 1) -> np.ndarray:
    """Pixels that have both sides of an object's border within `reach`."""
    whole = np.pad(bitmap, reach, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(whole, (2 * reach + 1, 2 * reach + 1))
    found: np.ndarray = around.any(axis=(2, 3)) & ~around.all(axis=(2, 3))
    return found


@given(
    st.lists(st.tuples(st.floats(-5, 65), st.floats(-5, 45)), min_size=3, max_size=3, unique=True),
    st.tuples(st.integers(0, 30), st.integers(0, 50), st.integers(1, 10), st.integers(1, 10)),
)
def test_cut_outlines_cover_what_a_cut_bitmap_covers(points: list[tuple[float, float]], place: tuple[int, ...]) -> None:
    """Up to the pixels on a border. Triangles do not cross themselves."""
    top, left, height, width = place
    window = Window(top, left, ImageSize(height, width))
    outlines = (np.array(points, dtype=np.float64).ravel(),)
    expected = crop_mask(rasterise(outlines, PICTURE), window)
    found = rasterise(crop_mask(outlines, window), window.size)  # type: ignore[arg-type]
    assert isinstance(expected, np.ndarray)
    border = crop_mask(near_border(rasterise(outlines, PICTURE)), window)
    assert not ((found != expected) & ~border).any()  # type: ignore[operator]
