"""torchvision's compiled operators, RoIAlign and NMS, without the import of torchvision.

`import torchvision` brings torch._dynamo with it: 2.3 of the 5 seconds that both take on two cores, and a server's first answer
waits for them. The library of operators beside its Python code needs torch alone. Where it cannot be found or loaded by itself,
torchvision is imported as usual.
"""

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

LIBRARIES = ("_C", "_C_stable")
"""Names that torchvision's wheels have had for it, up to 0.28 and since."""

FEW_ON_CPU, FEW_ELSEWHERE = 1_000, 25_000
"""Up to so many boxes `batched_nms` moves the groups apart and suppresses once; torchvision's figures, found by timing."""


def library() -> Path | None:
    """torchvision's library of operators; None where it does not lie where wheels have it."""
    spec = find_spec("torchvision")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [folder / f"{name}{suffix}" for folder in folders for name in LIBRARIES for suffix in EXTENSION_SUFFIXES]
    return next((file for file in files if file.is_file()), None)


def load_operators() -> None:
    """Make `torch.ops.torchvision` complete; loading twice, or with torchvision imported before or after, does no harm."""
    found = None if "torchvision" in sys.modules else library()
    if found is not None:
        try:
            torch.ops.load_library(found)  # type: ignore[no-untyped-call]  # torch has no types there
        except OSError:  # built against something that only torchvision's own import finds
            found = None
    if found is None or not hasattr(torch.ops.torchvision, "roi_align") or not hasattr(torch.ops.torchvision, "nms"):
        importlib.import_module("torchvision")


load_operators()


def roi_align(feature: Tensor, rois: Tensor, side: int, *, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """(P, C, side, side) of one feature map (B, C, H, W) and rois: (P, 5), picture and xyxy box in pixels (arXiv:1703.06870).

    scale:          cells of the map a pixel
    sampling_ratio: points a cell and direction; 0: as many as the box has feature cells there
    aligned:        half-pixel-correct sampling
    """
    if torch.are_deterministic_algorithms_enabled() and feature.device.type != "cpu":
        # the compiled backward adds up in any order on a GPU; torchvision has one in Python that does not
        from torchvision.ops import roi_align as in_python

        exactly: Tensor = in_python(feature, rois, (side, side), scale, sampling_ratio, aligned)
        return exactly
    pooled: Tensor = torch.ops.torchvision.roi_align(feature, rois, scale, side, side, sampling_ratio, aligned)
    return pooled


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices of boxes (N, 4) that no better one overlaps by more than `iou`, best first."""
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), iou)  # in half precision scores are shorter
    return kept


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """`nms` within each group (N,), best first over all. The numbers of torchvision's function, which Detectron2 calls.

    Few boxes are moved apart by group and suppressed at once. That rounds their coordinates; many are taken group by group.
    """
    if not len(boxes):
        return boxes.new_empty(0, dtype=torch.int64)
    if len(boxes) <= (FEW_ON_CPU if boxes.device.type == "cpu" else FEW_ELSEWHERE):
        apart = groups.to(boxes) * (boxes.max() + 1)
        return nms(boxes + apart[:, None], scores, iou)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for group in torch.unique(groups):
        members = (groups == group).nonzero().squeeze(1)
        kept[members[nms(boxes[members], scores[members], iou)]] = True
    places = kept.nonzero().squeeze(1)
    return places[scores[places].sort(descending=True)[1]]
