import json
from pathlib import Path

import pytest
import typer
from builders import a_config, a_data_folder, a_dataset, a_record, a_run
from typer.testing import CliRunner

from sightline import coco, labels
from sightline.cli import dataset as commands
from sightline.cli.main import app as everything
from sightline.errors import LabelError
from sightline.records import Dataset
from sightline.training.run import run_training

app = typer.Typer()
app.add_typer(commands.app, name="dataset")


def run(*arguments: object) -> str:
    """What the command prints on stdout; its errors are raised."""
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def corrected(manifest: Path, to: Path) -> Path:
    """What an adjustment job makes of its input: every line with one box more under an attribute of its own."""
    lines = []
    for text in manifest.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        boxes, facts = line["pre-labels"], line["pre-labels-metadata"]
        more = {"class_id": 7, "left": 1, "top": 2, "width": 20, "height": 30}
        line["checked"] = boxes | {"annotations": [*boxes["annotations"], more]}
        line["checked-metadata"] = facts | {
            "objects": [*facts["objects"], {"confidence": 0}],
            "class-map": facts["class-map"] | {"7": "wasp"},
            "human-annotated": "yes",
            "adjustment-status": "adjusted",
            "creation-date": "2099-01-01T00:00:00.000000",
        }
        lines.append(json.dumps(line))
    to.write_text("\n".join(lines), encoding="utf-8")
    return to


def test_label_train_prelabel_correct_train(tmp_path: Path) -> None:
    drawn = a_data_folder(tmp_path / "pictures")
    labels.write(drawn, tmp_path / "first.manifest", format="ground-truth", prefix="s3://bucket/my bees")
    run("import", tmp_path / "first.manifest", "--images", tmp_path / "pictures", "-o", tmp_path / "first")
    part = tmp_path / "first/images"
    a_run(tmp_path / "run", "SOLVER.MAX_ITER", "2", images=part)

    arguments = ["predict", tmp_path / "run", part, "-o", tmp_path / "found.jsonl", "--device", "cpu", "--threshold", 0]
    result = CliRunner().invoke(everything, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert sum(len(line["scores"]) for line in found), "a threshold of 0 finds something"

    manifest = tmp_path / "input.manifest"
    told = run("prelabel", tmp_path / "found.jsonl", "--data", tmp_path / "first", "--threshold", 0, "-o", manifest)
    boxes = labels.read(manifest).report.boxes
    assert told == f"{manifest}: 6 images, {boxes} boxes under 'pre-labels'\n"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [line["source-ref"] for line in lines] == [f"s3://bucket/my bees/{image.file_name}" for image in drawn.images]
    assert {line["pre-labels-metadata"]["human-annotated"] for line in lines} == {"no"}

    second = corrected(manifest, tmp_path / "second.manifest")
    run("import", second, "--images", part, "-o", tmp_path / "second")
    imported = coco.read(tmp_path / "second/annotations/all.json")
    assert imported.instance_count == boxes + 6
    assert "wasp" in imported.class_names
    config = a_config("SOLVER.MAX_ITER", "1", "MODEL.ROI_HEADS.NUM_CLASSES", str(len(imported.categories)))
    run_training(config, dataset=imported, images=tmp_path / "second/images", output=tmp_path / "again", workers=0)
    assert (tmp_path / "again/model_final.pth").is_file()


def a_folder(folder: Path, dataset: Dataset) -> Path:
    coco.write(dataset, folder / "annotations/all.json")
    return folder


def test_a_dataset_folder_and_results_about_it(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "set", a_dataset([a_record(1, source="s3://b/1.jpg"), a_record(2)]))
    with pytest.raises(LabelError, match=r"002.jpg: has no s3:// address. Say with --prefix"):
        run("prelabel", folder, "-o", tmp_path / "a.manifest")
    created = ["--created", "2026-01-31T12:00:00.000000"]
    told = run("prelabel", folder, "-o", tmp_path / "a.manifest", "--prefix", "s3://c/d", *created, "--json")
    assert json.loads(told)["boxes"] == 2
    sources = [json.loads(line)["source-ref"] for line in (tmp_path / "a.manifest").read_text().splitlines()]
    assert sources == ["s3://b/1.jpg", "s3://c/d/002.jpg"]
    assert "2026-01-31T12:00:00.000000" in (tmp_path / "a.manifest").read_text()

    results = tmp_path / "results.json"
    scores = (0.75, 0.25)
    results.write_text(
        json.dumps([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": score} for score in scores])
    )
    with pytest.raises(LabelError, match=r"is COCO results, which name pictures by ids. Name their data set with --data"):
        run("prelabel", results, "-o", tmp_path / "b.manifest", "--prefix", "s3://c")
    told = run("prelabel", results, "--data", folder, "-o", tmp_path / "b.manifest", "--prefix", "s3://c")
    assert told == f"{tmp_path / 'b.manifest'}: 2 images, 1 boxes under 'pre-labels'\n"
