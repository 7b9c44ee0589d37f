"""The second stage: the sample it learns from, and what its branches see."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.geometry.masks import Outlines
from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import BoxCoder
from sightline.model.instances import Found, Proposals, Targets
from sightline.model.losses import BoxLoss
from sightline.model.mask_head import MaskHead
from sightline.model.matching import Matcher
from sightline.model.pooling import Pooler
from sightline.model.resnet import bottleneck_stage
from sightline.model.roi_heads import Res5ROIHeads, Sampling, StandardROIHeads
from sightline.records import ImageSize

SIZE = ImageSize(64, 64)
SIZES = [SIZE, SIZE]
FEATURES = {"p3": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))}
MATCHER = Matcher((0.5,), (0, 1), keep_best=False)
SELECTION = Selection(0.05, 0.5, 10)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def a_sampling(classes: int = 2, **changes: object) -> Sampling:
    defaults = {"matcher": MATCHER, "count": 8, "positive_share": 0.25, "append_true_boxes": True}
    return Sampling(classes=classes, **(defaults | changes))  # type: ignore[arg-type]


def a_predictor(in_dim: int, classes: int = 2, *, agnostic: bool = False) -> BoxPredictor:
    loss = BoxLoss(CODER, "smooth_l1", 0.0)
    return BoxPredictor(in_dim, classes, class_agnostic=agnostic, box_loss=loss, box_loss_weight=1.0, sigmoid=False)


def some_heads(*, agnostic: bool = False, masks: bool = False, refined: bool = False, **sampling: object) -> StandardROIHeads:
    head = BoxHead(in_channels=4, resolution=2, conv_dims=[], fc_dims=[6], norm="")
    return StandardROIHeads(
        box_pooler=Pooler(resolution=2, strides=[8], sampling_ratio=2, aligned=True),
        box_head=head,
        box_predictor=a_predictor(head.out_dim, agnostic=agnostic),
        mask_pooler=Pooler(resolution=4, strides=[8], sampling_ratio=2, aligned=True) if masks else None,
        mask_head=MaskHead(in_channels=4, convs=1, width=4, classes=2, norm="") if masks else None,
        in_features=("p3",),
        sampling=a_sampling(**sampling),  # type: ignore[arg-type]
        selection=SELECTION,
        train_on_refined=refined,
    )


def some_res5_heads() -> Res5ROIHeads:
    """With masks; res5 takes 4 channels to 8 at half the resolution."""
    return Res5ROIHeads(
        pooler=Pooler(resolution=4, strides=[8], sampling_ratio=2, aligned=True),
        res5=bottleneck_stage(
            3,
            in_channels=4,
            out_channels=8,
            width=4,
            stride=2,
            groups=1,
            dilation=1,
            stride_in_1x1=True,
            norm="FrozenBN",
        ),
        box_predictor=a_predictor(8),
        mask_head=MaskHead(in_channels=8, convs=0, width=4, classes=2, norm=""),
        in_features=("p3",),
        sampling=a_sampling(),
        selection=SELECTION,
    )


def proposals(*rows: tuple[float, ...]) -> Proposals:
    return Proposals(torch.tensor(rows).reshape(-1, 4).float(), torch.zeros(len(rows)))


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Outlines:
    return (np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64),)


def targets(*rows: tuple[float, ...], labels: tuple[int, ...] = (), masks: tuple[Outlines, ...] | None = None) -> Targets:
    """Each object fills its box, unless `masks` says otherwise."""
    shapes = [rectangle(*row) for row in rows] if masks is None else masks
    return Targets(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(labels, dtype=torch.int64), shapes)


FAR = tuple((float(40 + i), 40.0, float(44 + i), 44.0) for i in range(20))
"""Proposals that meet no true box of these tests."""


def test_the_sample_is_balanced_and_true_boxes_are_among_it() -> None:
    sampled = a_sampling()(proposals(*FAR), targets((0, 0, 10, 10), labels=(1,)))
    assert sampled.labels.tolist() == [1, *[2] * 7]
    assert_close(sampled.boxes[0], torch.tensor([0.0, 0, 10, 10]))
    assert_close(sampled.true_boxes[0], torch.tensor([0.0, 0, 10, 10]))


def test_without_the_true_boxes_only_proposals_are_drawn() -> None:
    sampled = a_sampling(append_true_boxes=False)(proposals(*FAR), targets((0, 0, 10, 10), labels=(1,)))
    assert sampled.labels.tolist() == [2] * 8


def test_a_proposal_takes_class_and_box_of_the_one_it_overlaps_most() -> None:
    truth = targets((0, 0, 10, 10), (20, 0, 30, 10), labels=(0, 1))
    sampled = a_sampling(append_true_boxes=False, positive_share=1.0)(proposals((0, 0, 10, 8), (20, 0, 29, 10)), truth)
    of_label = dict(zip(sampled.labels.tolist(), range(2), strict=True))
    assert sampled.true_boxes[of_label[0]].tolist() == [0, 0, 10, 10]
    assert sampled.true_boxes[of_label[1]].tolist() == [20, 0, 30, 10]
    assert [sampled.matches[of_label[label]].item() for label in (0, 1)] == [0, 1]


def test_an_ignored_proposal_is_never_drawn() -> None:
    sampling = a_sampling(matcher=Matcher((0.3, 0.5), (0, -1, 1), keep_best=False), append_true_boxes=False)
    sampled = sampling(proposals((0, 0, 10, 4), *FAR[:3]), targets((0, 0, 10, 10), labels=(1,)))  # overlap 0.4
    assert sampled.labels.tolist() == [2, 2, 2]
    assert (sampled.boxes[:, 0] >= 40).all()


def test_a_background_picture_gives_background() -> None:
    sampled = a_sampling()(proposals(*FAR), targets())
    assert sampled.labels.tolist() == [2] * 8
    assert sampled.true_boxes.shape == (8, 4)


def zeroed(heads: nn.Module) -> nn.Module:
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    return heads


def test_losses_by_hand() -> None:
    """All logits and deltas 0: cross entropy log(K + 1); box loss: the encoded distance over the size of both samples."""
    heads = zeroed(some_heads(append_true_boxes=False, positive_share=1.0))
    truth = targets((0, 0, 10, 10), labels=(1,))
    losses = heads.losses(FEATURES, [proposals((0, 0, 10, 8), *FAR[:3])] * 2, SIZES, [truth, targets()])
    distance = CODER.encode(torch.tensor([[0.0, 0, 10, 8]]), truth.boxes).abs().sum()
    assert_close(losses, {"loss_cls": torch.tensor(math.log(3)), "loss_box_reg": distance / 8})


@pytest.mark.parametrize("heads", [some_heads(), some_heads(masks=True), some_res5_heads()], ids=["boxes", "masks", "res5"])
@pytest.mark.parametrize("given", [[proposals(*FAR)] * 2, [proposals()] * 2], ids=["background", "no proposals at all"])
def test_background_pictures_give_finite_losses_and_gradients(
    heads: StandardROIHeads | Res5ROIHeads, given: list[Proposals]
) -> None:
    heads.zero_grad()
    losses = heads.losses(FEATURES, given, SIZES, [targets(), targets()])
    assert losses["loss_box_reg"].item() == 0
    assert losses.get("loss_mask", torch.zeros(())).item() == 0
    assert torch.isfinite(losses["loss_cls"])
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in heads.parameters())


@pytest.mark.parametrize("agnostic", [False, True])
def test_no_proposals_no_detections(agnostic: bool) -> None:
    heads = some_heads(agnostic=agnostic, masks=True).eval()
    (first, second) = heads.with_masks(FEATURES, heads.find(FEATURES, [proposals(), proposals(*FAR)], SIZES))
    assert (first.boxes.shape, len(first.scores), len(first.labels)) == ((0, 4), 0, 0)
    assert first.masks is not None and first.masks.shape == (0, 8, 8)
    assert len(second) > 0
    nothing = heads.with_masks(FEATURES, heads.find(FEATURES, [proposals(), proposals()], SIZES))
    assert [len(found) for found in nothing] == [0, 0]


class Seen(MaskHead):
    """A mask head of zeros that remembers what it learns from."""

    def loss(self, logits: Tensor, labels: Tensor, boxes: list[Tensor], masks: list[list[Outlines]]) -> dict[str, Tensor]:
        self.labels, self.boxes, self.masks = labels.tolist(), [b.tolist() for b in boxes], masks
        return super().loss(logits, labels, boxes, masks)


def remembering(heads: StandardROIHeads | Res5ROIHeads, in_channels: int = 4) -> Seen:
    heads.mask_head = Seen(in_channels=in_channels, convs=0, width=4, classes=2, norm="")
    return heads.mask_head


SIDE_BY_SIDE = targets((0, 0, 10, 10), (20, 0, 30, 10), labels=(0, 1))


@pytest.mark.parametrize(
    ("heads", "channels"), [(some_heads(masks=True), 4), (some_res5_heads(), 8)], ids=["a pooler of its own", "res5"]
)
def test_the_mask_branch_learns_each_object_from_its_own_mask(heads: StandardROIHeads | Res5ROIHeads, channels: int) -> None:
    """And nothing from background: two objects in the first picture, none in the second, one in a third."""
    seen = remembering(heads, channels)
    features = {"p3": torch.cat((FEATURES["p3"], FEATURES["p3"][:1]))}
    truth = [SIDE_BY_SIDE, targets(), targets((4, 4, 12, 20), labels=(1,))]
    heads.losses(features, [proposals(*FAR)] * 3, [SIZE] * 3, truth)
    assert [len(boxes) for boxes in seen.boxes] == [2, 0, 1]
    boxes, masks = (tuple(box) for row in seen.boxes for box in row), (mask for row in seen.masks for mask in row)
    learned = {box: (label, mask[0][:2].tolist()) for box, label, mask in zip(boxes, seen.labels, masks, strict=True)}
    assert learned == {(0, 0, 10, 10): (0, [0, 0]), (20, 0, 30, 10): (1, [20, 0]), (4, 4, 12, 20): (1, [4, 4])}


def test_a_mask_is_that_of_the_best_overlap_not_of_the_order() -> None:
    """Two objects of one class overlap a proposal by 0.5 and 0.9."""
    heads = some_heads(masks=True, append_true_boxes=False, positive_share=1.0)
    seen = remembering(heads)
    shapes = (rectangle(1, 1, 4, 4), rectangle(2, 2, 9, 9))
    truth = targets((0, 0, 10, 5), (0, 0, 10, 9), labels=(1, 1), masks=shapes)
    heads.losses(FEATURES, [proposals((0, 0, 10, 10))] * 2, SIZES, [truth, targets()])
    assert seen.masks[0] == [shapes[1]]


def test_training_on_refined_boxes_moves_what_the_mask_branch_sees_and_nothing_else() -> None:
    """Deltas of 1 box to the right for class 1 alone, whatever the features."""
    found = {}
    for refined in (False, True):
        heads = zeroed(some_heads(masks=True, refined=refined))
        seen = remembering(heads)
        heads.box_predictor.bbox_pred.bias.data[4] = 10.0
        losses = heads.losses(FEATURES, [proposals(*FAR)] * 2, SIZES, [SIDE_BY_SIDE, targets()])
        found[refined] = (sorted(seen.boxes[0]), {name: losses[name].item() for name in ("loss_cls", "loss_box_reg")})
    assert found[False][0] == [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert found[True][0] == [[0, 0, 10, 10], [30, 0, 40, 10]]
    assert found[False][1] == found[True][1]


def test_refined_boxes_are_no_path_for_the_masks_gradient() -> None:
    heads = some_heads(masks=True, refined=True)
    losses = heads.losses(FEATURES, [proposals(*FAR)] * 2, SIZES, [SIDE_BY_SIDE, targets()])
    losses["loss_mask"].backward()
    assert all(p.grad is None for p in heads.box_predictor.parameters())
    assert all(p.grad is not None for p in heads.mask_head.parameters())


def some_found(*rows: tuple[float, ...], labels: tuple[int, ...]) -> Found:
    return Found(torch.tensor(rows).reshape(-1, 4).float(), torch.full((len(rows),), 0.9), torch.tensor(labels))


@pytest.mark.parametrize("heads", [some_heads(masks=True), some_res5_heads()], ids=["a pooler of its own", "res5"])
def test_every_detection_gets_the_mask_of_its_box_and_label(heads: StandardROIHeads | Res5ROIHeads) -> None:
    heads.eval()
    nn.init.normal_(heads.mask_head.predictor.weight)
    given = [
        some_found((0, 0, 20, 20), (30, 10, 60, 40), labels=(1, 0)),
        some_found((0, 0, 20, 20), labels=(0,)),
    ]
    with torch.no_grad():
        together = heads.with_masks(FEATURES, given)
        for picture, found in enumerate(given):
            features = {"p3": FEATURES["p3"][picture : picture + 1]}
            for row in range(len(found)):
                (alone,) = heads.with_masks(features, [found.take(torch.tensor([row]))])
                assert_close(together[picture].masks[row], alone.masks[0])
    assert [len(found.masks) for found in together] == [2, 1]
    assert together[0].boxes is given[0].boxes


def test_without_a_mask_head_detections_stay_as_they_are() -> None:
    given = [some_found((0, 0, 20, 20), labels=(1,))]
    assert some_heads().with_masks(FEATURES, given) == given


def test_res5_is_shared_by_both_branches() -> None:
    """Names as in Detectron2; the same patches' mean goes to the boxes, the patches themselves to the masks."""
    heads = some_res5_heads().eval()
    names = set(heads.state_dict())
    assert {
        "res5.0.conv1.weight",
        "res5.0.shortcut.norm.bias",
        "res5.2.conv3.weight",
        "box_predictor.cls_score.weight",
    } <= names
    assert {name.split(".")[0] for name in names} == {"res5", "box_predictor", "mask_head"}
    boxes = [torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([[5.0, 5, 50, 60]])]
    shared = heads.mask_features(FEATURES, boxes)
    assert shared.shape == (2, 8, 2, 2)
    expected = heads.box_predictor.scores(heads.box_predictor(shared.mean(dim=(2, 3)))[0])
    for row, found in enumerate(heads.find(FEATURES, [proposals(*b.tolist()) for b in boxes], SIZES)):
        assert_close(found.scores, expected[row, :-1].sort(descending=True).values)


def test_masks_after_res5_learn_from_the_patches_of_their_own_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample holds background too; what reaches the mask head is what res5 makes of the objects' boxes, in their order."""
    heads = some_res5_heads().eval()
    seen = remembering(heads, in_channels=8)
    given: list[Tensor] = []
    plain = seen.forward
    monkeypatch.setattr(seen, "forward", lambda x: given.append(x) or plain(x))
    heads.losses(FEATURES, [proposals(*FAR)] * 2, SIZES, [SIDE_BY_SIDE, targets((4, 4, 12, 20), labels=(1,))])
    expected = heads.mask_features(FEATURES, [torch.tensor(boxes) for boxes in seen.boxes])
    assert [len(boxes) for boxes in seen.boxes] == [2, 1]
    assert_close(given[0], expected)
