"""What somebody gives a training on SageMaker: options, data and files, all of it looked at here before anything is sent."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import note
from sightline.cli.dataset import Fractions, GroupBy, repeat_option
from sightline.cli.labels import (
    ClassAttribute,
    Classes,
    ClassName,
    Download,
    Drop,
    DropRejected,
    Format,
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
)

if TYPE_CHECKING:
    from sightline.containers.hyperparameters import Hyperparameters
    from sightline.labels import Imported
    from sightline.records import Dataset

NOT_THERE = {
    "output": "The run is fetched back with the -o of `cloud train`.",
    "resume": "A job goes on by itself; its checkpoints lie on S3.",
    "device": "The container takes what the machine has.",
    "data": "Give --data once.",
    "json": "Give --json once.",
}
"""Options of `sightline train` that the platform decides."""

TEXT_OPTIONS = ("config", "weights")
"""Options that may name a file of this machine, which is sent along."""

DOWNLOAD = "download"
"""The option that acts here alone: the container fetches whatever lies on S3."""


def label_options(
    *,
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
    split_seed: Annotated[int, typer.Option("--split-seed", help="Of the division into parts.")] = 0,
    group_by: GroupBy = None,
) -> None:
    """The options of `sightline run` for label files, to be parsed as they are there."""


def given_options(words: list[str]) -> dict[str, object]:
    """{option or key: value} of a training's words: those of `sightline train`, read by its own parser, and those for labels.

    Raises:
        sightline.cli.mistakes.UsageError: an option that there is not, or a value that it does not take.
        SightlineError: an option that the platform decides; a key without a value.
    """
    from sightline.cli.train import train
    from sightline.errors import SightlineError

    parsers = [typer.Typer(add_completion=False), typer.Typer(add_completion=False)]
    parsers[0].command()(train)
    parsers[1].command()(label_options)
    command, more = map(typer.main.get_command, parsers)
    command.params += [parameter for parameter in more.params if parameter.name != "help"]
    context = command.make_context("sightline cloud train", ["--data", ".", *repeat_option(words, "--fractions")])
    given = {
        parameter.opts[-1].lstrip("-"): context.params[parameter.name]
        for parameter in command.params
        if parameter.name and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    }
    given.pop("data", None)
    keys = list(given.pop("overrides", None) or [])
    for name in NOT_THERE.keys() & given.keys():
        raise SightlineError(f"--{name}", "is decided by the platform", NOT_THERE[name])
    if len(keys) % 2:
        raise SightlineError("KEY VALUE", f"{len(keys)} words are no pairs: {' '.join(keys)}", "Give every key one value.")
    check_keys(str(given["config"]), keys)
    return {**given, **dict(zip(keys[::2], keys[1::2], strict=True))}


def check_keys(config: str, keys: list[str]) -> None:
    """Nothing, if the configuration can be read and knows the keys: told here, not by a machine that costs money."""
    from sightline.config.sources import load

    load(config, keys)


@contextmanager
def files_of(given: Mapping[str, object]) -> "Iterator[tuple[dict[str, str], dict[str, Path]]]":
    """(hyperparameters as texts, {channel: file here to send along}) of what `given_options` found."""
    import tempfile

    from sightline.config.sources import load
    from sightline.config.yaml_dialect import BASE, dump

    texts = texts_of(given)
    files = {name: Path(texts[name]) for name in TEXT_OPTIONS if name in texts and Path(texts[name]).is_file()}
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        if "config" in files and BASE in files["config"].read_text(encoding="utf-8"):
            whole = Path(folder, files["config"].name)  # with its bases, which are not sent along
            whole.write_text(dump(load(texts["config"])), encoding="utf-8")
            files["config"] = whole
        places = {name: f"/opt/ml/input/data/{name}/{path.name}" for name, path in files.items()}
        yield {**texts, **places}, files


def texts_of(given: Mapping[str, object]) -> dict[str, str]:
    """Hyperparameters as the platform takes them, all as text; without what acts here alone."""
    return {name: as_text(value) for name, value in given.items() if value is not None and name != DOWNLOAD}


def as_text(value: object) -> str:
    from enum import Enum

    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return json.dumps(list(value))
    return str(value)


def pictures_here(data: str, images: str, given: Mapping[str, object]) -> int:
    """How many pictures would be trained on, of what is here: a sound data set, or label files with all their pictures.

    0 of data on S3, which is not looked into. given: what `given_options` found

    Raises:
        SightlineError: it is none of the two, faulty, or given with options that are not for it: told before anything is sent.
    """
    from sightline.containers.hyperparameters import parse
    from sightline.dataset.folder import open_part, require_sound
    from sightline.errors import ConfigError, SightlineError
    from sightline.storage import is_remote

    asked, problems = parse(texts_of(given))
    if problems:
        raise ConfigError.collected(problems)
    if is_remote(data):
        return 0
    parts = has_parts(data)
    others = [*(["images"] if images else []), *([DOWNLOAD] if DOWNLOAD in given else []), *asked.for_labels]
    if strange := others if parts else [name for name in ("split", "validate-on", "fold") if name in given]:
        kinds = ("label files", "a data set with its parts")
        what = f"{' and '.join(f'--{name}' for name in strange)}: for {kinds[not parts]}, and this is {kinds[parts]}"
        raise SightlineError(data, what, "Leave out what is not for it.")
    if not parts:
        return require_labels(Path(data), images, asked, download=DOWNLOAD in given)
    part = open_part(data, part_of(given))
    require_sound(part)
    return len(part.dataset.images)


def part_of(given: Mapping[str, object]) -> str:
    """The part of a data set that is trained on."""
    from sightline.cli.train import parts_of_fold

    parts = str(given.get("split", "train")), str(given.get("validate-on", "val"))
    return parts_of_fold(int(str(given["fold"])), *parts)[0] if "fold" in given else parts[0]


def has_parts(data: str) -> bool:
    """Whether a folder here is a data set; label files are none yet, and the container divides them."""
    from sightline.dataset.folder import parts_of

    path = Path(data)
    return not path.exists() or (path.is_dir() and any(True for _ in parts_of(path)))


def require_labels(given: Path, images: str, asked: "Hyperparameters", *, download: bool) -> int:
    """How many pictures will be trained on, of label files that can be read and divided, and whose pictures are all there.

    They are on S3, in `images`, or in the folder `given`.

    Raises:
        DatasetError, LabelError: all that is wrong.
    """
    from sightline import labels
    from sightline.cloud.jobs import DATA_CHANNEL
    from sightline.containers.channels import label_files
    from sightline.containers.opt_ml import Channel
    from sightline.errors import DatasetError
    from sightline.storage import is_remote

    try:
        files = [given] if given.is_file() else label_files(Channel(DATA_CHANNEL, given))
    except DatasetError as error:
        raise DatasetError(given, error.what, error.fix) from error
    folder = Path(images) if images and not is_remote(images) else None if given.is_file() else given
    options = replace(asked.reading, images=folder, download=download)
    read = labels.read_with(files, options, format=asked.format, on_problem="skip" if asked.on_problem == "skip" else "error")
    for line in read.report.skipped:
        note(f"note: left out: {line}")
    if not is_remote(images):
        require_pictures(given, folder, read, skip=asked.on_problem == "skip")
    return divided(read.dataset, folder, asked)


def require_pictures(given: Path, folder: Path | None, read: "Imported", *, skip: bool) -> None:
    """Nothing, if every picture is at an s3:// address or in the folder. skip: those that are not are told only.

    Raises:
        DatasetError: all that are not.
    """
    from sightline.dataset.pictures import locate
    from sightline.errors import DatasetError
    from sightline.storage import is_remote

    others = [one for one in read.dataset.images if one.file_name not in read.pictures and not is_remote(one.source)]
    if not others:
        return
    if folder is None:
        what = f"names {len(others):,} pictures that are not on S3, and it is sent alone"
        raise DatasetError(given, what, "Name their folder with --images.")
    problems = list(locate(others, [folder]).problems.values())
    if problems and not skip:
        raise DatasetError.collected(problems)
    for line in problems:
        note(f"note: left out: {line}")


def divided(dataset: "Dataset", folder: Path | None, asked: "Hyperparameters") -> int:
    """How many pictures the part `train` gets where the container divides them.

    Raises:
        DatasetError: they cannot be divided so.
    """
    from sightline.containers.channels import TRAIN, shares_of
    from sightline.dataset.groups import NEAR_DUPLICATES, group_images
    from sightline.dataset.split import split

    rules = [rule for rule in asked.group_by if rule != NEAR_DUPLICATES]  # for that the container looks at all pictures
    grouped = group_images(dataset, rules, folder) if rules else dataset
    return len(split(grouped, shares_of(asked), seed=asked.split_seed)[TRAIN].images)
