"""The second stage: the sample it learns from, its losses, and the detections it selects."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.model.boxes import BoxCoder
from sightline.model.matching import Matcher
from sightline.model.pooling import Pooler
from sightline.model.roi_heads import BoxHead, BoxPredictor, ROIHeads
from sightline.model.rpn import Proposals, Targets
from sightline.records import ImageSize

SIZE = ImageSize(64, 64)
FEATURES = {"p3": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))}


def some_heads(classes: int = 2, *, agnostic: bool = False, **changes: object) -> ROIHeads:
    head = BoxHead(in_channels=4, resolution=2, conv_dims=[], fc_dims=[6], norm="")
    defaults = {
        "pooler": Pooler(resolution=2, strides=[8], sampling_ratio=2, aligned=True),
        "box_head": head,
        "predictor": BoxPredictor(head.out_dim, classes, agnostic),
        "coder": BoxCoder((10.0, 10.0, 5.0, 5.0)),
        "matcher": Matcher((0.5,), (0, 1), keep_best=False),
        "in_features": ("p3",),
        "classes": classes,
        "samples": 8,
        "positive_share": 0.25,
        "append_true_boxes": True,
        "smooth_l1_beta": 0.0,
        "box_loss_weight": 1.0,
        "score_threshold": 0.05,
        "nms_iou": 0.5,
        "max_detections": 10,
    }
    return ROIHeads(**(defaults | changes))  # type: ignore[arg-type]


def proposals(*rows: tuple[float, ...]) -> Proposals:
    return Proposals(torch.tensor(rows).reshape(-1, 4).float(), torch.zeros(len(rows)))


def targets(*rows: tuple[float, ...], labels: tuple[int, ...] = ()) -> Targets:
    return Targets(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(labels, dtype=torch.int64))


FAR = tuple((float(40 + i), 40.0, float(44 + i), 44.0) for i in range(20))
"""Proposals that meet no true box of these tests."""


def test_the_head_is_convolutions_then_layers_with_detectron2s_names() -> None:
    head = BoxHead(in_channels=4, resolution=3, conv_dims=[5], fc_dims=[6, 7], norm="BN")
    names = set(head.state_dict())
    assert {"conv1.weight", "conv1.norm.weight", "fc1.weight", "fc1.bias", "fc2.weight"} <= names
    assert (head.out_dim, head(torch.zeros(2, 4, 3, 3)).shape) == (7, (2, 7))
    assert BoxHead(in_channels=4, resolution=3, conv_dims=[], fc_dims=[], norm="").out_dim == 4 * 9


@pytest.mark.parametrize(("agnostic", "columns"), [(False, 12), (True, 4)])
def test_the_predictors_columns(agnostic: bool, columns: int) -> None:
    logits, deltas = BoxPredictor(5, 3, agnostic)(torch.zeros(2, 5))
    assert (logits.shape, deltas.shape) == ((2, 4), (2, columns))


def test_the_sample_is_balanced_and_true_boxes_are_among_it() -> None:
    sampled = some_heads().draw(proposals(*FAR), targets((0, 0, 10, 10), labels=(1,)))
    assert sampled.labels.tolist() == [1, *[2] * 7]
    assert_close(sampled.boxes[0], torch.tensor([0.0, 0, 10, 10]))
    assert_close(sampled.true_boxes[0], torch.tensor([0.0, 0, 10, 10]))


def test_without_the_true_boxes_only_proposals_are_drawn() -> None:
    sampled = some_heads(append_true_boxes=False).draw(proposals(*FAR), targets((0, 0, 10, 10), labels=(1,)))
    assert sampled.labels.tolist() == [2] * 8


def test_a_proposal_takes_class_and_box_of_the_one_it_overlaps_most() -> None:
    heads = some_heads(append_true_boxes=False, positive_share=1.0)
    truth = targets((0, 0, 10, 10), (20, 0, 30, 10), labels=(0, 1))
    sampled = heads.draw(proposals((0, 0, 10, 8), (20, 0, 29, 10)), truth)
    by_class = {int(label): box.tolist() for label, box in zip(sampled.labels, sampled.true_boxes, strict=True)}
    assert by_class == {0: [0, 0, 10, 10], 1: [20, 0, 30, 10]}


def test_an_ignored_proposal_is_never_drawn() -> None:
    heads = some_heads(matcher=Matcher((0.3, 0.5), (0, -1, 1), keep_best=False), append_true_boxes=False)
    sampled = heads.draw(proposals((0, 0, 10, 4), *FAR[:3]), targets((0, 0, 10, 10), labels=(1,)))  # overlap 0.4
    assert sampled.labels.tolist() == [2, 2, 2]
    assert (sampled.boxes[:, 0] >= 40).all()


def test_a_background_picture_gives_background() -> None:
    sampled = some_heads().draw(proposals(*FAR), targets())
    assert sampled.labels.tolist() == [2] * 8
    assert sampled.true_boxes.shape == (8, 4)


def zeroed(heads: ROIHeads) -> ROIHeads:
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    return heads


def test_losses_by_hand() -> None:
    """All logits and deltas 0: cross entropy log(K + 1); box loss: the encoded distance over the sample's size."""
    heads = zeroed(some_heads(box_loss_weight=3.0, append_true_boxes=False, positive_share=1.0))
    truth = targets((0, 0, 10, 10), labels=(1,))
    losses = heads.losses(FEATURES, [proposals((0, 0, 10, 8), *FAR[:3])] * 2, [truth, targets()])
    distance = heads.coder.encode(torch.tensor([[0.0, 0, 10, 8]]), truth.boxes).abs().sum()
    assert_close(losses["loss_cls"], torch.tensor(math.log(3)))
    assert_close(losses["loss_box_reg"], distance / 8 * 3)


