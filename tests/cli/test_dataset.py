import json
from pathlib import Path

import pytest
import typer
from builders import a_coco, a_line, a_manifest, a_picture
from typer.testing import CliRunner

from sightline.cli import dataset
from sightline.cli.dataset import repeat_option
from sightline.errors import DatasetError, LabelError, SightlineError

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


@pytest.mark.parametrize(
    ("format", "labels", "picture"),
    [
        ("coco", "annotations/all.json", "images/1.jpg"),
        ("voc", "Annotations/1.xml", "JPEGImages/1.jpg"),
        ("yolo", "labels/1.txt", "images/1.jpg"),
        ("via", "via_region_data.json", "1.jpg"),
        ("ground_truth", "output.manifest", "images/1.jpg"),
    ],
)
def test_export_and_import_again(tmp_path: Path, format: str, labels: str, picture: str) -> None:
    run("import", a_job(tmp_path), "--images", tmp_path / "pictures", "-o", tmp_path / "set")
    told = run("export", tmp_path / "set", "--format", format, "-o", tmp_path / "out")
    assert told == f"{tmp_path / 'out'}: 10 images, 10 boxes as {format.replace('_', '-')}\n"
    assert (tmp_path / "out" / labels).is_file()
    assert (tmp_path / "out" / picture).is_file()
    source = tmp_path / "out" / (labels if format in ("coco", "ground_truth") else "")
    options = ["--images", tmp_path / "out/images"] if format in ("coco", "ground_truth") else []  # they name S3
    assert f"{tmp_path / 'again'}: 10 images, 10 boxes" in run("import", source, "-o", tmp_path / "again", *options)


def test_export_of_a_part_says_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(a_coco()))
    run("import", tmp_path / "labels.json", "--labels-only", "-o", tmp_path / "set")
    run("split", tmp_path / "set", "--fractions", "train=0.5", "test=0.5")
    parts = [
        json.loads(run("export", tmp_path / "set", "--format", "via", "--split", part, "-o", tmp_path / part, "--json"))
        for part in ("train", "test")
    ]
    assert sum(part["images"] for part in parts) == 2
    assert all("classes without objects are forgotten" in line for part in parts for line in part["lost"])
    assert [part["with_pictures"] for part in parts] == [False, False]
    with pytest.raises(SightlineError, match="already exists"):
        run("export", tmp_path / "set", "--format", "via", "-o", tmp_path / "train")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": name, "width": 9, "height": 9} | {"id": key} for key, name in ((1, "a.jpg"), (2, "a.png"))]
    (tmp_path / "set/annotations").mkdir(parents=True)
    (tmp_path / "set/annotations/all.json").write_text(json.dumps(a_coco(images=images, annotations=[])))
    with pytest.raises(LabelError, match=r"a.png: shares the label file a.txt"):
        run("export", tmp_path / "set", "--format", "yolo", "-o", tmp_path / "out")
    with pytest.raises(LabelError, match=r"unknown format 'yol'. Did you mean 'yolo'"):
        run("export", tmp_path / "set", "--format", "yol", "-o", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_nothing_is_written_outside_the_export(tmp_path: Path) -> None:
    for name in ("../b.jpg", "/b.jpg"):
        images = [{"id": 1, "file_name": name, "width": 9, "height": 9}]
        (tmp_path / "set/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set/annotations/all.json").write_text(json.dumps(a_coco(images=images, annotations=[])))
        a_picture(tmp_path / "set/images/a.jpg")
        a_picture(tmp_path / "set/b.jpg")
        for format in ("coco", "voc", "yolo", "via", "labelme"):
            with pytest.raises(LabelError, match="leads out of the folder"):
                run("export", tmp_path / "set", "--format", format, "-o", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_pictures_that_are_gone_are_listed(tmp_path: Path) -> None:
    run("import", a_job(tmp_path), "--images", tmp_path / "pictures", "-o", tmp_path / "set")
    (tmp_path / "set/images/3.jpg").unlink()
    with pytest.raises(DatasetError, match=r"3.jpg: does not exist"):
        run("export", tmp_path / "set", "--format", "yolo", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_balloons_in_one_command(shared: Path, tmp_path: Path) -> None:
    parts = [shared / "data/balloon" / part / "via_region_data.json" for part in ("train", "val")]
    told = run("import", *parts, "-o", tmp_path / "set", "--class-name", "balloon")
    assert told.splitlines()[-1] == f"{tmp_path / 'set'}: 35 images, 159 boxes"
    assert run("export", tmp_path / "set", "--format", "yolo", "-o", tmp_path / "out").endswith("159 boxes as yolo\n")
    assert json.loads(run("import", tmp_path / "out", "-o", tmp_path / "again", "--json"))["dataset"]["boxes"] == 159


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


def test_an_own_job_and_open_images_in_one_command(tmp_path: Path) -> None:
    manifest, public = a_job(tmp_path), tmp_path / "public"
    header = "ImageID,LabelName,XMin,XMax,YMin,YMax"
    a_picture(public / "0a1b.jpg")
    (public / "validation-annotations-bbox.csv").write_text(f"{header}\n0a1b,/m/01,0.1,0.4,0.25,0.75\n0a1b,/m/02,0,1,0,1\n")
    (public / "class-descriptions-boxable.csv").write_text("/m/01,Bee\n/m/02,Person\n")
    sources = ["import", manifest, public]
    options = ["--rename", "Bee=bee", "--drop", "Person"]
    with pytest.raises(DatasetError, match=r"has pictures on S3 \(s3://bucket/images/0.jpg"):
        run(*sources, *options, "-o", tmp_path / "set")
    told = run(*sources, *options, "-o", tmp_path / "set", "--images", tmp_path / "pictures")
    assert told.splitlines()[0].startswith("ground-truth, open-images: 11 images (0 without objects), 11 boxes in 11 lines")
    assert told.splitlines()[-1] == f"{tmp_path / 'set'}: 11 images, 11 boxes"
    exported = ["export", tmp_path / "set", "--format", "ground-truth", "-o", tmp_path / "out", "--prefix", "s3://mine/all"]
    run(*exported)
    lines = (tmp_path / "out/output.manifest").read_text().splitlines()
    assert len(lines) == 11
    assert all(json.loads(line)["source-ref"].startswith("s3://mine/all/") for line in lines)
    assert {"0": "bee"} in [json.loads(line)["boxes-metadata"]["class-map"] for line in lines]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rename", "bee"], "--rename: is 'bee'. Give OLD=NEW"),
        (["--rename", "a=b", "--rename", "a=c"], "--rename: calls 'a' both 'b' and 'c'"),
        (["--drop", "ct"], "--drop: there is no class 'ct'. Did you mean 'cat'?"),
    ],
)
def test_classes_that_are_asked_for_wrongly(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(LabelError) as caught:
        run("import", a_job(tmp_path), "--labels-only", "-o", tmp_path / "set", *words)
    assert message in str(caught.value)
