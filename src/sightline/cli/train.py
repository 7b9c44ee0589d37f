"""`sightline train`: a part of a dataset folder to a run folder."""

import logging
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.mistakes import UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sightline.dataset.folder import DatasetPart
    from sightline.training.hooks import Progress


class BadPicture(Enum):
    """What an unreadable picture does."""

    stop = "stop"
    skip = "skip"


class Kind(Enum):
    """What is computed in."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help="Detectron2 keys, e.g. SOLVER.MAX_ITER 1000")
]
Config = Annotated[str, typer.Option("--config", metavar="NAME|FILE", help="A preset, a model zoo name, or a YAML file.")]
Weights = Annotated[str | None, typer.Option("--weights", metavar="W", help="A .pth to start from; '' for random weights.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[int | None, typer.Option("--workers", min=0, help="Processes that read pictures. Default: chosen.")]


def train(
    overrides: Overrides = None,
    *,
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="A dataset folder, or COCO's own layout; also s3://.")],
    config: Config = "small",
    weights: Weights = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", parser=here, help="The run folder to make.")] = Path(
        "run"
    ),
    split: Annotated[str, typer.Option("--split", help="Which part to train on.")] = "train",
    validate_on: Annotated[str, typer.Option(metavar="PART", help="Which part TEST.EVAL_PERIOD measures on.")] = "val",
    fold: Annotated[
        int | None, typer.Option("--fold", metavar="N", min=1, help="Train and measure on a fold that `dataset split` made.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the pictures, instead of SOLVER.MAX_ITER.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures a step, of all processes together; the rate follows.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="SOLVER.BASE_LR.")] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Pixels of the shorter side.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, order and augmentation.")] = None,
    patience: Annotated[int, typer.Option(min=0, help="Evaluations without a better one before the end; 0: never.")] = 0,
    metric: Annotated[str, typer.Option(help="What is best: bbox/AP, bbox/AP50, segm/AP, val_loss, ...")] = "bbox/AP",
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="Save and end after this.")] = None,
    keep: Annotated[int, typer.Option(min=0, help="Checkpoints of the way that are kept; 0: all.")] = 3,
    on_bad_picture: Annotated[BadPicture, typer.Option(help="What an unreadable picture does.")] = BadPicture.stop,
    precision: Annotated[Kind | None, typer.Option(help="Mixed precision, instead of SOLVER.AMP.ENABLED.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Parts in which a batch passes through the model.")] = 1,
    ema: Annotated[float, typer.Option(min=0, max=0.99999, help="Decay of the running mean of the weights; 0: none.")] = 0.0,
    recompute: Annotated[bool, typer.Option("--recompute", help="Less memory: activations are computed twice.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the backbone.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Memory layout, faster on new GPUs.")] = False,
    colour: Annotated[float, typer.Option(min=0, max=1, help="Strength of colour jitter.")] = 0.0,
    rotate: Annotated[bool, typer.Option("--rotate", help="Turn pictures by multiples of 90 degrees.")] = False,
    scale_jitter: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Factors on the size of pictures.")
    ] = None,
    mosaic: Annotated[float, typer.Option(min=0, max=1, help="Probability of a mosaic of four pictures.")] = 0.0,
    class_weights: Annotated[str | None, typer.Option(metavar="NAME=W,...", help="Factors on the classification loss.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events into RUN.")] = False,
    mlflow: Annotated[str, typer.Option(metavar="ADDRESS", help="MLflow tracking address or folder.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a detector; under torchrun, with all its processes."""
    from sightline.config.sources import base_of, load
    from sightline.config.support import ignored, no_way_back
    from sightline.dataset.folder import open_part, require_sound
    from sightline.training.settings import Settings

    log_to_stderr()
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    speaks = rank == 0
    if not speaks:  # torchrun's other processes: what they warn of, and nothing that the first one says as well
        logging.getLogger("sightline").setLevel(logging.WARNING)
    amp = [] if precision is None else ["SOLVER.AMP.ENABLED", str(precision is not Kind.fp32)]
    settings = load(config, [*all_overrides(overrides, weights), *amp])
    lines = [f"ignored {line}" for line in ignored(settings, base_of(config))]
    lines += [f"this run cannot be taken back to Detectron2: {line}" for line in no_way_back(settings)]
    if fold is not None:
        split, validate_on = parts_of_fold(fold, split, validate_on)
    part = open_part(data, split)
    require_sound(part, share=rank, shares=processes)  # all of them together look at every picture once
    measures = settings.test.eval_period > 0 or patience > 0 or validate_on != "val"
    validation = validation_part(data, validate_on) if measures else None
    for line in lines if speaks else []:  # only now: a mistake is told alone
        note(f"note: {line}")

    from sightline.journey import train as run_train  # brings torch: mistakes above are told without waiting for it
    from sightline.training.asked import Asked

    done = run_train(
        settings,
        part,
        output,
        validation=validation,
        settings=Settings(
            keep=keep,
            metric=metric,
            patience=patience,
            time_limit_s=time_limit,
            on_bad_picture=on_bad_picture.value,
            precision=precision.value if precision in (Kind.bf16, Kind.fp16) else "auto",
            accumulate=accumulate,
            ema=ema,
            recompute=recompute,
            compile=compile,
            channels_last=channels_last,
            colour=colour,
            rotate=rotate,
            scale_jitter=scale_jitter,
            mosaic=mosaic,
            class_weights=weights_by_class(class_weights, part.dataset.class_names),
            tensorboard=tensorboard,
            mlflow=mlflow,
        ),
        asked=Asked(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            image_size=image_size,
            seed=seed,
            patience=patience,
        ),
        resuming=resume,
        device=device,
        workers=workers,
        show=progress_display(),
        where=config,
    )
    if not speaks:
        return
    show(
        f"{done.checkpoint}: {done.steps:,} steps, classes {', '.join(done.class_names)}  ({done.seconds:.0f} s)",
        as_json,
        {
            "checkpoint": str(done.checkpoint),
            "steps": done.steps,
            "class_names": list(done.class_names),
            "seconds": done.seconds,
        },
    )


