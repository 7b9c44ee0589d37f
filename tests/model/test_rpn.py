"""Proposals: the order of the head's answers, what is selected, what becomes an object, and the two losses."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.ops import box_iou

from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import BoxCoder
from sightline.model.instances import Targets
from sightline.model.losses import BoxLoss
from sightline.model.matching import IGNORE, Matcher
from sightline.model.rpn import RPN, RPNHead
from sightline.records import ImageSize

SIZE = ImageSize(32, 48)
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))


def an_rpn(**changes: object) -> RPN:
    """Two levels (strides 8 and 16) of square anchors of 8 and 24 px."""
    grid = AnchorGrid(sizes=[[8], [24]], aspect_ratios=[[1.0], [1.0]], strides=[8, 16], offset=0.0)
    with torch.random.fork_rng(devices=[]):  # else its weights would be those that the tests before left
        torch.manual_seed(0)
        head = RPNHead(4, 1, (-1,))
    defaults = {
        "head": head,
        "anchors": grid,
        "box_loss": BoxLoss(CODER, "smooth_l1", 0.0),
        "matcher": Matcher((0.3, 0.7), (0, IGNORE, 1), keep_best=True),
        "in_features": ("p3", "p4"),
        "samples": 8,
        "positive_share": 0.5,
        "pre_nms": (100, 50),
        "post_nms": (20, 10),
        "nms_iou": 0.7,
        "min_side_px": 0.0,
        "boundary_px": -1,
        "loss_weight": 1.0,
        "box_loss_weight": 1.0,
    }
    return RPN(**(defaults | changes))  # type: ignore[arg-type]


def some_features(batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "p3": torch.randn(batch, 4, 4, 6, generator=generator),
        "p4": torch.randn(batch, 4, 2, 3, generator=generator),
    }


def targets(*boxes: tuple[float, float, float, float]) -> Targets:
    return Targets(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.zeros(len(boxes), dtype=torch.int64))


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float32)


def test_answers_come_in_the_order_of_the_anchors() -> None:
    """A head whose answer is the place itself: channel 0 of the feature is the cell's number, anchor a adds 100 a."""
    head = RPNHead(1, 2, (-1,))
    for layer, weight in ((head.conv, 1.0), (head.objectness_logits, 1.0), (head.anchor_deltas, 1.0)):
        assert isinstance(layer, nn.Conv2d)
        nn.init.constant_(layer.weight, 0.0)
        layer.weight.data[:, :, layer.kernel_size[0] // 2, layer.kernel_size[0] // 2] = weight
    head.objectness_logits.bias.data = torch.tensor([0.0, 100])
    head.anchor_deltas.bias.data = torch.arange(8) * 1000.0
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    logits, deltas = head([feature])
    cells = torch.arange(12.0)
    assert_close(logits[0], torch.stack((cells, cells + 100), dim=1).reshape(1, -1))
    expected = cells[:, None, None] + 1000 * torch.arange(8.0).reshape(1, 2, 4)
    assert_close(deltas[0], expected.reshape(1, 24, 4))


@pytest.mark.parametrize(
    ("widths", "names"),
    [
        ((-1,), {"conv.weight", "conv.bias"}),
        ((6, -1), {f"conv.conv{index}.{part}" for index in range(2) for part in ("weight", "bias")}),
        ((), set()),
    ],
)
def test_convolutions_of_the_head_carry_detectron2s_names(widths: tuple[int, ...], names: set[str]) -> None:
    head = RPNHead(4, 3, widths)
    last = {f"{layer}.{part}" for layer in ("objectness_logits", "anchor_deltas") for part in ("weight", "bias")}
    assert set(head.state_dict()) == names | last
    logits, deltas = head([torch.zeros(2, 4, 3, 5)])
    assert (logits[0].shape, deltas[0].shape) == ((2, 45), (2, 45, 4))


def test_minus_one_is_the_width_of_what_comes_in() -> None:
    """Of the convolution itself, not of the features: after 8 it means 8."""
    head = RPNHead(4, 3, (8, -1))
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "conv.conv0.weight": (8, 4, 3, 3),
        "conv.conv1.weight": (8, 8, 3, 3),
        "objectness_logits.weight": (3, 8, 1, 1),
        "anchor_deltas.weight": (12, 8, 1, 1),
    }


def test_proposals_are_sorted_inside_and_few() -> None:
    rpn = an_rpn().eval()
    nn.init.normal_(rpn.rpn_head.anchor_deltas.weight, std=1.0)
    found, losses = rpn(some_features(), [SIZE, ImageSize(30, 20)])
    assert losses == {}
    for proposals, size in zip(found, (SIZE, ImageSize(30, 20)), strict=True):
        assert 0 < len(proposals.boxes) <= 10
        assert proposals.logits.tolist() == sorted(proposals.logits.tolist(), reverse=True)
        x1, y1, x2, y2 = proposals.boxes.unbind(1)
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= size.width).all() and (y2 <= size.height).all()
        assert (x2 > x1).all() and (y2 > y1).all()


