"""The channels of a job to one data set with parts, as `sightline train --data` takes it.

A data channel holds a dataset folder, COCO's own layout, `train.json` + `train/`, or label files (a Ground Truth manifest, or
any other known format) with their pictures beside them, in a channel `images`, or at the s3:// addresses that they give.
Channels may be mounted read-only and lazily (FastFile): nothing is written there, and folders that have parts are used where
they are. What has to be made lies in a folder of its own and refers to the pictures by name.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from sightline import coco, labels
from sightline.containers.hyperparameters import Hyperparameters
from sightline.containers.opt_ml import Channel
from sightline.dataset.folder import ALL, DatasetPart, annotations_file, create, open_part, parts_of
from sightline.dataset.pictures import places
from sightline.dataset.split import FRACTIONS, parse_fractions, write_split
from sightline.errors import DatasetError, LabelError, OnProblem, Problem
from sightline.records import Dataset

LOG = logging.getLogger(__name__)

TRAIN, VAL, TEST = "train", "val", "test"

ROLES = {
    "train": TRAIN,
    "training": TRAIN,
    "dataset": TRAIN,
    "data": TRAIN,
    "validation": VAL,
    "valid": VAL,
    "val": VAL,
    "test": TEST,
    "testing": TEST,
    "model": "weights",
    "weights": "weights",
    "pretrained": "weights",
    "images": "images",
    "pictures": "images",
    "config": "config",
}
"""What a channel's name says of it. Others are left alone, unless there is only one and nothing to train on."""

FOREIGN = ("code", "sm_drivers")
"""Channels that AWS's SDK adds for itself."""

PARTS = {TRAIN: (TRAIN, "training", ALL), VAL: (VAL, "validation", "valid", TEST, ALL), TEST: (TEST, "testing", VAL, ALL)}
"""Which part of a data set a channel means, the first that is there; the only one, whatever its name."""

LABEL_FILES = ("*.manifest", "*.json", "*.jsonl", "*.csv")
"""Where labels are looked for, in this order; then manifests in folders, and folder formats (Pascal VOC, YOLO) as a whole."""

