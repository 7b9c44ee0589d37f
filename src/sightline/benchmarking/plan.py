"""The cheapest of the measured set-ups for so many pictures a day within a bound of time, with its arithmetic line by line.

Pictures come at random times, at the peak `peak_factor` times as many as on average. An instance is kept busy for `utilisation`
of the peak at most. The wait for a busy instance is that of a queue with random arrivals and one server whose work takes its
mean time (M/D/1, P(wait > t) = r exp(-2 (1 - r) t / s) with load r and work s); it is added to the p95 of the work itself,
which is a little too much.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from sightline.benchmarking.cost import HOUR_S, caveat
from sightline.benchmarking.results import Cost, Result
from sightline.benchmarking.spread import Spread, seconds
from sightline.errors import ConfigError, Problem

DAY_S = 86_400
MONTH_DAYS = 30
LATE_SHARE = 0.05  # of p95
SERVERLESS_AT_ONCE = 200
SERVERLESS_BYTES = 4 * 2**20
ANSWER_LIMIT_S = 60.0
"""SageMaker's own limits: of one serverless endpoint, of a request to it, and of an answer that somebody waits for."""

WAKES = (1, 2, 3, 4, 6, 8, 12, 24, 48)
"""Times a day that are tried."""

ASLEEP_S = 300.0
"""Assumed: after so long without a request a serverless endpoint has gone to sleep, and the next one is a cold start."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked for.

    per_day:         pictures
    within_s:        the p95 of the time until the answer
    peak_factor:     the busiest time's rate over the mean rate
    utilisation:     greatest load of an instance at the peak, 0 to 1
    least_instances: of a real-time endpoint; 2 survive the loss of one
    wakes_per_day:   how often one that is switched off in between is switched on, for what has come since; 0: as is cheapest
    boot_s:          from switching on until it works: SageMaker takes minutes (AWS's own table has 622 to 672 s)
    """

    per_day: float
    within_s: float
    peak_factor: float = 3.0
    utilisation: float = 0.7
    least_instances: int = 1
    wakes_per_day: int = 0
    boot_s: float = 650.0

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is wrong."""
        bad = [
            Problem(f"--{name.replace('_', '-')}", f"is {value:g}", "Give a number above 0.")
            for name, value in asdict(self).items()
            if not 0 < value < math.inf and (name, value) != ("wakes_per_day", 0)
        ]
        if self.utilisation >= 1:
            bad.append(Problem("--utilisation", f"is {self.utilisation:g}", "Give less than 1: a full queue never empties."))
        if 0 < self.peak_factor < 1:
            bad.append(Problem("--peak-factor", f"is {self.peak_factor:g}", "Give at least 1: the peak is above the mean."))
        if bad:
            raise ConfigError.collected(bad)

    @property
    def peak_per_s(self) -> float:
        return self.per_day / DAY_S * self.peak_factor


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run one measured set-up.

    usd_per_day: what it costs, whether it keeps the bound or not; None where there is no price
    misses:      why it does not do; empty: it does
    lines:       the arithmetic
    warning:     where the seconds are another machine's
    """

    name: str
    usd_per_day: float | None
    p95_s: float | None
    misses: str
    lines: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All options, the cheapest that does first, then those that do not."""

    need: Need
    options: tuple[Option, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Option | None:
        return self.options[0] if self.options and not self.options[0].misses else None

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"best": None if self.best is None else self.best.name}


@dataclass(frozen=True, slots=True)
class Point:
    """One measured way of working: at how many pictures a second, and how long the work of one takes.

    waits: the queue's wait comes on top; where several clients were measured it is in their times
    twice: a batch is waited for while another one runs
    """

    name: str
    rate: float
    work: Spread
    waits: bool = False
    twice: bool = False


def plan(results: Sequence[Result], need: Need) -> Plan:
    """Every result at each of its prices, in every way that it can be run there."""
    options: list[Option] = []
    for result in results:
        if not result.costs:
            why = "it has no price: benchmark it again with --instance-type or --serverless-memory-mb"
            options.append(Option(result.target, None, None, why, ()))
        for cost in result.costs:
            options += options_at(result, cost, need)
    options.sort(key=lambda one: (bool(one.misses), math.inf if one.usd_per_day is None else one.usd_per_day))
    notes = []
    models = {result.sha256 for result in results if result.sha256}
    if len(models) > 1:
        notes.append(
            "The results are of different models: a cheaper one may also find less. Compare them with sightline evaluate."
        )
    return Plan(need, tuple(options), tuple(notes))


def options_at(result: Result, cost: Cost, need: Need) -> Iterator[Option]:
    """The ways to run one result at one price."""
    if cost.price.usd_per_hour is None:
        yield serverless(result, cost, need)
        return
    yield real_time(result, cost, cost.price.usd_per_hour, need)
    yield switched_off(result, cost, cost.price.usd_per_hour, need)


def points_of(result: Result) -> list[Point]:
    points = [Point("one at a time", 1 / result.latency.mean, result.latency, waits=True)]
    points += [
        Point(f"batches of {batch.size}", batch.pictures_per_s, batch.seconds, twice=True)
        for batch in result.batches
        if batch.seconds is not None and batch.pictures_per_s > 0 and batch.size > 1
    ]
    points += [
        Point(f"{one.count} clients an instance", one.answers_per_s, one.seconds)
        for one in result.clients
        if one.seconds is not None and one.answers_per_s > 0 and not one.busy and not one.errors
    ]
    return points


def p95_of(work: Spread) -> tuple[float, str]:
    """(p95, what it is): of too few samples the slowest one, or the mean where nothing else is known."""
    if work.p95 is not None:
        return work.p95, f"p95 of {work.count} samples"
    if work.most is not None:
        return work.most, f"the slowest of {work.count} samples, too few for a p95"
    return work.mean, f"the mean of {work.count}, as nothing else is known"


def wait_p95(load: float, work_s: float) -> float:
    """The p95 of the wait for a server that is busy for `load` of the time with work of `work_s` each."""
    return 0.0 if load <= LATE_SHARE else work_s * math.log(load / LATE_SHARE) / (2 * (1 - load))


def real_time(result: Result, cost: Cost, usd_per_hour: float, need: Need) -> Option:
    """An endpoint that is always on: the way of working that needs the fewest instances within the bound."""
    name = f"{result.target} on {cost.price.instance_type}, real-time"
    tried = [sized(point, need) for point in points_of(result)]
    does = [one for one in tried if one[1] <= need.within_s]
    count, p95_s, lines = min(does, key=lambda one: one[:2]) if does else min(tried, key=lambda one: one[1])
    usd = count * 24 * usd_per_hour
    lines = [
        f"{need.per_day:,.0f} pictures a day / 86,400 s x {need.peak_factor:g} = {need.peak_per_s:.4g} pictures/s at the peak",
        *lines,
        f"{count} x 24 h x ${usd_per_hour:g}/h = ${usd:.2f} a day, ${usd / need.per_day * 1000:.4g} per 1,000 pictures",
    ]
    return Option(name, usd, p95_s, late(p95_s, need), tuple(lines), caveat(result, [cost]))


def late(p95_s: float, need: Need) -> str:
    limit = min(need.within_s, ANSWER_LIMIT_S)
    return "" if p95_s <= limit else f"p95 would be {seconds(p95_s)}, more than {seconds(limit)}"


def sized(point: Point, need: Need) -> tuple[int, float, list[str]]:
    """(instances, p95 with the wait, the arithmetic): the fewest that keep load and bound, where the work alone keeps it."""
    work_p95, what = p95_of(point.work)
    count = max(need.least_instances, math.ceil(need.peak_per_s / (point.rate * need.utilisation)))
    while True:
        load = need.peak_per_s / (count * point.rate)
        wait_s = wait_p95(load, 1 / point.rate) if point.waits else work_p95 if point.twice else 0.0
        if not point.waits or wait_s == 0 or work_p95 > need.within_s or work_p95 + wait_s <= need.within_s:
            break
        count += 1
    p95_s = work_p95 + wait_s
    waiting = {
        point.waits: f"{seconds(wait_s)} waiting for it at that load",
        point.twice: f"{seconds(wait_s)} waiting for the batch before",
    }.get(True, "the wait is in what the clients measured")
    lines = [
        f"{point.name}: {point.rate:.4g} pictures/s an instance; with {count}, each is busy for {load:.0%} of the peak"
        f" (at most {need.utilisation:.0%})",
        f"p95 {seconds(p95_s)} = {seconds(work_p95)} ({what}) + {waiting}"
        if point.waits or point.twice
        else f"p95 {seconds(p95_s)} ({what}; {waiting})",
    ]
    return count, p95_s, lines


def switched_off(result: Result, cost: Cost, usd_per_hour: float, need: Need) -> Option:
    """Asynchronous or batch: switched on for what has come since, and off again; as often a day as costs least."""
    tried = [
        awake(result, cost, usd_per_hour, need, wakes) for wakes in ((need.wakes_per_day,) if need.wakes_per_day else WAKES)
    ]
    return min(tried, key=lambda one: (bool(one.misses), one.usd_per_day or 0.0))


def awake(result: Result, cost: Cost, usd_per_hour: float, need: Need, wakes: int) -> Option:
    """Switched on so often a day, on as many instances at once as the bound needs. The last picture waits for all before it."""
    point = max(points_of(result), key=lambda one: one.rate)
    interval_s, each = DAY_S / wakes, need.per_day / wakes
    work_s = each / point.rate
    room_s = need.within_s - interval_s - need.boot_s
    keeps = room_s > 0 and interval_s > need.boot_s
    count = max(1, math.ceil(work_s / min(room_s, interval_s - need.boot_s))) if keeps else 1
    on_s = need.boot_s + work_s / count
    hours = count * on_s / HOUR_S
    usd = wakes * hours * usd_per_hour
    longest_s = interval_s + on_s
    lines = (
        f"{wakes} times a day {each:,.4g} pictures / {point.rate:.4g} pictures/s ({point.name}) = {seconds(work_s)} of work",
        f"{count} x ({seconds(need.boot_s)} to begin + {seconds(work_s / count)} of work) = {hours:.4g} instance-hours a time",
        f"{wakes} x {hours:.4g} h x ${usd_per_hour:g}/h = ${usd:.2f} a day,"
        f" ${usd / need.per_day * 1000:.4g} per 1,000 pictures",
        f"a picture waits for up to {seconds(interval_s)} until it is switched on, and {seconds(on_s)} from then on",
    )
    misses = "" if keeps else f"a picture would wait for up to {seconds(longest_s)}, more than {seconds(need.within_s)}"
    name = f"{result.target} on {cost.price.instance_type}, asynchronous or batch, switched off in between"
    return Option(name, usd, longest_s, misses, lines, caveat(result, [cost]))


def serverless(result: Result, cost: Cost, need: Need) -> Option:
    """By the second; one that is asked seldom sleeps, and starts first."""
    name = f"{result.target} serverless with {cost.price.memory_mb} MB"
    p95_s, what = p95_of(result.latency)
    usd = cost.one_at_a_time / 1000 * need.per_day
    at_once = need.peak_per_s * result.latency.mean
    gap_s = DAY_S / need.per_day
    lines = [
        *cost.arithmetic,
        f"{need.per_day:,.0f} pictures a day x ${cost.one_at_a_time:.4g} / 1,000 = ${usd:.2f} a day",
        f"{need.peak_per_s:.4g} pictures/s at the peak x {result.latency.mean:.4g} s = {at_once:.3g} at once"
        f" (at most {SERVERLESS_AT_ONCE})",
    ]
    misses = ""
    if gap_s > ASLEEP_S and result.start is None:
        misses = f"it would sleep between requests ({seconds(gap_s)} apart), and its start was not measured"
    elif gap_s > ASLEEP_S and result.start is not None:
        p95_s += result.start.first_answer_s.mean
        lines.append(f"requests are {seconds(gap_s)} apart: each finds it asleep, and waits for its start first")
    elif result.start is not None:
        cold = seconds(result.start.first_answer_s.mean)
        lines.append(f"cold starts take {cold} and more; they are not in the p95 as long as they are rarer than 1 in 20")
    lines.append(f"p95 {seconds(p95_s)} ({what})")
    if at_once > SERVERLESS_AT_ONCE:
        misses = f"{at_once:.0f} requests at once, more than the {SERVERLESS_AT_ONCE} of an endpoint"
    if (result.sent_bytes or 0) > SERVERLESS_BYTES:
        misses = f"a picture has {(result.sent_bytes or 0) / 2**20:.1f} MiB, more than the 4 MiB of a request"
    return Option(name, usd, p95_s, misses or late(p95_s, need), tuple(lines), caveat(result, [cost]))


def text(made: Plan) -> str:
    """The plan for people: the need, the best option with its arithmetic, the others, those that do not do and why."""
    need = made.need
    parts = [
        f"{need.per_day:,.0f} pictures a day, p95 within {seconds(need.within_s)}; assumed: {need.peak_factor:g} times the mean"
        f" rate at the peak, instances busy for at most {need.utilisation:.0%} then, {need.least_instances} or more of them"
    ]
    if made.best is None:
        parts.append("None of the measured set-ups does.")
    for one in made.options:
        if one.misses:
            continue
        begin = "Cheapest" if one is made.best else "Also"
        parts.append("\n".join([f"{begin}: {one.name}: {money(one)}", *(f"  {line}" for line in one.lines), *warned(one)]))
    missing = [
        f"  {one.name}: {one.misses}{f' ({money(one)})' if one.usd_per_day is not None else ''}"
        for one in made.options
        if one.misses
    ]
    if missing:
        parts.append("\n".join(["These do not do:", *missing]))
    parts += [f"Note: {note}" for note in made.notes]
    return "\n\n".join(parts)


def warned(one: Option) -> list[str]:
    return [f"  {one.warning}"] if one.warning else []


def money(one: Option) -> str:
    usd = one.usd_per_day or 0.0
    return f"${usd:.2f} a day, ${usd * MONTH_DAYS:,.2f} in {MONTH_DAYS} days"
