"""`sightline tune`: a declared space to a study folder, and the configuration of its best trial."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.train import Config, Device, Overrides, Weights, Workers, all_overrides, validation_part


def tune(
    overrides: Overrides = None,
    *,
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="A dataset folder, or COCO's own layout.")],
    space: Annotated[
        str, typer.Option("--space", metavar="SPACE.yaml", help="Keys and options, each with its range or choices.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="STUDY", parser=here, help="The study's folder; one there goes on.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Of the whole study, those of earlier calls included.")] = 20,
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="No trial begins after this.")] = None,
    config: Config = "small",
    weights: Weights = None,
    split: Annotated[str, typer.Option("--split", help="Which part to train on.")] = "train",
    validate_on: Annotated[str, typer.Option(metavar="PART", help="Which part trials are compared on.")] = "val",
    metric: Annotated[str, typer.Option(help="What is searched for: bbox/AP, bbox/AP50, segm/AP, val_loss, ...")] = "bbox/AP",
    epochs: Annotated[float | None, typer.Option(help="Of every trial, instead of SOLVER.MAX_ITER.")] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="Of every trial, where TEST.EVAL_PERIOD says nothing.")] = 4,
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="End trials that are worse than most on their way.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the search; and of the trainings where SEED is -1.")] = 0,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Search for good settings: each trial a normal run. The same command goes on with a study that was stopped."""
    from sightline.config.sources import load
    from sightline.dataset.folder import open_part, require_sound
    from sightline.optional import require
    from sightline.storage import local_path
    from sightline.training.settings import Settings

    log_to_stderr()
    keys = all_overrides(overrides, weights)
    settings = load(config, keys)
    part = open_part(data, split)
    require_sound(part)
    require("optuna", "tune", "sightline tune")

    from sightline.training.asked import Asked
    from sightline.tuning.outcome import table
    from sightline.tuning.tune import tune as run_search  # brings torch: mistakes above are told without waiting for it

    found = run_search(
        settings,
        part,
        local_path(space, "A search space"),
        output,
        validation=validation_part(data, validate_on),
        trials=trials,
        time_limit_s=time_limit,
        evaluations=evaluations,
        prune=prune,
        seed=seed,
        settings=Settings(keep=1, metric=metric),
        asked=Asked(epochs=epochs),
        fixed=keys[::2],
        device=device,
        workers=workers,
        say=note,
        where=config,
    )
    command = ["sightline", "train", "--data", str(data), *([] if split == "train" else ["--split", split]), *found.words()]
    told = f"Train with the best settings:\n  {shlex.join([*command, '-o', 'run'])}"
    show(f"{table(found)}\n\n{told}", as_json, {**found.as_dict(), "command": [*command, "-o", "run"]})
