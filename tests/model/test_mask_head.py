"""The mask branch: its names, what it learns, and masks painted into pictures."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close
from torchvision.models.detection.roi_heads import maskrcnn_loss

from sightline.geometry.masks import Mask, Outlines, decode, rasterise
from sightline.model.mask_head import THRESHOLD, MaskHead, mask_grids, pasted
from sightline.records import ImageSize

SIZE = ImageSize(60, 80)


def a_head(**changes: object) -> MaskHead:
    defaults = {"in_channels": 3, "convs": 2, "width": 4, "classes": 2, "norm": ""}
    return MaskHead(**(defaults | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        pytest.param({}, {f"{layer}.{part}" for layer in ("mask_fcn1", "mask_fcn2") for part in ("weight", "bias")}, id="two"),
        pytest.param({"convs": 0}, set(), id="none"),
        pytest.param(
            {"convs": 1, "norm": "GN", "width": 32},
            {"mask_fcn1.weight", "mask_fcn1.norm.weight", "mask_fcn1.norm.bias"},
            id="GN",
        ),
    ],
)
def test_names(changes: dict[str, object], names: set[str]) -> None:
    last = {f"{layer}.{part}" for layer in ("deconv", "predictor") for part in ("weight", "bias")}
    assert set(a_head(**changes).state_dict()) == names | last


@pytest.mark.parametrize("convs", [0, 2])
def test_the_grid_has_twice_the_cells_that_are_pooled(convs: int) -> None:
    assert a_head(convs=convs)(torch.zeros(5, 3, 7, 7)).shape == (5, 2, 14, 14)
    assert a_head(convs=convs)(torch.zeros(0, 3, 7, 7)).shape == (0, 2, 14, 14)


def test_each_box_takes_its_labels_mask_unless_all_share_one() -> None:
    logits = torch.arange(2.0)[None, :, None, None].expand(3, 2, 4, 4)
    labels = torch.tensor([1, 0, 1])
    assert a_head().of_labels(logits, labels)[:, 0, 0].tolist() == [1, 0, 1]
    assert a_head(classes=1).of_labels(logits[:, 1:], labels)[:, 0, 0].tolist() == [1, 1, 1]


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Outlines:
    return (np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64),)


def triangle(x: float, y: float, side: float) -> Outlines:
    return (np.array([x, y, x + side, y, x, y + side], dtype=np.float64),)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows).reshape(-1, 4).float()


@pytest.mark.parametrize("classes", [1, 2])
def test_logits_of_zero_lose_log_2(classes: int) -> None:
    head = a_head(classes=classes)
    logits = torch.zeros(3, classes, 4, 4)
    masks: list[list[Mask]] = [[rectangle(0, 0, 9, 9)], [triangle(0, 0, 5), triangle(2, 2, 7)]]
    found = head.loss(logits, torch.tensor([0, 1, 1]), [boxes((0, 0, 9, 9)), boxes((1, 1, 5, 5), (0, 0, 9, 9))], masks)
    assert_close(found, {"loss_mask": torch.tensor(math.log(2))})


def test_loss_by_hand() -> None:
    """The object fills the left half of its box. Logits log 3 everywhere: p = 3/4, so -log 3/4 there, -log 1/4 elsewhere."""
    logits = torch.full((1, 2, 4, 4), -7.0)
    logits[:, 1] = math.log(3)
    found = a_head().loss(logits, torch.tensor([1]), [boxes((0, 0, 8, 8))], [[rectangle(0, 0, 4, 8)]])
    assert_close(found["loss_mask"], torch.tensor(-(math.log(3 / 4) + math.log(1 / 4)) / 2))


def test_only_the_true_labels_mask_learns() -> None:
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    a_head().loss(logits, torch.tensor([1]), [boxes((0, 0, 8, 8))], [[rectangle(0, 0, 4, 8)]])["loss_mask"].backward()
    assert logits.grad is not None
    assert not logits.grad[:, 0].any()
    assert (logits.grad[0, 1, :, :2] < 0).all() and (logits.grad[0, 1, :, 2:] > 0).all()


def test_without_boxes_the_loss_is_zero_and_has_a_gradient() -> None:
    head = a_head()
    loss = head.loss(head(torch.zeros(0, 3, 7, 7)), torch.zeros(0, dtype=torch.int64), [boxes()] * 2, [[], []])["loss_mask"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_loss_of_bitmaps_equals_torchvisions() -> None:
    """Over whole pixels, where nothing is between. Its boxes, of RoIAlign's first version, lie half a pixel aside."""
    generator = torch.Generator().manual_seed(0)
    bitmaps = torch.rand(2, 24, 24, generator=generator) > 0.5
    where, labels = boxes((1, 2, 9, 10), (8, 4, 16, 12)), torch.tensor([1, 0])
    logits = torch.randn(2, 2, 8, 8, generator=generator)
    ours = a_head().loss(logits, labels, [where], [list(bitmaps.numpy())])["loss_mask"]
    theirs = maskrcnn_loss(logits, [where - 0.5], [bitmaps.to(torch.uint8)], [labels], [torch.tensor([0, 1])])
    assert_close(ours, theirs)


