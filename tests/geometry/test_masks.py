"""Masks against pycocotools, the reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as reference

from sightline.geometry.masks import decode, encode, encode_at, in_grid, rasterise
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
