"""A data set in parts that are alike: every class in every part as near to the asked share as it can be.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over several classes per picture: the rarest class is dealt
out first, to the part that lacks it most. It counts boxes as well as pictures, treats "no object" as a class of its own,
keeps groups whole, and then moves and exchanges groups for as long as that brings the shares nearer.

U: units (groups of pictures that stay together). P: parts. M: measures (pictures and boxes of all, of each class, of none).
"""

import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline import coco, storage
from sightline.dataset.folder import ALL, annotations_file, open_part
from sightline.dataset.groups import group_images
from sightline.dataset.statistics import SplitTable, split_table
from sightline.errors import DatasetError, Problem
from sightline.records import Dataset, ImageRecord

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
SPLIT_FILE = "split.json"

SIZE_WEIGHT = 8.0
"""How much the share of all pictures counts against that of a class in every picture: sizes stay within a picture or two."""

BOX_WEIGHT = 0.2
"""How much a class's share of boxes counts against its share of pictures: a crowd in one picture must not decide alone.
On random sets with a long tail the pictures are dealt as evenly as by iterative-stratification, and boxes twice as evenly."""

ROUNDS = 8
"""Passes of improvement at most; most sets settle in three or four. One pass over 100,000 pictures takes about 3 s."""

EXCHANGES = 30_000
"""Pairs tried at most, about half a second. Large sets need none: their single moves are fine enough."""

MIN_GAIN = 1e-12
"""Below this an improvement is rounding, and could go round in circles."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures that stay together.

    images:   indices into the data set
    measures: (K,) int, the measures it counts in
    shares:   (K,) of each measure's total over the whole set, in (0, 1]
    """

    images: tuple[int, ...]
    measures: NDArray[np.intp]
    shares: Numbers


def split(dataset: Dataset, fractions: Mapping[str, float], *, seed: int = 0) -> dict[str, Dataset]:
    """Part name -> its pictures, with all categories and the original ids. Pictures of one `group` never part.

    The same pictures, fractions and seed give the same parts, whatever the order of the pictures.

    Raises:
        DatasetError: the fractions do not make a whole, or there are fewer groups than parts.
    """
    check_fractions(fractions)
    units, weights = measure(dataset)
    if len(units) < len(fractions):
        what = f"has {len(dataset.images)} pictures in {len(units)} groups, too few for {len(fractions)} parts"
        raise DatasetError("split", what, "Add pictures, ask for fewer parts, or group them less.")
    shares = np.array(list(fractions.values()))
    chance = random.Random(seed)
    chance.shuffle(units)
    parts = deal(units, shares, len(weights))
    improve(units, parts, shares, weights, chance)
    fill_empty(units, parts, len(shares))
    chosen: list[list[int]] = [[] for _ in fractions]
    for unit, part in zip(units, parts, strict=True):
        chosen[part].extend(unit.images)
    return {
        name: Dataset(dataset.categories, tuple(dataset.images[index] for index in sorted(indices)))
        for name, indices in zip(fractions, chosen, strict=True)
    }


def check_fractions(fractions: Mapping[str, float]) -> None:
    fix = "Give a share of each part, as train=0.6 val=0.2 test=0.2."
    problems = []
    for name, share in fractions.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name == ALL:
            problems.append(
                Problem("fractions", f"{name!r} cannot be a part's name", "Use letters, digits, - and _; `all` is taken.")
            )
        if not (math.isfinite(share) and share > 0):
            problems.append(Problem("fractions", f"{name} is {share:g}", "Give a share above 0."))
    total = math.fsum(fractions.values())
    if not problems and abs(total - 1) > 1e-6:
        problems.append(Problem("fractions", f"sum to {total:g}, not to 1", fix))
    if not fractions:
        problems.append(Problem("fractions", "are missing", fix))
    if problems:
        raise DatasetError.collected(problems)


