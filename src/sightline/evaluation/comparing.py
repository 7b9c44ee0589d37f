"""Two models on the same pictures: paired differences with intervals, and the pictures where they disagree most.

Both are drawn from the same resamples: what makes a picture hard is hard for both, and drops out of the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sightline.errors import ConfigError
from sightline.evaluation.analysis import Analysis, Evaluation
from sightline.evaluation.coco import TITLES, shown
from sightline.evaluation.intervals import METRICS, Interval, interval
from sightline.evaluation.matching import Matches
from sightline.evaluation.results import Indices, Truth

NOISE, BETTER, WORSE, UNDEFINED, TOO_FEW = "noise", "better", "worse", "undefined", "too few pictures"

LEAST_PICTURES = 10
"""With objects; on fewer no verdict is given: resamples of a handful hold the same few again and again."""

PICTURES_SHOWN = 20

NOUNS = {"bbox": "boxes", "segm": "masks"}


@dataclass(frozen=True, eq=False)
class Difference:
    """second - first, with its interval; the verdict is on the second. pictures: how many have objects of it."""

    first: float
    second: float
    difference: Interval
    pictures: int

    @property
    def verdict(self) -> str:
        if np.isnan(self.difference.low):
            return UNDEFINED
        if self.pictures < LEAST_PICTURES:
            return TOO_FEW
        if self.difference.low > 0:
            return BETTER
        return WORSE if self.difference.high < 0 else NOISE

    def to_dict(self) -> dict[str, object]:
        values = {"first": self.first, "second": self.second}
        return {
            **{name: None if np.isnan(value) else value for name, value in values.items()},
            "difference": self.difference.to_dict(),
            "pictures": self.pictures,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One picture, each model at the threshold of its best F1.

    only_first, only_second: objects that one finds and the other does not
    false_first, false_second: false detections
    """

    image_id: int
    file_name: str
    only_first: int
    only_second: int
    false_first: int
    false_second: int

    @property
    def weight(self) -> int:
        return self.only_first + self.only_second + abs(self.false_first - self.false_second)

    def to_dict(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, eq=False)
