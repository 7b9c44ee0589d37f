"""A search's space: a YAML file of Detectron2 keys and options to ranges or choices, read and checked completely.

    SOLVER.BASE_LR: {low: 1e-3, high: 1e-1, log: true}
    batch-size: {choices: [2, 4, 8]}
    MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE: {low: 16, high: 128, step: 16}

Keys may be nested as in a configuration file. Whatever is wrong is said at once, before anything runs.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sightline.config.schema import Config
from sightline.config.support import idle_part, is_ignored
from sightline.config.yaml_dialect import TYPES, flatten, read_yaml
from sightline.errors import ConfigError, Problem, SightlineError, nearest
from sightline.tuning.options import OPTIONS

WORDS = ("low", "high", "log", "step", "choices")
FORM = "Give {low: ..., high: ...}, with log: true or step: ... if wanted, or {choices: [...]}."

MOST_STEPS = 1_000_000
"""Of a range; finer ones are as good without a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included.

    log:   every order of magnitude is as likely as any other; then low is above 0 and there is no step
    step:  only low, low + step, ..., high; None: any number (any whole number)
    whole: whole numbers only
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def samples(self) -> tuple[object, ...]:
        """The ends: what a configuration must take to take the range."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def as_dict(self) -> dict[str, object]:
        """As a space says it."""
        low, high = self.samples()
        return {"low": low, "high": high, **({"log": True} if self.log else {}), **({"step": self.step} if self.step else {})}


@dataclass(frozen=True, slots=True)
class Choices:
    """One of these values, each as likely as any other."""

    values: tuple[object, ...]

    def samples(self) -> tuple[object, ...]:
        return self.values

    def as_dict(self) -> dict[str, object]:
        return {"choices": list(self.values)}


Parameter = Range | Choices

Space = Mapping[str, Parameter]
"""{key or option: what it may be}."""

Attempt = Callable[[Mapping[str, object]], Config]
"""The configuration of a trial with these values; raises SightlineError where there can be none."""


class EntryError(ValueError):
    """One entry of a space that cannot be. what, fix: as in `Problem`."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def load_space(source: Path | Mapping[str, object], attempt: Attempt) -> dict[str, Parameter]:
    """The space of a YAML file, or of a mapping of the same form.

    attempt: tries the ends of every range and every choice, one at a time

    Raises:
        ConfigError: everything that is wrong: unknown names (with the nearest), wrong kinds, empty ranges, refused values, two
            names for one setting, keys that change nothing.
    """
    where = str(source) if isinstance(source, Path) else "space"
    tree = read_yaml(source) if isinstance(source, Path) else source
    problems: list[Problem] = []
    space: dict[str, Parameter] = {}
    entries = dict(flatten(tree, ""))
    for name, entry in entries.items():
        try:
            space[name] = parameter(name, entry)
        except EntryError as error:
            problems.append(Problem(f"{where}: {name}", error.what, error.fix))
    if not entries:
        problems.append(Problem(where, "varies nothing", f"Name keys or options. {FORM}"))
    problems += contradictions(space, where)
    problems += refusals(space, where, attempt)
    if problems:
        raise ConfigError.collected(list(dict.fromkeys(problems)))
    return space


def parameter(name: str, entry: object) -> Parameter:
    """One entry of a space.

    Raises:
        EntryError: it is none.
    """
    if name not in TYPES and name not in OPTIONS:
        raise unknown(name)
    if not isinstance(entry, Mapping) or not entry:
        raise EntryError(f"is {entry!r}", FORM)
    for word in entry:
        if word not in WORDS:
            raise EntryError(f"has {word!r}", nearest(str(word), WORDS))
    if "choices" in entry:
        if len(entry) > 1:
            raise EntryError("has choices and a range", FORM)
        return choices(name, entry["choices"])
    return number_range(name, entry)


def unknown(name: str) -> EntryError:
    known = [*OPTIONS, *TYPES]
    hint = nearest(name, known)
    if not hint.startswith("Did you mean"):
        hint = f"Give a Detectron2 key, or one of {', '.join(OPTIONS)}."
    return EntryError("is no key and no option that can be searched", hint)


def choices(name: str, values: object) -> Choices:
    if not isinstance(values, list | tuple) or not values:
        raise EntryError(f"has the choices {values!r}", "Give a list of at least one value.")
    read = tuple(plain(name, value) for value in values)
    if len({json.dumps(value) for value in read}) < len(read):
        raise EntryError(f"has a choice twice: {list(read)!r}", "Name every choice once.")
    option = OPTIONS.get(name)
    for value in read if option else ():
        if option and not option.takes(value):
            raise EntryError(f"has the choice {value!r}", f"Give {option.expected()}.")
    return Choices(read)


