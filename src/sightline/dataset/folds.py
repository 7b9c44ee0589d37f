"""k folds: every picture is validated on once and trained on k - 1 times; for sets too small for one validation part."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sightline.dataset.files import FOLDS_FILE, asked_rules, open_whole, replace_parts, written_parts
from sightline.dataset.folder import open_part
from sightline.dataset.groups import group_images
from sightline.dataset.kept import TEST, Held, hold, kept_parts, named_pictures
from sightline.dataset.split import listed, split, told_of_groups
from sightline.dataset.statistics import SplitTable, split_table
from sightline.errors import DatasetError
from sightline.records import Dataset

TRAIN, VAL = "train", "val"


def fold_part(fold: int, half: str) -> str:
    """The name of the part that fold 1, 2, ... trains on (half "train") or is validated on ("val")."""
    return f"fold{fold}_{half}"


def fold_parts(parts: Sequence[Dataset]) -> dict[str, Dataset]:
    """fold1_train, fold1_val, fold2_train, ... of parts that share no picture: each is one fold's val, and the others' train.

    Pictures come in the order of their ids.
    """
    made: dict[str, Dataset] = {}
    for fold, own in enumerate(parts, 1):
        others = sorted((image for other in parts if other is not own for image in other.images), key=lambda image: image.id)
        made[fold_part(fold, TRAIN)] = Dataset(own.categories, tuple(others))
        made[fold_part(fold, VAL)] = own
    return made


def write_folds(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    group_by: str | Sequence[str] | None = None,
    keep_from: Path | None = None,
    test_from: Path | None = None,
) -> SplitTable:
    """What the folds got, after writing `annotations/fold1_train.json`, `fold1_val.json`, ... and `folds.json`.

    The test part of the folder is in no fold: that of its split, or the one given. The parts of its split stay.

    keep_from: a dataset folder with folds, also `folder` itself: its pictures stay in their folds
    test_from: as in `write_split`; the parts of an earlier split are removed

    Raises:
        DatasetError: there are fewer than 2 folds, or fewer groups than folds; or as `write_split`.
    """
    if count < 2:
        raise DatasetError("folds", f"are {count}", "Ask for 2 or more.")
    folder = Path(folder)
    whole = open_whole(folder)
    dataset = group_images(whole.dataset, group_by, whole.images_dir) if group_by else whole.dataset
    names = named_pictures(whole, test_from) if test_from else split_test(folder)
    held = hold(dataset, names & {image.file_name for image in dataset.images})
    vals = [fold_part(fold, VAL) for fold in range(1, count + 1)]
    kept = kept_parts(whole, keep_from, vals) if keep_from else {}
    kept = {image.file_name: kept[image.file_name] for image in held.rest.images if image.file_name in kept}
    shares = dict.fromkeys(vals, 1 / count)
    parts = split(held.rest, shares, seed=seed, kept=kept)
    told = [*told_of_groups(dataset, kept, held), *told_of_rules(folder, listed(group_by))]
    table = fold_table(parts, held, Counter(kept.values()), told)
    asked = {"folds": count, "seed": seed, "group_by": listed(group_by)}
    asked |= {"keep_from": str(keep_from) if keep_from else None, "test_from": str(test_from) if test_from else None}
    made = fold_parts(list(parts.values()))
    if test_from:
        made[TEST] = held.test
    replace_parts(folder, made, {folder / FOLDS_FILE: asked | table.as_dict()}, folds_only=not test_from)
    return table


def split_test(folder: Path) -> set[str]:
    """The file names of the test part that a split made; none without one."""
    return {image.file_name for image in open_part(folder, TEST).dataset.images} if TEST in written_parts(folder) else set()


def told_of_rules(folder: Path, rules: list[str]) -> list[str]:
    """That the split of this folder was grouped by rules which the folds are not."""
    missing = [rule for rule in asked_rules(folder) if rule not in rules]
    if not missing:
        return []
    words = " ".join(f"--group-by {rule!r}" for rule in missing)
    return [
        f"The split was grouped by {' and '.join(missing)}, the folds are not. Add {words} to keep those together here, too."
    ]


def fold_table(parts: dict[str, Dataset], held: Held, kept: Counter[str], notes: list[str]) -> SplitTable:
    every = len(held.rest.images) + len(held.test.images)
    share = len(held.rest.images) / max(every, 1) / len(parts)
    shown = parts | ({TEST: held.test} if held.test.images else {})
    return split_table(shown, dict.fromkeys(parts, share), kept=kept, notes=notes)
