"""The zoo's configurations hold Detectron2's values: by hand for one of each kind, against recorded facts for all."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.config.opts import split_opts
from sightline.config.schema import Config
from sightline.config.sources import load
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import dump, flat, flatten, load_file, load_values, parse_yaml
from sightline.config.zoo import IMAGENET, ZOO
from sightline.errors import ConfigError

PRECOMPUTED = "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"

COMMON = {
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.STEPS": (210000, 250000),
    "SOLVER.MAX_ITER": 270000,
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
    "MODEL.WEIGHTS": IMAGENET + "MSRA/R-50.pkl",
}
HEADS = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
PYRAMID = HEADS | {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ("res2", "res3", "res4", "res5"),
    "MODEL.FPN.IN_FEATURES": ("res2", "res3", "res4", "res5"),
    "MODEL.ANCHOR_GENERATOR.SIZES": ((32,), (64,), (128,), (256,), (512,)),
    "MODEL.RPN.IN_FEATURES": ("p2", "p3", "p4", "p5", "p6"),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.ROI_HEADS.IN_FEATURES": ("p2", "p3", "p4", "p5"),
}
ONE_TIME = {"SOLVER.STEPS": (60000, 80000), "SOLVER.MAX_ITER": 90000}
GIOU = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 10.0,
}


def changed(config: Config) -> dict[str, object]:
    """What is set to something else than Detectron2's default."""
    defaults = flat(Config())
    return {key: value for key, value in flat(config).items() if value != defaults[key]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("COCO-Detection/faster_rcnn_R_50_C4_3x", {}, id="C4: Detectron2's defaults"),
        pytest.param(
            "COCO-Detection/faster_rcnn_R_50_DC5_3x",
            HEADS
            | {
                "MODEL.RESNETS.OUT_FEATURES": ("res5",),
                "MODEL.RESNETS.RES5_DILATION": 2,
                "MODEL.RPN.IN_FEATURES": ("res5",),
                "MODEL.ROI_HEADS.IN_FEATURES": ("res5",),
            },
            id="DC5",
        ),
        pytest.param("COCO-Detection/faster_rcnn_R_50_FPN_3x", PYRAMID, id="FPN"),
        pytest.param("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x", PYRAMID | {"MODEL.MASK_ON": True}, id="masks"),
        pytest.param(
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou",
            PYRAMID | ONE_TIME | GIOU | {"MODEL.MASK_ON": True},
            id="giou",
        ),
        pytest.param(
            "Misc/cascade_mask_rcnn_R_50_FPN_3x",
            {key: value for key, value in PYRAMID.items() if key != "MODEL.RPN.POST_NMS_TOPK_TRAIN"}  # 2000, the default
            | {
                "MODEL.MASK_ON": True,
                "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
            },
            id="cascade",
        ),
        pytest.param(
            "COCO-Detection/rpn_R_50_FPN_1x",
            PYRAMID | ONE_TIME | {"MODEL.META_ARCHITECTURE": "ProposalNetwork", "MODEL.RPN.POST_NMS_TOPK_TEST": 2000},
            id="proposals on FPN",
        ),
        pytest.param(
            "COCO-Detection/rpn_R_50_C4_1x",
            ONE_TIME
            | {
                "MODEL.META_ARCHITECTURE": "ProposalNetwork",
                "MODEL.RPN.PRE_NMS_TOPK_TEST": 12000,
                "MODEL.RPN.POST_NMS_TOPK_TEST": 2000,
            },
            id="proposals on C4",
        ),
        pytest.param(
            "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x",
            PYRAMID
            | {
                "MODEL.WEIGHTS": IMAGENET + "FAIR/X-101-32x8d.pkl",
                "MODEL.PIXEL_STD": (57.375, 57.120, 58.395),
                "MODEL.RESNETS.STRIDE_IN_1X1": False,
                "MODEL.RESNETS.NUM_GROUPS": 32,
                "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
                "MODEL.RESNETS.DEPTH": 101,
            },
            id="X-101",
        ),
    ],
)
def test_one_of_each_kind(name: str, expected: dict[str, object]) -> None:
    assert changed(load(name)) == COMMON | expected


