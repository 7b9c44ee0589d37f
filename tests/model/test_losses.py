"""Losses on boxes: known pairs, and the same truth whether deltas or boxes are compared."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import box_iou, generalized_box_iou

from sightline.model.boxes import BoxCoder
from sightline.model.losses import OVERLAP_LOSSES, BoxLoss, concatenated, smooth_l1

KINDS = ("smooth_l1", *OVERLAP_LOSSES)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def a_loss(kind: str, beta: float = 0.0) -> BoxLoss:
    return BoxLoss(CODER, kind, beta)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


SQUARE = (0.0, 0.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("kind", "other", "expected"),
    [
        *(pytest.param(kind, SQUARE, 0.0, id=f"{kind} of the same box") for kind in OVERLAP_LOSSES),
        # 1 - IoU 1/3 + nothing: the smallest box around both (2 x 3) is their union.
        pytest.param("giou", (0.0, 1.0, 2.0, 3.0), 1 - 1 / 3, id="giou, half shifted"),
        # IoU 0; around both 6 x 2, of which 8 are covered.
        pytest.param("giou", (4.0, 0.0, 6.0, 2.0), 1 + (12 - 8) / 12, id="giou, disjoint"),
        # Centres 4 apart; the diagonal of 6 x 2 is the root of 40.
        pytest.param("diou", (4.0, 0.0, 6.0, 2.0), 1 + 16 / 40, id="diou, disjoint"),
        pytest.param("diou", (0.0, 1.0, 2.0, 3.0), 1 - 1 / 3 + 1 / (4 + 9), id="diou, half shifted"),
        pytest.param("ciou", (4.0, 0.0, 6.0, 2.0), 1 + 16 / 40, id="ciou, disjoint, of one shape"),
    ],
)
def test_overlap_losses_by_hand(kind: str, other: tuple[float, ...], expected: float) -> None:
    found = a_loss(kind)(torch.zeros(1, 4, dtype=torch.float64), boxes(other), boxes(SQUARE))
    assert_close(found.item(), expected, rtol=1e-5, atol=1e-6)


def test_ciou_adds_what_the_shapes_differ_by() -> None:
    """A box of 2 x 2 for one of 4 x 2 around the same centre."""
    found = a_loss("ciou")(torch.zeros(1, 4, dtype=torch.float64), boxes((1, 0, 3, 2)), boxes((0, 0, 4, 2)))
    v = 4 / math.pi**2 * (math.atan(4 / 2) - math.atan(2 / 2)) ** 2
    assert_close(found.item(), 1 - 0.5 + v * v / (1 - 0.5 + v), rtol=1e-5, atol=0)


def some_boxes(count: int, seed: int) -> Tensor:
    corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 40
    return torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:] + 1), dim=1)


def test_giou_agrees_with_torchvisions_measure() -> None:
    sources, truth = some_boxes(20, 1), some_boxes(20, 2)
    found = a_loss("giou")(torch.zeros_like(sources), sources, truth)
    assert_close(found, (1 - generalized_box_iou(sources, truth).diagonal()).sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_what_the_other_losses_add_to_the_overlap_is_never_negative(kind: str) -> None:
    for source, truth in zip(some_boxes(20, 3), some_boxes(20, 4), strict=True):
        overlap = box_iou(source[None], truth[None]).item()
        found = a_loss(kind)(torch.zeros(1, 4, dtype=torch.float64), source[None], truth[None]).item()
        assert 1 - overlap - 1e-6 <= found <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_deltas_of_the_truth_are_at_no_distance(kind: str) -> None:
    """Whether they are compared with encoded truth, or decoded and compared with it."""
    sources, truth = some_boxes(9, 5), some_boxes(9, 6)
    perfect = CODER.encode(sources, truth)
    assert_close(a_loss(kind)(perfect, sources, truth).item(), 0.0, rtol=0, atol=1e-5)
    assert a_loss(kind)(perfect + 0.3, sources, truth).item() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 5])
def test_gradients_are_finite(kind: str, count: int) -> None:
    deltas = torch.full((5, 4), 0.2, dtype=torch.float64, requires_grad=True)
    loss = a_loss(kind)(deltas[:count], some_boxes(count, 7), some_boxes(count, 8))
    loss.backward()
    assert deltas.grad is not None
    assert torch.isfinite(deltas.grad).all()
    assert (loss.item() == 0) == (count == 0)
    assert bool(deltas.grad.any()) == (count > 0)


def test_the_sum_over_all_boxes() -> None:
    sources, truth = some_boxes(4, 9), some_boxes(4, 10)
    deltas = torch.zeros_like(sources)
    for kind in KINDS:
        each = sum(a_loss(kind)(deltas[i : i + 1], sources[i : i + 1], truth[i : i + 1]).item() for i in range(4))
        assert_close(a_loss(kind)(deltas, sources, truth).item(), each)


@pytest.mark.parametrize(
    ("distance", "beta", "expected"),
    [
        (0.5, 1.0, 0.125),
        (1.0, 1.0, 0.5),
        (2.0, 1.0, 1.5),
        (0.05, 0.1, 0.0125),
        (1.0, 0.1, 0.95),
        (0.3, 0.0, 0.3),
        (2.0, 0.0, 2.0),
    ],
)
def test_smooth_l1(distance: float, beta: float, expected: float) -> None:
    at = torch.tensor([[1.0, 1.0]])
    assert_close(smooth_l1(at + torch.tensor([[distance, -distance]]), at, beta), torch.tensor(2 * expected))


def test_smooth_l1_of_nothing_is_zero_and_has_a_gradient() -> None:
    predicted = torch.zeros(3, 4, requires_grad=True)
    loss = smooth_l1(predicted[:0], torch.zeros(0, 4), 0.0)
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None


def test_one_part_is_not_copied() -> None:
    part = torch.zeros(2)
    assert concatenated([part]) is part
    assert concatenated([part, part]).shape == (4,)
