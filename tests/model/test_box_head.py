"""The box branch: its layers, its losses by hand, and the detections it selects."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import BoxCoder
from sightline.model.instances import Sampled
from sightline.model.losses import BoxLoss
from sightline.records import ImageSize

SIZE = ImageSize(64, 64)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def a_predictor(classes: int = 2, **changes: object) -> BoxPredictor:
    """All logits and deltas are 0."""
    defaults = {"class_agnostic": False, "box_loss": BoxLoss(CODER, "smooth_l1", 0.0), "box_loss_weight": 1.0, "sigmoid": False}
    predictor = BoxPredictor(5, classes, **(defaults | changes))  # type: ignore[arg-type]
    for parameter in predictor.parameters():
        nn.init.zeros_(parameter)
    return predictor


def a_sample(*rows: tuple[tuple[float, ...], int, tuple[float, ...]]) -> Sampled:
    """(box, label, true box) each."""
    boxes, labels, true_boxes = zip(*rows, strict=True) if rows else ((), (), ())
    return Sampled(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(true_boxes).reshape(-1, 4).float(),
        torch.zeros(len(rows), dtype=torch.int64),
    )


NOTHING = (0.0, 0.0, 0.0, 0.0)
AN_OBJECT = ((0.0, 0.0, 10.0, 8.0), 1, (0.0, 0.0, 10.0, 10.0))
BACKGROUND = ((40.0, 40.0, 44.0, 44.0), 2, NOTHING)


def losses_of(predictor: BoxPredictor, *samples: Sampled) -> dict[str, Tensor]:
    logits, deltas = predictor(torch.ones(sum(len(s.labels) for s in samples), 5))
    return predictor.losses(logits, deltas, samples)


def test_the_head_is_convolutions_then_layers_with_detectron2s_names() -> None:
    head = BoxHead(in_channels=4, resolution=3, conv_dims=[5], fc_dims=[6, 7], norm="BN")
    names = set(head.state_dict())
    assert {"conv1.weight", "conv1.norm.weight", "fc1.weight", "fc1.bias", "fc2.weight"} <= names
    assert "conv1.bias" not in names
    assert (head.out_dim, head(torch.zeros(2, 4, 3, 3)).shape) == (7, (2, 7))


def test_convolutions_alone_are_flattened() -> None:
    head = BoxHead(in_channels=4, resolution=3, conv_dims=[5], fc_dims=[], norm="")
    assert (head.out_dim, head(torch.zeros(2, 4, 3, 3)).shape) == (45, (2, 45))


@pytest.mark.parametrize(("agnostic", "columns"), [(False, 12), (True, 4)])
def test_the_predictors_columns(agnostic: bool, columns: int) -> None:
    logits, deltas = a_predictor(3, class_agnostic=agnostic)(torch.zeros(2, 5))
    assert (logits.shape, deltas.shape) == ((2, 4), (2, columns))


@pytest.mark.parametrize(("sigmoid", "expected"), [(False, [[0.25, 0.75]]), (True, [[0.5, 0.75]])])
def test_scores(sigmoid: bool, expected: list[list[float]]) -> None:
    """Logits 0 and log 3: together 1 to 3, or each for itself 1 to 1 and 3 to 1."""
    logits = torch.tensor([[0.0, math.log(3)]])
    assert_close(a_predictor(1, sigmoid=sigmoid).scores(logits), torch.tensor(expected))


def test_losses_by_hand() -> None:
    """Cross entropy log(K + 1); box loss: the encoded distance of the one object over the size of the whole sample."""
    losses = losses_of(a_predictor(box_loss_weight=3.0), a_sample(AN_OBJECT, BACKGROUND), a_sample(*[BACKGROUND] * 3))
    box, _, true_box = AN_OBJECT
    distance = CODER.encode(torch.tensor([box]), torch.tensor([true_box])).abs().sum()
    assert_close(losses["loss_cls"], torch.tensor(math.log(3)))
    assert_close(losses["loss_box_reg"], distance / 5 * 3)


def test_with_sigmoids_every_class_is_asked() -> None:
    """All logits 0: log 2 for each of the two classes of every box; background's own logit has no part in it."""
    predictor = a_predictor(sigmoid=True)
    losses = losses_of(predictor, a_sample(AN_OBJECT, BACKGROUND, BACKGROUND))
    assert_close(losses["loss_cls"], torch.tensor(2 * math.log(2)))
    losses["loss_cls"].backward()
    assert_close(predictor.cls_score.bias.grad, torch.tensor([0.5, 0.5 - 1 / 3, 0.0]))


def test_giou_compares_boxes() -> None:
    """10 x 8 within 10 x 10: overlap 0.8, and nothing around them that neither covers."""
    losses = losses_of(a_predictor(box_loss=BoxLoss(CODER, "giou", 0.0)), a_sample(AN_OBJECT, BACKGROUND))
    assert_close(losses["loss_box_reg"], torch.tensor(0.2 / 2))


