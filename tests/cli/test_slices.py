"""`predict` and `evaluate` in slices, as a user asks for them; the model is behind an address, and sees small pictures only."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from builders import a_run
from painted import painted, perfect
from PIL import Image as Pillow
from typer.testing import CliRunner, Result

from sightline import coco
from sightline.cli.evaluate import evaluate
from sightline.cli.predict import predict
from sightline.dataset.folder import open_part
from sightline.errors import ConfigError, SightlineError
from sightline.examining import examine
from sightline.records import Box, Category, Dataset, Detections, Image, ImageRecord, ImageSize, Instance, Model
from sightline.serving.server import running
from sightline.slicing import Slices, in_slices

BOXES: tuple[Box, ...] = ((10, 12, 24, 30), (95, 20, 108, 33), (150, 60, 200, 100))
"""In a picture of 200 x 100 px; the second lies on the border of tiles of 100 px that share 20."""


def near_sighted(images: Sequence[Image]) -> list[Detections]:
    """Sees nothing in pictures of more than 100 px."""
    return [perfect([image * (max(image.shape) <= 100)], masks=False)[0] for image in images]


MODEL = Model(near_sighted, ("even", "odd"), "a near-sighted model")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(MODEL) as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder whose test part is one picture with three objects."""
    to = tmp_path_factory.mktemp("data")
    (to / "images").mkdir()
    Pillow.fromarray(painted(ImageSize(100, 200), BOXES)).save(to / "images/a.png")
    instances = tuple(Instance(box, number % 2) for number, box in enumerate(BOXES, 1))
    record = ImageRecord(1, "a.png", ImageSize(100, 200), instances)
    coco.write(Dataset((Category(1, "even"), Category(2, "odd")), (record,)), to / "annotations/test.json")
    return to


def run(command: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


predicted, evaluated = partial(run, predict), partial(run, evaluate)


def found(line: str) -> list[list[float]]:
    boxes: list[list[float]] = json.loads(line)["pred_boxes"]
    return sorted(boxes)


def test_predicted_in_slices(url: str, folder: Path) -> None:
    shown = predicted(url, folder / "images", "--slice", 100, "--no-slice-whole", "--batch-size", 4)
    assert shown.exit_code == 0, shown.exception
    assert found(shown.stdout.splitlines()[0]) == sorted(map(list, BOXES))
    assert found(predicted(url, folder / "images").stdout.splitlines()[0]) == []


def test_lines_of_other_slices_are_not_gone_on_with(url: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes((folder / "images/a.png").read_bytes())
    asked = (url, folder / "images/a.png", "-o", tmp_path / "out.jsonl", "--slice", "100")
    assert predicted(*asked).exit_code == 0
    lines = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl.partial").write_text(lines)
    begun = {"slices": {**Slices.square(100).as_dict(), "overlap": 0.5}}
    (tmp_path / "out.jsonl.run.json").write_text(json.dumps(begun))
    error = predicted(*asked).exception
    assert isinstance(error, SightlineError)
    assert 'slices {"height": 100, "width": 100, "overlap": 0.5' in str(error)
    assert predicted(*asked, "--restart").exit_code == 0
    assert found((tmp_path / "out.jsonl").read_text()) == sorted(map(list, BOXES))


def test_what_an_interrupted_run_was_begun_with_is_kept(url: str, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    kept: dict[str, Any] = {}
    monkeypatch.setattr("sightline.serving.many.lines_at", lambda path, begun_with, restart: kept.update(begun_with) or stop())
    predicted(url, folder / "images", "-o", tmp_path / "out.jsonl", "--slice", "100x120", "--slice-merge", "nms")
    assert kept["slices"] == Slices(height=100, width=120, merge="nms").as_dict()
    predicted(url, folder / "images", "-o", tmp_path / "out.jsonl")
    assert kept["slices"] is None


def stop() -> None:
    raise SightlineError("test", "has seen enough", "Go on.")


def test_evaluated_in_slices(url: str, folder: Path, tmp_path: Path) -> None:
    plain = json.loads(evaluated(url, "--data", folder, "--json").stdout)["bbox"]
    shown = evaluated(url, "--data", folder, "--slice", 100, "--slice-measure", "ios", "-o", tmp_path / "report", "--json")
    scores = json.loads(shown.stdout)["bbox"]
    assert (plain["AP"], scores["AP"]) == (0, pytest.approx(1))
    told = "predicted in slices of 100 x 100 px (width x height), overlapping by 0.2 and as a whole,"
    told += " merged by seams from ios 0.5 on"
    assert scores["analysis"]["notes"][0] == told
    assert json.loads((tmp_path / "report/analysis.json").read_text())["bbox"]["analysis"]["notes"][0] == told
    assert told in (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "notes" not in plain["analysis"] or not any("slices" in note for note in plain["analysis"]["notes"])
    compared = evaluated(tmp_path / "report/coco_instances_results.json", url, "--data", folder, "--slice", 100, "--json")
    assert json.loads(compared.stdout)["compared"][0]["bbox"]["metrics"]["AP"]["difference"]["value"] == 0


def test_the_same_in_python(folder: Path) -> None:
    evaluation = examine(in_slices(MODEL, Slices.square(100)), open_part(folder, "test"))
    assert evaluation.scores["bbox"].numbers()["AP"] == pytest.approx(1)
    assert "predicted in slices of 100 x 100 px" in evaluation.analyses["bbox"].notes[0]


def test_a_run_keeps_its_plain_numbers(folder: Path, tmp_path: Path) -> None:
    """Its scores travel in bundles, whose model predicts whole pictures."""
    trained = a_run(tmp_path / "run", count=2)
    small = tmp_path / "data"
    (small / "images").mkdir(parents=True)
    pixels = np.zeros((100, 140, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(small / "images/a.png")
    record = ImageRecord(1, "a.png", ImageSize(100, 140), (Instance((10, 10, 60, 60), 0),))
    coco.write(Dataset((Category(1, "cat"), Category(2, "dog")), (record,)), small / "annotations/test.json")
    asked = (trained.folder, "--data", small, "--resamples", 0)
    assert evaluated(*asked, "--slice", 64).exit_code == 0
    assert not (trained.folder / "inference").exists()
    assert not (trained.folder / "report").exists()
    assert isinstance(evaluated(*asked, "--slice", 64, "--plots").exception, ConfigError)
    assert evaluated(*asked).exit_code == 0
    assert (trained.folder / "inference/scores.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--slice-overlap", "0.3"), "--slice-overlap: needs --slice. Say how large tiles are, as --slice 640."),
        (("--no-slice-whole",), "--slice-whole: needs --slice"),
        (("--slice-max", "300"), "--slice-max: needs --slice"),
        (("--slice", "12", "--slice-overlap", "1"), "slices: have a height of 12 px"),
        (("--slice", "640,480"), "slices: are of '640,480' px. Give a side as 640, or height and width as 480x640."),
    ],
)
def test_what_cannot_be_asked(folder: Path, options: tuple[str, ...], message: str) -> None:
    for command in (
        predicted("http://127.0.0.1:9", folder / "images", *options),
        evaluated("http://127.0.0.1:9", "--data", folder, *options),
    ):
        assert isinstance(command.exception, ConfigError)
        assert message in str(command.exception)


def test_results_are_predicted_already(folder: Path) -> None:
    error = evaluated("results.json", "--data", folder, "--slice", 100).exception
    assert isinstance(error, ConfigError)
    assert "--slice: is for models, and a results file is predicted already" in str(error)
