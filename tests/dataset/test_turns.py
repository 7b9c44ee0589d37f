"""A quarter turn moves a corner where everybody sees it go, and four of them change nothing."""

import numpy as np
import pytest
from builders import a_painting
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.turns import draw_quarters, exchanges_sides, turn_boxes, turn_image, turn_mask
from sightline.geometry.masks import bounds, rasterise
from sightline.records import Box, ImageSize

WIDE = ImageSize(20, 40)


@pytest.mark.parametrize(
    ("quarters", "corner", "expected"),
    [
        pytest.param(0, (0, 0), (2, 3, 10, 7), id="as it is"),
        pytest.param(1, (0, 19), (13, 2, 17, 10), id="clockwise: what was on top is on the right"),
        pytest.param(2, (19, 39), (30, 13, 38, 17), id="upside down"),
        pytest.param(3, (39, 0), (3, 30, 7, 38), id="anticlockwise: what was on top is on the left"),
    ],
)
def test_known_turns(quarters: int, corner: tuple[int, int], expected: Box) -> None:
    """The top left pixel goes to `corner` (row, column), a box near it to `expected`."""
    image = np.zeros((*WIDE, 3), dtype=np.uint8)
    image[0, 0] = 255
    turned = turn_image(image, quarters)
    assert turned.shape[:2] == (WIDE if not exchanges_sides(quarters) else (40, 20))
    assert tuple(int(place[0]) for place in np.nonzero(turned[:, :, 0])) == corner
    box = np.array([[2.0, 3, 10, 7]])
    np.testing.assert_array_equal(turn_boxes(box, WIDE, quarters), [expected])
    outlines = (np.array([2.0, 3, 10, 3, 10, 7, 2, 7]),)
    assert bounds(turn_mask(outlines, WIDE, quarters)) == expected
    bitmap = turn_mask(rasterise(outlines, WIDE), WIDE, quarters)
    assert bounds(bitmap) == expected
    assert isinstance(bitmap, np.ndarray)
    assert bitmap.flags["C_CONTIGUOUS"]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 3), st.integers(0, 9))
def test_four_quarters_are_none(height: int, width: int, quarters: int, seed: int) -> None:
    """And a turn forth and back gives the same bits."""
    rng = np.random.default_rng(seed)
    size = ImageSize(height, width)
    turned = ImageSize(width, height) if exchanges_sides(quarters) else size
    back = (4 - quarters) % 4
    image = a_painting(size, [], seed)
    np.testing.assert_array_equal(turn_image(turn_image(image, quarters), back), image)
    corners = rng.integers(0, 30, (3, 2, 2)).astype(np.float64)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    np.testing.assert_array_equal(turn_boxes(turn_boxes(boxes, size, quarters), turned, back), boxes)
    bitmap = rng.random(size) < 0.5
    np.testing.assert_array_equal(turn_mask(turn_mask(bitmap, size, quarters), turned, back), bitmap)


def test_all_turns_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_quarters(rng) for _ in range(4000)])
    assert len(counts) == 4
    assert counts.min() > 900
