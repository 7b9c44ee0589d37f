"""Which pictures come in which batch: an endless shuffled stream whose every position is known beforehand.

A batch's content is a function of (seed, step) alone, so a resumed run sees what the killed one would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.records import ImageSize


@dataclass(frozen=True, slots=True)
class Draw:
    """One place in the stream. index: of the picture; position: in the stream, seeds the picture's augmentation."""

    index: int
    position: int


def stream(count: int, seed: int) -> Iterator[Draw]:
    """All `count` pictures in a new order again and again (Detectron2's TrainingSampler)."""
    position, epoch = 0, 0
    while True:
        for index in np.random.default_rng([seed, epoch]).permutation(count).tolist():
            yield Draw(index, position)
            position += 1
        epoch += 1


def batches(sizes: Sequence[ImageSize], batch_size: int, seed: int, *, by_shape: bool, start: int = 0) -> Iterator[list[Draw]]:
    """Endless batches from step `start` on.

    by_shape: wide and tall pictures never share a batch, which saves padding (Detectron2's ASPECT_RATIO_GROUPING)
    """
    waiting: dict[bool, list[Draw]] = {False: [], True: []}
    step = 0
    for draw in stream(len(sizes), seed):
        bucket = waiting[by_shape and sizes[draw.index].width > sizes[draw.index].height]
        bucket.append(draw)
        if len(bucket) == batch_size:
            if step >= start:
                yield list(bucket)
            bucket.clear()
            step += 1
