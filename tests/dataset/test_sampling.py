"""Which pictures come when: every position is known beforehand."""

import math
from itertools import islice, pairwise

import numpy as np
import pytest
from builders import a_record, an_instance
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.sampling import Draw, batches, epoch_order, repeat_factors, stream
from sightline.records import ImageSize

WIDE, TALL, SQUARE = ImageSize(48, 64), ImageSize(64, 48), ImageSize(50, 50)


@given(st.integers(1, 30), st.integers(0, 1000))
def test_every_epoch_shows_every_picture_once(count: int, seed: int) -> None:
    draws = list(islice(stream(count, seed), 3 * count))
    assert [draw.position for draw in draws] == list(range(3 * count))
    for epoch in range(3):
        assert sorted(draw.index for draw in draws[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_their_own_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [draw.index for draw in islice(stream(20, seed), 20 * epoch, 20 * epoch + 20)]

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@given(
    sizes=st.lists(st.sampled_from([WIDE, TALL, SQUARE]), min_size=1, max_size=12),
    batch_size=st.integers(1, 5),
    by_shape=st.booleans(),
    start=st.integers(0, 12),
)
def test_batches_from_a_step_are_the_rest_of_all_batches(
    sizes: list[ImageSize], batch_size: int, by_shape: bool, start: int
) -> None:
    def some(first: int, count: int) -> list[list[Draw]]:
        return list(islice(batches(sizes, batch_size, 7, by_shape=by_shape, start=first), count))

    assert some(start, 4) == some(0, start + 4)[start:]


@given(sizes=st.lists(st.sampled_from([WIDE, TALL, SQUARE]), min_size=1, max_size=12), batch_size=st.integers(1, 5))
def test_wide_and_tall_never_share_a_batch(sizes: list[ImageSize], batch_size: int) -> None:
    for batch in islice(batches(sizes, batch_size, 3, by_shape=True), 20):
        assert len(batch) == batch_size
        assert len({sizes[draw.index].width > sizes[draw.index].height for draw in batch}) == 1


def test_without_grouping_they_do_and_the_order_is_the_streams() -> None:
    sizes = [WIDE, TALL] * 5
    found = list(islice(batches(sizes, 3, 3, by_shape=False), 6))
    assert [draw for batch in found for draw in batch] == list(islice(stream(10, 3), 18))
    assert any(len({sizes[draw.index] for draw in batch}) == 2 for batch in found)


@pytest.mark.parametrize("by_shape", [True, False])
def test_grouping_loses_no_picture(by_shape: bool) -> None:
    sizes = [WIDE] * 7 + [TALL] * 3
    shown = [draw.index for batch in islice(batches(sizes, 2, 0, by_shape=by_shape), 100) for draw in batch]
    counts = [shown.count(index) for index in range(10)]
    assert min(counts) >= 19  # 200 places for 10 pictures
    assert max(counts) <= 21


def test_a_batch_larger_than_the_data_set_repeats_pictures() -> None:
    (batch,) = islice(batches([WIDE, WIDE], 5, 0, by_shape=True), 1)
    assert {draw.index for draw in batch} == {0, 1}
    assert [draw.position for draw in batch] == list(range(5))


def test_the_stream_is_as_it_always_was() -> None:
    """Runs that began before pictures could be repeated go on bit for bit."""
    expected = [index for epoch in range(3) for index in np.random.default_rng([5, epoch]).permutation(7).tolist()]
    assert [draw.index for draw in islice(stream(7, 5), 21)] == expected


COMMON, SOME, RARE = 0, 1, 2
PICTURES = [a_record(number, labels=labels) for number, labels in enumerate([
    (COMMON,), (COMMON, COMMON), (COMMON, SOME), (COMMON,), (SOME,), (COMMON,), (RARE, COMMON), (), (COMMON, SOME), (SOME,),
])]  # fmt: skip
"""Seven of ten hold COMMON, four SOME, one RARE; one is empty."""


@pytest.mark.parametrize(
    ("threshold", "sqrt", "some", "rare"),
    [
        pytest.param(0.0, True, 1.0, 1.0, id="none is rare"),
        pytest.param(0.1, True, 1.0, 1.0, id="none is rarer than the threshold"),
        pytest.param(0.4, True, 1.0, 2.0, id="a quarter of the threshold, the square root of 4"),
        pytest.param(0.4, False, 1.0, 4.0, id="the ratio itself"),
        pytest.param(0.6, True, math.sqrt(1.5), math.sqrt(6), id="two classes"),
        pytest.param(0.6, False, 1.5, 6.0, id="two ratios"),
    ],
)
def test_factors_calculated_by_hand(threshold: float, sqrt: bool, some: float, rare: float) -> None:
    found = repeat_factors(PICTURES, threshold, sqrt=sqrt)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 1, some, 1, some, 1, rare, 1, some, some], rtol=1e-6)


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=20), st.floats(0, 1), st.booleans())
def test_factors_by_the_formula(labels: list[list[int]], threshold: float, sqrt: bool) -> None:
    """f(c): share of pictures with c; r(c) = max(1, sqrt(t / f(c))); r(I) = max of r(c) over c in I (LVIS, appendix B.2)."""
    images = [a_record(number, labels=classes) for number, classes in enumerate(labels)]
    for found, classes in zip(repeat_factors(images, threshold, sqrt=sqrt), labels, strict=True):
        shares = [sum(c in other for other in labels) / len(labels) for c in classes]
        expected = [max(1.0, (threshold / share) ** (0.5 if sqrt else 1)) for share in shares]
        np.testing.assert_allclose(found, max(expected, default=1.0), rtol=1e-6)


