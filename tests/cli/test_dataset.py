import json
from pathlib import Path

import pytest
import typer
from builders import a_coco, a_line, a_manifest, a_picture
from typer.testing import CliRunner

from sightline.cli import dataset
from sightline.cli.dataset import repeat_option
from sightline.errors import DatasetError, LabelError

app = typer.Typer()
app.add_typer(dataset.app, name="dataset")


def run(*arguments: object) -> str:
    """What the command prints on stdout; its errors are raised."""
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def a_job(folder: Path) -> Path:
    lines = [a_line(f"s3://bucket/images/{number}.jpg") for number in range(10)]
    for number in range(10):
        a_picture(folder / "pictures" / f"{number}.jpg")
    return a_manifest(folder / "output.manifest", [*lines, {"source-ref": "s3://bucket/images/x.jpg"}])


def test_import_and_split(tmp_path: Path) -> None:
    manifest = a_job(tmp_path)
    told = run("import", manifest, "--images", tmp_path / "pictures", "-o", tmp_path / "set")
    assert told.splitlines() == [
        "ground-truth: 10 images (0 without objects), 10 boxes in 11 lines; 1 lines without a label",
        f"{tmp_path / 'set'}: 10 images, 10 boxes",
    ]
    for arguments in (["--fractions", "train=0.8", "test=0.2"], ["--fractions", "train=0.8", "--fractions", "test=0.2"]):
        reached = json.loads(run("split", tmp_path / "set", *arguments, "--seed", 3, "--json"))
        assert {part: counts["images"] for part, counts in reached["parts"].items()} == {"train": 8, "test": 2}
    assert "train, 60.0% asked" in run("split", tmp_path / "set")


def test_the_folder_may_stand_behind_the_fractions(tmp_path: Path) -> None:
    run("import", a_job(tmp_path), "--labels-only", "-o", tmp_path / "set")
    assert "train, 50.0% asked" in run("split", "--fractions", "train=0.5", "val=0.5", tmp_path / "set")


def test_import_as_json(tmp_path: Path) -> None:
    report = json.loads(run("import", a_job(tmp_path), "--labels-only", "-o", tmp_path / "set", "--json"))
    assert report["labels"]["unlabelled"] == 1
    assert report["dataset"] == {
        "folder": str(tmp_path / "set"),
        "images": 10,
        "boxes": 10,
        "with_pictures": False,
        "turned": 0,
        "skipped": [],
        "notes": [],
    }


def test_coco_finds_its_pictures_beside_it(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(a_coco()))
    a_picture(tmp_path / "images/a.jpg")
    with pytest.raises(DatasetError, match=r"b.jpg: has no picture below"):
        run("import", tmp_path / "labels.json", "-o", tmp_path / "set")
    assert "1 images, 1 boxes; 1 problems skipped" in run(
        "import", tmp_path / "labels.json", "-o", tmp_path / "set", "--on-problem", "skip"
    )


def test_pictures_on_s3_need_a_choice(tmp_path: Path) -> None:
    manifest = a_job(tmp_path)
    with pytest.raises(DatasetError, match=r"has pictures on S3 .*--images DIR.*--labels-only"):
        run("import", manifest, "-o", tmp_path / "set")
    with pytest.raises(DatasetError, match=r"--images: cannot be combined with --labels-only"):
        run("import", manifest, "-o", tmp_path / "set", "--images", tmp_path, "--labels-only")
    assert not (tmp_path / "set").exists()


def test_what_is_skipped_is_listed_on_stderr(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path / "output.manifest", [a_line(), "not json"])
    with pytest.raises(LabelError, match=r"output.manifest:2: is not JSON"):
        run("import", manifest, "--labels-only", "-o", tmp_path / "set")
    arguments = ["dataset", "import", str(manifest), "--labels-only", "-o", str(tmp_path / "set"), "--on-problem", "skip"]
    result = CliRunner().invoke(app, arguments)
    assert f"skipped: {manifest}:2: is not JSON" in result.stderr
    assert "1 problems skipped" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["DIR", "--f", "a=1", "b=2"], ["DIR", "--f", "a=1", "--f", "b=2"]),
        (["--f", "a=1", "b=2", "DIR", "c=3"], ["--f", "a=1", "--f", "b=2", "DIR", "c=3"]),
        (["--f", "a=1", "--f", "b=2"], ["--f", "a=1", "--f", "b=2"]),
        (["--f", "a=1", "--group-by", "regex:(x=y)"], ["--f", "a=1", "--group-by", "regex:(x=y)"]),
    ],
)
def test_repeat_option(arguments: list[str], expected: list[str]) -> None:
    assert repeat_option(arguments, "--f") == expected
