"""Detectron2's inference API over Sightline, so that an existing script runs with only its imports changed.

    from sightline.detectron2 import DefaultPredictor, get_cfg, model_zoo

What is here behaves like its namesake in Detectron2 0.6, except where being silent would be wrong: an unknown key, a value of
the wrong type, and weights that do not fit are errors. The whole list stands in docs/detectron2_drop_in.md.
"""

from sightline.detectron2 import model_zoo
from sightline.detectron2.cfg import CfgNode, get_cfg
from sightline.detectron2.predictor import DefaultPredictor, Metadata
from sightline.detectron2.structures import Boxes, Instances

__all__ = ["Boxes", "CfgNode", "DefaultPredictor", "Instances", "Metadata", "get_cfg", "model_zoo"]
