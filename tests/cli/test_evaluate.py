"""`sightline evaluate` on results files and models: a table for people, JSON for machines, a file for later."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from builders import a_data_folder, a_dataset_folder, a_run
from typer.testing import CliRunner, Result

from sightline import coco
from sightline.bundle.load import load_model
from sightline.cli.evaluate import evaluate
from sightline.errors import ConfigError, LabelError
from sightline.geometry.masks import encode
from sightline.records import Dataset, Detections, Image, ImageSize, Model
from sightline.serving.server import running

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
    values = json.loads(shown.stdout)
    assert json.loads((files / "report/analysis.json").read_text()) == values
    assert json.loads((files / "report/scores.json").read_text()) == {"bbox": without(values["bbox"], "analysis")}


def without(values: Json, key: str) -> Json:
    return {name: value for name, value in values.items() if name != key}


def test_a_broken_file_is_an_error_with_its_name(files: Path) -> None:
    (files / "results.json").write_text("{}")
    error = run(files / "results.json", "--data", files / "truth.json").exception
    assert isinstance(error, LabelError)
    assert error.where == str(files / "results.json")


def a_folder(folder: Path, *, outlines: bool = True) -> Path:
    """A dataset folder whose test part has one bright rectangle in every picture, wide ones dogs and tall ones cats."""
    dataset = a_data_folder(folder / "images")
    if outlines:
        dataset = outlined(dataset)
    coco.write(dataset, folder / "annotations/test.json")
    return folder


def outlined(dataset: Dataset) -> Dataset:
    """The same with the corners of each box as its outline."""
    images = []
    for image in dataset.images:
        ((x1, y1, x2, y2),) = (instance.box for instance in image.instances)
        outline = ((x1, y1, x2, y1, x2, y2, x1, y2),)
        images.append(replace(image, instances=(replace(image.instances[0], segmentation=outline),)))
    return replace(dataset, images=tuple(images))


def bright(moved: int = 0, masks: bool = True) -> Model:
    """Finds what is bright: its box, and its mask `moved` pixels to the left."""

    def predict(images: Sequence[Image]) -> list[Detections]:
        found = []
        for image in images:
            mask = image[:, :, 0] > 200
            size = ImageSize(*mask.shape)
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = np.float32([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
            label = np.int64([size.width > size.height])
            seen = (encode(np.roll(mask, -moved, axis=1)),) if masks else None
            found.append(Detections(size, box, np.float32([0.75]), label, seen))
        return found

    return Model(predict, ("cat", "dog"), "bright")


def evaluated(model: Model, folder: Path, *options: object) -> dict[str, dict[str, float]]:
    """What --json prints of a served model."""
    with running(model) as url:
        shown = run(url, "--data", folder, "--json", *options)
    assert shown.exception is None, shown.exception
    return json.loads(shown.stdout)


def test_perfect_masks(tmp_path: Path) -> None:
    scores = evaluated(bright(), a_folder(tmp_path))
    assert list(scores) == ["bbox", "segm"]
    assert [scores["bbox"]["AP"], scores["segm"]["AP"]] == pytest.approx([1, 1])


def test_moved_masks_lower_segm_alone(tmp_path: Path) -> None:
    scores = evaluated(bright(moved=3), a_folder(tmp_path))
    assert scores["bbox"]["AP"] == pytest.approx(1)
    assert 0.3 < scores["segm"]["AP"] < 0.8


def test_labels_without_masks_give_boxes_alone(tmp_path: Path) -> None:
    assert list(evaluated(bright(), a_folder(tmp_path, outlines=False))) == ["bbox"]


@pytest.mark.parametrize("masks", [True, False])
def test_a_models_own_results_give_the_same_numbers(masks: bool, tmp_path: Path) -> None:
    folder, report = a_folder(tmp_path / "data"), tmp_path / "report"
    scores = evaluated(bright(moved=2, masks=masks), folder, "-o", report)
    again = run(report / "coco_instances_results.json", "--data", folder, "--json")
    again_values = json.loads(again.stdout)
    assert {kind: without(values, "analysis") for kind, values in again_values.items()} == json.loads(
        (report / "scores.json").read_text()
    )
    for values in (*again_values.values(), *scores.values()):
        for missed in values["analysis"]["missed"]["listed"]:
            del missed["id"]  # of the annotation: dataset folders number theirs
    assert again_values == scores
    assert ("segm" in scores) == masks


def test_a_table_for_each_kind(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    with running(bright()) as url:
        lines = run(url, "--data", folder).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith(("Boxes", "Masks"))] == ["Boxes", "Masks"]


def test_proposals_are_measured_without_classes(tmp_path: Path) -> None:
    model = replace(bright(masks=False), class_names=("object", "of no use"), proposes=True)
    scores = evaluated(model, a_folder(tmp_path / "data"), "-o", tmp_path / "report")
    assert scores == {"box_proposals": {"AR100": 1, "AR1000": 1, "ARs1000": 1, "ARm1000": None, "ARl1000": None}}
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["scores.json"]
    with running(model) as url:
        assert "Proposals: average recall" in run(url, "--data", tmp_path / "data").stdout


def test_proposals_have_no_thresholds_and_no_comparison(tmp_path: Path) -> None:
    """They would count as detections of the first class."""
    data = a_folder(tmp_path)
    with running(replace(bright(masks=False), class_names=("object",), proposes=True)) as url:
        for arguments in ((url, "--choose", "f1"), (url, url)):
            error = run(*arguments, "--data", data).exception
            assert isinstance(error, ConfigError)
            assert "only proposes regions, which have no classes" in str(error)


def test_a_model_without_class_names_is_scored_with_a_note(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    nameless = replace(bright(), class_names=("class 0", "class 1"))
    said = "its classes are taken for the data set's, in that order"
    assert said in evaluated(nameless, folder)["bbox"]["analysis"]["notes"][0]
    with running(nameless) as url:
        both = json.loads(run(url, url, "--data", folder, "--json").stdout)["models"]
    assert said in next(iter(both.values()))["segm"]["analysis"]["notes"][0]


@pytest.fixture
def mixed(files: Path) -> Path:
    """`files` with results that find the bee, miss another one, and see one that is not there."""
    truth = json.loads((files / "truth.json").read_text())
    truth["annotations"].append({**truth["annotations"][0], "id": 2, "bbox": [70, 70, 20, 20], "area": 400})
    (files / "truth.json").write_text(json.dumps(truth))
    found = json.loads((files / "results.json").read_text())
    found.append({**found[0], "bbox": [0, 80, 9, 9], "score": 0.3})
    (files / "results.json").write_text(json.dumps(found))
    (files / "better.json").write_text(json.dumps([found[0], {**found[0], "bbox": [70, 70, 20, 20]}]))
    return files


def test_thresholds_are_chosen(mixed: Path) -> None:
    arguments = (mixed / "results.json", "--data", mixed / "truth.json", "--choose")
    shown = run(*arguments, "precision=0.9")
    assert "Thresholds for precision=0.9, at an overlap of 0.5" in shown.stdout
    chosen = json.loads(run(*arguments, "precision=0.9", "--json").stdout)["bbox"]["analysis"]["chosen"]
    assert chosen["wish"] == "precision=0.9"
    assert chosen["classes"]["bee"]["threshold"] == 0.9
    assert "no threshold reaches it; the best recall is 0.500" in run(*arguments, "recall=0.8").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--choose", "best"), "--choose: is 'best'. Ask for f1"),
        (("--choose", "precision=2"), "demands a precision of 2, which is not in"),
        (("--choose", "f1=0.5"), "--choose: is 'f1=0.5'"),
        (("--choose", "recall=high"), "--choose: is 'recall=high'"),
        (("--iou", "0", "--choose", "f2"), r"--iou: is 0\. .*\n--choose: is 'f2'"),
    ],
)
def test_what_cannot_be_asked(files: Path, options: tuple[str, ...], message: str) -> None:
    error = run(files / "results.json", "--data", files / "truth.json", *options).exception
    assert isinstance(error, ConfigError)
    assert re.search(message, str(error))


def test_two_are_compared(mixed: Path) -> None:
    arguments = (mixed / "results.json", mixed / "better.json", "--data", mixed / "truth.json", "-o", mixed / "report")
    shown = run(*arguments)
    assert shown.exception is None, shown.exception
    assert "B: " + str(mixed / "better.json") in shown.stdout
    assert "found by A only, by B only, false of A, of B\n       0      1      0      0  a.jpg" in shown.stdout
    values = json.loads(run(*arguments, "--json").stdout)
    assert values == json.loads((mixed / "report/comparison.json").read_text())
    assert list(values["models"]) == [str(mixed / "results.json"), str(mixed / "better.json")]
    assert values["compared"][0]["bbox"]["metrics"]["AP"]["difference"]["value"] == pytest.approx(1 - 51 / 101)


def test_a_comparison_without_resamples_and_with_thresholds(mixed: Path) -> None:
    shown = run(
        mixed / "results.json", mixed / "better.json", "--data", mixed / "truth.json", "--resamples", 0, "--choose", "f1"
    )
    assert "nan" not in shown.stdout
    assert f"{mixed / 'better.json'}, bbox\n  Thresholds for f1" in shown.stdout


def test_a_model_against_a_file(tmp_path: Path) -> None:
    folder, report = a_folder(tmp_path / "data", outlines=False), tmp_path / "report"
    evaluated(bright(masks=False), folder, "-o", report)
    with running(bright(masks=False)) as url:
        shown = run(report / "coco_instances_results.json", url, "--data", folder, "--json")
    compared = json.loads(shown.stdout)["compared"][0]["bbox"]
    assert compared["metrics"]["AP"]["verdict"] == "too few pictures"
    assert compared["metrics"]["AP"]["difference"]["value"] == 0


def test_a_report_of_results_and_of_two(files: Path, tmp_path: Path) -> None:
    results, truth = files / "results.json", files / "truth.json"
    shown = run(results, "--data", truth, "-o", tmp_path / "report", "--plots")
    assert f"The page: {tmp_path / 'report/index.html'}" in shown.stdout
    assert "Evaluation of results.json" in (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "report/plots/bbox_confusion.svg").is_file()
    run(results, results, "--data", files / "dataset", "-o", tmp_path / "two")
    assert "2 models compared" in (tmp_path / "two/index.html").read_text(encoding="utf-8")


def test_chosen_thresholds_are_kept_in_the_model(tmp_path: Path) -> None:
    """At an overlap that a model of four steps reaches, too."""
    trained = a_run(tmp_path / "run")
    data = a_dataset_folder(tmp_path / "data", train=2, test=4)
    asked = (trained.folder, "--data", data, "--iou", "0.05", "--choose", "recall=0.01", "--resamples", "0")
    before = run(*asked)
    assert before.exit_code == 0 and "Kept in" not in before.stdout
    assert load_model(trained.folder).thresholds is None
    shown = run(*asked, "--store")
    kept = load_model(trained.folder).thresholds
    assert kept is not None and max(kept) > 0
    count = sum(least > 0 for least in kept)
    assert f"Kept in {trained.folder}: thresholds of {count} {'class' if count == 1 else 'classes'}" in shown.stdout
    told = load_model(trained.folder).facts["thresholds"]
    assert isinstance(told, dict) and told["chosen_for"] == f"recall=0.01 at an overlap of 0.05, on {data} test"


@pytest.mark.parametrize(
    ("subjects", "options", "message"),
    [
        (("results.json",), ("--store",), "--store: needs --choose"),
        (("results.json",), ("--store", "--choose", "f1"), "--store: needs one run or bundle"),
        (("one", "other"), ("--store", "--choose", "f1"), "--store: needs one run or bundle"),
        (("http://localhost:1",), ("--store", "--choose", "f1"), "--store: cannot write to http://localhost:1"),
        (("s3://bucket/model.tar.gz",), ("--store", "--choose", "f1"), "--store: cannot write to s3://bucket"),
        (("results.json",), ("--plots",), "--plots: has no folder to write to"),
        (("results.json", "results.json"), ("--plots", "-o", "report"), "--plots: are of one model"),
    ],
)
def test_what_has_no_place(files: Path, subjects: tuple[str, ...], options: tuple[str, ...], message: str) -> None:
    error = run(*subjects, "--data", files / "truth.json", *options).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)
