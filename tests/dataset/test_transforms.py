"""Boxes follow the pixels, mirrored twice is not mirrored, and every choice comes from the generator that is passed in."""

import numpy as np
import pytest
from builders import a_painting
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.transforms import (
    Augmentation,
    augment,
    draw_min_size,
    flip_boxes,
    scale_boxes,
)
from sightline.geometry.boxes import clip
from sightline.records import Box, Image, ImageSize


def how(**changes: object) -> Augmentation:
    defaults = {"min_sizes": (60,), "max_size": 1000, "sampling": "choice", "flip": "none"}
    return Augmentation(**(defaults | changes))  # type: ignore[arg-type]


def boxes(*rows: Box) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def bright_box(image: Image) -> Box:
    """Where the bright pixels are."""
    ys, xs = np.nonzero(image[:, :, 0] > 150)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def seed_that(flips: bool) -> int:
    """A seed whose first draw after the size decides so."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rng.choice(np.asarray((60,)))
        if (rng.random() < 0.5) == flips:
            return seed
    raise LookupError


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
@pytest.mark.parametrize("size", [ImageSize(120, 160), ImageSize(45, 30), ImageSize(60, 60)], ids=str)
def test_boxes_follow_the_pixels(flip: str, size: ImageSize) -> None:
    """A box is painted, the picture transformed, and the painted pixels measured again."""
    box = (size.width * 0.2, size.height * 0.4, size.width * 0.5, size.height * 0.9)
    box = tuple(float(round(value)) for value in box)  # type: ignore[assignment]
    image, moved = augment(a_painting(size, [box]), boxes(box), how(flip=flip), np.random.default_rng(seed_that(flips=True)))
    assert min(image.shape[:2]) == 60
    np.testing.assert_allclose(moved[0], bright_box(image), atol=1.01)
    centre_x, centre_y = (box[0] + box[2]) / 2 / size.width, (box[1] + box[3]) / 2 / size.height
    expected = {"none": (centre_x, centre_y), "horizontal": (1 - centre_x, centre_y), "vertical": (centre_x, 1 - centre_y)}[
        flip
    ]
    found = (moved[0, 0] + moved[0, 2]) / 2 / image.shape[1], (moved[0, 1] + moved[0, 3]) / 2 / image.shape[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("flips", [True, False])
def test_a_flip_is_at_even_odds(flips: bool) -> None:
    size = ImageSize(60, 60)
    image, _ = augment(
        a_painting(size, [(0, 0, 20, 60)]), boxes(), how(flip="horizontal"), np.random.default_rng(seed_that(flips))
    )
    assert bright_box(image)[0] == (40 if flips else 0)


WITHIN = st.tuples(*[st.floats(0, 100)] * 4)


@given(st.lists(WITHIN, max_size=5), st.sampled_from(["horizontal", "vertical"]))
def test_mirrored_twice_is_as_before(rows: list[Box], direction: str) -> None:
    size = ImageSize(100, 100)
    there = flip_boxes(boxes(*rows), size, direction)
    np.testing.assert_allclose(flip_boxes(there, size, direction), boxes(*rows), atol=1e-9)


@given(st.lists(WITHIN, max_size=5), st.integers(1, 300), st.integers(1, 300))
def test_scaled_there_and_back_is_as_before(rows: list[Box], height: int, width: int) -> None:
    one, other = ImageSize(100, 100), ImageSize(height, width)
    np.testing.assert_allclose(scale_boxes(scale_boxes(boxes(*rows), one, other), other, one), boxes(*rows), atol=1e-9)


def test_scaling_across_and_down() -> None:
    scaled = scale_boxes(boxes((10, 10, 20, 30)), ImageSize(100, 100), ImageSize(50, 200))
    np.testing.assert_allclose(scaled, boxes((20, 5, 40, 15)))


def test_clipping() -> None:
    np.testing.assert_array_equal(clip(boxes((-5, -5, 500, 20)), ImageSize(50, 100)), boxes((0, 0, 100, 20)))


def test_augmented_boxes_end_at_the_picture() -> None:
    _, moved = augment(a_painting(ImageSize(60, 80), []), boxes((-3, 10, 90, 61)), how(), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, boxes((0, 10, 80, 60)))


def test_the_longer_side_has_its_limit() -> None:
    image, moved = augment(
        a_painting(ImageSize(30, 300), []), boxes((0, 0, 300, 30)), how(max_size=100), np.random.default_rng(0)
    )
    assert image.shape == (10, 100, 3)
    np.testing.assert_allclose(moved, boxes((0, 0, 100, 10)))


def test_a_picture_without_boxes() -> None:
    image, moved = augment(a_painting(ImageSize(30, 40), []), boxes(), how(flip="horizontal"), np.random.default_rng(3))
    assert (image.shape, moved.shape) == ((60, 80, 3), (0, 4))


def test_the_arguments_stay_as_they_are() -> None:
    image, given_boxes = a_painting(ImageSize(60, 60), [(0, 0, 9, 9)]), boxes((0, 0, 9, 9))
    before = image.copy(), given_boxes.copy()
    augment(image, given_boxes, how(flip="vertical"), np.random.default_rng(seed_that(flips=True)))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(given_boxes, before[1])


def test_a_generator_decides_everything() -> None:
    """And nothing else: numpy's global generator is not touched."""
    many = how(min_sizes=(30, 40, 50, 60), flip="horizontal")
    picture = a_painting(ImageSize(60, 90), [(5, 5, 30, 30)])
    state = np.random.get_state()[1].copy()
    outcomes = [augment(picture, boxes((5, 5, 30, 30)), many, np.random.default_rng(seed)) for seed in [*range(12), 0]]
    np.testing.assert_array_equal(outcomes[0][0], outcomes[-1][0])
    np.testing.assert_array_equal(outcomes[0][1], outcomes[-1][1])
    assert len({(image.shape, tuple(moved[0])) for image, moved in outcomes}) > 4
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("sizes", "sampling", "expected"),
    [((30, 50, 70), "choice", {30, 50, 70}), ((30, 33), "range", {30, 31, 32, 33}), ((40,), "choice", {40})],
)
def test_sizes_drawn(sizes: tuple[int, ...], sampling: str, expected: set[int]) -> None:
    rng = np.random.default_rng(0)
    assert {draw_min_size(sizes, sampling, rng) for _ in range(200)} == expected
