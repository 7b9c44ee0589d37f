"""Weights in Detectron2's and Caffe2's pickles: numpy arrays in plain containers, read without running anything.

Three shapes are met: a zoo model (Detectron2's own names), an ImageNet backbone in Detectron2's names without their prefix
("matching_heuristics"), and a Caffe2 backbone ("blobs", names like `res2_0_branch2a_bn_s`).
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
    blobs = content.get("blobs", content)
    return from_caffe2(arrays(blobs, where)), True


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
)
"""Caffe2's layer names to ours, applied in this order."""


def from_caffe2(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's ImageNet backbones under our names. Norms that hold only scale and bias stand on mean 0 and variance 1."""
    named = {}
    for name, value in blobs.items():
        for pattern, replacement in CAFFE2_NAMES:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901  # rewritten step by step
        named[name] = value
    for name, scale in list(named.items()):
        if name.endswith("norm.weight"):
            stem = name.removesuffix("weight")
            named.setdefault(f"{stem}running_mean", torch.zeros_like(scale))
            named.setdefault(f"{stem}running_var", torch.ones_like(scale))
    return named


def matched_by_end(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """`tensors` under the model's names `own`: each of these takes the longest name that it ends with.

    Names that fit nowhere keep their own, so that a report can list them.
    """
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in own:
        ends = [given for given in tensors if name == given or name.endswith(f".{given}")]
        if ends:
            best = max(ends, key=len)
            found[name] = tensors[best]
            used.add(best)
    return found | {name: value for name, value in tensors.items() if name not in used}