WEIGHTS = ("model.pth", "model_best.pth", "model_final.pth", "*.pth", "*.pkl")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training takes. validation: the part that is measured on the way; evaluated: that the finished model is."""

    data: Path
    train: str
    validation: str | None
    evaluated: str | None


def by_role(channels: Mapping[str, Channel], hosts: int) -> dict[str, Channel]:
    """{role: its channel}.

    Raises:
        DatasetError: everything that is wrong with the channels, at once.
    """
    found: dict[str, Channel] = {}
    others: list[Channel] = []
    problems: list[Problem] = []
    for channel in channels.values():
        role = ROLES.get(channel.name.lower())
        where = f"channel {channel.name!r}"
        if role in found:
            problems.append(Problem(where, f"is for the same as channel {found[role].name!r}", "Leave one out."))
        elif role is not None:
            found[role] = channel
            problems += wrong_with(channel, hosts)
        elif channel.name not in FOREIGN:
            others.append(channel)
    if TRAIN not in found and len(others) == 1:
        found[TRAIN] = others.pop()
        problems += wrong_with(found[TRAIN], hosts)
    if TRAIN not in found:
        names = ", ".join(channels) or "none"
        problems.append(Problem("channels", f"are {names}, and none is for training", "Name one 'train'."))
    if problems:
        raise DatasetError.collected(problems)
    for channel in others:
        LOG.info("channel %s is left alone: its name is none of %s", channel.name, ", ".join(ROLES))
    return found


def wrong_with(channel: Channel, hosts: int) -> list[Problem]:
    """Why a channel cannot be used."""
    where, found = f"channel {channel.name!r}", []
    if channel.mode == "Pipe":
        found.append(Problem(where, "is in Pipe mode, which gives no files", "Use File or FastFile mode."))
    elif not channel.folder.is_dir() or not any(channel.folder.iterdir()):
        what = "is empty" if channel.folder.is_dir() else "is not there"
        found.append(Problem(where, f"{what} ({channel.folder})", "Check its S3 prefix; for FastFile it ends in a slash."))
    if channel.sharded and hosts > 1:
        fix = "Use FullyReplicated: the hosts divide the pictures themselves."
        found.append(Problem(where, "is divided among the hosts (ShardedByS3Key)", fix))
    return found


def prepare(roles: Mapping[str, Channel], asked: Hyperparameters, work: Path) -> Prepared:
    """The data set of a job, in place where it has its parts, else in `work`.

    Raises:
        DatasetError, LabelError: what is wrong with it.
    """
    train, val, test = (roles.get(role) for role in (TRAIN, VAL, TEST))
    train = cast(Channel, train)  # `by_role` has seen to it
    names = part_names(train.folder)
    wanted = str(asked.options.get("split") or "")
    if val is None and test is None and (TRAIN in names or wanted or "fold" in asked.options):
        require_divided(train, asked)
        return in_place(train, names, asked)
    given = {role: channel for role, channel in ((TRAIN, train), (VAL, val), (TEST, test)) if channel is not None}
    parts = {role: part_in(channel, role, roles, asked, work) for role, channel in given.items()}
    if len(parts) == 1:
        return divided(parts[TRAIN], asked, work / "data")
    for role in (VAL, TEST):  # parts that the training channel has beside its own
        if role not in parts and TRAIN in names and role in names:
            parts[role] = open_part(train.folder, role)
    return joined(parts, given, work / "data")


def require_divided(channel: Channel, asked: Hyperparameters) -> None:
    """Nothing, if no option is given that is for label files.

    Raises:
        DatasetError: all that are.
    """
    what = f"is for label files, and channel {channel.name!r} holds a data set with its parts"
    problems = [Problem(f"hyperparameter {name!r}", what, "Leave it out.") for name in asked.for_labels]
    if problems:
        raise DatasetError.collected(problems)


def part_names(folder: Path) -> list[str]:
    return list(dict.fromkeys(name for name, _ in parts_of(folder)))


def in_place(channel: Channel, names: Sequence[str], asked: Hyperparameters) -> Prepared:
    """A data set that has its parts, where it is. What the options name need not be one of the usual parts."""
    train = str(asked.options.get("split") or TRAIN)
    validation = str(asked.options.get("validate-on") or (VAL if VAL in names else ""))
    if "fold" in asked.options:
        validation = f"fold{asked.options['fold']}_val"
    evaluated = next((name for name in (TEST, validation) if name in names and name != train), None)
    return Prepared(channel.folder, train, validation or None, evaluated)


def part_in(channel: Channel, role: str, roles: Mapping[str, Channel], asked: Hyperparameters, work: Path) -> DatasetPart:
    """The part of a data set that a channel means, imported if it holds label files.

    Raises:
        DatasetError: it holds neither, or several parts of other names.
    """
    names = part_names(channel.folder)
    wanted = str(asked.options.get("split") or "") if role == TRAIN else str(asked.options.get("validate-on") or "")
    chosen = wanted or next((name for name in PARTS[role] if name in names), names[0] if len(names) == 1 else "")
    if chosen and names:
        return open_part(channel.folder, chosen)
    if names:
        what = f"has the parts {', '.join(names)}, and none of them is called {' or '.join(PARTS[role])}"
        raise DatasetError(f"channel {channel.name!r}", what, "Say which one with the hyperparameter split.")
    return open_part(imported(channel, roles.get("images"), asked, work / "imported" / role), ALL)


def imported(channel: Channel, pictures: Channel | None, asked: Hyperparameters, to: Path) -> Path:
    """The dataset folder that a channel's label files become.

    Raises:
        DatasetError, LabelError: there are none, or something is wrong with them or their pictures.
    """
    files = label_files(channel)
    folder = channel.folder if pictures is None else pictures.folder
    options = replace(asked.reading, images=folder, download=True)
    on_problem = cast(OnProblem, asked.on_problem)
    read = labels.read_with(files, options, format=asked.format, on_problem=on_problem)
    where = places(read.report.files, read.dataset, given=folder, known=read.pictures, download=True, called=read.report.called)
    made = create(read.dataset, to, pictures=where, on_problem=on_problem, replace=True, by_name=True)
    LOG.info("channel %s: %s", channel.name, made)
    for line in (*read.report.notes, *made.notes, *read.report.skipped, *made.skipped):
        LOG.info("  %s", line)
    return to


def label_files(channel: Channel) -> list[Path]:
    """The label files of a channel, or the folder itself where it is in a folder format.

    Raises:
        DatasetError: there are none.
    """
    folder = channel.folder
    for found in (*(sorted(folder.glob(pattern)) for pattern in LABEL_FILES), sorted(folder.rglob("*.manifest"))):
        if found:
            return found
    try:
        labels.recognise(folder)
    except LabelError as error:
        what = f"holds no data set and no labels ({shown(folder)})"
        fix = "Give a dataset folder, COCO's layout, or label files with their pictures."
        raise DatasetError(f"channel {channel.name!r}", what, fix) from error
    return [folder]


def shown(folder: Path) -> str:
    """A few names of what is in a folder."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def divided(whole: DatasetPart, asked: Hyperparameters, to: Path) -> Prepared:
    """A data set without parts, dealt out at `to`: the same parts on every host, and again after a restart."""
    coco.write(whole.dataset, annotations_file(to, ALL))
    (to / "images").symlink_to(whole.pictures.resolve())
    table = write_split(to, shares_of(asked), seed=asked.split_seed, group_by=list(asked.group_by) or None)
    for line in str(table).splitlines():
        LOG.info("%s", line)
    names = part_names(to)
    validation = VAL if VAL in names else None
    return Prepared(to, TRAIN, validation, TEST if TEST in names else validation)


