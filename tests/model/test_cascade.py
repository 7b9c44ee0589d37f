"""Cascades: every stage learns from the boxes of the one before, by an overlap of its own."""

import pytest
import torch
from builders import CASCADE, MASKS, a_config, a_detector
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.errors import ConfigError
from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import BoxCoder
from sightline.model.build import build_detector
from sightline.model.cascade import CascadeROIHeads, ScaledGradient
from sightline.model.instances import Proposals, Sampled, Targets
from sightline.model.losses import BoxLoss
from sightline.model.matching import Matcher
from sightline.model.pooling import Pooler
from sightline.model.roi_heads import Sampling
from sightline.records import ImageSize

SIZE = ImageSize(64, 64)
FEATURES = {"p3": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))}
WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


class Remembering(BoxPredictor):
    """Zero logits and deltas (until biases are set); keeps what it was taught."""

    seen: Sampled

    def losses(self, logits: Tensor, deltas: Tensor, sampled: list[Sampled]) -> dict[str, Tensor]:
        (self.seen,) = sampled
        return super().losses(logits, deltas, sampled)


def a_predictor(weights: tuple[float, float, float, float]) -> Remembering:
    loss = BoxLoss(BoxCoder(weights), "smooth_l1", 0.0)
    predictor = Remembering(6, 2, class_agnostic=True, box_loss=loss, box_loss_weight=1.0, sigmoid=False)
    for parameter in predictor.parameters():
        nn.init.zeros_(parameter)
    return predictor


def some_heads(count: int = 8) -> CascadeROIHeads:
    """Three stages; the sample has all candidates, if there are no more than `count`."""
    matchers = [Matcher((iou,), (0, 1), keep_best=False) for iou in (0.5, 0.6, 0.7)]
    return CascadeROIHeads(
        box_pooler=Pooler(resolution=2, strides=[8], sampling_ratio=2, aligned=True),
        box_heads=[BoxHead(in_channels=4, resolution=2, conv_dims=[], fc_dims=[6], norm="") for _ in matchers],
        box_predictors=[a_predictor(weights) for weights in WEIGHTS],
        matchers=matchers,
        mask_pooler=None,
        mask_head=None,
        in_features=("p3",),
        sampling=Sampling(matchers[0], classes=2, count=count, positive_share=1.0, append_true_boxes=False),
        selection=Selection(0.05, 0.5, 10),
    )


def proposals(*rows: tuple[float, ...]) -> Proposals:
    return Proposals(torch.tensor(rows).reshape(-1, 4).float(), torch.zeros(len(rows)))


def targets(*rows: tuple[float, ...], labels: tuple[int, ...] = ()) -> Targets:
    return Targets(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(labels, dtype=torch.int64))


TRUTH = targets((0, 0, 10, 10), labels=(1,))


def taught(heads: CascadeROIHeads, given: Proposals, truth: Targets = TRUTH) -> list[Sampled]:
    heads.losses(FEATURES, [given], [SIZE], [truth])
    return [heads.predictor(stage).seen for stage in range(3)]


def test_a_scaled_gradient_is_all_that_is_scaled() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = ScaledGradient.apply(x, 0.25)
    assert_close(y, x)
    (y * torch.tensor([4.0, 8.0])).sum().backward()
    assert_close(x.grad, torch.tensor([1.0, 2.0]))


def test_features_take_a_third_of_each_of_three_stages_gradient() -> None:
    found = {}
    for stages in (1, 3):
        heads = some_heads()
        for head in heads.box_head:
            nn.init.constant_(head.fc1.weight, 0.1)
        for stage in range(3):
            nn.init.constant_(heads.predictor(stage).cls_score.weight[0], 1.0)
        features = FEATURES["p3"].abs().requires_grad_()
        if stages == 1:
            pooled = heads.box_pooler([features], [torch.tensor([[0.0, 0, 20, 20]])])
            heads.predictor(0)(heads.box_head[0](pooled))[0].sum().backward()
        else:
            heads.predict({"p3": features}, [torch.tensor([[0.0, 0, 20, 20]])], 0)[0].sum().backward()
        found[stages] = features.grad
    assert found[1].abs().sum() > 0
    assert_close(found[3], found[1] / 3)


def test_every_stage_has_its_losses() -> None:
    losses = some_heads().losses(FEATURES, [proposals((0, 0, 10, 8))], [SIZE], [TRUTH])
    assert list(losses) == [f"{name}_stage{stage}" for stage in range(3) for name in ("loss_cls", "loss_box_reg")]


def test_masks_learn_from_the_first_stages_sample_once() -> None:
    model = a_detector(*CASCADE, *MASKS).train()
    shape = (torch.tensor([5.0, 5, 40, 5, 40, 40]).double().numpy(),)
    truth = Targets(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([1]), [shape])
    losses = model([torch.full((3, 64, 64), 100)], [truth])
    assert sorted(name for name in losses if "mask" in name) == ["loss_mask"]


def test_each_stage_labels_by_its_own_overlap_and_none_is_drawn() -> None:
    """Boxes that stay where they are: overlaps of 0.55, 0.65, 0.75 and 0 with the truth."""
    given = proposals((0, 0, 10, 5.5), (0, 0, 10, 6.5), (0, 0, 10, 7.5), (40, 40, 50, 50))
    heights = [
        {round(box[3].item(), 1): label.item() for box, label in zip(seen.boxes, seen.labels, strict=True)}
        for seen in taught(some_heads(), given)
    ]
    assert heights == [
        {5.5: 1, 6.5: 1, 7.5: 1, 50: 2},
        {5.5: 2, 6.5: 1, 7.5: 1, 50: 2},
        {5.5: 2, 6.5: 2, 7.5: 1, 50: 2},
    ]


