"""Which Detectron2 keys act here, which are known and ignored, and which values are refused.

Every key of schema.py is in one of three states. IGNORED keys change no result. A key in LIMITS acts only with the values
listed; any other value would silently give other numbers than Detectron2, so it is refused by name. All other keys act.
Keys of PARTS belong to a part that not every architecture has; elsewhere they change nothing and may have any value.
"""

from collections.abc import Callable

from sightline.config.architecture import has_masks, has_pyramid, is_cascade, is_rcnn, is_retinanet
from sightline.config.schema import Config
from sightline.config.yaml_dialect import as_lists, flat
from sightline.errors import ConfigError, Problem

IGNORED = {
    "CUDNN_BENCHMARK": "a speed setting; results do not depend on it",
    "DATALOADER.NUM_WORKERS": "the number of loading processes is chosen for the machine, or by --workers",
    "DATASETS.*": "the data set is what --data names",
    "GLOBAL.HACK": "means nothing in Detectron2 either",
    "MODEL.ANCHOR_GENERATOR.ANGLES": "belongs to rotated boxes",
    "MODEL.PANOPTIC_FPN.*": "belongs to panoptic models",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_*": "acts only with USE_FED_LOSS, which is refused",
    "MODEL.ROI_KEYPOINT_HEAD.*": "acts only with KEYPOINT_ON, which is refused",
    "MODEL.RESNETS.DEFORM_MODULATED": "acts only with DEFORM_ON_PER_STAGE, which is refused",
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": "acts only with DEFORM_ON_PER_STAGE, which is refused",
    "MODEL.SEM_SEG_HEAD.*": "belongs to semantic segmentation",
    "OUTPUT_DIR": "the run folder is what -o names",
    "TEST.EXPECTED_RESULTS": "a self-test of Detectron2's own continuous integration",
    "TEST.KEYPOINT_OKS_SIGMAS": "belongs to keypoints",
    "TEST.PRECISE_BN.*": "acts only with TEST.PRECISE_BN.ENABLED, which is refused",
    "VERSION": "keys of version 1 are read, too, and dumped as those of version 2",
    "VIS_PERIOD": "pictures of training batches are not logged",
}
"""Keys (or `SECTION.*`) that change no result here, and why."""

REPEATING = "RepeatFactorTrainingSampler"
"""The sampler that shows pictures of rare classes more often than others."""

PARTS: tuple[tuple[str, Callable[[Config], bool], str], ...] = (
    (
        "DATALOADER.REPEAT_*",
        lambda config: config.dataloader.sampler_train == REPEATING,
        f"DATALOADER.SAMPLER_TRAIN {REPEATING}",
    ),
    ("INPUT.CROP.SIZE", lambda config: config.input.crop.enabled, "INPUT.CROP.ENABLED"),
    ("INPUT.CROP.TYPE", lambda config: config.input.crop.enabled, "INPUT.CROP.ENABLED"),
    ("INPUT.MASK_FORMAT", has_masks, "MODEL.MASK_ON"),
    ("MODEL.FPN.*", has_pyramid, "a backbone with a feature pyramid"),
    ("MODEL.PROPOSAL_GENERATOR.*", lambda config: not is_retinanet(config), "GeneralizedRCNN and ProposalNetwork"),
    ("MODEL.RETINANET.*", is_retinanet, "RetinaNet"),
    ("MODEL.ROI_BOX_CASCADE_HEAD.*", is_cascade, "CascadeROIHeads"),
    ("MODEL.ROI_BOX_HEAD.*", is_rcnn, "GeneralizedRCNN"),
    ("MODEL.ROI_HEADS.*", is_rcnn, "GeneralizedRCNN"),
    ("MODEL.ROI_MASK_HEAD.*", has_masks, "MODEL.MASK_ON in GeneralizedRCNN"),
    ("MODEL.RPN.*", lambda config: not is_retinanet(config), "GeneralizedRCNN and ProposalNetwork"),
    ("SOLVER.CLIP_GRADIENTS.*", lambda config: config.solver.clip_gradients.enabled, "SOLVER.CLIP_GRADIENTS.ENABLED"),
    ("TEST.AUG.*", lambda config: config.test.aug.enabled, "TEST.AUG.ENABLED"),
)
"""(keys, whether the configuration has the part that they belong to, that part in words)."""

SWITCHES = ("SOLVER.CLIP_GRADIENTS.ENABLED", "TEST.AUG.ENABLED")
"""Keys that switch their own section on; they always act."""

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


def between() -> tuple[Check, str]:
    return (lambda value: isinstance(value, int | float) and 0 < value < 1), "a number between 0 and 1"


def at_most_one() -> tuple[Check, str]:
    return (lambda value: isinstance(value, int | float) and value <= 1), "a number up to 1 (below 0: no balance)"


BOX_LOSSES = ("smooth_l1", "giou", "diou", "ciou")

