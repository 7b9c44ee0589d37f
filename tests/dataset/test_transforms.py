"""Boxes and masks follow the pixels, mirrored twice is not mirrored, and every choice comes from a passed generator."""

import numpy as np
import pytest
from builders import a_painting
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.crops import Crop, draw_window
from sightline.dataset.transforms import (
    Augmentation,
    augment,
    draw_min_size,
    draw_size,
    flip_boxes,
    flip_mask,
    scale_boxes,
    scale_mask,
)
from sightline.geometry.boxes import clip
from sightline.geometry.masks import Mask, bounds, rasterise
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
    image, moved, _ = augment(a_painting(size, [box]), boxes(box), how(flip=flip), np.random.default_rng(seed_that(flips=True)))
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
    image, *_ = augment(
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
    _, moved, _ = augment(a_painting(ImageSize(60, 80), []), boxes((-3, 10, 90, 61)), how(), np.random.default_rng(0))
    np.testing.assert_array_equal(moved, boxes((0, 10, 80, 60)))


def test_the_longer_side_has_its_limit() -> None:
    image, moved, _ = augment(
        a_painting(ImageSize(30, 300), []), boxes((0, 0, 300, 30)), how(max_size=100), np.random.default_rng(0)
    )
    assert image.shape == (10, 100, 3)
    np.testing.assert_allclose(moved, boxes((0, 0, 100, 10)))


def test_a_picture_without_boxes() -> None:
    image, moved, _ = augment(a_painting(ImageSize(30, 40), []), boxes(), how(flip="horizontal"), np.random.default_rng(3))
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
    assert len({(image.shape, tuple(moved[0])) for image, moved, _ in outcomes}) > 4
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("sizes", "sampling", "expected"),
    [((30, 50, 70), "choice", {30, 50, 70}), ((30, 33), "range", {30, 31, 32, 33}), ((40,), "choice", {40})],
)
def test_sizes_drawn(sizes: tuple[int, ...], sampling: str, expected: set[int]) -> None:
    rng = np.random.default_rng(0)
    assert {draw_min_size(sizes, sampling, rng) for _ in range(200)} == expected


def test_without_a_crop_two_numbers_are_drawn() -> None:
    """A size, then whether to mirror: runs that began before there were crops and masks go on bit for bit."""
    rng, expected = np.random.default_rng(7), np.random.default_rng(7)
    masks = [(np.array([5.0, 5, 9, 5, 9, 9]),)]
    augment(a_painting(ImageSize(60, 90), []), boxes(), how(min_sizes=(30, 40), flip="horizontal"), rng, masks)
    expected.choice(np.asarray((30, 40)))
    expected.random()
    assert rng.bit_generator.state == expected.bit_generator.state


def rectangle(box: Box) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)


