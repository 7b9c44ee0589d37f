"""Which level a box is pooled from, and what comes out."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import MultiScaleRoIAlign

from sightline.model.pooling import Pooler

STRIDES = (4, 8, 16, 32)


def a_pooler(**changes: object) -> Pooler:
    defaults = {"resolution": 1, "strides": STRIDES, "sampling_ratio": 1, "aligned": True}
    return Pooler(**(defaults | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "strides", "level"),
    [
        (224.0, STRIDES, 2),
        (223.0, STRIDES, 1),
        (447.0, STRIDES, 2),
        (448.0, STRIDES, 3),
        (112.0, STRIDES, 1),
        (111.0, STRIDES, 0),
        (5000.0, STRIDES, 3),
        (1.0, STRIDES, 0),
        (0.0, STRIDES, 0),
        (224.0, (8, 16, 32), 1),
        (50.0, (8, 16, 32), 0),
        (500.0, (8, 16, 32), 2),
        (500.0, (4, 8), 1),
    ],
)
def test_level_by_size(size: float, strides: tuple[int, ...], level: int) -> None:
    box = torch.tensor([[10.0, 10, 10 + size, 10 + size]])
    assert a_pooler(strides=strides).levels(box).tolist() == [level]


def test_the_area_decides_not_a_side() -> None:
    assert a_pooler().levels(torch.tensor([[0.0, 0, 448, 112], [0, 0, 2000, 1]])).tolist() == [2, 0]


def test_every_box_comes_from_its_level_in_the_order_given() -> None:
    """Levels of constant value 1, 2, 3, 4; the second picture's are ten times that."""
    features = [torch.full((2, 1, 512 // s, 512 // s), float(i + 1)) for i, s in enumerate(STRIDES)]
    for feature in features:
        feature[1] *= 10
    first = torch.tensor([[0.0, 0, 448, 448], [50, 50, 90, 90], [0, 0, 230, 230]])
    second = torch.tensor([[8.0, 8, 128, 128]])
    pooled = a_pooler()(features, [first, second])
    assert pooled.flatten().tolist() == [4.0, 1.0, 3.0, 20.0]


@pytest.mark.parametrize(("aligned", "expected"), [(True, 1.5), (False, 2.0)])
def test_half_a_pixel_is_what_alignment_is_about(aligned: bool, expected: float) -> None:
    """A ramp along x, sampled at the middle of a box from 0 to 16 px at stride 4: cells 0 to 4, centre 2, or 1.5 aligned."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    pooled = a_pooler(strides=(4,), aligned=aligned)([ramp], [torch.tensor([[0.0, 0, 16, 16]])])
    assert_close(pooled.item(), expected)


def test_shape() -> None:
    features = [torch.zeros(1, 5, 256 // s, 256 // s) for s in STRIDES]
    assert a_pooler(resolution=7)(features, [torch.tensor([[0.0, 0, 9, 9]] * 3)]).shape == (3, 5, 7, 7)


@pytest.mark.parametrize("levels", [1, 4])
def test_no_boxes_at_all(levels: int) -> None:
    features = [torch.zeros(2, 5, 64 // s, 64 // s) for s in STRIDES[:levels]]
    assert a_pooler(strides=STRIDES[:levels], resolution=7)(features, [torch.zeros(0, 4)] * 2).shape == (0, 5, 7, 7)


def test_gradients_reach_the_level_that_was_pooled_and_no_other() -> None:
    features = [torch.ones(1, 1, 512 // s, 512 // s, requires_grad=True) for s in STRIDES]
    a_pooler()(features, [torch.tensor([[0.0, 0, 230, 230]])]).sum().backward()
    reached = [feature.grad is not None and bool(feature.grad.abs().sum() > 0) for feature in features]
    assert reached == [False, False, True, False]


def test_pooling_equals_torchvisions() -> None:
    """Whose RoIAlign is that of 2017. Boxes of all sizes, none on the edge between two levels."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, 512 // s, 512 // s, generator=generator) for s in STRIDES]
    corners = torch.rand(2, 30, 2, generator=generator) * 200
    sides = 4 * 75 ** torch.rand(2, 30, 2, generator=generator)
    boxes = list(torch.cat((corners, corners + sides), dim=2))
    names = [str(stride) for stride in STRIDES]
    theirs = MultiScaleRoIAlign(names, output_size=4, sampling_ratio=2)(
        dict(zip(names, features, strict=True)), boxes, [(512, 512)] * 2
    )
    pooler = a_pooler(resolution=4, sampling_ratio=2, aligned=False)
    assert pooler.levels(torch.cat(boxes)).unique().tolist() == [0, 1, 2]
    assert_close(pooler(features, boxes), theirs)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("strides", [STRIDES, (16,)], ids=["pyramid", "one level"])
def test_what_learns_is_pooled_to_the_same_numbers(strides: tuple[int, ...], aligned: bool, sampling_ratio: int) -> None:
    """On the CPU training pools by rows and prediction with torchvision's kernel: inside, at the edge, empty, far outside."""
    chance = torch.Generator().manual_seed(0)
    pooler = a_pooler(resolution=3, strides=strides, sampling_ratio=sampling_ratio, aligned=aligned)
    features = [torch.randn(2, 6, 160 // s, 192 // s, generator=chance, requires_grad=True) for s in strides]
    corners = torch.rand(2, 30, 2, generator=chance) * 200 - 20
    boxes = torch.cat((corners, corners + torch.exp(torch.rand(2, 30, 2, generator=chance) * 6)), dim=2)
    boxes[0, 0, 2:] = boxes[0, 0, :2]
    boxes[1, 1] += 2000
    with torch.no_grad():
        expected = pooler(features, list(boxes))
    pooled = pooler(features, list(boxes))
    assert pooled.grad_fn.name().startswith("Permute")
    assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [STRIDES, (16,)], ids=["pyramid", "one level"])
def test_gradients_of_what_is_pooled_are_torchvisions(strides: tuple[int, ...]) -> None:
    """With float64, which goes through torchvision's kernel."""
    chance = torch.Generator().manual_seed(0)
    pooler = a_pooler(resolution=3, strides=strides, sampling_ratio=0)
    corners = torch.rand(20, 2, generator=chance) * 150 - 10
    boxes = torch.cat((corners, corners + 4 + torch.rand(20, 2, generator=chance) * 100), dim=1)
    weights = torch.randn(20, 6, 3, 3, generator=chance)
    values = [torch.randn(1, 6, 160 // s, 192 // s, generator=chance) for s in strides]
    found = []
    for kind in (torch.float32, torch.float64):
        features = [value.to(kind).requires_grad_() for value in values]
        found.append(torch.autograd.grad((pooler(features, [boxes]) * weights).sum(), features))
    assert_close(found[0], found[1], check_dtype=False, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.full((1, 4), 9e3)], ids=["none", "far outside"])
def test_nothing_to_pool_still_has_gradients(boxes: torch.Tensor) -> None:
    features = [torch.ones(1, 2, 128 // s, 128 // s, requires_grad=True) for s in STRIDES]
    pooled = a_pooler()(features, [boxes])
    assert pooled.shape == (len(boxes), 2, 1, 1)
    gradients = torch.autograd.grad(pooled.sum(), features)
    assert not any(gradient.any() for gradient in gradients)


def test_a_box_of_no_numbers_is_no_crash() -> None:
    """The loss tells of it, and training stops there."""
    features = [torch.ones(1, 2, 128 // s, 128 // s, requires_grad=True) for s in STRIDES]
    assert len(a_pooler(sampling_ratio=0)(features, [torch.full((1, 4), torch.nan)])) == 1
