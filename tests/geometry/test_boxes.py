import io
import re

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from sightline.geometry.boxes import TURNS, area, clip, fault, pairwise_iou, turn, turn_points
from sightline.records import Box, ImageSize


def box(x1: float = 0, y1: float = 0, x2: float = 10, y2: float = 10) -> np.ndarray:
    return np.array([[x1, y1, x2, y2]], dtype=np.float64)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param(box(), 1.0, id="same"),
        pytest.param(box(x1=5, x2=15), 1 / 3, id="half shifted"),
        pytest.param(box(x1=10, x2=20), 0.0, id="touching edges do not overlap"),
        pytest.param(box(x2=0), 0.0, id="empty"),
    ],
)
def test_pairwise_iou(other: np.ndarray, expected: float) -> None:
    np.testing.assert_allclose(pairwise_iou(box(), other), [[expected]])


def test_the_iou_of_no_boxes_has_their_shape() -> None:
    assert pairwise_iou(np.zeros((0, 4)), box()).shape == (0, 1)


def test_area_of_an_inverted_box_is_zero() -> None:
    np.testing.assert_array_equal(area(np.array([[0, 0, 4, 5], [4, 5, 0, 0], [4, 0, 0, 5]], dtype=float)), [20, 0, 0])


def test_clip_keeps_what_is_inside() -> None:
    boxes = np.array([[-5, -5, 50, 500], [200, 10, 300, 20]], dtype=float)
    np.testing.assert_array_equal(clip(boxes, ImageSize(80, 100)), [[0, 0, 50, 80], [100, 10, 100, 20]])


@pytest.mark.parametrize("orientation", sorted(TURNS))
def test_turn_follows_pillows_pixels(orientation: int) -> None:
    stored = ImageSize(30, 50)
    pixels = np.zeros(stored, dtype=np.uint8)
    pixels[4:9, 20:41] = 255  # the box (20, 4, 41, 9)
    file = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(pixels).save(file, "PNG", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Pillow.open(file)))
    rows, columns = np.nonzero(shown)
    expected = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    np.testing.assert_array_equal(turn(box(20, 4, 41, 9), stored, orientation), expected)


@pytest.mark.parametrize(("orientation", "back"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)])
def test_turning_back_gives_the_points_again(orientation: int, back: int) -> None:
    points = np.array([[1.5, 2.0], [40.0, 29.0]])
    size = ImageSize(30, 50)
    shown = ImageSize(50, 30) if orientation >= 5 else size
    np.testing.assert_array_equal(turn_points(turn_points(points, size, orientation), shown, back), points)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((0, 0, 100, 80), None, id="whole picture"),
        pytest.param((-0.5, 0, 100.6, 80), None, id="rounded"),
        pytest.param((-1.5, 0, 100, 80), r"outside its picture \(left -1.5, .*; the picture is 100 x 80 px", id="left"),
        pytest.param((0, 0, 100, 82), "outside its picture", id="below"),
        pytest.param((100, 0, 100.5, 80), "outside its picture", id="nothing inside"),
        pytest.param((5, 5, 5, 9), "an empty box", id="no width"),
        pytest.param((5, 9, 9, 5), "a box of negative size", id="negative height"),
        pytest.param((float("nan"), 0, 5, 5), "not finite", id="nan"),
        pytest.param((0, 0, float("inf"), 5), "not finite", id="infinite"),
    ],
)
def test_fault(given: Box, expected: str | None) -> None:
    found = fault(given, ImageSize(80, 100))
    if expected is None:
        assert found is None
    else:
        assert re.search(expected, found or "")
