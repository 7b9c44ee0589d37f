"""Which class is taken for which: a matrix with a row and a column for the background.

Rows are labels, columns predictions. First every detection is matched within its class, as for all other numbers; then what is
left over, best score first, with the leftover object of another class that it overlaps most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.matching import MATCHLESS, Matches
from sightline.evaluation.results import Indices, Numbers

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Confusion:
    """names:  K classes and the background, the last
    counts:    (K + 1, K + 1); the last row: detections of nothing, the last column: objects without a detection
    threshold: detections of this score and above are looked at
    confused:  (N,) the object of another class that each detection was taken for, or -1
    """

    names: tuple[str, ...]
    counts: NDArray[np.intp]
    threshold: float
    confused: Indices

    @property
    def normalised(self) -> Numbers:
        """Each row divided by its sum: what becomes of the objects of a class. Rows without anything stay 0."""
        sums = self.counts.sum(axis=1, keepdims=True)
        shares: Numbers = self.counts / np.maximum(sums, 1)
        return shares

    def most(self, count: int = 10) -> list[dict[str, object]]:
        """The confusions of two classes that occur most."""
        between = self.counts[:-1, :-1].copy()
        np.fill_diagonal(between, 0)
        order = np.argsort(-between, axis=None, kind="stable")[:count]
        places = zip(*np.unravel_index(order, between.shape), strict=True) if between.size else ()
        return [
            {"label": self.names[row], "predicted": self.names[column], "count": int(between[row, column])}
            for row, column in places
            if between[row, column]
        ]

    def to_dict(self) -> dict[str, object]:
        return {
            "names": list(self.names),
            "threshold": self.threshold,
            "counts": self.counts.tolist(),
            "normalised": self.normalised.tolist(),
            "most": self.most(),
        }


def confusion(matches: Matches, threshold: float) -> Confusion:
    """The matrix of detections with a score of `threshold` or more."""
    truth = matches.truth
    classes = len(truth.categories)
    kept = matches.scores >= threshold
    found = np.zeros(len(truth.objects), np.bool_)
    found[matches.taken[matches.true & kept]] = True
    left = kept & matches.false
    pairs = matches.pairs
    near = left[pairs.found] & ~found[pairs.object] & ~truth.crowd[pairs.object] & (pairs.iou >= matches.overlap)
    pairs = pairs.take(near)
    confused = np.full(len(matches), MATCHLESS)
    order = np.lexsort((pairs.object, -pairs.iou, pairs.found))
    for row, thing in zip(pairs.found[order].tolist(), pairs.object[order].tolist(), strict=True):
        if confused[row] == MATCHLESS and not found[thing]:
            confused[row], found[thing] = thing, True
    counts = np.zeros((classes + 1, classes + 1), np.intp)
    true = matches.true & kept
    np.add.at(counts, (matches.label[true], matches.label[true]), 1)
    wrong = confused != MATCHLESS
    np.add.at(counts, (truth.objects.label[confused[wrong]], matches.label[wrong]), 1)
    np.add.at(counts[-1], matches.label[left & ~wrong], 1)
    np.add.at(counts[:, -1], truth.objects.label[~found & ~truth.crowd], 1)
    return Confusion((*truth.class_names, BACKGROUND), counts, threshold, confused)