def test_crowds_count() -> None:
    """As in Detectron2, which counts every annotation of a picture."""
    images = [a_record(1), a_record(2), a_record(3), a_record(4, instances=(an_instance(1, crowd=True),))]
    assert repeat_factors(images, 1.0, sqrt=True)[3] == 2


def test_a_factor_that_is_whole_but_for_rounding() -> None:
    """0.3 / 0.1 is 2.9999999999999996; in float32 it is 3, and no epoch shows the picture twice only."""
    images = [a_record(number, labels=(number == 0,)) for number in range(10)]
    assert repeat_factors(images, 0.3, sqrt=False)[0] == 3


def test_factors_of_one_change_how_often_nothing_comes() -> None:
    draws = list(islice(stream(9, 1, np.ones(9, dtype=np.float32)), 27))
    for epoch in range(3):
        assert sorted(draw.index for draw in draws[9 * epoch : 9 * epoch + 9]) == list(range(9))


def test_fractions_are_rounded_at_random_so_that_the_mean_is_right() -> None:
    factors = np.array([1.0, 1.25, 2.0, 2.9, 3.5], dtype=np.float32)
    counts = np.array(
        [np.bincount(epoch_order(5, np.random.default_rng([0, epoch]), factors), minlength=5) for epoch in range(4000)]
    )
    assert (counts >= np.floor(factors)).all()
    assert (counts <= np.ceil(factors)).all()
    np.testing.assert_allclose(counts.mean(axis=0), factors, atol=4 * 0.5 / np.sqrt(4000))  # four standard errors at most


def test_repeated_pictures_are_not_in_a_row() -> None:
    order = epoch_order(50, np.random.default_rng(0), np.full(50, 3, dtype=np.float32))
    assert sorted(order) == sorted([*range(50)] * 3)
    assert sum(one == other for one, other in pairwise(order)) < 15


@given(st.integers(0, 12), st.booleans())
def test_a_repeating_stream_resumes_too(start: int, by_shape: bool) -> None:
    factors = np.array([1.5, 2.2, 1, 1], dtype=np.float32)
    sizes = [WIDE, TALL, SQUARE, WIDE]

    def some(first: int, count: int) -> list[list[Draw]]:
        return list(islice(batches(sizes, 3, 7, by_shape=by_shape, start=first, factors=factors), count))

    assert some(start, 4) == some(0, start + 4)[start:]


def test_a_picture_that_lies_on_its_side_is_grouped_as_it_is_shown() -> None:
    sizes = [WIDE, TALL, SQUARE, WIDE, TALL]

    def lies(draw: Draw) -> bool:
        return draw.position % 3 == 0

    for batch in islice(batches(sizes, 4, 3, by_shape=True, lies=lies), 30):
        shown = [sizes[draw.index][::-1] if lies(draw) else sizes[draw.index] for draw in batch]
        assert len({width > height for height, width in shown}) == 1
