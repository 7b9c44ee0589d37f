"""`sightline run` and `sightline demo`: the whole journey on this machine."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.dataset import Fractions, GroupBy
from sightline.cli.labels import (
    ClassAttribute,
    Classes,
    ClassName,
    Download,
    Drop,
    DropRejected,
    Format,
    Images,
    LabelAttribute,
    MinConfidence,
    OnDuplicate,
    OnDuplicateChoice,
    OnProblem,
    OnProblemChoice,
    Rejected,
    Rename,
    SamePicture,
    SamePictureChoice,
    VocOrigin,
    read_options,
)
from sightline.cli.mistakes import UnknownOptionError
from sightline.cli.train import Config, Device, Weights, Workers, all_overrides, progress_display


def run(
    sources: Annotated[
        list[str], typer.Argument(metavar="LABELS... [KEY VALUE]...", help="Label files, then Detectron2 keys.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="WORK", parser=here, help="The folder for everything that is made.")
    ],
    images: Images = None,
    download: Download = False,
    format: Format = None,
    label_attribute: LabelAttribute = None,
    drop_rejected: DropRejected = False,
    rejected: Rejected = None,
    min_confidence: MinConfidence = None,
    class_attribute: ClassAttribute = None,
    class_name: ClassName = None,
    voc_origin: VocOrigin = 1,
    classes: Classes = None,
    rename: Rename = None,
    drop: Drop = None,
    on_duplicate: OnDuplicate = OnDuplicateChoice.error,
    same_picture: SamePicture = SamePictureChoice.address,
    on_problem: OnProblem = OnProblemChoice.error,
    fractions: Fractions = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split. SEED N is the training's.")] = 0,
    group_by: GroupBy = None,
    config: Config = "small",
    weights: Weights = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Labels to bundle: import, split, train, evaluate, pack. What is done and still valid is skipped."""
    from sightline.dataset.split import FRACTIONS, parse_fractions
    from sightline.journey import run as run_journey

    log_to_stderr()
    files, keys = labels_and_keys(sources)
    reading = read_options(
        images=None,
        label_attribute=label_attribute,
        drop_rejected=drop_rejected,
        rejected=rejected,
        min_confidence=min_confidence,
        class_attribute=class_attribute,
        class_name=class_name,
        voc_origin=voc_origin,
        classes=classes,
        rename=rename,
        drop=drop,
        on_duplicate=on_duplicate,
        same_picture=same_picture,
        download=download,
    )
    done = run_journey(
        files,
        output,
        images=images,
        download=download,
        format=format,
        reading=reading,
        on_problem=on_problem.value,
        fractions=parse_fractions(fractions) if fractions else FRACTIONS,
        split_seed=seed,
        group_by=group_by,
        config=config,
        overrides=all_overrides(keys, weights),
        device=device,
        workers=workers,
        say=note,
        show=progress_display(),
    )
    show(str(done.bundle), as_json, done.as_dict())


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="WORK", parser=here, help="The folder for everything that is made.")
    ] = Path("demo"),
    *,
    pictures: Annotated[int, typer.Option(min=20, help="How many to draw; a fifth is held out.")] = 600,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. Default: the preset's.")] = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """The whole journey on a small labelled set that it draws itself, ending with an answer over HTTP."""
    from sightline.journey import demo as run_demo

    log_to_stderr()
    logging.getLogger("sightline.serving").setLevel(logging.WARNING)  # its two requests are not what the demo shows
    done = run_demo(
        output,
        pictures=pictures,
        overrides=[] if steps is None else ["SOLVER.MAX_ITER", str(steps)],
        device=device,
        workers=workers,
        say=note,
        show=progress_display(),
    )
    show(str(done.bundle), as_json, done.as_dict())


def labels_and_keys(words: list[str]) -> tuple[list[str], list[str]]:
    """(label files, KEY VALUE words) of one list: keys begin where a word is a section of the configuration.

    Raises:
        UnknownOptionError: an option that does not exist, taken for a file.
    """
    from sightline.config.yaml_dialect import looks_like_key

    first = next((index for index, word in enumerate(words) if index and looks_like_key(word)), len(words))
    if strange := [word for word in words[:first] if word.startswith("--")]:
        raise UnknownOptionError(strange[0])
    return words[:first], words[first:]
