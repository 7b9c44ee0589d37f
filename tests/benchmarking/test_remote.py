"""A server from outside: its answers, refusals and stages, with a fake that answers at once, and over loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarking.remote import Line, many_clients, one_client, warm_up
from sightline.benchmarking.targets import Answer, Served, open_served, stages_of
from sightline.errors import RequestError, RunError
from sightline.records import Model
from sightline.serving.server import running


def served(send: Callable[[bytes, str], Answer], stages: Callable[[], Any] = dict) -> Served:
    return Served("http://fake", send, stages, here=False)


def a_line(send: Callable[[bytes, str], Answer], pictures: Path, clock: Any, **changes: Any) -> Line:
    defaults: dict[str, Any] = {"samples": 6, "limit_s": 100.0, "clock": clock, "sleep": clock.sleep}
    stages = changes.pop("stages", dict)
    return Line(served(send, stages), sorted(pictures.iterdir()), **(defaults | changes))


def test_one_client(pictures: Path, clock: Any) -> None:
    told = iter([{"model": (1.0, 10), "idle": (0.0, 0)}, {"model": (13.0, 16), "idle": (0.0, 0)}])

    def send(body: bytes, content_type: str) -> Answer:
        clock.now += 2
        return Answer(200, b"x" * 10)

    tally, stages = one_client(a_line(send, pictures, clock, stages=lambda: next(told)))
    assert tally.seconds == [2.0] * 6
    assert stages == {"model": (12.0, 6)}
    sizes = [path.stat().st_size for path in sorted(pictures.iterdir())]
    assert tally.sent_bytes == sizes * 3
    assert tally.received_bytes == [10] * 6


def test_refusals_and_errors_are_counted_and_pause_as_they_are_told(pictures: Path, clock: Any) -> None:
    answers = iter([Answer(200, b""), Answer(503, b"", pause_s=7), Answer(400, b""), Answer(200, b"")])

    def send(body: bytes, content_type: str) -> Answer:
        try:
            return next(answers)
        except StopIteration:
            raise RunError("http://fake", "cannot be reached", "") from None

    tally, _ = one_client(a_line(send, pictures, clock))
    assert len(tally.seconds) == 2
    assert (tally.busy, dict(tally.errors)) == (1, {"status 400": 1, "cannot be reached": 2})
    assert clock.now == pytest.approx(7 + 2 * 0.1)


def test_many_clients_count_all_answers_of_the_time(pictures: Path, clock: Any) -> None:
    def send(body: bytes, content_type: str) -> Answer:
        clock.now += 1
        return Answer(200, b"")

    one = many_clients(a_line(send, pictures, clock, limit_s=20.0), 1)
    assert (one.count, one.lasted_s, one.answers_per_s) == (1, 20, 1)
    assert one.seconds is not None and one.seconds.count == 20


def test_a_slow_server_is_given_time_for_a_few_answers(pictures: Path, clock: Any) -> None:
    def send(body: bytes, content_type: str) -> Answer:
        clock.now += 30
        return Answer(200, b"")

    one = many_clients(a_line(send, pictures, clock, limit_s=20.0), 1)
    assert one.seconds is not None and one.seconds.count == 3


def test_a_server_that_only_refuses_ends_the_benchmark(pictures: Path, clock: Any) -> None:
    with pytest.raises(RunError, match=r"answered no picture \(.*503\).*log"):
        warm_up(a_line(lambda body, kind: Answer(503, b"", pause_s=1), pictures, clock))


def test_stages_of_several_processes_are_summed() -> None:
    page = (
        'sightline_seconds_sum{stage="model"} 2.5\nsightline_seconds_count{stage="model"} 3\n'
        'sightline_seconds_sum{worker="1",stage="model"} 1.0\nsightline_seconds_count{worker="1",stage="model"} 2\n'
        'sightline_seconds_bucket{stage="model",le="1"} 9\nother{stage="model"} 4\n'
    )
    assert stages_of(page) == {"model": (3.5, 5)}
    assert stages_of("<html>") == {}


@pytest.fixture(scope="module")
def url(fake_predict: Any) -> Iterator[str]:
    with running(Model(fake_predict, ("bee", "wasp"), "fake")) as address:
        yield address


def test_the_real_server(url: str, pictures: Path) -> None:
    """What is sent is what it decodes; its stages are those of the requests that were counted."""
    line = Line(open_served(url), sorted(pictures.iterdir()), samples=7, limit_s=30.0)
    tally, stages = one_client(line)
    assert (len(tally.seconds), tally.busy, dict(tally.errors)) == (7, 0, {})
    assert stages["model"][1] == stages["decode"][1] == 7
    assert sum(stages["all"]) > 0
    assert line.served.here
    several = many_clients(Line(open_served(url), sorted(pictures.iterdir()), samples=1, limit_s=0.3), 3)
    assert several.seconds is not None and several.seconds.count >= 9
    assert not several.errors


@pytest.mark.parametrize(
    ("address", "error"),
    [
        pytest.param("sagemaker://bees", r"is a SageMaker endpoint\. Give what opens it", id="sagemaker"),
        pytest.param("http://", "is no address", id="no host"),
        pytest.param("http://127.0.0.1:9", "cannot be reached", id="nobody there"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, error: str) -> None:
    with pytest.raises((RequestError, RunError), match=error):
        open_served(address)


def test_what_opens_an_endpoint_can_be_given() -> None:
    endpoint = served(lambda body, kind: Answer(200, b""))
    assert open_served("sagemaker://bees", open_endpoint=lambda address: endpoint) is endpoint
