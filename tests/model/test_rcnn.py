"""Two-stage detectors and proposals alone: odd pictures, empty truth, batches and single pictures."""

import pytest
import torch
from builders import C4, CASCADE, DC5, MASKS, PROPOSALS_ONLY, a_detector
from torch import Tensor
from torch.testing import assert_close

from sightline.model.detector import Detector
from sightline.model.instances import Found, Targets
from sightline.records import ImageSize

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


def a_picture(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def targets(*rows: tuple[float, ...], labels: tuple[int, ...] = ()) -> Targets:
    return Targets(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(labels, dtype=torch.int64))


def size_of(picture: Tensor) -> ImageSize:
    return ImageSize(picture.shape[1], picture.shape[2])


def detect(model: Detector, *pictures: Tensor) -> list[Found]:
    return model.detect(pictures, [size_of(picture) for picture in pictures])


def losses_of(model: Detector, pictures: list[Tensor], truth: list[Targets]) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.train()(pictures, truth)


@pytest.mark.parametrize("size", [(64, 64), (50, 77), (1, 1), (1, 300), (300, 2), (33, 31)], ids=str)
@pytest.mark.parametrize("classes", ["1", "2"])
def test_detections_are_sound_for_pictures_of_any_size(size: tuple[int, int], classes: str) -> None:
    (found,) = detect(a_detector("MODEL.ROI_HEADS.NUM_CLASSES", classes), a_picture(*size))
    assert len(found.scores) == len(found.boxes) == len(found.labels) <= 50
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert ((found.scores > 0.05) & (found.scores <= 1)).all()
    x1, y1, x2, y2 = found.boxes.unbind(1)
    assert ((x1 >= 0) & (y1 >= 0) & (x2 <= size[1]) & (y2 <= size[0]) & (x2 > x1) & (y2 > y1)).all()
    assert ((found.labels >= 0) & (found.labels < int(classes))).all()


def test_a_random_detector_finds_something() -> None:
    """Else the checks above would hold of nothing."""
    assert len(detect(a_detector(), a_picture())[0].scores) >= 5


def test_boxes_come_in_pixels_of_the_picture_before_resizing() -> None:
    model, picture = a_detector(), a_picture()
    (plain,) = detect(model, picture)
    (larger,) = model.detect([picture], [ImageSize(128, 640)])
    assert_close(larger.boxes, plain.boxes * torch.tensor([10.0, 2, 10, 2]))
    assert_close(larger.scores, plain.scores)


def test_a_batch_gives_what_its_pictures_give_alone() -> None:
    """Both are padded alike already, so nothing may differ but the order of sums."""
    model = a_detector()
    pictures = [a_picture(60, 90, seed=1), a_picture(64, 70, seed=2)]
    together = detect(model, *pictures)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = detect(model, picture)
        assert len(alone.scores) > 0
        assert_close((found.boxes, found.scores, found.labels), (alone.boxes, alone.scores, alone.labels), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "truth",
    [
        pytest.param(
            [targets((5, 5, 30, 40), labels=(1,)), targets((20, 8, 60, 30), (1, 1, 9, 9), labels=(0, 1))], id="objects"
        ),
        pytest.param([targets((5, 5, 30, 40), labels=(1,)), targets()], id="one background picture"),
        pytest.param([targets(), targets()], id="background only"),
        pytest.param([targets((5, 5, 5.01, 5.01), labels=(0,)), targets((0, 0, 64, 64), labels=(1,))], id="tiny and whole"),
    ],
)
@pytest.mark.parametrize("agnostic", ["True", "False"])
def test_losses_and_gradients_are_finite(truth: list[Targets], agnostic: str) -> None:
    model = a_detector("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", agnostic)
    losses = losses_of(model, [a_picture(seed=1), a_picture(64, 48, seed=2)], truth)
    assert set(losses) == LOSSES
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses.values())
    assert (losses["loss_box_reg"].item() == 0) == (not any(len(target.boxes) for target in truth))
    torch.stack(tuple(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)], ids=str)
