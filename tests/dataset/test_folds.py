import json
from pathlib import Path

import pytest
from builders import a_dataset, a_record
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.dataset.folder import create, open_part
from sightline.dataset.folds import write_folds
from sightline.dataset.split import write_split
from sightline.errors import DatasetError


def a_folder(path: Path, count: int = 30, grouped: bool = False) -> Path:
    records = [
        a_record(number, [number % 2], group=f"scene {number // 3}" if grouped else "") for number in range(1, count + 1)
    ]
    create(a_dataset(records), path, pictures=None)
    return path


def names(folder: Path, part: str) -> set[str]:
    return {image.file_name for image in open_part(folder, part).dataset.images}


def parts(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "annotations").iterdir())


@settings(max_examples=10)
@given(count=st.integers(6, 40), folds=st.integers(2, 4), seed=st.integers(0, 9), grouped=st.booleans())
def test_every_picture_is_validated_on_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, folds: int, seed: int, grouped: bool
) -> None:
    folder = a_folder(tmp_path_factory.mktemp("folds") / "set", count, grouped)
    if grouped and count // 3 + 1 < folds:
        return
    write_folds(folder, folds, seed=seed)
    validated = [image for fold in range(1, folds + 1) for image in open_part(folder, f"fold{fold}_val").dataset.images]
    assert sorted(image.file_name for image in validated) == sorted(names(folder, "all"))
    for fold in range(1, folds + 1):
        train, val = open_part(folder, f"fold{fold}_train").dataset, open_part(folder, f"fold{fold}_val").dataset
        assert len(train.images) + len(val.images) == count
        assert not {image.file_name for image in train.images} & {image.file_name for image in val.images}
        if grouped:
            assert not {image.group for image in train.images} & {image.group for image in val.images}


def test_folds_are_alike(tmp_path: Path) -> None:
    table = write_folds(a_folder(tmp_path / "set", 50), 5)
    assert [counts.classes["dog"].images for counts in table.counts.values()] == [5] * 5
    assert str(table).splitlines()[2].split() == ["all", *["10"] * 10]


def test_the_test_part_of_a_split_is_in_no_fold_and_the_split_stays(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set")
    write_split(folder)
    table = write_folds(folder, 3)
    assert len(names(folder, "test")) == 6
    assert set.union(*(names(folder, f"fold{fold}_val") for fold in (1, 2, 3))) == names(folder, "all") - names(folder, "test")
    assert table.asked == pytest.approx(dict.fromkeys(["fold1_val", "fold2_val", "fold3_val"], 0.8 / 3))
    assert table.counts["test"].total.images == 6
    assert {"train", "val", "test", "fold3_train"} <= set(parts(folder))


def test_what_an_earlier_split_left_goes(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set")
    write_folds(folder, 3)
    write_folds(folder, 2)
    assert parts(folder) == ["all", "fold1_train", "fold1_val", "fold2_train", "fold2_val"]
    write_split(folder, {"train": 0.5, "test": 0.5})  # the folds would hold the new test pictures
    assert parts(folder) == ["all", "test", "train"]
    assert not (folder / "folds.json").exists()
    (tmp_path / "test.txt").write_text("001.jpg\n002.jpg\n")
    write_folds(folder, 2, test_from=tmp_path / "test.txt")  # the train part would hold the new test pictures
    assert parts(folder) == ["all", "fold1_train", "fold1_val", "fold2_train", "fold2_val", "test"]
    assert names(folder, "test") == {"001.jpg", "002.jpg"}


def test_folds_keep_what_they_had(tmp_path: Path) -> None:
    first, second = a_folder(tmp_path / "first", 20), a_folder(tmp_path / "second", 30)
    write_folds(first, 4)
    table = write_folds(second, 4, seed=7, keep_from=first)
    for fold in range(1, 5):
        assert names(first, f"fold{fold}_val") <= names(second, f"fold{fold}_val")
    assert sum(table.kept.values()) == 20
    asked = json.loads((second / "folds.json").read_text())
    assert (asked["folds"], asked["keep_from"]) == (4, str(first))


def test_rules_of_the_split_that_the_folds_lack_are_told(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 80)
    write_split(folder, group_by=["prefix:2"])
    assert write_folds(folder, 2, group_by="prefix:2").told == []
    (told,) = write_folds(folder, 2).told
    assert told.startswith("The split was grouped by prefix:2, the folds are not. Add --group-by 'prefix:2'")


def test_too_few(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", 4)
    with pytest.raises(DatasetError, match=r"folds: are 1\. Ask for 2 or more"):
        write_folds(folder, 1)
    with pytest.raises(DatasetError, match="has 4 pictures in 4 groups, too few for 5 parts"):
        write_folds(folder, 5)
