"""Torch's boxes agree with their numpy twin, and deltas move boxes there and back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from sightline.geometry import boxes as twin
from sightline.model.boxes import MAX_LOG_SCALE, BoxCoder, area, clip, nonempty, pairwise_iou
from sightline.records import ImageSize

Row = list[float]


@st.composite
def any_boxes(draw: st.DrawFn, smallest: float = 0.0, most: int = 6) -> np.ndarray:
    """(N, 4) float64 boxes, some outside of any picture, some touching, some empty where `smallest` is 0."""
    corner = st.integers(-20, 60).map(float)
    side = st.one_of(st.integers(math.ceil(smallest), 50).map(float), st.floats(smallest, 50, width=32))
    rows = draw(st.lists(st.tuples(corner, corner, side, side), max_size=most))
    array = np.array(rows, dtype=np.float64).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array


@given(any_boxes(), any_boxes())
def test_overlaps_agree_with_the_numpy_twin(a: np.ndarray, b: np.ndarray) -> None:
    assert_close(
        pairwise_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy(), twin.pairwise_iou(a, b), rtol=1e-12, atol=1e-12
    )


@given(any_boxes())
def test_areas_and_clipping_agree_with_the_numpy_twin(a: np.ndarray) -> None:
    assert_close(area(torch.from_numpy(a)).numpy(), twin.area(a))
    assert_close(clip(torch.from_numpy(a), 30, 40).numpy(), twin.clip(a, ImageSize(30, 40)))


@given(any_boxes(smallest=1))
def test_a_box_overlaps_itself_entirely(a: np.ndarray) -> None:
    assert_close(pairwise_iou(torch.from_numpy(a), torch.from_numpy(a)).diagonal(), torch.ones(len(a), dtype=torch.float64))


@pytest.mark.parametrize(
    ("box", "smallest", "expected"),
    [
        ((0, 0, 2, 2), 0, True),
        ((0, 0, 0, 2), 0, False),
        ((0, 0, 2, 0), 0, False),
        ((2, 2, 1, 3), 0, False),
        ((0, 0, 5, 5), 5, False),
        ((0, 0, 5.5, 5.5), 5, True),
        ((0, 0, 5.5, 5), 5, False),
    ],
)
def test_nonempty(box: tuple[float, ...], smallest: float, expected: bool) -> None:
    assert nonempty(torch.tensor([box]), smallest).tolist() == [expected]


def test_deltas_worked_out_by_hand() -> None:
    """From 10 x 20 px around (5, 10) to 20 x 20 px around (15, 15)."""
    deltas = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 25, 25]]))
    assert_close(deltas, torch.tensor([[10 * 10 / 10, 10 * 5 / 20, 5 * math.log(2), 0.0]]))


WEIGHTS = st.sampled_from([(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (30.0, 20.0, 15.0, 5.0)])


@given(st.data(), WEIGHTS)
def test_decode_undoes_encode(data: st.DataObject, weights: tuple[float, float, float, float]) -> None:
    sources = torch.from_numpy(data.draw(any_boxes(smallest=1)))
    targets = torch.from_numpy(data.draw(any_boxes(smallest=1)))
    count = min(len(sources), len(targets))
    sources, targets = sources[:count], targets[:count]
    coder = BoxCoder(weights)
    assert_close(coder.decode(coder.encode(sources, targets), sources), targets, rtol=1e-9, atol=1e-9)


@given(any_boxes(smallest=1), WEIGHTS, st.integers(0, 1000))
def test_encode_undoes_decode(source: np.ndarray, weights: tuple[float, float, float, float], seed: int) -> None:
    coder, sources = BoxCoder(weights), torch.from_numpy(source)
    deltas = torch.empty_like(sources).uniform_(-2, 2, generator=torch.Generator().manual_seed(seed))
    assert_close(coder.encode(sources, coder.decode(deltas, sources)), deltas, rtol=1e-9, atol=1e-9)


def test_every_class_is_decoded_from_its_own_columns() -> None:
    coder, source = BoxCoder((1.0, 1.0, 1.0, 1.0)), torch.tensor([[0.0, 0, 10, 10]])
    decoded = coder.decode(torch.tensor([[0.0, 0, 0, 0, 1, 0, 0, 0, 0, 0, math.log(2), 0]]), source)
    assert_close(decoded, torch.tensor([[0.0, 0, 10, 10, 10, 0, 20, 10, -5, 0, 15, 10]]))


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_growth_is_capped(weight: float) -> None:
    """However wild the prediction, a 16 px box grows to 1000 px at most."""
    coder = BoxCoder((1.0, 1.0, weight, weight))
    x1, y1, x2, y2 = coder.decode(torch.tensor([[0.0, 0, 1e6, MAX_LOG_SCALE * weight]]), torch.tensor([[0.0, 0, 16, 16]]))[0]
    assert_close(torch.stack((x2 - x1, y2 - y1)), torch.tensor([1000.0, 1000.0]))


def test_nothing_in_nothing_out() -> None:
    coder, none = BoxCoder((1.0, 1.0, 1.0, 1.0)), torch.zeros(0, 4)
    assert coder.encode(none, none).shape == (0, 4)
    assert coder.decode(torch.zeros(0, 12), none).shape == (0, 12)
    assert pairwise_iou(none, torch.zeros(3, 4)).shape == (0, 3)
