"""Configurations that contradict themselves are told so before anything is built; the others are built as they say."""

import re
from pathlib import Path

import pytest
import torch
from builders import a_config, a_detector

from sightline.config.sources import load
from sightline.config.yaml_dialect import load_file
from sightline.errors import ConfigError
from sightline.model.build import build_detector
from sightline.model.checkpoint import read_checkpoint, state_dict_of
from sightline.model.norms import FrozenBatchNorm2d
from sightline.model.rpn import Targets
from sightline.records import ImageSize

CONTRADICTIONS = [
    pytest.param("MODEL.RESNETS.OUT_FEATURES", "('res6',)", "Choose from res2, res3, res4, res5.", id="no such stage"),
    pytest.param("MODEL.RESNETS.OUT_FEATURES", "()", "Choose from res2, res3, res4, res5.", id="no stage"),
    pytest.param("MODEL.FPN.IN_FEATURES", "('p3', 'p4')", "Choose from res2, res3, res4, res5.", id="levels for stages"),
    pytest.param("MODEL.FPN.IN_FEATURES", "()", "Choose from res2", id="no feature"),
    pytest.param("MODEL.FPN.IN_FEATURES", "('res3', 'res5')", "Name neighbouring levels, finest first.", id="a gap"),
    pytest.param("MODEL.FPN.IN_FEATURES", "('res5', 'res4', 'res3')", "Name neighbouring levels", id="coarsest first"),
    pytest.param("MODEL.RPN.IN_FEATURES", "('p2', 'p3', 'p4')", "Choose from p3, p4, p5, p6.", id="no such level"),
    pytest.param("MODEL.ROI_HEADS.IN_FEATURES", "('p6',)", "Choose from p3, p4, p5.", id="a level without convolution"),
    pytest.param("MODEL.ROI_HEADS.IN_FEATURES", "('p3', 'p5')", "Name neighbouring levels", id="pooled levels with a gap"),
    pytest.param("MODEL.ANCHOR_GENERATOR.SIZES", "((8,), (16,))", "Give one, or one a level (3), equally long.", id="sizes"),
    pytest.param("MODEL.ANCHOR_GENERATOR.SIZES", "((8,), (16, 20), (9,))", "equally long", id="sizes of unequal length"),
    pytest.param("MODEL.ANCHOR_GENERATOR.SIZES", "((),)", "Give numbers above 0.", id="no sizes"),
    pytest.param("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "((1.0,),) * 2", "Give a list of lists", id="no literal"),
    pytest.param("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "((0, 1),)", "Give numbers above 0.", id="ratio 0"),
    pytest.param("MODEL.RPN.BBOX_REG_WEIGHTS", "(1, 1, 1)", "Give 4 numbers above 0.", id="three box weights"),
    pytest.param("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(1, 1, 0, 1)", "Give 4 numbers above 0.", id="box weight 0"),
    pytest.param("MODEL.PIXEL_MEAN", "(1,)", "Give 3 numbers.", id="one mean"),
    pytest.param("MODEL.PIXEL_STD", "(1, 1, 0)", "Give 3 numbers above 0.", id="deviation 0"),
    pytest.param("MODEL.RPN.IOU_THRESHOLDS", "(0.5,)", "one label (0, -1 or 1) more", id="labels and thresholds"),
    pytest.param("MODEL.RPN.IOU_THRESHOLDS", "(0.7, 0.3)", "Give ascending thresholds", id="descending thresholds"),
    pytest.param("MODEL.ROI_HEADS.IOU_LABELS", "(0, 2)", "one label (0, -1 or 1) more", id="label 2"),
    pytest.param("MODEL.RPN.CONV_DIMS", "(0,)", "Give widths above 0, or -1", id="width 0"),
    pytest.param("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "Set it to STEM_OUT_CHANNELS, 8 (64", id="shallow network's width"),
    pytest.param("MODEL.RESNETS.NUM_GROUPS", "32", "Set it to 1, or the depth to 50.", id="groups in a shallow network"),
    pytest.param("MODEL.FPN.NORM", "GN", "Give multiples of 32, or another norm.", id="group norm of 16 channels"),
    pytest.param("MODEL.RESNETS.NORM", "GN", "Give multiples of 32", id="group norm of 8 channels"),
]


@pytest.mark.parametrize(("key", "value", "fix"), CONTRADICTIONS)
def test_a_contradiction_is_told_with_its_key(key: str, value: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(key.rpartition('.')[0])}.*{re.escape(fix)}"):
        build_detector(a_config(key, value), "mine.yaml")


def test_all_contradictions_at_once() -> None:
    config = a_config("MODEL.FPN.IN_FEATURES", "('foo',)", "MODEL.PIXEL_STD", "()", "MODEL.RESNETS.NUM_GROUPS", "2")
    with pytest.raises(ConfigError) as caught:
        build_detector(config, "mine.yaml")
    assert [(problem.where, problem.what.split()[0]) for problem in caught.value.problems] == [
        ("mine.yaml", "MODEL.FPN.IN_FEATURES"),
        ("mine.yaml", "MODEL.PIXEL_STD"),
        ("mine.yaml", "MODEL.RESNETS.NUM_GROUPS"),
    ]


def test_what_is_not_supported_is_told_first() -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: MODEL\.MASK_ON is True, which is not supported"):
        build_detector(a_config("MODEL.MASK_ON", "True"), "mine.yaml")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(("MODEL.RPN.CONV_DIMS", "()"), id="no convolution before the proposals"),
        pytest.param(("MODEL.RPN.CONV_DIMS", "(8, -1)"), id="two convolutions"),
        pytest.param(("MODEL.ANCHOR_GENERATOR.SIZES", "((8, 16, 32),)"), id="one entry of sizes for all levels"),
        pytest.param(("MODEL.RPN.IN_FEATURES", "('p3', 'p4', 'p5', 'p6')", "MODEL.ANCHOR_GENERATOR.SIZES", "((8,),)"), id="p6"),
        pytest.param(("MODEL.ROI_HEADS.IN_FEATURES", "('p4',)"), id="pooled from one level"),
        pytest.param(("MODEL.FPN.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", "32"), id="group norm"),
        pytest.param(("MODEL.ROI_BOX_HEAD.NUM_CONV", "1", "MODEL.ROI_BOX_HEAD.CONV_DIM", "8"), id="convolutions in the head"),
        pytest.param(("MODEL.ROI_BOX_HEAD.NUM_FC", "0"), id="no layer in the head"),
        pytest.param(("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"), id="unaligned pooling"),
        pytest.param(("MODEL.FPN.IN_FEATURES", "('res3', 'res4', 'res5')", "MODEL.FPN.FUSE_TYPE", "avg"), id="average"),
        pytest.param(("INPUT.FORMAT", "RGB", "MODEL.RESNETS.DEPTH", "34"), id="34 layers"),
    ],
)
def test_variants_train_and_detect(overrides: tuple[str, ...]) -> None:
    model = a_detector(*overrides)
    picture = torch.full((3, 64, 64), 100)
    assert len(model.detect([picture], [ImageSize(64, 64)])) == 1
    target = Targets(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([1]))
    losses = model.train()([picture] * 2, [target] * 2)
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("at", [0, 2, 5])
def test_freeze_at_reaches_the_backbone_and_nothing_else(at: int) -> None:
    model = a_detector("MODEL.BACKBONE.FREEZE_AT", str(at))
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(("stem", "res2", "res3", "res4", "res5")[:at])


def test_norms_reach_their_rooms() -> None:
    model = a_detector("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "")
    assert isinstance(model.get_submodule("backbone.bottom_up.res3.0.conv1.norm"), FrozenBatchNorm2d)
    assert model.get_submodule("backbone.fpn_output3").bias is not None


NUMBERS = """
    MODEL.RPN.NMS_THRESH 0.61  MODEL.RPN.PRE_NMS_TOPK_TRAIN 11  MODEL.RPN.PRE_NMS_TOPK_TEST 12
    MODEL.RPN.POST_NMS_TOPK_TRAIN 13  MODEL.RPN.POST_NMS_TOPK_TEST 14  MODEL.RPN.BOUNDARY_THRESH 3
    MODEL.PROPOSAL_GENERATOR.MIN_SIZE 2  MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.11  MODEL.ROI_HEADS.NMS_THRESH_TEST 0.41
    TEST.DETECTIONS_PER_IMAGE 7  MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA 0.3  MODEL.ROI_HEADS.PROPOSAL_APPEND_GT False
"""


def test_numbers_reach_their_rooms() -> None:
    model = a_detector(*NUMBERS.split())
    rpn, heads = model.proposal_generator, model.roi_heads
    assert (rpn.nms_iou, rpn.pre_nms, rpn.post_nms, rpn.boundary_px, rpn.min_side_px) == (0.61, (11, 12), (13, 14), 3, 2)
    assert (heads.score_threshold, heads.nms_iou, heads.max_detections) == (0.11, 0.41, 7)
    assert (heads.smooth_l1_beta, heads.append_true_boxes) == (0.3, False)
    assert a_detector("TEST.DETECTIONS_PER_IMAGE", "-1").roi_heads.max_detections is None  # Detectron2: all of them


def test_state_dicts_have_the_names_and_shapes_of_detectron2s_checkpoints(shared: Path) -> None:
    for case in ("faster_rcnn_fpn", "faster_rcnn_r101_fpn", "faster_rcnn_x_fpn"):
        folder = shared / "golden" / case
        theirs = state_dict_of(read_checkpoint(folder / "model_final.pth"), case)
        ours = build_detector(load_file(folder / "config.yaml")).state_dict()
        assert {k: tuple(v.shape) for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}, case


def test_the_zoos_detector_has_its_published_size() -> None:
    """41.7 million for R50-FPN with 80 classes, as torchvision counts its own (which has 91)."""
    with torch.device("meta"):
        model = build_detector(load("COCO-Detection/faster_rcnn_R_50_FPN_1x"))
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert 41.2e6 < numbers < 42.0e6
