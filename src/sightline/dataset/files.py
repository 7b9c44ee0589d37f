"""The files of a split in a dataset folder: its parts, its folds, and what was asked."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sightline import coco, storage
from sightline.dataset.folder import ALL, DatasetPart, annotations_file, open_part
from sightline.errors import DatasetError
from sightline.records import Dataset

SPLIT_FILE = "split.json"
FOLDS_FILE = "folds.json"


def open_whole(folder: Path) -> DatasetPart:
    """All pictures of a folder that an import made.

    Raises:
        DatasetError: an import did not make it.
    """
    if not annotations_file(folder, ALL).is_file():
        raise DatasetError(folder, "has no annotations/all.json", "Give a folder that `sightline dataset import` made.")
    return open_part(folder, ALL)


def replace_parts(
    folder: Path, parts: Mapping[str, Dataset], records: Mapping[Path, object], *, folds_only: bool = False
) -> None:
    """Writes `annotations/{part}.json` and `records`, and removes what an earlier split left: all of it is complete before the
    first file takes its place.

    folds_only: parts that are no folds stay
    """
    stale = written_folds(folder) if folds_only else written_folds(folder) | written_parts(folder)
    with tempfile.TemporaryDirectory(dir=annotations_file(folder, ALL).parent, prefix=".split-") as name:
        made = Path(name)
        for part, own in parts.items():
            coco.write(own, made / f"{part}.json")
        for path, content in records.items():
            storage.write_json(path, content)
        for part in parts:
            (made / f"{part}.json").replace(annotations_file(folder, part))
    for part in stale - set(parts):
        annotations_file(folder, part).unlink(missing_ok=True)
    if folder / FOLDS_FILE not in records:
        (folder / FOLDS_FILE).unlink(missing_ok=True)
    if not folds_only and folder / SPLIT_FILE not in records:
        (folder / SPLIT_FILE).unlink(missing_ok=True)


def written_parts(folder: Path) -> set[str]:
    """What an earlier split of this folder wrote, folds left out, as far as it is there."""
    return {part for part in recorded(folder / SPLIT_FILE) if annotations_file(folder, part).is_file()} - {ALL}


def written_folds(folder: Path) -> set[str]:
    """The parts fold1_train, fold1_val, ... that are there."""
    vals = {name for name in recorded(folder / FOLDS_FILE) if name.startswith("fold") and name.endswith("_val")}
    both = vals | {f"{name.removesuffix('val')}train" for name in vals}
    return {part for part in both if annotations_file(folder, part).is_file()}


def asked_rules(folder: Path) -> list[str]:
    """The rules that the split of this folder was grouped by."""
    try:
        rules = json.loads((folder / SPLIT_FILE).read_text(encoding="utf-8"))["group_by"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(rule) for rule in rules] if isinstance(rules, list) else []


def recorded(path: Path) -> set[str]:
    """The parts that split.json or folds.json tells of; none if it is missing or damaged."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
