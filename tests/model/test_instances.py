"""What goes in and comes out travels whole."""

import numpy as np
import torch
from torch.testing import assert_close

from sightline.model.instances import Found, Targets


def some_found(masks: bool) -> Found:
    """Three detections that carry their number everywhere."""
    numbers = torch.arange(3)
    grids = numbers[:, None, None].expand(3, 2, 2).float() if masks else None
    return Found(numbers[:, None].expand(3, 4).float(), numbers / 10, numbers, grids)


def test_taking_by_index_and_by_mask() -> None:
    for rows in (torch.tensor([2, 0]), torch.tensor([True, False, True])):
        taken = some_found(masks=True).take(rows)
        expected = [2, 0] if rows.dtype == torch.int64 else [0, 2]
        assert len(taken) == 2
        assert taken.labels.tolist() == taken.boxes[:, 0].tolist() == expected
        assert_close(taken.scores, torch.tensor(expected) / 10)
        assert taken.masks is not None
        assert taken.masks[:, 0, 0].tolist() == expected


def test_no_masks_stay_no_masks() -> None:
    assert some_found(masks=False).take(torch.tensor([1])).masks is None


def test_targets_keep_their_masks_where_they_are() -> None:
    masks = [np.ones((2, 2), dtype=bool)]
    moved = Targets(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), masks).to(torch.device("meta"))
    assert (moved.boxes.device.type, moved.labels.device.type) == ("meta", "meta")
    assert moved.masks is masks
