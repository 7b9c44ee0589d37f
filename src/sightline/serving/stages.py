"""A model's work in its stages, so that each can be done where it fits: resizing beside the model, masks behind it.

A plain callable has one stage only; it gets pictures as they were sent.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.images import InputSize
from sightline.records import Detections, Image, ImageSize, Predict, StagedPredict


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What waits for the model. pixels: (H, W, 3), resized if the model has it so; size: of the picture that was sent."""

    pixels: Image
    size: ImageSize


@dataclass(frozen=True, slots=True)
class Stages:
    """The three of `StagedPredict`, and which pictures may share a batch.

    key: of a picture's pixels as `resized` gives them; of equal keys, a batch gives the numbers of each alone
    """

    resized: Callable[[Image], Image]
    found: Callable[[Sequence[Image], Sequence[ImageSize]], Sequence[Any]]
    detections: Callable[[Any, ImageSize], Detections]
    key: Callable[[Image], Hashable]

    def picture(self, image: Image) -> Picture:
        """What waits for the model of an image as it was sent."""
        return Picture(self.resized(image), size_of(image))


def stages_of(predict: Predict) -> Stages:
    if not isinstance(predict, StagedPredict):
        return Stages(as_it_is, lambda images, _: predict(images), as_it_is, size_of)
    asked = input_size_of(predict)
    return Stages(predict.resized, predict.found, predict.detections, key_of(asked) if asked else size_of)


def as_it_is(given: Any, *_: object) -> Any:
    return given


def size_of(image: Image) -> ImageSize:
    return ImageSize(*image.shape[:2])


def key_of(asked: InputSize) -> Callable[[Image], Hashable]:
    return lambda pixels: asked.padded(size_of(pixels))


def input_size_of(predict: Predict) -> InputSize | None:
    """How a predictor wants its pictures; None: it does not say."""
    asked = getattr(predict, "input_size", None)
    return asked if isinstance(asked, InputSize) else None
