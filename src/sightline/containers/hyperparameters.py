"""Hyperparameters, which the platform hands over as texts, as options of `sightline train` and Detectron2's keys.

Who submits a job writes values as JSON, as Python's repr, or plainly; all three are read: `true`, `True`, `"small"`, `'small'`,
`small`. Names are those of the options, with `-` or `_`, with or without leading dashes; Detectron2's keys have their dots.
"""

import ast
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from sightline.config.opts import split_opts
from sightline.config.sources import load
from sightline.config.yaml_dialect import looks_like_key
from sightline.errors import ConfigError, LabelError, Problem, SightlineError, nearest
from sightline.labels import ReadOptions
from sightline.labels.asked import parse_renames

TRUE, FALSE, NOTHING = ("true", "1", "yes", "on"), ("false", "0", "no", "off"), ("none", "null")

Words = list[str]


def as_flag(text: str) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError(text)
    return text.lower() in TRUE


def as_whole(text: str) -> int:
    """Tuning jobs write whole numbers as 16.0, too."""
    number = as_number(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def as_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def as_pair(text: str) -> tuple[float, float]:
    """`[0.8, 1.25]`, `(0.8, 1.25)`, `0.8,1.25` or `0.8 1.25`."""
    low, high = text.strip("[]() ").replace(",", " ").split()
    return as_number(low), as_number(high)


def as_list(text: str) -> list[str]:
    """`["a", "b"]` as JSON or Python writes it, or `a,b`."""
    found = decoded(text)
    return [str(item) for item in found] if isinstance(found, list | tuple) else [item.strip() for item in text.split(",")]


Kind = Callable[[str], object]

WANTED: dict[Kind, str] = {
    as_flag: "true or false",
    as_whole: "a whole number",
    as_number: "a number",
    as_pair: "two numbers, as [0.8, 1.25]",
    as_list: 'names, as ["a", "b"] or a,b',
    str: "text",
}

TRAIN: dict[str, Kind] = {
    "weights": str,
    "split": str,
    "validate-on": str,
    "fold": as_whole,
    "device": str,
    "workers": as_whole,
    "epochs": as_number,
    "batch-size": as_whole,
    "learning-rate": as_number,
    "image-size": as_whole,
    "seed": as_whole,
    "patience": as_whole,
    "metric": str,
    "time-limit": as_number,
    "keep": as_whole,
    "on-bad-picture": str,
    "precision": str,
    "accumulate": as_whole,
    "ema": as_number,
    "recompute": as_flag,
    "compile": as_flag,
    "channels-last": as_flag,
    "colour": as_number,
    "rotate": as_flag,
    "scale-jitter": as_pair,
    "mosaic": as_number,
    "class-weights": str,
    "tensorboard": as_flag,
    "mlflow": str,
}
"""The options of `sightline train` that a job may give. The platform decides where data, run and checkpoints are."""

OWN: dict[str, Kind] = {
    "config": str,
    "opts": str,
    "processes": as_whole,
    "fractions": as_list,
    "split-seed": as_whole,
    "group-by": as_list,
    "format": str,
    "on-problem": str,
    "eval-only": as_flag,
}
"""What else it may say: the configuration, how many processes a host starts, how labels are read and divided."""

READING: dict[str, Kind] = {
    "label-attribute": as_list,
    "drop-rejected": as_flag,
    "rejected": as_list,
    "min-confidence": as_number,
    "class-attribute": str,
    "class-name": str,
    "voc-origin": as_whole,
    "class": as_list,
    "rename": as_list,
    "drop": as_list,
    "on-duplicate": str,
    "same-picture": str,
}
"""The options of `sightline dataset import` that say how label files are read, which are fields of ReadOptions."""

FIELDS = {"label-attribute": "label_attributes", "class": "classes"}
"""Those whose field has another name."""

FOR_LABELS = ("fractions", "split-seed", "group-by", "format", "on-problem", *READING)
"""What there is to say of label files alone: a data set with parts is read and divided already."""

CHOICES = {
    "on-problem": ("error", "skip"),
    "on-duplicate": ("error", "first", "last", "merge"),
    "same-picture": ("address", "name"),
}
"""Options -> the words that they take."""

ALSO = {"config-file": "config", "local-config-file": "config", "num-gpus": "processes"}
"""Detectron2's names for some of them, and that of the 2021 samples for a file of their own, which lay beside their script."""

PLATFORM = ("resume", "num-machines", "machine-rank", "dist-url", "num-cpus", "backend", "hosts", "current-host", "model-dir")
"""Options of Detectron2's scripts that jobs pass, and that the platform's own files answer."""

IGNORED = "sagemaker_", "_tuning_objective_metric"
"""Beginnings of names that are for AWS's toolkits and tuning jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What a job asks for.

    config:    a preset, a zoo name or a file; None: not said
    options:   of `sightline train`, {name: value}
    overrides: KEY, VALUE, KEY, VALUE, ...
    processes: on each host; None: one a GPU
    fractions, split_seed, group_by: how labels without parts are divided
    format, on_problem, reading: how label files are read
    for_labels: which of FOR_LABELS were given
    notes:     what was left alone, and why
    """

    config: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    processes: int | None = None
    fractions: tuple[str, ...] = ()
    split_seed: int = 0
    group_by: tuple[str, ...] = ()
    format: str | None = None
    on_problem: str = "error"
    reading: ReadOptions = ReadOptions()  # noqa: RUF009  # frozen
    for_labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def words(self) -> Words:
        """The options as a command line has them."""
        found: Words = []
        for name, value in self.options.items():
            if isinstance(value, bool):
                found += [f"--{name}"] if value else []
            elif isinstance(value, tuple):
                found += [f"--{name}", *map(str, value)]
            else:
                found += [f"--{name}", str(value)]
        return found


def decoded(text: str) -> object:
    """What JSON or Python's literals make of `text`; the text itself where they make nothing of it."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def said(value: object) -> str:
    """The text that a value says: the platform's are texts, of which some are quoted once more."""
    if not isinstance(value, str):
        return json.dumps(value)
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        inner = decoded(text)
        return inner if isinstance(inner, str) else text
    return text


def option_name(name: str) -> str:
    """`--batch_size` -> `batch-size`."""
    plain = name.lstrip("-").replace("_", "-").lower()
    return ALSO.get(plain, plain)


def opts_words(text: str) -> Words:
    """The words of Detectron2's `opts`: a text, or a list as JSON or Python write it.

    Raises:
        ConfigError: brackets or quotes that do not close, or a key without a value.
    """
    found = decoded(text)
    words = [str(item) for item in found] if isinstance(found, list | tuple) else split_opts(text)
    if len(words) % 2:
        raise ConfigError("opts", f"{len(words)} words are no KEY VALUE pairs: {text}", "Give every key one value.")
    return words


def parse(values: Mapping[str, object]) -> tuple[Hyperparameters, list[Problem]]:
    """(what a job asks for, as far as it can be read; everything that is wrong)."""
    kinds = TRAIN | OWN | READING
    found: dict[str, object] = {}
    keys: Words = []
    notes: list[str] = []
    problems: list[Problem] = []
    for name, value in values.items():
        text, option = said(value), option_name(name)
        if name.startswith(IGNORED):
            continue
        if "." in name or looks_like_key(name):
            keys += [name, text]
        elif option in PLATFORM:
            notes.append(f"hyperparameter {name!r} is left alone: the platform decides it")
        elif option not in kinds:
            fix = nearest(option, [*kinds, *ALSO])
            problems.append(
                Problem(f"hyperparameter {name!r}", "is none", f"{fix} Detectron2's keys have dots: SOLVER.BASE_LR.")
            )
        elif option in found:
            problems.append(Problem(f"hyperparameter {name!r}", "is given twice", "Leave one out."))
        elif kinds[option] is str or text.lower() not in NOTHING:
            read_one(name, option, text, found, problems)
    overrides = collected_keys(found, keys, problems)
    problems += wrong_choices(found)
    reading = reading_of(found, problems)
    if found.pop("eval-only", False):
        problems.append(
            Problem("hyperparameter 'eval-only'", "is true, and this entry point trains", "Use sightline evaluate.")
        )
    return gathered(found, reading, overrides, notes), problems


def read_one(name: str, option: str, text: str, found: dict[str, object], problems: list[Problem]) -> None:
    """Put the value of one option into `found`."""
    kind = TRAIN.get(option) or OWN.get(option) or READING[option]
    try:
        found[option] = kind(text)
    except (ValueError, TypeError):
        problems.append(Problem(f"hyperparameter {name!r}", f"is {text!r}", f"Give {WANTED[kind]}."))


def collected_keys(found: dict[str, object], keys: Words, problems: list[Problem]) -> tuple[str, ...]:
    """`opts`, and over it the keys that are hyperparameters of their own: tuning jobs vary those."""
    try:
        return (*opts_words(str(found.pop("opts", ""))), *keys)
    except ConfigError as error:
        problems.extend(error.problems)
        return tuple(keys)


def wrong_choices(found: Mapping[str, object]) -> list[Problem]:
    """Options of few words that got another one."""
    return [
        Problem(f"hyperparameter {name!r}", f"is {found[name]!r}", f"Give {' or '.join(words)}.")
        for name, words in CHOICES.items()
        if name in found and found[name] not in words
    ]


def reading_of(found: Mapping[str, object], problems: list[Problem]) -> ReadOptions:
    """How label files are read."""
    given = {FIELDS.get(name, name.replace("-", "_")): as_field(found[name]) for name in READING if name in found}
    try:
        renames = parse_renames(cast(tuple[str, ...], given.pop("rename", ())))
    except LabelError as error:
        problems += error.problems
        renames = ()
    return ReadOptions(rename=renames, **given)  # type: ignore[arg-type]  # by READING


def as_field(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def gathered(
    found: dict[str, object], reading: ReadOptions, overrides: tuple[str, ...], notes: Sequence[str]
) -> Hyperparameters:
    """The dataclass of what was read."""
    own: dict[str, object] = {name.replace("-", "_"): as_field(found[name]) for name in OWN if name in found}
    own |= {"reading": reading, "for_labels": tuple(name for name in FOR_LABELS if name in found)}
    options = {name: value for name, value in found.items() if name in TRAIN}
    return Hyperparameters(options=options, overrides=overrides, notes=tuple(notes), **own)  # type: ignore[arg-type]  # by OWN


def understood(values: Mapping[str, object], resolve: Callable[[str | None], str]) -> Hyperparameters:
    """What a job asks for, its configuration read and its keys known.

    resolve: what a job calls its configuration -> what `config.sources.load` takes

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    asked, problems = parse(values)
    try:
        load(resolve(asked.config), asked.overrides)
    except SightlineError as error:
        problems += error.problems
    if asked.processes is not None and asked.processes < 1:
        problems.append(Problem("hyperparameter 'processes'", f"is {asked.processes}", "Give 1 or more."))
    if problems:
        raise ConfigError.collected(problems)
    return asked
