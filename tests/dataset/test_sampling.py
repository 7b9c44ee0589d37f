"""Which pictures come when: every position is known beforehand."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.dataset.sampling import Draw, batches, stream
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
