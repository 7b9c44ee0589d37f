"""Weights from files, and into a model with a report of what fitted. Nothing in a file is ever executed."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from sightline.errors import CheckpointError, Problem
from sightline.model.pickles import matched_by_end, read_pickle

RECOMPUTED = ("anchor_generator.cell_anchors", "pixel_mean", "pixel_std", "num_batches_tracked")
"""Buffers of older Detectron2 checkpoints that follow from the configuration; leaving them out changes nothing."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a checkpoint's tensors. Names are the model's; reshaped: {name: (in the file, in the model)}."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def lines(self) -> list[str]:
        """For people: a count of what was loaded, and every group of names that was not."""
        lines = [f"{len(self.loaded)} tensors loaded"]
        if self.reshaped:
            shapes = [f"{name} {list(theirs)} instead of {list(ours)}" for name, (theirs, ours) in self.reshaped.items()]
            lines.append(f"{len(shapes)} of another shape, left as initialised: {', '.join(shapes)}")
        if self.missing:
            lines.append(f"{len(self.missing)} not in the file, left as initialised: {', '.join(self.missing)}")
        if self.unexpected:
            lines.append(f"{len(self.unexpected)} in the file that the model has no place for: {', '.join(self.unexpected)}")
        return lines


def read_checkpoint(path: Path) -> dict[str, object]:
    """The checkpoint's content: {"model": state dict, ...}; a bare state dict is put under "model".

    Raises:
        CheckpointError: missing, damaged, or holding anything but tensors and plain containers.
    """
    if not path.is_file():
        raise CheckpointError(path, "does not exist", "Check the path.")
    with path.open("rb") as file:
        return parse_checkpoint(file, path)


def parse_checkpoint(file: BinaryIO, where: object) -> dict[str, object]:
    """`read_checkpoint` of an open file."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            where, f"is no checkpoint that loads safely ({first_line(error)})", "Give a .pth file of tensors and plain values."
        ) from error
    except Exception as error:  # a damaged archive makes torch raise RuntimeError, EOFError, KeyError, ...
        raise CheckpointError(where, f"is damaged or no checkpoint ({first_line(error)})", "Copy or train it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(where, f"holds a {type(content).__name__}", "Give a .pth file with a state dict.")
    return content if isinstance(content.get("model"), dict) else {"model": content}


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def state_dict_of(checkpoint: Mapping[str, object], where: object) -> dict[str, Tensor]:
    """The tensors of its model, without DistributedDataParallel's `module.` prefix.

    Raises:
        CheckpointError: it holds none.
    """
    model = checkpoint["model"]
    items = model.items() if isinstance(model, dict) else ()
    tensors = {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(where, "holds no tensors", "Give a model's checkpoint.")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def read_weights(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a .pth checkpoint or of Detectron2's or Caffe2's .pkl, under the names of the model's `own` state.

    Raises:
        CheckpointError: missing, damaged, or holding anything but tensors and plain containers.
    """
    if path.suffix != ".pkl":
        return state_dict_of(read_checkpoint(path), path)
    if not path.is_file():
        raise CheckpointError(path, "does not exist", "Check the path.")
    with path.open("rb") as file:
        tensors, by_end = read_pickle(file, path)
    return matched_by_end(tensors, own) if by_end else tensors


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Copy every tensor whose name and shape fit; the others stay as they are and are reported."""
    own = model.state_dict()
    reshaped = {
        name: (tuple(tensors[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    }
    fitting = {name: value for name, value in tensors.items() if name in own and name not in reshaped}
    model.load_state_dict(fitting, strict=False)
    return LoadReport(
        loaded=tuple(fitting),
        missing=tuple(n for n in own if n not in tensors and not recomputed(n)),
        unexpected=tuple(n for n in tensors if n not in own and not recomputed(n)),
        reshaped=reshaped,
    )


def recomputed(name: str) -> bool:
    return any(part in name for part in RECOMPUTED)


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], where: object) -> None:
    """`load_weights`, where anything but a perfect fit is an error: for prediction, where a random layer is never meant.

    Raises:
        CheckpointError: every tensor that is missing, unexpected or of another shape.
    """
    report = load_weights(model, tensors)
    if report.complete:
        return
    fix = "Give the configuration that this checkpoint was trained with."
    problems = [Problem(str(where), f"tensor {name!r} is missing", fix) for name in report.missing]
    problems += [
        Problem(str(where), f"tensor {name!r} has shape {list(theirs)}, the model needs {list(ours)}", fix)
        for name, (theirs, ours) in report.reshaped.items()
    ]
    problems += [Problem(str(where), f"tensor {name!r} has no place in the model", fix) for name in report.unexpected]
    raise CheckpointError.collected(problems)
