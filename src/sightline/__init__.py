"""Sightline: from labelled pictures to a served object detector.

The public names load when they are used, so that `import sightline` stays fast and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sightline.records import Dataset as Dataset
    from sightline.records import Detections as Detections
    from sightline.records import Model as Model

PUBLIC = {"Dataset": "sightline.records", "Detections": "sightline.records", "Model": "sightline.records"}
"""Every public name and the module that defines it; spelled out twice so that type checkers see them."""

__all__ = ["Dataset", "Detections", "Model", "__version__"]


def __getattr__(name: str) -> object:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'sightline' has no attribute {name!r}")