def test_training_keeps_as_many_as_training_says() -> None:
    found, _ = an_rpn(post_nms=(3, 10)).train()(some_features(), [SIZE, SIZE])
    assert [len(proposals.boxes) for proposals in found] == [3, 3]


def test_suppression_is_within_a_level() -> None:
    """The same two overlapping boxes: one of them survives in one level, both on two."""
    one, other = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0)
    rpn = an_rpn().eval()
    (same,) = rpn.select([boxes(one, other)], [torch.tensor([[2.0, 1.0]])], [SIZE])
    (apart,) = rpn.select([boxes(one), boxes(other)], [torch.tensor([[1.0]]), torch.tensor([[2.0]])], [SIZE])
    assert_close(same.boxes, boxes(one)[0])
    assert_close(apart.boxes, boxes(other, one)[0])


def test_no_two_proposals_of_one_level_overlap_more_than_allowed() -> None:
    rpn = an_rpn(in_features=("p3",), nms_iou=0.4).eval()
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator) * 20
    candidates = torch.cat((corner, corner + 5 + torch.rand(60, 2, generator=generator) * 10), dim=1)
    (kept,) = rpn.select([candidates[None]], [torch.randn(1, 60, generator=generator)], [SIZE])
    assert box_iou(kept.boxes, kept.boxes).fill_diagonal_(0).max() <= 0.4


def test_only_the_best_of_a_level_are_looked_at() -> None:
    rpn = an_rpn(pre_nms=(100, 1)).eval()
    levels = [boxes((0, 0, 4, 4), (9, 9, 14, 14)), boxes((20, 20, 24, 24))]
    (kept,) = rpn.select(levels, [torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]])], [SIZE])
    assert_close(kept.boxes, boxes((9, 9, 14, 14), (20, 20, 24, 24))[0])


@pytest.mark.parametrize(
    ("candidate", "smallest", "kept"),
    [
        pytest.param((0.0, 0.0, 5.0, 5.0), 0.0, 1, id="sound"),
        pytest.param((5.0, 5.0, 5.0, 9.0), 0.0, 0, id="empty"),
        pytest.param((0.0, 0.0, 5.0, 5.0), 5.0, 0, id="no longer than the smallest side"),
        pytest.param((-9.0, -9.0, 0.0, 0.0), 0.0, 0, id="outside"),
        pytest.param((float("nan"), 0.0, 5.0, 5.0), 0.0, 0, id="no number"),
        pytest.param((0.0, 0.0, float("inf"), 5.0), 0.0, 0, id="infinite"),
    ],
)
def test_what_is_no_proposal(candidate: tuple[float, float, float, float], smallest: float, kept: int) -> None:
    (found,) = an_rpn(min_side_px=smallest).eval().select([boxes(candidate)], [torch.zeros(1, 1)], [SIZE])
    assert len(found.boxes) == kept


def test_the_drawn_sample_is_as_large_as_asked() -> None:
    rpn = an_rpn()
    anchors = torch.cat(rpn.anchors(list(some_features().values())))
    labels, _ = rpn.assign(anchors, SIZE, targets((12, 12, 20, 20)))
    assert (int((labels == 1).sum()), int((labels == 0).sum()), int((labels == IGNORE).sum())) == (1, 7, 30 - 8)


def test_an_anchor_learns_the_box_that_it_fits() -> None:
    rpn = an_rpn(samples=1000)
    anchors = torch.cat(rpn.anchors(list(some_features().values())))
    truth = targets((0, 0, 24, 20), (4, 4, 12, 12))
    labels, matched = rpn.assign(anchors, SIZE, truth)
    exact = (anchors == torch.tensor([4.0, 4, 12, 12])).all(1)
    assert labels[exact].tolist() == [1]
    assert_close(matched[exact], truth.boxes[1:])
    assert (labels[anchors[:, 0] > 30] == 0).all()


@pytest.mark.parametrize(("boundary", "crossing"), [(-1, True), (0, False), (4, True), (3, False)])
def test_anchors_that_cross_the_edge(boundary: int, crossing: bool) -> None:
    """The first 8 px anchor reaches 4 px out. Detectron2's -1 keeps all; N allows less than... up to N pixels outside."""
    rpn = an_rpn(boundary_px=boundary, samples=1000)
    anchors = torch.cat(rpn.anchors(list(some_features().values())))
    labels, _ = rpn.assign(anchors, SIZE, targets())
    first = (anchors == torch.tensor([-4.0, -4, 4, 4])).all(1)
    inside = (anchors == torch.tensor([4.0, 4, 12, 12])).all(1)
    assert (labels[first] != IGNORE).tolist() == [crossing]
    far_right = (anchors == torch.tensor([36.0, 4, 44, 12])).all(1)  # inside 48 px of width, beyond 32 of height
    assert labels[inside | far_right].tolist() == [0, 0]