LIMITS: dict[str, tuple[Check, str]] = {
    "DATALOADER.REPEAT_THRESHOLD": not_negative(),
    "DATALOADER.SAMPLER_TRAIN": only("TrainingSampler", REPEATING),
    "FLOAT32_PRECISION": only("", "highest"),
    "INPUT.CROP.TYPE": only("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.FORMAT": only("BGR", "RGB"),
    "INPUT.MASK_FORMAT": only("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": only("choice", "range"),
    "INPUT.RANDOM_FLIP": only("horizontal", "vertical", "none"),
    "MODEL.ANCHOR_GENERATOR.NAME": only("DefaultAnchorGenerator"),
    "MODEL.BACKBONE.NAME": only("build_resnet_backbone", "build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"),
    "MODEL.FPN.FUSE_TYPE": only("sum", "avg"),
    "MODEL.KEYPOINT_ON": only(False),
    "MODEL.LOAD_PROPOSALS": only(False),
    "MODEL.META_ARCHITECTURE": only("GeneralizedRCNN", "ProposalNetwork", "RetinaNet"),
    "MODEL.PROPOSAL_GENERATOR.NAME": only("RPN"),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": only((False, False, False, False)),
    "MODEL.RESNETS.DEPTH": only(18, 34, 50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": only(1, 2),
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": only(*BOX_LOSSES),
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": at_most_one(),
    "MODEL.RETINANET.NUM_CLASSES": count(),
    "MODEL.RETINANET.NUM_CONVS": not_negative(),
    "MODEL.RETINANET.PRIOR_PROB": between(),
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": count(),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": only(*BOX_LOSSES),
    "MODEL.ROI_BOX_HEAD.NAME": only("FastRCNNConvFCHead", ""),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": only("ROIAlignV2", "ROIAlign"),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": only(False),
    "MODEL.ROI_HEADS.NAME": only("StandardROIHeads", "Res5ROIHeads", "CascadeROIHeads"),
    "MODEL.ROI_HEADS.NUM_CLASSES": count(),
    "MODEL.ROI_MASK_HEAD.NAME": only("MaskRCNNConvUpsampleHead"),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": only("ROIAlignV2", "ROIAlign"),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": only(*BOX_LOSSES),
    "MODEL.RPN.HEAD_NAME": only("StandardRPNHead"),
    "SOLVER.BASE_LR": positive(),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": only("value", "norm"),
    "SOLVER.IMS_PER_BATCH": count(),
    "SOLVER.LR_SCHEDULER_NAME": only("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    "SOLVER.MAX_ITER": count(),
    "SOLVER.WARMUP_METHOD": only("linear", "constant"),
    "TEST.PRECISE_BN.ENABLED": only(False),
}
LIMITS |= {
    f"MODEL.{section}.NORM": only("", "BN", "FrozenBN", "GN", "SyncBN", "nnSyncBN")
    for section in ("FPN", "RESNETS", "RETINANET", "ROI_BOX_HEAD", "ROI_MASK_HEAD")
}
LIMITS |= {
    f"MODEL.{key}": share()
    for key in (
        "RETINANET.NMS_THRESH_TEST",
        "RETINANET.SCORE_THRESH_TEST",
        "RPN.NMS_THRESH",
        "RPN.POSITIVE_FRACTION",
        "ROI_HEADS.NMS_THRESH_TEST",
        "ROI_HEADS.POSITIVE_FRACTION",
        "ROI_HEADS.SCORE_THRESH_TEST",
    )
}
LIMITS |= {key: count() for key in ("INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST", "TEST.AUG.MAX_SIZE")}
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
        "ROI_MASK_HEAD.CONV_DIM",
        "ROI_MASK_HEAD.POOLER_RESOLUTION",
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
        "MODEL.ROI_MASK_HEAD.NUM_CONV",
        "SOLVER.MOMENTUM",
        "SOLVER.WARMUP_ITERS",
        "SOLVER.WEIGHT_DECAY",
        "SOLVER.WEIGHT_DECAY_BIAS",
        "SOLVER.WEIGHT_DECAY_NORM",
    )
}
"""{key: (whether a value is honoured, the values in words)}."""


DEFAULTS = Config()


def matches(key: str, pattern: str) -> bool:
    return key == pattern or (pattern.endswith("*") and key.startswith(pattern[:-1]) and key not in SWITCHES)


def is_ignored(key: str) -> str | None:
    """Why `key` changes nothing here, in any architecture; None if it acts in some."""
    for pattern, reason in IGNORED.items():
        if matches(key, pattern) and (key == pattern or key not in LIMITS):
            return reason
    return None


def idle_part(key: str, config: Config) -> str | None:
    """The part that `key` belongs to and `config` does not have; None if it acts."""
    for pattern, has_part, words in PARTS:
        if matches(key, pattern) and not has_part(config):
            return words
    return None


def require_supported(config: Config, where: str) -> None:
    """Nothing, if every value is honoured.

    Raises:
        ConfigError: all keys whose value would give other results than Detectron2, with what is supported.
    """
    values = flat(config)
    problems = [
        Problem(where, f"{key} is {as_lists(values[key])!r}, which is not supported", f"Supported: {words}.")
        for key, (honoured, words) in LIMITS.items()
        if not honoured(values[key]) and idle_part(key, config) is None
    ]
    if problems:
        raise ConfigError.collected(problems)


def ignored(config: Config, base: Config = DEFAULTS) -> list[str]:
    """Keys set to something else than in `base` that change nothing here, each with the reason."""
    before = flat(base)
    changed = [key for key, value in flat(config).items() if value != before[key]]
    lines = []
    for key in changed:
        part = idle_part(key, config)
        reason = is_ignored(key) or (f"acts only in or with {part}" if part else None)
        if reason:
            lines.append(f"{key}: {reason}")
    return lines


def no_way_back(config: Config) -> list[str]:
    """Values that act here and that Detectron2 itself would refuse, in words: a run with them cannot be taken back to it."""
    resnets = config.model.resnets
    found = []
    if resnets.depth < 50 and resnets.res2_out_channels != 64:
        width = resnets.res2_out_channels
        found.append(f"MODEL.RESNETS.RES2_OUT_CHANNELS is {width}; Detectron2 builds ResNet 18 and 34 with 64")
    return found


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
            "## Keys that act only in some architectures",
            "",
            "Elsewhere they change nothing, and any value is accepted.",
            "",
            "| keys | act in or with |",
            "|---|---|",
            *(f"| `{pattern}` | {words} |" for pattern, _, words in PARTS),
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
