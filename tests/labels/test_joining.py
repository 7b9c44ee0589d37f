import json
from pathlib import Path

import pytest
from builders import a_coco, a_line, a_manifest, a_picture

from sightline import labels
from sightline.errors import LabelError

DESCRIPTIONS = "/m/01,Cat\n/m/02,Owl\n"


def an_open_images_folder(folder: Path, *images: str) -> Path:
    """A folder of pictures of one owl each, with its CSV files."""
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    folder.mkdir()
    rows = [f"{image},xclick,/m/02,1,0.1,0.4,0.25,0.75,0,0,0,0,0" for image in images]
    (folder / "train-annotations-bbox.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "class-descriptions-boxable.csv").write_text(DESCRIPTIONS)
    for image in images:
        a_picture(folder / f"{image}.jpg")
    return folder


def test_an_own_job_and_public_pictures_become_one(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path / "output.manifest", [a_line("s3://bucket/images/1.jpg")])
    public = an_open_images_folder(tmp_path / "public", "0a1b", "0a1c")
    imported = labels.read([manifest, public], rename={"Owl": "owl"})
    assert imported.dataset.class_names == ("cat", "owl")
    assert [image.file_name for image in imported.dataset.images] == ["1.jpg", "0a1b.jpg", "0a1c.jpg"]
    assert imported.pictures == {f"{name}.jpg": public / f"{name}.jpg" for name in ("0a1b", "0a1c")}
    report = imported.report
    assert (report.format, report.images, report.boxes) == ("ground-truth, open-images", 3, 3)
    assert [part.images for part in report.parts] == [1, 2]
    assert f"{public}: the class 'Owl' (2 objects) is now 'owl'." in report.notes
    assert (
        str(report).splitlines()[1].endswith("output.manifest: ground-truth: 1 images (0 without objects), 1 boxes in 1 lines")
    )
    assert len(report.as_dict()["parts"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "objects"), [("first", 1), ("last", 0), ("merge", 1)])
def test_one_picture_in_two_formats_follows_the_rule(tmp_path: Path, rule: str, objects: int) -> None:
    manifest = a_manifest(tmp_path / "output.manifest", [a_line("s3://bucket/images/b.jpg")])
    instances = tmp_path / "b.json"
    instances.write_text(json.dumps(a_coco()))  # of b.jpg without objects, too
    with pytest.raises(LabelError, match=r"b.json: b.jpg is in .*output.manifest, too. Choose .*--on-duplicate"):
        labels.read([manifest, instances])
    imported = labels.read([manifest, instances], on_duplicate=rule)  # type: ignore[arg-type]
    found = {image.file_name: len(image.instances) for image in imported.dataset.images}
    assert found == {"a.jpg": 1, "b.jpg": objects}
    skipping = labels.read([manifest, instances], on_problem="skip")
    assert len(skipping.report.skipped) == 1
    assert skipping.dataset == labels.read([manifest, instances], on_duplicate="first").dataset


def test_one_format_with_a_rule_is_read_file_by_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        path.write_text(json.dumps(a_coco()))
    imported = labels.read(paths, on_duplicate="merge")
    assert [len(image.instances) for image in imported.dataset.images] == [1, 0]
    assert f"{paths[1]}: 2 pictures are in {paths[0]}, too; their objects were joined." in imported.report.notes


def test_two_files_of_open_images_share_their_class_names(tmp_path: Path) -> None:
    one, other = (an_open_images_folder(tmp_path / name, "0a1b") for name in ("one", "other"))
    (other / "class-descriptions-boxable.csv").rename(one / "more.csv")
    with pytest.raises(LabelError, match=r"labels 0a1b again"):
        labels.read([one, other])
    imported = labels.read([one, other, one / "more.csv"], on_duplicate="last")
    assert imported.dataset.class_names == ("Owl",)
    assert imported.pictures["0a1b.jpg"] == other / "0a1b.jpg"


def test_labels_of_single_pictures_and_of_videos_are_joined(tmp_path: Path) -> None:
    """A manifest of a video job is recognised; its faults are its own."""
    boxes = a_manifest(tmp_path / "boxes", [a_line()])
    kind = {"type": "groundtruth/video-object-detection", "class-map": {}}
    line = {"source-ref": "s3://b/seq.json", "v-ref": "s3://b/SeqLabel.json", "v-ref-metadata": kind}
    video = a_manifest(tmp_path / "video", [line])
    with pytest.raises(LabelError, match=r"video:1: the sequence file s3://b/seq.json is not here"):
        labels.read([boxes, video])
    imported = labels.read([boxes, video], on_problem="skip")
    assert imported.report.images == 1
    assert f"{video} holds no labelled picture." in imported.report.notes


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path in paths:
        path.write_text(json.dumps(a_coco(images=[], annotations=[])))
    with pytest.raises(LabelError, match="holds no labelled picture"):
        labels.read(paths, on_duplicate="first")


def test_a_single_source_is_renamed_and_dropped_from(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(a_coco()))
    assert labels.read(path, rename={"cat": "pet"}).dataset.class_names == ("pet", "dog")
    report = labels.read(path, drop=["cat"]).report
    assert (report.boxes, report.empty_images, report.parts) == (0, 2, ())
