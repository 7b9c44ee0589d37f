"""Percentiles that the samples can carry, with intervals; and when times have settled."""

import numpy as np
import pytest

from sightline.benchmarking.spread import seconds, settled, spread


@pytest.mark.parametrize(
    ("count", "told"),
    [
        pytest.param(1, set(), id="one sample is no median"),
        pytest.param(5, {"p50"}, id="a median from 5 on"),
        pytest.param(19, {"p50"}, id="19 carry no p95"),
        pytest.param(20, {"p50", "p95"}, id="20 do"),
        pytest.param(99, {"p50", "p95"}, id="99 carry no p99"),
        pytest.param(100, {"p50", "p95", "p99"}, id="100 do"),
    ],
)
def test_no_percentile_without_its_samples(count: int, told: set[str]) -> None:
    one = spread(np.linspace(1, 2, count).tolist())
    assert {name for name in ("p50", "p95", "p99") if getattr(one, name) is not None} == told
    assert one.count == count
    assert (one.p95_from is None) == ("p95" not in told)


def test_the_numbers_of_known_times() -> None:
    one = spread([float(number) for number in range(1, 102)])  # 1 ... 101
    assert (one.mean, one.least, one.most, one.p50, one.p95, one.p99) == (51, 1, 101, 51, 96, 100)
    assert one.p50_from is not None and one.p50_to is not None
    assert 35 < one.p50_from < 51 < one.p50_to < 67


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 200 sets of 60 exponential times, about 95 % of the intervals have the true median ln 2 in them."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        one = spread(rng.exponential(1.0, 60).tolist())
        assert one.p50_from is not None and one.p50_to is not None
        inside += one.p50_from <= np.log(2) <= one.p50_to
    assert 180 <= inside <= 199


def test_the_same_times_give_the_same_intervals() -> None:
    times = np.random.default_rng(1).exponential(1.0, 30).tolist()
    assert spread(times) == spread(times)


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        pytest.param([9, 5, 3, 1, 1, 1], False, id="still falling"),
        pytest.param([9, 1, 1, 1, 1, 1], True, id="one slow start"),
        pytest.param([1, 1, 1, 1.09, 1.09, 1.09], True, id="within a tenth"),
        pytest.param([1, 1, 1, 1.2, 1.2, 1.2], False, id="rising"),
        pytest.param([1, 1, 1, 1, 1], False, id="too few to tell"),
    ],
)
def test_settled(times: list[float], steady: bool) -> None:
    assert settled(times) is steady


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0001234, "0.123 ms"), (0.01234, "12.3 ms"), (0.999, "999 ms"), (1.234, "1.23 s"), (650, "10.8 min"), (86_400, "24.0 h"),
     (None, "-"), (0.0, "0 ms")],
)  # fmt: skip
def test_times_as_people_read_them(value: float | None, text: str) -> None:
    assert seconds(value) == text