@pytest.mark.parametrize(("agnostic", "columns"), [(False, [4, 5, 6, 7]), (True, [0, 1, 2, 3])])
def test_only_the_true_classes_deltas_learn(agnostic: bool, columns: list[int]) -> None:
    predictor = a_predictor(class_agnostic=agnostic)
    nn.init.constant_(predictor.bbox_pred.bias, 0.5)  # away from the truth, where |x| has a slope
    losses_of(predictor, a_sample(AN_OBJECT, BACKGROUND))["loss_box_reg"].backward()
    assert predictor.bbox_pred.bias.grad.nonzero().flatten().tolist() == columns


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("rows", [0, 3])
def test_samples_without_objects_and_empty_ones_have_losses_and_gradients(sigmoid: bool, rows: int) -> None:
    predictor = a_predictor(sigmoid=sigmoid)
    losses = losses_of(predictor, a_sample(*[BACKGROUND] * rows))
    assert losses["loss_box_reg"].item() == 0
    assert (losses["loss_cls"].item() == 0) == (rows == 0)
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in predictor.parameters())


def test_boxes_refined_for_their_labels() -> None:
    """Class k shifts by k boxes; background takes the last class's delta, as in Detectron2."""
    deltas = torch.tensor([[0.0, 0, 0, 0, 10, 0, 0, 0]]).repeat(3, 1)
    box = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    refined = a_predictor().refined_for_labels(deltas, box, torch.tensor([0, 1, 2]))
    assert_close(refined[:, 0], torch.tensor([0.0, 10, 10]))
    shared = a_predictor(class_agnostic=True).refined_for_labels(deltas[:, 4:], box, torch.tensor([0, 1, 2]))
    assert_close(shared[:, 0], torch.tensor([10.0, 10, 10]))


def a_selection(**changes: object) -> Selection:
    defaults = {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": 10}
    return Selection(**(defaults | changes))  # type: ignore[arg-type]


def scored(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


APART = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60]])
SCORES = scored((0.2, 0.1, 0.7), (0.9, 0.0, 0.1), (0.04, 0.6, 0.36))
"""Of two classes and background, for the three boxes APART."""


def per_class(boxes: Tensor, classes: int = 2) -> Tensor:
    return boxes.repeat(1, classes)


def test_detections_are_sorted_and_above_the_threshold() -> None:
    found = a_selection()(SCORES, per_class(APART), SIZE)
    assert_close(found.scores, torch.tensor([0.9, 0.6, 0.2, 0.1]))
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert_close(found.boxes, APART[[1, 2, 0, 0]])


def test_class_agnostic_boxes_serve_every_class() -> None:
    assert_close(a_selection()(SCORES, APART, SIZE).boxes, a_selection()(SCORES, per_class(APART), SIZE).boxes)


def test_one_class() -> None:
    found = a_selection()(scored((0.3, 0.7), (0.8, 0.2)), APART[:2], SIZE)
    assert_close(found.boxes, APART[[1, 0]])
    assert found.labels.tolist() == [0, 0]


def test_each_class_has_its_own_box_and_its_own_suppression() -> None:
    """Two boxes of 0.9 overlap: of the same class one stays, of two classes both."""
    boxes = torch.tensor([[0.0, 0, 10, 10, 0, 0, 20, 20], [0, 0, 10, 9, 0, 0, 20, 18]])
    found = a_selection()(scored((0.6, 0.3, 0.1), (0.5, 0.4, 0.1)), boxes, SIZE)
    assert found.labels.tolist() == [0, 1]
    assert_close(found.boxes, torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 18]]))


@pytest.mark.parametrize(("most", "count"), [(2, 2), (10, 4), (None, 4), (0, 0)])
def test_most_detections(most: int | None, count: int) -> None:
    assert len(a_selection(max_detections=most)(SCORES, per_class(APART), SIZE)) == count


def test_boxes_are_clipped_to_the_picture() -> None:
    found = a_selection()(SCORES, per_class(APART), ImageSize(25, 50))
    assert_close(found.boxes[0], torch.tensor([20.0, 20, 30, 25]))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_row_that_is_no_number_is_dropped(broken: float) -> None:
    boxes = per_class(APART)
    boxes[1, 3] = broken
    assert_close(a_selection()(SCORES, boxes, SIZE).scores, torch.tensor([0.6, 0.2, 0.1]))


@pytest.mark.parametrize("columns", [4, 8])
def test_nothing_to_select_from(columns: int) -> None:
    found = a_selection()(torch.zeros(0, 3), torch.zeros(0, columns), SIZE)
    assert (found.boxes.shape, len(found.scores), len(found.labels)) == ((0, 4), 0, 0)


def test_class_weights_multiply_what_a_class_adds() -> None:
    predictor = BoxPredictor(
        2, 2, class_agnostic=True, box_loss=BoxLoss(BoxCoder((1.0,) * 4), "smooth_l1", 0.0), box_loss_weight=1.0, sigmoid=False
    )
    logits, labels = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([0, 2])
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    predictor.weigh_classes(torch.tensor([3.0, 1.0]))
    assert_close(predictor.class_loss(logits, labels), (3 * each[0] + each[1]) / 2)
    predictor.sigmoid = True
    rows = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, :2], torch.tensor([[1.0, 0.0], [0.0, 0.0]]), reduction="none"
    )
    assert_close(predictor.class_loss(logits, labels), (3 * rows[:, 0] + rows[:, 1]).sum() / 2)
    assert not [name for name in predictor.state_dict() if "weights" in name]
