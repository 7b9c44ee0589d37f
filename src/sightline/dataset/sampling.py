"""Which pictures come in which batch: an endless shuffled stream whose every position is known beforehand.

A batch's content is a function of (seed, step) alone, so a resumed run sees what the killed one would have seen, and
several processes agree on their shares of a batch without a word.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.records import ImageRecord, ImageSize

Factors = NDArray[np.float32]
"""(count,): how often each picture comes in an epoch, on average."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One place in the stream. index: of the picture; position: in the stream, seeds the picture's augmentation."""

    index: int
    position: int


def repeat_factors(images: Sequence[ImageRecord], threshold: float, *, sqrt: bool) -> Factors:
    """How often pictures are shown whose rarest class is in fewer than `threshold` (0 to 1) of them; the others come once.

    Detectron2's: a class in the share f of the pictures has the factor threshold / f, or the square root of it, and at
    least 1; a picture has the largest factor of its classes. Crowds count, as they do there. float32, as there, which
    decides about the whole part of a factor that is a whole number but for rounding.
    """
    classes = [{instance.label for instance in image.instances} for image in images]
    counts = Counter(label for labels in classes for label in labels)
    ratios = {label: threshold / (count / len(images)) for label, count in counts.items()}
    factors = {label: max(1.0, math.sqrt(ratio) if sqrt else ratio) for label, ratio in ratios.items()}
    return np.array([max((factors[label] for label in labels), default=1.0) for labels in classes], dtype=np.float32)


def epoch_order(count: int, rng: np.random.Generator, factors: Factors | None) -> list[int]:
    """The indices of one epoch, shuffled. A picture of factor 2.3 is in it twice, or, with odds of 3 in 10, thrice."""
    indices = np.arange(count)
    if factors is not None:
        whole = np.floor(factors)
        indices = np.repeat(indices, (whole + (rng.random(count) < factors - whole)).astype(np.int64))
    order: list[int] = rng.permutation(indices).tolist()
    return order


def stream(count: int, seed: int, factors: Factors | None = None) -> Iterator[Draw]:
    """All `count` pictures in a new order again and again (Detectron2's TrainingSampler).

    factors: how often each comes in an epoch (its RepeatFactorTrainingSampler); None: each once
    """
    position, epoch = 0, 0
    while True:
        for index in epoch_order(count, np.random.default_rng([seed, epoch]), factors):
            yield Draw(index, position)
            position += 1
        epoch += 1


def as_it_is(draw: Draw) -> bool:
    """No picture is turned."""
    return False


def batches(
    sizes: Sequence[ImageSize],
    batch_size: int,
    seed: int,
    *,
    by_shape: bool,
    start: int = 0,
    factors: Factors | None = None,
    lies: Callable[[Draw], bool] = as_it_is,
) -> Iterator[list[Draw]]:
    """Endless batches from step `start` on.

    by_shape: wide and tall pictures never share a batch, which saves padding (Detectron2's ASPECT_RATIO_GROUPING)
    factors:  how often each picture comes in an epoch; None: once
    lies:     whether a draw's picture is turned on its side, so that a wide one counts as tall
    """
    waiting: dict[bool, list[Draw]] = {False: [], True: []}
    step = 0
    for draw in stream(len(sizes), seed, factors):
        height, width = sizes[draw.index]
        bucket = waiting[by_shape and (width < height if lies(draw) else width > height)]
        bucket.append(draw)
        if len(bucket) == batch_size:
            if step >= start:
                yield list(bucket)
            bucket.clear()
            step += 1
