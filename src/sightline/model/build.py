"""`Config` to detector: the only module of this room that reads the configuration. Below it there are only numbers."""

from collections.abc import Sequence

from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.errors import ConfigError
from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import BoxCoder
from sightline.model.detector import GeneralizedRCNN
from sightline.model.fpn import FPN
from sightline.model.matching import Matcher
from sightline.model.pooling import Pooler
from sightline.model.resnet import STAGES, ResNet, resnet
from sightline.model.roi_heads import BoxHead, BoxPredictor, ROIHeads
from sightline.model.rpn import RPN, RPNHead


def build_detector(config: Config, where: str = "config") -> GeneralizedRCNN:
    """The detector that `config` describes, with fresh weights from torch's generator.

    Raises:
        ConfigError: it asks for what is not supported, or contradicts itself.
    """
    require_supported(config, where)
    require_consistent(config, where)
    backbone, strides = build_fpn(config)
    return GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=build_rpn(config, strides),
        roi_heads=build_roi_heads(config, strides),
        pixel_mean=config.model.pixel_mean,
        pixel_std=config.model.pixel_std,
        size_divisor=max(strides[name] for name in pyramid(config)),
    )


def require_consistent(config: Config, where: str) -> None:
    """Nothing, if the named features exist and the lengths agree."""
    resnets, fpn, rpn, heads = config.model.resnets, config.model.fpn, config.model.rpn, config.model.roi_heads
    levels = [*pyramid(config), f"p{stage_level(fpn.in_features[-1]) + 1}"] if fpn.in_features else []
    for key, names, known in (
        ("MODEL.RESNETS.OUT_FEATURES", resnets.out_features, STAGES),
        ("MODEL.FPN.IN_FEATURES", fpn.in_features, resnets.out_features),
        ("MODEL.RPN.IN_FEATURES", rpn.in_features, levels),
        ("MODEL.ROI_HEADS.IN_FEATURES", heads.in_features, pyramid(config)),
    ):
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ConfigError(where, f"{key} is {list(names)}", f"Choose from {', '.join(known)}.")
    for key, values in (
        ("MODEL.ANCHOR_GENERATOR.SIZES", config.model.anchor_generator.sizes),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", config.model.anchor_generator.aspect_ratios),
    ):
        if len(values) not in (1, len(rpn.in_features)) or len({len(level) for level in values}) != 1:
            raise ConfigError(
                where, f"{key} has {len(values)} entries", f"Give one, or one a level ({len(rpn.in_features)}), equally long."
            )
    if resnets.depth < 50 and resnets.res2_out_channels != resnets.stem_out_channels:
        raise ConfigError(
            where,
            f"MODEL.RESNETS.RES2_OUT_CHANNELS is {resnets.res2_out_channels} at depth {resnets.depth}",
            f"Set it to STEM_OUT_CHANNELS, {resnets.stem_out_channels} (64 in ResNet 18 and 34).",
        )


def stage_level(stage: str) -> int:
    """res2 -> 2: its stride is 2 to that power."""
    return int(stage.removeprefix("res"))


def pyramid(config: Config) -> list[str]:
    """Names of the pyramid levels that have convolutions: p2, ..."""
    return [f"p{stage_level(stage)}" for stage in config.model.fpn.in_features]


def build_resnet(config: Config) -> ResNet:
    options = config.model.resnets
    network = resnet(
        depth=options.depth,
        stem_channels=options.stem_out_channels,
        res2_channels=options.res2_out_channels,
        width_per_group=options.width_per_group,
        groups=options.num_groups,
        stride_in_1x1=options.stride_in_1x1,
        res5_dilation=options.res5_dilation,
        norm=options.norm,
        out_features=options.out_features,
    )
    network.freeze(config.model.backbone.freeze_at)
    return network


def build_fpn(config: Config) -> tuple[FPN, dict[str, int]]:
    """(the backbone, {feature name: stride in pixels})."""
    options = config.model.fpn
    levels = [stage_level(stage) for stage in options.in_features]
    first = config.model.resnets.res2_out_channels
    backbone = FPN(
        build_resnet(config),
        in_features=options.in_features,
        levels=tuple(levels),
        in_channels=tuple(first * 2 ** (level - 2) for level in levels),
        out_channels=options.out_channels,
        norm=options.norm,
        fuse=options.fuse_type,
    )
    return backbone, {f"p{level}": 2**level for level in [*levels, levels[-1] + 1]}


def four(values: Sequence[float]) -> tuple[float, float, float, float]:
    a, b, c, d = values
    return a, b, c, d


def per_level(values: Sequence[Sequence[float]], levels: int) -> list[Sequence[float]]:
    """One entry a level; a single entry serves them all."""
    return list(values) * levels if len(values) == 1 else list(values)


def build_rpn(config: Config, strides: dict[str, int]) -> RPN:
    options, anchors = config.model.rpn, config.model.anchor_generator
    levels = len(options.in_features)
    grid = AnchorGrid(
        sizes=per_level(anchors.sizes, levels),
        aspect_ratios=per_level(anchors.aspect_ratios, levels),
        strides=[strides[name] for name in options.in_features],
        offset=anchors.offset,
    )
    return RPN(
        head=RPNHead(config.model.fpn.out_channels, grid.per_cell, options.conv_dims),
        anchors=grid,
        coder=BoxCoder(four(options.bbox_reg_weights)),
        matcher=Matcher(options.iou_thresholds, options.iou_labels, keep_best=True),
        in_features=options.in_features,
        samples=options.batch_size_per_image,
        positive_share=options.positive_fraction,
        pre_nms=(options.pre_nms_topk_train, options.pre_nms_topk_test),
        post_nms=(options.post_nms_topk_train, options.post_nms_topk_test),
        nms_iou=options.nms_thresh,
        min_side_px=config.model.proposal_generator.min_size,
        boundary_px=options.boundary_thresh,
        smooth_l1_beta=options.smooth_l1_beta,
        loss_weight=options.loss_weight,
        box_loss_weight=options.bbox_reg_loss_weight,
    )


def build_roi_heads(config: Config, strides: dict[str, int]) -> ROIHeads:
    heads, box = config.model.roi_heads, config.model.roi_box_head
    box_head = BoxHead(
        in_channels=config.model.fpn.out_channels,
        resolution=box.pooler_resolution,
        conv_dims=[box.conv_dim] * box.num_conv,
        fc_dims=[box.fc_dim] * box.num_fc,
        norm=box.norm,
    )
    return ROIHeads(
        pooler=Pooler(
            resolution=box.pooler_resolution,
            strides=[strides[name] for name in heads.in_features],
            sampling_ratio=box.pooler_sampling_ratio,
            aligned=box.pooler_type == "ROIAlignV2",
        ),
        box_head=box_head,
        predictor=BoxPredictor(box_head.out_dim, heads.num_classes, box.cls_agnostic_bbox_reg),
        coder=BoxCoder(four(box.bbox_reg_weights)),
        matcher=Matcher(heads.iou_thresholds, heads.iou_labels, keep_best=False),
        in_features=heads.in_features,
        classes=heads.num_classes,
        samples=heads.batch_size_per_image,
        positive_share=heads.positive_fraction,
        append_true_boxes=heads.proposal_append_gt,
        smooth_l1_beta=box.smooth_l1_beta,
        box_loss_weight=box.bbox_reg_loss_weight,
        score_threshold=heads.score_thresh_test,
        nms_iou=heads.nms_thresh_test,
        max_detections=config.test.detections_per_image,
    )
