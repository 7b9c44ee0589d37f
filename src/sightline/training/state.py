"""Everything a run needs to go on: what lies in a checkpoint, and how it gets there and back.

The structure is what Detectron2 0.6's trainer writes and resumes from ({"model", "iteration", "trainer"}), together with what
its plain training script does ({"optimizer", "scheduler"}); both name the same tensors, which are stored once. What only we
need (random generators, running values that are no weights) stands under "sightline".
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_exactly, read_checkpoint, state_dict_of
from sightline.storage import atomic_write, write_text

LAST = "last_checkpoint"
FINAL = "model_final.pth"


@dataclass(slots=True)
class TrainingState:
    """The step that comes next, counted from 0. Everything else that changes lives in the model and the optimizer."""

    step: int = 0


def save_checkpoint(
    folder: Path,
    name: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    *,
    next_factor: float | None = None,
) -> Path:
    """Write `folder/name` whole, then let `last_checkpoint` name it: that file never names a broken one.

    next_factor: of the schedule at `state.step`. Detectron2 takes the rate of its first resumed step from the file; without
                 the factor that is the rate of the last step done
    """
    buffer = io.BytesIO()
    torch.save(checkpoint_content(model, optimizer, state, next_factor), buffer)
    path = folder / name
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
    write_text(folder / LAST, name)
    return path


def checkpoint_content(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState, next_factor: float | None
) -> dict[str, object]:
    """All that a checkpoint holds."""
    last_done = state.step - 1
    momenta = optimizer.state_dict()  # by position: the model registers its parts in Detectron2's order, so it is the same
    if next_factor is not None:
        for group in momenta["param_groups"]:  # copies of the optimizer's own
            group["lr"] = group.get("initial_lr", group["lr"]) * next_factor
    rates = [group.get("initial_lr", group["lr"]) for group in momenta["param_groups"]]
    schedule = {"base_lrs": rates, "last_epoch": state.step}
    return {
        # A plain dict: state_dict() carries the versions of our modules, and by these Detectron2's frozen norms would take
        # our running variances for those of an old release and subtract epsilon.
        "model": dict(model.state_dict()),
        "optimizer": momenta,
        "scheduler": schedule,
        "iteration": last_done,
        "trainer": {
            "iteration": last_done,
            "hooks": {"LRScheduler": dict(schedule)},
            "_trainer": {"iteration": last_done, "optimizer": momenta},
        },
        "sightline": {"rng": generators(), "buffers": {key: value.clone() for key, value in running_buffers(model).items()}},
    }


def places(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[tuple[str, int]]]:
    """For each parameter group (name, place in the optimizer's state) of its parameters."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found, place = [], 0
    for group in optimizer.param_groups:
        found.append([(names[parameter], place + offset) for offset, parameter in enumerate(group["params"])])
        place += len(group["params"])
    return found


def ordered(groups: list[list[tuple[str, int]]], names: Iterable[str]) -> list[tuple[int, list[tuple[str, int]]]]:
    """(index of the group, its parameters) as a model whose tensors come in the order of `names` would group them."""
    rank = {name: number for number, name in enumerate(names)}
    sorted_groups = [(index, sorted(group, key=lambda entry: rank[entry[0]])) for index, group in enumerate(groups)]
    return sorted(sorted_groups, key=lambda entry: rank[entry[1][0][0]])


def running_buffers(model: nn.Module) -> dict[str, Tensor]:
    """What changes in training and is no part of the state dict, because Detectron2 has no place for it: `model` names it."""
    names: tuple[str, ...] = getattr(model, "running_buffers", ())
    return {name: model.get_buffer(name) for name in names}


def generators() -> dict[str, Tensor]:
    """The states of torch's generators; sampling of anchors and proposals draws from them."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def last_checkpoint(folder: Path) -> Path | None:
    """The file that `last_checkpoint` names; None in a folder without one."""
    pointer = folder / LAST
    if not pointer.is_file():
        return None
    path = folder / pointer.read_text(encoding="utf-8").strip()
    if not path.is_file():
        raise CheckpointError(
            pointer, f"names {path.name}, which is not there", "Restore the file, or train into another folder."
        )
    return path


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Load a checkpoint that `save_checkpoint` or Detectron2 wrote (its trainer or its plain script); the state to go on from.

    Raises:
        CheckpointError: it is damaged, has no optimizer, or belongs to another model.
    """
    content = read_checkpoint(path)
    momenta, iteration = progress_in(content)
    if momenta is None or not isinstance(iteration, int):
        raise CheckpointError(path, "holds weights only", "Start from it with --weights instead of --resume.")
    tensors = state_dict_of(content, path)
    load_exactly(model, tensors, path)
    try:
        load_momenta(optimizer, momenta, model, tensors)
        own = content.get("sightline")
        if isinstance(own, dict):
            restore(own, model)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            path, f"does not fit the configuration ({error})", "Resume with the configuration that the run began with."
        ) from error
    return TrainingState(step=iteration + 1)


def progress_in(content: Mapping[str, object]) -> tuple[object, object]:
    """(the optimizer's state, the last step done) wherever a checkpoint keeps them; None for what it does not have."""
    outer = mapping(content.get("trainer"))
    inner = mapping(outer.get("_trainer")) or outer
    return content.get("optimizer", inner.get("optimizer")), content.get("iteration", outer.get("iteration"))


def mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def load_momenta(optimizer: torch.optim.Optimizer, saved: Any, model: nn.Module, tensors: Iterable[str]) -> None:
    """The momenta of `saved`, which counts parameters in the order of the names `tensors` (our first checkpoints had another).

    Rates and decay stay what the configuration says now; only the momenta are the past's.

    Raises:
        ValueError: another grouping, or momenta of other shapes. (torch would take these without a word.)
        KeyError, TypeError, AttributeError, IndexError: it is no optimizer's state.
    """
    numbers = [group["params"] for group in saved["param_groups"]]
    groups = places(model, optimizer)
    expected = [entries for _, entries in ordered(groups, tensors)]
    if len(numbers) != len(groups) and all(len(group) == 1 for group in numbers):  # Detectron2 before 0.6
        expected = [entries for _, entries in ordered([[entry] for group in groups for entry in group], tensors)]
    if [len(group) for group in numbers] != [len(group) for group in expected]:
        raise ValueError(
            f"its optimizer has groups of {[len(group) for group in numbers]} tensors, "
            f"the configuration makes groups of {[len(group) for group in expected]}"
        )
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state = {}
    for group, entries in zip(numbers, expected, strict=True):
        for number, (name, place) in zip(group, entries, strict=True):
            if number not in saved["state"]:  # saved before its first step
                continue
            state[place] = saved["state"][number]
            momentum = state[place].get("momentum_buffer")
            if isinstance(momentum, Tensor) and momentum.shape != shapes[name]:
                raise ValueError(f"the momentum of {name!r} has shape {list(momentum.shape)}")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def restore(own: Mapping[str, Any], model: nn.Module) -> None:
    """Random generators and running values as they were; older checkpoints have no running values."""
    for name, buffer in running_buffers(model).items():
        if name in own.get("buffers", {}):
            buffer.copy_(own["buffers"][name])
    torch.set_rng_state(own["rng"]["cpu"])
    if "cuda" in own["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["rng"]["cuda"])
