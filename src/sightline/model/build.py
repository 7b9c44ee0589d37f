"""`Config` to detector and predictor: the only module of this room that reads the configuration. Below it there are numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from sightline.config.architecture import has_pyramid
from sightline.config.schema import Config, RoiBoxHead, RoiMaskHead
from sightline.config.support import idle_part, require_supported
from sightline.errors import ConfigError, Problem
from sightline.model.anchors import AnchorGrid
from sightline.model.box_head import BoxHead, BoxPredictor, Selection
from sightline.model.boxes import BoxCoder
from sightline.model.cascade import CascadeROIHeads
from sightline.model.detector import Detector
from sightline.model.fpn import FPN, ConvolvedTop, PooledTop
from sightline.model.losses import BoxLoss
from sightline.model.mask_head import MaskHead
from sightline.model.matching import Matcher
from sightline.model.norms import GROUPS
from sightline.model.pooling import Pooler
from sightline.model.predictor import Predictor
from sightline.model.rcnn import GeneralizedRCNN, ProposalNetwork
from sightline.model.resnet import STAGES, ResNet, bottleneck_stage, resnet
from sightline.model.retinanet import RetinaNet, RetinaNetHead
from sightline.model.roi_heads import Res5ROIHeads, ROIHeads, Sampling, StandardROIHeads
from sightline.model.rpn import RPN, RPNHead
from sightline.model.varied import Variations

RES5_BLOCKS = 3
"""Bottlenecks that Res5ROIHeads runs on every proposal; Detectron2 takes three at every depth."""


@dataclass(frozen=True, slots=True)
class Level:
    """A feature that the backbone gives: its channels, and pixels between its cells."""

    channels: int
    stride: int


Levels = Mapping[str, Level]


def build_detector(config: Config, where: str = "config") -> Detector:
    """The detector that `config` describes, with fresh weights from torch's generator.

    Raises:
        ConfigError: it asks for what is not supported, or contradicts itself.
    """
    require_supported(config, where)
    require_consistent(config, where)
    model = config.model
    levels = feature_levels(config)
    if model.meta_architecture == "RetinaNet":
        return build_retinanet(config, levels)
    backbone, generator = build_backbone(config), build_rpn(config, levels)
    if model.meta_architecture == "ProposalNetwork":
        return ProposalNetwork(
            backbone=backbone,
            proposal_generator=generator,
            pixel_mean=model.pixel_mean,
            pixel_std=model.pixel_std,
            size_divisor=size_divisor(config),
        )
    return GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=generator,
        roi_heads=build_roi_heads(config, levels),
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        size_divisor=size_divisor(config),
    )


def build_predictor(detector: Detector, config: Config) -> Predictor:
    """`detector` as the callable that takes pictures of any size, resized (and varied) as INPUT and TEST.AUG say."""
    options = config.input
    return Predictor(
        detector,
        min_size=options.min_size_test,
        max_size=options.max_size_test,
        color_order=options.format,
        variations=build_variations(config) if config.test.aug.enabled else None,
    )


def build_variations(config: Config) -> Variations:
    options = config.test.aug
    return Variations(
        min_sizes=options.min_sizes,
        max_size=options.max_size,
        flip=options.flip,
        nms_iou=config.model.roi_heads.nms_thresh_test,
        max_detections=kept(config),
        classes=config.model.roi_heads.num_classes,
    )


def size_divisor(config: Config) -> int:
    """What batches are padded to. A pyramid adds its levels, so every stride must divide it; a bare backbone asks nothing."""
    return 1 if not has_pyramid(config) else 2 ** stage_level(config.model.fpn.in_features[-1])


def kept(config: Config) -> int | None:
    """Detections a picture keeps; None is all of them."""
    return most if (most := config.test.detections_per_image) >= 0 else None


def feature_levels(config: Config) -> dict[str, Level]:
    """What the backbone gives, by name. The configuration is consistent."""
    resnets = config.model.resnets
    if not has_pyramid(config):
        return {name: stage_shape(config, name) for name in resnets.out_features}
    stages = [stage_level(stage) for stage in config.model.fpn.in_features]
    extra = ConvolvedTop.levels if convolved_top(config) else PooledTop.levels
    every = [*stages, *range(stages[-1] + 1, stages[-1] + 1 + extra)]
    return {f"p{level}": Level(config.model.fpn.out_channels, 2**level) for level in every}


def stage_shape(config: Config, stage: str) -> Level:
    resnets = config.model.resnets
    if stage == "stem":
        return Level(resnets.stem_out_channels, 4)
    level = stage_level(stage)
    dilated = stage == "res5" and resnets.res5_dilation == 2
    return Level(resnets.res2_out_channels * 2 ** (level - 2), 2 ** (level - dilated))


def convolved_top(config: Config) -> bool:
    return config.model.backbone.name == "build_retinanet_resnet_fpn_backbone"


def require_consistent(config: Config, where: str) -> None:
    """Nothing, if the named features exist, the lengths agree and the widths fit together.

    Raises:
        ConfigError: every contradiction.
    """
    checks = (wrong_features, wrong_anchors, wrong_lengths, wrong_heads, wrong_widths)
    found = [contradiction for check in checks for contradiction in check(config)]
    if found:
        raise ConfigError.collected([Problem(where, what, fix) for what, fix in found])


Wrong = Iterator[tuple[str, str]]
"""(what is wrong, how to fix it), again and again."""


def wrong_features(config: Config) -> Wrong:
    """Feature names that do not exist, or levels that leave a gap."""
    model = config.model
    stages = model.resnets.out_features
    if not has_pyramid(config):
        found = [stage for stage in stages if stage in ("stem", *STAGES)]
        yield from wrong_names("MODEL.RESNETS.OUT_FEATURES", stages, ("stem", *STAGES))
        if not any(stage in STAGES for stage in stages):
            yield f"MODEL.RESNETS.OUT_FEATURES is {list(stages)}", "Name a stage, e.g. res4."
        known = found
    else:
        pyramid = model.fpn.in_features
        yield from wrong_names("MODEL.RESNETS.OUT_FEATURES", stages, ("stem", *STAGES))
        yield from wrong_names("MODEL.FPN.IN_FEATURES", pyramid, [stage for stage in STAGES if stage in stages])
        if has_gap(pyramid):
            yield f"MODEL.FPN.IN_FEATURES is {list(pyramid)}", "Name neighbouring levels, finest first."
        if convolved_top(config) and pyramid and pyramid[-1] != "res5":
            yield f"MODEL.FPN.IN_FEATURES is {list(pyramid)} with {model.backbone.name}", "End it with res5."
        if "res5" in pyramid and model.resnets.res5_dilation != 1:
            fix = "Set it to 1: in a pyramid every level is twice as coarse as the last."
            yield f"MODEL.RESNETS.RES5_DILATION is {model.resnets.res5_dilation}", fix
        if not pyramid or any(stage not in STAGES for stage in pyramid) or has_gap(pyramid):
            return  # what stands on it cannot be judged
        known = list(feature_levels(config))
    for key, names in heads_features(config):
        yield from wrong_names(key, names, known)
        if key == "MODEL.ROI_HEADS.IN_FEATURES" and has_gap(names):
            yield f"{key} is {list(names)}", "Name neighbouring levels, finest first."
        widths = {feature_levels(config)[name].channels for name in names if name in known}
        if len(widths) > 1:
            yield f"{key} is {list(names)}, of {sorted(widths)} channels", "One head needs features of one width."


def heads_features(config: Config) -> list[tuple[str, tuple[str, ...]]]:
    """(key, features) for each of the heads that this architecture has."""
    model = config.model
    if model.meta_architecture == "RetinaNet":
        return [("MODEL.RETINANET.IN_FEATURES", model.retinanet.in_features)]
    found = [("MODEL.RPN.IN_FEATURES", model.rpn.in_features)]
    if model.meta_architecture == "GeneralizedRCNN":
        found.append(("MODEL.ROI_HEADS.IN_FEATURES", model.roi_heads.in_features))
    return found


def wrong_names(key: str, names: Sequence[str], known: Sequence[str]) -> Wrong:
    if not known:  # said already, of what they come from
        return
    if not names or any(name not in known for name in names):
        yield f"{key} is {list(names)}", f"Choose from {', '.join(known)}."
    elif len(set(names)) < len(names):
        yield f"{key} is {list(names)}", "Name each feature once."


def has_gap(names: Sequence[str]) -> bool:
    """Whether levels (res2, res3, ... or p2, p3, ...) are anything but neighbours in ascending order; the stem has none."""
    if not all(name[-1:].isdigit() for name in names) or not names:
        return len(names) > 1
    return [int(name[-1]) for name in names] != list(range(int(names[0][-1]), int(names[0][-1]) + len(names)))


def wrong_anchors(config: Config) -> Wrong:
    levels = len(heads_features(config)[0][1])
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
    cascade = model.roi_box_cascade_head
    for key, numbers, length in (
        ("MODEL.PIXEL_MEAN", model.pixel_mean, 3),
        ("MODEL.PIXEL_STD", model.pixel_std, 3),
        ("MODEL.RPN.BBOX_REG_WEIGHTS", model.rpn.bbox_reg_weights, 4),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", model.roi_box_head.bbox_reg_weights, 4),
        ("MODEL.RETINANET.BBOX_REG_WEIGHTS", model.retinanet.bbox_reg_weights, 4),
        *(("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", weights, 4) for weights in cascade.bbox_reg_weights),
    ):
        if idle_part(key, config) is not None:
            continue
        if len(numbers) != length or (key != "MODEL.PIXEL_MEAN" and min(numbers) <= 0):
            yield f"{key} is {list(numbers)}", f"Give {length} numbers{'' if key == 'MODEL.PIXEL_MEAN' else ' above 0'}."
    for key, thresholds, labels in (
        ("MODEL.RPN", model.rpn.iou_thresholds, model.rpn.iou_labels),
        ("MODEL.ROI_HEADS", model.roi_heads.iou_thresholds, model.roi_heads.iou_labels),
        ("MODEL.RETINANET", model.retinanet.iou_thresholds, model.retinanet.iou_labels),
    ):
        if idle_part(f"{key}.IOU_LABELS", config) is not None:
            continue
        if len(labels) != len(thresholds) + 1 or list(thresholds) != sorted(thresholds) or not set(labels) <= {-1, 0, 1}:
            yield (
                f"{key}.IOU_THRESHOLDS is {list(thresholds)} and IOU_LABELS {list(labels)}",
                "Give ascending thresholds and one label (0, -1 or 1) more.",
            )
    idle = idle_part("MODEL.RPN.CONV_DIMS", config) is not None
    if not idle and any(width < 1 and width != -1 for width in model.rpn.conv_dims):
        yield f"MODEL.RPN.CONV_DIMS is {list(model.rpn.conv_dims)}", "Give widths above 0, or -1 for the features' own."
    if config.test.aug.enabled and (not config.test.aug.min_sizes or min(config.test.aug.min_sizes) < 1):
        yield f"TEST.AUG.MIN_SIZES is {list(config.test.aug.min_sizes)}", "Give sizes above 0, in pixels."


def wrong_heads(config: Config) -> Wrong:
    """Second stages that do not fit the backbone or themselves."""
    model = config.model
    if model.meta_architecture != "GeneralizedRCNN":
        if config.test.aug.enabled:
            yield f"TEST.AUG.ENABLED is True with {model.meta_architecture}", "Only GeneralizedRCNN has it, as in Detectron2."
        return
    heads, cascade = model.roi_heads, model.roi_box_cascade_head
    if heads.name == "Res5ROIHeads":
        if len(heads.in_features) != 1:
            yield f"MODEL.ROI_HEADS.IN_FEATURES is {list(heads.in_features)} with Res5ROIHeads", "Name one feature, res4."
        elif has_pyramid(config) or heads.in_features != ("res4",):
            yield (
                f"MODEL.ROI_HEADS.NAME is 'Res5ROIHeads' on {heads.in_features[0]} of {model.backbone.name}",
                "It continues build_resnet_backbone after res4. Take res4, or StandardROIHeads.",
            )
        return
    if model.roi_box_head.name == "":
        yield "MODEL.ROI_BOX_HEAD.NAME is ''", "Set it to FastRCNNConvFCHead."
    if not model.roi_box_head.num_conv and not model.roi_box_head.num_fc:
        yield "MODEL.ROI_BOX_HEAD has NUM_CONV 0 and NUM_FC 0", "Give it at least one layer, e.g. NUM_FC 2."
    if heads.name == "CascadeROIHeads":
        if not model.roi_box_head.cls_agnostic_bbox_reg:
            yield "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG is False with CascadeROIHeads", "Set it to True."
        if not cascade.ious or len(cascade.ious) != len(cascade.bbox_reg_weights):
            yield (
                f"MODEL.ROI_BOX_CASCADE_HEAD has {len(cascade.ious)} IOUS and {len(cascade.bbox_reg_weights)} BBOX_REG_WEIGHTS",
                "Give one of each for every stage.",
            )
        elif heads.iou_thresholds[:1] != cascade.ious[:1]:
            yield (
                f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS begins with {cascade.ious[0]}, "
                f"MODEL.ROI_HEADS.IOU_THRESHOLDS with {list(heads.iou_thresholds)}",
                "The first stage has one overlap: make them equal.",
            )


def wrong_widths(config: Config) -> Wrong:
    """Channels that do not fit together: shallow networks have no projections, group norms want their 32 groups."""
    model = config.model
    resnets, fpn, box, mask = model.resnets, model.fpn, model.roi_box_head, model.roi_mask_head
    if resnets.depth < 50:
        if resnets.res2_out_channels != resnets.stem_out_channels:
            yield (
                f"MODEL.RESNETS.RES2_OUT_CHANNELS is {resnets.res2_out_channels} at depth {resnets.depth}",
                f"Set it to STEM_OUT_CHANNELS, {resnets.stem_out_channels} (64 in ResNet 18 and 34).",
            )
        for key, value in (("NUM_GROUPS", resnets.num_groups), ("RES5_DILATION", resnets.res5_dilation)):
            if value != 1:
                yield f"MODEL.RESNETS.{key} is {value} at depth {resnets.depth}", "Set it to 1, or the depth to 50."
    stages = [resnets.stem_out_channels, resnets.res2_out_channels]
    if resnets.depth >= 50:
        stages.append(resnets.num_groups * resnets.width_per_group)
    convs = [box.conv_dim] * min(box.num_conv, 1) if model.roi_heads.name != "Res5ROIHeads" else []
    for section, norm, widths in (
        ("RESNETS", resnets.norm, stages),
        ("FPN", fpn.norm, [fpn.out_channels]),
        ("ROI_BOX_HEAD", box.norm, convs),
        ("ROI_MASK_HEAD", mask.norm, [mask.conv_dim] * min(mask.num_conv, 1)),
        ("RETINANET", model.retinanet.norm, [resnets.res2_out_channels if not has_pyramid(config) else fpn.out_channels]),
    ):
        if idle_part(f"MODEL.{section}.NORM", config) is not None:
            continue
        if norm == "GN" and any(width % GROUPS for width in widths):
            yield f"MODEL.{section}.NORM is 'GN' with {widths} channels", f"Give multiples of {GROUPS}, or another norm."


def stage_level(stage: str) -> int:
    """res2 -> 2: its stride is 2 to that power."""
    return int(stage.removeprefix("res"))


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


def build_backbone(config: Config) -> nn.Module:
    if not has_pyramid(config):
        return build_resnet(config)
    options = config.model.fpn
    shapes = [stage_shape(config, stage) for stage in options.in_features]
    top = ConvolvedTop(shapes[-1].channels, options.out_channels) if convolved_top(config) else PooledTop()
    return FPN(
        build_resnet(config),
        in_features=options.in_features,
        levels=tuple(stage_level(stage) for stage in options.in_features),
        in_channels=tuple(shape.channels for shape in shapes),
        out_channels=options.out_channels,
        norm=options.norm,
        fuse=options.fuse_type,
        top_block=top,
    )


def four(values: Sequence[float]) -> tuple[float, float, float, float]:
    a, b, c, d = values
    return a, b, c, d


def per_level(values: Sequence[Sequence[float]], levels: int) -> list[Sequence[float]]:
    """One entry a level; a single entry serves them all."""
    return list(values) * levels if len(values) == 1 else list(values)


def build_anchors(config: Config, features: Sequence[str], levels: Levels) -> AnchorGrid:
    options = config.model.anchor_generator
    return AnchorGrid(
        sizes=per_level(options.sizes, len(features)),
        aspect_ratios=per_level(options.aspect_ratios, len(features)),
        strides=[levels[name].stride for name in features],
        offset=options.offset,
    )


def build_retinanet(config: Config, levels: Levels) -> RetinaNet:
    options = config.model.retinanet
    backbone = build_backbone(config)
    anchors = build_anchors(config, options.in_features, levels)
    return RetinaNet(
        backbone=backbone,
        head=RetinaNetHead(
            in_channels=levels[options.in_features[0]].channels,
            levels=len(options.in_features),
            anchors=anchors.per_cell,
            classes=options.num_classes,
            convs=options.num_convs,
            norm=options.norm,
            prior=options.prior_prob,
        ),
        anchors=anchors,
        matcher=Matcher(options.iou_thresholds, options.iou_labels, keep_best=True),
        box_loss=BoxLoss(BoxCoder(four(options.bbox_reg_weights)), options.bbox_reg_loss_type, options.smooth_l1_loss_beta),
        in_features=options.in_features,
        focal_alpha=options.focal_loss_alpha,
        focal_gamma=options.focal_loss_gamma,
        score_threshold=options.score_thresh_test,
        candidates=options.topk_candidates_test,
        nms_iou=options.nms_thresh_test,
        max_detections=kept(config),
        pixel_mean=config.model.pixel_mean,
        pixel_std=config.model.pixel_std,
        size_divisor=size_divisor(config),
    )


def build_rpn(config: Config, levels: Levels) -> RPN:
    options = config.model.rpn
    anchors = build_anchors(config, options.in_features, levels)
    return RPN(
        head=RPNHead(levels[options.in_features[0]].channels, anchors.per_cell, options.conv_dims),
        anchors=anchors,
        box_loss=BoxLoss(BoxCoder(four(options.bbox_reg_weights)), options.bbox_reg_loss_type, options.smooth_l1_beta),
        matcher=Matcher(options.iou_thresholds, options.iou_labels, keep_best=True),
        in_features=options.in_features,
        samples=options.batch_size_per_image,
        positive_share=options.positive_fraction,
        pre_nms=(options.pre_nms_topk_train, options.pre_nms_topk_test),
        post_nms=(options.post_nms_topk_train, options.post_nms_topk_test),
        nms_iou=options.nms_thresh,
        min_side_px=config.model.proposal_generator.min_size,
        boundary_px=options.boundary_thresh,
        loss_weight=options.loss_weight,
        box_loss_weight=options.bbox_reg_loss_weight,
    )


def build_roi_heads(config: Config, levels: Levels) -> ROIHeads:
    heads = config.model.roi_heads
    selection = Selection(heads.score_thresh_test, heads.nms_thresh_test, kept(config))
    if heads.name == "Res5ROIHeads":
        return build_res5_heads(config, levels, selection)
    if heads.name == "CascadeROIHeads":
        return build_cascade_heads(config, levels, selection)
    box_head = build_box_head(config, levels)
    mask_pooler, mask_head = build_mask_branch(config, levels)
    return StandardROIHeads(
        box_pooler=build_pooler(config, levels, config.model.roi_box_head),
        box_head=box_head,
        box_predictor=build_box_predictor(config, box_head.out_dim, config.model.roi_box_head.bbox_reg_weights),
        mask_pooler=mask_pooler,
        mask_head=mask_head,
        in_features=heads.in_features,
        sampling=build_sampling(config, Matcher(heads.iou_thresholds, heads.iou_labels, keep_best=False)),
        selection=selection,
        train_on_refined=config.model.roi_box_head.train_on_pred_boxes,
    )


def build_sampling(config: Config, matcher: Matcher) -> Sampling:
    heads = config.model.roi_heads
    return Sampling(
        matcher=matcher,
        classes=heads.num_classes,
        count=heads.batch_size_per_image,
        positive_share=heads.positive_fraction,
        append_true_boxes=heads.proposal_append_gt,
    )


def build_pooler(config: Config, levels: Levels, options: RoiBoxHead | RoiMaskHead) -> Pooler:
    return Pooler(
        resolution=options.pooler_resolution,
        strides=[levels[name].stride for name in config.model.roi_heads.in_features],
        sampling_ratio=options.pooler_sampling_ratio,
        aligned=options.pooler_type == "ROIAlignV2",
    )


def build_box_head(config: Config, levels: Levels) -> BoxHead:
    box = config.model.roi_box_head
    return BoxHead(
        in_channels=levels[config.model.roi_heads.in_features[0]].channels,
        resolution=box.pooler_resolution,
        conv_dims=[box.conv_dim] * box.num_conv,
        fc_dims=[box.fc_dim] * box.num_fc,
        norm=box.norm,
    )


def build_box_predictor(config: Config, in_dim: int, weights: Sequence[float]) -> BoxPredictor:
    box = config.model.roi_box_head
    return BoxPredictor(
        in_dim,
        config.model.roi_heads.num_classes,
        class_agnostic=box.cls_agnostic_bbox_reg,
        box_loss=BoxLoss(BoxCoder(four(weights)), box.bbox_reg_loss_type, box.smooth_l1_beta),
        box_loss_weight=box.bbox_reg_loss_weight,
        sigmoid=box.use_sigmoid_ce,
    )


def build_mask_head(config: Config, in_channels: int) -> MaskHead:
    mask = config.model.roi_mask_head
    return MaskHead(
        in_channels=in_channels,
        convs=mask.num_conv,
        width=mask.conv_dim,
        classes=1 if mask.cls_agnostic_mask else config.model.roi_heads.num_classes,
        norm=mask.norm,
    )


def build_mask_branch(config: Config, levels: Levels) -> tuple[Pooler | None, MaskHead | None]:
    """The mask branch's own pooler and head; neither where MASK_ON is False."""
    if not config.model.mask_on:
        return None, None
    channels = levels[config.model.roi_heads.in_features[0]].channels
    return build_pooler(config, levels, config.model.roi_mask_head), build_mask_head(config, channels)