def test_losses_by_hand() -> None:
    """All logits 0 and all deltas 0: cross entropy log 2 an anchor; box loss: the distance of the one positive anchor."""
    rpn = an_rpn(samples=1000, loss_weight=2.0, box_loss_weight=0.5).train()
    for parameter in rpn.parameters():
        nn.init.zeros_(parameter)
    truth = targets((4, 4, 12, 14))  # its best anchor is (4, 4, 12, 12): 0.8
    _, losses = rpn(some_features(1), [SIZE], [truth])
    expected = CODER.encode(torch.tensor([[4.0, 4, 12, 12]]), truth.boxes).abs().sum()
    anchors = torch.cat(rpn.anchors(list(some_features(1).values())))
    labels, _ = rpn.assign(anchors, SIZE, truth)
    counted = int((labels != IGNORE).sum())
    assert int((labels == 1).sum()) == 1
    assert_close(losses["loss_rpn_cls"], torch.log(torch.tensor(2.0)) * counted / 1000 * 2)
    assert_close(losses["loss_rpn_loc"], expected / 1000 * 2 * 0.5)


def test_giou_compares_boxes() -> None:
    """Deltas 0: the anchor (4, 4, 12, 12) for (4, 4, 12, 14), overlap 0.8, one inside the other."""
    rpn = an_rpn(samples=1000, box_loss=BoxLoss(CODER, "giou", 0.0), box_loss_weight=2.0).train()
    for parameter in rpn.parameters():
        nn.init.zeros_(parameter)
    _, losses = rpn(some_features(1), [SIZE], [targets((4, 4, 12, 14))])
    assert_close(losses["loss_rpn_loc"], torch.tensor(0.2 / 1000 * 2))
    losses["loss_rpn_loc"].backward()
    assert rpn.rpn_head.anchor_deltas.bias.grad.any()


def test_background_pictures_teach_that_nothing_is_there() -> None:
    rpn = an_rpn().train()
    _, losses = rpn(some_features(), [SIZE, SIZE], [targets(), targets()])
    assert losses["loss_rpn_loc"].item() == 0
    assert losses["loss_rpn_cls"].item() > 0
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in rpn.parameters())


def test_proposals_carry_no_gradient() -> None:
    found, losses = an_rpn().train()(some_features(), [SIZE, SIZE], [targets((0, 0, 9, 9)), targets()])
    assert not any(p.boxes.requires_grad or p.logits.requires_grad for p in found)
    assert all(loss.requires_grad for loss in losses.values())


@pytest.mark.parametrize("widths", [(-1,), (6, -1), ()])
def test_single_anchors_get_the_answers_of_all(widths: tuple[int, ...]) -> None:
    """Numbers and gradients, also at the edges: of every anchor of both pictures, in any order."""
    head = RPNHead(4, 3, widths).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    features = [feature.double().requires_grad_() for feature in some_features().values()]
    logits, deltas = head(features)
    every = torch.cat(logits, 1)
    order = torch.randperm(every.numel(), generator=torch.Generator().manual_seed(1))
    pictures, anchors = order // every.shape[1], order % every.shape[1]
    expected = every[pictures, anchors], torch.cat(deltas, 1)[pictures, anchors]
    found = head.at(features, pictures, anchors)
    assert_close(found, expected)
    learned = [*head.parameters(), *features]
    ours = torch.autograd.grad(found[0].square().sum() + found[1].sin().sum(), learned)
    theirs = torch.autograd.grad(expected[0].square().sum() + expected[1].sin().sum(), learned)
    assert_close(ours, theirs)


def test_every_part_of_the_head_learns_in_mixed_precision() -> None:
    """autocast keeps the copies that it makes of parameters, also of those made where nothing had a gradient."""
    rpn = an_rpn().train()
    with torch.autocast("cpu", torch.bfloat16):
        _, losses = rpn(some_features(), [SIZE, SIZE], [targets((0, 0, 9, 9)), targets()])
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in rpn.parameters())


def test_boxes_keep_their_fractions_in_mixed_precision() -> None:
    """bfloat16 has steps of 4 px at 800 px: only the deltas may be rounded, not what they move."""
    rpn = an_rpn().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (mixed, *_), _ = rpn(some_features(), [SIZE, SIZE])
    assert mixed.boxes.dtype == torch.float32
    with torch.no_grad():
        (exact, *_), _ = rpn(some_features(), [SIZE, SIZE])
    assert len(mixed.boxes) and (mixed.boxes != mixed.boxes.to(torch.bfloat16).float()).any()
    nearest = (mixed.boxes[:, None] - exact.boxes[None]).abs().amax(2).amin(1)
    assert nearest.median() < 0.25
