"""Weights in Detectron2's and Caffe2's pickles: numpy arrays in plain containers, read without running anything.

Four shapes are met: a zoo model (Detectron2's own names), an ImageNet backbone in Detectron2's names without their prefix
("matching_heuristics"), a Caffe2 backbone (names like `res2_0_branch2a_bn_s`), and a whole detector of the first Detectron
("blobs", names like `fpn_inner_res2_2_sum_lateral_w`).
"""

import pickle
import re
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from sightline.errors import CheckpointError

ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}
"""All that a pickle of arrays names. Anything else could be code."""


class ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def read_pickle(file: BinaryIO, where: object) -> tuple[dict[str, Tensor], bool]:
    """({name: tensor}, whether the names lack their prefix and are matched by their end).

    Raises:
        CheckpointError: it is no pickle of arrays; nothing in it was run.
    """
    try:
        content = ArraysOnly(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise CheckpointError(where, f"does not load safely ({error})", "Give weights as arrays only.") from error
    except Exception as error:  # a damaged pickle makes the machine raise anything
        raise CheckpointError(where, f"is damaged or no pickle of arrays ({error!r})", "Copy or download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(where, f"holds a {type(content).__name__}", "Give a model's weights.")
    if "model" in content and "__author__" in content:
        return arrays(content["model"], where), bool(content.get("matching_heuristics", False))
    blobs = arrays(content.get("blobs", content), where)
    if any(name.startswith("retnet_") for name in blobs):
        raise CheckpointError(
            where,
            "is a RetinaNet of the first Detectron, whose names Detectron2 does not convert either",
            "Give a RetinaNet of Detectron2's model zoo.",
        )
    return from_caffe2(blobs), True


def arrays(blobs: object, where: object) -> dict[str, Tensor]:
    """The arrays among `blobs`; Caffe2 keeps counters and momenta beside them."""
    if not isinstance(blobs, Mapping):
        raise CheckpointError(where, f"holds a {type(blobs).__name__} of weights", "Give a model's weights.")
    return {
        str(name): torch.from_numpy(np.array(value))
        for name, value in blobs.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and not str(name).endswith("_momentum")
    }


CAFFE2_NAMES = (
    (r"_", "."),
    (r"\.b$", ".bias"),
    (r"\.w$", ".weight"),
    (r"bn\.s$", "norm.weight"),
    (r"bn\.bias$", "norm.bias"),
    (r"bn\.(rm|running\.mean)$", "norm.running_mean"),
    (r"bn\.(riv|running\.var)$", "norm.running_var"),
    (r"bn\.gamma$", "norm.weight"),
    (r"bn\.beta$", "norm.bias"),
    (r"gn\.s$", "norm.weight"),
    (r"gn\.bias$", "norm.bias"),
    (r"^res\.conv1\.norm\.", "conv1.norm."),
    (r"^conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
    # the pyramid: laterals are called after the stage's last sum, the coarsest without the word `lateral`
    (r"^fpn\.inner\.res(\d)\.\d+\.sum\.(?:lateral\.)?", r"fpn_lateral\1."),
    (r"^fpn\.res(\d)\.\d+\.sum\.", r"fpn_output\1."),
    # proposals: one head for all levels, stored under the finest
    (r"^conv\.rpn\.(?:fpn2\.)?", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.bbox\.pred\.(?:fpn2\.)?", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^rpn\.cls\.logits\.(?:fpn2\.)?", "proposal_generator.rpn_head.objectness_logits."),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv", "box_head.conv"),
    (r"^cls\.score\.", "box_predictor.cls_score."),
    (r"^bbox\.pred\.", "box_predictor.bbox_pred."),
    (r"^\.\[mask\]\.fcn", "mask_head.mask_fcn"),
    (r"^conv5\.mask\.", "mask_head.deconv."),
    (r"^mask\.fcn\.logits\.", "mask_head.predictor."),
    (r"^conv\.fcn", "roi_heads.keypoint_head.conv_fcn"),
    (r"^kps\.score\.lowres\.", "roi_heads.keypoint_head.score_lowres."),
    (r"^kps\.score\.", "roi_heads.keypoint_head.score."),
)
"""Caffe2's layer names to ours, applied in this order."""

BATCH_NORM_SCALE = re.compile(r"_bn_(s|gamma)$")


def from_caffe2(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's networks under our names, their classes in our order.

    Batch norms that hold only scale and bias stand on mean 0 and variance 1.
    """
    named: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for blob, value in blobs.items():
        name = blob
        for pattern, replacement in CAFFE2_NAMES:
            name = re.sub(pattern, replacement, name)
        named[name] = background_last(name, value)
        if BATCH_NORM_SCALE.search(blob):
            scales[name.removesuffix("weight")] = value
    for stem, scale in scales.items():
        named.setdefault(f"{stem}running_mean", torch.zeros_like(scale))
        named.setdefault(f"{stem}running_var", torch.ones_like(scale))
    return named


def background_last(name: str, value: Tensor) -> Tensor:
    """`value` with its rows as we count classes. The first Detectron has background first, with boxes and masks of its own."""
    if name.startswith("box_predictor.cls_score."):
        return torch.cat((value[1:], value[:1]))
    if name.startswith("box_predictor.bbox_pred."):
        return value[4:]
    return value[1:] if name.startswith("mask_head.predictor.") else value


def matched_by_end(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """`tensors` under the model's names `own`: each of these takes the longest name that it ends with.

    Names that fit nowhere, or several of the model's (a cascade has three predictors), keep their own, so that a report can
    list them.
    """
    takers: dict[str, list[str]] = {}
    for name in own:
        ends = [given for given in tensors if name == given or name.endswith(f".{given}")]
        if ends:
            takers.setdefault(max(ends, key=len), []).append(name)
    sole = {given: names[0] for given, names in takers.items() if len(names) == 1}
    return {sole.get(given, given): value for given, value in tensors.items()}
