"""Which pictures must stay together in a split: frames of one video, shots of one scene, near-duplicates.

RULE        pictures are together when they share
folder      the folder of their file name
prefix:N    the folder and the first N characters of the name
regex:P     what the first capturing group of P finds in the file name; a name without a match is alone
near-duplicates   what the picture shows, nearly (`sightline.dataset.alike`)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sightline.dataset.alike import clusters, connected, fingerprint_files
from sightline.errors import DatasetError
from sightline.records import Dataset

NEAR_DUPLICATES = "near-duplicates"
FIX = "Give folder, prefix:N (as prefix:8), regex:PATTERN (as regex:'(.*)_[0-9]+') or near-duplicates."


def group_rule(rule: str) -> Callable[[str], str]:
    """file name -> its group, "" for none.

    Raises:
        DatasetError: `rule` is none of the three, or its number or pattern is wrong.
    """
    kind, _, argument = rule.partition(":")
    if rule == "folder":
        return lambda name: str(PurePosixPath(name).parent)
    if kind == "prefix" and argument.isdecimal() and int(argument) > 0:
        return lambda name: str(PurePosixPath(name).parent / PurePosixPath(name).name[: int(argument)])
    if kind == "regex" and argument:
        return pattern_rule(argument)
    raise DatasetError("group-by", f"unknown rule {rule!r}", FIX)


def pattern_rule(pattern: str) -> Callable[[str], str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(
            "group-by", f"the pattern {pattern!r} is wrong ({error})", "Correct the regular expression."
        ) from error
    if not compiled.groups:
        fix = "Put parentheses around what pictures share, as in regex:'(.*)_[0-9]+'."
        raise DatasetError("group-by", f"the pattern {pattern!r} has no capturing group", fix)

    def group(name: str) -> str:
        found = compiled.search(name)
        return (found[1] or "") if found else ""

    return group


def group_images(dataset: Dataset, rules: str | Sequence[str], pictures: Path | None = None) -> Dataset:
    """The same pictures with `group` set: together is what one of the rules puts together, and what is in one group already.

    pictures: the folder of the pictures, which the rule near-duplicates looks at

    Raises:
        DatasetError: a rule is wrong, gives no picture a group, or needs pictures that are not there.
    """
    rules = [rules] if isinstance(rules, str) else list(rules)
    keys = {rule: keys_by(rule, dataset, pictures) for rule in dict.fromkeys(rules)}
    nodes: dict[tuple[str, str], int] = {}  # (rule, key) -> number
    members: list[list[int]] = []
    for number, image in enumerate(dataset.images):
        own = [("own", image.group)] if image.group else []
        own += [(rule, found[number]) for rule, found in keys.items() if found[number]]
        members.append([nodes.setdefault(node, len(nodes)) for node in own])
    roots = connected(len(nodes), [(places[0], place) for places in members for place in places[1:]])
    names: dict[int, str] = {}
    for (rule, key), number in sorted(nodes.items()):  # the smallest name wins: the order of the pictures does not matter
        names.setdefault(roots[number], f"{rule}/{key}")
    images = (
        replace(image, group=names[roots[places[0]]] if places else "")
        for image, places in zip(dataset.images, members, strict=True)
    )
    return Dataset(dataset.categories, tuple(images))


def keys_by(rule: str, dataset: Dataset, pictures: Path | None) -> list[str]:
    """What each picture shares with others by one rule, "" for nothing.

    Raises:
        DatasetError: as `group_images`.
    """
    if rule == NEAR_DUPLICATES:
        return near_duplicates(dataset, pictures)
    group = group_rule(rule)
    keys = [group(image.file_name) for image in dataset.images]
    if dataset.images and not any(keys):
        raise DatasetError("group-by", f"{rule!r} matches no file name (the first is {dataset.images[0].file_name})", FIX)
    return keys


def near_duplicates(dataset: Dataset, pictures: Path | None) -> list[str]:
    """For each picture the smallest name among those that show nearly the same, "" where there is no other."""
    if pictures is None:
        raise DatasetError("group-by", f"{NEAR_DUPLICATES} needs pictures, and there are none", "Import with --images.")
    names = [image.file_name for image in dataset.images]
    keys = [""] * len(names)
    for cluster in clusters(fingerprint_files([pictures / name for name in names])):
        for number in cluster:
            keys[number] = min(names[member] for member in cluster)
    return keys
