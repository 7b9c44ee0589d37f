"""Which Detectron2 keys act here, which are known and ignored, and which values are refused.

Every key of schema.py is in one of three states. IGNORED keys change no result. A key in LIMITS acts only with the values
listed; any other value would silently give other numbers than Detectron2, so it is refused by name. All other keys act.
"""

from collections.abc import Callable

from sightline.config.schema import Config
from sightline.config.yaml_dialect import as_lists, flat
from sightline.errors import ConfigError, Problem

IGNORED = {
    "CUDNN_BENCHMARK": "a speed setting; results do not depend on it",
    "DATALOADER.NUM_WORKERS": "the number of loading processes is chosen for the machine, or by --workers",
    "DATALOADER.REPEAT_SQRT": "belongs to RepeatFactorTrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": "belongs to RepeatFactorTrainingSampler",
    "DATASETS.*": "the data set is what --data names",
    "GLOBAL.HACK": "means nothing in Detectron2 either",
    "INPUT.CROP.*": "acts only with INPUT.CROP.ENABLED, which is refused",
    "INPUT.MASK_FORMAT": "no masks are trained yet",
    "MODEL.ANCHOR_GENERATOR.ANGLES": "belongs to rotated boxes",
    "MODEL.PANOPTIC_FPN.*": "belongs to panoptic models",
    "MODEL.RETINANET.*": "belongs to RetinaNet",
    "MODEL.ROI_BOX_CASCADE_HEAD.*": "belongs to cascades",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_*": "acts only with USE_FED_LOSS, which is refused",
    "MODEL.ROI_KEYPOINT_HEAD.*": "acts only with KEYPOINT_ON, which is refused",
    "MODEL.ROI_MASK_HEAD.*": "acts only with MASK_ON, which is refused",
    "MODEL.RESNETS.DEFORM_MODULATED": "acts only with DEFORM_ON_PER_STAGE, which is refused",
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": "acts only with DEFORM_ON_PER_STAGE, which is refused",
    "MODEL.SEM_SEG_HEAD.*": "belongs to semantic segmentation",
    "OUTPUT_DIR": "the run folder is what -o names",
    "SOLVER.REFERENCE_WORLD_SIZE": "training runs in one process",
    "TEST.AUG.*": "acts only with TEST.AUG.ENABLED, which is refused",
    "TEST.EVAL_PERIOD": "scores are computed after training, by `sightline evaluate`",
    "TEST.EXPECTED_RESULTS": "a self-test of Detectron2's own continuous integration",
    "TEST.KEYPOINT_OKS_SIGMAS": "belongs to keypoints",
    "TEST.PRECISE_BN.*": "acts only with TEST.PRECISE_BN.ENABLED, which is refused",
    "VERSION": "keys of version 2 are read",
    "VIS_PERIOD": "pictures of training batches are not logged",
}
"""Keys (or `SECTION.*`) that change no result here, and why."""

Check = Callable[[object], bool]


def only(*values: object) -> tuple[Check, str]:
    return (lambda value: value in values), " or ".join(repr(value) for value in values)


def positive() -> tuple[Check, str]:
    return (lambda value: isinstance(value, int | float) and value > 0), "a number above 0"


def count() -> tuple[Check, str]:
    return (lambda value: isinstance(value, int) and value > 0), "a whole number above 0"


def not_negative() -> tuple[Check, str]:
    return (lambda value: value is None or (isinstance(value, int | float) and value >= 0)), "0 or a number above"


def share() -> tuple[Check, str]:
    return (lambda value: isinstance(value, int | float) and 0 <= value <= 1), "a number from 0 to 1"


