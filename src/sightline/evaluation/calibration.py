"""Whether scores can be read as probabilities: of detections with a score near 0.8, four in five should be true."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.curves import Flags
from sightline.evaluation.matching import Matches
from sightline.evaluation.results import Numbers

BINS = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """B bins of equal width over the scores from 0 to 1; the last one includes 1.

    counts:    (B,) detections
    scores:    (B,) their mean score; nan in an empty bin
    precision: (B,) how many of them are true; nan in an empty bin
    error:     ECE: the mean of |precision - score| over the bins, weighted with their counts; nan without detections
    worst:     MCE: the greatest of them
    """

    counts: NDArray[np.intp]
    scores: Numbers
    precision: Numbers
    error: float
    worst: float

    def to_dict(self) -> dict[str, object]:
        edges = np.linspace(0, 1, len(self.counts) + 1)
        bins = [
            {
                "from": float(edges[b]),
                "to": float(edges[b + 1]),
                "count": int(self.counts[b]),
                "score": float(self.scores[b]) if self.counts[b] else None,
                "precision": float(self.precision[b]) if self.counts[b] else None,
            }
            for b in range(len(self.counts))
        ]
        defined = not math.isnan(self.error)
        return {"ECE": self.error if defined else None, "MCE": self.worst if defined else None, "bins": bins}


def calibration(matches: Matches, bins: int = BINS) -> Calibration | None:
    """Of all detections but those in crowds; None where scores are not between 0 and 1 and so no probabilities."""
    counted = ~matches.ignored
    scores = matches.scores[counted]
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        return None
    return calibrated(scores, matches.true[counted], bins)


def calibrated(scores: Numbers, true: Flags, bins: int = BINS) -> Calibration:
    """scores, true: (N,)"""
    place = np.minimum((scores * bins).astype(np.intp), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan: an empty bin
        mean_score = np.bincount(place, scores, bins) / counts
        precision = np.bincount(place, true, bins) / counts
    off = np.abs(mean_score - precision)[counts > 0]
    if not len(off):
        return Calibration(counts, mean_score, precision, math.nan, math.nan)
    return Calibration(counts, mean_score, precision, float(np.average(off, weights=counts[counts > 0])), float(off.max()))
