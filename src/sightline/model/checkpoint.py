"""Weights from files, and into a model with a report of what fitted. Nothing in a file is ever executed."""

import logging
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline.errors import CheckpointError, Problem
from sightline.model.families import Shape, class_count, class_dependent, family_of
from sightline.model.pickles import matched_by_end, read_pickle
from sightline.model.torchvision_names import LEARNED_FROM, from_torchvision, is_torchvision

LOG = logging.getLogger(__name__)

RECOMPUTED = ("anchor_generator.cell_anchors", "pixel_mean", "pixel_std", "num_batches_tracked")
"""Buffers of older Detectron2 checkpoints that follow from the configuration; leaving them out changes nothing."""


MAX_TENSORS = 10
"""Tensors that an error names; of a checkpoint that does not fit, hundreds do not."""

CLASSES_KEY = {True: "MODEL.RETINANET.NUM_CLASSES", False: "MODEL.ROI_HEADS.NUM_CLASSES"}
"""Where a configuration says the number of classes; by whether it describes a RetinaNet."""

Shapes = Mapping[str, tuple[Shape, Shape]]
"""{name: (shape in the file, in the model)}."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of a checkpoint's tensors. Names are the model's, as far as it has them.

    fresh:    of another shape because the number of classes differs; left as initialised
    reshaped: of another shape for any other reason; left as initialised
    classes:  how many the file's tensors know, and the model's; None where names do not tell
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Shapes = field(default_factory=dict)
    fresh: Shapes = field(default_factory=dict)
    classes: tuple[int | None, int | None] = (None, None)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped or self.fresh)

    def lines(self) -> list[str]:
        """For people: a count of what was loaded, and every group of names that was not."""
        lines = [f"{len(self.loaded)} tensors loaded"]
        if self.fresh:
            before, now = self.classes
            lines.append(f"trained for {before} classes, this data set has {now}: {', '.join(self.fresh)} start fresh")
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
            where, f"is no checkpoint that loads safely ({refused(error)})", "Give a .pth file of tensors and plain values."
        ) from error
    except Exception as error:  # a damaged archive makes torch raise RuntimeError, EOFError, KeyError, ...
        raise CheckpointError(where, f"is damaged or no checkpoint ({first_line(error)})", "Copy or train it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(where, f"holds a {type(content).__name__}", "Give a .pth file with a state dict.")
    return content if isinstance(content.get("model"), dict) else {"model": content}


def refused(error: Exception) -> str:
    """What torch's safe loader stumbled over, without its advice to switch safety off."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {named[1]}" if named else first_line(error)


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

    A torchvision classifier's become the backbone's, and the log says what pictures it expects.

    Raises:
        CheckpointError: missing, damaged, or holding anything but tensors and plain containers.
    """
    if path.suffix != ".pkl":
        given = state_dict_of(read_checkpoint(path), path)
        if not is_torchvision(given):
            return given
        LOG.info("%s: %s", path.name, LEARNED_FROM)
        return matched_by_end(from_torchvision(given), own)
    if not path.is_file():
        raise CheckpointError(path, "does not exist", "Check the path.")
    with path.open("rb") as file:
        tensors, by_end = read_pickle(file, path)
    return matched_by_end(tensors, own) if by_end else tensors


FILLING = (
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    Tensor.normal_,
    Tensor.uniform_,
)
"""What draws the random numbers that layers begin with."""


class Unfilled(TorchFunctionMode):
    """Modules that are made in it keep what the memory held, not random numbers: for `load_exactly`, which fills them all.

    Random numbers for the 41 million weights of an R50-FPN take 0.6 s of a server's start.
    """

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if func in FILLING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, take: bool = False) -> LoadReport:
    """Copy every tensor whose name and shape fit; the others stay as they are and are reported.

    take: make those of the model's own type its parameters, without a copy, which takes 0.4 s of a server's start; not for a
          model whose parameters an optimizer has
    """
    own = model.state_dict()
    theirs = {name: tuple(value.shape) for name, value in tensors.items()}
    ours = {name: tuple(value.shape) for name, value in own.items()}
    differing = {name: (theirs[name], shape) for name, shape in ours.items() if theirs.get(name, shape) != shape}
    fresh = class_dependent(theirs, ours)
    fitting = {name: value for name, value in tensors.items() if name in own and name not in differing}
    if take:
        fitting = {name: value.to(own[name].dtype) for name, value in fitting.items()}
    model.load_state_dict(fitting, strict=False, assign=take)
    return LoadReport(
        loaded=tuple(fitting),
        missing=tuple(n for n in own if n not in tensors and not recomputed(n)),
        unexpected=tuple(n for n in tensors if n not in own and not recomputed(n)),
        reshaped={name: shapes for name, shapes in differing.items() if name not in fresh},
        fresh=fresh,
        classes=(class_count(theirs), class_count(ours)),
    )


def recomputed(name: str) -> bool:
    return any(part in name for part in RECOMPUTED)


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], where: object, *, take: bool = False) -> None:
    """`load_weights`, where anything but a perfect fit is an error: for prediction, where a random layer is never meant.

    Raises:
        CheckpointError: it is of another architecture, of another number of classes, or single tensors do not fit.
    """
    report = load_weights(model, tensors, take=take)
    if report.complete:
        return
    families = family_of(tensors), family_of(model.state_dict())
    raise CheckpointError.collected(list(misfits(report, families, str(where))))


def misfits(report: LoadReport, families: tuple[str, str], where: str) -> Iterator[Problem]:
    """Why the file does not fit, most telling first. families: of the file and of the model."""
    fix = "Give the configuration that this checkpoint was trained with."
    if families[0] != families[1]:
        yield Problem(where, f"looks like {families[0]}, the configuration describes {families[1]}", fix)
        return
    if report.fresh:
        before, now = report.classes
        key = CLASSES_KEY["RetinaNet" in families[1]]
        yield Problem(where, f"was trained for {before} classes, the configuration says {now}", f"Set {key} to {before}.")
    whats = [f"tensor {name!r} is missing" for name in report.missing]
    whats += [
        f"tensor {name!r} has shape {list(theirs)}, the model needs {list(ours)}"
        for name, (theirs, ours) in report.reshaped.items()
    ]
    whats += [f"tensor {name!r} has no place in the model" for name in report.unexpected]
    for what in whats[:MAX_TENSORS]:
        yield Problem(where, what, fix)
    if len(whats) > MAX_TENSORS:
        yield Problem(where, f"and {len(whats) - MAX_TENSORS} more tensors do not fit", fix)
