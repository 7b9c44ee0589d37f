import json
from pathlib import Path

import pytest
from builders import a_dataset, a_painting, a_record
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from sightline.dataset.folder import create, open_part
from sightline.dataset.groups import group_images
from sightline.dataset.kept import hold, same_pictures, straddling
from sightline.dataset.split import split, write_split
from sightline.errors import DatasetError
from sightline.records import Dataset, ImageRecord

THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def where(parts: dict[str, Dataset]) -> dict[str, str]:
    """File name -> part."""
    return {image.file_name: name for name, part in parts.items() for image in part.images}


@st.composite
def sets(draw: st.DrawFn) -> Dataset:
    """Up to 40 pictures, some in groups, with up to 3 boxes of 2 classes."""
    facts = st.tuples(st.lists(st.integers(0, 1), max_size=3), st.sampled_from(["", "", *(f"scene {n}" for n in range(12))]))
    drawn = draw(st.lists(facts, min_size=6, max_size=40))
    return a_dataset([a_record(number, labels, group=group) for number, (labels, group) in enumerate(drawn, 1)])


def groups_of(dataset: Dataset) -> int:
    return len({image.group or image.file_name for image in dataset.images})


@settings(max_examples=25)
@given(dataset=sets(), seed=st.integers(0, 99), chance=st.randoms(use_true_random=False))
def test_groups_never_part_and_the_order_does_not_matter(dataset: Dataset, seed: int, chance: object) -> None:
    if groups_of(dataset) < 3:
        return
    parts = split(dataset, THIRDS, seed=seed)
    found = where(parts)
    assert found.keys() == {image.file_name for image in dataset.images}
    assert sum(len(part.images) for part in parts.values()) == len(dataset.images)
    homes = {(image.group, found[image.file_name]) for image in dataset.images if image.group}
    assert len(homes) == len({group for group, _ in homes})
    images = list(dataset.images)
    chance.shuffle(images)  # type: ignore[attr-defined]
    assert where(split(Dataset(dataset.categories, tuple(images)), THIRDS, seed=seed)) == found


@settings(max_examples=25)
@given(dataset=sets(), more=sets(), seeds=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_adding_pictures_never_moves_old_ones(dataset: Dataset, more: Dataset, seeds: tuple[int, int]) -> None:
    if groups_of(dataset) < 3:
        return
    before = where(split(dataset, THIRDS, seed=seeds[0]))
    added = [a_record(100 + image.id, [i.label for i in image.instances], group=image.group) for image in more.images]
    larger = Dataset(dataset.categories, (*dataset.images, *added))
    after = where(split(larger, THIRDS, seed=seeds[1], kept=before))
    assert {name: after[name] for name in before} == before
    homes = {(image.group, after[image.file_name]) for image in larger.images if image.group}
    assert len(homes) == len({group for group, _ in homes})  # what is new follows its group


def test_new_pictures_bring_the_shares_near() -> None:
    old = [a_record(number) for number in range(1, 41)]
    new = [a_record(number) for number in range(41, 101)]
    kept = {image.file_name: "train" for image in old}
    parts = split(a_dataset([*old, *new]), THIRDS, kept=kept)
    assert [len(part.images) for part in parts.values()] == [60, 20, 20]


def test_a_part_that_is_too_large_already_gets_no_more() -> None:
    old = [a_record(number) for number in range(1, 31)]
    parts = split(a_dataset([*old, a_record(31), a_record(32)]), THIRDS, kept={image.file_name: "test" for image in old})
    assert [len(part.images) for part in parts.values()] == [1, 1, 30]


def test_a_group_that_was_divided_stays_divided_and_new_ones_follow_most() -> None:
    images = [a_record(number, group="scene" if number <= 4 else "") for number in range(1, 21)]
    kept = {"001.jpg": "val", "002.jpg": "test", "003.jpg": "test"}
    dataset = a_dataset(images)
    found = where(split(dataset, THIRDS, kept=kept))
    assert [found[f"00{number}.jpg"] for number in (1, 2, 3, 4)] == ["val", "test", "test", "test"]
    assert straddling(dataset, kept) == 1


def test_a_picture_is_kept_in_a_part_that_is_asked_for() -> None:
    with pytest.raises(DatasetError, match=r"001\.jpg is kept in 'dev'\. Keep it in one of train, val, test"):
        split(a_dataset([a_record(number) for number in range(1, 9)]), THIRDS, kept={"001.jpg": "dev"})


def a_folder(path: Path, count: int, renamed: dict[str, str] | None = None) -> Path:
    """A dataset folder of `count` pictures that differ; `renamed`: old name -> new name."""
    source = path.parent / f"{path.name}-images"
    source.mkdir(exist_ok=True)
    dataset = a_dataset([a_record(number, [number % 2], file_name=f"{number:03d}.png") for number in range(1, count + 1)])
    for image in dataset.images:
        Pillow.fromarray(a_painting(image.size, [], seed=image.id)).save(source / image.file_name)
    places = {image.file_name: source / image.file_name for image in dataset.images}
    names = renamed or {}
    images = [
        ImageRecord(image.id, names.get(image.file_name, image.file_name), image.size, image.instances)
        for image in dataset.images
    ]
    pictures = {names.get(name, name): place for name, place in places.items()}
    create(Dataset(dataset.categories, tuple(images)), path, pictures=pictures)
    return path


def parts_in(folder: Path, names: tuple[str, ...] = ("train", "val", "test")) -> dict[str, str]:
    return where({name: open_part(folder, name).dataset for name in names})


def test_a_larger_set_keeps_the_parts_of_the_smaller_even_under_other_names(tmp_path: Path) -> None:
    first = a_folder(tmp_path / "first", 20)
    write_split(first, THIRDS)
    old = parts_in(first)
    # 001 is called 002 now, 002 is called 001: by their names alone they would change places
    names = {"001.png": "002.png", "002.png": "001.png", "003.png": "new/name.png"}
    second = a_folder(tmp_path / "second", 30, names)
    table = write_split(second, THIRDS, seed=3, keep_from=first)
    assert {name: parts_in(second)[names.get(name, name)] for name in old} == old
    assert sum(table.kept.values()) == 20
    assert [counts.total.images for counts in table.counts.values()] == [18, 6, 6]
    assert str(table).splitlines()[-1].split() == ["(stayed)", *(str(count) for count in (12, 4, 4))]
    assert json.loads((second / "split.json").read_text())["keep_from"] == str(first)


def test_labels_alone_are_known_by_name(tmp_path: Path) -> None:
    for name, count in (("first", 20), ("second", 25)):
        create(a_dataset([a_record(number) for number in range(1, count + 1)]), tmp_path / name, pictures=None)
    write_split(tmp_path / "first", THIRDS)
    write_split(tmp_path / "second", THIRDS, seed=1, keep_from=tmp_path / "first")
    old, new = parts_in(tmp_path / "first"), parts_in(tmp_path / "second")
    assert {name: new[name] for name in old} == old


def test_an_edited_picture_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    (tmp_path / "b").write_bytes(b"afterwards")
    assert same_pictures({"x": tmp_path / "b", "y": None}, {"x": tmp_path / "a"}) == {"x": "x"}


def test_nothing_to_keep(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 6)
    with pytest.raises(DatasetError, match=r"set: has no part to keep\. Give a dataset folder with a part named train or val"):
        write_split(folder, THIRDS, keep_from=folder)


def test_moving_the_test_set_is_told(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 20)
    assert write_split(folder, THIRDS, seed=0).told == []
    assert write_split(folder, THIRDS, seed=0).told == []
    (told,) = write_split(folder, THIRDS, seed=1).told
    assert "of 4 pictures of the earlier test part are in other parts now: scores before and after cannot be compared." in told
    assert f"--keep-from {folder}" in told


def test_a_test_set_by_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 20)
    (tmp_path / "test.txt").write_text("001.png\n\n007.png  \n")
    table = write_split(folder, test_from=tmp_path / "test.txt")
    found = parts_in(folder)
    assert sorted(name for name, part in found.items() if part == "test") == ["001.png", "007.png"]
    assert len(found) == 20
    assert table.asked == pytest.approx({"train": 0.75 * 0.9, "val": 0.25 * 0.9})
    assert "test, given" in str(table)
    with pytest.raises(DatasetError, match="has a share of test, which --test-from names already"):
        write_split(folder, THIRDS, test_from=tmp_path / "test.txt")