CROPS = [None, Crop("relative", (0.7, 0.8)), Crop("relative_range", (0.5, 0.5)), Crop("absolute_range", (40, 200))]


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize("quarters", range(4))
def test_a_box_and_its_masks_follow_the_pixels(flip: str, crop: Crop | None, quarters: int) -> None:
    """A rectangle is painted, outlined and filled; afterwards all three are where the bright pixels are."""
    box, size = (30.0, 40.0, 110.0, 90.0), ImageSize(120, 160)
    masks = [(rectangle(box),), rasterise((rectangle(box),), size)]
    image, moved, varied = augment(
        a_painting(size, [box]),
        boxes(box),
        how(flip=flip, crop=crop, scale_jitter=(0.7, 1.4)),
        np.random.default_rng(quarters),
        masks,
        quarters=quarters,
    )
    outlines, bitmap = varied
    assert isinstance(bitmap, np.ndarray)
    assert bitmap.shape == image.shape[:2]
    assert (image.shape[0] > image.shape[1]) == (quarters % 2 == 1) or crop is not None
    for found in (moved[0], bounds(outlines), bounds(bitmap)):
        np.testing.assert_allclose(found, bright_box(image), atol=1.01)
    np.testing.assert_allclose(bounds(outlines), moved[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_first_cropped_then_resized_then_mirrored(seed: int) -> None:
    """The window is drawn first, in the picture's own pixels; a box that reaches out of it ends at its edge."""
    size, crop = ImageSize(100, 120), Crop("absolute", (50, 40))
    rng = np.random.default_rng(seed)
    top, left, _ = draw_window(size, crop, rng)
    rng.choice(np.asarray((80,)))
    expected = (40, 20, 80, 60) if rng.random() < 0.5 else (0, 20, 40, 60)
    image, moved, _ = augment(
        a_painting(size, []),
        boxes((left - 5.0, top + 10.0, left + 20.0, top + 30.0)),
        how(min_sizes=(80,), crop=crop, flip="horizontal"),
        np.random.default_rng(seed),
    )
    assert image.shape == (100, 80, 3)
    np.testing.assert_allclose(moved, boxes(expected))


def test_outlines_may_reach_out_of_the_picture() -> None:
    """As in Detectron2; only a crop cuts them."""
    _, _, (outlines,) = augment(
        a_painting(ImageSize(60, 80), []), boxes(), how(), np.random.default_rng(0), [(rectangle((-3, 10, 90, 61)),)]
    )
    assert bounds(outlines) == (-3, 10, 90, 61)


def test_bitmaps_take_the_nearest_pixel() -> None:
    bitmap = np.array([[True, False], [False, False]])
    doubled = scale_mask(bitmap, ImageSize(2, 2), ImageSize(4, 4))
    assert np.asarray(doubled).tolist() == np.kron(bitmap, np.ones((2, 2), dtype=bool)).tolist()
    assert np.array_equal(scale_mask(doubled, ImageSize(4, 4), ImageSize(2, 2)), bitmap)
    across, down = (flip_mask(doubled, ImageSize(4, 4), direction) for direction in ("horizontal", "vertical"))
    assert (bounds(across), bounds(down)) == ((2, 0, 4, 2), (0, 2, 2, 4))
    assert across.flags["C_CONTIGUOUS"]  # type: ignore[union-attr]
    assert down.flags["C_CONTIGUOUS"]  # type: ignore[union-attr]


def a_round_thing(centre: tuple[float, float], radii: tuple[float, float], count: int) -> np.ndarray:
    """(2 * count,) corners on an ellipse."""
    angles = np.arange(count) * 2 * np.pi / count + 0.3
    return (np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii + centre).ravel()


def widened(bitmap: np.ndarray, reach: int) -> np.ndarray:
    """Every pixel that has one of the bitmap within `reach`, in a square."""
    side = 2 * reach + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(bitmap, reach, mode="edge"), (side, side))
    found: np.ndarray = windows.any(axis=(2, 3))
    return found


@given(
    st.tuples(st.floats(0, 60), st.floats(0, 50)),
    st.tuples(st.floats(8, 30), st.floats(8, 30)),
    st.integers(4, 12),
    st.integers(20, 120),
    st.integers(20, 120),
    st.sampled_from(["horizontal", "vertical"]),
)
def test_outlines_and_bitmaps_are_the_same_thing(
    centre: tuple[float, float], radii: tuple[float, float], count: int, height: int, width: int, direction: str
) -> None:
    """A transformed outline covers what the transformed bitmap covers, up to its border."""
    before, after = ImageSize(50, 60), ImageSize(height, width)
    outlines = (a_round_thing(centre, radii, count),)

    def moved(mask: Mask) -> Mask:
        return flip_mask(scale_mask(mask, before, after), after, direction)

    found, bitmap = rasterise(moved(outlines), after), moved(rasterise(outlines, before))  # type: ignore[arg-type]
    assert isinstance(bitmap, np.ndarray)
    reach = int(np.ceil(max(1, height / 50, width / 60))) + 1  # a pixel of the smaller picture, and one of rounding
    assert not (found & ~widened(bitmap, reach)).any()
    assert not (bitmap & ~widened(found, reach)).any()


@given(st.integers(0, 10_000), st.sampled_from(CROPS), st.sampled_from(["none", "horizontal", "vertical"]), st.integers(0, 3))
def test_boxes_and_cut_outlines_are_within_the_picture(seed: int, crop: Crop | None, flip: str, quarters: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.random((5, 2, 2)) * (100, 80)
    rows = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    masks = [(rectangle(tuple(row)),) for row in rows]
    image, moved, varied = augment(
        a_painting(ImageSize(80, 100), []), rows, how(crop=crop, flip=flip), rng, masks, quarters=quarters
    )
    assert len(varied) == 5
    for row in [*moved, *map(bounds, varied)]:
        x1, y1, x2, y2 = row
        assert -1e-9 <= x1 <= x2 <= image.shape[1] + 1e-9
        assert -1e-9 <= y1 <= y2 <= image.shape[0] + 1e-9


def test_masks_are_taken_one_by_one() -> None:
    """And stay as they are."""
    given_masks = [(rectangle((0, 0, 9, 9)),), np.ones((60, 60), dtype=bool)]
    before = given_masks[0][0].copy()
    crop = Crop("relative", (0.5, 0.5))
    augment(a_painting(ImageSize(60, 60), []), boxes(), how(flip="vertical", crop=crop), np.random.default_rng(2), given_masks)
    np.testing.assert_array_equal(given_masks[0][0], before)
    assert given_masks[1].all()
    _, _, varied = augment(a_painting(ImageSize(60, 60), []), boxes(), how(), np.random.default_rng(2), iter(given_masks))
    assert len(varied) == 2


WIDE = ImageSize(100, 200)


def sizes_drawn(jitter: tuple[float, float], picture: ImageSize = WIDE, **changes: object) -> np.ndarray:
    """(1000,) shorter sides."""
    options = how(**({"max_size": 10_000, "scale_jitter": jitter} | changes))
    return np.array([min(draw_size(picture, options, np.random.default_rng(seed))) for seed in range(1000)])


def test_size_jitter_halves_as_often_as_it_doubles() -> None:
    found = sizes_drawn((0.5, 2.0)) / 60
    assert 0.5 <= found.min() < 0.52
    assert 1.94 < found.max() <= 2.0
    assert abs((found < 1).mean() - 0.5) < 0.05
    np.testing.assert_allclose(np.quantile(np.log2(found), [0.25, 0.75]), [-0.5, 0.5], atol=0.1)


def test_size_jitter_is_upon_the_drawn_size() -> None:
    assert set(sizes_drawn((1.5, 1.5), min_sizes=(40, 60))) == {60, 90}


def test_size_jitter_never_exceeds_the_longest_side() -> None:
    """The picture is twice as wide as high."""
    assert sizes_drawn((0.5, 2.0), max_size=150).max() == 75


def test_size_jitter_of_pictures_that_keep_their_own_size() -> None:
    found = sizes_drawn((0.5, 2.0), min_sizes=(0,)) / 100
    assert 0.5 <= found.min() < 0.55
    assert 1.8 < found.max() <= 2.0
    assert min(sizes_drawn((0.001, 0.001), picture=ImageSize(9, 9), min_sizes=(0,))) == 1


def test_colour_leaves_boxes_masks_and_size_alone() -> None:
    """It is drawn last, so a picture is cut, resized and mirrored as it would be without."""
    picture, rows = a_painting(ImageSize(60, 90), [(5, 5, 30, 30)]), boxes((5, 5, 30, 30))
    for seed in range(5):
        plain, coloured = (
            augment(
                picture,
                rows,
                how(min_sizes=(30, 40, 50), flip="horizontal", crop=Crop("relative_range", (0.7, 0.7)), colour=colour),
                np.random.default_rng(seed),
                [(rectangle((5, 5, 30, 30)),)],
            )
            for colour in (0.0, 0.8)
        )
        assert coloured[0].shape == plain[0].shape
        assert (coloured[0] != plain[0]).mean() > 0.3
        np.testing.assert_array_equal(coloured[1], plain[1])
        np.testing.assert_array_equal(coloured[2][0], plain[2][0])


def test_a_turned_picture_is_cropped_and_mirrored_as_it_is_shown() -> None:
    """A window of 50 rows and 40 columns, whichever way the picture was held."""
    for quarters in range(4):
        image, *_ = augment(
            a_painting(ImageSize(100, 120), []),
            boxes(),
            how(min_sizes=(0,), crop=Crop("absolute", (50, 40))),
            np.random.default_rng(0),
            quarters=quarters,
        )
        assert image.shape == (50, 40, 3)
