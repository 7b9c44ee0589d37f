"""Four pictures fill one, and what is labelled in them lies where its pixels lie."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.crops import Window
from sightline.dataset.mosaic import LEAST_SHARE, PIECES, draw_part, draw_quadrants, mosaic, visible
from sightline.dataset.pieces import Piece
from sightline.geometry.masks import Mask, bounds, rasterise
from sightline.records import Box, ImageSize

CANVAS = ImageSize(200, 300)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
PICTURE = ImageSize(60, 80)
WHOLE = (0.0, 0.0, 80.0, 60.0)


def a_piece(number: int, *boxes: Box, size: ImageSize = PICTURE, filled: bool = False) -> Piece:
    """A picture of one colour; each box is painted white, labelled with the picture's number, and outlined or filled."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[:] = COLOURS[number]
    outlines = []
    for x1, y1, x2, y2 in boxes:
        image[int(y1) : int(y2), int(x1) : int(x2)] = 255
        outlines.append((np.array([x1, y1, x2, y1, x2, y2, x1, y2]),))
    masks: Iterator[Mask] = (rasterise(part, size) if filled else part for part in outlines)
    rows = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Piece(f"{number}.png", image, rows, np.full(len(boxes), number, dtype=np.int64), masks)


def made(*pieces: Piece, canvas: ImageSize = CANVAS, seed: int = 0) -> Piece:
    return mosaic(iter(pieces), canvas, np.random.default_rng(seed))


def quadrants(seed: int = 0, canvas: ImageSize = CANVAS) -> tuple[Window, ...]:
    return draw_quadrants(canvas, np.random.default_rng(seed))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 99))
