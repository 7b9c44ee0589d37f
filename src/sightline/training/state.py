"""Everything a run needs to go on: what lies in a checkpoint, and how it gets there and back.

The structure is Detectron2's ({"model", "optimizer", "scheduler", "iteration"}), so its own tools read our files; what only
we need (random generators) stands under "sightline".
"""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_exactly, read_checkpoint, state_dict_of
from sightline.storage import atomic_write, write_text

LAST = "last_checkpoint"
FINAL = "model_final.pth"


@dataclass(slots=True)
class TrainingState:
    """The step that comes next, counted from 0. Everything else that changes lives in the model and the optimizer."""

    step: int = 0


def save_checkpoint(folder: Path, name: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState) -> Path:
    """Write `folder/name` whole, then let `last_checkpoint` name it: that file never names a broken one."""
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"last_epoch": state.step},
        "iteration": state.step - 1,  # Detectron2's: the last one done
        "sightline": {"rng": generators()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / name
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
    write_text(folder / LAST, name)
    return path


def generators() -> dict[str, torch.Tensor]:
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
    """Load a checkpoint that `save_checkpoint` (or Detectron2) wrote; the state to go on from.

    Raises:
        CheckpointError: it is damaged, has no optimizer, or belongs to another model.
    """
    content = read_checkpoint(path)
    if "optimizer" not in content or not isinstance(content.get("iteration"), int):
        raise CheckpointError(path, "holds weights only", "Start from it with --weights instead of --resume.")
    load_exactly(model, state_dict_of(content, path), path)
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(content["optimizer"])  # type: ignore[arg-type]  # read from a file: checked by torch
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            path, f"does not fit the configuration ({error})", "Resume with the configuration that the run began with."
        ) from error
    for group, configured in zip(optimizer.param_groups, settings, strict=True):
        group.update(configured)  # rates and decay are what the configuration says now; only the momenta are the past's
    own = content.get("sightline")
    if isinstance(own, dict):
        torch.set_rng_state(own["rng"]["cpu"])
        if "cuda" in own["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["rng"]["cuda"])
    return TrainingState(step=int(str(content["iteration"])) + 1)
