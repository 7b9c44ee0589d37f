"""A model's work in its stages, so that each can be done where it fits: resizing beside the model, masks behind it.

A plain callable has one stage only; it gets pictures as they were sent.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from sightline.images import InputSize, size_of
from sightline.records import Detections, Image, ImageSize, Predict, StagedPredict


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What waits for the model. pixels: (H, W, 3), resized if the model has it so; size: of the picture that was sent."""

    pixels: Image
    size: ImageSize


@dataclass(frozen=True, slots=True)
class Stages:
    """The three of `StagedPredict`, and which pictures may share a batch.

    resized: a decoded picture -> the model's pixels
    key:     of these pixels; of equal keys, a batch gives the numbers of each alone
    """

    resized: Callable[[Image | Pillow.Image], Image]
    found: Callable[[Sequence[Image], Sequence[ImageSize]], Sequence[Any]]
    detections: Callable[[Any, ImageSize], Detections]
    key: Callable[[Image], Hashable]

    def picture(self, image: Image | Pillow.Image) -> Picture:
        """What waits for the model of an image as it was sent."""
        return Picture(self.resized(image), size_of(image))


def stages_of(predict: Predict) -> Stages:
    if not isinstance(predict, StagedPredict):
        return Stages(np.array, lambda images, _: predict(images), lambda found, _: found, size_of)
    asked = input_size_of(predict)
    if asked is not None:
        return Stages(asked.resized, predict.found, predict.detections, key_of(asked))
    return Stages(lambda image: predict.resized(np.array(image)), predict.found, predict.detections, size_of)


def key_of(asked: InputSize) -> Callable[[Image], Hashable]:
    return lambda pixels: asked.padded(size_of(pixels))


def input_size_of(predict: Predict) -> InputSize | None:
    """How a predictor wants its pictures; None: it does not say."""
    asked = getattr(predict, "input_size", None)
    return asked if isinstance(asked, InputSize) else None
