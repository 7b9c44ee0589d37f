"""`cfg`: Detectron2's configuration as scripts use it, mutable and nested, over our typed keys.

Every write is checked as a YAML file's would be; `to_config()` gives the frozen `Config` that everything else takes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.config import yaml_dialect
from sightline.config.schema import Config
from sightline.config.yaml_dialect import SECTIONS, Layer, check_values, finished, flat, read_chain, with_values
from sightline.config.zoo import ZOO
from sightline.errors import ConfigError, Problem, nearest


class CfgError(ConfigError, AttributeError):
    """A key that does not exist, or a write that cannot be. An AttributeError too, so that `hasattr(cfg, ...)` works."""


@dataclass(slots=True)
class Store:
    """What all sections of one configuration share. values: flat, {"MODEL.RPN.NMS_THRESH": 0.7, ...}."""

    values: dict[str, object]
    frozen: bool = False


class CfgNode:
    """A section of a configuration; the one that `get_cfg` returns holds all of it.

    Values read are immutable: lists come back as tuples. Sections are views: writing through one writes to the whole.
    """

    __slots__ = ("_prefix", "_store")
    _store: Store
    _prefix: str

    def __init__(self, store: Store, prefix: str = "") -> None:
        self._store, self._prefix = store, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python's own questions: copying and pickling ask before there is a store
            raise AttributeError(name)
        key = f"{self._prefix}{name}"
        if key in SECTIONS:
            return CfgNode(self._store, f"{key}.")
        if key not in self._store.values:
            raise CfgError("cfg", f"unknown key {key!r}", nearest(key, sorted({*self._store.values, *SECTIONS})))
        return self._store.values[key]

    def __setattr__(self, name: str, value: object) -> None:
        if name in CfgNode.__slots__:
            object.__setattr__(self, name, value)
            return
        self.require_mutable()
        problems: list[Problem] = []
        given = os.fspath(value) if isinstance(value, os.PathLike) else value
        checked = dict(check_values({f"{self._prefix}{name}": given}, "cfg", problems))
        if problems:
            raise CfgError.collected(problems)
        self._store.values.update(checked)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: object) -> None:
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        """The names one level below: keys and sections."""
        below = (key.removeprefix(self._prefix) for key in self._store.values if key.startswith(self._prefix))
        return list(dict.fromkeys(key.partition(".")[0] for key in below))

    def values(self) -> list[Any]:
        return [self[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self[name]) for name in self.keys()]

    def get(self, name: str, default: object = None) -> Any:
        return getattr(self, name, default)  # CfgError is an AttributeError

    def merge_from_file(self, name: str | os.PathLike[str]) -> None:
        """Put a YAML file (with its `_BASE_`) over what is there. A zoo name, or a path that ends with one, means the zoo's.

        Raises:
            ConfigError: no such file, or all that is wrong in it; nothing is changed then.
        """
        self.merge(zoo_layers(os.fspath(name)) or read_chain(Path(name)))

    def merge_from_list(self, pairs: Sequence[object]) -> None:
        """Put ["MODEL.DEVICE", "cpu", ...] over what is there."""
        if len(pairs) % 2:
            raise ConfigError("merge_from_list", f"{len(pairs)} values are no KEY, VALUE pairs", "Give every key one value.")
        self.merge([Layer("merge_from_list", {str(k): v for k, v in zip(pairs[::2], pairs[1::2], strict=True)})])

    def merge_from_other_cfg(self, other: "CfgNode") -> None:
        self.merge([Layer("merge_from_other_cfg", other._store.values)])

    def merge(self, layers: Sequence[Layer]) -> None:
        """Put `layers` over what is there, or change nothing if anything in them is wrong."""
        self.require_mutable()
        if self._prefix:
            raise ConfigError(f"cfg.{self._prefix.rstrip('.')}", "is a section", "Merge into the whole cfg.")
        self._store.values = flat(finished([Layer("cfg", self._store.values), *layers], ()))

    def clone(self) -> "CfgNode":
        """A copy of its own, frozen if this is."""
        return CfgNode(Store(dict(self._store.values), self._store.frozen), self._prefix)

    def dump(self) -> str:
        """This section as YAML that Detectron2 loads."""
        text = yaml_dialect.dump(self.to_config())
        if not self._prefix:
            return text
        tree = yaml.safe_load(text)
        for section in self._prefix.rstrip(".").split("."):
            tree = tree[section]
        return yaml.dump(tree, Dumper=yaml_dialect.Dumper, sort_keys=True, default_flow_style=None, allow_unicode=True)

    def __str__(self) -> str:
        return self.dump()

    __repr__ = __str__

    def freeze(self) -> None:
        self._store.frozen = True

    def defrost(self) -> None:
        self._store.frozen = False

    def is_frozen(self) -> bool:
        return self._store.frozen

    def require_mutable(self) -> None:
        if self._store.frozen:
            raise CfgError("cfg", "is frozen", "Call cfg.defrost() first.")

    def to_config(self) -> Config:
        """The whole configuration as every other part of Sightline takes it."""
        return with_values(Config(), self._store.values)


def get_cfg() -> CfgNode:
    """Detectron2's defaults."""
    return CfgNode(Store(flat(Config())))


def zoo_layers(name: str) -> list[Layer]:
    """The zoo's values if `name` is one of its names, or a path like `configs/COCO-Detection/...` where no such file is."""
    known: Mapping[str, Mapping[str, object]] = ZOO
    tail = "/".join(Path(name).parts[-2:])
    return [Layer(tail, known[tail])] if tail in known and not Path(name).is_file() else []
