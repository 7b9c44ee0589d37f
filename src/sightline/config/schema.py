"""Every configuration key of Detectron2 0.6 with its type and default, as frozen dataclasses.

A key's place here is its Detectron2 name in lower case: MODEL.RPN.NMS_THRESH is `config.model.rpn.nms_thresh`. Nothing is
renamed, so that whoever knows Detectron2 finds everything and a dump can be taken back. Which keys act, which are ignored
and which are refused stands in support.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataloader:
    aspect_ratio_grouping: bool = True
    filter_empty_annotations: bool = True
    num_workers: int = 4
    repeat_sqrt: bool = True
    repeat_threshold: float = 0.0
    sampler_train: str = "TrainingSampler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    precomputed_proposal_topk_test: int = 1000
    precomputed_proposal_topk_train: int = 2000
    proposal_files_test: tuple[str, ...] = ()
    proposal_files_train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    train: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Global:
    hack: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    enabled: bool = False
    size: tuple[float, ...] = (0.9, 0.9)
    type: str = "relative_range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    crop: Crop = Crop()
    format: str = "BGR"
    mask_format: str = "polygon"
    max_size_test: int = 1333
    max_size_train: int = 1333
    min_size_test: int = 800
    min_size_train: tuple[int, ...] = (800,)
    min_size_train_sampling: str = "choice"
    random_flip: str = "horizontal"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorGenerator:
    angles: tuple[tuple[float, ...], ...] = ((-90, 0, 90),)
    aspect_ratios: tuple[tuple[float, ...], ...] = ((0.5, 1.0, 2.0),)
    name: str = "DefaultAnchorGenerator"
    offset: float = 0.0
    sizes: tuple[tuple[float, ...], ...] = ((32, 64, 128, 256, 512),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    freeze_at: int = 2
    name: str = "build_resnet_backbone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fpn:
    fuse_type: str = "sum"
    in_features: tuple[str, ...] = ()
    norm: str = ""
    out_channels: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Combine:
    enabled: bool = True
    instances_confidence_thresh: float = 0.5
    overlap_thresh: float = 0.5
    stuff_area_limit: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PanopticFpn:
    combine: Combine = Combine()
    instance_loss_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalGenerator:
    min_size: int = 0
    name: str = "RPN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resnets:
    deform_modulated: bool = False
    deform_num_groups: int = 1
    deform_on_per_stage: tuple[bool, ...] = (False, False, False, False)
    depth: int = 50
    norm: str = "FrozenBN"
    num_groups: int = 1
    out_features: tuple[str, ...] = ("res4",)
    res2_out_channels: int = 256
    res5_dilation: int = 1
    stem_out_channels: int = 64
    stride_in_1x1: bool = True
    width_per_group: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Retinanet:
    bbox_reg_loss_type: str = "smooth_l1"
    bbox_reg_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    focal_loss_alpha: float = 0.25
    focal_loss_gamma: float = 2.0
    in_features: tuple[str, ...] = ("p3", "p4", "p5", "p6", "p7")
    iou_labels: tuple[int, ...] = (0, -1, 1)
    iou_thresholds: tuple[float, ...] = (0.4, 0.5)
    nms_thresh_test: float = 0.5
    norm: str = ""
    num_classes: int = 80
    num_convs: int = 4
    prior_prob: float = 0.01
    score_thresh_test: float = 0.05
    smooth_l1_loss_beta: float = 0.1
    topk_candidates_test: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiBoxCascadeHead:
    bbox_reg_weights: tuple[tuple[float, ...], ...] = (
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    )
    ious: tuple[float, ...] = (0.5, 0.6, 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiBoxHead:
    bbox_reg_loss_type: str = "smooth_l1"
    bbox_reg_loss_weight: float = 1.0
    bbox_reg_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    cls_agnostic_bbox_reg: bool = False
    conv_dim: int = 256
    fc_dim: int = 1024
    fed_loss_freq_weight_power: float = 0.5
    fed_loss_num_classes: int = 50
    name: str = ""
    norm: str = ""
    num_conv: int = 0
    num_fc: int = 0
    pooler_resolution: int = 14
    pooler_sampling_ratio: int = 0
    pooler_type: str = "ROIAlignV2"
    smooth_l1_beta: float = 0.0
    train_on_pred_boxes: bool = False
    use_fed_loss: bool = False
    use_sigmoid_ce: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiHeads:
    batch_size_per_image: int = 512
    in_features: tuple[str, ...] = ("res4",)
    iou_labels: tuple[int, ...] = (0, 1)
    iou_thresholds: tuple[float, ...] = (0.5,)
    name: str = "Res5ROIHeads"
    nms_thresh_test: float = 0.5
    num_classes: int = 80
    positive_fraction: float = 0.25
    proposal_append_gt: bool = True
    score_thresh_test: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiKeypointHead:
    conv_dims: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512, 512)
    loss_weight: float = 1.0
    min_keypoints_per_image: int = 1
    name: str = "KRCNNConvDeconvUpsampleHead"
    normalize_loss_by_visible_keypoints: bool = True
    num_keypoints: int = 17
    pooler_resolution: int = 14
    pooler_sampling_ratio: int = 0
    pooler_type: str = "ROIAlignV2"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiMaskHead:
    cls_agnostic_mask: bool = False
    conv_dim: int = 256
    name: str = "MaskRCNNConvUpsampleHead"
    norm: str = ""
    num_conv: int = 0
    pooler_resolution: int = 14
    pooler_sampling_ratio: int = 0
    pooler_type: str = "ROIAlignV2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpn:
    batch_size_per_image: int = 256
    bbox_reg_loss_type: str = "smooth_l1"
    bbox_reg_loss_weight: float = 1.0
    bbox_reg_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    boundary_thresh: int = -1
    conv_dims: tuple[int, ...] = (-1,)
    head_name: str = "StandardRPNHead"
    in_features: tuple[str, ...] = ("res4",)
    iou_labels: tuple[int, ...] = (0, -1, 1)
    iou_thresholds: tuple[float, ...] = (0.3, 0.7)
    loss_weight: float = 1.0
    nms_thresh: float = 0.7
    positive_fraction: float = 0.5
    post_nms_topk_test: int = 1000
    post_nms_topk_train: int = 2000
    pre_nms_topk_test: int = 6000
    pre_nms_topk_train: int = 12000
    smooth_l1_beta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SemSegHead:
    common_stride: int = 4
    convs_dim: int = 128
    ignore_value: int = 255
    in_features: tuple[str, ...] = ("p2", "p3", "p4", "p5")
    loss_weight: float = 1.0
    name: str = "SemSegFPNHead"
    norm: str = "GN"
    num_classes: int = 54


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    anchor_generator: AnchorGenerator = AnchorGenerator()
    backbone: Backbone = Backbone()
    device: str = "cuda"
    fpn: Fpn = Fpn()
    keypoint_on: bool = False
    load_proposals: bool = False
    mask_on: bool = False
    meta_architecture: str = "GeneralizedRCNN"
    panoptic_fpn: PanopticFpn = PanopticFpn()
    pixel_mean: tuple[float, ...] = (103.53, 116.28, 123.675)
    pixel_std: tuple[float, ...] = (1.0, 1.0, 1.0)
    proposal_generator: ProposalGenerator = ProposalGenerator()
    resnets: Resnets = Resnets()
    retinanet: Retinanet = Retinanet()
    roi_box_cascade_head: RoiBoxCascadeHead = RoiBoxCascadeHead()
    roi_box_head: RoiBoxHead = RoiBoxHead()
    roi_heads: RoiHeads = RoiHeads()
    roi_keypoint_head: RoiKeypointHead = RoiKeypointHead()
    roi_mask_head: RoiMaskHead = RoiMaskHead()
    rpn: Rpn = Rpn()
    sem_seg_head: SemSegHead = SemSegHead()
    weights: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amp:
    enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipGradients:
    clip_type: str = "value"
    clip_value: float = 1.0
    enabled: bool = False
    norm_type: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Solver:
    amp: Amp = Amp()
    base_lr: float = 0.001
    base_lr_end: float = 0.0
    bias_lr_factor: float = 1.0
    checkpoint_period: int = 5000
    clip_gradients: ClipGradients = ClipGradients()
    gamma: float = 0.1
    ims_per_batch: int = 16
    lr_scheduler_name: str = "WarmupMultiStepLR"
    max_iter: int = 40000
    momentum: float = 0.9
    nesterov: bool = False
    num_decays: int = 3
    reference_world_size: int = 0
    rescale_interval: bool = False
    steps: tuple[int, ...] = (30000,)
    warmup_factor: float = 0.001
    warmup_iters: int = 1000
    warmup_method: str = "linear"
    weight_decay: float = 0.0001
    weight_decay_bias: float | None = None
    weight_decay_norm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aug:
    enabled: bool = False
    flip: bool = True
    max_size: int = 4000
    min_sizes: tuple[int, ...] = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreciseBn:
    enabled: bool = False
    num_iter: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    aug: Aug = Aug()
    detections_per_image: int = 100
    eval_period: int = 0
    expected_results: tuple[object, ...] = ()
    keypoint_oks_sigmas: tuple[float, ...] = ()
    precise_bn: PreciseBn = PreciseBn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    cudnn_benchmark: bool = False
    dataloader: Dataloader = Dataloader()
    datasets: Datasets = Datasets()
    float32_precision: str = ""
    global_: Global = Global()
    input: Input = Input()
    model: Model = Model()
    output_dir: str = "./output"
    seed: int = -1
    solver: Solver = Solver()
    test: Test = Test()
    version: int = 2
    vis_period: int = 0
