"""`sightline dataset split` as people type it."""

import json
from pathlib import Path

import pytest
from builders import a_dataset, a_record
from typer.testing import CliRunner

from sightline.cli.dataset import app
from sightline.dataset.folder import create, open_part
from sightline.errors import DatasetError


def run(*words: object) -> str:
    """Standard output of `sightline dataset split WORDS`."""
    found = CliRunner().invoke(app, ["split", *map(str, words)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = [a_record(number, [number % 2], file_name=f"{number % 10}/{number:02d}.jpg") for number in range(1, 41)]
    create(a_dataset(records), tmp_path / "set", pictures=None)
    return tmp_path / "set"


def names(folder: Path, part: str) -> set[str]:
    return {image.file_name for image in open_part(folder, part).dataset.images}


def test_parts_then_folds_of_what_is_not_test(folder: Path) -> None:
    rules = ("--group-by", "folder", "--group-by", r"regex:^(\d)/")
    told = json.loads(run(folder, "--fractions", "train=0.5", "test=0.5", *rules, "--json"))
    assert {part: counts["images"] for part, counts in told["parts"].items()} == {"train": 20, "test": 20}
    assert json.loads((folder / "split.json").read_text())["group_by"] == [rules[1], rules[3]]
    folds = json.loads(run(folder, "--folds", 2, "--group-by", "folder", "--json"))
    assert folds["asked"] == {"fold1_val": 0.25, "fold2_val": 0.25}
    assert names(folder, "fold1_val") | names(folder, "fold2_val") == names(folder, "train")
    assert not {name[0] for name in names(folder, "fold1_val")} & {name[0] for name in names(folder, "fold1_train")}


def test_kept_parts_and_a_test_part_by_name(folder: Path, tmp_path: Path) -> None:
    run(folder, "--seed", 1)
    before = names(folder, "test")
    assert "(stayed)" in run(folder, "--seed", 2, "--keep-from", folder)
    assert names(folder, "test") == before
    (tmp_path / "test.txt").write_text("1/01.jpg\n2/02.jpg\n")
    assert "test, given" in run(folder, "--test-from", tmp_path / "test.txt")
    assert names(folder, "test") == {"1/01.jpg", "2/02.jpg"}


def test_folds_have_no_shares(folder: Path) -> None:
    with pytest.raises(DatasetError, match="--folds: cannot be combined with --fractions"):
        run(folder, "--folds", 3, "--fractions", "train=1")