def build_res5_heads(config: Config, levels: Levels, selection: Selection) -> Res5ROIHeads:
    heads, resnets = config.model.roi_heads, config.model.resnets
    out_channels = resnets.res2_out_channels * 8
    pooler = build_pooler(config, levels, config.model.roi_box_head)
    res5 = bottleneck_stage(
        RES5_BLOCKS,
        in_channels=out_channels // 2,
        out_channels=out_channels,
        width=resnets.num_groups * resnets.width_per_group * 8,
        stride=2,
        groups=resnets.num_groups,
        dilation=1,
        stride_in_1x1=resnets.stride_in_1x1,
        norm=resnets.norm,
    )
    return Res5ROIHeads(
        pooler=pooler,
        res5=res5,
        box_predictor=build_box_predictor(config, out_channels, config.model.roi_box_head.bbox_reg_weights),
        mask_head=build_mask_head(config, out_channels) if config.model.mask_on else None,
        in_features=heads.in_features,
        sampling=build_sampling(config, Matcher(heads.iou_thresholds, heads.iou_labels, keep_best=False)),
        selection=selection,
    )


def build_cascade_heads(config: Config, levels: Levels, selection: Selection) -> CascadeROIHeads:
    cascade = config.model.roi_box_cascade_head
    # The first stage labels and draws as the heads without a cascade do, with whatever they ignore.
    first = Matcher(config.model.roi_heads.iou_thresholds, config.model.roi_heads.iou_labels, keep_best=False)
    matchers = [first, *(Matcher((iou,), (0, 1), keep_best=False) for iou in cascade.ious[1:])]
    box_heads = [build_box_head(config, levels) for _ in cascade.ious]
    mask_pooler, mask_head = build_mask_branch(config, levels)
    return CascadeROIHeads(
        box_pooler=build_pooler(config, levels, config.model.roi_box_head),
        box_heads=box_heads,
        box_predictors=[
            build_box_predictor(config, head.out_dim, weights)
            for head, weights in zip(box_heads, cascade.bbox_reg_weights, strict=True)
        ],
        matchers=matchers,
        mask_pooler=mask_pooler,
        mask_head=mask_head,
        in_features=config.model.roi_heads.in_features,
        sampling=build_sampling(config, matchers[0]),
        selection=selection,
    )
