import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from builders import SIZE, a_box, a_config, a_dataset, a_line, a_manifest, a_record, an_instance, overrides
from PIL import Image as Pillow
from typer.testing import CliRunner

from sightline import coco, labels
from sightline.checking import ROWS_PER_KIND, anchors_of, check
from sightline.cli.check import check as command
from sightline.config.sources import load as load_config
from sightline.config.sources import preset_names
from sightline.dataset.check.findings import KINDS, Gravity
from sightline.dataset.folder import create
from sightline.dataset.split import write_split
from sightline.errors import ConfigError, DatasetError, LabelError
from sightline.model.build import build_anchors, feature_levels

app = typer.Typer()
app.command()(command)


def different_pictures(folder: Path, count: int) -> None:
    """001.jpg, 002.jpg, ...: patterns that nobody takes for one another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        Pillow.fromarray(coarse).resize((SIZE.width, SIZE.height), Pillow.Resampling.BICUBIC).save(folder / f"{number:03d}.jpg")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A dataset folder with nothing to find."""
    different_pictures(tmp_path / "pictures", 24)
    other = an_instance(1, (50.0, 5.0, 95.0, 70.0))
    dataset = a_dataset([a_record(number, instances=(an_instance(0), other)) for number in range(1, 25)])
    create(dataset, tmp_path / "set", pictures=tmp_path / "pictures")
    return tmp_path / "set"


def kinds(folder: Path, **options: Any) -> list[str]:
    return sorted({finding.kind for finding in check(folder, **options).findings})


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout


def test_a_sound_data_set(sound: Path) -> None:
    assert kinds(sound) == []
    code, told = run(sound)
    assert code == 0
    assert told == f"{sound}: 24 pictures, 48 boxes of 2 classes\nfound: 0 grave, 0 warnings, 0 notes\n"
    write_split(sound, {"train": 0.75, "val": 0.25})
    assert kinds(sound) == []


def test_a_copy_in_another_part_is_grave_and_ends_with_1(sound: Path) -> None:
    write_split(sound, {"train": 0.75, "val": 0.25})
    of = {part: coco.read(sound / f"annotations/{part}.json").images[0].file_name for part in ("train", "val")}
    original = Pillow.open(sound / "images" / of["train"])
    original.resize((50, 40)).resize(original.size).save(sound / "images" / "copy.jpg", quality=60)
    (sound / "images" / "copy.jpg").replace(sound / "images" / of["val"])
    code, told = run(sound, "--json")
    report = json.loads(told)
    assert code == 1
    assert report["counts"] == {"grave": 1, "warning": 0, "note": 0}
    assert report["kinds"] == {"leak": 1}
    assert {report["findings"][0]["picture"], report["findings"][0]["beside"]} == set(of.values())


def test_the_report_folder(sound: Path) -> None:
    cut = sound / "images/003.jpg"
    data = cut.read_bytes()
    cut.unlink()  # it is a link to the picture that it was made from
    cut.write_bytes(data[:-200])
    code, told = run(sound, "-o", sound / "report")
    assert code == 1
    assert "grave: damaged or cut-off pictures (1)\n  003.jpg: is damaged or cut off" in told
    findings = json.loads((sound / "report/findings.json").read_text())["findings"]
    assert [(one["kind"], one["gravity"], one["where"]) for one in findings] == [("truncated", "grave", "003.jpg")]
    assert "damaged or cut-off pictures" in (sound / "report/index.html").read_text()


def test_labels_only(tmp_path: Path) -> None:
    coco.write(a_dataset([a_record(1, (0, 0))]), tmp_path / "labels.json")
    report = check(tmp_path / "labels.json", output=tmp_path / "report")
    assert "labels only, no picture was looked at" in str(report)
    assert {"duplicate-box", "rare-class", "unused-class"} == {one.kind for one in report.findings}


def test_against_another_labelling(sound: Path, tmp_path: Path) -> None:
    lines = [a_line(f"s3://bucket/{number:03d}.jpg", [a_box()]) for number in range(1, 25)]
    manifests = [a_manifest(tmp_path / "a.manifest", lines[:12]), a_manifest(tmp_path / "b.manifest", lines[12:])]
    code, told = run(sound, "--against", manifests[0], "--against", manifests[1])
    assert code == 0
    assert "24 pictures in both: 24 of 48 boxes have a counterpart (0 more are only there), agreement 66.7%" in told
    itself = check(sound, against=sound)
    assert itself.agreement is not None
    assert (itself.agreement.score, itself.findings) == (1.0, ())


