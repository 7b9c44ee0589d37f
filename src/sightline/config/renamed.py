"""Keys that Detectron2 has renamed since version 1 of its configuration, and what they are called now.

Old files, dumps and command lines keep working: their keys are read under the new names, with a line in the log. Anchors
moved more than their name: each kind of model had its own pair, and only the pair of the model at hand meant anything.
"""

import logging
from collections.abc import Mapping

from sightline.errors import Problem

LOG = logging.getLogger(__name__)

VERSION = 2
"""The version of the keys in schema.py."""

RENAMED = {
    "MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME",
    "MODEL.WEIGHT": "MODEL.WEIGHTS",
    "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE": "MODEL.RPN.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE": "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.COMBINE_ON": "MODEL.PANOPTIC_FPN.COMBINE.ENABLED",
    "MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD": "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH",
    "MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT": "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT",
    "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD": "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
    "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "MODEL.RETINANET.INFERENCE_NMS_THRESHOLD": "MODEL.RETINANET.NMS_THRESH_TEST",
    "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
    "TEST.AUG_ON": "TEST.AUG.ENABLED",
    "TEST.AUG_MIN_SIZES": "TEST.AUG.MIN_SIZES",
    "TEST.AUG_MAX_SIZE": "TEST.AUG.MAX_SIZE",
    "TEST.AUG_FLIP": "TEST.AUG.FLIP",
}
"""{old name: new name}."""

OLD_SECTIONS = {"MODEL.RPN_HEAD"}
"""Sections that exist no more."""

ANCHORS = {
    "ANCHOR_SIZES": "MODEL.ANCHOR_GENERATOR.SIZES",
    "ANCHOR_ASPECT_RATIOS": "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
}
"""Keys that MODEL.RPN and MODEL.RETINANET both had, and their one successor."""

STRIDES = "MODEL.RETINANET.ANCHOR_STRIDES"
"""Meant nothing in any version; dropped."""


def successors(architecture: object) -> dict[str, str | None]:
    """{old name: new name, or None where the key means nothing} for a model of this MODEL.META_ARCHITECTURE."""
    used, unused = ("RETINANET", "RPN") if architecture == "RetinaNet" else ("RPN", "RETINANET")
    anchors = {f"MODEL.{used}.{old}": new for old, new in ANCHORS.items()}
    dropped = [STRIDES, *(f"MODEL.{unused}.{old}" for old in ANCHORS)]
    return {**RENAMED, **anchors, **dict.fromkeys(dropped)}


def renewed(values: Mapping[str, object], where: str, architecture: object, problems: list[Problem]) -> dict[str, object]:
    """`values` under today's key names. `problems` gets keys that are given by their old and by their new name."""
    table = successors(architecture)
    found: dict[str, object] = {}
    for key, value in values.items():
        if key not in table:
            found[key] = value
            continue
        new = table[key]
        if new is None:
            LOG.info("%s: %s is left out: it means nothing for %s", where, key, architecture)
        elif new in values:
            problems.append(Problem(where, f"{key} and {new} are both given", f"Keep {new}: the other is its old name."))
        else:
            LOG.info("%s: %s is read as %s, its name today", where, key, new)
            found[new] = value
    return found