LIMITS: dict[str, tuple[Check, str]] = {
    "DATALOADER.SAMPLER_TRAIN": only("TrainingSampler"),
    "FLOAT32_PRECISION": only("", "highest"),
    "INPUT.CROP.ENABLED": only(False),
    "INPUT.FORMAT": only("BGR", "RGB"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": only("choice", "range"),
    "INPUT.RANDOM_FLIP": only("horizontal", "vertical", "none"),
    "MODEL.ANCHOR_GENERATOR.NAME": only("DefaultAnchorGenerator"),
    "MODEL.BACKBONE.NAME": only("build_resnet_fpn_backbone"),
    "MODEL.FPN.FUSE_TYPE": only("sum", "avg"),
    "MODEL.KEYPOINT_ON": only(False),
    "MODEL.LOAD_PROPOSALS": only(False),
    "MODEL.MASK_ON": only(False),
    "MODEL.META_ARCHITECTURE": only("GeneralizedRCNN"),
    "MODEL.PROPOSAL_GENERATOR.NAME": only("RPN"),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": only((False, False, False, False)),
    "MODEL.RESNETS.DEPTH": only(18, 34, 50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": only(1),  # a pyramid needs every level twice as coarse as the last
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": only("smooth_l1"),
    "MODEL.ROI_BOX_HEAD.NAME": only("FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": only("ROIAlignV2", "ROIAlign"),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": only(False),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": only(False),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": only(False),
    "MODEL.ROI_HEADS.NAME": only("StandardROIHeads"),
    "MODEL.ROI_HEADS.NUM_CLASSES": count(),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": only("smooth_l1"),
    "MODEL.RPN.HEAD_NAME": only("StandardRPNHead"),
    "SOLVER.AMP.ENABLED": only(False),
    "SOLVER.BASE_LR": positive(),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": only("value", "norm"),
    "SOLVER.IMS_PER_BATCH": count(),
    "SOLVER.LR_SCHEDULER_NAME": only("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    "SOLVER.MAX_ITER": count(),
    "SOLVER.WARMUP_METHOD": only("linear", "constant"),
    "TEST.AUG.ENABLED": only(False),
    "TEST.PRECISE_BN.ENABLED": only(False),
}
LIMITS |= {
    f"MODEL.{section}.NORM": only("", "BN", "FrozenBN", "GN", "SyncBN") for section in ("FPN", "RESNETS", "ROI_BOX_HEAD")
}
LIMITS |= {
    f"MODEL.{key}": share()
    for key in (
        "RPN.NMS_THRESH",
        "RPN.POSITIVE_FRACTION",
        "ROI_HEADS.NMS_THRESH_TEST",
        "ROI_HEADS.POSITIVE_FRACTION",
        "ROI_HEADS.SCORE_THRESH_TEST",
    )
}
LIMITS |= {f"INPUT.MAX_SIZE_{phase}": count() for phase in ("TRAIN", "TEST")}
LIMITS |= {
    f"MODEL.{key}": count()
    for key in (
        "FPN.OUT_CHANNELS",
        "RESNETS.NUM_GROUPS",
        "RESNETS.RES2_OUT_CHANNELS",
        "RESNETS.STEM_OUT_CHANNELS",
        "RESNETS.WIDTH_PER_GROUP",
        "ROI_BOX_HEAD.CONV_DIM",
        "ROI_BOX_HEAD.FC_DIM",
        "ROI_BOX_HEAD.POOLER_RESOLUTION",
        "ROI_HEADS.BATCH_SIZE_PER_IMAGE",
        "RPN.BATCH_SIZE_PER_IMAGE",
        "RPN.POST_NMS_TOPK_TEST",
        "RPN.POST_NMS_TOPK_TRAIN",
        "RPN.PRE_NMS_TOPK_TEST",
        "RPN.PRE_NMS_TOPK_TRAIN",
    )
}
LIMITS |= {
    key: not_negative()
    for key in (
        "INPUT.MIN_SIZE_TEST",
        "MODEL.ROI_BOX_HEAD.NUM_CONV",
        "MODEL.ROI_BOX_HEAD.NUM_FC",
        "SOLVER.MOMENTUM",
        "SOLVER.WARMUP_ITERS",
        "SOLVER.WEIGHT_DECAY",
        "SOLVER.WEIGHT_DECAY_BIAS",
        "SOLVER.WEIGHT_DECAY_NORM",
    )
}
"""{key: (whether a value is honoured, the values in words)}."""


def is_ignored(key: str) -> str | None:
    """Why `key` changes nothing here; None if it acts."""
    for pattern, reason in IGNORED.items():
        if key == pattern or (pattern.endswith("*") and key.startswith(pattern[:-1]) and key not in LIMITS):
            return reason
    return None


def require_supported(config: Config, where: str) -> None:
    """Nothing, if every value is honoured.

    Raises:
        ConfigError: all keys whose value would give other results than Detectron2, with what is supported.
    """
    values = flat(config)
    problems = [
        Problem(where, f"{key} is {values[key]!r}, which is not supported", f"Supported: {words}.")
        for key, (honoured, words) in LIMITS.items()
        if not honoured(values[key])
    ]
    if problems:
        raise ConfigError.collected(problems)


def ignored(config: Config) -> list[str]:
    """Keys set to something else than Detectron2's default that change nothing here, each with the reason."""
    defaults = flat(Config())
    changed = [key for key, value in flat(config).items() if value != defaults[key]]
    return [f"{key}: {reason}" for key in changed if (reason := is_ignored(key))]


def page() -> str:
    """docs/detectron2_keys.md: what becomes of every key, from the tables above."""
    acting, limited, without_effect = [], [], []
    for key, value in flat(Config()).items():
        reason = is_ignored(key)
        if key in LIMITS:
            limited.append(f"| `{key}` | {LIMITS[key][1].replace('|', '/')} |")
        elif reason is not None:
            without_effect.append(f"| `{key}` | {reason} |")
        else:
            acting.append(f"| `{key}` | `{as_lists(value)!r}` |")
    return "\n".join(
        [
            "# Detectron2's configuration keys in Sightline",
            "",
            "Written by `python -m sightline.config.support > docs/detectron2_keys.md` from the code's own tables.",
            f"All {len(acting) + len(limited) + len(without_effect)} keys are read, kept and dumped again, so a run's",
            "`config.yaml` loads in Detectron2. A key that Detectron2 does not know is an error that suggests the nearest one.",
            "",
            "## Keys that act with these values; any other value is refused by name",
            "",
            "| key | supported |",
            "|---|---|",
            *limited,
            "",
            "## Keys that act with any value",
            "",
            "| key | default |",
            "|---|---|",
            *acting,
            "",
            "## Keys that change nothing",
            "",
            "`sightline train` lists those that are set to something else than the default.",
            "",
            "| key | why |",
            "|---|---|",
            *without_effect,
            "",
        ]
    )


if __name__ == "__main__":
    print(page(), end="")
