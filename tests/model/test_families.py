"""Which architecture tensor names belong to, and for how many classes it was trained."""

from pathlib import Path

import pytest
from builders import a_detector

from sightline.model.checkpoint import read_checkpoint, state_dict_of
from sightline.model.families import UNKNOWN, Shape, class_count, class_dependent, family_of

RPN = "proposal_generator.rpn_head.conv.weight"
BOX = "roi_heads.box_predictor.cls_score.weight"
FPN = "backbone.fpn_lateral2.weight"
R50 = "backbone.bottom_up.res2.0.conv1.weight"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([FPN, R50, "head.cls_subnet.0.weight"], "a RetinaNet"),
        ([FPN, R50, "head.cls_subnet.0.weight", "head.ctrness.weight"], "an FCOS"),
        ([FPN, R50, RPN], "a region proposal network alone"),
        ([FPN, R50, RPN, BOX], "a Faster R-CNN with FPN"),
        (["backbone.res2.0.conv1.weight", RPN, BOX, "roi_heads.res5.0.conv1.weight"], "a Faster R-CNN with a C4 backbone"),
        (["backbone.res2.0.conv1.weight", "backbone.res5.0.conv1.weight", RPN, BOX], "a Faster R-CNN with a DC5 backbone"),
        ([FPN, R50, BOX], "a Fast R-CNN with FPN"),
        ([FPN, RPN, BOX, "roi_heads.mask_head.deconv.weight"], "a Mask R-CNN with FPN"),
        ([FPN, RPN, "roi_heads.box_predictor.0.cls_score.weight"], "a Cascade R-CNN with FPN"),
        (
            [FPN, RPN, "roi_heads.box_predictor.0.cls_score.weight", "roi_heads.mask_head.deconv.weight"],
            "a Cascade Mask R-CNN with FPN",
        ),
        ([FPN, RPN, BOX, "roi_heads.keypoint_head.conv_fcn1.weight"], "a Keypoint R-CNN with FPN"),
        ([FPN, RPN, BOX, "roi_heads.mask_head.deconv.weight", "sem_seg_head.p2.0.weight"], "a panoptic R-CNN with FPN"),
        ([FPN, "sem_seg_head.p2.0.weight"], "a semantic segmentation network"),
        (["backbone.net.blocks.0.attn.qkv.weight", RPN, BOX], "a Faster R-CNN with a ViT backbone"),
        (["stem.conv1.weight", "res2.0.conv1.weight"], "an ImageNet backbone"),
        (["conv1_w", "res2_0_branch2a_w"], "an ImageNet backbone"),
        (["backbone.body.layer1.0.conv1.weight", "rpn.head.conv.0.0.weight", BOX], "torchvision's Faster R-CNN"),
        (
            ["backbone.body.layer1.0.conv1.weight", BOX, "roi_heads.mask_predictor.conv5_mask.weight"],
            "torchvision's Mask R-CNN",
        ),
        (["backbone.body.layer1.0.conv1.weight", "head.classification_head.cls_logits.weight"], "torchvision's RetinaNet"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "a ResNet classifier of torchvision's or timm's"),
        (["transformer.encoder.layers.0.linear1.weight", "class_embed.weight"], "a DETR"),
        (["model.0.conv.weight", "model.22.dfl.conv.weight"], "a YOLO"),
        (
            ["backbone.layer1.0.conv1.weight", "neck.fpn_convs.0.conv.weight", "bbox_head.cls_convs.0.conv.weight"],
            "one of MMDetection's detectors",
        ),
        (["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "a ViT backbone"),
        (["layers.0.blocks.0.attn.relative_position_bias_table"], "a Swin backbone"),
        (["retnet_cls_pred_fpn3_w"], "a Detectron RetinaNet in Caffe2's names"),
        (["0.weight", "0.bias"], UNKNOWN),
        ([], UNKNOWN),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_family(names: list[str], words: str) -> None:
    assert family_of(names) == words


def test_the_families_of_real_checkpoints(shared: Path) -> None:
    words = {
        "cascade_mask_rcnn": "a Cascade Mask R-CNN with FPN",
        "faster_rcnn_c4": "a Faster R-CNN with a C4 backbone",
        "faster_rcnn_dc5": "a Faster R-CNN with a DC5 backbone",
        "faster_rcnn_fpn": "a Faster R-CNN with FPN",
        "mask_rcnn_c4": "a Mask R-CNN with a C4 backbone",
        "mask_rcnn_fpn": "a Mask R-CNN with FPN",
        "retinanet": "a RetinaNet",
        "rpn_fpn": "a region proposal network alone",
    }
    for case, expected in words.items():
        path = shared / "golden" / case / "model_final.pth"
        tensors = state_dict_of(read_checkpoint(path), path)
        assert family_of(tensors) == expected, case


@pytest.mark.parametrize(
    ("shapes", "classes"),
    [
        pytest.param({BOX: (81, 1024)}, 80, id="background is no class"),
        pytest.param({"roi_heads.box_predictor.0.cls_score.weight": (4, 16)}, 3, id="cascade"),
        pytest.param({"head.cls_score.weight": (720, 256, 3, 3), "head.bbox_pred.weight": (36, 256, 3, 3)}, 80, id="RetinaNet"),
        pytest.param({"head.cls_score.weight": (720, 256, 3, 3)}, None, id="anchors unknown"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_class_count(shapes: dict[str, Shape], classes: int | None) -> None:
    assert class_count(shapes) == classes


def shapes(classes: int, anchors: int = 9) -> dict[str, Shape]:
    """A cascade's, a mask head's and a RetinaNet's shapes, whatever model has them all."""
    return {
        "roi_heads.box_predictor.0.cls_score.weight": (classes + 1, 16),
        "roi_heads.box_predictor.2.cls_score.bias": (classes + 1,),
        "roi_heads.box_predictor.0.bbox_pred.weight": (4, 16),
        "roi_heads.mask_head.predictor.weight": (classes, 16, 1, 1),
        "roi_heads.mask_head.deconv.weight": (16, 16, 2, 2),
        "head.cls_score.bias": (anchors * classes,),
        "head.bbox_pred.weight": (4 * anchors, 16, 3, 3),
    }


def test_only_rows_that_count_classes_depend_on_them() -> None:
    assert set(class_dependent(shapes(80), shapes(2))) == {
        "roi_heads.box_predictor.0.cls_score.weight",
        "roi_heads.box_predictor.2.cls_score.bias",
        "roi_heads.mask_head.predictor.weight",
        "head.cls_score.bias",
    }


def test_the_same_number_of_classes_explains_nothing() -> None:
    assert class_dependent(shapes(2), shapes(2) | {"roi_heads.mask_head.predictor.weight": (3, 16, 1, 1)}) == {}


def test_a_real_detector_tells_its_classes() -> None:
    tensors = a_detector("MODEL.ROI_HEADS.NUM_CLASSES", "5").state_dict()
    assert class_count({name: tuple(value.shape) for name, value in tensors.items()}) == 5