def test_retinanet() -> None:
    found = changed(load("COCO-Detection/retinanet_R_50_FPN_3x"))
    sizes: Any = found.pop("MODEL.ANCHOR_GENERATOR.SIZES")
    assert found == COMMON | {
        "MODEL.META_ARCHITECTURE": "RetinaNet",
        "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ("res3", "res4", "res5"),
        "MODEL.FPN.IN_FEATURES": ("res3", "res4", "res5"),
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
        "SOLVER.BASE_LR": 0.01,
    }
    assert [sizes[0][0], sizes[4][0]] == [32, 512]
    assert sizes[1] == pytest.approx((64, 80.634947, 101.593667))


def test_precomputed_proposals_are_listed_and_refused() -> None:
    config = load(PRECOMPUTED)
    assert config.datasets.proposal_files_test == (
        "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/coco_2017_val_box_proposals_ee0dad.pkl",
    )
    assert (config.model.load_proposals, config.dataloader.num_workers) == (True, 2)
    with pytest.raises(ConfigError, match=r"MODEL\.LOAD_PROPOSALS is True, which is not supported"):
        require_supported(config, PRECOMPUTED)


@pytest.mark.parametrize("name", sorted(set(ZOO) - {PRECOMPUTED}))
def test_all_others_are_supported(name: str) -> None:
    require_supported(load(name), name)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_name_loads_with_and_without_its_suffix_and_survives_a_dump(name: str) -> None:
    config = load(name)
    assert load(name.removesuffix(".yaml")) == config
    assert load_values(dict(flatten(parse_yaml(dump(config).encode(), name), "")), name) == config


def resolved(config: Config) -> dict[str, object]:
    """The facts that are recorded of each configuration, from ours."""
    values = config.model
    architecture = values.meta_architecture
    retinanet = architecture == "RetinaNet"
    necks = {"res4": "C4", "res5": "DC5"}
    return {
        "meta_architecture": architecture,
        "backbone_fn": values.backbone.name,
        "neck": "FPN" if values.fpn.in_features else necks[values.rpn.in_features[0]],
        "roi_heads": values.roi_heads.name if architecture == "GeneralizedRCNN" else None,
        "proposal_generator": None if retinanet else values.proposal_generator.name,
        "depth": values.resnets.depth,
        "num_groups": values.resnets.num_groups,
        "width_per_group": values.resnets.width_per_group,
        "stride_in_1x1": values.resnets.stride_in_1x1,
        "mask_on": values.mask_on,
        "pixel_std": list(values.pixel_std),
        "init_weights": values.weights,
        "ims_per_batch": config.solver.ims_per_batch,
        "base_lr": config.solver.base_lr,
        "steps": list(config.solver.steps),
        "max_iter": config.solver.max_iter,
        "bbox_loss": {"rpn": values.rpn.bbox_reg_loss_type, "roi": values.roi_box_head.bbox_reg_loss_type},
    }


def test_all_agree_with_the_recorded_facts(shared: Path) -> None:
    facts = json.loads((shared / "facts" / "zoo.json").read_text(encoding="utf-8"))["models"]
    recorded = {fact["config"]: fact["resolved"] for fact in facts if fact["format"] == "yaml"}
    assert set(recorded) == set(ZOO) - {"Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"}
    for name, expected in recorded.items():
        expected.pop("base")
        assert resolved(load(name)) == expected, name


def test_names_with_overrides_are_detectron2s_own_dumps(shared: Path) -> None:
    """Weights aside: what was dumped began from random ones."""
    bases = sorted((shared / "golden").glob("*/base.txt"))
    assert len(bases) >= 10
    for base in bases:
        name, opts = base.read_text(encoding="utf-8").splitlines()
        ours, theirs = load(name, split_opts(opts)), load_file(base.with_name("config.yaml"))
        differing = {key for key, value in flat(theirs).items() if flat(ours)[key] != value}
        assert differing <= {"MODEL.WEIGHTS"}, base.parent.name
