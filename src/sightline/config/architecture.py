"""What a configuration describes, asked in one place: its architecture, its classes, its score threshold."""

from dataclasses import replace

from sightline.config.schema import Config

PYRAMIDS = ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")
"""Backbones with a feature pyramid; the other is the ResNet itself."""


def is_retinanet(config: Config) -> bool:
    return config.model.meta_architecture == "RetinaNet"


def is_rcnn(config: Config) -> bool:
    """Whether there is a second stage."""
    return config.model.meta_architecture == "GeneralizedRCNN"


def proposes_only(config: Config) -> bool:
    """Whether its answers are regions without classes."""
    return config.model.meta_architecture == "ProposalNetwork"


def has_masks(config: Config) -> bool:
    """Whether it learns and predicts masks. Other architectures than R-CNN ignore MASK_ON, as in Detectron2."""
    return config.model.mask_on and is_rcnn(config)


def is_cascade(config: Config) -> bool:
    return is_rcnn(config) and config.model.roi_heads.name == "CascadeROIHeads"


def has_pyramid(config: Config) -> bool:
    return config.model.backbone.name in PYRAMIDS


def class_count_key(config: Config) -> str:
    """The key that says how many classes this architecture has."""
    return "MODEL.RETINANET.NUM_CLASSES" if is_retinanet(config) else "MODEL.ROI_HEADS.NUM_CLASSES"


def class_count(config: Config) -> int:
    """Classes that its answers may have; 1 for proposals."""
    if proposes_only(config):
        return 1
    return config.model.retinanet.num_classes if is_retinanet(config) else config.model.roi_heads.num_classes


def with_class_count(config: Config, classes: int) -> Config:
    """`config` for that many classes, whatever the architecture."""
    model = replace(
        config.model,
        roi_heads=replace(config.model.roi_heads, num_classes=classes),
        retinanet=replace(config.model.retinanet, num_classes=classes),
    )
    return replace(config, model=model)


def score_threshold(config: Config) -> float:
    """Least score of a detection; proposals have none."""
    if proposes_only(config):
        return 0.0
    return config.model.retinanet.score_thresh_test if is_retinanet(config) else config.model.roi_heads.score_thresh_test


def with_score_threshold(config: Config, threshold: float) -> Config:
    """`config` with that least score, whatever the architecture."""
    model = replace(
        config.model,
        roi_heads=replace(config.model.roi_heads, score_thresh_test=threshold),
        retinanet=replace(config.model.retinanet, score_thresh_test=threshold),
    )
    return replace(config, model=model)
