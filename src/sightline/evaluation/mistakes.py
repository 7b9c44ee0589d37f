"""Kinds of error, and how much AP each one costs.

The definitions of TIDE (Bolya, Foley, Hays, Hoffman: A General Toolbox for Identifying Object Detection Errors, ECCV 2020) and
tidecv's arithmetic, on COCO's matching.

A class without objects does not count here, as in COCO's mean; tidecv takes its AP for 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.curves import Flags, average_precision
from sightline.evaluation.matching import MATCHLESS, NEAR, Matches, Pairs
from sightline.evaluation.results import Indices, Numbers

CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = KINDS = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "missed",
)

WHAT_IT_IS = {
    CLASSIFICATION: "the place is right, the class is not",
    LOCALISATION: "the class is right, the place is not quite",
    BOTH: "neither class nor place is right, and something is near",
    DUPLICATE: "the object had been found already",
    BACKGROUND: "nothing is there",
    MISSED: "an object that no detection comes near",
}

ADVICE = {
    CLASSIFICATION: "look at the confusions, and at labels of classes that are alike",
    LOCALISATION: "label tighter and more alike, train longer, or with larger pictures",
    BOTH: "look at these detections: parts or groups of objects are often labelled differently",
    DUPLICATE: "lower the overlap of non-maximum suppression (NMS_THRESH_TEST)",
    BACKGROUND: "look whether objects are unlabelled; add pictures without objects",
    MISSED: "look at size and class of what is missed; add such pictures, or enlarge them",
}


@dataclass(frozen=True, eq=False)
class Mistakes:
    """kind: (N,) index into KINDS of each false detection, or -1
    blamed:  (N,) the object that a wrong class, place or duplicate refers to, or -1
    missed:  (M,) objects that no detection comes near enough to be mended
    gains:   {kind: what AP at this overlap would gain if none of these errors were made}, 0 to 1
    perfect_precision, perfect_recall: what AP would gain without any false detection, and without anything unfound
    """

    kind: Indices
    blamed: Indices
    missed: Flags
    gains: Mapping[str, float]
    perfect_precision: float
    perfect_recall: float

    def counts(self) -> dict[str, int]:
        """How many errors there are of each kind."""
        found = {name: int((self.kind == number).sum()) for number, name in enumerate(KINDS)}
        return found | {MISSED: int(self.missed.sum())}

    def to_dict(self) -> dict[str, object]:
        counts = self.counts()
        kinds = {name: {"count": counts[name], "dAP": self.gains[name], "what": WHAT_IT_IS[name]} for name in KINDS}
        return {"kinds": kinds, "dAP_all_false": self.perfect_precision, "dAP_all_unfound": self.perfect_recall}


def find_mistakes(matches: Matches) -> Mistakes:
    """Every false detection and every miss by its kind, and the gains."""
    objects = matches.truth.objects
    pairs = matches.pairs.take(~matches.truth.crowd[matches.pairs.object])
    own_class = matches.label[pairs.found] == objects.label[pairs.object]
    found_already = matches.finder[pairs.object] != MATCHLESS
    same, same_iou = nearest(pairs.take(own_class), len(matches))
    other, other_iou = nearest(pairs.take(~own_class), len(matches))
    used, used_iou = nearest(pairs.take(own_class & found_already), len(matches))
    tests = (  # in TIDE's order: the first that holds
        (LOCALISATION, (same_iou >= NEAR) & (same_iou < matches.overlap), same),
        (CLASSIFICATION, other_iou >= matches.overlap, other),
        (DUPLICATE, used_iou >= matches.overlap, used),
        (BACKGROUND, np.maximum(same_iou, other_iou) <= NEAR, np.full(len(matches), MATCHLESS)),
        (BOTH, np.ones(len(matches), np.bool_), np.where(other_iou > same_iou, other, same)),
    )
    kind, blamed = np.full(len(matches), -1), np.full(len(matches), MATCHLESS)
    open_yet = matches.false.copy()
    for name, holds, thing in tests:
        now = open_yet & holds
        kind[now], blamed[now] = KINDS.index(name), thing[now]
        open_yet &= ~now
    mended = mending(matches, kind, blamed)
    missed = (matches.finder == MATCHLESS) & ~matches.truth.crowd
    missed[blamed[mended]] = False
    return Mistakes(kind, blamed, missed, *gains(matches, kind, blamed, mended, missed))


def nearest(pairs: Pairs, detections: int) -> tuple[Indices, Numbers]:
    """((N,) the object that each detection overlaps most, or -1; (N,) by how much, or 0)."""
    thing, iou = np.full(detections, MATCHLESS), np.zeros(detections)
    order = np.lexsort((-pairs.object, pairs.iou, pairs.found))  # the best comes last, and stays
    thing[pairs.found[order]], iou[pairs.found[order]] = pairs.object[order], pairs.iou[order]
    return thing, iou


def mending(matches: Matches, kind: Indices, blamed: Indices) -> Indices:
    """Detections that would be true with the right class or place: the best of each object that nothing found."""
    mendable = np.isin(kind, [KINDS.index(CLASSIFICATION), KINDS.index(LOCALISATION)])
    rows = np.flatnonzero(mendable & (blamed != MATCHLESS))
    rows = rows[matches.finder[blamed[rows]] == MATCHLESS]
    _, first = np.unique(blamed[rows], return_index=True)  # best score first
    best: Indices = rows[first]
    return best


def gains(
    matches: Matches, kind: Indices, blamed: Indices, mended: Indices, missed: Flags
) -> tuple[dict[str, float], float, float]:
    """({kind: gain}, gain without false detections, gain with all objects found); mean AP over the classes with objects."""
    objects, per_class = matches.truth.objects, matches.objects_per_class
    classes = per_class > 0
    before = mean_ap(matches.label, matches.true, ~matches.ignored, per_class, classes)
    is_mended = np.zeros(len(matches), np.bool_)
    is_mended[mended] = True
    gained = {}
    for number, name in enumerate(KINDS[:-1]):
        right = is_mended & (kind == number)
        label = np.where(right, objects.label[blamed] if len(objects) else 0, matches.label)
        keep = ~matches.ignored & ((kind != number) | right)
        gained[name] = mean_ap(label, matches.true | right, keep, per_class, classes) - before
    without_missed = per_class - np.bincount(objects.label[missed], minlength=len(per_class))
    gained[MISSED] = mean_ap(matches.label, matches.true, ~matches.ignored, without_missed, classes) - before
    found = np.bincount(matches.label[matches.true], minlength=len(per_class))
    no_false = mean_ap(matches.label, matches.true, matches.true, per_class, classes) - before
    all_found = mean_ap(matches.label, matches.true, ~matches.ignored, found, classes) - before
    return {name: max(gain, 0.0) for name, gain in gained.items()}, max(no_false, 0.0), max(all_found, 0.0)


def mean_ap(label: Indices, true: Flags, keep: Flags, objects: NDArray[np.intp], classes: Flags) -> float:
    """Mean AP over `classes` (K,). One with detections that has no object left counts 0, as in tidecv; 0 without any class."""
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(label[rows], kind="stable")]
    of_class = np.split(true[rows], np.cumsum(np.bincount(label[rows], minlength=len(objects)))[:-1]) if len(objects) else []
    values = []
    for flags, count, counts in zip(of_class, objects.tolist(), classes.tolist(), strict=True):
        if counts and (count or len(flags)):
            values.append(average_precision(flags, count) if count else 0.0)
    return float(np.mean(values)) if values else 0.0
