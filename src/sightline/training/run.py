"""One training from labels to `model_final.pth`, in a run folder that describes itself.

Run folder: config.yaml (Detectron2 loads it), run.json (class names and what it was trained on), metrics.json,
model_*.pth, last_checkpoint, model_final.pth.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import sightline
from sightline.config.architecture import class_count, class_count_key, proposes_only, with_class_count
from sightline.config.schema import Config
from sightline.config.yaml_dialect import dump
from sightline.dataset.loader import default_workers, load_batches
from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import CheckpointError, ConfigError, SightlineError
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_weights
from sightline.model.detector import Detector
from sightline.model.families import family_of
from sightline.records import Dataset
from sightline.storage import write_json, write_text
from sightline.tensors import choose_device
from sightline.training.examples import examples
from sightline.training.hooks import Progress, Report, SaveCheckpoints, StopOnBadLoss, log_line
from sightline.training.loop import train
from sightline.training.optimizer import build_clip, build_optimizer
from sightline.training.schedule import lr_factor
from sightline.training.state import FINAL, LAST, TrainingState, last_checkpoint, resume, save_checkpoint

LOG = logging.getLogger(__name__)

METRICS, RUN = "metrics.json", "run.json"

DEFAULT_CLASSES = class_count(Config())


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training. seconds: of this call, without what was done before a resume."""

    folder: Path
    checkpoint: Path
    class_names: tuple[str, ...]
    steps: int
    seconds: float


def with_classes(config: Config, class_names: Sequence[str], where: str) -> Config:
    """`config` for these classes: NUM_CLASSES is what the data set has, not what somebody counted.

    Raises:
        ConfigError: the configuration says another number (other than Detectron2's default, which says nothing).
    """
    asked, found = class_count(config), len(class_names)
    if not proposes_only(config) and asked not in (DEFAULT_CLASSES, found):
        raise ConfigError(
            where,
            f"{class_count_key(config)} is {asked}, the data set has {found} classes ({', '.join(class_names)})",
            "Leave the key out; it is set from the data set.",
        )
    return with_class_count(config, found)


def with_seed(config: Config, begun: Mapping[str, object]) -> Config:
    """`config` with a definite seed: Detectron2's -1 draws one, which run.json then tells. begun: run.json of a resumed run."""
    if config.seed >= 0:
        return config
    recorded = begun.get("seed")
    return replace(config, seed=recorded if isinstance(recorded, int) else int.from_bytes(os.urandom(3), "little"))


def run_training(
    config: Config,
    *,
    dataset: Dataset,
    images: Path,
    output: Path,
    resuming: bool = False,
    device: str = "auto",
    workers: int | None = None,
    cache: Path | None = None,
    show: Callable[[Progress], None] = log_line,
    where: str = "config",
) -> Run:
    """Train on `dataset`, whose pictures lie in `images`, until SOLVER.MAX_ITER.

    resuming: go on from `output`'s last checkpoint; a run that was killed before its first begins again
    device:   "auto" follows MODEL.DEVICE: the GPU if there is one
    workers:  processes that read pictures; None chooses for this machine
    cache:    where downloaded weights are kept; None: SIGHTLINE_CACHE, else the user's cache folder

    Raises:
        ConfigError: what is asked is not supported or contradicts the data set.
        CheckpointError: weights that cannot be read or fit nowhere.
        SightlineError: `output` holds a run already, or one of other classes.
        RunError: the losses are no numbers any more.
    """
    began = time.perf_counter()
    last = last_checkpoint(output) if resuming else None
    begun = read_run(output) if last is not None else {}
    require_fresh(output, resuming)
    require_same_classes(output, begun, dataset.class_names)
    config = with_seed(with_classes(config, dataset.class_names, where), begun)
    training_set = examples(config, dataset, images, where)
    # The run owns its process: initial weights and the sampling of anchors draw from torch's global generator.
    torch.manual_seed(config.seed)
    model = build_detector(config, where)
    if last is None:
        start_from(model, config.model.weights, cache_folder(os.environ) if cache is None else cache)
    model.to(choose_device(device, config.model.device))
    solver = config.solver
    optimizer, factor = build_optimizer(model, solver), lr_factor(solver)
    state = TrainingState() if last is None else resume(last, model, optimizer)
    if state.step:
        LOG.info("resumed from %s at step %d", last, state.step)
    output.mkdir(parents=True, exist_ok=True)
    if last is None:
        (output / METRICS).unlink(missing_ok=True)  # of a run killed before its first checkpoint
    write_text(output / "config.yaml", dump(config))
    write_json(output / RUN, describe(dataset, config), indent=1)
    train(
        model,
        load_batches(
            training_set,
            batch_size=solver.ims_per_batch,
            by_shape=config.dataloader.aspect_ratio_grouping,
            start=state.step,
            workers=default_workers(os.cpu_count() or 1) if workers is None else workers,
        ),
        optimizer=optimizer,
        factor=factor,
        clip=build_clip(solver),
        state=state,
        hooks=(
            StopOnBadLoss(),
            Report(solver.max_iter, optimizer, output / METRICS, show, model.device),
            SaveCheckpoints(output, model, optimizer, factor, solver.checkpoint_period, solver.max_iter),
        ),
        steps=solver.max_iter,
    )
    checkpoint = save_checkpoint(output, FINAL, model, optimizer, state, next_factor=factor(state.step))
    return Run(output, checkpoint, dataset.class_names, state.step, time.perf_counter() - began)


