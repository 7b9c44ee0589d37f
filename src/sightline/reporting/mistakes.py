"""What the page's slider and gallery work with: curves to count from, and pictures with their labels and detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.evaluation.analysis import Analysis
from sightline.evaluation.comparing import false_at, found_at
from sightline.evaluation.curves import Curve
from sightline.evaluation.matching import MATCHLESS, rows_by_image
from sightline.evaluation.mistakes import KINDS, MISSED
from sightline.evaluation.results import Indices, Numbers
from sightline.records import ImageSize
from sightline.reporting.outlines import path_of
from sightline.view.charts import nice_step

Plain = dict[str, object]
"""For JSON."""

MAX_PICTURES = 500
MAX_FOUND, MAX_FOUND_IN_ALL = 100, 30_000
"""Detections of one picture, the best ones, and of all pictures that the gallery can draw."""

MAX_POINTS = 60_000
"""Of all curves together; beyond, each keeps an even selection, and counts are those of the next higher point."""

MAX_OUTLINES = 3_000
"""Masks that are drawn as such; others are drawn as boxes."""

FALSE_KINDS = tuple(kind for kind in KINDS if kind != MISSED)

RIGHT, IN_CROWD = -1, -2
"""States of detections; those of false ones are indices into FALSE_KINDS."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Which pictures of the truth (rows) are on the page, and where their thumbnails are."""

    rows: tuple[int, ...]
    thumbnails: Mapping[int, int]
    left_out: int


def worst_pictures(analysis: Analysis) -> Indices:
    """Rows of the pictures with any mistake at any score: those with most at the threshold of the best F1 first."""
    matches = analysis.matches
    images = len(matches.truth.image_ids)
    found = found_at(matches, analysis.threshold)
    missed = np.bincount(matches.truth.objects.image[~found & ~matches.truth.crowd], minlength=images)
    now = missed + false_at(matches, analysis.threshold)
    unfound = ~matches.truth.crowd & (matches.finder == MATCHLESS)
    hidden = np.zeros(images, np.bool_)  # a right detection can be below the slider
    hidden[matches.truth.objects.image[~matches.truth.crowd]] = True
    hidden[matches.image[matches.false]] = True
    ever = np.bincount(matches.truth.objects.image[unfound], minlength=images)
    order = np.lexsort((-ever, -now))
    worst: Indices = order[hidden[order]]
    return worst


