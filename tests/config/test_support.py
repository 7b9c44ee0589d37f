"""Every key is in one state: it acts, it is ignored with a reason, or some of its values are refused by name."""

import re
from pathlib import Path

import pytest
from builders import a_config

from sightline.config import support
from sightline.config.schema import Config
from sightline.config.support import IGNORED, LIMITS, ignored, is_ignored, page, require_supported
from sightline.config.yaml_dialect import TYPES, flat, with_values
from sightline.errors import ConfigError

REFUSED = {
    "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "FLOAT32_PRECISION": "high",
    "INPUT.CROP.ENABLED": True,
    "INPUT.FORMAT": "YUV-BT.601",
    "INPUT.MAX_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TRAIN": 0,
    "INPUT.MIN_SIZE_TEST": -1,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "any",
    "INPUT.RANDOM_FLIP": "both",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.FPN.FUSE_TYPE": "max",
    "MODEL.FPN.NORM": "LN",
    "MODEL.FPN.OUT_CHANNELS": 0,
    "MODEL.KEYPOINT_ON": True,
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.MASK_ON": True,
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, True, True, True),
    "MODEL.RESNETS.DEPTH": 51,
    "MODEL.RESNETS.NORM": "InstanceNorm",
    "MODEL.RESNETS.NUM_GROUPS": 0,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 0,
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": -8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 0,
    "MODEL.ROI_BOX_HEAD.NAME": "",
    "MODEL.ROI_BOX_HEAD.NORM": "?",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": -1,
    "MODEL.ROI_BOX_HEAD.NUM_FC": -1,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 1.5,
    "MODEL.ROI_HEADS.NUM_CLASSES": 0,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 2.0,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": float("nan"),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "diou",
    "MODEL.RPN.HEAD_NAME": "OtherHead",
    "MODEL.RPN.NMS_THRESH": -0.1,
    "MODEL.RPN.POSITIVE_FRACTION": -0.5,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 0,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": -1,
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.BASE_LR": 0.0,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model",
    "SOLVER.IMS_PER_BATCH": 0,
    "SOLVER.LR_SCHEDULER_NAME": "StepLR",
    "SOLVER.MAX_ITER": 0,
    "SOLVER.MOMENTUM": -0.9,
    "SOLVER.WARMUP_ITERS": -1,
    "SOLVER.WARMUP_METHOD": "burnin",
    "SOLVER.WEIGHT_DECAY": -1.0,
    "SOLVER.WEIGHT_DECAY_BIAS": -1.0,
    "SOLVER.WEIGHT_DECAY_NORM": -1.0,
    "TEST.AUG.ENABLED": True,
    "TEST.PRECISE_BN.ENABLED": True,
}
"""A value of every limited key that would silently give other numbers than Detectron2, or none at all."""


@pytest.mark.parametrize(("key", "value"), REFUSED.items(), ids=list(REFUSED))
def test_an_unsupported_value_is_refused_by_name(key: str, value: object) -> None:
    message = rf"^mine\.yaml: {re.escape(key)} is {re.escape(repr(value))}, which is not supported\. Supported: .+\.$"
    with pytest.raises(ConfigError, match=message):
        require_supported(with_values(a_config(), {key: value}), "mine.yaml")


def test_every_limit_is_tried_above() -> None:
    assert set(REFUSED) == set(LIMITS)


def test_all_refused_keys_are_told_at_once() -> None:
    config = with_values(a_config(), {"MODEL.MASK_ON": True, "SOLVER.AMP.ENABLED": True})
    with pytest.raises(ConfigError) as caught:
        require_supported(config, "config")
    assert {problem.what.split()[0] for problem in caught.value.problems} == {"MODEL.MASK_ON", "SOLVER.AMP.ENABLED"}


def test_detectron2s_defaults_are_a_c4_detector_which_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"MODEL\.BACKBONE\.NAME is 'build_resnet_backbone', .* 'build_resnet_fpn_backbone'\."
    ):
        require_supported(Config(), "config")


def test_every_entry_names_keys_that_exist() -> None:
    assert set(LIMITS) <= set(TYPES)
    for pattern in IGNORED:
        stem = pattern.removesuffix("*")
        assert any(key == pattern or (stem != pattern and key.startswith(stem)) for key in TYPES), pattern


def test_no_key_is_both_ignored_and_limited() -> None:
    assert [key for key in LIMITS if is_ignored(key)] == []


def test_every_key_that_is_not_ignored_is_read_somewhere() -> None:
    """A key that acts is an attribute that some module outside of `config` reads; one that is only refused need not be."""
    package = Path(support.__file__).parents[1]
    code = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.parent.name != "config")
    only_refused = {key for key, (honoured, words) in LIMITS.items() if " or " not in words and "number" not in words}
    acting = [key for key in TYPES if not is_ignored(key) and key not in only_refused | {"FLOAT32_PRECISION"}]
    unread = [key for key in acting if not re.search(rf"\.{key.rpartition('.')[2].lower()}\b", code)]
    assert unread == []


def test_ignored_keys_are_told_with_the_reason_when_they_were_set() -> None:
    config = with_values(
        Config(), {"VIS_PERIOD": 20, "DATASETS.TRAIN": ("coco",), "MODEL.ROI_MASK_HEAD.CONV_DIM": 9, "SEED": 3}
    )
    assert ignored(config) == [
        "DATASETS.TRAIN: the data set is what --data names",
        "MODEL.ROI_MASK_HEAD.CONV_DIM: acts only with MASK_ON, which is refused",
        "VIS_PERIOD: pictures of training batches are not logged",
    ]


def test_nothing_is_told_of_defaults() -> None:
    assert ignored(Config()) == []


@pytest.mark.parametrize("key", ["TEST.AUG.ENABLED", "TEST.PRECISE_BN.ENABLED", "INPUT.CROP.ENABLED"])
def test_a_switch_is_not_ignored_with_the_section_it_switches(key: str) -> None:
    assert is_ignored(key) is None
    assert is_ignored(f"{key.rpartition('.')[0]}.ANYTHING") is not None


def test_ignored_keys_of_an_ignored_section_do_not_change_what_is_supported() -> None:
    changed = {key: "x" if TYPES[key] is str else value for key, value in flat(a_config()).items() if is_ignored(key)}
    require_supported(with_values(a_config(), changed), "config")


def test_the_page_of_keys_is_the_codes_own() -> None:
    """If this fails: python -m sightline.config.support > docs/detectron2_keys.md"""
    stored = Path(__file__).parents[2] / "docs" / "detectron2_keys.md"
    assert stored.read_text(encoding="utf-8") == page()
