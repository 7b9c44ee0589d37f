"""What int8 costs and gains: agreement with float32, average precision where there are labels, and time.

N: detections of one picture.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.dataset.folder import DatasetPart
from sightline.errors import RunError
from sightline.evaluation.coco import Scores, evaluate_detections
from sightline.evaluation.predicting import detect_all
from sightline.evaluation.proposals import evaluate_proposals
from sightline.geometry.boxes import pairwise_iou
from sightline.images import read_image
from sightline.processors import usual_threads
from sightline.records import Detections, ImageSize, Model
from sightline.runtimes import onnxruntime
from sightline.runtimes.graph import parse_told
from sightline.runtimes.predictor import GraphPredictor

COMPARED = 16
"""Calibration pictures that both graphs look at."""
OVERLAP = 0.5
"""From which two boxes are of the same object: int8 moves boxes, a little."""
LEAST_AGREEMENT = 0.5
"""Less has hardly anything to do with the model: a layer whose range is wrong gives about nothing."""
TIMES = 5


@dataclass(frozen=True, slots=True)
class ApCost:
    """fp32, int8: {kind: AP in [0, 1]} (proposals: AR at 100) on a part of a data set, None where nothing could be measured"""

    data: str
    split: str
    pictures: int
    number: str
    fp32: Mapping[str, float | None]
    int8: Mapping[str, float | None]

    def facts(self) -> dict[str, object]:
        """For the meta-data; `lost` is fp32 less int8, negative where int8 is better."""
        lost = {kind: None if a is None or b is None else round(a - b, 6) for kind, (a, b) in self.pairs().items()}
        return {
            "data": Path(self.data).name,
            "split": self.split,
            "pictures": self.pictures,
            "number": self.number,
            "fp32": dict(self.fp32),
            "int8": dict(self.int8),
            "lost": lost,
        }

    def pairs(self) -> dict[str, tuple[float | None, float | None]]:
        return {kind: (value, self.int8.get(kind)) for kind, value in self.fp32.items()}

    def text(self) -> str:
        told = []
        for kind, (fp32, int8) in self.pairs().items():
            if fp32 is None or int8 is None:
                told.append(f"{kind} {self.number} is undefined")
            else:
                told.append(
                    f"{kind} {self.number} {100 * fp32:.2f} in fp32, {100 * int8:.2f} in int8 ({100 * (int8 - fp32):+.2f})"
                )
        return f"on {self.data} {self.split}, {self.pictures} pictures: {'; '.join(told)}"


@dataclass(frozen=True, slots=True)
class Int8:
    """What became of a model in int8.

    calibrated_on:  pictures
    compared_on:    of them, those that both graphs looked at
    agreement:      of all detections of both, weighted by score, the share that the other has too
    fp32_s, int8_s: processor time of one picture here, the least of several in turn
    ap_cost:        None: no labels were given
    """

    calibrated_on: int
    compared_on: int
    agreement: float
    fp32_s: float
    int8_s: float
    ap_cost: ApCost | None = None

    def facts(self) -> dict[str, object]:
        """For the meta-data; the time belongs to this machine, and is left out."""
        facts: dict[str, object] = {
            "int8": {
                "calibrated_on": self.calibrated_on,
                "compared_on": self.compared_on,
                "agreement": round(self.agreement, 4),
            }
        }
        return facts if self.ap_cost is None else {**facts, "ap_cost": self.ap_cost.facts()}

    def text(self) -> str:
        cost = (
            "its AP cost is not known: --data gives it labels; the agreement is with fp32, not with the truth"
            if self.ap_cost is None
            else self.ap_cost.text()
        )
        return (
            f"int8, calibrated on {self.calibrated_on} pictures: {self.agreement:.1%} of the detections agree with fp32 "
            f"(by score, on {self.compared_on} of the pictures)\n{cost}\n"
            f"a picture takes {self.fp32_s:.3f} s of processor time in fp32, {self.int8_s:.3f} s in int8, on this machine"
        )


def predictor_of(content: bytes, facts: Mapping[str, object], where: str) -> GraphPredictor:
    """An exported file as it will be served on a CPU."""
    told = parse_told(json.dumps(facts), where)
    running = onnxruntime.start(content, where, device="cpu", threads=usual_threads(os.environ))
    return GraphPredictor(running, told, where, score_threshold=told.score_threshold, classes=len(told.classes))


def agreeing(one: Detections, other: Detections) -> tuple[float, float]:
    """(sum of the scores of detections that both have, sum of all scores of both)."""
    fits = pairwise_iou(one.boxes.astype(np.float64), other.boxes.astype(np.float64)) >= OVERLAP
    fits &= one.labels[:, None] == other.labels[None]  # (N, N')
    both = 0.0
    for row, score in enumerate(one.scores.tolist()):
        if fits[row].any():
            column = int(fits[row].argmax())  # the best score: detections are sorted
            fits[:, column] = False
            both += score + float(other.scores[column])
    return both, float(one.scores.sum(dtype=np.float64) + other.scores.sum(dtype=np.float64))


def agreement(plain: GraphPredictor, small: GraphPredictor, files: Sequence[Path]) -> float:
    """How much of what either finds the other finds, 0 to 1.

    Raises:
        RunError: nothing is found to compare, or hardly anything agrees.
    """
    sums = np.zeros(2)
    for file in files:
        image = read_image(file)
        sums += agreeing(*plain([image]), *small([image]))
    if not sums[1]:
        raise RunError(
            "calibration",
            f"neither fp32 nor int8 finds anything on {len(files)} of the pictures, so nothing tells whether int8 is right",
            "Nothing was written. Give pictures that show what the model finds.",
        )
    share = float(sums[0] / sums[1])
    if share < LEAST_AGREEMENT:
        raise RunError(
            "int8",
            f"has hardly anything to do with fp32: {share:.1%} of the detections agree, on {len(files)} pictures",
            "Nothing was written. Calibrate on more pictures, like those to be predicted, or export it without --int8.",
        )
    return share


def seconds(plain: GraphPredictor, small: GraphPredictor, file: Path) -> tuple[float, float]:
    """Processor time of one picture in each, in turn."""
    image = read_image(file)
    resized, size = plain.resized(image), ImageSize(*image.shape[:2])
    least = [float("inf"), float("inf")]
    for _ in range(TIMES):
        for number, predictor in enumerate((plain, small)):
            began = time.process_time()
            predictor.found([resized], [size])
            least[number] = min(least[number], time.process_time() - began)
    return least[0], least[1]


def ap_cost(plain: GraphPredictor, small: GraphPredictor, part: DatasetPart, data: str, split: str) -> ApCost:
    """The same numbers of both on a part of a data set; errors as `detect_all`."""
    proposes = plain.told.proposes
    measured = []
    for predictor in (plain, small):
        model = Model(predictor, plain.told.classes, predictor.where, proposes=proposes)
        found = detect_all(model, part.dataset, part.pictures)
        scores: Mapping[str, Scores] = (
            evaluate_proposals(part.dataset, found) if proposes else evaluate_detections(part.dataset, found)
        )
        number = "AR100" if proposes else "AP"
        measured.append({kind: defined(one.to_dict()[number]) for kind, one in scores.items()})
    return ApCost(data, split, len(part.dataset.images), number, *measured)


def defined(number: object) -> float | None:
    return round(number, 6) if isinstance(number, float) else None


def told_of(
    fp32: bytes, int8: bytes, facts: Mapping[str, object], files: Sequence[Path], labelled: tuple[DatasetPart, str, str] | None
) -> Int8:
    """What int8 costs and gains. labelled: a part of a data set, the data set and the part by name; errors as `agreement`."""
    plain, small = predictor_of(fp32, facts, "fp32"), predictor_of(int8, facts, "int8")
    compared = [files[place] for place in np.unique(np.linspace(0, len(files) - 1, min(len(files), COMPARED)).astype(int))]
    share = agreement(plain, small, compared)
    cost = None if labelled is None else ap_cost(plain, small, *labelled)
    return Int8(len(files), len(compared), share, *seconds(plain, small, files[0]), cost)