def test_a_test_set_of_another_data_set(tmp_path: Path) -> None:
    first, second = a_folder(tmp_path / "first", 20), a_folder(tmp_path / "second", 30)
    write_split(first, THIRDS)
    write_split(second, {"train": 1.0}, test_from=first)
    same = {name for name, part in parts_in(first).items() if part == "test"}
    assert {name for name, part in parts_in(second, ("train", "test")).items() if part == "test"} == same
    only = a_folder(tmp_path / "only-test", 3)
    write_split(second, {"train": 1.0}, test_from=only)
    assert len(open_part(second, "test").dataset.images) == 3


def test_wrong_test_sets(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 8)
    (tmp_path / "test.txt").write_text("001.png\nx.png\ny.png\n")
    with pytest.raises(
        DatasetError, match=r"line 2: 'x.png' is no picture of this data set\. Give names as .*\(as 001.png\)"
    ) as e:
        write_split(folder, test_from=tmp_path / "test.txt")
    assert len(e.value.problems) == 2
    (tmp_path / "test.txt").write_text("\n")
    with pytest.raises(DatasetError, match="names no picture"):
        write_split(folder, test_from=tmp_path / "test.txt")
    with pytest.raises(DatasetError, match="cannot be read"):
        write_split(folder, test_from=tmp_path / "none.txt")


def test_what_is_in_a_group_with_a_test_picture_joins_it() -> None:
    images = [a_record(number, group="scene" if number <= 3 else "") for number in range(1, 7)]
    held = hold(a_dataset(images), {"001.jpg", "006.jpg"})
    assert [image.id for image in held.test.images] == [1, 2, 3, 6]
    assert [image.id for image in held.rest.images] == [4, 5]
    assert held.joined == 2


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 12)
    dataset, images = open_part(folder).dataset, folder / "images"
    (images / "012.png").unlink()
    (images / "012.png").write_bytes((images / "003.png").read_bytes())
    grouped = group_images(dataset, ["near-duplicates"], images)
    groups = {image.file_name: image.group for image in grouped.images}
    assert groups["003.png"] == groups["012.png"] == "near-duplicates/003.png"
    with pytest.raises(DatasetError, match="near-duplicates needs pictures, and there are none"):
        group_images(dataset, "near-duplicates")


def test_several_rules_are_joined() -> None:
    names = ["a/1_x.jpg", "b/1_y.jpg", "b/2_z.jpg", "c/3_x.jpg"]
    dataset = a_dataset([a_record(number, file_name=name) for number, name in enumerate(names, 1)])
    grouped = group_images(dataset, ["folder", r"regex:/(\d)_"])
    groups = [image.group for image in grouped.images]
    assert groups[0] == groups[1] == groups[2] != groups[3]
    apart = group_images(dataset, [r"regex:(1)_x", r"regex:(1)_y", r"regex:_(x)"])  # the same key by two rules joins nothing
    assert len({image.group for image in apart.images}) == 3
