"""RetinaNet: Detectron2's names, its losses by hand, and what it selects."""

import math

import pytest
import torch
from builders import RETINANET, a_detector
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import BoxCoder
from sightline.model.instances import Found, Targets
from sightline.model.losses import OVERLAP_LOSSES, BoxLoss
from sightline.model.matching import IGNORE, Matcher
from sightline.model.retinanet import LevelNorms, RetinaNet, RetinaNetHead
from sightline.records import ImageSize

SIZE = ImageSize(32, 32)
CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
LEVELS = {"p3": (4, 4), "p4": (2, 2)}


def a_head(**changes: object) -> RetinaNetHead:
    defaults = {"in_channels": 4, "levels": 2, "anchors": 1, "classes": 2, "convs": 1, "norm": "", "prior": 0.01}
    return RetinaNetHead(**(defaults | changes))  # type: ignore[arg-type]


def a_retinanet(head: RetinaNetHead | None = None, **changes: object) -> RetinaNet:
    """Two levels (strides 8 and 16) of square anchors of 8 and 16 px, one a cell; a zero head gives logits and deltas 0."""
    grid = AnchorGrid(sizes=[[8], [16]], aspect_ratios=[[1.0], [1.0]], strides=[8, 16], offset=0.5)
    defaults = {
        "backbone": nn.Identity(),
        "head": a_head() if head is None else head,
        "anchors": grid,
        "matcher": Matcher((0.4, 0.5), (0, IGNORE, 1), keep_best=True),
        "box_loss": BoxLoss(CODER, "smooth_l1", 0.0),
        "in_features": ("p3", "p4"),
        "focal_alpha": 0.25,
        "focal_gamma": 2.0,
        "score_threshold": 0.05,
        "candidates": 100,
        "nms_iou": 0.5,
        "max_detections": 10,
        "pixel_mean": (0.0, 0.0, 0.0),
        "pixel_std": (1.0, 1.0, 1.0),
        "size_divisor": 16,
    }
    return RetinaNet(**(defaults | changes))  # type: ignore[arg-type]


def zeroed(model: RetinaNet) -> RetinaNet:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def some_features(batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, 4, *size, generator=generator) for name, size in LEVELS.items()}


def targets(*rows: tuple[float, ...], labels: tuple[int, ...] = ()) -> Targets:
    return Targets(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(labels, dtype=torch.int64))


def losses_of(model: RetinaNet, *truth: Targets) -> dict[str, Tensor]:
    return model.losses(some_features(len(truth)), [SIZE] * len(truth), truth)


def test_names_are_detectron2s() -> None:
    names = set(a_detector(*RETINANET).state_dict())
    assert {
        "head.cls_subnet.0.weight",
        "head.bbox_subnet.0.bias",
        "head.cls_score.bias",
        "head.bbox_pred.weight",
        "backbone.top_block.p6.weight",
        "backbone.top_block.p7.bias",
        "backbone.fpn_lateral3.weight",
    } <= names
    assert {name.split(".")[0] for name in names} == {"backbone", "head"}


@pytest.mark.parametrize(
    ("norm", "first"),
    [
        pytest.param("", set(), id="none"),
        pytest.param("GN", {"1.weight", "1.bias"}, id="GN"),
        pytest.param(
            "BN",
            {"1.weight", "1.bias"}
            | {f"1.{level}.{part}" for level in (0, 1) for part in ("running_mean", "running_var", "num_batches_tracked")},
            id="BN",
        ),
    ],
)
def test_names_of_norms_in_the_head(norm: str, first: set[str]) -> None:
    """Convolutions keep their bias whatever the norm; the second one's number counts the norm and the ReLU before it."""
    names = set(a_head(in_channels=32, convs=2, norm=norm).state_dict())
    step = 3 if norm else 2
    second = {f"{int(name[0]) + step}{name[1:]}" for name in first}
    convs = {f"{number}.{part}" for number in (0, step) for part in ("weight", "bias")}
    assert {name.removeprefix("cls_subnet.") for name in names if name.startswith("cls_subnet")} == convs | first | second


