"""A data set in parts that are alike: every class in every part as near to the asked share as it can be.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over several classes per picture: the rarest class is dealt
out first, to the part that lacks it most. It counts boxes as well as pictures, treats "no object" as a class of its own,
keeps groups whole, and then moves and exchanges groups for as long as that brings the shares nearer. Pictures that an earlier
split dealt out can stay where they are: they count, and do not move.

U: units (groups of pictures that stay together). P: parts. M: measures (pictures and boxes of all, of each class, of none).
"""

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.dataset.files import SPLIT_FILE, open_whole, replace_parts, written_parts
from sightline.dataset.folder import ALL, open_part
from sightline.dataset.groups import group_images
from sightline.dataset.kept import TEST, Held, hold, kept_parts, named_pictures, straddling
from sightline.dataset.statistics import SplitTable, split_table
from sightline.errors import DatasetError, Problem
from sightline.records import Dataset, ImageRecord

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}

SIZE_WEIGHT = 8.0
"""How much the share of all pictures counts against that of a class in every picture: sizes stay within a picture or two."""

BOX_WEIGHT = 0.2
"""How much a class's share of boxes counts against its share of pictures: a crowd in one picture must not decide alone.
On random sets with a long tail the pictures are dealt as evenly as by iterative-stratification, and boxes twice as evenly."""

ROUNDS = 8
"""Passes of improvement at most; most sets settle in three or four. One pass over 100,000 pictures takes about a second."""

EXCHANGES = 30_000
"""Pairs tried at most, about half a second. Large sets need none: their single moves are fine enough."""

MIN_GAIN = 1e-12
"""Below this an improvement is rounding, and could go round in circles."""

FREE = -1

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures that stay together.

    images:   indices into the data set
    measures: (K,) int, the measures it counts in
    shares:   (K,) of each measure's total over the whole set, in (0, 1]
    pull:     (K,) shares times the measures' weights
    part:     the part they stay in; FREE: still to be dealt out
    """

    images: tuple[int, ...]
    measures: NDArray[np.intp]
    shares: Numbers
    pull: Numbers
    part: int


def split(
    dataset: Dataset, fractions: Mapping[str, float], *, seed: int = 0, kept: Mapping[str, str] | None = None
) -> dict[str, Dataset]:
    """Part name -> its pictures, with all categories and the original ids. Pictures of one `group` never part.

    The same pictures, fractions, seed and kept pictures give the same parts, whatever the order of the pictures.

    kept: file name -> the part that it stays in. The rest of its group follows; a group whose kept pictures are in several
          parts already stays divided, and its other pictures follow most of them.

    Raises:
        DatasetError: the fractions do not make a whole, there are fewer groups than parts, or a picture is kept in no part.
    """
    check_fractions(fractions)
    names = list(fractions)
    for name, own in (kept or {}).items():
        if own not in fractions:
            raise DatasetError("split", f"{name} is kept in {own!r}", f"Keep it in one of {', '.join(names)}.")
    units, weights = measure(dataset, {name: names.index(part) for name, part in (kept or {}).items()})
    if len(units) < len(fractions):
        what = f"has {len(dataset.images)} pictures in {len(units)} groups, too few for {len(fractions)} parts"
        raise DatasetError("split", what, "Add pictures, ask for fewer parts, or group them less.")
    shares = np.array(list(fractions.values()))
    chance = random.Random(seed)
    chance.shuffle(units)
    parts, excess = deal(units, shares, len(weights))
    improve(units, parts, excess, chance)
    fill_empty(units, parts, len(shares))
    chosen: list[list[int]] = [[] for _ in fractions]
    for unit, part in zip(units, parts, strict=True):
        chosen[part].extend(unit.images)
    return {name: take(dataset, sorted(indices)) for name, indices in zip(names, chosen, strict=True)}


def take(dataset: Dataset, indices: Sequence[int]) -> Dataset:
    """The pictures at these places, with all categories."""
    return Dataset(dataset.categories, tuple(dataset.images[index] for index in indices))


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


def measure(dataset: Dataset, kept: Mapping[str, int]) -> tuple[list[Unit], Numbers]:
    """(the units in an order that depends on names only, (M,) weight of each measure).

    Measures: 0 all pictures, 1 all boxes, 2 pictures without objects, then pictures and boxes of each class in turn.
    """
    groups = [unit for members in by_group(dataset) for unit in divide(dataset, members, kept)]
    counted = [count_measures([dataset.images[index] for index in members]) for members, _ in groups]
    totals = np.zeros(3 + 2 * len(dataset.categories))
    for counts in counted:
        for key, count in counts.items():
            totals[key] += count
    # by the root of its pictures: one that only three pictures have cannot be dealt well, and must not pull the others along
    weights = np.sqrt(totals / max(len(dataset.images), 1))
    weights[4::2] = BOX_WEIGHT * weights[3::2]
    weights[0], weights[1] = SIZE_WEIGHT, BOX_WEIGHT
    units = []
    for (members, part), counts in zip(groups, counted, strict=True):
        present = sorted(counts)
        keys = np.array(present, dtype=np.intp)
        shares = np.array([counts[key] for key in present]) / totals[keys]
        units.append(Unit(tuple(members), keys, shares, weights[keys] * shares, part))
    return units, weights


def by_group(dataset: Dataset) -> list[list[int]]:
    """The indices of pictures that stay together, by file name."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(dataset.images)), key=lambda index: dataset.images[index].file_name):
        image = dataset.images[index]
        groups[f"group {image.group}" if image.group else f"image {image.file_name}"].append(index)
    return list(groups.values())


