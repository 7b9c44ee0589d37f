"""Everything a run needs to go on: what lies in a checkpoint, and how it gets there and back.

The structure is what Detectron2 0.6's trainer writes and resumes from ({"model", "iteration", "trainer"}), together with what
its plain training script does ({"optimizer", "scheduler"}); both name the same tensors, which are stored once. What only we
need (random generators, running values that are no weights) stands under "sightline".
"""

import errno
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import CheckpointError, RunError
from sightline.model.checkpoint import load_exactly, read_checkpoint, state_dict_of
from sightline.storage import atomic_write, write_text
from sightline.training.learner import Learner

LAST = "last_checkpoint"
FINAL = "model_final.pth"
BEST = "model_best.pth"


INTERRUPTED = "interrupted"
"""The ending of a run that is to go on: its weights are saved, and are not the final ones."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where there is no space left, on the disk or for this user."""

STEP_NAME = re.compile(r"model_\d{7}\.pth")


@dataclass(slots=True)
class TrainingState:
    """Where a run stands. What else changes lives in the model and the optimizer.

    step:    the next one, counted from 0
    best:    the best value of the chosen metric so far, and best_step, after how many steps it was reached
    stale:   evaluations since then
    owed:    an evaluation that was due when the run was interrupted; a resumed run makes it first
    seconds: spent training, before a resume, too
    waited:  seconds that the last step waited for its pictures
    paused:  seconds that evaluations took since this process began
    ending:  why the run ends before its last step; empty while it does not
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    owed: bool = False
    seconds: float = 0.0
    waited: float = 0.0
    paused: float = 0.0
    ending: str = ""

    def lasting(self) -> dict[str, object]:
        """What a resumed run begins with, besides the step."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "stale": self.stale,
            "owed": self.owed,
            "seconds": self.seconds,
        }


def save_checkpoint(
    folder: Path,
    name: str,
    learner: Learner,
    state: TrainingState,
) -> Path:
    """Write `folder/name` whole, then let `last_checkpoint` name it: that file never names a broken one.

    All processes call it, since each has random generators of its own; the first one writes.

    Raises:
        RunError: it cannot be written; the last checkpoint is as it was.
    """
    path = folder / name
    ranks = learner.processes.gather(own_state(learner.detector))
    if learner.processes.first:
        write_checkpoint(path, checkpoint_content(learner, state, ranks))
        with spaceless(folder / LAST):
            write_text(folder / LAST, name)
    return path