def test_batch_norms_keep_statistics_of_every_level_and_share_their_scale() -> None:
    norms = LevelNorms(2, 3).train()
    nn.init.constant_(norms.weight, 2.0)
    nn.init.constant_(norms.bias, 1.0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 5, 5, generator=generator) * 3 + 7
    expected = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt() * 2 + 1
    assert_close(norms(x, 1), expected)
    assert norms[0].num_batches_tracked == 0
    assert_close(norms[1].running_mean, 0.1 * x.mean((0, 2, 3)))


def test_every_level_is_normed_by_its_own_statistics() -> None:
    head = a_head(norm="BN").eval()
    for subnet in (head.cls_subnet, head.bbox_subnet):
        nn.init.dirac_(subnet[0].weight)
        subnet[1][1].running_mean += 100.0
    same = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)).abs()
    (first, second), _ = head([same, same])
    assert first[0, 0, 0] != second[0, 0, 0]
    assert_close(second, head.cls_score.bias.expand_as(second))  # nothing positive is left after the ReLU


def test_answers_come_in_the_order_of_the_anchors() -> None:
    """A head without convolutions whose answer is the cell's number, plus 100 for each anchor, plus 1000 for each class."""
    head = a_head(in_channels=1, anchors=2, convs=0)
    for layer in (head.cls_score, head.bbox_pred):
        nn.init.zeros_(layer.weight)
        layer.weight.data[:, :, 1, 1] = 1.0
    head.cls_score.bias.data = torch.tensor([0.0, 1000, 100, 1100])
    head.bbox_pred.bias.data = torch.arange(8) * 1000.0
    (logits,), (deltas,) = head([torch.arange(6.0).reshape(1, 1, 2, 3)])
    cells = torch.arange(6.0)[:, None, None]
    assert_close(logits, (cells + torch.tensor([[0.0, 1000], [100, 1100]])).reshape(1, 12, 2))
    assert_close(deltas, (cells + 1000 * torch.arange(8.0).reshape(2, 4)).reshape(1, 12, 4))


@pytest.mark.parametrize("prior", [0.01, 0.2])
def test_a_fresh_head_scores_about_the_prior_everywhere(prior: float) -> None:
    (logits, *_), _ = a_head(prior=prior, in_channels=16)(
        [torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))]
    )
    assert_close(logits.sigmoid(), torch.full_like(logits, prior), rtol=0.5, atol=0)


def focal(logit: float, wanted: int, alpha: float, gamma: float) -> float:
    """-alpha_t (1 - p_t)^gamma log p_t, as the paper writes it (equation 5)."""
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, alpha) if wanted else (1 - p, 1 - alpha)
    return -(1.0 if alpha < 0 else alpha_t) * (1 - p_t) ** gamma * math.log(p_t)


TRUTH = targets((8, 8, 16, 14), labels=(1,))
"""Overlaps the anchor (8, 8, 16, 16) by 0.75, no other of 8 px, and the one of 16 px over it by 48 of 256."""


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (-1.0, 2.0), (-3.0, 1.5)])
def test_class_loss_is_the_focal_loss_written_out(alpha: float, gamma: float) -> None:
    """The same two logits for each of 20 anchors, one of them of class 1; the normaliser after it: 90 + 0.1."""
    model = zeroed(a_retinanet(focal_alpha=alpha, focal_gamma=gamma))
    model.head.cls_score.bias.data = torch.tensor([-1.0, 0.5])
    found = losses_of(model, TRUTH)["loss_cls"].item()
    expected = 20 * focal(-1.0, 0, alpha, gamma) + 19 * focal(0.5, 0, alpha, gamma) + focal(0.5, 1, alpha, gamma)
    assert_close(found, expected / 90.1, rtol=1e-5, atol=0)


def test_box_loss_by_hand() -> None:
    """Deltas 0 for the one positive anchor: its encoded distance over the normaliser."""
    model = zeroed(a_retinanet())
    distance = CODER.encode(torch.tensor([[8.0, 8, 16, 16]]), TRUTH.boxes).abs().sum()
    assert_close(losses_of(model, TRUTH)["loss_box_reg"], distance / 90.1)


