"""The model zoo's configuration names, as values over Detectron2's defaults. What was published of each: zoo_models.py."""

IMAGENET = "detectron2://ImageNetPretrained/"

COCO: dict[str, object] = {
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
}
BOX_AND_MASK_HEADS: dict[str, object] = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
}
C4: dict[str, object] = COCO | {
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
}
"""Proposals and pooling on res4; the ResNet's last stage is the head."""

DC5: dict[str, object] = (
    COCO
    | BOX_AND_MASK_HEADS
    | {
        "MODEL.RESNETS.OUT_FEATURES": ("res5",),
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RPN.IN_FEATURES": ("res5",),
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        "MODEL.ROI_HEADS.IN_FEATURES": ("res5",),
    }
)
"""Everything on res5, dilated so that it stays as fine as res4."""

FPN: dict[str, object] = (
    COCO
    | BOX_AND_MASK_HEADS
    | {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ("res2", "res3", "res4", "res5"),
        "MODEL.FPN.IN_FEATURES": ("res2", "res3", "res4", "res5"),
        "MODEL.ANCHOR_GENERATOR.SIZES": ((32,), (64,), (128,), (256,), (512,)),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ((0.5, 1.0, 2.0),),
        "MODEL.RPN.IN_FEATURES": ("p2", "p3", "p4", "p5", "p6"),
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,  # per level
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        "MODEL.ROI_HEADS.IN_FEATURES": ("p2", "p3", "p4", "p5"),
    }
)
RETINANET: dict[str, object] = COCO | {
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ("res3", "res4", "res5"),
    "MODEL.FPN.IN_FEATURES": ("res3", "res4", "res5"),
    "MODEL.ANCHOR_GENERATOR.SIZES": tuple((x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)) for x in (32, 64, 128, 256, 512)),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    "SOLVER.BASE_LR": 0.01,
}
ONE_TIME: dict[str, object] = {"SOLVER.STEPS": (60000, 80000), "SOLVER.MAX_ITER": 90000}
THREE_TIMES: dict[str, object] = {"SOLVER.STEPS": (210000, 250000), "SOLVER.MAX_ITER": 270000}
R50: dict[str, object] = {"MODEL.WEIGHTS": IMAGENET + "MSRA/R-50.pkl", "MODEL.RESNETS.DEPTH": 50}
R101: dict[str, object] = {"MODEL.WEIGHTS": IMAGENET + "MSRA/R-101.pkl", "MODEL.RESNETS.DEPTH": 101}
X101: dict[str, object] = {  # trained with Caffe2, which divides by the deviation and strides in the 3x3 convolution
    "MODEL.WEIGHTS": IMAGENET + "FAIR/X-101-32x8d.pkl",
    "MODEL.PIXEL_STD": (57.375, 57.120, 58.395),
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.DEPTH": 101,
}
MASK: dict[str, object] = {"MODEL.MASK_ON": True}
PROPOSALS_ONLY: dict[str, object] = {"MODEL.META_ARCHITECTURE": "ProposalNetwork", "MODEL.RPN.POST_NMS_TOPK_TEST": 2000}
GIOU: dict[str, object] = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 10.0,
}
CASCADE: dict[str, object] = {
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
}
PROPOSALS = "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/"
PRECOMPUTED: dict[str, object] = {
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals",
    "DATASETS.PROPOSAL_FILES_TRAIN": (PROPOSALS + "coco_2017_train_box_proposals_21bc3a.pkl",),
    "DATASETS.PROPOSAL_FILES_TEST": (PROPOSALS + "coco_2017_val_box_proposals_ee0dad.pkl",),
    "DATALOADER.NUM_WORKERS": 2,  # every process holds all proposals in memory
}

ZOO: dict[str, dict[str, object]] = {
    "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml": C4 | R50 | ONE_TIME,
    "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml": C4 | R50 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_101_C4_3x.yaml": C4 | R101 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml": DC5 | R50 | ONE_TIME,
    "COCO-Detection/faster_rcnn_R_50_DC5_3x.yaml": DC5 | R50 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_101_DC5_3x.yaml": DC5 | R101 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml": FPN | R50 | ONE_TIME,
    "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml": FPN | R50 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml": FPN | R101 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml": FPN | X101 | THREE_TIMES,
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml": RETINANET | R50 | ONE_TIME,
    "COCO-Detection/retinanet_R_50_FPN_3x.yaml": RETINANET | R50 | THREE_TIMES,
    "COCO-Detection/retinanet_R_101_FPN_3x.yaml": RETINANET | R101 | THREE_TIMES,
    "COCO-Detection/rpn_R_50_C4_1x.yaml": C4 | R50 | ONE_TIME | PROPOSALS_ONLY | {"MODEL.RPN.PRE_NMS_TOPK_TEST": 12000},
    "COCO-Detection/rpn_R_50_FPN_1x.yaml": FPN | R50 | ONE_TIME | PROPOSALS_ONLY,
    "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml": FPN | R50 | ONE_TIME | PRECOMPUTED,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml": C4 | R50 | ONE_TIME | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml": C4 | R50 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x.yaml": C4 | R101 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml": DC5 | R50 | ONE_TIME | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x.yaml": DC5 | R50 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x.yaml": DC5 | R101 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": FPN | R50 | ONE_TIME | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml": FPN | R50 | ONE_TIME | MASK | GIOU,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml": FPN | R50 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml": FPN | R101 | THREE_TIMES | MASK,
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml": FPN | X101 | THREE_TIMES | MASK,
    "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml": FPN | R50 | THREE_TIMES | MASK | CASCADE,
}
"""{name: values over Detectron2's defaults}."""