def parse_fractions(values: Sequence[str]) -> dict[str, float]:
    """{"train": 0.8, "val": 0.2} of ["train=0.8", "val=0.2"].

    Raises:
        DatasetError: one is not PART=SHARE, or a part comes twice.
    """
    fractions: dict[str, float] = {}
    for value in values:
        name, equals, share = value.partition("=")
        try:
            number = float(share)
        except ValueError:
            equals = ""
        if not equals:
            raise DatasetError("fractions", f"{value!r} is not PART=SHARE", "Write them as train=0.6 val=0.2 test=0.2.")
        if name in fractions:
            raise DatasetError("fractions", f"{name!r} is given twice", "Give each part once.")
        fractions[name] = number
    return fractions


def measure(dataset: Dataset) -> tuple[list[Unit], Numbers]:
    """(the units in an order that depends on names only, (M,) weight of each measure).

    Measures: 0 all pictures, 1 all boxes, 2 pictures without objects, then pictures and boxes of each class in turn.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(dataset.images)), key=lambda index: dataset.images[index].file_name):
        image = dataset.images[index]
        groups[f"group {image.group}" if image.group else f"image {image.file_name}"].append(index)
    counted = [count_measures([dataset.images[index] for index in members]) for members in groups.values()]
    totals = np.zeros(3 + 2 * len(dataset.categories))
    for counts in counted:
        for key, count in counts.items():
            totals[key] += count
    # by the root of its pictures: one that only three pictures have cannot be dealt well, and must not pull the others along
    weights = np.sqrt(totals / max(len(dataset.images), 1))
    weights[4::2] = BOX_WEIGHT * weights[3::2]
    weights[0], weights[1] = SIZE_WEIGHT, BOX_WEIGHT
    units = []
    for members, counts in zip(groups.values(), counted, strict=True):
        keys = np.array(sorted(counts), dtype=np.intp)
        shares = np.array([counts[key] for key in sorted(counts)]) / totals[keys]
        units.append(Unit(tuple(members), keys, shares))
    return units, weights


def count_measures(images: Sequence[ImageRecord]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for image in images:
        counts[0] += 1
        if not image.instances:
            counts[2] += 1
            continue
        counts[1] += len(image.instances)
        for label in {instance.label for instance in image.instances}:
            counts[3 + 2 * label] += 1
        for instance in image.instances:
            counts[4 + 2 * instance.label] += 1
    return counts


def deal(units: Sequence[Unit], asked: Numbers, num_measures: int) -> list[int]:
    """The part of each unit: the rarest class first, each unit to the part that lacks most of what is in it."""
    holders: dict[int, list[int]] = defaultdict(list)
    for number, unit in enumerate(units):
        for key in unit.measures.tolist():
            if key >= 2 and (key == 2 or key % 2):  # no objects, or pictures of a class
                holders[key].append(number)
    parts = [-1] * len(units)
    excess = np.repeat(-asked[:, None], num_measures, axis=1)  # (P, M): share got - share asked
    while holders:
        rarest = min(holders, key=lambda key: (len(holders[key]), key))
        members = holders.pop(rarest)
        members.sort(key=lambda number: -len(units[number].images))  # large groups while there is room; else as shuffled
        for number in members:
            unit = units[number]
            part = int(np.argmin(excess[:, unit.measures] @ unit.shares))
            parts[number] = part
            excess[part, unit.measures] += unit.shares
        holders = {key: left for key, all_of in holders.items() if (left := [number for number in all_of if parts[number] < 0])}
    return parts


def improve(units: Sequence[Unit], parts: list[int], asked: Numbers, weights: Numbers, chance: random.Random) -> None:
    """Moves units, then exchanges pairs, while the weighted squared distance of the shares reached from those asked falls."""
    excess = np.repeat(-asked[:, None], len(weights), axis=1)  # (P, M)
    for unit, part in zip(units, parts, strict=True):
        excess[part, unit.measures] += unit.shares
    order = list(range(len(units)))
    for _ in range(ROUNDS):
        chance.shuffle(order)
        if not sum(move(units[number], number, parts, excess, weights) for number in order):
            break
    for _ in range(min(EXCHANGES, 30 * len(units)) if len(asked) > 1 else 0):
        one, other = chance.randrange(len(units)), chance.randrange(len(units))
        exchange(units, one, other, parts=parts, excess=excess, weights=weights)


def gain(unit: Unit, source: int, excess: Numbers, weights: Numbers) -> Numbers:
    """(P,) by how much the squared distance grows when `unit` goes from `source` to each part; negative is better."""
    columns = excess[:, unit.measures]  # (P, K)
    growth = 2 * weights[unit.measures] * unit.shares * (unit.shares + columns - columns[source])
    total: Numbers = growth.sum(axis=1)
    total[source] = 0
    return total


def move(unit: Unit, number: int, parts: list[int], excess: Numbers, weights: Numbers) -> bool:
    """Puts the unit where it serves best; whether that is another part than before."""
    source = parts[number]
    growth = gain(unit, source, excess, weights)
    target = int(np.argmin(growth))
    if growth[target] > -MIN_GAIN:
        return False
    shift(unit, number, target, parts, excess)
    return True


def shift(unit: Unit, number: int, target: int, parts: list[int], excess: Numbers) -> None:
    excess[parts[number], unit.measures] -= unit.shares
    excess[target, unit.measures] += unit.shares
    parts[number] = target


def exchange(units: Sequence[Unit], one: int, other: int, *, parts: list[int], excess: Numbers, weights: Numbers) -> None:
    """Lets two units change places if that brings the shares nearer: what no single move can do when sizes already fit."""
    here, there = parts[one], parts[other]
    if here == there:
        return
    first = gain(units[one], here, excess, weights)[there]
    shift(units[one], one, there, parts, excess)
    if first + gain(units[other], there, excess, weights)[here] < -MIN_GAIN:
        shift(units[other], other, here, parts, excess)
    else:
        shift(units[one], one, here, parts, excess)


def fill_empty(units: Sequence[Unit], parts: list[int], num_parts: int) -> None:
    """Gives every part that got nothing the smallest unit of the part with most units."""
    for part in range(num_parts):
        held = Counter(parts)
        if not held[part]:
            largest = max(held, key=lambda other: (held[other], -other))
            smallest = min((number for number, own in enumerate(parts) if own == largest), key=lambda n: len(units[n].images))
            parts[smallest] = part


def write_split(
    folder: Path, fractions: Mapping[str, float] = FRACTIONS, *, seed: int = 0, group_by: str | None = None
) -> SplitTable:
    """What the parts of a dataset folder got, after writing `annotations/{part}.json` and `split.json`; no picture is copied.

    Parts of an earlier split that are not asked for any more are removed: they would share pictures with the new ones.

    Raises:
        DatasetError: as `split` and `group_images`; or the folder was not made by an import.
    """
    folder = Path(folder)
    if not annotations_file(folder, ALL).is_file():
        raise DatasetError(folder, "has no annotations/all.json", "Give a folder that `sightline dataset import` made.")
    dataset = open_part(folder, ALL).dataset
    parts = split(group_images(dataset, group_by) if group_by else dataset, fractions, seed=seed)
    table = split_table(parts, fractions)
    settings = {"fractions": dict(fractions), "seed": seed, "group_by": group_by}
    with ExitStack() as files:  # all are complete before the first takes its place
        write = [(folder / SPLIT_FILE, settings | table.as_dict())]
        write += [(annotations_file(folder, part), coco.to_json(own)) for part, own in parts.items()]
        stale = earlier_parts(folder) - set(parts)
        for path, content in write:
            files.enter_context(storage.atomic_write(path)).write((json.dumps(content, ensure_ascii=False) + "\n").encode())
    for part in stale:
        annotations_file(folder, part).unlink(missing_ok=True)
    return table


def earlier_parts(folder: Path) -> set[str]:
    """What an earlier split of this folder wrote."""
    try:
        return set(json.loads((folder / SPLIT_FILE).read_text(encoding="utf-8"))["fractions"]) - {ALL}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