def shares_of(asked: Hyperparameters) -> dict[str, float]:
    """The parts that labels are divided into.

    Raises:
        DatasetError: they are no shares, or none of them is trained on.
    """
    shares = parse_fractions(asked.fractions) if asked.fractions else dict(FRACTIONS)
    if TRAIN not in shares:
        what = f"names the parts {', '.join(shares)}, and none is trained on"
        raise DatasetError("fractions", what, "Give one called train, as train=0.8 val=0.2.")
    return shares


def joined(parts: Mapping[str, DatasetPart], channels: Mapping[str, Channel], to: Path) -> Prepared:
    """Parts from several channels as one data set at `to`, in COCO's own layout.

    Raises:
        DatasetError: one has classes that the training part does not know.
    """
    known = parts[TRAIN].dataset
    alike = {role: with_classes_of(known, part, role, channels) for role, part in parts.items()}
    laid_out(alike, to)
    return Prepared(to, TRAIN, VAL if VAL in parts else None, TEST if TEST in parts else VAL)


def with_classes_of(known: Dataset, part: DatasetPart, role: str, channels: Mapping[str, Channel]) -> DatasetPart:
    """A part with the classes of the training part in their order: two labelling jobs number them each in its own way."""
    dataset = part.dataset
    if dataset.class_names == known.class_names:
        return part
    strange = [name for name in dataset.class_names if name not in known.class_names]
    if strange:
        where = f"channel {channels.get(role, channels[TRAIN]).name!r}"
        what = f"has classes that the training channel has not: {', '.join(strange)}"
        raise DatasetError(where, what, f"Those are {', '.join(known.class_names)}: label with one list.")
    places_of = [known.class_names.index(name) for name in dataset.class_names]
    images = tuple(
        replace(image, instances=tuple(replace(one, label=places_of[one.label]) for one in image.instances))
        for image in dataset.images
    )
    return replace(part, dataset=Dataset(known.categories, images))


def laid_out(parts: Mapping[str, DatasetPart], to: Path) -> None:
    """`annotations/instances_PART.json` and PART, a link to its pictures."""
    for role, part in parts.items():
        coco.write(part.dataset, to / "annotations" / f"instances_{role}.json")
        (to / role).symlink_to(part.pictures.resolve())


def weights_in(channel: Channel, work: Path) -> tuple[Path, Path | None]:
    """(the weights that a channel brings, the configuration beside them) of a file, a bundle, or what was in one.

    Raises:
        DatasetError: there are none, or several.
        BundleError: an archive is damaged.
    """
    folder = channel.folder
    archives = [*folder.glob("*.tar.gz")]
    if len(archives) == 1 and not any(folder.glob("*.pth")):
        folder = unpacked(archives[0], work / "pretrained")
    for pattern in WEIGHTS:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            config = folder / "config.yaml"
            return found[0], config if config.is_file() else None
    what = f"holds no weights, or several ({shown(channel.folder)})"
    raise DatasetError(f"channel {channel.name!r}", what, "Put one .pth, .pkl or model.tar.gz there, or name it with weights.")


def unpacked(archive: Path, to: Path) -> Path:
    """A bundle's files at `to`; its names are checked as loading checks them."""
    from sightline.bundle.archive import read_archive

    for name, content in read_archive(archive).items():
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return to
