"""Masks against pycocotools, the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as reference

from sightline.geometry.masks import (
    bounds,
    cut,
    decode,
    encode,
    encode_at,
    from_label,
    in_grid,
    is_empty,
    moved,
    rasterise,
    union,
)
from sightline.records import ImageSize, Rle

BITMAPS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


def theirs(bitmap: np.ndarray) -> str:
    return reference.encode(np.asfortranarray(bitmap.astype(np.uint8)))["counts"].decode()


@given(BITMAPS)
def test_encodes_as_pycocotools(bitmap: np.ndarray) -> None:
    rle = encode(bitmap)
    assert rle.counts == theirs(bitmap)
    assert (decode(rle) == bitmap).all()


@given(BITMAPS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_crop_is_encoded_as_the_whole_picture(crop: np.ndarray, top: int, left: int, below: int, right: int) -> None:
    whole = np.pad(crop, ((top, below), (left, right)))
    assert encode_at(crop, top, left, ImageSize(*whole.shape)).counts == theirs(whole)


@given(BITMAPS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_moved_to_the_whole_picture(part: np.ndarray, top: int, left: int, below: int, right: int) -> None:
    whole = np.pad(part, ((top, below), (left, right)))
    assert moved(encode(part), top, left, ImageSize(*whole.shape)).counts == theirs(whole)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_union_of_masks(count: int) -> None:
    bitmaps = np.random.default_rng(count).random((count, 9, 7)) > 0.6
    joined = union([encode(bitmap) for bitmap in bitmaps])
    assert (joined.size, joined.counts) == ((9, 7), theirs(bitmaps.any(axis=0)))


def test_the_union_of_bare_counts() -> None:
    size = ImageSize(2, 3)
    assert decode(union([Rle(size, (1, 2, 3)), Rle(size, (5, 1))])).tolist() == [[False, True, False], [True, False, True]]


def test_bare_counts() -> None:
    assert decode(Rle(ImageSize(2, 3), (1, 2, 3))).tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize("seed", range(20))
def test_outlines_as_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = tuple(rng.random(2 * rng.integers(3, 9)) * 40 - 6 for _ in range(rng.integers(1, 4)))
    merged = reference.merge(reference.frPyObjects([part.tolist() for part in parts], 30, 28))
    assert (rasterise(parts, ImageSize(30, 28)) == reference.decode(merged).astype(bool)).all()


def test_outlines_of_too_few_points_cover_nothing() -> None:
    assert not rasterise((np.array([1.0, 2.0, 3.0, 4.0]),), ImageSize(5, 5)).any()
    assert not rasterise((), ImageSize(5, 5)).any()


def test_a_grid_over_the_left_half_of_an_object() -> None:
    square = (np.array([10.0, 10, 30, 10, 30, 30, 10, 30]),)
    assert in_grid(square, (0, 10, 20, 30), 4).tolist() == [[False, False, True, True]] * 4


def test_a_box_of_no_size_does_not_divide_by_zero() -> None:
    square = (np.array([0.0, 0, 8, 0, 8, 8, 0, 8]),)
    assert in_grid(square, (2, 2, 2, 2), 4).shape == (4, 4)


@pytest.mark.parametrize("counts", ["garbage", "0", "~~~~~", (5,), (100, 100)], ids=str)
def test_broken_run_lengths(counts: str | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RLE"):
        decode(Rle(ImageSize(2, 3), counts))


def outline(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


def corners(part: np.ndarray) -> set[tuple[float, ...]]:
    """A part's points, wherever it begins and whichever way round it goes."""
    return {tuple(point) for point in part.reshape(-1, 2).tolist()}


SQUARE = outline(10, 10, 30, 10, 30, 30, 10, 30)
U = outline(0, 0, 2, 0, 2, 8, 8, 8, 8, 0, 10, 0, 10, 10, 0, 10)


def test_a_label_becomes_a_mask() -> None:
    (part,) = from_label(((1, 2, 3, 4), (0, 0, 4, 0, 4, 4)))
    assert (part.dtype, part.tolist()) == (np.float64, [0, 0, 4, 0, 4, 4])
    bitmap = from_label(Rle(ImageSize(2, 3), (1, 2, 3)))
    assert isinstance(bitmap, np.ndarray)
    assert bitmap.sum() == 2
    assert from_label(((1, 2, 3, 4),)) == from_label(None) == ()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param((), (0, 0, 0, 0), id="no part"),
        pytest.param(np.zeros((4, 4), dtype=bool), (0, 0, 0, 0), id="no pixel"),
        pytest.param((SQUARE, outline(5, 40, 6, 40, 6, 41)), (5, 10, 30, 41), id="two parts"),
        pytest.param(np.pad(np.ones((2, 3), dtype=bool), ((4, 1), (5, 2))), (5, 4, 8, 6), id="pixels"),
    ],
)
def test_bounds(mask: np.ndarray, expected: tuple[float, ...]) -> None:
    assert bounds(mask) == expected
    assert is_empty(mask) == (expected == (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("part", "box", "expected"),
    [
        pytest.param(SQUARE, (20, 0, 50, 50), [{(20, 10), (30, 10), (30, 30), (20, 30)}], id="cut in half"),
        pytest.param(SQUARE, (12.5, 0, 29, 11), [{(12.5, 10), (29, 10), (29, 11), (12.5, 11)}], id="between pixels"),
        pytest.param(SQUARE, (0, 0, 50, 50), [corners(SQUARE)], id="wholly inside"),
        pytest.param(SQUARE, (12, 12, 20, 20), [{(12, 12), (20, 12), (20, 20), (12, 20)}], id="around the box"),
        pytest.param(SQUARE, (31, 0, 50, 50), [], id="outside"),
        pytest.param(SQUARE, (30, 0, 50, 50), [], id="an edge that touches"),
        pytest.param(SQUARE, (30, 30, 50, 50), [], id="a corner that touches"),
        pytest.param(
            U, (0, 0, 10, 5), [{(0, 0), (2, 0), (2, 5), (0, 5)}, {(8, 0), (10, 0), (10, 5), (8, 5)}], id="the arms of a U"
        ),
        pytest.param(outline(0, 0, 5, 5, 9, 9), (0, 0, 9, 9), [], id="a line"),
    ],
)
def test_cutting(part: np.ndarray, box: tuple[float, ...], expected: list[set[tuple[float, ...]]]) -> None:
    found = [corners(piece) for piece in cut((part,), box)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_a_cut_closes_no_part_twice() -> None:
    (piece,) = cut((SQUARE,), (20, 0, 50, 50))
    assert piece.shape == (8,)


def test_parts_are_cut_one_by_one() -> None:
    left, right = cut((SQUARE, SQUARE + 10, SQUARE + 100), (0, 0, 35, 35))
    assert corners(left) == corners(SQUARE)
    assert bounds((right,)) == (20, 20, 35, 35)


def test_an_outline_that_crosses_itself_is_cut() -> None:
    """A bow tie: at least one of its loops is left, all of it within the box."""
    pieces = cut((outline(0, 0, 10, 10, 10, 0, 0, 10),), (0, 0, 10, 6))
    assert pieces
    x1, y1, x2, y2 = bounds(pieces)
    assert 0 <= x1 < x2 <= 10
    assert 0 <= y1 < y2 <= 6


def test_nothing_is_cut_from_nothing() -> None:
    assert cut((), (0, 0, 10, 10)) == ()
