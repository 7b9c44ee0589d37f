"""An exported graph as the callable that everything else knows: RGB pictures of any size in, `Detections` out.

What torch's predictor does around its detector is done here in numpy, to the same numbers.
N: detections in one picture. M: cells on a side of a mask's grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.errors import BundleError
from sightline.geometry.pasting import pasted
from sightline.images import InputSize, Resizing
from sightline.records import Detections, Image, ImageSize
from sightline.runtimes.graph import EXPORT_AGAIN, Told
from sightline.runtimes.running import Answers, Batch, Running


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in one picture, best first, in its pixels.

    boxes: (N, 4); scores: (N,); labels: (N,); masks: (N, M, M) probabilities on a grid over each box, or None
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32] | None = None


class GraphPredictor(Resizing):
    """Resizes and pads, runs the graph, and maps boxes and masks back to the picture given.

    score_threshold: least score of a detection
    classes:         how many its labels may be of
    """

    def __init__(self, running: Running, told: Told, where: str, *, score_threshold: float, classes: int) -> None:
        self.running, self.told, self.where = running, told, where
        self.score_threshold, self.classes = score_threshold, classes
        self.input_size = InputSize(told.min_size, told.max_size, told.size_divisor)

    @property
    def on_cpu(self) -> bool:
        return self.running.device == "cpu"

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Found]:
        """What is in pictures of `sizes`, given at the detector's size; boxes are in pixels of `sizes`."""
        batch = batch_of(resized, self.input_size, self.score_threshold)
        answers = self.running.run(batch)
        check_answers(answers, len(resized), self.classes, self.told.masks, self.where)
        of = [np.flatnonzero(answers["picture"] == number) for number in range(len(resized))]
        return [
            rescaled(answers, rows, ImageSize(*image.shape[:2]), size)
            for rows, image, size in zip(of, resized, sizes, strict=True)
        ]

    def detections(self, found: Found, size: ImageSize) -> Detections:
        """The same with masks as run lengths over the whole picture, which has that size."""
        masks = None if found.masks is None else pasted(found.masks, found.boxes, size)
        return Detections(size, found.boxes, found.scores, found.labels, masks)


def batch_of(images: Sequence[Image], to: InputSize, score_threshold: float) -> Batch:
    """(H, W, 3) pictures at the detector's size as one batch, padded to the largest."""
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int64)
    height, width = to.padded(ImageSize(*sizes.max(axis=0).tolist()))
    pictures = np.zeros((len(images), height, width, 3), dtype=np.uint8)
    for place, image in zip(pictures, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return Batch(pictures, sizes, score_threshold)


def rescaled(answers: Answers, rows: NDArray[np.intp], size: ImageSize, output: ImageSize) -> Found:
    """The detections at `rows`, of a picture of `size`, moved to one of `output` px; boxes that vanish there are dropped."""
    across, down = output.width / size.width, output.height / size.height
    boxes = answers["boxes"][rows] * np.array([across, down, across, down], dtype=np.float32)
    boxes = np.clip(boxes, 0, np.array([output.width, output.height] * 2, dtype=np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    rows = rows[kept]
    masks = answers["masks"][rows] if "masks" in answers else None
    return Found(boxes[kept], answers["scores"][rows], answers["labels"][rows], masks)


def check_answers(answers: Answers, pictures: int, classes: int, masks: bool, where: str) -> None:
    """Nothing, if the graph answers in the shapes and ranges that it promises.

    Raises:
        BundleError: it does not.
    """
    count = len(answers["scores"])
    shapes = {"boxes": (count, 4), "scores": (count,), "labels": (count,), "picture": (count,)}
    wrong = [f"{name} of shape {answers[name].shape}" for name, shape in shapes.items() if answers[name].shape != shape]
    if masks and (answers["masks"].ndim != 3 or len(answers["masks"]) != count):
        wrong.append(f"masks of shape {answers['masks'].shape}")
    if not wrong and count:
        if not (answers["labels"].min() >= 0 and answers["labels"].max() < classes):
            wrong.append(f"labels from {answers['labels'].min()} to {answers['labels'].max()} for {classes} classes")
        if not (answers["picture"].min() >= 0 and answers["picture"].max() < pictures):
            wrong.append(f"pictures from {answers['picture'].min()} to {answers['picture'].max()} of {pictures}")
    if wrong:
        raise BundleError(where, f"answers with {'; '.join(wrong)}", EXPORT_AGAIN)