def divide(dataset: Dataset, members: list[int], kept: Mapping[str, int]) -> list[tuple[list[int], int]]:
    """(pictures, the part that they stay in or FREE) of one group: one such, unless its pictures are kept in several parts."""
    own: dict[int, list[int]] = defaultdict(list)
    for index in members:
        own[kept.get(dataset.images[index].file_name, FREE)].append(index)
    if FREE in own and len(own) > 1:
        free = own.pop(FREE)
        own[max(own, key=lambda part: (len(own[part]), -part))] += free
    return [(indices, part) for part, indices in sorted(own.items())]


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


def deal(units: Sequence[Unit], asked: Numbers, num_measures: int) -> tuple[list[int], Numbers]:
    """(the part of each unit, (M, P) share got - share asked).

    The rarest class is dealt first, each unit to the part that lacks most of what is in it.
    """
    parts = [unit.part for unit in units]
    excess = np.repeat(-asked[None], num_measures, axis=0)
    holders: dict[int, list[int]] = defaultdict(list)
    for number, unit in enumerate(units):
        if unit.part != FREE:
            excess[unit.measures, unit.part] += unit.shares
            continue
        for key in unit.measures.tolist():
            if key >= 2 and (key == 2 or key % 2):  # no objects, or pictures of a class
                holders[key].append(number)
    while holders:
        rarest = min(holders, key=lambda key: (len(holders[key]), key))
        members = holders.pop(rarest)
        members.sort(key=lambda number: -len(units[number].images))  # large groups while there is room; else as shuffled
        for number in members:
            unit = units[number]
            part = int((unit.shares @ excess[unit.measures]).argmin())
            parts[number] = part
            excess[unit.measures, part] += unit.shares
        holders = {
            key: left for key, all_of in holders.items() if (left := [number for number in all_of if parts[number] == FREE])
        }
    return parts, excess


def improve(units: Sequence[Unit], parts: list[int], excess: Numbers, chance: random.Random) -> None:
    """Moves units, then exchanges pairs, while the weighted squared distance of the shares reached from those asked falls."""
    free = [number for number, unit in enumerate(units) if unit.part == FREE]
    order = list(free)
    for _ in range(ROUNDS):
        chance.shuffle(order)
        if not sum(move(units[number], number, parts, excess) for number in order):
            break
    for _ in range(min(EXCHANGES, 30 * len(free)) if excess.shape[1] > 1 else 0):
        exchange(units, chance.choice(free), chance.choice(free), parts=parts, excess=excess)


def gain(unit: Unit, source: int, excess: Numbers) -> Numbers:
    """(P,) by how much half the squared distance grows when `unit` goes from `source` to each part; negative is better."""
    drawn: Numbers = unit.pull @ excess[unit.measures]  # (P,)
    growth: Numbers = drawn - drawn[source] + unit.pull @ unit.shares
    growth[source] = 0
    return growth


def move(unit: Unit, number: int, parts: list[int], excess: Numbers) -> bool:
    """Puts the unit where it serves best; whether that is another part than before."""
    source = parts[number]
    growth = gain(unit, source, excess)
    target = int(growth.argmin())
    if growth[target] > -MIN_GAIN:
        return False
    shift(unit, number, target, parts, excess)
    return True


def shift(unit: Unit, number: int, target: int, parts: list[int], excess: Numbers) -> None:
    excess[unit.measures, parts[number]] -= unit.shares
    excess[unit.measures, target] += unit.shares
    parts[number] = target


def exchange(units: Sequence[Unit], one: int, other: int, *, parts: list[int], excess: Numbers) -> None:
    """Lets two units change places if that brings the shares nearer: what no single move can do when sizes already fit."""
    here, there = parts[one], parts[other]
    if here == there:
        return
    first = gain(units[one], here, excess)[there]
    shift(units[one], one, there, parts, excess)
    if first + gain(units[other], there, excess)[here] < -MIN_GAIN:
        shift(units[other], other, here, parts, excess)
    else:
        shift(units[one], one, here, parts, excess)