def test_the_other_labelling_is_chosen_and_its_faults_are_told(sound: Path, tmp_path: Path) -> None:
    lines = [
        a_line(f"s3://bucket/{number:03d}.jpg", [a_box()], attribute="first") | a_line(f"s3://bucket/{number:03d}.jpg", [])
        for number in range(1, 24)
    ]
    lines.append(a_line("s3://bucket/024.jpg", [a_box(), a_box(left=500)], attribute="first"))
    manifest = a_manifest(tmp_path / "a.manifest", lines)
    with pytest.raises(LabelError, match=r"several box label attributes: 'first' .*--label-attribute"):
        check(sound, against=manifest)
    with pytest.raises(LabelError, match="--label-attribute: is for a second labelling"):
        check(sound, label_attribute="first")
    report = check(sound, against=manifest, label_attribute="first")
    assert report.agreement is not None
    assert report.agreement.matched == 23
    assert [one.what[:26] for one in report.findings if one.kind == "other-broken"] == ["has a box outside its pict"]
    assert "23 pictures in both" in run(sound, "--against", manifest, "--label-attribute", "first")[1]


def test_anchors_of_a_configuration(sound: Path) -> None:
    fitting = a_config(*overrides("MODEL.ANCHOR_GENERATOR.SIZES ((24,),(48,),(60,))  INPUT.MIN_SIZE_TRAIN (80,)"))
    assert kinds(sound, config=fitting) == []
    report = check(sound, config=a_config("MODEL.ANCHOR_GENERATOR.SIZES", "((400,),(500,),(600,))"))
    assert {(one.kind, one.how_grave) for one in report.findings} == {("anchor-fit", Gravity.GRAVE)}
    assert [fit.never for fit in report.fits] == [1.0, 1.0]


@pytest.mark.parametrize("name", ["small", "r50", "retinanet_R_50_FPN_1x", "faster_rcnn_R_50_C4_1x", "faster_rcnn_R_50_DC5_1x"])
def test_anchors_are_those_of_the_model(name: str) -> None:
    config = load_config(name if name in preset_names() else f"COCO-Detection/{name}", ["MODEL.DEVICE", "cpu"])
    stage = config.model.retinanet if "retinanet" in name else config.model.rpn
    built = build_anchors(config, stage.in_features, feature_levels(config))
    ours = anchors_of(config)
    assert list(ours.strides) == list(built.strides)
    cells = np.concatenate([cell[:, 2:] - cell[:, :2] for cell in built.cells])
    np.testing.assert_allclose([(width, height) for _, width, height in ours.shapes()], cells, rtol=1e-5)


def test_what_cannot_be_asked(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no preset"):
        check(sound, config="smal")
    with pytest.raises(ConfigError, match=r"SIZES: has 2 entries for 3 feature levels"):
        check(sound, config=a_config("MODEL.ANCHOR_GENERATOR.SIZES", "((12,),(24,))"))
    with pytest.raises(DatasetError, match=r"all\.json: is a file, and a report is a folder"):
        check(sound, output=sound / "annotations/all.json")
    with pytest.raises(DatasetError, match="holds no data set"):
        check(tmp_path / "pictures")


def test_every_kind_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs/check.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


def test_real_bees_against_the_second_labelling(shared: Path, tmp_path: Path) -> None:
    """Known answers: 500 pictures, a PNG named .jpg, two photographs of one flower, a box of 3 px."""
    imported = labels.read(shared / "data/bees/output.manifest")
    create(imported.dataset, tmp_path / "bees", pictures=shared / "data/bees/images")
    others = [shared / f"data/bees/relabelled_2022_{part}.manifest" for part in ("train", "validation")]
    report = check(tmp_path / "bees", against=others)
    told = {(one.kind, one.picture) for one in report.findings}
    assert {("wrong-extension", "6381998.jpg"), ("near-duplicate", "3280744.jpg"), ("tiny-box", "7232396.jpg")} <= told
    assert report.grave == 0
    assert report.agreement is not None
    assert (report.agreement.pictures, report.agreement.matched) == (499, 446)
    assert report.agreement.mean_iou == pytest.approx(0.760, abs=0.001)


def test_the_page_is_capped_kind_by_kind_and_json_is_not(sound: Path) -> None:
    """Hundreds of findings of one kind do not push another one off the page."""
    tiny = tuple(an_instance(0, (float(x), float(y), x + 2.0, y + 2.0)) for x in range(0, 90, 4) for y in range(0, 70, 4))
    dataset = coco.read(sound / "annotations/all.json")
    images = (a_record(1, instances=tiny), *dataset.images[1:])
    coco.write(a_dataset(images), sound / "annotations/all.json")
    report = check(sound, output=sound / "report")
    html = (sound / "report/index.html").read_text()
    assert len(tiny) > ROWS_PER_KIND
    assert f"{ROWS_PER_KIND} of {len(report.findings)} findings are shown" in html
    assert html.count("<figure ") == 6
    assert len(json.loads((sound / "report/findings.json").read_text())["findings"]) == len(tiny)
