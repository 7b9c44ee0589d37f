"""`sightline train`: a part of a dataset folder to a run folder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import log_to_stderr, note, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sightline.training.hooks import Progress

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
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A dataset folder, or COCO's own layout.")],
    config: Config = "small",
    weights: Weights = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The run folder to make.")] = Path("run"),
    split: Annotated[str, typer.Option("--split", help="Which part to train on.")] = "train",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a detector."""
    from sightline.config.sources import load
    from sightline.config.support import ignored, no_way_back
    from sightline.dataset.folder import open_part, require_sound

    log_to_stderr()
    settings = load(config, all_overrides(overrides, weights))
    for line in ignored(settings):
        note(f"note: ignored {line}")
    for line in no_way_back(settings):
        note(f"note: this run cannot be taken back to Detectron2: {line}")
    part = open_part(data, split)
    require_sound(part)

    from sightline.journey import train as run_train  # brings torch: mistakes above are told without waiting for it

    done = run_train(
        settings, part, output, resuming=resume, device=device, workers=workers, show=progress_display(), where=config
    )
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


def all_overrides(overrides: list[str] | None, weights: str | None) -> list[str]:
    """KEY VALUE pairs, --weights among them.

    Raises:
        ConfigError: an option that does not exist, taken for a key.
    """
    from sightline.errors import ConfigError

    given = list(overrides or [])
    strange = [word for word in given[::2] if word.startswith("--")]
    if strange:
        raise ConfigError(strange[0], "is no option of this command", "See --help; KEY VALUE pairs come without dashes.")
    return given + ([] if weights is None else ["MODEL.WEIGHTS", weights])


def progress_display() -> "Callable[[Progress], None]":
    """A bar on a terminal, Detectron2's lines in a log."""
    from sightline.training.hooks import Bar, log_line

    if sys.stderr.isatty():
        from rich.console import Console

        return Bar(Console(stderr=True))
    return log_line
