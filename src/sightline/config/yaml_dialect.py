"""Detectron2's YAML, with `_BASE_` chains and `KEY VALUE` overrides, to a `Config` and back without loss.

Values are checked against the types in schema.py as yacs does it, a little kinder: an integer is accepted for a float, a
list for a tuple, and text is read as a Python literal where the key is no text (`"(640, 672)"`, `"1e-3"`). Keys of version 1
are read under their new names (renamed.py), and two Python tags without running anything (tags.py). What `dump` writes passes
yacs' own, stricter check. Every problem of a file is collected before anything is raised.
"""

import ast
import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import yaml

from sightline.config.renamed import OLD_SECTIONS, VERSION, renewed
from sightline.config.schema import Config
from sightline.config.tags import load_yaml
from sightline.errors import ConfigError, Problem, nearest

BASE = "_BASE_"


def key_name(field: str) -> str:
    """A field's name as Detectron2 writes it. `global` is a word of Python's own, so that field carries an underscore."""
    return field.removesuffix("_").upper()


def key_types(section: type = Config, prefix: str = "") -> dict[str, Any]:
    """{"MODEL.RPN.NMS_THRESH": float, ...}: every leaf key and its type."""
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section).items():
        key = f"{prefix}{key_name(name)}"
        found |= key_types(kind, f"{key}.") if isinstance(kind, type) and dataclasses.is_dataclass(kind) else {key: kind}
    return found


TYPES = key_types()
SECTIONS = {key[:end] for key in TYPES for end, letter in enumerate(key) if letter == "."}
"""MODEL, MODEL.RPN, ...: what holds keys and is none itself."""

WORDS = {"true": True, "false": False, "null": None}
"""YAML's words for what Python writes with a capital, so that an override may be written like the file."""

PER_LEVEL = {f"MODEL.ANCHOR_GENERATOR.{name}" for name in ("SIZES", "ASPECT_RATIOS", "ANGLES")}
"""Lists with one list per pyramid level. One flat list of numbers stands for every level, as in Detectron2."""

ARCHITECTURE = "MODEL.META_ARCHITECTURE"

MAX_SHOWN = 200
"""Characters of a wrong value that a message repeats."""