def test_the_normaliser_is_a_running_mean_of_positive_anchors() -> None:
    """It begins at 100 and keeps 0.9 of itself; the batch's count is of all its pictures, and at least 1."""
    model = a_retinanet()
    counts = []
    for truth in ([TRUTH, TRUTH, targets()], [targets()], [TRUTH]):
        losses_of(model, *truth)
        counts.append(model.loss_normalizer.item())
    expected = [100 * 0.9 + 2 * 0.1]
    expected += [expected[0] * 0.9 + 1 * 0.1]
    expected += [expected[1] * 0.9 + 1 * 0.1]
    assert_close(counts, expected, rtol=1e-6, atol=0)


def test_the_normaliser_is_no_part_of_the_state_dict() -> None:
    """Detectron2's checkpoints have none; training keeps it beside them."""
    model = a_retinanet()
    assert not any("normalizer" in name for name in model.state_dict())
    assert model.running_buffers == ("loss_normalizer",)


def test_detecting_leaves_the_normaliser_alone() -> None:
    model = a_detector(*RETINANET)
    model.detect([torch.zeros(3, 64, 64)], [ImageSize(64, 64)])
    assert model.get_buffer("loss_normalizer").item() == 100


def test_an_anchor_learns_the_class_of_the_box_it_fits() -> None:
    model = a_retinanet()
    anchors = torch.cat(model.anchors(list(some_features().values())))
    labels, boxes = model.assign(anchors, targets((8, 8, 16, 14), (16, 16, 24, 24), labels=(1, 0)))
    rows = {label: (labels == label).nonzero().flatten() for label in (0, 1)}
    assert anchors[rows[1]].tolist() == [[8, 8, 16, 16]]
    assert anchors[rows[0]].tolist() == [[16, 16, 24, 24]]
    assert boxes[rows[1]].tolist() == [[8, 8, 16, 14]]
    assert set(labels.tolist()) == {0, 1, 2}


def test_ignored_anchors_have_no_class_loss() -> None:
    """One of 20 anchors overlaps by 0.4375: neither object nor background. Another box makes sure it is no one's best."""
    truth = targets((8, 8, 16, 16), (8, 8, 16, 11.5), labels=(1, 1))
    model = zeroed(a_retinanet(matcher=Matcher((0.4, 0.5), (0, IGNORE, 1), keep_best=False)))
    anchors = torch.cat(model.anchors(list(some_features().values())))
    ignored = targets(*truth.boxes[1:].tolist(), labels=(1,))
    labels, _ = model.assign(anchors, ignored)
    assert labels.tolist().count(IGNORE) == 1
    found = losses_of(model, ignored)["loss_cls"].item()
    assert_close(found, 19 * 2 * focal(0.0, 0, 0.25, 2.0) / 90.1, rtol=1e-5, atol=0)


def test_empty_truth_teaches_that_nothing_is_there() -> None:
    model = zeroed(a_retinanet())
    losses = losses_of(model, targets(), targets())
    assert losses["loss_box_reg"].item() == 0
    assert_close(losses["loss_cls"].item(), 2 * 20 * 2 * focal(0.0, 0, 0.25, 2.0) / 90.1, rtol=1e-5, atol=0)
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["smooth_l1", *OVERLAP_LOSSES])
def test_every_box_loss_brings_boxes_nearer(kind: str) -> None:
    model = a_retinanet(box_loss=BoxLoss(CODER, kind, 0.1))
    optimizer = torch.optim.Adam(model.head.bbox_pred.parameters(), lr=0.01)
    seen = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = losses_of(model, TRUTH)["loss_box_reg"]
        loss.backward()
        optimizer.step()
        seen.append(loss.item() * model.loss_normalizer.item())
    assert seen[-1] < seen[0] * 0.9


def select(model: RetinaNet, *rows: tuple[int, int, tuple[float, ...], tuple[float, ...]]) -> Found:
    """Of (level, row, scores of the two classes, deltas) each; everything else scores 0."""
    anchors = model.anchors(list(some_features().values()))
    scores, deltas = [torch.zeros(len(a), 2) for a in anchors], [torch.zeros(len(a), 4) for a in anchors]
    for level, row, classes, delta in rows:
        scores[level][row], deltas[level][row] = torch.tensor(classes), torch.tensor(delta)
    return model.select(anchors, scores, deltas)


