"""What a study was begun with, kept in study.json: trials can only be compared where all of it stays as it was."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from sightline.config.support import is_ignored
from sightline.config.yaml_dialect import as_lists, flat
from sightline.dataset.folder import DatasetPart
from sightline.errors import ConfigError, Problem
from sightline.storage import write_json
from sightline.tuning.options import Recipe
from sightline.tuning.space import Space

STUDY = "study.json"

FREE = ("MODEL.DEVICE",)
"""Keys that may differ between two calls of one study."""

Facts = dict[str, dict[str, object]]


def facts_of(space: Space, recipe: Recipe, parts: Mapping[str, DatasetPart], how: Mapping[str, object]) -> Facts:
    """Everything that decides how trials go and what they are measured by, as plain data.

    parts: {"train": ..., "validation": ...}
    how:   of the search itself: its seed, its evaluations
    """
    config = {key: as_lists(value) for key, value in flat(recipe.config).items() if is_ignored(key) is None and key not in FREE}
    facts: Facts = {
        "space": {name: parameter.as_dict() for name, parameter in space.items()},
        "data": {name: fact for part, opened in parts.items() for name, fact in facts_of_part(part, opened).items()},
        "search": dict(how),
        "config": config,
        "settings": recipe.settings.as_dict(),
        "asked": asdict(recipe.asked),
    }
    plain: Facts = json.loads(json.dumps(facts))  # as it comes back from the file: tuples are lists
    return plain


def facts_of_part(name: str, part: DatasetPart) -> dict[str, object]:
    """Labels by content, pictures by size: copies of a data set count as the same."""
    pictures = hashlib.sha256()
    for image in part.dataset.images:
        path = part.pictures / image.file_name
        pictures.update(f"{image.file_name} {path.stat().st_size if path.is_file() else 0}\n".encode())
    return {
        f"{name} classes": list(part.dataset.class_names),
        f"{name} images": len(part.dataset.images),
        f"{name} boxes": part.dataset.instance_count,
        f"{name} labels": hashlib.sha256(part.annotations.read_bytes()).hexdigest(),
        f"{name} pictures": pictures.hexdigest(),
    }


def claim(folder: Path, facts: Facts) -> None:
    """Nothing, if `folder` is a new study, which is then one of these facts, or was begun with them.

    Raises:
        ConfigError: everything that differs, or the folder holds something else.
    """
    path = folder / STUDY
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(folder, f"holds files, and no {STUDY}", "Choose a new folder with -o.")
        write_json(path, {"format": 1, **facts}, indent=1)
        return
    try:
        before = json.loads(path.read_bytes())
        problems = list(differences(before, facts, folder))
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "Restore it, or choose a new folder with -o.") from error
    if problems:
        raise ConfigError.collected(problems)


def differences(before: Mapping[str, Mapping[str, object]], now: Facts, folder: Path) -> Iterator[Problem]:
    """Every fact that is not as it was. Settings that an older version did not know are none."""
    fix = "Set it back, or begin another study with -o."
    for group, facts in now.items():
        known = before.get(group, {})
        for name in dict.fromkeys([*known, *facts]):
            if group in ("config", "settings", "asked") and not (name in known and name in facts):
                continue
            old, new = shown(known.get(name)), shown(facts.get(name))
            if old != new:
                yield Problem(f"{group}: {name}", f"is {new}, and was {old} when the study in {folder} began", fix)


def shown(value: object) -> str:
    """A fact for people: hashes are cut short, and what is absent is said to be."""
    if value is None:
        return "absent"
    text = json.dumps(value, sort_keys=True)
    return f"{text[1:13]}..." if len(text) == 66 and isinstance(value, str) else text
