"""Which pictures must stay together in a split: frames of one video, shots of one scene, near-duplicates.

RULE        pictures are together when they share
folder      the folder of their file name
prefix:N    the folder and the first N characters of the name
regex:P     what the first capturing group of P finds in the file name; a name without a match is alone
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from sightline.errors import DatasetError
from sightline.records import Dataset

FIX = "Give folder, prefix:N (as prefix:8) or regex:PATTERN (as regex:'(.*)_[0-9]+')."


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


def group_images(dataset: Dataset, rule: str) -> Dataset:
    """The same pictures with `group` set: by `rule`, joined with the groups they have already.

    Raises:
        DatasetError: the rule is wrong, or gives no picture a group.
    """
    group = group_rule(rule)
    keys = [group(image.file_name) for image in dataset.images]
    if dataset.images and not any(keys):
        raise DatasetError("group-by", f"{rule!r} matches no file name (the first is {dataset.images[0].file_name})", FIX)
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (parent := parents.get(node, node)) != node:
            parents[node] = parents.get(parent, parent)  # halves the path, so that long chains stay cheap
            node = parent
        return node

    members = [
        [("rule", key)] * bool(key) + [("own", image.group)] * bool(image.group)
        for image, key in zip(dataset.images, keys, strict=True)
    ]
    for nodes in members:
        for node in nodes[1:]:
            first, other = sorted((root(nodes[0]), root(node)))
            parents[other] = first  # the smaller name wins: the order of the pictures does not matter
    images = (
        replace(image, group="/".join(root(nodes[0])) if nodes else "")
        for image, nodes in zip(dataset.images, members, strict=True)
    )
    return Dataset(dataset.categories, tuple(images))