STAY = (0.0, 0.0, 0.0, 0.0)


def test_detections_of_all_levels_are_sorted_and_above_the_threshold() -> None:
    found = select(a_retinanet(), (0, 0, (0.2, 0.0), STAY), (1, 3, (0.0, 0.9), STAY), (0, 5, (0.05, 0.051), STAY))
    assert_close(found.scores, torch.tensor([0.9, 0.2, 0.051]))
    assert found.labels.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [[16, 16, 32, 32], [0, 0, 8, 8], [8, 8, 16, 16]]


def test_boxes_move_by_their_deltas() -> None:
    found = select(a_retinanet(), (0, 0, (0.2, 0.0), (1.0, 0.5, math.log(2), 0.0)))
    assert_close(found.boxes, torch.tensor([[4.0, 4, 20, 12]]))


def test_an_anchor_may_be_found_as_two_classes() -> None:
    found = select(a_retinanet(), (0, 0, (0.2, 0.7), STAY))
    assert found.labels.tolist() == [1, 0]


def test_suppression_is_within_a_class_and_across_levels() -> None:
    """An anchor of 8 px, grown onto the one of 16 px."""
    grown = (0.5, 0.5, math.log(2), math.log(2))
    same = select(a_retinanet(), (0, 0, (0.2, 0.0), grown), (1, 0, (0.3, 0.0), STAY))
    apart = select(a_retinanet(), (0, 0, (0.2, 0.0), grown), (1, 0, (0.0, 0.3), STAY))
    assert_close(same.scores, torch.tensor([0.3]))
    assert_close(apart.scores, torch.tensor([0.3, 0.2]))


def test_candidates_are_counted_level_by_level() -> None:
    """Pairs of anchor and class: one a level."""
    model = a_retinanet(candidates=1)
    found = select(model, (0, 0, (0.9, 0.8), STAY), (0, 5, (0.7, 0.0), STAY), (1, 3, (0.1, 0.2), STAY))
    assert_close(found.scores, torch.tensor([0.9, 0.2]))


@pytest.mark.parametrize(("most", "count"), [(2, 2), (None, 4), (0, 0)])
def test_most_detections(most: int | None, count: int) -> None:
    rows = [(0, row, (0.1 + row / 100, 0.0), STAY) for row in (0, 2, 8, 10)]
    assert len(select(a_retinanet(max_detections=most), *rows)) == count


def test_nothing_above_the_threshold() -> None:
    found = select(a_retinanet())
    assert (found.boxes.shape, len(found.scores), len(found.labels)) == ((0, 4), 0, 0)


def test_pictures_of_a_batch_are_selected_each_for_itself() -> None:
    model = a_retinanet(score_threshold=0.0).eval()
    nn.init.normal_(model.head.cls_score.weight, std=0.5)
    features = some_features(2)
    with torch.no_grad():
        together = model.find(features, [SIZE, SIZE])
        for picture, found in enumerate(together):
            (alone,) = model.find({name: f[picture : picture + 1] for name, f in features.items()}, [SIZE])
            assert len(found) > 0
            assert_close((found.boxes, found.scores, found.labels), (alone.boxes, alone.scores, alone.labels))


def test_class_weights_multiply_each_classes_column() -> None:
    model = a_detector(*RETINANET).train()
    logits, wanted = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    columns = []
    for column in (0, 1):
        only = torch.full((2,), 0.0)
        only[column] = 1.0
        model.weigh_classes(only.tolist())
        columns.append(model.focal_loss(logits, wanted))
    model.weigh_classes([3.0, 0.5])
    assert_close(model.focal_loss(logits, wanted), 3 * columns[0] + 0.5 * columns[1])
    model.weigh_classes([1.0, 1.0])
    weighed = model.focal_loss(logits, wanted)
    model.class_weights = None
    assert_close(weighed, model.focal_loss(logits, wanted))