class Comparison:
    """One kind, "bbox" or "segm": the second against the first. notes: on both, or on A or B, which they begin with."""

    kind: str
    names: tuple[str, str]
    metrics: Mapping[str, Difference]
    per_class: Mapping[str, Difference]
    pictures: tuple[Disagreement, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return {
            "first": self.names[0],
            "second": self.names[1],
            "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
            "per_class": {name: one.to_dict() for name, one in self.per_class.items()},
            "pictures": [one.to_dict() for one in self.pictures[:PICTURES_SHOWN]],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For people."""
        wide = max([len("class"), *map(len, self.per_class)])
        lines = [f"{TITLES[self.kind]}: B against A", f"  A: {self.names[0]}", f"  B: {self.names[1]}", ""]
        lines.append(f"  {'':<{wide}} {'A':>6} {'B':>6} {'B - A':>7}  {'interval (95 %)':<18} verdict on B")
        lines += [difference_line(name, one, wide) for name, one in self.metrics.items()]
        lines += ["", f"  AP of each class ({len(self.per_class)}; some differ by chance where there are many)"]
        lines += [difference_line(name, one, wide) for name, one in self.per_class.items()]
        shown_pictures = [one for one in self.pictures[:PICTURES_SHOWN] if one.weight]
        if shown_pictures:
            lines += ["", "  Pictures where they disagree most", "  found by A only, by B only, false of A, of B"]
        for one in shown_pictures:
            counts = f"{one.only_first:>6} {one.only_second:>6} {one.false_first:>6} {one.false_second:>6}"
            lines.append(f"  {counts}  {one.file_name or one.image_id}")
        return lines + ([""] if self.notes else []) + [f"  note: {note}" for note in self.notes]


def difference_line(name: str, one: Difference, wide: int) -> str:
    if np.isnan(one.difference.value):
        return f"  {name:<{wide}} {shown(one.first):>6} {shown(one.second):>6}"
    between = "-" if np.isnan(one.difference.low) else f"{one.difference.low:+.3f} to {one.difference.high:+.3f}"
    numbers = f"{shown(one.first):>6} {shown(one.second):>6} {one.difference.value:>+7.3f}  {between:<18}"
    return f"  {name:<{wide}} {numbers} {one.verdict}"


def compare(first: Evaluation, second: Evaluation) -> dict[str, Comparison]:
    """{kind: ...} for each kind that both have. Both must have been examined on one truth, with one seed and as many resamples.

    Raises:
        ConfigError: they have nothing in common, or not the same pictures.
    """
    kinds = [kind for kind in first.analyses if kind in second.analyses]
    if not kinds:
        has = " and ".join(f"{one.name} has {', '.join(one.scores)}" for one in (first, second))
        raise ConfigError("compare", f"nothing can be compared: {has}", "Give two models with boxes, or two with masks.")
    lacks = [
        f"{name} has no {NOUNS[kind]}: they are not compared"
        for name, one in (("A", first), ("B", second))
        for kind in NOUNS
        if kind not in one.analyses and (kind in first.analyses or kind in second.analyses)
    ]
    names = first.name, second.name
    compared = {kind: compare_kind(kind, names, first.analyses[kind], second.analyses[kind]) for kind in kinds}
    return {kind: replace(one, notes=(*lacks, *one.notes)) for kind, one in compared.items()}


def compare_kind(kind: str, names: tuple[str, str], first: Analysis, second: Analysis) -> Comparison:
    truth = first.matches.truth
    if not same(truth, second.matches.truth) or len(first.samples["AP"]) != len(second.samples["AP"]):
        fix = "Examine both against one truth, with one seed and as many resamples."
        raise ConfigError("compare", "the two were not measured on the same pictures", fix)
    mine, theirs = first.scores.numbers(), second.scores.numbers()
    objects = truth.objects.image[~truth.crowd]
    pictures = len(np.unique(objects))
    metrics = {}
    for name in METRICS:
        samples = second.samples[name] - first.samples[name]
        metrics[name] = Difference(mine[name], theirs[name], interval(theirs[name] - mine[name], samples), pictures)
    per_class = {}
    for label, name in enumerate(truth.class_names):
        samples = second.samples["per_class"][:, label] - first.samples["per_class"][:, label]
        one, other = first.scores.per_class[name], second.scores.per_class[name]
        of_class = len(np.unique(objects[truth.objects.label[~truth.crowd] == label]))
        per_class[name] = Difference(one, other, interval(other - one, samples), of_class)
    return Comparison(kind, names, metrics, per_class, disagreements(first, second), notes_of(first, second))


def same(one: Truth, other: Truth) -> bool:
    """Whether both tell of the same objects in the same pictures, as two evaluations of one part do that each read it."""
    if one is other:
        return True
    plain = [(truth.image_ids, truth.file_names, truth.categories, truth.objects.segmentations) for truth in (one, other)]
    numbers = [(truth.objects.image, truth.objects.label, truth.areas, truth.crowd) for truth in (one, other)]
    boxes = [np.zeros((0, 4)) if truth.objects.boxes is None else truth.objects.boxes for truth in (one, other)]
    return plain[0] == plain[1] and all(map(np.array_equal, (*numbers[0], boxes[0]), (*numbers[1], boxes[1])))


def notes_of(first: Analysis, second: Analysis) -> tuple[str, ...]:
    """What makes the numbers of both less than they seem, then those of one."""
    both = tuple(note for note in first.notes if note in second.notes)
    own = (f"{name}: {note}" for name, one in (("A", first), ("B", second)) for note in one.notes if note not in both)
    return (*both, *own)


def disagreements(first: Analysis, second: Analysis) -> tuple[Disagreement, ...]:
    """All pictures, those with the most differences first."""
    truth = first.matches.truth
    found = [found_at(one.matches, one.threshold) for one in (first, second)]
    false = [false_at(one.matches, one.threshold) for one in (first, second)]
    images = len(truth.image_ids)
    only_first = np.bincount(truth.objects.image[found[0] & ~found[1]], minlength=images)
    only_second = np.bincount(truth.objects.image[found[1] & ~found[0]], minlength=images)
    order = np.argsort(-(only_first + only_second + np.abs(false[0] - false[1])), kind="stable")
    return tuple(
        Disagreement(
            truth.image_ids[row],
            truth.file_names[row],
            int(only_first[row]),
            int(only_second[row]),
            int(false[0][row]),
            int(false[1][row]),
        )
        for row in order.tolist()
    )


def found_at(matches: Matches, threshold: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """(M,) objects that a detection of this score or more finds."""
    found = np.zeros(len(matches.truth.objects), np.bool_)
    found[matches.taken[matches.true & (matches.scores >= threshold)]] = True
    return found


def false_at(matches: Matches, threshold: float) -> Indices:
    """(I,) false detections of this score or more."""
    rows = matches.false & (matches.scores >= threshold)
    return np.bincount(matches.image[rows], minlength=len(matches.truth.image_ids))
