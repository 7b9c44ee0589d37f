"""All that one evaluation tells beyond COCO's numbers: per class, by score, by kind of error, and how sure it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sightline.evaluation.asked import USUAL, Measuring
from sightline.evaluation.calibration import Calibration, calibration
from sightline.evaluation.coco import TITLES, DetectionScores, Scores, or_none, score, shown, table, to_dict
from sightline.evaluation.confusion import Confusion, confusion
from sightline.evaluation.curves import Choice, Curve, Wish, choose, choose_thresholds, curve, macro, voc_average_precision
from sightline.evaluation.doubts import doubts
from sightline.evaluation.intervals import Interval, interval, intervals, resampled, within
from sightline.evaluation.listing import LISTED, false_detections, missed_objects
from sightline.evaluation.matching import Matches, match
from sightline.evaluation.mistakes import ADVICE, KINDS, MISSED, Mistakes, find_mistakes
from sightline.evaluation.results import Numbers, Results, Truth
from sightline.storage import write_json

NEXT_TO_NOTHING = 0.01
"""An AP below which a model has hardly learnt anything, whatever its errors are called."""
TOO_SHORT = "it may also have been trained for too few steps"

BEST_F1 = Wish("f1")


@dataclass(frozen=True, eq=False)
class ClassAnalysis:
    """One class.

    objects, detections: how many there are; crowds and what is found in them do not count
    AP, AP50:   COCO's, with the range that other pictures would give for AP
    voc07, voc: average precision at the chosen overlap, at 11 recalls and as the area below the curve
    best:       the threshold of the best F1, and what it reaches
    """

    name: str
    objects: int
    detections: int
    AP: Interval
    AP50: float
    voc07: float
    voc: float
    curve: Curve
    best: Choice

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "objects": self.objects,
            "detections": self.detections,
            "AP": or_none(self.AP.value),
            "AP_interval": self.AP.to_dict(),
            "AP50": or_none(self.AP50),
            "VOC07": or_none(self.voc07),
            "VOC": or_none(self.voc),
            "best": self.best.to_dict(),
            "curve": self.curve.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Analysis:
    """One kind of place, "bbox" or "segm", at one overlap.

    threshold:  of the best F1 of all classes together; what counts and confusions are told for
    samples:    AP and others on resampled pictures, for comparing
    chosen:     {class: threshold} for a wish, where there was one
    notes:      what makes these numbers less than they seem
    """

    matches: Matches
    scores: DetectionScores
    classes: tuple[ClassAnalysis, ...]
    micro: Curve
    best: Choice
    threshold: float
    confusion: Confusion
    mistakes: Mistakes
    calibration: Calibration | None
    intervals: Mapping[str, Interval]
    samples: Mapping[str, Numbers] = field(repr=False)
    wish: Wish | None = None
    chosen: Mapping[str, Choice] | None = None
    notes: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """One sentence on what costs most."""
        if not self.matches.objects_per_class.any():
            return "The labels have no object, so nothing can be measured. To do: look whether they are the right ones."
        if not self.matches.true.any():
            return (
                "No object is found. To do: look whether classes, scale of boxes and the model's threshold are right; "
                f"{TOO_SHORT}."
            )
        kind = max(KINDS, key=lambda name: self.mistakes.gains[name])
        gain, count = self.mistakes.gains[kind], self.mistakes.counts()[kind]
        if not gain > 0:
            return "No kind of error costs anything."
        many = "s" if count > 1 else ""
        what = f"object{many} that nothing comes near" if kind == MISSED else f"error{many} of {kind}"
        overlap = round(100 * self.matches.overlap)
        todo = f"{ADVICE[kind]}; {TOO_SHORT}" if self.scores.numbers().get("AP", 1.0) < NEXT_TO_NOTHING else ADVICE[kind]
        return f"Most is lost by {count:,} {what}: without them AP{overlap} would be {gain:.3f} higher. To do: {todo}."

    def counts(self) -> dict[str, int]:
        """Of all detections, whatever their score."""
        matches = self.matches
        return {
            "images": len(matches.truth.image_ids),
            "objects": int(matches.objects_per_class.sum()),
            "crowds": int(matches.truth.crowd.sum()),
            "detections": len(matches),
            "true": int(matches.true.sum()),
            "false": int(matches.false.sum()),
            "in_crowds": int(matches.ignored.sum()),
            "missed": int(matches.objects_per_class.sum() - matches.true.sum()),
            f"beyond_{matches.most}": matches.beyond,
        }

    def to_dict(self, listed: int = LISTED) -> dict[str, object]:
        """For JSON. listed: how many false detections, and how many misses, are told one by one."""
        values: dict[str, object] = {
            "iou": self.matches.overlap,
            "notes": list(self.notes),
            "advice": self.advice,
            "counts": self.counts(),
            "intervals": {name: one.to_dict() for name, one in self.intervals.items()},
            "classes": [one.to_dict() for one in self.classes],
            "micro": {"best": self.best.to_dict(), "curve": self.micro.to_dict()},
            "macro": macro({one.name: one.curve for one in self.classes}),
            "confusion": self.confusion.to_dict(),
            "errors": self.mistakes.to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "false": false_detections(self.matches, self.mistakes, self.confusion, listed),
            "missed": missed_objects(self.matches, self.mistakes, self.threshold, listed),
        }
        if self.chosen is not None:
            values["chosen"] = {"wish": str(self.wish), "classes": {name: one.to_dict() for name, one in self.chosen.items()}}
        return values

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{TITLES[self.matches.kind]}, 0 to 1; - where there was nothing to find", *Scores.lines(self.scores), ""]
        lines += [f"  {interval_text(name, one)}" for name, one in self.intervals.items() if not math.isnan(one.low)]
        lines += ["", *self.class_lines(), "", *self.mistake_lines()]
        if self.chosen:
            lines += ["", *self.threshold_lines()]
        return lines + ([""] if self.notes else []) + [f"  note: {note}" for note in self.notes]

    def class_lines(self) -> list[str]:
        """A line per class: its scores, and what the threshold of its best F1 reaches."""
        wide = max([len("class"), *(len(one.name) for one in self.classes)])
        names = ("AP", "AP50", "objects", "found", "false", "missed", "precis.", "recall", "F1", "at score")
        lines = [f"  Per class; what the score of the best F1 reaches at an overlap of {self.matches.overlap:g}"]
        lines.append(f"  {'class':<{wide}} " + " ".join(f"{name:>{max(6, len(name))}}" for name in names))
        for one in self.classes:
            reached = one.best.reached
            counts = [f"{one.objects:>7}"] + [f"{reached.get(name, '-'):>6}" for name in ("true", "false", "missed")]
            rates = [f"{number(reached.get(name)):>7}" for name in ("precision",)]
            rates += [f"{number(reached.get(name)):>6}" for name in ("recall", "f1")] + [f"{number(one.best.threshold):>8}"]
            why = f"  {one.best.why_none}" if one.best.why_none else ""
            scores = [f"{shown(one.AP.value):>6}", f"{shown(one.AP50):>6}"]
            lines.append(f"  {one.name:<{wide}} " + " ".join([*scores, *counts, *rates]) + why)
        return lines

    def threshold_lines(self) -> list[str]:
        """The chosen thresholds; nothing where none were wished for."""
        return [] if self.chosen is None or self.wish is None else chosen_lines(self.chosen, self.wish, self.matches.overlap)

    def mistake_lines(self) -> list[str]:
        """The kinds of error, the costliest first, and what to do."""
        counts = self.mistakes.counts()
        overlap = round(100 * self.matches.overlap)
        lines = [f"  {'kind of error':<14} {'count':>7} {f'costs AP{overlap}':>10}"]
        for kind in sorted(KINDS, key=lambda name: -self.mistakes.gains[name]):
            lines.append(f"  {kind:<14} {counts[kind]:>7} {self.mistakes.gains[kind]:>10.3f}")
        return [*lines, "", f"  {self.advice}"]


def number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def interval_text(name: str, one: Interval) -> str:
    """ "AP 0.512, on other such pictures 0.480 to 0.544 (95 %)" """
    return f"{name} {one.value:.3f}, on other such pictures {one.low:.3f} to {one.high:.3f} ({one.confidence:.0%})"


def chosen_lines(chosen: Mapping[str, Choice], wish: Wish, overlap: float) -> list[str]:
    """A table of thresholds."""
    wide = max([len("class"), *map(len, chosen)])
    lines = [f"  Thresholds for {wish}, at an overlap of {overlap:g}"]
    lines.append(f"  {'class':<{wide}} {'score':>8} {'precis.':>7} {'recall':>6} {'F1':>6}")
    for name, one in chosen.items():
        values = [f"{number(one.threshold):>8}", f"{number(one.reached.get('precision')):>7}"]
        values += [f"{number(one.reached.get(key)):>6}" for key in ("recall", "f1")]
        lines.append(f"  {name:<{wide}} {' '.join(values)}" + (f"  {one.why_none}" if one.why_none else ""))
    return lines


def analyse(
    truth: Truth,
    results: Results,
    kind: str,
    scores: DetectionScores,
    measuring: Measuring = USUAL,
) -> Analysis:
    """The analysis of one kind, "bbox" or "segm"; `scores` are those of `coco.score`."""
    matches = match(truth, results, kind, measuring.overlap, measuring.most)
    samples = resampled(matches, measuring.resamples, measuring.seed)
    micro = curve(matches)
    best = choose(micro, BEST_F1)
    threshold = best.threshold if best.threshold is not None else float(matches.scores.max(initial=0.0))
    return Analysis(
        matches=matches,
        scores=scores,
        classes=tuple(analyse_class(matches, label, scores, samples) for label in range(len(truth.categories))),
        micro=micro,
        best=best,
        threshold=threshold,
        confusion=confusion(matches, threshold),
        mistakes=find_mistakes(matches),
        calibration=calibration(matches),
        intervals=intervals(scores.numbers(), samples),
        samples=samples,
        wish=measuring.wish,
        chosen=None if measuring.wish is None else choose_thresholds(matches, measuring.wish),
        notes=(*results.notes, *doubts(matches)),
    )


def analyse_class(matches: Matches, label: int, scores: DetectionScores, samples: Mapping[str, Numbers]) -> ClassAnalysis:
    name = matches.truth.categories[label].name
    mine = (matches.label == label) & ~matches.ignored
    objects = int(matches.objects_per_class[label])
    voc07, voc = voc_average_precision(matches.true[mine], objects)
    own = curve(matches, label)
    return ClassAnalysis(
        name=name,
        objects=objects,
        detections=int(np.count_nonzero(mine)),
        AP=within(interval(scores.per_class[name], samples["per_class"][:, label])),
        AP50=scores.AP50_per_class[name],
        voc07=voc07,
        voc=voc,
        curve=own,
        best=choose(own, BEST_F1),
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of one model or results file.

    name:     of what was measured
    scores:   {"bbox": ..., "segm": ...}, or {"box_proposals": ...}
    analyses: the same keys; none of proposals
    """

    name: str
    scores: Mapping[str, Scores]
    analyses: Mapping[str, Analysis]

    def to_dict(self, listed: int = LISTED) -> dict[str, dict[str, object]]:
        """{"bbox": {"AP": ..., "per_class": {...}, "analysis": {...}}}, ready for JSON."""
        values: dict[str, dict[str, object]] = {}
        for kind, of_kind in self.scores.items():
            more = {"analysis": self.analyses[kind].to_dict(listed)} if kind in self.analyses else {}
            values[kind] = {**of_kind.to_dict(), **more}
        return values

    def text(self) -> str:
        """For people: one block per kind."""
        if not self.analyses:
            return table(self.scores)
        return "\n\n".join("\n".join(one.lines()) for one in self.analyses.values())


def examine(truth: Truth, results: Results, measuring: Measuring = USUAL) -> Evaluation:
    """COCO's scores and the analysis of each kind that the results have a place for.

    Raises:
        LabelError: damaged masks, or masks without labelled ones.
    """
    scores = score(truth, results, measuring.most)
    analyses = {kind: analyse(truth, results, kind, of_kind, measuring) for kind, of_kind in scores.items()}
    return Evaluation(results.name, scores, analyses)


SCORES, ANALYSIS = "scores.json", "analysis.json"
"""What an evaluation leaves in a folder: the contract's numbers, and all."""


def write(evaluation: Evaluation, folder: Path, listed: int = LISTED) -> None:
    """scores.json, and analysis.json where there is an analysis."""
    write_json(folder / SCORES, to_dict(evaluation.scores), indent=1)
    if evaluation.analyses:
        write_json(folder / ANALYSIS, evaluation.to_dict(listed))
