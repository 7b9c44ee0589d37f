import json
import random
from pathlib import Path

import numpy as np
import pytest
from builders import a_dataset, a_record

from sightline import labels
from sightline.dataset.folder import create, open_part
from sightline.dataset.groups import group_images
from sightline.dataset.split import check_fractions, parse_fractions, split, write_split
from sightline.errors import DatasetError
from sightline.records import Dataset

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def long_tailed(seed: int, images: int = 200, classes: int = 10) -> Dataset:
    """Random pictures: the first class on more than half of them, the last on a few, one to several boxes of each."""
    chance = random.Random(seed)
    shares = [0.6 / (label + 1) ** 1.2 for label in range(classes)]
    records = []
    for number in range(1, images + 1):
        present = [label for label, share in enumerate(shares) if chance.random() < share]
        records.append(a_record(number, [label for label in present for _ in range(chance.choice((1, 1, 2, 2, 5)))]))
    return a_dataset(records, [f"class {label}" for label in range(classes)])


def members(parts: dict[str, Dataset]) -> dict[str, set[str]]:
    return {name: {image.file_name for image in part.images} for name, part in parts.items()}


def test_every_picture_is_in_one_part_and_sizes_are_as_asked() -> None:
    dataset = long_tailed(1)
    parts = split(dataset, THIRDS)
    assert sorted(image.id for part in parts.values() for image in part.images) == list(range(1, 201))
    assert [len(part.images) for part in parts.values()] == pytest.approx([120, 40, 40], abs=2)
    assert all(part.categories == dataset.categories for part in parts.values())


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    dataset = long_tailed(2)
    images = list(dataset.images)
    random.Random(0).shuffle(images)
    assert members(split(Dataset(dataset.categories, tuple(images)), THIRDS, seed=5)) == members(split(dataset, THIRDS, seed=5))
    assert members(split(dataset, THIRDS, seed=5)) != members(split(dataset, THIRDS, seed=6))


def image_matrix(dataset: Dataset) -> np.ndarray:
    """(images, classes) whether a picture has a class."""
    matrix = np.zeros((len(dataset.images), len(dataset.categories)), dtype=int)
    for row, image in enumerate(dataset.images):
        matrix[row, [instance.label for instance in image.instances]] = 1
    return matrix


def worst_share(matrix: np.ndarray, rows: np.ndarray | list[int], asked: float) -> float:
    """The largest distance of a class's share from the one asked, over classes that five pictures or more have."""
    totals = matrix.sum(axis=0)
    shares = matrix[rows].sum(axis=0)[totals >= 5] / totals[totals >= 5]
    return float(np.abs(shares - asked).max())


def test_shares_are_as_even_as_those_of_iterative_stratification() -> None:
    stratifiers = pytest.importorskip("iterstrat.ml_stratifiers")
    ours, theirs = [], []
    for seed in range(8):
        dataset = long_tailed(seed)
        matrix = image_matrix(dataset)
        rows = [image.id - 1 for image in split(dataset, {"train": 0.8, "val": 0.2}, seed=seed)["val"].images]
        ours.append(worst_share(matrix, rows, 0.2))
        with_empty = np.column_stack([matrix, matrix.sum(axis=1) == 0]).astype(int)
        shuffle = stratifiers.MultilabelStratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
        theirs.append(worst_share(matrix, next(shuffle.split(with_empty, with_empty))[1], 0.2))
    assert np.mean(ours) <= np.mean(theirs) + 1e-9


def test_boxes_are_dealt_evenly_too() -> None:
    images = [a_record(number, [0] * (20 if number % 10 == 0 else 1)) for number in range(1, 101)]
    parts = split(a_dataset(images), {"train": 0.5, "val": 0.5})
    assert [part.instance_count for part in parts.values()] == pytest.approx([145, 145], abs=1)


def test_pictures_without_objects_are_a_class_of_their_own() -> None:
    images = [a_record(number, [0] if number > 10 else []) for number in range(1, 51)]
    parts = split(a_dataset(images), THIRDS)
    assert [sum(not image.instances for image in part.images) for part in parts.values()] == [6, 2, 2]


def test_groups_never_part() -> None:
    chance = random.Random(0)
    images = [a_record(number, [chance.randrange(2)], group=f"scene {number // 7}") for number in range(1, 141)]
    parts = split(a_dataset(images), THIRDS)
    scenes = [{image.group for image in part.images} for part in parts.values()]
    assert sum(map(len, scenes)) == len(set.union(*scenes))
    assert [len(part.images) for part in parts.values()] == pytest.approx([84, 28, 28], abs=7)


