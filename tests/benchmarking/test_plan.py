"""The plan: counts, waits and dollars by hand, what misses the bound and why, which way is cheapest."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sightline.benchmarking.plan import Need, Plan, plan, text, wait_p95
from sightline.benchmarking.results import Clients, Price, Result, Start
from sightline.benchmarking.spread import spread
from sightline.errors import ConfigError

Make = Callable[..., Any]
SERVERLESS = Price("us-east-1", "a list", "2026", memory_mb=2048, usd_per_second=0.00004)


@pytest.fixture
def hourly(make_result: Make, make_cost: Make) -> Result:
    """One picture a second on an instance at $0.36 an hour."""
    result: Result = make_result(costs=(make_cost(),))
    return result


def named(made: Plan, word: str) -> Any:
    (found,) = [one for one in made.options if word in one.name]
    return found


def test_by_hand(hourly: Result) -> None:
    """86,400 a day are 1/s, at the peak 3/s: 5 instances at 70 % (3 / 0.7 = 4.3), each busy for 60 %."""
    made = plan([hourly], Need(per_day=86_400, within_s=10))
    one = named(made, "real-time")
    assert made.best is one
    assert one.usd_per_day == pytest.approx(5 * 24 * 0.36)
    assert one.p95_s == pytest.approx(1 + math.log(0.6 / 0.05) / (2 * 0.4))
    assert one.lines == (
        "86,400 pictures a day / 86,400 s x 3 = 3 pictures/s at the peak",
        "one at a time: 1 pictures/s an instance; with 5, each is busy for 60% of the peak (at most 70%)",
        "p95 4.11 s = 1.00 s (p95 of 100 samples) + 3.11 s waiting for it at that load",
        "5 x 24 h x $0.36/h = $43.20 a day, $0.5 per 1,000 pictures",
    )


def test_a_tighter_bound_takes_more_instances(hourly: Result) -> None:
    loose, tight = (named(plan([hourly], Need(86_400, bound)), "real-time") for bound in (10, 2))
    assert tight.usd_per_day > loose.usd_per_day
    assert tight.p95_s <= 2
    one_less = tight.usd_per_day / 24 / 0.36 - 1
    assert 1 + wait_p95(3 / one_less, 1.0) > 2


def test_no_number_of_instances_makes_the_work_itself_faster(hourly: Result) -> None:
    made = plan([hourly], Need(86_400, 0.5))
    assert made.best is None
    assert "more than 500 ms" in named(made, "real-time").misses
    told = text(made)
    assert "None of the measured set-ups does." in told
    assert "These do not do:" in told


def test_batches_where_the_bound_allows_the_wait_for_two(hourly: Result, make_batch: Make) -> None:
    result = replace(hourly, batches=(make_batch(8, 4.0, 2.0),))
    assert named(plan([result], Need(86_400, 8.0)), "real-time").lines[1].startswith("batches of 8: 2 pictures/s")
    assert named(plan([result], Need(86_400, 7.9)), "real-time").lines[1].startswith("one at a time")


def test_clients_that_were_measured_bring_their_wait(make_result: Make, make_cost: Make) -> None:
    clients = (Clients(4, spread([2.0] * 20), 2.0, 10.0), Clients(16, spread([5.0] * 20), 3.0, 10.0, busy=1))
    one = named(plan([make_result(kind="remote", clients=clients, costs=(make_cost(),))], Need(86_400, 2.5)), "real-time")
    assert one.p95_s == 2.0
    assert one.usd_per_day == pytest.approx(3 * 24 * 0.36)  # 3/s / (2/s x 0.7)
    assert "the wait is in what the clients measured" in one.lines[2]


def test_least_instances(hourly: Result) -> None:
    assert named(plan([hourly], Need(10, 10, least_instances=2)), "real-time").usd_per_day == pytest.approx(2 * 24 * 0.36)


def test_too_few_samples_for_a_p95_are_told(make_result: Make, make_cost: Make) -> None:
    one = named(plan([make_result([1.0, 1.0, 3.0], costs=(make_cost(),))], Need(10, 10)), "real-time")
    assert "the slowest of 3 samples, too few for a p95" in one.lines[2]
    assert one.p95_s == pytest.approx(3.0)


def test_switched_off_in_between_by_hand(hourly: Result) -> None:
    """Twice a day 1,800 pictures of a second: 650 s to begin and 1,800 s of work are 2,450 s, 0.6806 h."""
    one = named(plan([hourly], Need(3600, 50_000, wakes_per_day=2)), "switched off")
    assert one.usd_per_day == pytest.approx(2 * 2450 / 3600 * 0.36)
    assert one.p95_s == 43_200 + 2450
    assert not one.misses


def test_as_often_as_costs_least_within_the_bound(hourly: Result) -> None:
    day = named(plan([hourly], Need(3600, 100_000)), "switched off")
    hours = named(plan([hourly], Need(3600, 12_000)), "switched off")
    assert day.lines[0].startswith("1 times a day")
    assert hours.lines[0].startswith("8 times a day")  # 10,800 + 650 + 450 s
    assert day.usd_per_day < hours.usd_per_day
    assert "more than 10.0 min" in named(plan([hourly], Need(3600, 600)), "switched off").misses


def test_switched_off_takes_several_at_once_where_one_is_not_enough(hourly: Result) -> None:
    one = named(plan([hourly], Need(200_000, 100_000, wakes_per_day=1)), "switched off")
    assert one.p95_s <= 100_000
    assert one.lines[1].startswith("16 x (")


def test_serverless_for_few_pictures_real_time_for_many(make_result: Make, make_cost: Make) -> None:
    costs = (make_cost(), make_cost(SERVERLESS, one_at_a_time=0.04, at_throughput=None))
    result = make_result(costs=costs, start=Start(spread([3.0]), spread([1.0])))
    few, many = (plan([result], Need(per_day, 20.0)).best for per_day in (1000, 1_000_000))
    assert few is not None and "serverless" in few.name
    assert few.usd_per_day == pytest.approx(0.04)
    assert many is not None and "serverless" in many.name
    dear = replace(result, costs=(costs[0], replace(costs[1], one_at_a_time=4.0)))
    best = plan([dear], Need(1_000_000, 20.0)).best
    assert best is not None and "real-time" in best.name


@pytest.mark.parametrize(
    ("changed", "per_day", "within_s", "misses"),
    [
        pytest.param({"start": None}, 100, 20, "its start was not measured", id="asleep, and nobody knows for how long"),
        pytest.param({}, 100, 3, "p95 would be 4.00 s", id="asleep each time"),
        pytest.param({}, 10_000, 3, "", id="awake"),
        pytest.param({}, 30_000_000, 3, "more than the 200", id="too many at once"),
        pytest.param({"sent_bytes": 5.0 * 2**20}, 10_000, 3, "more than the 4 MiB", id="too large a picture"),
    ],
)
def test_when_serverless_does(
    changed: dict[str, Any], per_day: float, within_s: float, misses: str, make_result: Make, make_cost: Make
) -> None:
    cost = make_cost(SERVERLESS, one_at_a_time=0.04, at_throughput=None)
    result = make_result(**({"costs": (cost,), "start": Start(spread([3.0]), spread([1.0]))} | changed))
    (one,) = plan([result], Need(per_day, within_s)).options
    assert (misses in one.misses) if misses else not one.misses


def test_what_has_no_price_is_listed(make_result: Make, hourly: Result) -> None:
    made = plan([make_result(target="other"), hourly], Need(100, 10))
    assert "benchmark it again with --instance-type" in named(made, "other").misses
    assert "$0.00" not in text(made).split("other:")[1].splitlines()[0]


def test_other_machines_and_other_models_are_told(hourly: Result) -> None:
    told = text(plan([hourly, replace(hourly, sha256="cd" * 32)], Need(100, 10)))
    assert "Measured on THIS machine" in told
    assert "different models" in told


def test_a_need_that_makes_no_sense_with_all_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        Need(per_day=0, within_s=-1, peak_factor=0.5, utilisation=1.0, wakes_per_day=0)
    assert [problem.where for problem in caught.value.problems] == ["--per-day", "--within-s", "--utilisation", "--peak-factor"]