def test_a_grid_over_whole_pixels_is_the_pixels() -> None:
    bitmap = np.random.default_rng(0).random((20, 30)) > 0.5
    grids = mask_grids([bitmap], boxes((3, 5, 11, 13)), 8)
    assert grids[0].tolist() == bitmap[5:13, 3:11].tolist()


@pytest.mark.parametrize("side", [14, 28])
def test_outlines_and_their_bitmaps_give_nearly_the_same_grids(side: int) -> None:
    generator = np.random.default_rng(0)
    for _ in range(10):
        centre, angles = generator.uniform(20, 40, 2), np.sort(generator.uniform(0, 2 * math.pi, 9))
        points = centre + generator.uniform(10, 18, (9, 1)) * np.column_stack((np.cos(angles), np.sin(angles)))
        outlines = (points.ravel(),)
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        box = boxes((x1 - 2, y1 + 1, x2 + 1, y2 + 2))
        grids = [mask_grids([mask], box, side)[0] for mask in (outlines, rasterise(outlines, SIZE))]
        assert grids[0].any() and not grids[0].all()
        assert (grids[0] != grids[1]).float().mean() < 0.12  # pixels at the border


def test_no_boxes_no_grids() -> None:
    assert mask_grids([], boxes(), 14).shape == (0, 14, 14)


def painted_slowly(grid: Tensor, box: Tensor, size: ImageSize) -> np.ndarray:
    """The (H, W) mask, every pixel of the picture sampled: what `paste` must equal by looking at the box alone."""
    x1, y1, x2, y2 = box
    xs = (torch.arange(size.width) + 0.5 - x1) / (x2 - x1) * 2 - 1
    ys = (torch.arange(size.height) + 0.5 - y1) / (y2 - y1) * 2 - 1
    places = torch.stack((xs[None].expand(size), ys[:, None].expand(size)), dim=-1)
    return (F.grid_sample(grid[None, None], places[None], align_corners=False)[0, 0] >= THRESHOLD).numpy()


def some_boxes(kind: str, count: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    limits = torch.tensor([SIZE.width, SIZE.height])
    corners = torch.rand(count, 2, generator=generator) * (limits - 2)
    sides = torch.rand(count, 2, generator=generator)
    if kind == "sub-pixel":
        return torch.cat((corners, corners + 0.05 + sides * 0.9), dim=1)
    if kind == "one pixel":
        return torch.cat((corners.floor(), corners.floor() + 1), dim=1)
    far = torch.minimum(corners + 1 + sides * 40, limits)
    if kind == "at the edge":
        corners[::2], far[1::2] = 0, limits.float()
    return torch.cat((corners, far), dim=1)


@pytest.mark.parametrize("kind", ["any", "at the edge", "sub-pixel", "one pixel"])
def test_painting_the_box_is_painting_the_picture(kind: str) -> None:
    where = some_boxes(kind)
    grids = torch.rand(len(where), 1, 7, 7, generator=torch.Generator().manual_seed(1))
    grids = F.interpolate(grids, size=(28, 28), mode="bicubic").clamp(0, 1)[:, 0]
    masks = pasted(grids, where, SIZE)
    expected = [painted_slowly(grid, box, SIZE) for grid, box in zip(grids, where, strict=True)]
    assert any(mask.any() for mask in expected)
    for mask, bitmap in zip(masks, expected, strict=True):
        assert mask.size == SIZE
        np.testing.assert_array_equal(decode(mask), bitmap)


def test_a_full_grid_covers_the_pixels_whose_centres_are_in_the_box() -> None:
    mask = decode(pasted(torch.ones(1, 28, 28), torch.tensor([[10.4, 5.6, 20.4, 12.6]]), SIZE)[0])
    rows, columns = mask.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 12, 10, 19)
    assert mask.sum() == 7 * 10


def test_an_empty_grid_covers_nothing() -> None:
    assert not decode(pasted(torch.zeros(1, 28, 28), torch.tensor([[0.0, 0, 80, 60]]), SIZE)[0]).any()


def test_nothing_to_paint() -> None:
    assert pasted(torch.zeros(0, 28, 28), boxes(), SIZE) == ()


def test_what_a_box_filling_object_is_drawn_as_paints_it_again() -> None:
    """A mask grown to its box and back: a grid of the object drawn in its box paints the object."""
    outlines = rectangle(10, 8, 50, 40)
    grid = mask_grids([outlines], boxes((10, 8, 50, 40)), 28)[0].float()
    found = decode(pasted(grid[None], torch.tensor([[10.0, 8, 50, 40]]), SIZE)[0])
    np.testing.assert_array_equal(found, rasterise(outlines, SIZE))
