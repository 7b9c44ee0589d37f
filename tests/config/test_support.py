"""Every key is in one state: it acts, it is ignored with a reason, or some of its values are refused by name."""

import re
from pathlib import Path

import pytest
from builders import C4, CASCADE, DC5, MASKS, PROPOSALS_ONLY, RETINANET, a_config, overrides

from sightline.config import support
from sightline.config.schema import Config
from sightline.config.support import IGNORED, LIMITS, PARTS, idle_part, ignored, is_ignored, matches, page, require_supported
from sightline.config.yaml_dialect import TYPES, as_lists, flat, with_values
from sightline.errors import ConfigError

REFUSED = {
    "DATALOADER.REPEAT_THRESHOLD": -0.1,
    "DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler",
    "FLOAT32_PRECISION": "high",
    "INPUT.CROP.TYPE": "relative-range",
    "INPUT.FORMAT": "YUV-BT.601",
    "INPUT.MASK_FORMAT": "rle",
    "INPUT.MAX_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TRAIN": 0,
    "INPUT.MIN_SIZE_TEST": -1,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "any",
    "INPUT.RANDOM_FLIP": "both",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.BACKBONE.NAME": "build_vit_backbone",
    "MODEL.FPN.FUSE_TYPE": "max",
    "MODEL.FPN.NORM": "LN",
    "MODEL.FPN.OUT_CHANNELS": 0,
    "MODEL.KEYPOINT_ON": True,
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.META_ARCHITECTURE": "PanopticFPN",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": (False, True, True, True),
    "MODEL.RESNETS.DEPTH": 51,
    "MODEL.RESNETS.NORM": "InstanceNorm",
    "MODEL.RESNETS.NUM_GROUPS": 0,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 0,
    "MODEL.RESNETS.RES5_DILATION": 3,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": -8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 0,
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "iou",
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 1.5,
    "MODEL.RETINANET.NMS_THRESH_TEST": -0.1,
    "MODEL.RETINANET.NORM": "LN",
    "MODEL.RETINANET.NUM_CLASSES": 0,
    "MODEL.RETINANET.NUM_CONVS": -1,
    "MODEL.RETINANET.PRIOR_PROB": 1.0,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 1.5,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "iou",
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 0,
    "MODEL.ROI_BOX_HEAD.NAME": "OtherHead",
    "MODEL.ROI_BOX_HEAD.NORM": "?",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": -1,
    "MODEL.ROI_BOX_HEAD.NUM_FC": -1,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 1.5,
    "MODEL.ROI_HEADS.NUM_CLASSES": 0,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 2.0,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": float("nan"),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 0,
    "MODEL.ROI_MASK_HEAD.NAME": "PointRend",
    "MODEL.ROI_MASK_HEAD.NORM": "?",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": -1,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 0,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIPool",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "l2",
    "MODEL.RPN.HEAD_NAME": "OtherHead",
    "MODEL.RPN.NMS_THRESH": -0.1,
    "MODEL.RPN.POSITIVE_FRACTION": -0.5,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 0,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": -1,
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
    "TEST.AUG.MAX_SIZE": 0,
    "TEST.PRECISE_BN.ENABLED": True,
}
"""A value of every limited key that would silently give other numbers than Detectron2, or none at all."""