def require_fresh(output: Path, resuming: bool) -> None:
    """Nothing, if this run may write into `output`."""
    if not resuming and any((output / name).exists() for name in (METRICS, LAST, FINAL)):
        raise SightlineError(
            output, "already holds a run", "Choose another folder, remove this one, or go on with it: --resume."
        )
    if resuming and (output / FINAL).exists() and not (output / LAST).exists():
        raise SightlineError(output, f"holds a {FINAL}, but no {LAST} to go on from", "Start from it with --weights.")


def read_run(output: Path) -> dict[str, object]:
    """run.json's content; empty where there is none (Detectron2's own folders) or where it is damaged."""
    try:
        content = json.loads((output / RUN).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def require_same_classes(output: Path, begun: Mapping[str, object], class_names: Sequence[str]) -> None:
    """Nothing, if a resumed run knew these classes in this order (or does not tell)."""
    before = begun.get("class_names", list(class_names))
    if before != list(class_names):
        raise SightlineError(
            output / RUN, f"says classes {before}, the data set has {list(class_names)}", "Train into another folder."
        )


def start_from(model: Detector, weights: str, cache: Path) -> None:
    """Load the weights that training begins from: a file, or an address that is fetched into `cache`; "" is random ones.

    Raises:
        CheckpointError: they are unreadable, or nothing in them fits.
        RunError: they cannot be downloaded.
    """
    if not weights:
        frozen = sum(not parameter.requires_grad for parameter in model.parameters())
        if frozen:
            LOG.warning(
                "warning: training starts from random weights, and %d tensors of the backbone are frozen and will stay random. "
                "Give --weights, or set MODEL.BACKBONE.FREEZE_AT 0 and MODEL.RESNETS.NORM BN.",
                frozen,
            )
        return
    path = fetch(weights, cache) if is_address(weights) else Path(weights)
    own = model.state_dict()
    tensors = read_weights(path, own)
    report = load_weights(model, tensors)
    if not report.loaded:
        raise CheckpointError(
            weights,
            f"shares no tensor with the model (it looks like {family_of(tensors)}, the model is {family_of(own)})",
            "Give weights of this architecture.",
        )
    for line in report.lines():
        LOG.info("weights %s: %s", weights, line)


def describe(dataset: Dataset, config: Config) -> dict[str, object]:
    """run.json: what Detectron2's config cannot hold."""
    return {
        "format": 1,
        "class_names": list(dataset.class_names),
        "images": len(dataset.images),
        "boxes": dataset.instance_count,
        "steps": config.solver.max_iter,
        "batch_size": config.solver.ims_per_batch,
        "seed": config.seed,
        "versions": {"sightline": sightline.__version__, "torch": torch.__version__},
    }
