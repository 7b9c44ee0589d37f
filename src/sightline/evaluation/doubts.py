"""What makes numbers less than they seem: said beside them, because nothing in the numbers shows it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sightline.evaluation.matching import Matches

NAMED = 5
"""Classes that a note lists by name."""

FEW_IMAGES = 50
FEW_OBJECTS = 10

OUTSIDE = 0.05
"""Share of boxes outside their picture from which on the results look like those of other pictures."""

FAR, REACHING = 1.1, 0.2
"""Boxes that end beyond so many times their picture's sides, and the share of them from which on all look like corners."""

MOST = 0.5
"""Share of the pictures with objects that, without any detection, look like pictures that were never predicted."""


def doubts(matches: Matches) -> tuple[str, ...]:
    """The notes, the most serious first."""
    found = (
        outside(matches),
        tiny(matches),
        equal_scores(matches),
        strange_scores(matches),
        *about_classes(matches),
        without_detections(matches),
        few(matches),
        surplus(matches),
        repeated(matches),
    )
    return tuple(note for note in found if note)


def outside(matches: Matches) -> str:
    """Boxes that lie outside their pictures: scaled, in another order of numbers, or of other pictures."""
    known = np.array([size is not None for size in matches.truth.sizes], np.bool_)
    if matches.boxes is None or not known.any() or not len(matches):
        return ""
    sizes = np.array([(size.width, size.height) if size else (0, 0) for size in matches.truth.sizes])[matches.image]
    away = (matches.boxes[:, :2] >= sizes).any(axis=1) | (matches.boxes[:, :2] + matches.boxes[:, 2:] <= 0).any(axis=1)
    away &= known[matches.image]
    share = float(away.mean())
    if share >= OUTSIDE:
        return f"{share:.0%} of the detections lie outside their pictures: are these results of another data set, or scale?"
    reaching = (matches.boxes[:, :2] + matches.boxes[:, 2:] > FAR * sizes).any(axis=1) & known[matches.image]
    share = float(reaching.mean())
    if share < REACHING:
        return ""
    return f"{share:.0%} of the boxes reach beyond their pictures: are they corners? Give [left, top, width, height]"


def tiny(matches: Matches) -> str:
    """No box is larger than a pixel: shares of the picture's sides."""
    if matches.boxes is None or not len(matches) or matches.boxes[:, 2:].max() > 1:
        return ""
    return "no detected box is larger than 1 px: are they shares of the picture? Boxes are in pixels"


def equal_scores(matches: Matches) -> str:
    """Scores that order nothing, as of tools that give none."""
    if len(matches) < FEW_OBJECTS or matches.scores.min() < matches.scores.max():
        return ""
    return f"all {len(matches):,} scores are {matches.scores[0]:g}: average precision is that of the order in the file"


def strange_scores(matches: Matches) -> str:
    """Scores that are no probabilities: the order is all that COCO's numbers need, calibration needs more."""
    strange = int(((matches.scores < 0) | (matches.scores > 1)).sum())
    if not strange:
        return ""
    low, high = float(matches.scores.min()), float(matches.scores.max())
    return f"{strange:,} scores are outside 0 to 1 ({low:g} to {high:g}): average precision is right, calibration is left out"


def about_classes(matches: Matches) -> list[str]:
    """Classes without objects, and objects of classes that are never detected."""
    names = matches.truth.class_names
    objects = matches.objects_per_class
    detected = np.bincount(matches.label, minlength=len(names))
    absent = [name for name, there in zip(names, objects, strict=True) if not there]
    invented = [name for name, there, seen in zip(names, objects, detected, strict=True) if not there and seen]
    unseen = [name for name, there, seen in zip(names, objects, detected, strict=True) if there and not seen]
    notes = []
    if absent:
        notes.append(f"the labels have no object of {listed(absent)}: these classes do not count in any mean")
    if invented:
        notes.append(f"there are detections of {listed(invented)} without a single object: they lower no AP")
    if unseen and len(matches):
        notes.append(f"nothing was detected of {listed(unseen)}: AP 0. Are the classes the same?")
    if not len(matches):
        nothing = "there are no detections at all: every AP is 0"
        notes.append(nothing if objects.any() else "there are neither objects nor detections: no AP is defined")
    return notes


def without_detections(matches: Matches) -> str:
    """Most pictures with objects have not one detection of any score: as when the results are of a part of them."""
    truth = matches.truth
    labelled = np.unique(truth.objects.image[~truth.crowd])
    empty = len(np.setdiff1d(labelled, matches.image))
    if not len(matches) or empty < MOST * len(labelled):
        return ""
    return f"{empty:,} of {len(labelled):,} pictures with objects have no detection: are these results of a part of them?"


def few(matches: Matches) -> str:
    """Sets that are too small for a verdict."""
    images = len(matches.truth.image_ids)
    rare = [
        name
        for name, count in zip(matches.truth.class_names, matches.objects_per_class, strict=True)
        if 0 < count < FEW_OBJECTS
    ]
    if images < FEW_IMAGES:
        return f"{images} {'picture is' if images == 1 else 'pictures are'} few: the intervals are rough"
    return f"fewer than {FEW_OBJECTS} objects of {listed(rare)}: their numbers are rough" if rare else ""


def surplus(matches: Matches) -> str:
    if not matches.beyond:
        return ""
    return f"{matches.beyond:,} detections do not count: they are beyond {matches.most} of a class in a picture"


def repeated(matches: Matches) -> str:
    """Annotation ids with which pycocotools counts wrong; here they do not matter."""
    counts = Counter(identity for identity in matches.truth.ids if type(identity) is int)
    twice = sum(count > 1 for count in counts.values())
    faults = [f"{twice:,} annotation ids occur twice"] if twice else []
    faults += ["an annotation has the id 0"] if counts[0] else []
    return f"{' and '.join(faults)}: pycocotools' numbers are wrong then, these are not" if faults else ""


def listed(names: Sequence[str]) -> str:
    """ "'bee', 'wasp' and 3 more" """
    text = ", ".join(repr(name) for name in names[:NAMED])
    return f"{text} and {len(names) - NAMED} more" if len(names) > NAMED else text
