"""False detections and misses one by one, as plain dictionaries for JSON and for pictures."""

import math
from collections.abc import Mapping

import numpy as np

from sightline.evaluation.confusion import Confusion
from sightline.evaluation.matching import MATCHLESS, Matches
from sightline.evaluation.mistakes import KINDS, Mistakes
from sightline.evaluation.results import Numbers, Placed

LISTED = 2000
"""Of each list, unless more are asked for; counts are always of all."""

Entry = dict[str, object]


def box_of(boxes: Numbers | None, row: int) -> list[float] | None:
    """[left, top, width, height]"""
    return None if boxes is None else [float(side) for side in boxes[row]]


def image_of(matches: Matches, image: int) -> Entry:
    """Which picture it is."""
    return {"image_id": matches.truth.image_ids[image], "file_name": matches.truth.file_names[image]}


def object_of(matches: Matches, thing: int) -> Entry | None:
    """A labelled object: its annotation's id and place in the file, class and box."""
    if thing == MATCHLESS:
        return None
    objects: Placed = matches.truth.objects
    return {
        "annotation": int(thing),
        "id": matches.truth.ids[thing],
        "class": matches.truth.class_names[objects.label[thing]],
        "box": box_of(objects.boxes, thing),
    }


def detection_of(matches: Matches, row: int) -> Entry:
    """A detection: its place in the results, class, score, box, and overlap with its object (or the nearest of its class)."""
    return {
        **image_of(matches, int(matches.image[row])),
        "result": int(matches.rows[row]),
        "class": matches.truth.class_names[matches.label[row]],
        "score": float(matches.scores[row]),
        "box": box_of(matches.boxes, row),
        "iou": float(matches.iou[row]),
    }


def false_detections(matches: Matches, mistakes: Mistakes, confused: Confusion, listed: int = LISTED) -> Entry:
    """{"count": all, "listed": [best score first, each with its kind of error and the object that it is about]}"""
    rows = np.flatnonzero(matches.false)
    entries = []
    for row in rows[:listed].tolist():
        about = int(mistakes.blamed[row])
        entry = detection_of(matches, row) | {"kind": KINDS[mistakes.kind[row]], "object": object_of(matches, about)}
        if confused.confused[row] != MATCHLESS:
            entry["confused_with"] = object_of(matches, int(confused.confused[row]))
        entries.append(entry)
    return {"count": len(rows), "listed": entries}


def missed_objects(matches: Matches, mistakes: Mistakes, threshold: float, listed: int = LISTED) -> Entry:
    """{"count": ..., "listed": [largest first]} of objects that no detection with a score of `threshold` or more finds.

    found_below: the score of the detection that finds it, where there is one; nothing_near: nor could one be mended to find it
    """
    finder = matches.finder
    scores = np.append(matches.scores, -math.inf)[finder]  # the last, at -1: nothing found it
    rows = np.flatnonzero(~matches.truth.crowd & (scores < threshold))
    rows = rows[np.argsort(-matches.truth.areas[rows], kind="stable")]
    entries = []
    for thing in rows[:listed].tolist():
        found: Mapping[str, object] = object_of(matches, thing) or {}
        entries.append(
            {
                **image_of(matches, int(matches.truth.objects.image[thing])),
                **found,
                "area": float(matches.truth.areas[thing]),
                "found_below": None if finder[thing] == MATCHLESS else float(matches.scores[finder[thing]]),
                "nothing_near": bool(mistakes.missed[thing]),
            }
        )
    return {"count": len(rows), "threshold": threshold, "listed": entries}


def found_objects(matches: Matches, listed: int = LISTED) -> Entry:
    """{"count": ..., "listed": [best score first, each with its object]} of true detections."""
    rows = np.flatnonzero(matches.true)
    entries = [
        detection_of(matches, row) | {"object": object_of(matches, int(matches.taken[row]))} for row in rows[:listed].tolist()
    ]
    return {"count": len(rows), "listed": entries}
