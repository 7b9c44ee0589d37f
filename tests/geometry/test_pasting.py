"""Masks pasted in numpy: pixel by pixel what torch's twin pastes."""

import numpy as np
import pytest
import torch

from sightline.geometry.pasting import pasted
from sightline.model.mask_head import pasted as torch_pasted
from sightline.records import ImageSize

SIZE = ImageSize(120, 160)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 4) float32 boxes, many of which touch the picture's edges."""
    edges = rng.uniform(-40, 200, (count, 2, 2))
    edges.sort(axis=1)
    boxes = edges.reshape(count, 4).astype(np.float32).clip(0, np.float32([160, 120, 160, 120]))
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


@pytest.mark.parametrize("side", [4, 10, 28])
@pytest.mark.parametrize("whole", [False, True], ids=["anywhere", "whole pixels"])
@pytest.mark.parametrize("steps", [None, 2], ids=["any probability", "many exactly one half"])
def test_equal_to_torchs(side: int, whole: bool, steps: int | None) -> None:
    rng = np.random.default_rng(side)
    boxes = boxes_of(rng, 60)
    boxes = np.round(boxes)[(np.round(boxes)[:, 2:] > np.round(boxes)[:, :2]).all(axis=1)] if whole else boxes
    grids = rng.random((len(boxes), side, side)).astype(np.float32)
    grids = grids if steps is None else np.round(grids * steps) / steps
    assert len(boxes) > 20
    assert pasted(grids, boxes, SIZE) == torch_pasted(torch.from_numpy(grids), torch.from_numpy(boxes), SIZE)


def test_a_sliver_and_no_mask_at_all() -> None:
    boxes = np.float32([[10, 10, 10.001, 50], [0, 0, 160, 120]])
    grids = np.stack([np.ones((28, 28), np.float32), np.zeros((28, 28), np.float32)])
    assert pasted(grids, boxes, SIZE) == torch_pasted(torch.from_numpy(grids), torch.from_numpy(boxes), SIZE)
    assert pasted(grids[:0], boxes[:0], SIZE) == ()