def load_file(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a YAML file over Detectron2's defaults, then `overrides`: (KEY, VALUE, KEY, VALUE, ...).

    Raises:
        ConfigError: all problems of the file (unknown keys with the nearest known, wrong types, a `_BASE_` circle).
    """
    return finished(read_chain(path), overrides)


def load_values(values: Mapping[str, object], where: str, overrides: Sequence[str] = ()) -> Config:
    """The same for values that are already flat: {"MODEL.RPN.NMS_THRESH": 0.7, ...}."""
    return finished([Layer(where, values)], overrides)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """Flat values as written, unchecked, and where they stand: a file, a name, or "override"."""

    where: str
    values: Mapping[str, object]


def finished(layers: Sequence[Layer], overrides: Sequence[str]) -> Config:
    """The defaults under all layers, each over the one before, and `overrides` on top, unless there are problems."""
    layers = [*layers, Layer("override", pairs(overrides))]
    given = [layer.values[ARCHITECTURE] for layer in layers if ARCHITECTURE in layer.values]
    architecture = given[-1] if given else Config().model.meta_architecture
    problems: list[Problem] = []
    checked: dict[str, object] = {}
    for layer in layers:
        values = renewed(layer.values, layer.where, architecture, problems)
        checked |= dict(check_values(values, layer.where, problems))
    if problems:
        raise ConfigError.collected(problems)
    return with_values(Config(), checked)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with trailing `KEY VALUE` pairs applied; errors as `load_file`."""
    return load_values(flat(config), "config", overrides)


def pairs(overrides: Sequence[str]) -> dict[str, object]:
    """{KEY: VALUE as text} of (KEY, VALUE, KEY, VALUE, ...)."""
    if len(overrides) % 2:
        raise ConfigError(
            "overrides", f"{len(overrides)} words are no KEY VALUE pairs: {' '.join(overrides)}", "Give every key one value."
        )
    return dict(zip(overrides[::2], overrides[1::2], strict=True))


def looks_like_key(word: str) -> bool:
    """Whether `word` was meant as a configuration key, rightly spelt or not: SOLVER.MAX_ITERS, SEED."""
    return word in TYPES or ("." in word and word.split(".", maxsplit=1)[0] in SECTIONS)


def flat(config: Config) -> dict[str, object]:
    """{"MODEL.RPN.NMS_THRESH": 0.7, ...}: every leaf key with its value."""
    return dict(leaves(config))


def leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        key = f"{prefix}{key_name(field.name)}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def with_values(config: Config, values: Mapping[str, object]) -> Config:
    """`config` with checked leaf values replaced; keys as in `flat`."""
    return typing.cast(Config, replace_leaves(config, values, ""))


def replace_leaves(section: Any, values: Mapping[str, object], prefix: str) -> Any:
    changed = {}
    for field in dataclasses.fields(section):
        key = f"{prefix}{key_name(field.name)}"
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = replace_leaves(value, values, f"{key}.")
        elif key in values:
            changed[field.name] = values[key]
    return dataclasses.replace(section, **changed)


def dump(config: Config) -> str:
    """The full configuration as YAML that Detectron2 loads: every key, sorted, tuples as lists."""
    tree: dict[str, Any] = {}
    for key, value in leaves(config):
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = as_written(value, TYPES[key])
    return yaml.dump(tree, Dumper=Dumper, sort_keys=True, default_flow_style=None, allow_unicode=True)


LINE_BREAKS = frozenset("\x85\u2028\u2029")
"""Line breaks of YAML that are none of text files: written as they are they would come back as blanks."""


class Dumper(yaml.SafeDumper):
    """PyYAML's, with line breaks beyond the usual ones written as escapes."""


def represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if LINE_BREAKS.intersection(text) else None)


Dumper.add_representer(str, represent_text)


def as_written(value: object, kind: Any) -> object:
    """`value` such that yacs takes it for this type: it wants a float where the default is one, and reads text as Python."""
    if type(value) is int and kind in (float, float | None):
        return float(value)
    if isinstance(value, str):
        return quoted_if_literal(value)
    return as_lists(value)


