"""What people ask for in their own words (epochs, batch size, image size) as Detectron2's keys, and what follows from it.

Everything decided here stands in the run's config.yaml, and each decision is said in a line.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sightline.config.schema import Config, Solver
from sightline.errors import ConfigError, Problem

WARMUP_SHARE = 0.1
"""Of a run, what a warm-up may take at most when the run is made shorter."""

Said = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options of `sightline train`; None leaves the configuration as it is.

    epochs:        passes over the training pictures
    batch_size:    pictures a step, of all processes together; the learning rate follows in proportion
    learning_rate: SOLVER.BASE_LR, and nothing follows
    image_size:    pixels of the shorter side, in training and prediction; the longer side's limit keeps its ratio
    seed:          of weights, order and augmentation
    patience:      evaluations without a better one; without TEST.EVAL_PERIOD there is one an epoch
    """

    epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    image_size: int | None = None
    seed: int | None = None
    patience: int | None = None


NOTHING = Asked()


def decided(config: Config, asked: Asked, pictures: int) -> tuple[Config, Said]:
    """(`config` with everything that was asked for, a line for each decision). pictures: that are learned from.

    Raises:
        ConfigError: numbers that cannot be.
    """
    problems = [
        (option, value)
        for option, value in (
            ("--epochs", asked.epochs),
            ("--batch-size", asked.batch_size),
            ("--learning-rate", asked.learning_rate),
            ("--image-size", asked.image_size),
        )
        if value is not None and not (value > 0 and math.isfinite(value))
    ]
    if problems:
        raise ConfigError.collected([Problem(option, f"is {value}", "Give a number above 0.") for option, value in problems])
    said: Said = []
    solver = config.solver
    if asked.batch_size is not None:
        solver = with_batch(solver, asked, said)
    if asked.learning_rate is not None:
        solver = replace(solver, base_lr=asked.learning_rate)
    if asked.epochs is not None:
        solver = with_length(solver, max(1, math.ceil(asked.epochs * pictures / solver.ims_per_batch)))
        said.append(f"{asked.epochs:g} epochs of {pictures} pictures are {solver.max_iter} steps of {solver.ims_per_batch}")
    config = replace(config, solver=solver)
    if asked.image_size is not None:
        config = with_image_size(config, asked.image_size)
    if asked.seed is not None:
        config = replace(config, seed=asked.seed)
    if asked.patience and config.test.eval_period <= 0:
        period = max(1, math.ceil(pictures / solver.ims_per_batch))
        config = replace(config, test=replace(config.test, eval_period=period))
        said.append(f"for --patience the detector is measured once an epoch, every {period} steps (TEST.EVAL_PERIOD)")
    return config, said


def with_batch(solver: Solver, asked: Asked, said: Said) -> Solver:
    """Another batch size; the rate in proportion (arXiv:1706.02677), unless it was asked for, too."""
    size = asked.batch_size or solver.ims_per_batch
    rate = solver.base_lr * size / solver.ims_per_batch
    if asked.learning_rate is None and size != solver.ims_per_batch:
        said.append(
            f"batches of {size} instead of {solver.ims_per_batch}: SOLVER.BASE_LR is {rate:g} instead of {solver.base_lr:g}"
        )
    return replace(solver, ims_per_batch=size, base_lr=rate)


def with_length(solver: Solver, steps: int) -> Solver:
    """A run of that many steps: milestones move along, and a warm-up takes at most a tenth of it."""
    share = steps / solver.max_iter
    return replace(
        solver,
        max_iter=steps,
        steps=tuple(max(1, round(step * share)) for step in solver.steps),
        warmup_iters=min(solver.warmup_iters, int(steps * WARMUP_SHARE)),
    )


def with_image_size(config: Config, size: int) -> Config:
    """Pictures of that size; the limits of the longer side keep their ratio to the shorter's."""
    options = config.input
    train = max(options.min_size_train, default=0)
    return replace(
        config,
        input=replace(
            options,
            min_size_train=(size,),
            max_size_train=round(options.max_size_train * size / train) if train else options.max_size_train,
            min_size_train_sampling="choice",
            min_size_test=size,
            max_size_test=round(options.max_size_test * size / options.min_size_test)
            if options.min_size_test
            else options.max_size_test,
        ),
    )


def scaled(config: Config, processes: int) -> tuple[Config, Said]:
    """`config` for another number of processes than SOLVER.REFERENCE_WORLD_SIZE, as Detectron2's auto_scale_workers does.

    Raises:
        ConfigError: the batch cannot be divided among the processes that it was made for.
    """
    solver, reference = config.solver, config.solver.reference_world_size
    if reference in (0, processes):
        return config, []
    if reference < 0 or solver.ims_per_batch % reference:
        raise ConfigError(
            "SOLVER.REFERENCE_WORLD_SIZE",
            f"is {reference}, and SOLVER.IMS_PER_BATCH is {solver.ims_per_batch}",
            "Give a number of processes that divides the batch.",
        )
    scale = processes / reference
    changed = replace(
        solver,
        ims_per_batch=round(solver.ims_per_batch * scale),
        base_lr=solver.base_lr * scale,
        max_iter=max(1, round(solver.max_iter / scale)),
        warmup_iters=round(solver.warmup_iters / scale),
        steps=tuple(round(step / scale) for step in solver.steps),
        checkpoint_period=round(solver.checkpoint_period / scale),
        reference_world_size=processes,
    )
    test = replace(config.test, eval_period=round(config.test.eval_period / scale))
    said = [
        f"made for {reference} processes, running on {processes}: batch {changed.ims_per_batch}, BASE_LR {changed.base_lr:g}, "
        f"MAX_ITER {changed.max_iter}, STEPS {list(changed.steps)}, WARMUP_ITERS {changed.warmup_iters}"
    ]
    return replace(config, solver=changed, test=test), said


ZOO_BATCH, ZOO_RATES = 16, {"RetinaNet": 0.01}
"""What Detectron2's zoo was trained with; 0.02 is every other architecture's rate."""


def doubts(config: Config) -> Iterator[str]:
    """A sentence when batch and learning rate do not fit each other, for fine-tuning with the zoo's recipe."""
    solver = config.solver
    zoo = ZOO_RATES.get(config.model.meta_architecture, 0.02)
    fitting = zoo * solver.ims_per_batch / ZOO_BATCH
    if config.model.resnets.norm == "FrozenBN" and solver.base_lr > 2.5 * fitting:
        yield (
            f"SOLVER.BASE_LR is {solver.base_lr:g} for batches of {solver.ims_per_batch}; Detectron2's recipes would take "
            f"{fitting:g} ({zoo:g} for {ZOO_BATCH}). If losses are no numbers, lower it: --learning-rate {fitting:g}"
        )