def plain(name: str, value: object) -> object:
    """`value` with lists for tuples, and numbers that YAML takes for text ("1e-3") as numbers.

    Raises:
        EntryError: it is no plain value: a date, a mapping.
    """
    if isinstance(value, list | tuple):
        return [plain(name, item) for item in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise EntryError(f"has the choice {value!r}", "Give numbers, texts, true, false, or lists of them.")
    if isinstance(value, str) and kind_of(name) in (int, float):
        try:
            return number(value, whole=kind_of(name) is int)
        except (TypeError, ValueError):
            return value  # refused where its kind is checked
    return value


def kind_of(name: str) -> object:
    """float, int, or another type; a number that may be left out is a number."""
    kind = OPTIONS[name].kind if name in OPTIONS else TYPES[name]
    return float if kind == float | None else kind


def number_range(name: str, entry: Mapping[object, object]) -> Range:
    kind = kind_of(name)
    if kind not in (int, float):
        raise EntryError("is no number, and has no range", "Give {choices: [...]}.")
    whole = kind is int
    numbers: dict[str, float] = {}
    for word in ("low", "high", "step"):
        if word not in entry and word != "step":
            raise EntryError(f"has no {word!r}", FORM)
        try:
            if word in entry:
                numbers[word] = number(entry[word], whole=whole)
        except (TypeError, ValueError) as error:
            raise EntryError(f"has {word}: {entry[word]!r}", f"Give a {'whole ' if whole else ''}number.") from error
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise EntryError(f"has log: {log!r}", "Give true or false.")
    found = Range(low=numbers["low"], high=numbers["high"], log=log, step=numbers.get("step"), whole=whole)
    require_numbers(found)
    option = OPTIONS.get(name)
    for end in found.samples() if option else ():
        if option and not option.takes(end):
            raise EntryError(f"reaches {end!r}", f"Give {option.expected()}.")
    return found


def number(value: object, *, whole: bool) -> float:
    """`value` as a number; YAML reads 1e-4 (without a point) as text. ValueError or TypeError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    read = float(value)
    if not math.isfinite(read) or (whole and not read.is_integer()):
        raise ValueError(value)
    return int(read) if whole else read


def require_numbers(found: Range) -> None:
    """Nothing, if the range holds at least two numbers that its scale and step can reach."""
    if not found.low < found.high:
        raise EntryError(
            f"goes from {found.low:g} to {found.high:g}", "Give a high above low, or a single value as one choice."
        )
    if found.log and found.low <= 0:
        raise EntryError(f"has a log scale from {found.low:g}", "Give a low above 0.")
    if found.step is None:
        return
    if found.log:
        raise EntryError("has a log scale and a step", "Choose one of the two.")
    span, step = Decimal(str(found.high)) - Decimal(str(found.low)), Decimal(str(found.step))  # as written: 0.3 is three of 0.1
    if step <= 0 or not 1 <= span / step <= MOST_STEPS or span % step:
        raise EntryError(
            f"has step {found.step:g} from {found.low:g} to {found.high:g}",
            "Give a step above 0 that leads from low to high, or none.",
        )


def contradictions(space: Space, where: str) -> Iterator[Problem]:
    """An option and the key that it decides, in one space."""
    for name in space:
        if name in OPTIONS:
            for key in OPTIONS[name].keys:
                if key in space:
                    yield Problem(f"{where}: {name}", f"and {key} decide the same", "Keep one of them.")


def refusals(space: Space, where: str, attempt: Attempt) -> Iterator[Problem]:
    """What the configuration refuses, and keys that change nothing in any configuration of the space."""
    reached: list[Config] = []
    for name, found in space.items():
        for value in found.samples():
            try:
                reached.append(attempt({name: value}))
            except SightlineError as error:
                for problem in error.problems:
                    yield Problem(f"{where}: {name} {value!r}", f"{problem.where}: {problem.what}", problem.fix)
    for name in space:
        reason = is_ignored(name)
        parts = {idle_part(name, config) for config in reached}
        if reason is not None:
            yield Problem(f"{where}: {name}", f"changes nothing: {reason}", "Leave it out.")
        elif reached and None not in parts:
            part = " or ".join(sorted(filter(None, parts)))
            yield Problem(f"{where}: {name}", f"changes nothing here: it acts only in or with {part}", "Leave it out.")