@pytest.mark.parametrize(("agnostic", "columns"), [(False, [4, 5, 6, 7]), (True, [0, 1, 2, 3])])
def test_only_the_true_classes_deltas_learn(agnostic: bool, columns: list[int]) -> None:
    heads = zeroed(some_heads(agnostic=agnostic))
    heads.losses(FEATURES, [proposals(*FAR)] * 2, [targets((0, 0, 10, 9), labels=(1,)), targets()])["loss_box_reg"].backward()
    # The true box as its own proposal is at distance 0, where |x| has slope 0; a shifted bias shows which columns count.
    nn.init.constant_(heads.box_predictor.bbox_pred.bias, 0.5)
    heads.zero_grad()
    heads.losses(FEATURES, [proposals(*FAR)] * 2, [targets((0, 0, 10, 9), labels=(1,)), targets()])["loss_box_reg"].backward()
    assert heads.box_predictor.bbox_pred.bias.grad.nonzero().flatten().tolist() == columns


def test_background_pictures_and_no_proposals_at_all_give_finite_losses() -> None:
    for given in ([proposals(*FAR)] * 2, [proposals()] * 2):
        heads = some_heads()
        losses = heads.losses(FEATURES, given, [targets(), targets()])
        assert losses["loss_box_reg"].item() == 0
        assert torch.isfinite(losses["loss_cls"])
        torch.stack(tuple(losses.values())).sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in heads.parameters())


def scored(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


APART = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60]])
SCORES = scored((0.2, 0.1, 0.7), (0.9, 0.0, 0.1), (0.04, 0.6, 0.36))
"""Of two classes and background, for the three boxes APART."""


def per_class(boxes: Tensor, classes: int = 2) -> Tensor:
    return boxes.repeat(1, classes)


def test_detections_are_sorted_and_above_the_threshold() -> None:
    found = some_heads().select(SCORES, per_class(APART), SIZE)
    assert_close(found.scores, torch.tensor([0.9, 0.6, 0.2, 0.1]))
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert_close(found.boxes, APART[[1, 2, 0, 0]])


def test_class_agnostic_boxes_serve_every_class() -> None:
    heads = some_heads(agnostic=True)
    assert_close(heads.select(SCORES, APART, SIZE).boxes, some_heads().select(SCORES, per_class(APART), SIZE).boxes)


def test_one_class() -> None:
    found = some_heads(classes=1).select(scored((0.3, 0.7), (0.8, 0.2)), APART[:2], SIZE)
    assert_close(found.boxes, APART[[1, 0]])
    assert found.labels.tolist() == [0, 0]


def test_each_class_has_its_own_box_and_its_own_suppression() -> None:
    """Two boxes of 0.9 overlap: of the same class one stays, of two classes both."""
    boxes = torch.tensor([[0.0, 0, 10, 10, 0, 0, 20, 20], [0, 0, 10, 9, 0, 0, 20, 18]])
    found = some_heads().select(scored((0.6, 0.3, 0.1), (0.5, 0.4, 0.1)), boxes, SIZE)
    assert found.labels.tolist() == [0, 1]
    assert_close(found.boxes, torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 18]]))


@pytest.mark.parametrize(("most", "count"), [(2, 2), (10, 4), (None, 4), (0, 0)])
def test_most_detections(most: int | None, count: int) -> None:
    assert len(some_heads(max_detections=most).select(SCORES, per_class(APART), SIZE).scores) == count


def test_boxes_are_clipped_to_the_picture() -> None:
    found = some_heads().select(SCORES, per_class(APART), ImageSize(25, 50))
    assert_close(found.boxes[0], torch.tensor([20.0, 20, 30, 25]))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_row_that_is_no_number_is_dropped(broken: float) -> None:
    boxes = per_class(APART)
    boxes[1, 3] = broken
    assert_close(some_heads().select(SCORES, boxes, SIZE).scores, torch.tensor([0.6, 0.2, 0.1]))


@pytest.mark.parametrize("agnostic", [False, True])
def test_no_proposals_no_detections(agnostic: bool) -> None:
    heads = some_heads(agnostic=agnostic).eval()
    (first, second) = heads.detect(FEATURES, [proposals(), proposals(*FAR)], [SIZE, SIZE])
    assert (first.boxes.shape, len(first.scores), len(first.labels)) == ((0, 4), 0, 0)
    assert len(second.scores) > 0
    nothing = heads.detect(FEATURES, [proposals(), proposals()], [SIZE, SIZE])
    assert [len(found.scores) for found in nothing] == [0, 0]
