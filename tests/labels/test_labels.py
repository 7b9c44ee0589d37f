import json
from pathlib import Path

import pytest
from builders import a_coco, a_dataset, a_line, a_manifest, a_picture, a_record

from sightline import coco, labels
from sightline.errors import LabelError, SightlineError


def a_file(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(json.dumps(a_line()), "ground-truth", id="manifest"),
        pytest.param("garbage\n" + json.dumps(a_line()), "ground-truth", id="manifest with a broken first line"),
        pytest.param('{"source": "text"}', "ground-truth", id="manifest of texts"),
        pytest.param('{"tracking-annotations": []}', "ground-truth", id="a video job's labels"),
        pytest.param(json.dumps(a_coco()), "coco", id="coco"),
        pytest.param(json.dumps(coco.to_json(a_dataset([a_record(source="s3://b/1.jpg")]))), "coco", id="our own"),
    ],
)
def test_the_format_is_recognised_by_content(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text)
    assert labels.recognise(path) == expected


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("<xml/>", "in no known label format .begins with b'<xml/>'")])
def test_an_unknown_format_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text)
    with pytest.raises(LabelError, match=f"{message}.*ground-truth, coco, .*; or say which with --format"):
        labels.read(path)


def test_what_is_asked_wrongly_is_said(tmp_path: Path) -> None:
    manifest, instances = a_manifest(tmp_path / "a.manifest", [a_line()]), a_file(tmp_path / "b.json", a_coco())
    for sources, options, message in (
        ([], {}, "no file is given"),
        ([manifest, manifest], {}, "a.manifest: is given twice"),
        (manifest, {"format": "ground-trooth"}, "unknown format 'ground-trooth'. Did you mean 'ground-truth'?"),
        (instances, {"label_attribute": "x"}, "--label-attribute: no file has label attributes: .*b.json is coco"),
        (instances, {"min_confidence": 0.5}, "--min-confidence: no file has confidences: .*b.json is coco. Leave"),
        (manifest, {"voc_origin": 0, "classes": ["x"]}, "--voc-origin: no file may count (.|\n)*--class: no file has classes"),
        (manifest, {"rejected": ["bad"]}, "--rejected: does nothing by itself. Add --drop-rejected"),
        ([manifest, instances], {"rename": {"cta": "x"}}, "--rename: there is no class 'cta'. Did you mean 'cat'?"),
        ([manifest, instances], {"drop": ["dgo"]}, "--drop: there is no class 'dgo'. Did you mean 'dog'?"),
        (manifest, {"on_duplicate": "frist"}, "unknown rule 'frist'. Did you mean 'first'?"),
        (tmp_path / "missing", {}, "does not exist"),
        (tmp_path, {}, "is a folder of no known label format. Name the label file in it"),
    ):
        with pytest.raises(SightlineError, match=message):
            labels.read(sources, **options)  # type: ignore[arg-type]


def test_an_option_of_another_format_is_refused_when_writing(tmp_path: Path) -> None:
    dataset = a_dataset([a_record()])
    with pytest.raises(LabelError, match=r"--voc-origin: is for voc, and coco is written.*\n--prefix: is for ground-truth"):
        labels.write(dataset, tmp_path / "a.json", format="coco", voc_origin=0, prefix="s3://b/a")
    with pytest.raises(LabelError, match=r"--voc-origin: is 5\. Give 1"):
        labels.write(dataset, tmp_path / "voc", format="voc", voc_origin=5)
    assert list(tmp_path.iterdir()) == []


def test_writing_coco_after_reading_it(tmp_path: Path) -> None:
    """The package has a module of the same name as the one that writes."""
    dataset = labels.read(a_file(tmp_path / "a.json", a_coco())).dataset
    assert labels.write(dataset, tmp_path / "b.json") == []
    assert labels.read(tmp_path / "b.json").dataset == dataset


def test_a_jobs_output_folder_stands_for_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifests" / "output").mkdir(parents=True)
    a_manifest(tmp_path / "manifests" / "output" / "output.manifest", [a_line()])
    assert labels.read(tmp_path).report.images == 1


def test_one_coco_file_keeps_its_ids(tmp_path: Path) -> None:
    imported = labels.read(a_file(tmp_path / "a.json", a_coco()))
    assert [image.id for image in imported.dataset.images] == [7, 9]
    assert [category.id for category in imported.dataset.categories] == [3, 90]
    assert str(imported.report) == "coco: 2 images (1 without objects), 1 boxes"


def test_coco_files_are_joined_by_class_name_and_renumbered_when_ids_clash(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "c.jpg", "width": 100, "height": 80}]
    other = a_coco(images=images, categories=[{"id": 3, "name": "owl"}, {"id": 4, "name": "cat"}])
    dataset = labels.read([a_file(tmp_path / "a.json", a_coco()), a_file(tmp_path / "b.json", other)]).dataset
    assert [(category.id, category.name) for category in dataset.categories] == [(1, "cat"), (2, "dog"), (3, "owl")]
    assert [image.id for image in dataset.images] == [1, 2, 3]
    assert dataset.class_names[dataset.images[2].instances[0].label] == "owl"


def test_a_picture_in_two_coco_files_is_a_problem(tmp_path: Path) -> None:
    paths = [a_file(tmp_path / name, a_coco()) for name in ("a.json", "b.json")]
    with pytest.raises(LabelError, match=r"b.json: a.jpg is in .*a.json, too. Choose whose labels count with --on-duplicate"):
        labels.read(paths)
    assert labels.read(paths, on_problem="skip").report.images == 2


def test_pictures_of_one_name_and_two_addresses_are_two(tmp_path: Path) -> None:
    """As of two dataset folders, each from a job of its own."""
    paths = []
    for name in ("one", "two"):
        dataset = a_dataset([a_record(1, source=f"s3://bucket/{name}/001.jpg")])
        paths.append(tmp_path / name / "annotations/all.json")
        coco.write(dataset, paths[-1])
        a_picture(tmp_path / name / "images/001.jpg")
    found = labels.read(paths)
    assert [image.file_name for image in found.dataset.images] == ["one/001.jpg", "two/001.jpg"]
    assert labels.read([tmp_path / "one", tmp_path / "two"]).dataset == found.dataset
    assert found.pictures == {f"{name}/001.jpg": tmp_path / name / "images/001.jpg" for name in ("one", "two")}


def test_unsafe_coco_names_get_safe_ones_and_stay_as_source(tmp_path: Path) -> None:
    names = ["../up/a.jpg", "plain/b.jpg", "s3://bucket/c.jpg"]
    images = [{"id": number, "file_name": name, "width": 100, "height": 80} for number, name in enumerate(names, 7)]
    dataset = labels.read(a_file(tmp_path / "a.json", a_coco(images=images))).dataset
    assert [image.file_name for image in dataset.images] == ["__/up/a.jpg", "plain/b.jpg", "bucket/c.jpg"]
    assert [image.source for image in dataset.images] == ["../up/a.jpg", "", "s3://bucket/c.jpg"]


def test_nothing_left_is_an_error_even_when_problems_are_skipped(tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.json", a_coco(images=[]))
    with pytest.raises(LabelError, match="belongs to image 7, which is not in the file"):
        labels.read(path, on_problem="skip")
    with pytest.raises(LabelError, match="holds no labelled picture"):
        labels.read(a_file(path, a_coco(images=[], annotations=[])))
