"""`sightline evaluate` on results files: a table for people, JSON for machines, a file for later."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from sightline.cli.evaluate import evaluate
from sightline.errors import LabelError

Json = dict[str, Any]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with truth.json, results.json, and the truth again as the test part of a dataset folder."""
    box = [10, 10, 50, 50]
    truth: Json = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "a.jpg"}],
        "categories": [{"id": 7, "name": "bee"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": box, "area": 2500, "iscrowd": 0}],
    }
    results = [{"image_id": 1, "category_id": 7, "bbox": box, "score": 0.9}]
    (tmp_path / "dataset/annotations").mkdir(parents=True)
    for name, content in {"truth": truth, "results": results, "dataset/annotations/test": truth}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_table_for_people(files: Path) -> None:
    shown = run(files / "results.json", "--data", files / "truth.json")
    assert shown.exit_code == 0
    assert "Boxes: COCO average precision" in shown.stdout
    assert "bee    1.000  1.000" in shown.stdout


def test_json_for_machines(files: Path) -> None:
    values = json.loads(run(files / "results.json", "--data", files / "truth.json", "--json").stdout)
    assert values["bbox"]["AP"] == pytest.approx(1)
    assert values["bbox"]["APs"] is None


@pytest.mark.parametrize("split", [(), ("--split", "test")])
def test_a_part_of_a_dataset_folder(files: Path, split: tuple[str, ...]) -> None:
    assert "1.000" in run(files / "results.json", "--data", files / "dataset", *split).stdout


def test_the_scores_are_written_where_asked(files: Path) -> None:
    shown = run(files / "results.json", "--data", files / "truth.json", "-o", files / "report", "--json")
    assert json.loads((files / "report/scores.json").read_text()) == json.loads(shown.stdout)


def test_a_broken_file_is_an_error_with_its_name(files: Path) -> None:
    (files / "results.json").write_text("{}")
    error = run(files / "results.json", "--data", files / "truth.json").exception
    assert isinstance(error, LabelError)
    assert error.where == str(files / "results.json")
