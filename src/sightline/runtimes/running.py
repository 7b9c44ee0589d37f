"""What every runtime is to the predictor: a batch in, the graph's answers out.

B: pictures in the batch. D: detections in all of them. M: cells on a side of a mask's grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the graph takes.

    pictures:        (B, H, W, 3) uint8, RGB, zero-padded at the right and the bottom
    sizes:           (B, 2) int64, each picture's (height, width) inside it
    score_threshold: least score of an answer
    """

    pictures: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    score_threshold: float


Answers = dict[str, NDArray[Any]]
"""boxes (D, 4), scores (D,), labels (D,), picture (D,) and, with masks, masks (D, M, M), by name."""


@dataclass(frozen=True, slots=True)
class Running:
    """A loaded graph. name: what runs it, for people; run: may be called from several threads at once."""

    name: str
    device: str
    run: Callable[[Batch], Answers]
