"""What a search can vary besides Detectron2's keys: options of `sightline train`, by their names without dashes.

A `Recipe` is everything that decides how a training goes; `varied` is one with some values of a space in it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sightline.config.schema import Config
from sightline.config.yaml_dialect import flat, load_values
from sightline.training.asked import NOTHING, Asked
from sightline.training.settings import PLAIN, Settings


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a training is done: the configuration, what it has no keys for, and what was asked for in other words."""

    config: Config
    settings: Settings = PLAIN
    asked: Asked = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of `sightline train`.

    kind:  float, int, bool, str, or tuple for a pair of numbers
    place: where it goes: into `Asked`, into `Settings`, or into keys of the configuration alone
    least, most: both may be given; above: whether `least` itself is too small
    keys:  Detectron2's keys that it decides; both in one space would contradict each other
    """

    kind: type
    place: Literal["asked", "settings", "config"]
    least: float = float("-inf")
    most: float = float("inf")
    above: bool = False
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def takes(self, value: object) -> bool:
        """Whether `sightline train` would."""
        if self.kind is tuple:
            return isinstance(value, list | tuple) and len(value) == 2 and all(map(self.number_fits, value))
        if self.kind is float or self.kind is int:
            return self.number_fits(value) and (self.kind is float or isinstance(value, int))
        return isinstance(value, self.kind) and (not self.names or value in self.names)

    def number_fits(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def expected(self) -> str:
        """What it takes, in words."""
        if self.names:
            return " or ".join(self.names)
        words = {bool: "true or false", str: "text", int: "a whole number", float: "a number", tuple: "two numbers"}[self.kind]
        if self.kind in (bool, str):
            return words
        limits = [] if self.least == float("-inf") else [f"{'above' if self.above else 'from'} {self.least:g}"]
        return " ".join([words, *limits, *([] if self.most == float("inf") else [f"to {self.most:g}"])])


SIZES = ("INPUT.MIN_SIZE_TRAIN", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST")

OPTIONS: dict[str, Option] = {
    "accumulate": Option(kind=int, place="settings", least=1),
    "batch-size": Option(kind=int, place="asked", least=1, keys=("SOLVER.IMS_PER_BATCH",)),
    "channels-last": Option(kind=bool, place="settings"),
    "colour": Option(kind=float, place="settings", least=0, most=1),
    "compile": Option(kind=bool, place="settings"),
    "ema": Option(kind=float, place="settings", least=0, most=0.99999),
    "epochs": Option(kind=float, place="asked", least=0, above=True, keys=("SOLVER.MAX_ITER",)),
    "image-size": Option(kind=int, place="asked", least=32, keys=(*SIZES, "INPUT.MAX_SIZE_TEST")),
    "learning-rate": Option(kind=float, place="asked", least=0, above=True, keys=("SOLVER.BASE_LR",)),
    "mosaic": Option(kind=float, place="settings", least=0, most=1),
    "precision": Option(kind=str, place="settings", names=("fp32", "bf16", "fp16"), keys=("SOLVER.AMP.ENABLED",)),
    "recompute": Option(kind=bool, place="settings"),
    "rotate": Option(kind=bool, place="settings"),
    "scale-jitter": Option(kind=tuple, place="settings", least=0, above=True),
    "seed": Option(kind=int, place="asked", least=0, keys=("SEED",)),
    "weights": Option(kind=str, place="config", keys=("MODEL.WEIGHTS",)),
}
"""Options that change what is learned or how fast, as `sightline train` has and limits them."""


def field_of(name: str) -> str:
    """The field of `Asked` or `Settings` behind an option: "batch-size" is `batch_size`."""
    return name.replace("-", "_")


def varied(recipe: Recipe, values: Mapping[str, object], where: str) -> Recipe:
    """`recipe` with `values`: {Detectron2 key or option: value}. Values of options are right (`Option.takes`).

    Raises:
        ConfigError: every key whose value the configuration refuses.
    """
    keys = {name: value for name, value in values.items() if name not in OPTIONS}
    if "weights" in values:
        keys["MODEL.WEIGHTS"] = values["weights"]
    if "precision" in values:
        keys["SOLVER.AMP.ENABLED"] = values["precision"] != "fp32"
    config = load_values({**flat(recipe.config), **keys}, where) if keys else recipe.config
    asked = {field_of(name): values[name] for name in values if name in OPTIONS and OPTIONS[name].place == "asked"}
    settings = {field_of(name): values[name] for name in values if name in OPTIONS and OPTIONS[name].place == "settings"}
    if settings.get("precision") == "fp32":
        settings["precision"] = PLAIN.precision
    jitter = settings.get("scale_jitter")
    if isinstance(jitter, list | tuple):
        settings["scale_jitter"] = tuple(jitter)
    return Recipe(
        config,
        replace(recipe.settings, **settings),  # type: ignore[arg-type]  # names and kinds are those of OPTIONS
        replace(recipe.asked, **asked),  # type: ignore[arg-type]
    )


def given(recipe: Recipe) -> set[str]:
    """Options that `recipe` already decides."""
    places = {"asked": (recipe.asked, NOTHING), "settings": (recipe.settings, PLAIN)}
    found = set()
    for name, option in OPTIONS.items():
        if option.place in places:
            now, usual = places[option.place]
            if getattr(now, field_of(name)) != getattr(usual, field_of(name)):
                found.add(name)
    return found


def as_words(settings: Settings) -> list[str]:
    """The words for `sightline train` that say `settings` where they are not the usual ones: ["--ema", "0.999", "--rotate"]."""
    words: list[str] = []
    for name, option in OPTIONS.items():
        if option.place != "settings":
            continue
        value = getattr(settings, field_of(name))
        if value == getattr(PLAIN, field_of(name)):
            continue
        words.append(f"--{name}")
        if option.kind is not bool:
            words += map(text_of, value if option.kind is tuple else [value])
    return words + ([] if settings.metric == PLAIN.metric else ["--metric", settings.metric])


def text_of(value: object) -> str:
    """A value as a person would write it: text as it is, numbers to six digits, lists as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value)