def test_no_part_stays_empty_where_that_is_possible() -> None:
    images = [a_record(number) for number in range(1, 4)]
    assert all(part.images for part in split(a_dataset(images), {"train": 0.98, "val": 0.01, "test": 0.01}).values())
    with pytest.raises(DatasetError, match=r"has 2 pictures in 2 groups, too few for 3 parts"):
        split(a_dataset(images[:2]), THIRDS)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.8, "val": 0.1}, "sum to 0.9, not to 1"),
        ({"train": 1.2, "val": -0.2}, "val is -0.2. Give a share above 0"),
        ({"train": 0.5, "val": float("nan")}, "val is nan"),
        ({"all": 1.0}, "'all' cannot be a part's name"),
        ({"../x": 1.0}, "'../x' cannot be a part's name"),
        ({}, "are missing"),
    ],
)
def test_wrong_fractions(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check_fractions(fractions)
    check_fractions({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [(["train"], "'train' is not PART=SHARE"), (["train=x"], "'train=x' is not"), (["a=0.5", "a=0.5"], "'a' is given twice")],
)
def test_fractions_as_text(values: list[str], message: str) -> None:
    assert parse_fractions(["train=0.75", "val=.25"]) == {"train": 0.75, "val": 0.25}
    with pytest.raises(DatasetError, match=message):
        parse_fractions(values)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", ["a", "a", "b"]),
        ("prefix:3", ["a/cam", "a/cam", "b/dog"]),
        ("prefix:5", ["a/cam1_", "a/cam2_", "b/dog.j"]),
        (r"regex:cam(\d)", ["1", "2", ""]),
    ],
)
def test_group_rules(rule: str, expected: list[str]) -> None:
    names = ["a/cam1_01.jpg", "a/cam2_01.jpg", "b/dog.jpg"]
    grouped = group_images(a_dataset([a_record(number, file_name=name) for number, name in enumerate(names, 1)]), rule)
    assert [image.group.removeprefix(f"{rule}/") for image in grouped.images] == expected


def test_a_rule_joins_the_groups_that_are_there() -> None:
    names = [("a/1.jpg", "x"), ("b/1.jpg", "x"), ("b/2.jpg", ""), ("c/1.jpg", "y"), ("d/1.jpg", "")]
    dataset = a_dataset([a_record(number, file_name=name, group=group) for number, (name, group) in enumerate(names, 1)])
    groups = [image.group for image in group_images(dataset, "folder").images]
    assert len(set(groups)) == 3
    assert groups[0] == groups[1] == groups[2]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("folders", "unknown rule 'folders'. Give folder, prefix:N"),
        ("prefix:x", "unknown rule 'prefix:x'"),
        ("prefix:0", "unknown rule"),
        ("regex:(", r"the pattern '\(' is wrong .missing \)"),
        ("regex:abc", "the pattern 'abc' has no capturing group"),
        ("regex:(zzz)", "matches no file name .the first is 001.jpg"),
    ],
)
def test_wrong_rules(rule: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        group_images(a_dataset(), rule)


def test_a_split_is_written_beside_the_whole(tmp_path: Path) -> None:
    dataset = long_tailed(3, images=60)
    create(dataset, tmp_path / "set", pictures=None)
    table = write_split(tmp_path / "set", THIRDS, seed=1)
    assert members({name: open_part(tmp_path / "set", name).dataset for name in THIRDS}) == members(
        split(dataset, THIRDS, seed=1)
    )
    assert table.counts["train"].total.images == len(open_part(tmp_path / "set", "train").dataset.images)
    settings = json.loads((tmp_path / "set/split.json").read_text())
    assert (settings["fractions"], settings["seed"], settings["group_by"]) == (THIRDS, 1, [])


def test_parts_of_an_earlier_split_go(tmp_path: Path) -> None:
    create(long_tailed(4, images=30), tmp_path / "set", pictures=None)
    write_split(tmp_path / "set", THIRDS)
    write_split(tmp_path / "set", {"train": 0.5, "holdout": 0.5}, group_by="regex:(.)[.]jpg")
    names = sorted(path.stem for path in (tmp_path / "set/annotations").iterdir())
    assert names == ["all", "holdout", "train"]
    assert open_part(tmp_path / "set", "train").dataset.images[0].group.startswith("regex:")


def test_only_an_imported_folder_is_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no annotations/all.json. Give a folder that `sightline dataset import` made"):
        write_split(tmp_path)


def test_the_table_shows_what_was_asked_and_reached(tmp_path: Path) -> None:
    images = [a_record(number, [0] if number < 10 else [0, 1]) for number in range(1, 11)]
    create(a_dataset(images), tmp_path / "set", pictures=None)
    lines = str(write_split(tmp_path / "set", {"train": 0.7, "val": 0.3})).splitlines()
    assert lines[0].split() == ["train,", "70.0%", "asked", "val,", "30.0%", "asked"]
    assert lines[2].split() == ["all", "7", "70.0%", "8", "72.7%", "3", "30.0%", "3", "27.3%"]
    assert lines[3].split() == ["cat", "7", "70.0%", "7", "70.0%", "3", "30.0%", "3", "30.0%"]
    assert lines[-1].startswith("dog does not occur in val: too few pictures have it. Label more pictures that show it,")


def test_real_bees(shared: Path) -> None:
    dataset = labels.read(shared / "data/bees/output.manifest").dataset
    parts = split(dataset, THIRDS)
    assert [len(part.images) for part in parts.values()] == [300, 100, 100]
    assert [part.instance_count for part in parts.values()] == pytest.approx([605, 202, 202], abs=2)
