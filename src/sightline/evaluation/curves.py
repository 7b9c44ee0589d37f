"""Precision, recall and F1 over every score threshold, average precision as COCO and VOC count it, the choice of thresholds.

N: detections, best score first; P: points of a curve, one for each different score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ConfigError
from sightline.evaluation.matching import Matches
from sightline.evaluation.results import Numbers

Flags = NDArray[np.bool_]

EPSILON = float(np.spacing(1))
"""What pycocotools adds to the number of detections before it divides by it."""

RECALLS: Numbers = np.linspace(0, 1, 101)
"""COCO's; those of VOC 2007 are every tenth."""

POINTS_SHOWN = 200
"""Of a curve in JSON, spread evenly over its detections: a page needs no more."""

WISHES = ("f1", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Curve:
    """What is reached when detections count from a score on, the points from the highest score to the lowest.

    thresholds: (P,) different scores, descending
    true, false: (P,) detections that are kept
    objects:    how many are to be found
    """

    thresholds: Numbers
    true: NDArray[np.intp]
    false: NDArray[np.intp]
    objects: int

    @property
    def precision(self) -> Numbers:
        """(P,) of what is kept, how much is true."""
        return self.true / (self.true + self.false)

    @property
    def recall(self) -> Numbers:
        """(P,) of what is to be found, how much is; nan where there is nothing."""
        return self.true / self.objects if self.objects else np.full(len(self.true), math.nan)

    @property
    def f1(self) -> Numbers:
        """(P,) harmonic mean of both: 2 true / (kept + objects)."""
        return 2 * self.true / (self.true + self.false + self.objects)

    def at(self, point: int) -> dict[str, float | int | None]:
        """The numbers of one point."""
        true, false = int(self.true[point]), int(self.false[point])
        return {
            "threshold": float(self.thresholds[point]),
            "precision": float(self.precision[point]),
            "recall": float(self.recall[point]) if self.objects else None,
            "f1": float(self.f1[point]),
            "true": true,
            "false": false,
            "missed": self.objects - true,
        }

    def to_dict(self) -> dict[str, list[float | None]]:
        """At most POINTS_SHOWN points, with the first, the last, and the one of the best F1."""
        if not len(self.thresholds):
            return {"threshold": [], "precision": [], "recall": [], "f1": []}
        spread = np.linspace(0, len(self.thresholds) - 1, POINTS_SHOWN).round().astype(np.intp)
        points = np.unique(np.append(spread, np.argmax(self.f1)))
        recall: list[float | None] = self.recall[points].tolist() if self.objects else [None] * len(points)
        return {
            "threshold": self.thresholds[points].tolist(),
            "precision": self.precision[points].tolist(),
            "recall": recall,
            "f1": self.f1[points].tolist(),
        }


def curve(matches: Matches, label: int | None = None) -> Curve:
    """The curve of one class; of all classes taken together (micro) without `label`."""
    counted = ~matches.ignored if label is None else ~matches.ignored & (matches.label == label)
    scores, true = matches.scores[counted], matches.true[counted]
    ends = np.flatnonzero(np.diff(scores, append=-math.inf))  # the last of those with the same score
    objects = matches.objects_per_class.sum() if label is None else matches.objects_per_class[label]
    found = np.cumsum(true)[ends] if len(ends) else np.zeros(0, np.intp)
    return Curve(scores[ends], found, ends + 1 - found, int(objects))


def average_precision(true: Flags, objects: int) -> float:
    """COCO's, at one overlap: precision at 101 recalls. true: (N,) without ignored ones; nan where nothing is to be found."""
    return at_recalls(true, objects, RECALLS)


def voc_average_precision(true: Flags, objects: int) -> tuple[float, float]:
    """(at 11 recalls, as VOC 2007; the area below the curve, as VOC from 2010 on); nan where nothing is to be found."""
    if not objects:
        return math.nan, math.nan
    found = np.cumsum(true)
    precision = envelope(found / np.arange(1, len(true) + 1))
    gained = np.diff(found / objects, prepend=0.0)
    return at_recalls(true, objects, RECALLS[::10]), float(np.sum(gained * precision))


def at_recalls(true: Flags, objects: int, recalls: Numbers) -> float:
    """The mean of the best precision from each recall on."""
    if not objects:
        return math.nan
    found = np.cumsum(true)
    precision = np.append(envelope(found / (np.arange(1, len(true) + 1) + EPSILON)), 0.0)
    return float(np.mean(precision[np.searchsorted(found / objects, recalls, side="left")]))


def envelope(precision: Numbers) -> Numbers:
    """(N,) the best precision from each place on."""
    best: Numbers = np.maximum.accumulate(precision[::-1])[::-1]
    return best


def macro(curves: Mapping[str, Curve]) -> dict[str, list[float | None]]:
    """Precision, recall and F1 at 101 thresholds, means over classes with objects (precision: over those that keep any)."""
    defined = [one for one in curves.values() if one.objects]
    all_scores = np.concatenate([one.thresholds for one in defined]) if defined else np.zeros(0)
    thresholds = np.linspace(all_scores.min(initial=0.0), all_scores.max(initial=1.0), 101)
    columns: dict[str, list[Numbers]] = {"precision": [], "recall": [], "f1": []}
    for one in defined:
        kept = np.searchsorted(-one.thresholds, -thresholds, side="right") - 1  # the last point with a score that high
        for name, column in columns.items():
            nothing = math.nan if name == "precision" else 0.0
            column.append(np.where(kept < 0, nothing, np.append(getattr(one, name), nothing)[kept]))
    means: dict[str, list[float | None]] = {"threshold": thresholds.tolist()}
    for name, column in columns.items():
        table = np.array(column).reshape(len(defined), len(thresholds))
        there = ~np.isnan(table)
        sums, counts = np.where(there, table, 0).sum(axis=0), there.sum(axis=0)
        means[name] = [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
    return means


@dataclass(frozen=True, slots=True)
class Wish:
    """What a threshold is to reach: the best F1, or a precision or a recall of `least` at least."""

    name: str = "f1"
    least: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Wish":
        """ "f1", "precision=0.9" or "recall=0.8".

        Raises:
            ConfigError: anything else.
        """
        name, equals, number = text.partition("=")
        fix = "Ask for f1, precision=0.9 or recall=0.8."
        if name not in WISHES or (name == "f1") == bool(equals):
            raise ConfigError("--choose", f"is {text!r}", fix)
        try:
            least = float(number) if equals else 0.0
        except ValueError:
            raise ConfigError("--choose", f"is {text!r}", fix) from None
        if not 0 <= least <= 1 or (equals and least == 0):
            raise ConfigError("--choose", f"demands a {name} of {number}, which is not in (0, 1]", fix)
        return cls(name, least)

    def __str__(self) -> str:
        return self.name if self.name == "f1" else f"{self.name}={self.least:g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The threshold of one class and what it reaches; or why there is none.

    reached: precision, recall, f1 and counts when detections of that score and above are kept
    """

    threshold: float | None
    reached: Mapping[str, float | int | None]
    why_none: str = ""

    def to_dict(self) -> dict[str, object]:
        return {"threshold": self.threshold, **self.reached, **({"why_none": self.why_none} if self.why_none else {})}


def choose(one: Curve, wish: Wish) -> Choice:
    """The threshold that does what is wished and gives the least away.

    f1: the best, at the highest threshold of several. precision: of those that reach it, the one that finds most. recall: the
    highest that reaches it.
    """
    if not one.objects:
        return Choice(None, {}, "the labels have no object of this class")
    if not len(one.thresholds):
        return Choice(None, {}, "nothing of this class was detected")
    if wish.name == "f1":
        point = int(np.argmax(one.f1))
        return Choice(None, {}, "no detection of this class is true") if one.f1[point] == 0 else choice_at(one, point)
    reached = np.flatnonzero((one.precision if wish.name == "precision" else one.recall) >= wish.least)
    if not len(reached):
        values = one.precision if wish.name == "precision" else one.recall
        return Choice(None, {}, f"no threshold reaches it; the best {wish.name} is {values.max():.3f}")
    if wish.name == "recall":
        return choice_at(one, int(reached[0]))
    return choice_at(one, int(reached[one.true[reached] == one.true[reached].max()][0]))


def choice_at(one: Curve, point: int) -> Choice:
    return Choice(float(one.thresholds[point]), one.at(point))


def choose_thresholds(matches: Matches, wish: Wish) -> dict[str, Choice]:
    """{class name: the best threshold}, in the order of the categories."""
    return {name: choose(curve(matches, label), wish) for label, name in enumerate(matches.truth.class_names)}
