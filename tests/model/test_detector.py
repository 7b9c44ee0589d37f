"""What all detectors do alike: pictures to a padded batch, and what is found back to the pictures before resizing."""

import pytest
import torch
from builders import C4, DC5, RETINANET, a_detector, overrides
from torch import nn
from torch.testing import assert_close

from sightline.model.detector import Detector, rescaled
from sightline.model.instances import Found
from sightline.records import ImageSize


def test_a_batch_is_normalised_and_padded_with_zeros() -> None:
    model = a_detector("MODEL.PIXEL_MEAN", "(1, 2, 3)", "MODEL.PIXEL_STD", "(2, 2, 4)")  # whole numbers, as people write them
    batch, sizes = model.batch([torch.full((3, 40, 30), 5), torch.full((3, 20, 70), 9)])
    assert (batch.shape, sizes) == ((2, 3, 64, 96), [ImageSize(40, 30), ImageSize(20, 70)])
    assert_close(batch[0, :, 39, 29], torch.tensor([2.0, 1.5, 0.5]))
    assert_close(batch[1, :, 0, 69], torch.tensor([4.0, 3.5, 1.5]))
    assert batch[0, :, 40:].abs().sum() == 0
    assert batch[1, :, :, 70:].abs().sum() == 0


@pytest.mark.parametrize("divisor", [0, 1])
def test_without_a_divisor_the_largest_picture_is_the_size(divisor: int) -> None:
    bare = Detector(backbone=nn.Identity(), pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1), size_divisor=divisor)
    assert bare.batch([torch.zeros(3, 40, 30), torch.zeros(3, 20, 70)])[0].shape == (2, 3, 40, 70)


def test_what_vanishes_in_the_original_picture_is_dropped() -> None:
    found = Found(torch.tensor([[0.0, 0, 8, 8], [8, 0, 9, 9]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    kept = rescaled(found, ImageSize(8, 8), ImageSize(4, 4))
    assert_close(kept.boxes, torch.tensor([[0.0, 0, 4, 4]]))
    assert kept.labels.tolist() == [0]


def test_masks_stay_with_their_boxes() -> None:
    """They lie on a grid over the box, whatever its size; one whose box vanishes goes with it."""
    masks = torch.arange(2.0)[:, None, None].expand(2, 3, 3)
    found = Found(torch.tensor([[8.0, 0, 9, 9], [0, 0, 8, 8]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), masks)
    kept = rescaled(found, ImageSize(8, 8), ImageSize(4, 4))
    assert kept.masks is not None
    assert_close(kept.masks, torch.ones(1, 3, 3))


FINE_LEVELS = overrides(
    """
    MODEL.RETINANET.IN_FEATURES ('p3','p4')  MODEL.RPN.IN_FEATURES ('p3','p4')  MODEL.ROI_HEADS.IN_FEATURES ('p3','p4')
    MODEL.ANCHOR_GENERATOR.SIZES ((12,),(24,))
    """
)


@pytest.mark.parametrize(
    ("keys", "idle"),
    [
        ((), False),
        (RETINANET, False),
        (C4, False),
        (DC5, False),
        (RETINANET + FINE_LEVELS, True),
        (FINE_LEVELS, True),
    ],
)
def test_levels_that_no_head_takes_are_known(keys: tuple[str, ...], idle: bool) -> None:
    assert a_detector(*keys).has_idle_levels is idle