def write_checkpoint(path: Path, content: Mapping[str, object]) -> None:
    """One file, whole or not at all.

    Raises:
        RunError: there is no space, no permission or no folder.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with spaceless(path), atomic_write(path) as file:
        file.write(buffer.getbuffer())


@contextmanager
def spaceless(path: Path) -> Iterator[None]:
    """What the system refuses inside the block as a `RunError` about `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(
            path,
            f"cannot be saved ({error.strerror or error}); the checkpoint before it is as it was",
            remedy(error),
        ) from error


def remedy(error: OSError) -> str:
    """How to go on after the system refused to write into a run folder."""
    if error.errno in FULL:
        return "Make room (see --keep), then go on with --resume."
    return "Check that the run folder is there and may be written, then go on with --resume."


def remove_old(folder: Path, keep: int) -> None:
    """All but the `keep` newest checkpoints of the way and the one that `last_checkpoint` names; 0 removes none."""
    saved = sorted(path for path in folder.iterdir() if STEP_NAME.fullmatch(path.name))
    named = last_checkpoint(folder)  # not the newest where a run went on from an earlier one
    for path in saved[:-keep] if keep else []:
        if path != named:
            path.unlink()


def own_state(model: nn.Module) -> dict[str, object]:
    """What each process has for itself: its random generators, and running values that are no weights."""
    return {"rng": generators(), "buffers": {key: value.cpu().clone() for key, value in running_buffers(model).items()}}


def checkpoint_content(learner: Learner, state: TrainingState, ranks: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """All that a checkpoint holds. ranks: `own_state` of every process.

    Detectron2 takes the rate of its first resumed step from the file, so the rates in it are those of the next step.
    """
    last_done = state.step - 1
    momenta = learner.optimizer.state_dict()  # by position: the model registers its parts in Detectron2's order
    factor = learner.factor(state.step)
    for group in momenta["param_groups"]:  # copies of the optimizer's own
        group["lr"] = group.get("initial_lr", group["lr"]) * factor
    rates = [group.get("initial_lr", group["lr"]) for group in momenta["param_groups"]]
    schedule = {"base_lrs": rates, "last_epoch": state.step}
    trainer = {"iteration": last_done, "optimizer": momenta}
    own: dict[str, object] = {"ranks": list(ranks), "state": state.lasting()}
    if learner.precision.scaler.is_enabled():
        trainer["grad_scaler"] = learner.precision.scaler.state_dict()
    weights = plain(learner.detector)
    if learner.ema is not None:
        own["learning"] = weights  # "model" is what predicts: the running mean
        weights = learner.ema.state()
    return {
        "model": weights,
        "optimizer": momenta,
        "scheduler": schedule,
        "iteration": last_done,
        "trainer": {"iteration": last_done, "hooks": {"LRScheduler": dict(schedule)}, "_trainer": trainer},
        "sightline": own,
    }


def plain(model: nn.Module) -> dict[str, Tensor]:
    """Its state as a plain dict: state_dict() carries the versions of our modules, and by these Detectron2's frozen norms would
    take our running variances for those of an old release and subtract epsilon."""
    return dict(model.state_dict())


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


def resume(path: Path, learner: Learner) -> TrainingState:
    """Load a checkpoint that `save_checkpoint` or Detectron2 wrote (its trainer or its plain script); the state to go on from.

    Raises:
        CheckpointError: it is damaged, has no optimizer, or belongs to another model.
    """
    content = read_checkpoint(path)
    momenta, iteration = progress_in(content)
    if momenta is None or not isinstance(iteration, int):
        raise CheckpointError(path, "holds weights only", "Start from it with --weights instead of --resume.")
    tensors = state_dict_of(content, path)
    own = mapping(content.get("sightline"))
    load_exactly(learner.detector, tensors, path)
    state = TrainingState(step=iteration + 1)
    try:
        if learner.ema is not None:
            learner.ema.load(plain(learner.detector))
        if "learning" in own:
            learner.detector.load_state_dict(own["learning"])  # type: ignore[arg-type]  # read from a file: checked by torch
        load_momenta(learner.optimizer, momenta, learner.detector, tensors)
        restore(own, learner, mapping(mapping(content.get("trainer")).get("_trainer")))
        for name, value in mapping(own.get("state")).items():
            setattr(state, name, value)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            path, f"does not fit the configuration ({error})", "Resume with the configuration that the run began with."
        ) from error
    return state


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


def restore(own: Mapping[str, Any], learner: Learner, trainer: Mapping[str, Any]) -> None:
    """Random generators, running values and the loss scale as they were. Detectron2's checkpoints have no generators, and a
    process that the run did not have before keeps its own, and takes the first one's running values."""
    ranks = own.get("ranks") or ([own] if "rng" in own else [])  # our first checkpoints had one process and no list
    if ranks:
        known = learner.processes.rank < len(ranks)
        mine = ranks[learner.processes.rank if known else 0]
        for name, buffer in running_buffers(learner.detector).items():
            if name in mine.get("buffers", {}):
                buffer.copy_(mine["buffers"][name])
        if known:
            torch.set_rng_state(mine["rng"]["cpu"])
        if known and "cuda" in mine["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["rng"]["cuda"])
    if "grad_scaler" in trainer and learner.precision.scaler.is_enabled():
        learner.precision.scaler.load_state_dict(trainer["grad_scaler"])
