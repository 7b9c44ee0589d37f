"""How an evaluation is to be made: what people may ask for, checked once."""

from dataclasses import dataclass

from sightline.errors import ConfigError, Problem
from sightline.evaluation.curves import Wish
from sightline.evaluation.results import MOST

RESAMPLES = 1000
SEED = 0

UP_TO_10 = 10
"""The next smaller number of detections for which COCO tells the recall."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """overlap: intersection over union from which on an object is found, in (0, 1]; COCO's AP has its own ten
    wish:      what thresholds are chosen for, per class; None: none are
    resamples: for the intervals; 0: none
    seed:      of the resamples; equal seeds draw equal pictures
    most:      detections of a class in a picture that count, the best; COCO's AP has 100, SKU-110K's 300
    """

    overlap: float = 0.5
    wish: Wish | None = None
    resamples: int = RESAMPLES
    seed: int = SEED
    most: int = MOST

    @classmethod
    def asked(
        cls, *, overlap: float = 0.5, wish: str | None = None, resamples: int = RESAMPLES, most: int = MOST
    ) -> "Measuring":
        """From people's words.

        Raises:
            ConfigError: all that is wrong.
        """
        problems = []
        wished = None
        if not 0 < overlap <= 1:
            problems.append(Problem("--iou", f"is {overlap:g}", "Give an overlap above 0, up to 1; 0.5 is usual."))
        if most <= UP_TO_10:
            what = f"is {most}, and average recall with {UP_TO_10} is told anyway"
            problems.append(Problem("--max-detections", what, "Give more than 10; 100 is COCO's."))
        try:
            wished = None if wish is None else Wish.parse(wish)
        except ConfigError as error:
            problems.extend(error.problems)
        if problems:
            raise ConfigError.collected(problems)
        return cls(overlap, wished, resamples, most=most)


USUAL = Measuring()