def score_range(scores: Numbers) -> tuple[float, float]:
    """The ends of the slider: 0 to 1, or of other scores round numbers around them."""
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=1.0))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    step = nice_step(high - low)
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def report_data(analysis: Analysis, drawn: Drawn) -> Plain:
    """All of one kind that the script needs."""
    matches, truth = analysis.matches, analysis.matches.truth
    most = points_of_each(analysis)
    false = [matches.scores[analysis.mistakes.kind == KINDS.index(kind)] for kind in FALSE_KINDS]
    return {
        "names": list(truth.class_names),
        "objects": matches.objects_per_class.tolist(),
        "curves": [points(one.curve, most, analysis.threshold) for one in analysis.classes],
        "kinds": list(FALSE_KINDS),
        "of_kind": [ranked(scores, MAX_POINTS // 2, analysis.threshold) for scores in false],
        "best": analysis.threshold,
        "pictures": pictures(analysis, drawn),
        "left_out": drawn.left_out,
    }


def points_of_each(analysis: Analysis) -> int:
    """Of a class's curve."""
    return max(MAX_POINTS // max(len(analysis.classes), 1), 50)


def counts_in_steps(analysis: Analysis) -> bool:
    """Whether there are too many detections for the slider to count each."""
    longest = max((len(one.curve.thresholds) for one in analysis.classes), default=0)
    commonest = int(np.bincount(analysis.mistakes.kind[analysis.matches.false]).max(initial=0))
    return longest > points_of_each(analysis) or commonest > MAX_POINTS // 2


def selected(scores: Numbers, most: int, threshold: float) -> Indices:
    """Places in descending scores: all, or some `most` with the last of `threshold` or more, where counts are exact."""
    if len(scores) <= most:
        return np.arange(len(scores))
    spread = np.linspace(0, len(scores) - 1, most).round().astype(np.intp)
    exact = max(int(np.count_nonzero(scores >= threshold)) - 1, 0)
    return np.unique(np.append(spread, np.intp(exact)))


def ranked(scores: Numbers, most: int, threshold: float) -> Plain:
    """Descending scores, and how many there are up to each."""
    kept = selected(scores, most, threshold)
    return {"scores": scores[kept].tolist(), "count": (kept + 1).tolist()}


def points(curve: Curve, most: int, threshold: float) -> Plain:
    """A curve's points as lists."""
    kept = selected(curve.thresholds, most, threshold)
    return {
        "scores": curve.thresholds[kept].tolist(),
        "true": curve.true[kept].tolist(),
        "false": curve.false[kept].tolist(),
    }


def pictures(analysis: Analysis, drawn: Drawn) -> list[Plain]:
    """The pictures that are shown, with their objects and their best detections."""
    matches, truth = analysis.matches, analysis.matches.truth
    images = len(truth.image_ids)
    objects, found = rows_by_image(truth.objects.image, images), rows_by_image(matches.image, images)
    outlines = Outlines(analysis)
    most = min(MAX_FOUND, MAX_FOUND_IN_ALL // max(len(drawn.rows), 1))
    made = []
    for row in drawn.rows:
        mine, best = objects[row], found[row][:most]
        local = {thing: index for index, thing in enumerate(mine.tolist())}
        size = truth.sizes[row] or extent(analysis, mine, best)
        made.append(
            {
                "name": truth.file_names[row] or f"image {truth.image_ids[row]}",
                "size": list(size),
                "thumbnail": drawn.thumbnails.get(row, -1),
                "objects": [object_data(analysis, thing, outlines) for thing in mine.tolist()],
                "found": [found_data(analysis, one, local, outlines) for one in best.tolist()],
            }
        )
    return made


def extent(analysis: Analysis, objects: Indices, found: Indices) -> ImageSize:
    """A picture of unknown size is taken to end where its boxes do."""
    matches = analysis.matches
    boxes = [part[rows] for part, rows in ((matches.truth.objects.boxes, objects), (matches.boxes, found)) if part is not None]
    ends = np.concatenate([one[:, :2] + one[:, 2:] for one in boxes]) if boxes else np.zeros((0, 2))
    width, height = ends.max(axis=0, initial=1.0).tolist()
    return ImageSize(int(height) + 1, int(width) + 1)


class Outlines:
    """Masks as paths, as long as there is room for them."""

    def __init__(self, analysis: Analysis) -> None:
        self.matches = analysis.matches
        self.threshold = analysis.threshold
        self.room = MAX_OUTLINES if analysis.matches.kind == "segm" else 0

    def of_object(self, thing: int) -> str:
        objects = self.matches.truth.objects
        return self.path(objects.segmentations, thing, int(objects.image[thing]))

    def of_detection(self, row: int) -> str:
        if self.matches.scores[row] < self.threshold:
            return ""
        return self.path(self.matches.segmentations, int(self.matches.rows[row]), int(self.matches.image[row]))

    def path(self, segmentations: Sequence[object] | None, index: int, image: int) -> str:
        size = self.matches.truth.sizes[image]
        if not self.room or segmentations is None or size is None or not segmentations[index]:
            return ""
        self.room -= 1
        return path_of(segmentations[index], size)

    def box(self, row: int) -> list[float]:
        """Left, top, width, height of a detection; of results without boxes, around their mask."""
        if self.matches.boxes is not None:
            return rounded(self.matches.boxes[row])
        from faster_coco_eval import mask

        from sightline.evaluation.masks import compressed

        size = self.matches.truth.sizes[int(self.matches.image[row])]
        segmentation = (self.matches.segmentations or ())[int(self.matches.rows[row])]
        return rounded(np.asarray(mask.toBbox([compressed(segmentation, size, "a mask")]))[0])


def rounded(box: Numbers) -> list[float]:
    return [round(side, 1) for side in box.tolist()]


def object_data(analysis: Analysis, thing: int, outlines: Outlines) -> list[object]:
    """[box, label, whether it is a crowd, the score of the detection that finds it or None, its outline if it has one]"""
    matches, objects = analysis.matches, analysis.matches.truth.objects
    finder = int(matches.finder[thing])
    path = outlines.of_object(thing)
    assert objects.boxes is not None  # labels have boxes, always
    values = [rounded(objects.boxes[thing]), int(objects.label[thing]), int(matches.truth.crowd[thing])]
    return [*values, None if finder == MATCHLESS else float(matches.scores[finder]), *([path] if path else [])]


def found_data(analysis: Analysis, row: int, local: Mapping[int, int], outlines: Outlines) -> list[object]:
    """[box, label, score, state, overlap, the object it is about, the object it is confused with, its outline if it has one]

    Objects by their places in the picture, -1: none.
    """
    matches = analysis.matches
    state = RIGHT if matches.true[row] else IN_CROWD
    if matches.false[row]:
        state = FALSE_KINDS.index(KINDS[analysis.mistakes.kind[row]])
    path = outlines.of_detection(row)
    return [
        outlines.box(row),
        int(matches.label[row]),
        float(matches.scores[row]),
        state,
        round(float(matches.iou[row]), 3),
        local.get(int(analysis.mistakes.blamed[row]), -1),
        local.get(int(analysis.confusion.confused[row]), -1),
        *([path] if path else []),
    ]