def test_training_on_pictures_of_odd_shapes(size: tuple[int, int]) -> None:
    height, width = size
    truth = [targets((0, 0, width, height), labels=(1,)), targets()]
    losses = losses_of(a_detector(), [a_picture(*size), a_picture(*size)], truth)
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack(tuple(losses.values())).sum().backward()


def test_training_after_detecting_in_one_process() -> None:
    """Anchors are remembered; those made while detecting must not stop gradients later."""
    model, truth = a_detector(), [targets((5, 5, 30, 40), labels=(1,))] * 2
    pictures = [a_picture(seed=1), a_picture(seed=2)]
    fresh = losses_of(a_detector(), pictures, truth)
    detect(model, *pictures)
    losses = losses_of(model, pictures, truth)
    torch.stack(tuple(losses.values())).sum().backward()
    assert_close(losses, fresh)


ARCHITECTURES = [
    pytest.param((), id="FPN"),
    pytest.param(MASKS, id="masks"),
    pytest.param(C4, id="C4"),
    pytest.param((*C4, *MASKS), id="C4 with masks"),
    pytest.param(DC5, id="DC5"),
    pytest.param((*CASCADE, *MASKS), id="cascade with masks"),
    pytest.param(PROPOSALS_ONLY, id="proposals"),
]


@pytest.mark.parametrize("overrides", ARCHITECTURES)
def test_detections_have_a_mask_each_where_there_is_a_mask_head(overrides: tuple[str, ...]) -> None:
    model = a_detector(*overrides)
    (found,) = detect(model, a_picture())
    assert len(found) > 0
    assert model.gives_masks == ("MODEL.MASK_ON" in overrides)
    if found.masks is None:
        assert not model.gives_masks
    else:
        assert found.masks.shape == (len(found), *[found.masks.shape[-1]] * 2)
        assert ((found.masks >= 0) & (found.masks <= 1)).all()


def test_proposals_are_of_one_class_and_score_their_objectness() -> None:
    model = a_detector(*PROPOSALS_ONLY)
    batch, sizes = model.batch([a_picture()])
    with torch.no_grad():
        features = model.extract(batch)
        (found,) = model.find(features, sizes)
        (proposals,), _ = model.get_submodule("proposal_generator")(features, sizes)
    assert len(found) > 0
    assert found.labels.unique().tolist() == [0]
    assert_close(found.boxes, proposals.boxes)
    assert_close(found.scores, 1 / (1 + torch.exp(-proposals.logits)))
    assert set(losses_of(model, [a_picture()], [targets((5, 5, 30, 40), labels=(1,))])) == {"loss_rpn_cls", "loss_rpn_loc"}


def test_names_of_proposals_alone() -> None:
    """Those of the whole detector without its heads, so that one begins from the other's checkpoint."""
    whole, first = set(a_detector().state_dict()), set(a_detector(*PROPOSALS_ONLY).state_dict())
    assert first == {name for name in whole if not name.startswith("roi_heads.")}


def test_weights_are_of_the_seed() -> None:
    one, same, other = (a_detector(seed=seed).state_dict() for seed in (1, 1, 2))
    assert_close(dict(one), dict(same), rtol=0, atol=0)
    assert not torch.equal(one["backbone.fpn_lateral3.weight"], other["backbone.fpn_lateral3.weight"])


def test_state_dict_names_are_detectron2s() -> None:
    names = set(a_detector("MODEL.FPN.NORM", "").state_dict())
    assert {
        "backbone.bottom_up.stem.conv1.weight",
        "backbone.bottom_up.res5.1.conv2.norm.running_mean",
        "backbone.fpn_lateral3.weight",
        "backbone.fpn_output5.bias",
        "proposal_generator.rpn_head.conv.weight",
        "proposal_generator.rpn_head.objectness_logits.bias",
        "proposal_generator.rpn_head.anchor_deltas.weight",
        "roi_heads.box_head.fc1.weight",
        "roi_heads.box_head.fc2.bias",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
    } <= names
    assert {name.split(".")[0] for name in names} == {"backbone", "proposal_generator", "roi_heads"}
    assert not {name for name in names if "pixel" in name or "anchor_generator" in name}
