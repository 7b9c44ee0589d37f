"""Seconds to dollars, and the sentence that must stand beside another machine's price."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sightline.benchmarking.cost import caveat, cost_of, fits_memory
from sightline.benchmarking.results import Clients, Price, Result
from sightline.benchmarking.spread import spread

SERVERLESS = Price("us-east-1", "a list", "2026", memory_mb=2048, usd_per_second=0.00004, usd_per_gb_processed=0.016)
Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("usd_per_hour", "mean_s", "expected"),
    [
        pytest.param(1.125, 0.607, 0.190, id="K80"),
        pytest.param(0.736, 0.217, 0.044, id="T4"),
        pytest.param(3.825, 0.133, 0.141, id="V100, published as 0.12"),
    ],
)
def test_the_old_table_by_its_own_columns(usd_per_hour: float, mean_s: float, expected: float, make_result: Make) -> None:
    price = Price("us-east-1", "its README", "2020", instance_type="ml.p2.xlarge", usd_per_hour=usd_per_hour)
    assert cost_of(make_result([mean_s] * 5), price).one_at_a_time == pytest.approx(expected, abs=0.0005)


def test_at_throughput_of_the_fastest(make_result: Make, make_batch: Make, make_cost: Make) -> None:
    result = make_result(batches=(make_batch(1, 1.0, 1.0), make_batch(4, 2.0, 2.0), make_batch(8, 8.0, 1.0)))
    cost = cost_of(result, make_cost().price)
    assert (cost.one_at_a_time, cost.at_throughput, cost.throughput_at) == (
        pytest.approx(0.1),
        pytest.approx(0.05),
        "batches of 4",
    )
    assert cost.arithmetic == (
        "$0.36/h / 3,600 s x 1 s x 1,000 = $0.1 one at a time",
        "$0.36/h / 3,600 s / 2 pictures/s x 1,000 = $0.05 at batches of 4",
    )


def test_of_a_server_the_best_number_of_clients(make_result: Make, make_cost: Make) -> None:
    clients = (Clients(1, spread([1.0]), 1.0, 10.0), Clients(4, spread([1.0]), 4.0, 10.0))
    cost = cost_of(make_result(kind="remote", clients=clients), make_cost().price)
    assert (cost.at_throughput, cost.throughput_at) == (pytest.approx(0.025), "4 clients")


def test_serverless_by_the_second_and_by_what_moves(make_result: Make) -> None:
    result = make_result([2.0] * 5, sent_bytes=2**30 / 1000, received_bytes=0.0)
    assert cost_of(result, SERVERLESS).one_at_a_time == pytest.approx(0.08 + 0.016)
    unknown = cost_of(result, replace(SERVERLESS, usd_per_gb_processed=None))
    assert unknown.one_at_a_time == pytest.approx(0.08)
    assert "is not in it" in unknown.arithmetic[-1]


@pytest.mark.parametrize(
    ("kind", "machine", "there", "expected"),
    [
        pytest.param(
            "local", {}, False, r"on THIS machine \(a processor, 2 cores, no GPU\); priced as if", id="another machine"
        ),
        pytest.param("local", {"instance_type": "ml.c5.large"}, True, "^$", id="that instance"),
        pytest.param("local", {"instance_type": "ml.c5.xlarge"}, False, "THIS machine", id="another instance"),
        pytest.param("remote", {}, False, "at model.tar.gz .a machine that nobody told of", id="elsewhere"),
        pytest.param("remote", {"server_instance_type": "ml.c5.large"}, True, "^$", id="an endpoint of that type"),
        pytest.param("remote", {"server_instance_type": "ml.m5.xlarge"}, False, "model.tar.gz .ml.m5.xlarge.", id="of another"),
        pytest.param("remote", {"server_here": True}, False, "on THIS machine", id="a server here"),
    ],
)
def test_whose_seconds_they_are(
    kind: str, machine: dict[str, object], there: bool, expected: str, make_result: Make, make_cost: Make
) -> None:
    result: Result = make_result(kind=kind)
    result = replace(result, machine=result.machine | machine)
    cost = cost_of(result, make_cost().price)
    assert cost.measured_there is there
    assert re.search(expected, caveat(result, [cost]))


def test_memory_that_an_endpoint_does_not_have(make_result: Make) -> None:
    assert "3,000 MB here, more than the 2,048 MB" in fits_memory(make_result(peak_bytes=3000 * 2**20), SERVERLESS)
    assert fits_memory(make_result(peak_bytes=1000 * 2**20), SERVERLESS) == ""