def test_quadrants_cover_the_canvas_once(height: int, width: int, seed: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for top, left, size in quadrants(seed, ImageSize(height, width)):
        covered[top : top + size.height, left : left + size.width] += 1
    assert (covered == 1).all()


def test_the_centre_is_anywhere_in_the_middle() -> None:
    centres = np.array([quadrants(seed)[0].size for seed in range(300)]) / CANVAS
    assert centres.min() >= 0.295
    assert centres.max() <= 0.705
    assert centres.std(axis=0).min() > 0.08


@given(st.tuples(*[st.integers(1, 200)] * 4), st.integers(0, 9))
def test_a_part_has_the_shape_of_its_place(sides: tuple[int, int, int, int], seed: int) -> None:
    """One side is the picture's, the other is what the place's shape makes of it, to half a pixel; it lies in the picture."""
    picture, place = ImageSize(*sides[:2]), ImageSize(*sides[2:])
    top, left, size = draw_part(picture, place, np.random.default_rng(seed))
    assert 0 <= top <= top + size.height <= picture.height
    assert 0 <= left <= left + size.width <= picture.width
    if size.height == picture.height:
        assert abs(size.width - max(picture.height * place.width / place.height, 1)) <= 0.5
    else:
        assert size.width == picture.width
        assert abs(size.height - max(picture.width * place.height / place.width, 1)) <= 0.5


@pytest.mark.parametrize("seed", range(5))
def test_every_picture_is_in_its_quadrant(seed: int) -> None:
    found = made(*(a_piece(number) for number in range(PIECES)), seed=seed)
    assert found.size == CANVAS
    assert found.file_name == "0.png + 1.png + 2.png + 3.png"
    assert (found.boxes.shape, found.labels.shape, list(found.masks)) == ((0, 4), (0,), [])
    for (top, left, size), colour in zip(quadrants(seed), COLOURS, strict=True):
        assert (found.image[top : top + size.height, left : left + size.width] == colour).all()


@pytest.mark.parametrize("filled", [False, True], ids=["outlines", "bitmaps"])
@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_masks_lie_where_the_pixels_do(seed: int, filled: bool) -> None:
    """In the middle of each picture a white rectangle, large enough to survive any cut."""
    found = made(*(a_piece(number, (24.0, 15, 56, 45), filled=filled) for number in range(PIECES)), seed=seed)
    masks = list(found.masks)
    assert sorted(found.labels.tolist()) == [0, 1, 2, 3]
    assert len(masks) == 4
    for box, label, mask in zip(found.boxes, found.labels.tolist(), masks, strict=True):
        top, left, size = quadrants(seed)[label]
        inside = found.image[top : top + size.height, left : left + size.width].min(axis=2) > 127
        ys, xs = np.nonzero(inside)
        painted = (left + xs.min(), top + ys.min(), left + xs.max() + 1, top + ys.max() + 1)
        np.testing.assert_allclose(box, painted, atol=2.01)
        np.testing.assert_allclose(bounds(mask), box, atol=2.6 if filled else 1e-6)
        if filled:
            assert isinstance(mask, np.ndarray)
            assert mask.shape == CANVAS
            drawn = np.zeros(CANVAS, dtype=bool)
            drawn[top : top + size.height, left : left + size.width] = inside
            assert (mask != drawn).sum() < 0.15 * drawn.sum()


def test_a_box_of_the_whole_picture_becomes_its_quadrant() -> None:
    found = made(*(a_piece(number, WHOLE) for number in range(PIECES)), seed=4)
    for box, (top, left, size) in zip(found.boxes, quadrants(4), strict=True):
        np.testing.assert_allclose(box, (left, top, left + size.width, top + size.height))


def test_what_is_hardly_visible_is_dropped_with_its_mask() -> None:
    """A tall part of a wide picture: of objects at both ends at most one is seen."""
    ends = ((0.0, 0.0, 10.0, 60.0), (70.0, 0.0, 80.0, 60.0))
    tall = ImageSize(300, 60)
    counts = set()
    for seed in range(30):
        found = made(*(a_piece(number, *ends) for number in range(PIECES)), canvas=tall, seed=seed)
        assert len(list(found.masks)) == len(found.boxes) == len(found.labels)
        assert np.bincount(found.labels, minlength=4).max() <= 1
        counts.add(len(found.boxes))
    assert len(counts) > 1


def test_a_tenth_is_enough() -> None:
    part = Window(0, 10, ImageSize(10, 20))
    rows = np.array([[1.0, 0, 11, 10], [1, 0, 10.9, 10], [0, 0, 5, 5], [12, 2, 14, 4], [0, -5, 40, 15]])
    assert LEAST_SHARE == 0.1
    assert visible(rows, part).tolist() == [True, False, False, True, True]


def test_pictures_of_any_sizes_and_a_canvas_of_one_row() -> None:
    sizes = [ImageSize(1, 1), ImageSize(1, 300), ImageSize(90, 2), ImageSize(40, 40)]
    for canvas in (ImageSize(1, 50), ImageSize(50, 1), ImageSize(1, 1), ImageSize(77, 33)):
        found = made(*(a_piece(number, size=size) for number, size in enumerate(sizes)), canvas=canvas)
        assert found.size == canvas


def test_masks_that_are_not_wanted() -> None:
    pieces = [a_piece(number, WHOLE) for number in range(PIECES)]
    bare = [Piece(p.file_name, p.image, p.boxes, p.labels, iter(())) for p in pieces]
    found = made(*bare)
    assert (len(found.boxes), list(found.masks)) == (4, [])


def test_pictures_are_read_one_after_the_other() -> None:
    """No more than one is held beside the mosaic, and masks are made only when they are taken."""
    events = []

    def masks(number: int) -> Iterator[Mask]:
        events.append(f"mask {number}")
        yield (np.array([0.0, 0, 80, 0, 80, 60]),)

    def pieces() -> Iterator[Piece]:
        for number in range(PIECES):
            events.append(f"read {number}")
            piece = a_piece(number, WHOLE)
            yield Piece(piece.file_name, piece.image, piece.boxes, piece.labels, masks(number))

    found = mosaic(pieces(), CANVAS, np.random.default_rng(0))
    assert events == ["read 0", "read 1", "read 2", "read 3"]
    assert len(list(found.masks)) == 4
    assert events[4:] == ["mask 0", "mask 1", "mask 2", "mask 3"]
