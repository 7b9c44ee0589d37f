"""One training from labels to `model_final.pth`, in a run folder that describes itself.

Run folder: config.yaml (Detectron2 loads it), run.json (class names and what it was trained on), metrics.json, log.txt,
model_*.pth, last_checkpoint, model_final.pth.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import sightline
from sightline.config.schema import Config
from sightline.config.yaml_dialect import dump
from sightline.dataset.loader import TrainingSet, default_workers, load_batches, training_images
from sightline.dataset.transforms import Augmentation
from sightline.errors import CheckpointError, ConfigError, RunError
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_checkpoint, state_dict_of
from sightline.model.detector import GeneralizedRCNN
from sightline.records import Dataset
from sightline.storage import write_json, write_text
from sightline.tensors import choose_device
from sightline.training.hooks import Progress, Report, SaveCheckpoints, StopOnBadLoss, log_line
from sightline.training.loop import train
from sightline.training.optimizer import build_clip, build_optimizer
from sightline.training.schedule import lr_factor
from sightline.training.state import FINAL, TrainingState, last_checkpoint, resume, save_checkpoint

LOG = logging.getLogger(__name__)

DEFAULT_CLASSES = Config().model.roi_heads.num_classes


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
    asked, found = config.model.roi_heads.num_classes, len(class_names)
    if asked not in (DEFAULT_CLASSES, found):
        raise ConfigError(
            where,
            f"MODEL.ROI_HEADS.NUM_CLASSES is {asked}, the data set has {found} classes ({', '.join(class_names)})",
            "Leave the key out; it is set from the data set.",
        )
    model = replace(
        config.model,
        roi_heads=replace(config.model.roi_heads, num_classes=found),
        retinanet=replace(config.model.retinanet, num_classes=found),
    )
    return replace(config, model=model)


def with_seed(config: Config) -> Config:
    """`config` with a definite seed: Detectron2's -1 draws one, which the run's config.yaml then tells."""
    return config if config.seed >= 0 else replace(config, seed=int.from_bytes(os.urandom(3), "little"))


def run_training(
    config: Config,
    *,
    dataset: Dataset,
    images: Path,
    output: Path,
    resuming: bool = False,
    device: str = "auto",
    workers: int | None = None,
    show: Callable[[Progress], None] = log_line,
    where: str = "config",
) -> Run:
    """Train on `dataset`, whose pictures lie in `images`, until SOLVER.MAX_ITER.

    resuming: go on from `output`'s last checkpoint, if it has one
    device:   "auto" follows MODEL.DEVICE: the GPU if there is one
    workers:  processes that read pictures; None chooses for this machine

    Raises:
        ConfigError: what is asked is not supported or contradicts the data set.
        CheckpointError: weights that cannot be read or fit nowhere.
        RunError: `output` holds a run already, or the losses are no numbers any more.
    """
    began = time.perf_counter()
    config = with_seed(with_classes(config, dataset.class_names, where))
    last = last_checkpoint(output) if resuming else None
    require_fresh(output, last)
    # The run owns its process: initial weights and the sampling of anchors draw from torch's global generator.
    torch.manual_seed(config.seed)
    model = build_detector(config, where)
    start_from(model, config.model.weights if last is None else "")
    model.to(choose_device(config.model.device if device == "auto" else device))
    solver = config.solver
    optimizer = build_optimizer(model, solver)
    state = TrainingState() if last is None else resume(last, model, optimizer)
    if state.step:
        LOG.info("resumed from %s at step %d", last, state.step)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "config.yaml", dump(config))
    write_json(output / "run.json", describe(dataset, config), indent=1)
    train(
        model,
        load_batches(
            examples(config, dataset, images),
            batch_size=solver.ims_per_batch,
            by_shape=config.dataloader.aspect_ratio_grouping,
            start=state.step,
            workers=default_workers(os.cpu_count() or 1) if workers is None else workers,
        ),
        optimizer=optimizer,
        factor=lr_factor(solver),
        clip=build_clip(solver),
        state=state,
        hooks=(
            StopOnBadLoss(),
            Report(solver.max_iter, optimizer, output / "metrics.json", show, model.device),
            SaveCheckpoints(output, model, optimizer, solver.checkpoint_period, solver.max_iter),
        ),
        steps=solver.max_iter,
    )
    checkpoint = save_checkpoint(output, FINAL, model, optimizer, state)
    return Run(output, checkpoint, dataset.class_names, state.step, time.perf_counter() - began)


def require_fresh(output: Path, last: Path | None) -> None:
    """Nothing, if this run may write into `output`."""
    if last is None and any((output / name).exists() for name in ("metrics.json", "last_checkpoint", FINAL)):
        raise RunError(output, "already holds a run", "Choose another folder, remove this one, or go on with it: --resume.")


def start_from(model: GeneralizedRCNN, weights: str) -> None:
    """Load the weights that training begins from; "" begins from random ones.

    Raises:
        CheckpointError: they are remote, unreadable, or nothing in them fits.
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
    if "://" in weights:
        raise CheckpointError(
            "MODEL.WEIGHTS",
            f"is {weights!r}, and downloading is not supported yet",
            "Give a local .pth file with --weights, or --weights '' to start from random weights.",
        )
    report = load_weights(model, state_dict_of(read_checkpoint(Path(weights)), weights))
    if not report.loaded:
        raise CheckpointError(
            weights, f"shares no tensor with the model ({'; '.join(report.lines())})", "Give weights of this architecture."
        )
    for line in report.lines():
        LOG.info("weights %s: %s", weights, line)


def examples(config: Config, dataset: Dataset, images: Path) -> TrainingSet:
    """The data set as the configuration wants it varied."""
    how = Augmentation(
        min_sizes=config.input.min_size_train,
        max_size=config.input.max_size_train,
        sampling=config.input.min_size_train_sampling,
        flip=config.input.random_flip,
    )
    kept = training_images(dataset.images, keep_empty=not config.dataloader.filter_empty_annotations)
    if len(kept) < len(dataset.images):
        LOG.info(
            "%d of %d pictures without boxes are left out (DATALOADER.FILTER_EMPTY_ANNOTATIONS)",
            len(dataset.images) - len(kept),
            len(dataset.images),
        )
    return TrainingSet(kept, images, how, color_order=config.input.format, seed=config.seed)


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


def class_names_of(run: Path) -> tuple[str, ...] | None:
    """The class names that a run folder tells; None where it is Detectron2's own."""
    path = run / "run.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["class_names"]) if path.is_file() else None