def fill_empty(units: Sequence[Unit], parts: list[int], num_parts: int) -> None:
    """Gives every part that got nothing the smallest unit of the part with most units that may move."""
    for part in range(num_parts):
        if part in parts:
            continue
        movable = Counter(own for own, unit in zip(parts, units, strict=True) if unit.part == FREE)
        if movable:
            largest = max(movable, key=lambda other: (movable[other], -other))
            candidates = [n for n, unit in enumerate(units) if parts[n] == largest and unit.part == FREE]
            parts[min(candidates, key=lambda n: len(units[n].images))] = part


def write_split(
    folder: Path,
    fractions: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    group_by: str | Sequence[str] | None = None,
    keep_from: Path | None = None,
    test_from: Path | None = None,
) -> SplitTable:
    """What the parts of a dataset folder got, after writing `annotations/{part}.json` and `split.json`; no picture is copied.

    Parts and folds of an earlier split that are not asked for any more are removed: they would share pictures with these.

    fractions: of train, val and test if not given
    keep_from: a dataset folder that was split before, also `folder` itself: its pictures stay in their parts
    test_from: a list of file names, or a dataset folder: its pictures are the part `test`, whatever the fractions of the rest

    Raises:
        DatasetError: as `split`, `group_images`, `kept_parts` and `named_pictures`; or the folder was not made by an import.
    """
    folder = Path(folder)
    whole = open_whole(folder)
    shares = shares_asked(fractions, test_from)
    dataset = group_images(whole.dataset, group_by, whole.images_dir) if group_by else whole.dataset
    held = hold(dataset, named_pictures(whole, test_from) if test_from else set())
    kept = kept_parts(whole, keep_from, shares) if keep_from else {}
    kept = {image.file_name: kept[image.file_name] for image in held.rest.images if image.file_name in kept}
    parts = split(held.rest, shares, seed=seed, kept=kept)
    reached = {name: share * len(held.rest.images) / max(len(dataset.images), 1) for name, share in shares.items()}
    if test_from:
        parts[TEST] = held.test
    told = [*told_of_groups(dataset, kept, held), *([] if test_from else told_of_moves(folder, parts))]
    table = split_table(parts, reached, kept=Counter(kept.values()), notes=told)
    asked = {"fractions": shares, "seed": seed, "group_by": listed(group_by)}
    asked |= {"keep_from": str(keep_from) if keep_from else None, "test_from": str(test_from) if test_from else None}
    replace_parts(folder, parts, {folder / SPLIT_FILE: asked | table.as_dict()})
    return table


def shares_asked(fractions: Mapping[str, float] | None, test_from: Path | None) -> dict[str, float]:
    """The shares of what is to be dealt out: without a test part where that is given by name.

    Raises:
        DatasetError: a share of a test part that is given by name.
    """
    if fractions is None:
        rest = {name: share for name, share in FRACTIONS.items() if name != TEST or not test_from}
        return {name: share / math.fsum(rest.values()) for name, share in rest.items()}
    if test_from and TEST in fractions:
        fix = "Give the shares of the other parts among the rest, as train=0.75 val=0.25."
        raise DatasetError("fractions", "has a share of test, which --test-from names already", fix)
    return dict(fractions)


def listed(group_by: str | Sequence[str] | None) -> list[str]:
    return [group_by] if isinstance(group_by, str) else list(group_by or [])


def told_of_groups(dataset: Dataset, kept: Mapping[str, str], held: Held) -> list[str]:
    told = []
    if divided := straddling(dataset, kept):
        told.append(
            f"{divided:,} groups were in several parts before and stay so: their pictures give each other away. "
            "Split without --keep-from to bring them together."
        )
    if held.joined:
        told.append(
            f"{held.joined:,} pictures joined the test part: they are in a group with one of it. "
            "Group by other rules to leave them to training."
        )
    return told


def told_of_moves(folder: Path, parts: Mapping[str, Dataset]) -> list[str]:
    """That pictures which an earlier split of this folder had in the test part are trained on now."""
    if TEST not in written_parts(folder):
        return []
    earlier = {image.file_name for image in open_part(folder, TEST).dataset.images}
    others = (own for name, own in parts.items() if name != TEST)
    moved = sum(image.file_name in earlier for own in others for image in own.images)
    if not moved:
        return []
    return [
        f"{moved:,} of {len(earlier):,} pictures of the earlier test part are in other parts now: scores before and after "
        f"cannot be compared. Repeat the earlier split to go back, and keep it with --keep-from {folder}."
    ]
