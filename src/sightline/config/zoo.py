"""The model zoo's configuration names, as values over Detectron2's defaults."""

IMAGENET = "detectron2://ImageNetPretrained/"

FPN: dict[str, object] = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ("res2", "res3", "res4", "res5"),
    "MODEL.FPN.IN_FEATURES": ("res2", "res3", "res4", "res5"),
    "MODEL.ANCHOR_GENERATOR.SIZES": ((32,), (64,), (128,), (256,), (512,)),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ((0.5, 1.0, 2.0),),
    "MODEL.RPN.IN_FEATURES": ("p2", "p3", "p4", "p5", "p6"),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ("p2", "p3", "p4", "p5"),
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
}
ONE_TIME: dict[str, object] = {"SOLVER.STEPS": (60000, 80000), "SOLVER.MAX_ITER": 90000}
THREE_TIMES: dict[str, object] = {"SOLVER.STEPS": (210000, 250000), "SOLVER.MAX_ITER": 270000}
R50: dict[str, object] = {"MODEL.WEIGHTS": IMAGENET + "MSRA/R-50.pkl", "MODEL.RESNETS.DEPTH": 50}
R101: dict[str, object] = {"MODEL.WEIGHTS": IMAGENET + "MSRA/R-101.pkl", "MODEL.RESNETS.DEPTH": 101}
X101: dict[str, object] = {
    "MODEL.WEIGHTS": IMAGENET + "FAIR/X-101-32x8d.pkl",
    "MODEL.PIXEL_STD": (57.375, 57.120, 58.395),
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.DEPTH": 101,
}

ZOO: dict[str, dict[str, object]] = {
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml": FPN | R50 | ONE_TIME,
    "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml": FPN | R50 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml": FPN | R101 | THREE_TIMES,
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml": FPN | X101 | THREE_TIMES,
}
