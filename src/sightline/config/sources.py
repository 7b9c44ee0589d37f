"""Where a configuration comes from: a preset's name, a zoo name, or a YAML file, here or on S3."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from sightline.config.schema import Config
from sightline.config.yaml_dialect import load_file, load_values
from sightline.config.zoo import ZOO
from sightline.errors import ConfigError, nearest
from sightline.storage import is_remote, local_path

PRESETS = resources.files("sightline.config") / "presets"


def preset_names() -> list[str]:
    """The names `--config` takes besides the zoo's."""
    return sorted(Path(entry.name).stem for entry in PRESETS.iterdir() if entry.name.endswith(".yaml"))


def base_of(name: str) -> Config:
    """What somebody who gives `name` has not written: the preset or zoo configuration itself, or the defaults."""
    return load(name) if name in preset_names() or f"{name.removesuffix('.yaml')}.yaml" in ZOO else Config()


def load(name: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration that `name` means: a preset, a zoo name (with or without .yaml), else a file's path or s3:// address.

    Raises:
        ConfigError: no such thing, or any problem of its content or of the overrides.
    """
    if name in preset_names():
        with resources.as_file(PRESETS / f"{name}.yaml") as path:
            return load_file(path, overrides)
    zoo_name = name if name.endswith(".yaml") else f"{name}.yaml"
    if zoo_name in ZOO:
        return load_values(ZOO[zoo_name], zoo_name, overrides)
    if is_remote(name):
        return load_file(local_path(name, "A configuration"), overrides)
    path = Path(name)
    if path.suffix == ".py":
        twin = f"{name.removesuffix('.py')}.yaml"
        fix = f"Use {twin!r}: the same model and weights." if twin in ZOO else "Use a YAML configuration."
        raise ConfigError(name, "is a LazyConfig file, which is not supported", fix)
    if not path.is_file():
        fix = nearest(name, [*preset_names(), *ZOO])
        if not fix.startswith("Did you mean"):
            fix = f"Give {' or '.join(preset_names())}, a name that `sightline zoo` lists, or a YAML file."
        raise ConfigError(name, "is no preset, no zoo name and no file", fix)
    return load_file(path, overrides)