def quoted_if_literal(text: str) -> str:
    """`text`, in quotes of its own where yacs would read something else: a folder called 12, a name beginning with a quote."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return repr(text) if text[:1] in QUOTES else text
    except (TypeError, MemoryError, RecursionError):  # it looks like a literal, and is none
        pass
    return repr(text)


def as_lists(value: object) -> object:
    return [as_lists(item) for item in value] if isinstance(value, tuple | list) else value


def read_chain(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """The values of a YAML file after those of its `_BASE_`, which is relative to the file, absolute, or under `~`."""
    path = path.expanduser().resolve()
    if path in seen:
        raise ConfigError(path, f"is its own {BASE}: {' -> '.join(str(p) for p in (*seen, path))}", f"Break the {BASE} circle.")
    tree = read_yaml(path)
    below: list[Layer] = []
    if BASE in tree:
        base = tree.pop(BASE)
        if not isinstance(base, str) or "://" in base:
            raise ConfigError(path, f"{BASE} is {base!r}", "Name a local YAML file.")
        below = read_chain(path.parent / Path(base).expanduser(), (*seen, path))
    return [*below, Layer(str(path), dict(flatten(tree, "")))]


def read_yaml(path: Path) -> dict[str, object]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    return parse_yaml(content, path)


def parse_yaml(content: bytes, where: object) -> dict[str, object]:
    """The keys of a YAML text; tags that would run code are refused."""
    try:
        tree = load_yaml(content.decode("utf-8"), where)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date like 2024-13-01
        raise ConfigError(where, f"is no YAML that can be read safely ({error})", "Correct the file.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(where, f"holds a {type(tree).__name__}, not keys", "Give a Detectron2 configuration.")
    return {str(key): value for key, value in tree.items()}


def flatten(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Leaf keys of nested mappings. Unknown sections stay one key, so that the message names them whole."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (key in SECTIONS or key in OLD_SECTIONS):
            yield from flatten(value, f"{key}.")
        else:
            yield key, value


def check_values(values: Mapping[str, object], where: str, problems: list[Problem]) -> Iterator[tuple[str, object]]:
    """(key, value of the key's type) for all that are right; `problems` gets the others."""
    for key, value in values.items():
        if key in SECTIONS:
            problems.append(Problem(where, f"{key} is {shown(value)}", "It is a section: give the keys in it, or remove it."))
            continue
        if key not in TYPES:
            known = sorted(SECTIONS) if isinstance(value, Mapping) else sorted(TYPES)
            problems.append(Problem(where, f"unknown key {key!r}", nearest(key, known) if near(key, known) else "Remove it."))
            continue
        try:
            yield key, current(key, coerce(per_level(value) if key in PER_LEVEL else value, TYPES[key]))
        except (ValueError, TypeError, RecursionError):
            problems.append(Problem(where, f"{key} is {shown(value)}", f"Give {expected(key)}."))


def current(key: str, value: object) -> object:
    """`value`, but VERSION 1 is 2 after its keys have been renamed; ValueError for versions that nobody knows."""
    if key != "VERSION":
        return value
    if value not in range(VERSION + 1):
        raise ValueError(value)
    return VERSION


def expected(key: str) -> str:
    return str(VERSION) if key == "VERSION" else describe(TYPES[key])


def per_level(value: object) -> object:
    """A flat list of numbers as the one list that counts for every level; anything else as it is."""
    if isinstance(value, str):
        value = literal(value.strip())
    if isinstance(value, list | tuple) and value and all(type(item) in (int, float) for item in value):
        return [value]
    return value


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def near(key: str, known: Sequence[str]) -> bool:
    return "Did you mean" in nearest(key, known)


QUOTES = ("'", '"')
"""What text may stand in, as yacs takes it: `MODEL.RESNETS.NORM '""'` is empty text."""


def coerce(value: object, kind: Any) -> object:
    """`value` as `kind`; ValueError or TypeError if it is no such thing."""
    if isinstance(value, str) and (kind is not str or value[:1] in QUOTES):
        value = literal(value.strip())
    if isinstance(kind, UnionType):
        return coerce_union(value, kind)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(value)
        return tuple(coerce_item(item, typing.get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(value)
    return value


def literal(text: str) -> object:
    """What `text` says as a Python literal, or as YAML's true, false and null; ValueError if it says neither."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError) as error:
        raise ValueError(text) from error


def coerce_union(value: object, kind: UnionType) -> object:
    if value is None and NoneType in typing.get_args(kind):
        return None
    return coerce(value, next(option for option in typing.get_args(kind) if option is not NoneType))


def coerce_item(item: object, kind: Any) -> object:
    """Inside a sequence a whole number stays one (`[32, 64]` is dumped as it was written)."""
    if kind is object or (kind is float and type(item) is int):
        return as_tuples(item)
    if kind is str and isinstance(item, str):  # yacs reads text as Python only where it stands alone
        return item
    return coerce(item, kind)


def as_tuples(value: object) -> object:
    return tuple(as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def describe(kind: Any) -> str:
    """What a person should write: "a number", "a list of whole numbers", ..."""
    if isinstance(kind, UnionType):
        return " or ".join(describe(option) for option in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"a list of {several(typing.get_args(kind)[0])}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
    return names.get(kind, str(kind))


def several(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"lists of {several(typing.get_args(kind)[0])}"
    names = {bool: "true or false", int: "whole numbers", float: "numbers", str: "texts", object: "values"}
    return names.get(kind, str(kind))