BASES = {
    "DATALOADER.REPEAT_THRESHOLD": ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
    "INPUT.CROP.TYPE": ("INPUT.CROP.ENABLED", "True"),
    "INPUT.MASK_FORMAT": MASKS,
    "MODEL.RETINANET.": RETINANET,
    "MODEL.ROI_MASK_HEAD.": MASKS,
    "SOLVER.CLIP_GRADIENTS.": ("SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
    "TEST.AUG.": ("TEST.AUG.ENABLED", "True"),
}
"""What has the part that a key belongs to, where the tiny detector has not."""


@pytest.mark.parametrize(("key", "value"), REFUSED.items(), ids=list(REFUSED))
def test_an_unsupported_value_is_refused_by_name(key: str, value: object) -> None:
    base = next((base for prefix, base in BASES.items() if key.startswith(prefix)), ())
    message = rf"^mine\.yaml: {re.escape(key)} is {re.escape(repr(as_lists(value)))}, which is not supported\. Supported: .+\.$"
    with pytest.raises(ConfigError, match=message):
        require_supported(with_values(a_config(*base), {key: value}), "mine.yaml")


def test_every_limit_is_tried_above() -> None:
    assert set(REFUSED) == set(LIMITS)


def test_all_refused_keys_are_told_at_once() -> None:
    config = with_values(a_config(), {"MODEL.KEYPOINT_ON": True, "SOLVER.MAX_ITER": 0})
    with pytest.raises(ConfigError) as caught:
        require_supported(config, "config")
    assert {problem.what.split()[0] for problem in caught.value.problems} == {"MODEL.KEYPOINT_ON", "SOLVER.MAX_ITER"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param("MODEL.KEYPOINT_ON True", "MODEL.KEYPOINT_ON", id="keypoints"),
        pytest.param("MODEL.META_ARCHITECTURE PanopticFPN", "MODEL.META_ARCHITECTURE", id="panoptic"),
        pytest.param("MODEL.META_ARCHITECTURE SemanticSegmentor", "MODEL.META_ARCHITECTURE", id="semantic"),
        pytest.param("MODEL.PROPOSAL_GENERATOR.NAME RRPN", "MODEL.PROPOSAL_GENERATOR.NAME", id="rotated proposals"),
        pytest.param("MODEL.ROI_HEADS.NAME RROIHeads", "MODEL.ROI_HEADS.NAME", id="rotated heads"),
        pytest.param(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE (False,True,True,True)", "MODEL.RESNETS.DEFORM_ON_PER_STAGE", id="deformable"
        ),
        pytest.param("MODEL.LOAD_PROPOSALS True", "MODEL.LOAD_PROPOSALS", id="proposals from a file"),
        pytest.param("MODEL.PROPOSAL_GENERATOR.NAME PrecomputedProposals", "MODEL.PROPOSAL_GENERATOR.NAME", id="precomputed"),
        pytest.param("MODEL.ROI_BOX_HEAD.USE_FED_LOSS True", "MODEL.ROI_BOX_HEAD.USE_FED_LOSS", id="federated loss"),
        pytest.param("TEST.PRECISE_BN.ENABLED True", "TEST.PRECISE_BN.ENABLED", id="precise batch norm"),
    ],
)
def test_what_detectron2_has_and_sightline_has_not(changes: str, key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{key} is ")):
        require_supported(a_config(*overrides(changes)), "config")


def test_detectron2s_defaults_are_supported() -> None:
    """A C4 detector."""
    require_supported(Config(), "config")


ARCHITECTURES = {
    "FPN": (),
    "masks": MASKS,
    "C4": C4,
    "DC5": (*DC5, *MASKS),
    "cascade": (*CASCADE, *MASKS),
    "RetinaNet": RETINANET,
    "proposals": PROPOSALS_ONLY,
}


@pytest.mark.parametrize("base", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_keys_of_parts_that_are_not_there_may_have_any_value_and_are_told(base: tuple[str, ...]) -> None:
    config = a_config(*base)
    absent = [key for key in REFUSED if idle_part(key, config) is not None]
    changed = with_values(config, {key: REFUSED[key] for key in absent})
    require_supported(changed, "config")
    assert set(absent) <= {line.partition(":")[0] for line in ignored(changed)}


@pytest.mark.parametrize(
    ("base", "key", "part"),
    [
        ((), "MODEL.RETINANET.NUM_CONVS", "RetinaNet"),
        ((), "MODEL.ROI_MASK_HEAD.CONV_DIM", "MODEL.MASK_ON in GeneralizedRCNN"),
        ((), "MODEL.ROI_BOX_CASCADE_HEAD.IOUS", "CascadeROIHeads"),
        ((), "TEST.AUG.MIN_SIZES", "TEST.AUG.ENABLED"),
        ((*RETINANET, *MASKS), "MODEL.ROI_MASK_HEAD.CONV_DIM", "MODEL.MASK_ON in GeneralizedRCNN"),
        (RETINANET, "MODEL.RPN.NMS_THRESH", "GeneralizedRCNN and ProposalNetwork"),
        (PROPOSALS_ONLY, "MODEL.ROI_HEADS.NUM_CLASSES", "GeneralizedRCNN"),
        (C4, "MODEL.FPN.NORM", "a backbone with a feature pyramid"),
        (RETINANET, "MODEL.RETINANET.NUM_CONVS", None),
        (MASKS, "MODEL.ROI_MASK_HEAD.CONV_DIM", None),
        (CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS", None),
        (PROPOSALS_ONLY, "MODEL.RPN.NMS_THRESH", None),
        ((), "TEST.AUG.ENABLED", None),
    ],
)
def test_which_part_is_idle(base: tuple[str, ...], key: str, part: str | None) -> None:
    assert idle_part(key, a_config(*base)) == part


def test_every_entry_names_keys_that_exist() -> None:
    assert set(LIMITS) <= set(TYPES)
    for pattern in IGNORED:
        stem = pattern.removesuffix("*")
        assert any(key == pattern or (stem != pattern and key.startswith(stem)) for key in TYPES), pattern
    for pattern, _, _ in PARTS:
        assert any(matches(key, pattern) for key in TYPES), pattern


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
        "MODEL.ROI_MASK_HEAD.CONV_DIM: acts only in or with MODEL.MASK_ON in GeneralizedRCNN",
        "VIS_PERIOD: pictures of training batches are not logged",
    ]


def test_nothing_is_told_of_defaults() -> None:
    assert ignored(Config()) == []


@pytest.mark.parametrize(
    "key", ["TEST.AUG.ENABLED", "SOLVER.CLIP_GRADIENTS.ENABLED", "TEST.PRECISE_BN.ENABLED", "INPUT.CROP.ENABLED"]
)
def test_a_switch_is_not_idle_with_the_section_it_switches(key: str) -> None:
    section = key.rpartition(".")[0]
    others = [other for other in TYPES if other.startswith(f"{section}.") and other != key]
    assert is_ignored(key) is None and idle_part(key, a_config()) is None
    assert all(is_ignored(other) or idle_part(other, a_config()) for other in others)


def test_ignored_keys_of_an_ignored_section_do_not_change_what_is_supported() -> None:
    changed = {key: "x" if TYPES[key] is str else value for key, value in flat(a_config()).items() if is_ignored(key)}
    require_supported(with_values(a_config(), changed), "config")


def test_the_page_of_keys_is_the_codes_own() -> None:
    """If this fails: python -m sightline.config.support > docs/detectron2_keys.md"""
    stored = Path(__file__).parents[2] / "docs" / "detectron2_keys.md"
    assert stored.read_text(encoding="utf-8") == page()


def test_every_key_is_in_exactly_one_table_of_the_page() -> None:
    """Patterns of parts stand in a table of their own."""
    named = re.findall(r"^\| `([A-Z0-9_.]+)` \|", page(), flags=re.MULTILINE)
    parts = [pattern for pattern, _, _ in PARTS if not pattern.endswith("*")]
    assert sorted(named) == sorted([*TYPES, *parts])
