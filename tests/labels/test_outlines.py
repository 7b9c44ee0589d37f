import math

import pytest

from sightline.labels.outlines import area, bounds, ellipse, is_bounds, joined, outlined

SQUARE = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0)
TRIANGLE = (20.0, 0.0, 26.0, 0.0, 26.0, 8.0)


def test_bounds_and_areas() -> None:
    assert bounds((SQUARE, TRIANGLE)) == (0.0, 0.0, 26.0, 10.0)
    assert area((SQUARE, TRIANGLE)) == 124.0
    assert area((SQUARE[::-1],)) == 100.0
    instance = outlined((SQUARE,), 3)
    assert (instance.box, instance.label, instance.area, instance.segmentation) == ((0, 0, 10, 10), 3, 100.0, (SQUARE,))


def test_parts_are_joined_by_lines_that_enclose_nothing() -> None:
    assert joined((SQUARE,)) == SQUARE
    one = joined((SQUARE, TRIANGLE, tuple(value + 30 for value in TRIANGLE)))
    assert one[:2] == one[-2:] == SQUARE[:2]
    assert area((one,)) == pytest.approx(148.0)


def test_ellipses() -> None:
    assert bounds((ellipse(10, 20, 4, 2),)) == pytest.approx((6, 18, 14, 22))
    assert bounds((ellipse(10, 20, 4, 2, math.pi / 2),)) == pytest.approx((8, 16, 12, 24))
    assert area((ellipse(0, 0, 4, 2),)) == pytest.approx(math.pi * 8, rel=0.002)


def test_a_box_is_the_bounds_or_not() -> None:
    assert is_bounds((0.0, 0.0, 10.0, 10.0000001), (SQUARE,))
    assert not is_bounds((0.0, 0.0, 10.0, 10.1), (SQUARE,))
