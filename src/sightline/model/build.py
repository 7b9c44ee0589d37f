"""`Config` to detector: the only module of this room that reads the configuration. Below it there are only numbers."""

from collections.abc import Iterator, Sequence

from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.errors import ConfigError, Problem
from sightline.model.anchors import AnchorGrid
from sightline.model.boxes import BoxCoder
from sightline.model.detector import GeneralizedRCNN
from sightline.model.fpn import FPN
from sightline.model.matching import Matcher
from sightline.model.norms import GROUPS
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
    """Nothing, if the named features exist, the lengths agree and the widths fit together.

    Raises:
        ConfigError: every contradiction.
    """
    found = (*wrong_features(config), *wrong_anchors(config), *wrong_lengths(config), *wrong_widths(config))
    if found:
        raise ConfigError.collected([Problem(where, what, fix) for what, fix in found])


Wrong = Iterator[tuple[str, str]]
"""(what is wrong, how to fix it), again and again."""


def wrong_features(config: Config) -> Wrong:
    """Feature names that do not exist, or levels that leave a gap."""
    stages = config.model.resnets.out_features
    levels = [f"p{stage_level(stage)}" for stage in config.model.fpn.in_features if stage in STAGES]
    coarser = [f"p{int(level[1:]) + 1}" for level in levels[-1:]]
    for key, names, known, gapless in (
        ("MODEL.RESNETS.OUT_FEATURES", stages, STAGES, False),
        ("MODEL.FPN.IN_FEATURES", config.model.fpn.in_features, [stage for stage in STAGES if stage in stages], True),
        ("MODEL.RPN.IN_FEATURES", config.model.rpn.in_features, [*levels, *coarser], False),
        ("MODEL.ROI_HEADS.IN_FEATURES", config.model.roi_heads.in_features, levels, True),
    ):
        if not known:  # said already, of what they come from
            continue
        if not names or any(name not in known for name in names):
            yield f"{key} is {list(names)}", f"Choose from {', '.join(known)}."
        elif gapless and [int(name[-1]) for name in names] != list(range(int(names[0][-1]), int(names[-1][-1]) + 1)):
            yield f"{key} is {list(names)}", "Name neighbouring levels, finest first."


def wrong_anchors(config: Config) -> Wrong:
    levels = len(config.model.rpn.in_features)
    for key, values in (
        ("MODEL.ANCHOR_GENERATOR.SIZES", config.model.anchor_generator.sizes),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", config.model.anchor_generator.aspect_ratios),
    ):
        if len(values) not in (1, levels) or len({len(level) for level in values}) != 1:
            yield f"{key} has {len(values)} entries", f"Give one, or one a level ({levels}), equally long."
        elif not values[0] or any(value <= 0 for level in values for value in level):
            yield f"{key} is {[list(level) for level in values]}", "Give numbers above 0."


def wrong_lengths(config: Config) -> Wrong:
    model = config.model
    for key, numbers, length in (
        ("MODEL.PIXEL_MEAN", model.pixel_mean, 3),
        ("MODEL.PIXEL_STD", model.pixel_std, 3),
        ("MODEL.RPN.BBOX_REG_WEIGHTS", model.rpn.bbox_reg_weights, 4),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", model.roi_box_head.bbox_reg_weights, 4),
    ):
        if len(numbers) != length or (key != "MODEL.PIXEL_MEAN" and min(numbers) <= 0):
            yield f"{key} is {list(numbers)}", f"Give {length} numbers{'' if key == 'MODEL.PIXEL_MEAN' else ' above 0'}."
    for key, thresholds, labels in (
        ("MODEL.RPN", model.rpn.iou_thresholds, model.rpn.iou_labels),
        ("MODEL.ROI_HEADS", model.roi_heads.iou_thresholds, model.roi_heads.iou_labels),
    ):
        if len(labels) != len(thresholds) + 1 or list(thresholds) != sorted(thresholds) or not set(labels) <= {-1, 0, 1}:
            yield (
                f"{key}.IOU_THRESHOLDS is {list(thresholds)} and IOU_LABELS {list(labels)}",
                "Give ascending thresholds and one label (0, -1 or 1) more.",
            )
    if any(width < 1 and width != -1 for width in model.rpn.conv_dims):
        yield f"MODEL.RPN.CONV_DIMS is {list(model.rpn.conv_dims)}", "Give widths above 0, or -1 for the features' own."


def wrong_widths(config: Config) -> Wrong:
    """Channels that do not fit together: shallow networks have no projections, group norms want their 32 groups."""
    resnets, fpn, box = config.model.resnets, config.model.fpn, config.model.roi_box_head
    if resnets.depth < 50 and resnets.res2_out_channels != resnets.stem_out_channels:
        yield (
            f"MODEL.RESNETS.RES2_OUT_CHANNELS is {resnets.res2_out_channels} at depth {resnets.depth}",
            f"Set it to STEM_OUT_CHANNELS, {resnets.stem_out_channels} (64 in ResNet 18 and 34).",
        )
    if resnets.depth < 50 and resnets.num_groups != 1:
        yield f"MODEL.RESNETS.NUM_GROUPS is {resnets.num_groups} at depth {resnets.depth}", "Set it to 1, or the depth to 50."
    stages = [resnets.stem_out_channels, resnets.res2_out_channels]
    if resnets.depth >= 50:
        stages.append(resnets.num_groups * resnets.width_per_group)
    for section, norm, widths in (
        ("RESNETS", resnets.norm, stages),
        ("FPN", fpn.norm, [fpn.out_channels]),
        ("ROI_BOX_HEAD", box.norm, [box.conv_dim] * min(box.num_conv, 1)),
    ):
        if norm == "GN" and any(width % GROUPS for width in widths):
            yield f"MODEL.{section}.NORM is 'GN' with {widths} channels", f"Give multiples of {GROUPS}, or another norm."


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
        max_detections=most if (most := config.test.detections_per_image) >= 0 else None,
    )
