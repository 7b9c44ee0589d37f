"""How sure a score is: it is computed again and again on pictures drawn with replacement from the same set (the bootstrap).

A picture that is drawn twice counts twice; nothing is matched again, so a resample costs a few sums. Pictures are drawn and not
boxes, because boxes of one picture succeed and fail together.

B: resamples at once; I: pictures; K: classes; T: COCO's overlaps.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.curves import EPSILON, RECALLS
from sightline.evaluation.matching import MATCHLESS, THRESHOLDS, Matches
from sightline.evaluation.results import Indices, Numbers

CONFIDENCE = 0.95

NUMBERS_AT_ONCE = 4_000_000
"""Bounds the memory: resamples are taken in parts of so many numbers."""

METRICS = ("AP", "AP50", "AP75")

AT = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
"""Indices along T."""


@dataclass(frozen=True, eq=False)
class Interval:
    """A number with the range that it has, `confidence` of the time, on other pictures of the same kind; nan: undefined."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, float | None]:
        values = {"value": self.value, "low": self.low, "high": self.high, "confidence": self.confidence}
        return {name: None if math.isnan(value) else value for name, value in values.items()}


@dataclass(frozen=True, eq=False)
class Contributions:
    """What one class's detections and objects bring, by picture.

    image:   (N,) of the detections that count or are ignored at some overlap, best score first
    hits:    for each overlap the places in `image` of true detections
    ignored: for each overlap the places of those that do not count
    objects: (I,) how many are to be found in each picture
    """

    image: Indices
    hits: tuple[Indices, ...]
    ignored: tuple[Indices, ...]
    objects: Indices


def contributions(matches: Matches) -> list[Contributions]:
    """One a class."""
    truth = matches.truth
    hits = matches.hits(matches.at)
    ignored = (matches.at != MATCHLESS) & ~hits
    by_class = []
    for label in range(len(truth.categories)):
        rows = np.flatnonzero(matches.label == label)
        mine = (truth.objects.label == label) & ~truth.crowd
        by_class.append(
            Contributions(
                matches.image[rows],
                tuple(np.flatnonzero(at[rows]) for at in hits),
                tuple(np.flatnonzero(at[rows]) for at in ignored),
                np.bincount(truth.objects.image[mine], minlength=len(truth.image_ids)),
            )
        )
    return by_class


def draws(images: int, resamples: int, seed: int, at_once: int) -> Iterator[NDArray[np.intp]]:
    """(B, I) how often each picture is in each resample, in parts; the same for the same seed, whatever `at_once`."""
    rng = np.random.default_rng(seed)
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        yield np.stack([np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(count)])


def ap_of(one: Contributions, weights: NDArray[np.intp]) -> Numbers:
    """(B, T) AP of one class on resamples (B, I); nan where a resample has no object of it."""
    objects = weights @ one.objects  # (B,)
    cumulated = np.cumsum(weights[:, one.image], axis=1)  # (B, N) detections up to each place
    columns = [at_one_overlap(one, overlap, weights, objects, cumulated) for overlap in range(len(THRESHOLDS))]
    return np.stack(columns, axis=1)


def at_one_overlap(
    one: Contributions, overlap: int, weights: NDArray[np.intp], objects: Indices, cumulated: NDArray[np.intp]
) -> Numbers:
    """(B,) COCO's AP: only at a true detection can precision be the best from there on, so only those are looked at."""
    nothing = np.where(objects > 0, 0.0, math.nan)
    hits, ignored = one.hits[overlap], one.ignored[overlap]
    if not len(hits):
        return nothing
    seen = cumulated[:, hits]
    if len(ignored):
        cumulated_ignored = np.cumsum(weights[:, one.image[ignored]], axis=1)
        before = np.searchsorted(ignored, hits)
        seen = seen - np.where(before > 0, cumulated_ignored[:, np.maximum(before - 1, 0)], 0)
    found = np.cumsum(weights[:, one.image[hits]], axis=1)
    precision = found / (seen + EPSILON)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, found / np.maximum(objects, 1)[:, None], side="right")  # recalls up to each hit
    reached[found == 0] = 0
    steps = np.diff(reached, prepend=0, axis=1)
    total: Numbers = nothing + (best * steps).sum(axis=1) / len(RECALLS)
    return total


def resampled(matches: Matches, resamples: int, seed: int = 0) -> dict[str, Numbers]:
    """{"AP": (resamples,), "AP50": ..., "AP75": ..., "per_class": (resamples, K)}; nan where undefined."""
    by_class = contributions(matches)
    images = len(matches.truth.image_ids)
    widest = max([images, *(len(one.image) for one in by_class)], default=1)
    parts: list[Numbers] = []
    for weights in draws(images, resamples, seed, max(1, NUMBERS_AT_ONCE // max(widest, 1))) if images else ():
        parts.append(
            np.stack([ap_of(one, weights) for one in by_class], axis=1) if by_class else np.zeros((len(weights), 0, 10))
        )
    table = np.concatenate(parts) if parts else np.full((resamples, len(by_class), len(THRESHOLDS)), math.nan)
    return {
        **{name: mean_of_defined(table[:, :, where]) for name, where in AT.items()},
        "per_class": table.mean(axis=2),
    }


def mean_of_defined(table: Numbers) -> Numbers:
    """(B,) means of (B, K) or (B, K, T) without nan; nan where nothing else is there."""
    there, others = ~np.isnan(table), tuple(range(1, table.ndim))
    counts = there.sum(axis=others)
    sums = np.where(there, table, 0).sum(axis=others)
    means: Numbers = np.divide(sums, counts, out=np.full(len(table), math.nan), where=counts > 0)
    return means


def interval(value: float, samples: Numbers, confidence: float = CONFIDENCE) -> Interval:
    """The middle `confidence` of the samples, moved so that their mean is `value`.

    Moved, because AP grows when pictures are doubled (fewer different detections reach a recall), most where a class has few
    objects: what the samples tell is how far the number scatters.
    """
    defined = samples[~np.isnan(samples)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan, confidence)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2]) - defined.mean()
    return Interval(value, value + float(low), value + float(high), confidence)


def intervals(values: Mapping[str, float], samples: Mapping[str, Numbers]) -> dict[str, Interval]:
    """{"AP": ..., "AP50": ..., "AP75": ...} of scores and `resampled`; within 0 and 1."""
    return {name: within(interval(values[name], samples[name])) for name in METRICS}


def within(one: Interval) -> Interval:
    """The part of an interval that a score can be in."""
    return Interval(one.value, max(one.low, 0.0), min(one.high, 1.0), one.confidence) if not math.isnan(one.low) else one
