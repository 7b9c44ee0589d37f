"""Which architecture a checkpoint is of, told from the names and shapes of its tensors alone.

Names in, words out: for messages, where "looks like a RetinaNet" helps and 300 tensor names do not. Also which tensors depend
on the number of classes, and what that number is.
"""

import re
from collections.abc import Callable, Iterable, Mapping

UNKNOWN = "an unknown family"

FOREIGN = (
    ("a YOLO", ("model.0.conv.", "model.model.0.conv.")),
    ("a DETR", ("transformer.encoder.",)),
    ("torchvision's RetinaNet", ("head.classification_head.",)),
    ("torchvision's Mask R-CNN", ("roi_heads.mask_predictor.",)),
    ("torchvision's Keypoint R-CNN", ("roi_heads.keypoint_predictor.",)),
    ("torchvision's Faster R-CNN", ("backbone.body.", "rpn.head.")),
    ("one of MMDetection's detectors", ("bbox_head.", "neck.", "roi_head.bbox_head.")),
    ("a Detectron RetinaNet in Caffe2's names", ("retnet_", "retnet.")),
)
"""Names of other libraries: (in words, parts of which one is enough). The first that is found wins."""

ONE_STAGE = (
    ("an FCOS", ("head.ctrness.",)),
    ("a RetinaNet", ("head.cls_subnet.",)),
    ("a semantic segmentation network", ("sem_seg_head.",)),
    ("a region proposal network alone", ("proposal_generator.",)),
)
"""Detectron2's networks without a second stage, by the same rule."""

BACKBONES = (
    (
        "a Swin backbone",
        ("layers.0.blocks.0.attn.relative_position_bias_table", "features.1.0.attn.relative_position_bias_table"),
    ),
    ("a ViT backbone", ("blocks.0.attn.qkv.", "encoder.layers.encoder_layer_0.", "encoder.layer.0.attention.")),
    ("a ResNet classifier of torchvision's or timm's", ("layer1.0.conv1.",)),
    ("an ImageNet backbone", ("res2.0.conv1.", "res2_0_branch2a_w", "stem.conv1.")),
)
"""Networks without a detector's heads, by the same rule."""

BOX_CLASSES = re.compile(r"roi_heads\.box_predictor\.(\d+\.)?cls_score\.(weight|bias)")
BOX_DELTAS = re.compile(r"roi_heads\.box_predictor\.(\d+\.)?bbox_pred\.(weight|bias)")
MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.(weight|bias)")
RETINA_CLASSES = re.compile(r"head\.cls_score\.(weight|bias)")

Shape = tuple[int, ...]
Has = Callable[..., bool]
"""Whether a name has one of the given parts at the beginning of one of its words."""


def family_of(names: Iterable[str]) -> str:
    """What tensors of these names belong to: "a RetinaNet", "a Mask R-CNN with FPN", ..., or UNKNOWN."""
    dotted = tuple(f".{name}" for name in names)

    def has(*parts: str) -> bool:
        return any(f".{part}" in name for part in parts for name in dotted)

    found = next((words for words, parts in FOREIGN if has(*parts)), None)
    if found is not None:
        return found
    backbone = next((words for words, parts in BACKBONES if has(*parts)), UNKNOWN)
    if has("roi_heads."):
        return f"{second_stage(has)} {body(has, backbone)}"
    return next((words for words, parts in ONE_STAGE if has(*parts)), backbone)


def second_stage(has: Has) -> str:
    """The kind of R-CNN."""
    cascade = "Cascade " if has("roi_heads.box_predictor.0.") else ""
    if has("sem_seg_head."):
        return f"a panoptic {cascade}R-CNN"
    if has("roi_heads.keypoint_head."):
        return f"a {cascade}Keypoint R-CNN"
    if has("roi_heads.mask_head."):
        return f"a {cascade}Mask R-CNN"
    if cascade:
        return "a Cascade R-CNN"
    return "a Faster R-CNN" if has("proposal_generator.") else "a Fast R-CNN"


def body(has: Has, backbone: str) -> str:
    """Where its features come from, as the model zoo calls it."""
    if has("backbone.net."):
        return f"with {backbone}"
    if has("fpn_lateral"):
        return "with FPN"
    return "with a C4 backbone" if has("roi_heads.res5.") else "with a DC5 backbone"


def class_count(shapes: Mapping[str, Shape]) -> int | None:
    """For how many classes tensors of these names and shapes were trained; None where they do not tell."""
    for stage in ("", "0."):
        scores = shapes.get(f"roi_heads.box_predictor.{stage}cls_score.weight")
        if scores:
            return scores[0] - 1  # the last one is background
    scores, deltas = shapes.get("head.cls_score.weight"), shapes.get("head.bbox_pred.weight")
    anchors = deltas[0] // 4 if deltas else 0
    return scores[0] // anchors if scores and anchors else None


def rows_for(name: str, classes: int, anchors: int) -> int | None:
    """How many rows the tensor has when a model is of `classes`; None for one that does not depend on them."""
    if BOX_CLASSES.fullmatch(name):
        return classes + 1
    if BOX_DELTAS.fullmatch(name):
        return 4 * classes
    if MASKS.fullmatch(name):
        return classes
    return anchors * classes if RETINA_CLASSES.fullmatch(name) else None


def class_dependent(theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> dict[str, tuple[Shape, Shape]]:
    """{name: (their shape, ours)} of the tensors that differ because, and only because, the number of classes does."""
    before, now = class_count(theirs), class_count(ours)
    if before is None or now is None or before == now:
        return {}
    deltas = ours.get("head.bbox_pred.weight")
    anchors = deltas[0] // 4 if deltas else 0
    found = {}
    for name in theirs.keys() & ours.keys():
        rows = rows_for(name, before, anchors), rows_for(name, now, anchors)
        if (theirs[name][:1], ours[name][:1]) == ((rows[0],), (rows[1],)) and theirs[name][1:] == ours[name][1:]:
            found[name] = (theirs[name], ours[name])
    return {name: found[name] for name in ours if name in found}
