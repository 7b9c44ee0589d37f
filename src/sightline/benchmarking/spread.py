"""Repeated times as numbers that can be believed: percentiles that the samples can carry, with intervals.

T: number of times, in seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
CLAIMED_FROM = {50: 5, 95: 20, 99: 100}
"""Samples from which on a percentile is told: at least one of them lies beyond p95 and p99; a median needs some around it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Times of one thing, in seconds.

    count:           samples
    mean:            what costs are computed with, as means add up; alone where nothing else is known (a server's own stages)
    p50, p95, p99:   None where there are too few samples to claim it
    p50_from, p50_to, p95_from, p95_to: 95 % bootstrap intervals
    """

    count: int
    mean: float
    least: float | None = None
    most: float | None = None
    p50: float | None = None
    p50_from: float | None = None
    p50_to: float | None = None
    p95: float | None = None
    p95_from: float | None = None
    p95_to: float | None = None
    p99: float | None = None


def spread(times: Sequence[float], seed: int = 0) -> Spread:
    """The spread of (T,) times, at least one.

    The bootstrap draws single times, so it takes them for independent of each other: slow drifts of the machine make the true
    intervals wider.
    """
    values = np.asarray(times, dtype=np.float64)
    count = len(values)
    told: dict[str, float | None] = {}
    for percent in (50, 95, 99):
        if count >= CLAIMED_FROM[percent]:
            told[f"p{percent}"] = float(np.percentile(values, percent))
    for percent in (50, 95):
        if count >= CLAIMED_FROM[percent]:
            told[f"p{percent}_from"], told[f"p{percent}_to"] = interval(values, percent, seed)
    return Spread(count, float(values.mean()), float(values.min()), float(values.max()), **told)


def interval(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", percent: int, seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of a percentile of (T,) values."""
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))  # (1000, T)
    ends = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.percentile(drawn, percent, axis=1), [ends, 100 - ends])
    return float(low), float(high)


SETTLED_WITHIN = 0.1
WINDOW = 3


def settled(times: Sequence[float]) -> bool:
    """Whether the last times are those before them again: the medians of the last two windows differ by a tenth at most."""
    if len(times) < 2 * WINDOW:
        return False
    before, now = np.median(times[-2 * WINDOW : -WINDOW]), np.median(times[-WINDOW:])
    return bool(abs(now - before) <= SETTLED_WITHIN * now)


UNITS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"), (0.0, 0.001, "ms"))
"""(from so many seconds on, seconds in the unit, unit)"""


def seconds(value: float | None) -> str:
    """A time as people read it, in three figures; - where it is not claimed."""
    if value is None or not math.isfinite(value):
        return "-"
    scaled, unit = next((value / size, unit) for least, size, unit in UNITS if value >= least)
    digits = max(0, 2 - math.floor(math.log10(scaled))) if scaled > 0 else 0
    return f"{scaled:.{min(digits, 3)}f} {unit}"
