"""A server measured from outside: seconds of one client's answers, its own stages, throughput by the number of clients."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sightline.benchmarking.local import LEAST_SAMPLES, MAX_WARM_UP
from sightline.benchmarking.results import Clients
from sightline.benchmarking.spread import settled, spread
from sightline.benchmarking.targets import Answer, Served
from sightline.errors import RunError
from sightline.images import read_bytes

CONTENT_TYPE = "image/jpeg"
"""Of every picture: the server goes by the content."""

BUSY = 503
LEAST_ANSWERS = 3
"""Of each client, where the server gives them within MOST_LIMITS times the time asked for."""

MOST_LIMITS = 6
FAILURE_PAUSE_S = 0.1


@dataclass(slots=True)
class Tally:
    """What many threads count. seconds: of answers 200 in the order they came; busy: 503; errors: anything else."""

    seconds: list[float] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    received_bytes: list[int] = field(default_factory=list)
    busy: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, took_s: float, sent: int, answer: Answer) -> None:
        with self.lock:
            if answer.status == 200:
                self.seconds.append(took_s)
                self.sent_bytes.append(sent)
                self.received_bytes.append(len(answer.body))
            elif answer.status == BUSY:
                self.busy += 1
            else:
                self.errors[f"status {answer.status}"] += 1

    def add_failure(self, error: RunError) -> None:
        with self.lock:
            self.errors[error.what] += 1


@dataclass(frozen=True, slots=True)
class Line:
    """What is asked, and how long.

    samples: of one client, at most
    limit_s: for one client, and for each number of clients
    """

    served: Served
    pictures: Sequence[Path]
    samples: int
    limit_s: float
    warm_up: int | None = None
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep

    def bodies(self) -> list[bytes]:
        return [read_bytes(path) for path in self.pictures]


def ask(line: Line, body: bytes, tally: Tally) -> float:
    """Send one picture; seconds until its answer. One that is refused waits as it is told to."""
    began = line.clock()
    try:
        answer = line.served.send(body, CONTENT_TYPE)
    except RunError as error:
        tally.add_failure(error)
        line.sleep(FAILURE_PAUSE_S)
        return line.clock() - began
    took_s = line.clock() - began
    tally.add(took_s, len(body), answer)
    if answer.status == BUSY:
        line.sleep(answer.pause_s)
    return took_s


def warm_up(line: Line) -> tuple[int, bool]:
    """(requests, whether the times were steady in the end).

    Raises:
        RunError: it answers nothing: with what it said.
    """
    tally, body, times = Tally(), line.bodies()[0], list[float]()
    most = MAX_WARM_UP if line.warm_up is None else line.warm_up
    end = line.clock() + line.limit_s
    while len(times) < most and (line.warm_up is not None or (not settled(times) and line.clock() < end)):
        times.append(ask(line, body, tally))
    if times and not tally.seconds:
        told = ", ".join([*tally.errors, *([f"{tally.busy} times 503"] if tally.busy else [])])
        raise RunError(line.served.address, f"answered no picture ({told})", "Ask it for one with curl, and see its log.")
    return len(times), line.warm_up is None and settled(times)


def one_client(line: Line) -> tuple[Tally, dict[str, tuple[float, int]]]:
    """(its answers, seconds and numbers of the server's own stages meanwhile); the pictures in turn, one connection.

    Others who ask the server meanwhile are in its stages, too.
    """
    tally, bodies = Tally(), line.bodies()
    before = line.served.stages()
    end = line.clock() + line.limit_s
    for number in range(line.samples):
        if number >= LEAST_SAMPLES and line.clock() > end:
            break
        ask(line, bodies[number % len(bodies)], tally)
    return tally, stages_since(before, line.served.stages())


def stages_since(
    before: Mapping[str, tuple[float, int]], after: Mapping[str, tuple[float, int]]
) -> dict[str, tuple[float, int]]:
    """{stage: (seconds, number)} of what came between; stages that nothing went through are left out."""
    since = {}
    for stage, (seconds, number) in after.items():
        seconds_before, number_before = before.get(stage, (0.0, 0))
        if number > number_before:
            since[stage] = seconds - seconds_before, number - number_before
    return since


def many_clients(line: Line, clients: int) -> Clients:
    """Clients that each send their next picture when they have an answer, until the time is over and each had a few.

    The rate is that of all answers until the last one came, so it is a little low where they are few.
    """
    tally, bodies, numbers = Tally(), line.bodies(), count()
    began = line.clock()
    end, latest = began + line.limit_s, began + MOST_LIMITS * line.limit_s

    def client() -> None:
        while (now := line.clock()) < end or (now < latest and len(tally.seconds) < LEAST_ANSWERS * clients):
            ask(line, bodies[next(numbers) % len(bodies)], tally)

    with ThreadPoolExecutor(clients, thread_name_prefix="client") as pool:
        for one in [pool.submit(client) for _ in range(clients)]:
            one.result()
    lasted_s = line.clock() - began
    return Clients(
        clients,
        spread(tally.seconds) if tally.seconds else None,
        answers_per_s=len(tally.seconds) / lasted_s,
        lasted_s=lasted_s,
        busy=tally.busy,
        errors=dict(tally.errors),
    )