def test_a_stage_goes_on_from_the_boxes_of_the_one_before() -> None:
    """The first stage shifts by half a box, the second by a quarter, in units of their own weights."""
    heads = some_heads()
    heads.predictor(0).bbox_pred.bias.data[0] = 5.0
    heads.predictor(1).bbox_pred.bias.data[0] = 5.0
    first, second, third = taught(heads, proposals((0, 0, 10, 10)))
    assert_close(first.boxes, torch.tensor([[0.0, 0, 10, 10]]))
    assert_close(second.boxes, torch.tensor([[5.0, 0, 15, 10]]))
    assert_close(third.boxes, torch.tensor([[7.5, 0, 17.5, 10]]))
    assert [s.labels.tolist() for s in (first, second, third)] == [[1], [2], [2]]


def test_boxes_that_leave_the_picture_are_cut_or_dropped_in_training() -> None:
    heads = some_heads()
    heads.predictor(0).bbox_pred.bias.data[0] = 20.0  # two boxes to the right
    _, second, _ = taught(heads, proposals((38, 0, 50, 10), (50, 0, 60, 10)))
    assert_close(second.boxes, torch.tensor([[62.0, 0, 64, 10]]))


def test_later_stages_are_no_path_for_gradients_to_earlier_deltas() -> None:
    heads = some_heads()
    losses = heads.losses(FEATURES, [proposals((0, 0, 10, 8))], [SIZE], [TRUTH])
    losses["loss_box_reg_stage1"].backward()
    assert heads.predictor(0).bbox_pred.bias.grad is None
    assert heads.predictor(1).bbox_pred.bias.grad.any()


@pytest.mark.parametrize("given", [proposals((0, 0, 10, 8)), proposals()], ids=["background", "no proposals"])
def test_empty_truth(given: Proposals) -> None:
    heads = some_heads()
    losses = heads.losses(FEATURES, [given], [SIZE], [targets()])
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(losses[f"loss_box_reg_stage{stage}"].item() == 0 for stage in range(3))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in heads.parameters())


def test_scores_are_the_mean_of_all_stages_and_boxes_are_the_last_ones() -> None:
    heads = some_heads().eval()
    for stage, logit in enumerate((1.0, 2.0, 4.0)):
        heads.predictor(stage).cls_score.bias.data[0] = logit
        heads.predictor(stage).bbox_pred.bias.data[0] = WEIGHTS[stage][0] / 10  # a tenth of a box each
    (found,) = heads.find(FEATURES, [proposals((0, 0, 10, 10))], [SIZE])
    mean = torch.stack([torch.tensor([logit, 0.0, 0.0]).softmax(dim=0) for logit in (1.0, 2.0, 4.0)]).mean(dim=0)
    assert_close(found.scores, mean[:2])
    assert_close(found.boxes, torch.tensor([[3.0, 0, 13, 10]] * 2))


def test_boxes_are_cut_between_stages_and_none_is_lost() -> None:
    """Scores of all stages are of the same rows, so a box that leaves the picture stays as a row of no area."""
    heads = some_heads().eval()
    heads.predictor(0).bbox_pred.bias.data[0] = 20.0
    (found,) = heads.find(FEATURES, [proposals((38, 0, 50, 10), (50, 0, 60, 10))], [SIZE])
    assert {tuple(box) for box in found.boxes.tolist()} == {(62.0, 0.0, 64.0, 10.0), (64.0, 0.0, 64.0, 10.0)}


def test_names_are_detectron2s() -> None:
    names = set(a_detector(*CASCADE, *MASKS).state_dict())
    assert {
        "roi_heads.box_head.0.fc1.weight",
        "roi_heads.box_head.2.fc2.bias",
        "roi_heads.box_predictor.0.bbox_pred.weight",
        "roi_heads.box_predictor.2.cls_score.weight",
        "roi_heads.mask_head.mask_fcn1.weight",
    } <= names
    assert not {name for name in names if name.startswith("roi_heads.box_predictor.3")}


@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        pytest.param(
            ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"),
            r"is False with CascadeROIHeads\. Set it to True",
            id="own boxes",
        ),
        pytest.param(("MODEL.ROI_HEADS.IOU_THRESHOLDS", "(0.6,)"), "make them equal", id="another first overlap"),
        pytest.param(("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "(0.5,0.6)"), "Give one of each for every stage.", id="two of three"),
        pytest.param(
            ("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "()", "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", "()"),
            "Give one of each for every stage.",
            id="no stage",
        ),
    ],
)
def test_what_is_refused(overrides: tuple[str, ...], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        build_detector(a_config(*CASCADE, *overrides))


def test_the_first_stage_draws_as_the_heads_say() -> None:
    """With a band of overlaps that are ignored; the stages after it have none."""
    band = ("MODEL.ROI_HEADS.IOU_THRESHOLDS", "(0.5,0.6)", "MODEL.ROI_HEADS.IOU_LABELS", "(0,-1,1)")
    heads = a_detector(*CASCADE, *band).get_submodule("roi_heads")
    assert isinstance(heads, CascadeROIHeads)
    assert heads.sampling.matcher == Matcher((0.5, 0.6), (0, -1, 1), keep_best=False)
    assert list(heads.matchers[1:]) == [Matcher((iou,), (0, 1), keep_best=False) for iou in (0.6, 0.7)]
