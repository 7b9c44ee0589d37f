"""Configurations that contradict themselves are told so before anything is built; the others are built as they say."""

import re
from pathlib import Path

import pytest
import torch
from builders import BOTTLENECKS, C4, CASCADE, DC5, MASKS, PROPOSALS_ONLY, RETINANET, a_config, a_detector, overrides

from sightline.config.sources import load
from sightline.config.yaml_dialect import load_file
from sightline.errors import ConfigError
from sightline.model.build import build_detector
from sightline.model.checkpoint import read_checkpoint, state_dict_of
from sightline.model.detector import Detector
from sightline.model.instances import Targets
from sightline.model.norms import FrozenBatchNorm2d
from sightline.model.rcnn import GeneralizedRCNN, ProposalNetwork
from sightline.model.retinanet import LevelNorms, RetinaNet
from sightline.model.roi_heads import StandardROIHeads
from sightline.records import ImageSize

STAGES = "Choose from stem, res2, res3, res4, res5."

CONTRADICTIONS = [
    pytest.param((), "MODEL.RESNETS.OUT_FEATURES", "('res6',)", STAGES, id="no such stage"),
    pytest.param((), "MODEL.RESNETS.OUT_FEATURES", "()", STAGES, id="no stage"),
    pytest.param((), "MODEL.RESNETS.OUT_FEATURES", "('res3','res3')", "Name each feature once.", id="a stage twice"),
    pytest.param(C4, "MODEL.RESNETS.OUT_FEATURES", "('res6',)", STAGES, id="no such stage without a pyramid"),
    pytest.param(C4, "MODEL.RESNETS.OUT_FEATURES", "('stem',)", "Name a stage, e.g. res4.", id="nothing but the stem"),
    pytest.param((), "MODEL.FPN.IN_FEATURES", "('p3', 'p4')", "Choose from res2, res3, res4, res5.", id="levels for stages"),
    pytest.param((), "MODEL.FPN.IN_FEATURES", "()", "Choose from res2", id="no feature"),
    pytest.param((), "MODEL.FPN.IN_FEATURES", "('res3', 'res5')", "Name neighbouring levels, finest first.", id="a gap"),
    pytest.param((), "MODEL.FPN.IN_FEATURES", "('res5', 'res4', 'res3')", "Name neighbouring levels", id="coarsest first"),
    pytest.param(RETINANET, "MODEL.FPN.IN_FEATURES", "('res3', 'res4')", "End it with res5.", id="p6 of a stage not there"),
    pytest.param(
        (*BOTTLENECKS, *overrides("MODEL.FPN.NORM ''")),
        "MODEL.RESNETS.RES5_DILATION",
        "2",
        "Set it to 1: in a pyramid",
        id="a dilated pyramid",
    ),
    pytest.param((), "MODEL.RPN.IN_FEATURES", "('p2', 'p3', 'p4')", "Choose from p3, p4, p5, p6.", id="no such level"),
    pytest.param(C4, "MODEL.RPN.IN_FEATURES", "('p4',)", "Choose from res4.", id="a level without a pyramid"),
    pytest.param(RETINANET, "MODEL.RETINANET.IN_FEATURES", "('p2','p3')", "Choose from p3, p4, p5, p6, p7.", id="RetinaNet's"),
    pytest.param((), "MODEL.ROI_HEADS.IN_FEATURES", "('p7',)", "Choose from p3, p4, p5, p6.", id="a level that RetinaNet has"),
    pytest.param((), "MODEL.ROI_HEADS.IN_FEATURES", "('p3', 'p5')", "Name neighbouring levels", id="pooled levels with a gap"),
    pytest.param(
        (*DC5, *overrides("MODEL.RESNETS.OUT_FEATURES ('res4','res5')")),
        "MODEL.RPN.IN_FEATURES",
        "('res4','res5')",
        "One head needs features of one width",
        id="two widths",
    ),
    pytest.param(
        (), "MODEL.ANCHOR_GENERATOR.SIZES", "((8,), (16,))", "Give one, or one a level (3), equally long.", id="sizes"
    ),
    pytest.param(
        overrides(
            """
            MODEL.BACKBONE.NAME build_resnet_backbone  MODEL.RESNETS.OUT_FEATURES ('stem','res2')
            MODEL.RPN.IN_FEATURES ('res2',)  MODEL.ANCHOR_GENERATOR.SIZES ((8,),)
            """
        ),
        "MODEL.ROI_HEADS.IN_FEATURES",
        "('stem','res2')",
        "Name neighbouring levels, finest first.",
        id="pooled from two features of one stride",
    ),
    pytest.param((), "MODEL.ANCHOR_GENERATOR.SIZES", "((8,), (16, 20), (9,))", "equally long", id="sizes of unequal length"),
    pytest.param((), "MODEL.ANCHOR_GENERATOR.SIZES", "((),)", "Give numbers above 0.", id="no sizes"),
    pytest.param(RETINANET, "MODEL.ANCHOR_GENERATOR.SIZES", "((8,), (16,))", "or one a level (5)", id="RetinaNet's sizes"),
    pytest.param((), "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "((1.0,),) * 2", "Give a list of lists", id="no literal"),
    pytest.param((), "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "((0, 1),)", "Give numbers above 0.", id="ratio 0"),
    pytest.param((), "MODEL.RPN.BBOX_REG_WEIGHTS", "(1, 1, 1)", "Give 4 numbers above 0.", id="three box weights"),
    pytest.param((), "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(1, 1, 0, 1)", "Give 4 numbers above 0.", id="box weight 0"),
    pytest.param(RETINANET, "MODEL.RETINANET.BBOX_REG_WEIGHTS", "()", "Give 4 numbers above 0.", id="no box weight"),
    pytest.param(
        CASCADE,
        "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS",
        "((1,1,1,1),(1,1,1,1),(1,1,1))",
        "Give 4 numbers above 0.",
        id="box weights of a stage",
    ),
    pytest.param((), "MODEL.PIXEL_MEAN", "(1,)", "Give 3 numbers.", id="one mean"),
    pytest.param((), "MODEL.PIXEL_STD", "(1, 1, 0)", "Give 3 numbers above 0.", id="deviation 0"),
    pytest.param((), "MODEL.RPN.IOU_THRESHOLDS", "(0.5,)", "one label (0, -1 or 1) more", id="labels and thresholds"),
    pytest.param((), "MODEL.RPN.IOU_THRESHOLDS", "(0.7, 0.3)", "Give ascending thresholds", id="descending thresholds"),
    pytest.param((), "MODEL.ROI_HEADS.IOU_LABELS", "(0, 2)", "one label (0, -1 or 1) more", id="label 2"),
    pytest.param(RETINANET, "MODEL.RETINANET.IOU_LABELS", "(0, 1)", "one label (0, -1 or 1) more", id="RetinaNet's labels"),
    pytest.param((), "MODEL.RPN.CONV_DIMS", "(0,)", "Give widths above 0, or -1", id="width 0"),
    pytest.param(
        ("TEST.AUG.ENABLED", "True"), "TEST.AUG.MIN_SIZES", "()", "Give sizes above 0, in pixels.", id="no size to test"
    ),
    pytest.param(RETINANET, "TEST.AUG.ENABLED", "True", "Only GeneralizedRCNN has it", id="versions for RetinaNet"),
    pytest.param(PROPOSALS_ONLY, "TEST.AUG.ENABLED", "True", "Only GeneralizedRCNN has it", id="versions for proposals"),
    pytest.param(
        (*C4, *overrides("MODEL.RESNETS.OUT_FEATURES ('res3','res4')")),
        "MODEL.ROI_HEADS.IN_FEATURES",
        "('res3','res4')",
        "Name one feature, res4.",
        id="two features for res5",
    ),
    pytest.param(
        (*C4, *overrides("MODEL.RESNETS.OUT_FEATURES ('res3','res4')")),
        "MODEL.ROI_HEADS.IN_FEATURES",
        "('res3',)",
        "Take res4, or StandardROIHeads.",
        id="res5 after res3",
    ),
    pytest.param(
        ("MODEL.ROI_HEADS.IN_FEATURES", "('p4',)"),
        "MODEL.ROI_HEADS.NAME",
        "Res5ROIHeads",
        "Take res4, or StandardROIHeads.",
        id="res5 after a pyramid",
    ),
    pytest.param((), "MODEL.ROI_BOX_HEAD.NAME", "''", "Set it to FastRCNNConvFCHead.", id="no box head"),
    pytest.param((), "MODEL.ROI_BOX_HEAD.NUM_FC", "0", "Give it at least one layer", id="no layer in the head"),
    pytest.param(
        CASCADE, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False", "Set it to True", id="a cascade of each class's boxes"
    ),
    pytest.param(CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "(0.5,)", "Give one of each for every stage.", id="one of three"),
    pytest.param(CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "(0.4,0.5,0.6)", "make them equal", id="two first overlaps"),
    pytest.param(
        (), "MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "Set it to STEM_OUT_CHANNELS, 8 (64", id="shallow network's width"
    ),
    pytest.param((), "MODEL.RESNETS.NUM_GROUPS", "32", "Set it to 1, or the depth to 50.", id="groups in a shallow network"),
    pytest.param(
        overrides(
            "MODEL.BACKBONE.NAME build_resnet_backbone  MODEL.RPN.IN_FEATURES ('res5',)  MODEL.ROI_HEADS.IN_FEATURES ('res5',)"
        ),
        "MODEL.RESNETS.RES5_DILATION",
        "2",
        "Set it to 1, or the depth to 50.",
        id="dilation in a shallow network",
    ),
    pytest.param((), "MODEL.FPN.NORM", "GN", "Give multiples of 32, or another norm.", id="group norm of 16 channels"),
    pytest.param((), "MODEL.RESNETS.NORM", "GN", "Give multiples of 32", id="group norm of 8 channels"),
    pytest.param(RETINANET, "MODEL.RETINANET.NORM", "GN", "Give multiples of 32", id="group norm in RetinaNet's head"),
    pytest.param(MASKS, "MODEL.ROI_MASK_HEAD.NORM", "GN", "Give multiples of 32", id="group norm in the mask head"),
    pytest.param(
        overrides("MODEL.ROI_BOX_HEAD.NUM_CONV 1  MODEL.ROI_BOX_HEAD.CONV_DIM 8"),
        "MODEL.ROI_BOX_HEAD.NORM",
        "GN",
        "Give multiples of 32",
        id="group norm in the box head",
    ),
]


@pytest.mark.parametrize(("base", "key", "value", "fix"), CONTRADICTIONS)
def test_a_contradiction_is_told_with_its_key(base: tuple[str, ...], key: str, value: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(key.rpartition('.')[0])}.*{re.escape(fix)}"):
        build_detector(a_config(*base, key, value), "mine.yaml")


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
    with pytest.raises(ConfigError, match=r"mine\.yaml: MODEL\.KEYPOINT_ON is True, which is not supported"):
        build_detector(a_config("MODEL.KEYPOINT_ON", "True", "MODEL.PIXEL_STD", "()"), "mine.yaml")


@pytest.mark.parametrize(
    ("base", "absent"),
    [
        pytest.param(
            (), "MODEL.RETINANET.IOU_LABELS (0,)  MODEL.RETINANET.BBOX_REG_WEIGHTS ()  MODEL.RETINANET.NORM GN", id="dense"
        ),
        pytest.param(
            (), "MODEL.ROI_BOX_CASCADE_HEAD.IOUS ()  MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS ((0,),)", id="stages"
        ),
        pytest.param(
            (), "MODEL.ROI_MASK_HEAD.NORM GN  MODEL.ROI_MASK_HEAD.CONV_DIM 9  MODEL.ROI_MASK_HEAD.NUM_CONV 1", id="mask"
        ),
        pytest.param(
            RETINANET, "MODEL.RPN.IOU_LABELS ()  MODEL.RPN.CONV_DIMS (0,)  MODEL.ROI_HEADS.IOU_THRESHOLDS ()", id="R-CNN"
        ),
        pytest.param(
            RETINANET, "MODEL.ROI_BOX_HEAD.NORM GN  MODEL.ROI_BOX_HEAD.NUM_CONV 1  MODEL.ROI_BOX_HEAD.CONV_DIM 9", id="box"
        ),
        pytest.param(PROPOSALS_ONLY, "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS ()  MODEL.ROI_HEADS.IN_FEATURES ('p9',)", id="heads"),
        pytest.param(C4, "MODEL.FPN.IN_FEATURES ('res9',)  MODEL.FPN.NORM GN  MODEL.FPN.OUT_CHANNELS 9", id="pyramid"),
    ],
)
def test_a_part_that_is_not_there_contradicts_nothing(base: tuple[str, ...], absent: str) -> None:
    assert set(a_detector(*base, *overrides(absent)).state_dict()) == set(a_detector(*base).state_dict())


WIDE = overrides("MODEL.RESNETS.STEM_OUT_CHANNELS 32  MODEL.RESNETS.RES2_OUT_CHANNELS 32  MODEL.FPN.OUT_CHANNELS 32")
"""Wide enough for group norms."""
BOX_CONVS = overrides("MODEL.ROI_BOX_HEAD.NUM_CONV 1  MODEL.ROI_BOX_HEAD.CONV_DIM 32  MODEL.ROI_BOX_HEAD.NUM_FC 1")
MASK_CONVS = overrides("MODEL.ROI_MASK_HEAD.NUM_CONV 2  MODEL.ROI_MASK_HEAD.CONV_DIM 32")
NORMS = ("BN", "GN", "SyncBN", "nnSyncBN", "FrozenBN")
ON_RES4 = overrides(
    """
    MODEL.BACKBONE.NAME build_resnet_backbone  MODEL.RESNETS.OUT_FEATURES ('res4',)  MODEL.RPN.IN_FEATURES ('res4',)
    MODEL.ROI_HEADS.IN_FEATURES ('res4',)  MODEL.ANCHOR_GENERATOR.SIZES ((12,24,48),)
    """
)

VARIANTS = [
    *(pytest.param((*WIDE, *overrides(f"MODEL.RESNETS.NORM {norm}  MODEL.FPN.NORM {norm}")), id=f"{norm}") for norm in NORMS),
    *(pytest.param((*BOX_CONVS, "MODEL.ROI_BOX_HEAD.NORM", norm), id=f"{norm} in the box head") for norm in NORMS),
    *(pytest.param((*MASKS, *MASK_CONVS, "MODEL.ROI_MASK_HEAD.NORM", norm), id=f"{norm} in the mask head") for norm in NORMS),
    *(
        pytest.param(
            (*RETINANET, *overrides(f"MODEL.FPN.OUT_CHANNELS 64  MODEL.RETINANET.NORM {norm}")), id=f"RetinaNet, {norm}"
        )
        for norm in NORMS
    ),
    pytest.param(overrides("MODEL.RPN.CONV_DIMS ()"), id="no convolution before the proposals"),
    pytest.param(("MODEL.RPN.CONV_DIMS", "(8, -1)"), id="two convolutions"),
    pytest.param(("MODEL.ANCHOR_GENERATOR.SIZES", "((8, 16, 32),)"), id="one entry of sizes for all levels"),
    pytest.param(overrides("MODEL.ANCHOR_GENERATOR.OFFSET 0.5"), id="anchors in the middle of their cells"),
    pytest.param(overrides("MODEL.RPN.IN_FEATURES ('p3','p4','p5','p6')  MODEL.ANCHOR_GENERATOR.SIZES ((8,),)"), id="p6"),
    pytest.param(("MODEL.ROI_HEADS.IN_FEATURES", "('p4',)"), id="pooled from one level"),
    pytest.param(overrides("MODEL.ROI_HEADS.IN_FEATURES ('p5','p6')"), id="pooled from p6 too"),
    pytest.param((*BOX_CONVS, "MODEL.ROI_BOX_HEAD.NUM_FC", "0"), id="nothing but a convolution in the head"),
    pytest.param(overrides("MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign"), id="unaligned pooling"),
    pytest.param(overrides("MODEL.FPN.FUSE_TYPE avg"), id="average"),
    pytest.param(overrides("MODEL.FPN.IN_FEATURES ('res3','res4')"), id="p5 on top of p4"),
    pytest.param(("INPUT.FORMAT", "RGB", "MODEL.RESNETS.DEPTH", "34"), id="34 layers"),
    pytest.param(BOTTLENECKS, id="50 layers"),
    pytest.param((*BOTTLENECKS, *overrides("MODEL.RESNETS.NUM_GROUPS 4  MODEL.RESNETS.STRIDE_IN_1X1 False")), id="ResNeXt"),
    pytest.param(overrides("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True"), id="a yes or no for each class"),
    *(
        pytest.param(overrides(f"MODEL.RPN.BBOX_REG_LOSS_TYPE {kind}  MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE {kind}"), id=kind)
        for kind in ("giou", "diou", "ciou")
    ),
    pytest.param(MASKS, id="masks"),
    pytest.param((*MASKS, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"), id="one mask for all classes"),
    pytest.param((*MASKS, "MODEL.ROI_MASK_HEAD.NUM_CONV", "0"), id="no convolution in the mask head"),
    pytest.param((*MASKS, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlign"), id="unaligned pooling of masks"),
    pytest.param((*MASKS, "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", "True"), id="masks in refined boxes"),
    pytest.param((*MASKS, "MODEL.ROI_HEADS.NUM_CLASSES", "5"), id="masks of five classes"),
    pytest.param(C4, id="C4"),
    pytest.param((*C4, *MASKS), id="C4 with masks"),
    pytest.param((*C4, *overrides("MODEL.RESNETS.DEPTH 18  MODEL.RESNETS.RES2_OUT_CHANNELS 8")), id="C4, 18 layers"),
    pytest.param(DC5, id="DC5"),
    pytest.param((*DC5, *MASKS), id="DC5 with masks"),
    pytest.param(ON_RES4, id="heads of their own on res4"),
    pytest.param((*ON_RES4, *MASKS), id="heads of their own on res4 with masks"),
    pytest.param(CASCADE, id="cascade"),
    pytest.param((*CASCADE, *MASKS), id="cascade with masks"),
    pytest.param(
        (*CASCADE, *BOX_CONVS, *overrides("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True")), id="cascade, convolutions, sigmoids"
    ),
    pytest.param((*CASCADE, *overrides("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE giou")), id="cascade, giou"),
    pytest.param((*CASCADE, *ON_RES4), id="cascade on res4"),
    pytest.param(
        (
            *CASCADE,
            *overrides("MODEL.ROI_BOX_CASCADE_HEAD.IOUS (0.5,)  MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS ((1,1,1,1),)"),
        ),
        id="cascade of one stage",
    ),
    pytest.param(PROPOSALS_ONLY, id="proposals"),
    pytest.param((*C4, *PROPOSALS_ONLY), id="proposals on res4"),
    pytest.param((*PROPOSALS_ONLY, *MASKS), id="proposals, masks asked for in vain"),
    pytest.param(RETINANET, id="RetinaNet"),
    pytest.param((*RETINANET, *BOTTLENECKS), id="RetinaNet, 50 layers"),
    pytest.param((*RETINANET, *overrides("MODEL.RESNETS.DEPTH 34  MODEL.RETINANET.NUM_CONVS 3")), id="RetinaNet, 34 layers"),
    pytest.param((*RETINANET, "MODEL.RETINANET.NUM_CONVS", "0"), id="RetinaNet without convolutions"),
    pytest.param((*RETINANET, "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "3"), id="RetinaNet, three candidates"),
    pytest.param((*RETINANET, "MODEL.RETINANET.FOCAL_LOSS_ALPHA", "-1"), id="RetinaNet without balance"),
    pytest.param((*RETINANET, *MASKS), id="RetinaNet, masks asked for in vain"),
    *(
        pytest.param((*RETINANET, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", kind), id=f"RetinaNet, {kind}")
        for kind in ("giou", "ciou")
    ),
    pytest.param(
        (
            *RETINANET,
            *overrides(
                """
                MODEL.BACKBONE.NAME build_resnet_fpn_backbone  MODEL.FPN.IN_FEATURES ('res2','res3','res4','res5')
                MODEL.RETINANET.IN_FEATURES ('p2','p3','p4','p5','p6')
                """
            ),
        ),
        id="RetinaNet on p2 to p6",
    ),
    pytest.param(
        overrides(
            """
            MODEL.BACKBONE.NAME build_retinanet_resnet_fpn_backbone  MODEL.RPN.IN_FEATURES ('p3','p4','p5','p6','p7')
            MODEL.ROI_HEADS.IN_FEATURES ('p3','p4','p5','p6','p7')  MODEL.ANCHOR_GENERATOR.SIZES ((8,),(16,),(32,),(64,),(99,))
            """
        ),
        id="Faster R-CNN on p3 to p7",
    ),
]


def a_target(box: tuple[float, float, float, float] = (5.0, 5.0, 40.0, 40.0)) -> Targets:
    """One object that fills its box."""
    x1, y1, x2, y2 = box
    outline = (torch.tensor([x1, y1, x2, y1, x2, y2, x1, y2]).double().numpy(),)
    return Targets(torch.tensor([box]), torch.tensor([1]), [outline])


NO_TRUTH = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])


def trained(model: Detector, *pictures: tuple[torch.Tensor, Targets]) -> None:
    """One step's losses and gradients, which must be finite."""
    losses = model.train()([picture for picture, _ in pictures], [target for _, target in pictures])
    assert losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack(tuple(losses.values())).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("overrides", VARIANTS)
def test_variants_train_and_detect(overrides: tuple[str, ...]) -> None:
    model = a_detector(*overrides)
    picture = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert len(model.detect([picture], [ImageSize(64, 64)])) == 1
    trained(model, (picture, a_target()), (picture[:, :40, :50], NO_TRUTH))


ARCHITECTURES = [
    pytest.param((), id="Faster R-CNN"),
    pytest.param(MASKS, id="Mask R-CNN"),
    pytest.param((*C4, *MASKS), id="C4"),
    pytest.param((*DC5, *MASKS), id="DC5"),
    pytest.param((*CASCADE, *MASKS), id="cascade"),
    pytest.param(PROPOSALS_ONLY, id="proposals"),
    pytest.param(RETINANET, id="RetinaNet"),
]


@pytest.mark.parametrize("overrides", ARCHITECTURES)
def test_empty_truth_trains(overrides: tuple[str, ...]) -> None:
    """Every parameter takes part, so that all processes of a training agree about them."""
    model, picture = a_detector(*overrides), torch.full((3, 64, 64), 100)
    trained(model, (picture, NO_TRUTH), (picture, NO_TRUTH))
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("overrides", ARCHITECTURES)
def test_tiny_pictures_train_and_detect(overrides: tuple[str, ...]) -> None:
    model, picture = (
        a_detector(*overrides, "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "''"),
        torch.full((3, 1, 1), 100),
    )
    assert len(model.detect([picture], [ImageSize(1, 1)])) == 1
    trained(model, (picture, a_target(box=(0.0, 0.0, 1.0, 1.0))), (picture, NO_TRUTH))


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        pytest.param((), GeneralizedRCNN, id="Faster R-CNN"),
        pytest.param(PROPOSALS_ONLY, ProposalNetwork, id="proposals"),
        pytest.param(RETINANET, RetinaNet, id="RetinaNet"),
    ],
)
def test_the_architecture_is_the_one_named(base: tuple[str, ...], kind: type[Detector]) -> None:
    assert type(a_detector(*base)) is kind


@pytest.mark.parametrize(
    ("base", "divisor"), [((), 32), (RETINANET, 32), (("MODEL.FPN.IN_FEATURES", "('res3','res4')"), 16), (C4, 1), (DC5, 1)]
)
def test_batches_are_padded_to_the_coarsest_stage_of_a_pyramid(base: tuple[str, ...], divisor: int) -> None:
    assert a_detector(*base).size_divisor == divisor


@pytest.mark.parametrize("at", [0, 2, 5])
def test_freeze_at_reaches_the_backbone_and_nothing_else(at: int) -> None:
    model = a_detector("MODEL.BACKBONE.FREEZE_AT", str(at))
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(("stem", "res2", "res3", "res4", "res5")[:at])


def test_norms_reach_their_rooms() -> None:
    model = a_detector("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "")
    assert isinstance(model.get_submodule("backbone.bottom_up.res3.0.conv1.norm"), FrozenBatchNorm2d)
    assert model.get_submodule("backbone.fpn_output3").bias is not None
    for norm in ("BN", "SyncBN"):
        dense = a_detector(*RETINANET, "MODEL.RETINANET.NORM", norm)
        assert isinstance(dense.get_submodule("head.cls_subnet.1"), LevelNorms)
    masks = a_detector(*MASKS, *MASK_CONVS, "MODEL.ROI_MASK_HEAD.NORM", "GN")
    assert masks.get_submodule("roi_heads.mask_head.mask_fcn2.norm").num_groups == 32


NUMBERS = """
    MODEL.RPN.NMS_THRESH 0.61  MODEL.RPN.PRE_NMS_TOPK_TRAIN 11  MODEL.RPN.PRE_NMS_TOPK_TEST 12
    MODEL.RPN.POST_NMS_TOPK_TRAIN 13  MODEL.RPN.POST_NMS_TOPK_TEST 14  MODEL.RPN.BOUNDARY_THRESH 3
    MODEL.RPN.SMOOTH_L1_BETA 0.2  MODEL.RPN.LOSS_WEIGHT 0.7  MODEL.RPN.BBOX_REG_LOSS_WEIGHT 0.8
    MODEL.PROPOSAL_GENERATOR.MIN_SIZE 2  MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.11  MODEL.ROI_HEADS.NMS_THRESH_TEST 0.41
    TEST.DETECTIONS_PER_IMAGE 7  MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA 0.3  MODEL.ROI_HEADS.PROPOSAL_APPEND_GT False
    MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 9  MODEL.ROI_HEADS.POSITIVE_FRACTION 0.15
    MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT 0.9  MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES True
"""


def test_numbers_reach_their_rooms() -> None:
    model = a_detector(*NUMBERS.split())
    assert isinstance(model, GeneralizedRCNN) and isinstance(model.roi_heads, StandardROIHeads)
    rpn, heads = model.proposal_generator, model.roi_heads
    assert (rpn.nms_iou, rpn.pre_nms, rpn.post_nms, rpn.boundary_px, rpn.min_side_px) == (0.61, (11, 12), (13, 14), 3, 2)
    assert (rpn.box_loss.beta, rpn.loss_weight, rpn.box_loss_weight) == (0.2, 0.7, 0.8)
    selection, sampling, predictor = heads.selection, heads.sampling, heads.box_predictor
    assert (selection.score_threshold, selection.nms_iou, selection.max_detections) == (0.11, 0.41, 7)
    assert (sampling.append_true_boxes, sampling.count, sampling.positive_share, sampling.classes) == (False, 9, 0.15, 2)
    assert (predictor.box_loss.beta, predictor.box_loss_weight, heads.train_on_refined) == (0.3, 0.9, True)


def test_options_reach_their_rooms() -> None:
    switched = a_detector(*MASKS, "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True")
    assert switched.get_submodule("roi_heads.box_predictor").sigmoid is True
    assert switched.get_submodule("roi_heads.mask_head.predictor").out_channels == 1
    assert a_detector("MODEL.ANCHOR_GENERATOR.OFFSET", "0.5").get_submodule("proposal_generator").anchors.offset == 0.5
    dilated = a_detector(*DC5, *MASKS)
    assert dilated.get_submodule("proposal_generator").anchors.strides == [16]
    assert (
        dilated.get_submodule("roi_heads.box_pooler").strides == dilated.get_submodule("roi_heads.mask_pooler").strides == [16]
    )


DENSE_NUMBERS = """
    MODEL.RETINANET.SCORE_THRESH_TEST 0.11  MODEL.RETINANET.NMS_THRESH_TEST 0.41  MODEL.RETINANET.TOPK_CANDIDATES_TEST 13
    TEST.DETECTIONS_PER_IMAGE 7  MODEL.RETINANET.SMOOTH_L1_LOSS_BETA 0.3  MODEL.RETINANET.FOCAL_LOSS_ALPHA 0.4
    MODEL.RETINANET.FOCAL_LOSS_GAMMA 1.5  MODEL.RETINANET.IOU_THRESHOLDS (0.3,0.6)  MODEL.RETINANET.BBOX_REG_WEIGHTS (1,2,3,4)
"""


def test_numbers_reach_retinanet() -> None:
    model = a_detector(*RETINANET, *DENSE_NUMBERS.split())
    assert isinstance(model, RetinaNet)
    assert (model.score_threshold, model.nms_iou, model.candidates, model.max_detections) == (0.11, 0.41, 13, 7)
    assert (model.focal_alpha, model.focal_gamma, model.matcher.thresholds) == (0.4, 1.5, (0.3, 0.6))
    assert (model.box_loss.beta, model.box_loss.coder.weights) == (0.3, (1, 2, 3, 4))


@pytest.mark.parametrize("base", [(), RETINANET], ids=["Faster R-CNN", "RetinaNet"])
def test_minus_one_detection_is_all_of_them(base: tuple[str, ...]) -> None:
    model = a_detector(*base, "TEST.DETECTIONS_PER_IMAGE", "-1")
    owner = model if isinstance(model, RetinaNet) else model.get_submodule("roi_heads").selection
    assert owner.max_detections is None


def test_state_dicts_have_the_names_and_shapes_of_detectron2s_checkpoints(shared: Path) -> None:
    for folder in sorted(path.parent for path in (shared / "golden").glob("*/model_final.pth")):
        theirs = state_dict_of(read_checkpoint(folder / "model_final.pth"), folder.name)
        ours = build_detector(load_file(folder / "config.yaml")).state_dict()
        assert {k: tuple(v.shape) for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}, folder.name


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # As torchvision counts its own, which has 91 classes where these have 80.
        pytest.param("COCO-Detection/faster_rcnn_R_50_FPN_1x", 41.7, id="R50-FPN"),
        pytest.param("COCO-Detection/faster_rcnn_R_101_FPN_3x", 60.6, id="R101-FPN"),
        pytest.param("COCO-Detection/retinanet_R_50_FPN_1x", 37.9, id="RetinaNet R50"),
        pytest.param("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x", 44.3, id="Mask R-CNN R50-FPN"),
    ],
)
def test_the_zoos_detectors_have_their_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = build_detector(load(name))
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert abs(numbers / 1e6 - millions) < 0.3


@pytest.mark.parametrize("name", ["COCO-Detection/faster_rcnn_R_101_FPN_3x", "COCO-Detection/retinanet_R_50_FPN_1x"])
def test_detectors_of_full_width_train_and_detect(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_detector(load(name, ["MODEL.DEVICE", "cpu"])).eval()
        picture = torch.randint(0, 256, (3, 64, 64))
        assert len(model.detect([picture], [ImageSize(64, 64)])) == 1
        trained(model, (picture, a_target()))