def parts_of_fold(fold: int, split: str, validate_on: str) -> tuple[str, str]:
    """The parts that a fold trains and measures on.

    Raises:
        ConfigError: other parts were asked for, too.
    """
    from sightline.dataset.folds import TRAIN, VAL, fold_part
    from sightline.errors import ConfigError

    if (split, validate_on) != ("train", "val"):
        raise ConfigError("--fold", "names the parts that --split and --validate-on name, too", "Give one or the other.")
    return fold_part(fold, TRAIN), fold_part(fold, VAL)


def validation_part(data: str, name: str) -> "DatasetPart | None":
    """The part that is measured on; None where a data set has none of the usual name.

    Raises:
        DatasetError: a part of another name was asked for, and is not there.
    """
    from sightline.dataset.folder import open_part, require_sound
    from sightline.errors import DatasetError

    try:
        part = open_part(data, name)
    except DatasetError:
        if name == "val":
            return None
        raise
    require_sound(part)
    return part


def weights_by_class(text: str | None, class_names: "Sequence[str]") -> tuple[float, ...]:
    """`dog=2,cat=0.5` -> one factor a class, 1 where none is given; empty without text.

    Raises:
        ConfigError: a name that is no class, or a factor that is no number above 0.
    """
    from sightline.errors import ConfigError, nearest

    if not text:
        return ()
    found = dict.fromkeys(class_names, 1.0)
    for entry in text.split(","):
        name, _, value = entry.rpartition("=")
        if name not in found:
            raise ConfigError("--class-weights", f"names {name!r}", nearest(name, list(class_names)))
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1.0
        if not 0 < found[name] < float("inf"):
            raise ConfigError("--class-weights", f"gives {name!r} the factor {value!r}", "Give a number above 0.")
    return tuple(found.values())


def all_overrides(overrides: list[str] | None, weights: str | None) -> list[str]:
    """KEY VALUE pairs, --weights among them.

    Raises:
        UnknownOptionError: one that does not exist, taken for a key.
    """
    given = list(overrides or [])
    strange = [word for word in given[::2] if word.startswith("--")]
    if strange:
        raise UnknownOptionError(strange[0])
    return given + ([] if weights is None else ["MODEL.WEIGHTS", weights])


def progress_display() -> "Callable[[Progress], None]":
    """A bar on a terminal, Detectron2's lines in a log."""
    from sightline.training.hooks import Bar, log_line

    if sys.stderr.isatty():
        from rich.console import Console

        return Bar(Console(stderr=True))
    return log_line
