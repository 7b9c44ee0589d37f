import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import a_line, a_manifest, a_picture

from sightline import labels
from sightline.errors import LabelError
from sightline.labels import ground_truth, sequences
from sightline.labels.report import Imported
from sightline.records import ImageSize

PREFIX = "s3://bucket/videos/one/"
OUTPUT = "annotations/consolidated-annotation/output"


def a_video_box(**changes: object) -> dict[str, object]:
    """A box as SeqLabel.json holds it: the class id is text."""
    return {
        "class-id": "2",
        "left": 10,
        "top": 20,
        "width": 30,
        "height": 40,
        "object-id": "d79c",
        "object-name": "Car:1",
    } | changes


def a_frame(number: int, boxes: Sequence[dict[str, object]] | None = None, **changes: object) -> dict[str, object]:
    boxes = [a_video_box()] if boxes is None else boxes
    return {"frame-no": str(number), "frame": f"{number:03d}.jpg", "frame-attributes": {}, "annotations": boxes} | changes


def a_job(
    folder: Path,
    frames: Sequence[dict[str, object]],
    *,
    listed: Sequence[str] | None = None,
    key: str = "tracking-annotations",
    metadata: dict[str, object] | None = None,
    **more: object,
) -> Path:
    """A video job's output folder with its pictures and one sequence; the path of its manifest."""
    names = [str(frame.get("frame")) for frame in frames] if listed is None else listed
    for name in names:
        a_picture(folder / "videos/one" / name, ImageSize(80, 100))
    sequence = {
        "seq-no": 1,
        "prefix": PREFIX,
        "number-of-frames": len(names),
        "frames": [{"frame-no": number, "frame": name} for number, name in enumerate(names)],
    }
    write(folder / "videos/seq1.json", sequence)
    write(folder / OUTPUT / "0/SeqLabel.json", {key: list(frames)})
    line = {
        "source-ref": "s3://bucket/videos/seq1.json",
        "job-ref": f"s3://bucket/out/job/{OUTPUT}/0/SeqLabel.json",
        "job-ref-metadata": {
            "class-map": {"2": "Vehicle"},
            "job-name": "labeling-job/job",
            "human-annotated": "yes",
            "creation-date": "2021-03-23T19:30:00+0000",
            "type": "groundtruth/video-object-tracking",
        }
        | (metadata or {}),
    }
    return write(folder / "manifests/output/output.manifest", line | more)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def read(path: Path, **options: object) -> Imported:
    return ground_truth.read([path], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["tracking-annotations", "detection-annotations"])
def test_every_frame_is_a_picture_of_its_sequence(tmp_path: Path, key: str) -> None:
    imported = read(a_job(tmp_path, [a_frame(1), a_frame(2, [])], key=key))
    dataset = imported.dataset
    assert dataset.class_names == ("Vehicle",)
    assert [(image.id, image.file_name, image.source, image.group) for image in dataset.images] == [
        (1, "001.jpg", PREFIX + "001.jpg", "s3://bucket/videos/seq1.json"),
        (2, "002.jpg", PREFIX + "002.jpg", "s3://bucket/videos/seq1.json"),
    ]
    assert dataset.images[0].size == ImageSize(80, 100)
    assert [len(image.instances) for image in dataset.images] == [1, 0]
    assert dataset.images[0].instances[0].box == (10.0, 20.0, 40.0, 60.0)
    assert imported.report.format == "ground-truth-video"
    assert imported.report.notes == ("Not kept, a dataset has no place for it: object-id of 1 boxes.",)


def test_frame_numbers_are_text_and_count_as_numbers(tmp_path: Path) -> None:
    imported = read(a_job(tmp_path, [a_frame(10), a_frame(2), a_frame(9)]))
    assert [image.file_name for image in imported.dataset.images] == ["002.jpg", "009.jpg", "010.jpg"]


def test_numbers_may_be_text(tmp_path: Path) -> None:
    imported = read(a_job(tmp_path, [a_frame(1, [a_video_box(left="1.5", width="8")])]))
    assert imported.dataset.images[0].instances[0].box == (1.5, 20.0, 9.5, 60.0)


def test_everything_may_lie_in_the_folder_of_the_pictures(tmp_path: Path) -> None:
    manifest = a_job(tmp_path / "job", [a_frame(1)])
    alone = tmp_path / "alone.manifest"
    shutil.copy(manifest, alone)
    with pytest.raises(LabelError, match=r"the sequence file s3://bucket/videos/seq1.json is not here.*--images"):
        raise LabelError.collected(read(alone).report.skipped)
    assert read(alone, images=tmp_path / "job").report.boxes == 1


def test_the_newest_of_a_chain_is_read(tmp_path: Path) -> None:
    audit = {"class-map": {"2": "Car"}, "type": "groundtruth/video-object-tracking", "adjustment-status": "adjusted"}
    write(tmp_path / OUTPUT / "1/SeqLabel.json", {"tracking-annotations": [a_frame(1, [])]})
    more = {"audit-ref": f"s3://bucket/out/audit/{OUTPUT}/1/SeqLabel.json", "audit-ref-metadata": audit, "seed": {"x": 1}}
    manifest = a_job(tmp_path, [a_frame(1)], **more)
    assert read(manifest).dataset.class_names == ("Car",)
    assert read(manifest).report.empty_images == 1
    assert read(manifest, label_attributes=["job-ref"]).dataset.class_names == ("Vehicle",)


def test_frames_that_nobody_labelled_are_told(tmp_path: Path) -> None:
    report = read(a_job(tmp_path, [a_frame(1)], listed=["001.jpg", "002.jpg"])).report
    assert (report.images, report.unlabelled) == (1, 1)
    assert "output.manifest:1, frame '002.jpg' (1 in all)" in report.notes[0]


def test_a_failed_sequence_is_told(tmp_path: Path) -> None:
    manifest = a_job(tmp_path, [a_frame(1)])
    failed = json.loads(manifest.read_text())
    failed["job-ref-metadata"] = {"failure-reason": "expired"}
    with manifest.open("a") as file:
        file.write(json.dumps(failed) + "\n")
    report = read(manifest).report
    assert (report.images, report.failed) == (1, 1)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        pytest.param(a_frame(1, [a_video_box(left=90)]), "box 1: has a box outside its picture", id="outside"),
        pytest.param(a_frame(1, [a_video_box(left="far")]), "box 1: has left 'far'", id="text"),
        pytest.param(a_frame(1, [a_video_box(width=0)]), "box 1: has an empty box", id="empty"),
        pytest.param(a_frame(1, [a_video_box(**{"class-id": "5"})]), "class_id '5', which is not in", id="class"),
        pytest.param(a_frame(1, [], polygons=[{"class-id": "2"}]), "has polygons, not boxes", id="polygons"),
        pytest.param(a_frame(1, **{"frame-no": "first"}), "has frame-no 'first'", id="number"),
        pytest.param(a_frame(1, frame=None), "has frame None", id="no frame"),
        pytest.param(a_frame(1, frame="other.jpg"), "'other.jpg': is not in the sequence file", id="another frame"),
    ],
)
def test_a_broken_frame_is_named(tmp_path: Path, frame: dict[str, object], message: str) -> None:
    (problem,) = read(a_job(tmp_path, [frame], listed=["001.jpg"])).report.skipped
    assert message in str(problem)


def test_a_missing_frame_and_one_that_climbs_out_are_named(tmp_path: Path) -> None:
    a_picture(tmp_path / "secret.jpg")
    manifest = a_job(tmp_path / "job", [a_frame(1), a_frame(2, frame="../../../../secret.jpg")], listed=[])
    report = read(manifest, images=tmp_path / "job").report
    assert [problem.what.split(" is not")[0] for problem in report.skipped] == [
        f"the picture {PREFIX}001.jpg",
        f"the picture {PREFIX}../../../../secret.jpg",
    ]


def test_one_copy_is_not_taken_for_two_files(tmp_path: Path) -> None:
    manifest = a_job(tmp_path / "job", [a_frame(1)])
    other = json.loads(manifest.read_text()) | {"job-ref": "s3://bucket/out/job/annotations/output/1/SeqLabel.json"}
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in (f"{OUTPUT}/0/SeqLabel.json", "videos/seq1.json", "videos/one/001.jpg"):
        shutil.copy(tmp_path / "job" / name, flat)
    path = flat / "two.manifest"
    path.write_text(manifest.read_text() + json.dumps(other) + "\n")
    report = read(path).report
    assert report.images == 1
    assert "SeqLabel.json could be s3://bucket/out/job/annotations/output/1/SeqLabel.json or" in report.skipped[0].what


def test_the_label_file_alone_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "SeqLabel.json", {"tracking-annotations": [a_frame(1)]})
    with pytest.raises(LabelError, match=r"video frames \(tracking-annotations\).*output.manifest beside it names the classes"):
        read(path)


def test_video_and_box_jobs_are_imported_apart(tmp_path: Path) -> None:
    from builders import a_line, a_manifest

    manifest = a_job(tmp_path, [a_frame(1)])
    boxes = a_manifest(tmp_path / "boxes.manifest", [a_line()])
    with pytest.raises(
        LabelError, match=r"output.manifest: the labels are of a video job, and those of .*boxes.manifest of single"
    ):
        ground_truth.read([boxes, manifest])


def test_recognised_by_its_type() -> None:
    assert sequences.recognise(Path("x"), b'{"type": "groundtruth/video-object-tracking"}')
    assert not sequences.recognise(Path("x"), b'{"type": "groundtruth/object-detection"}')


def test_a_real_tracking_job(tmp_path: Path, shared: Path) -> None:
    labels = shared / "data/manifests/aws_examples_video_quality.SeqLabel.json"
    frames = json.loads(labels.read_text())["tracking-annotations"]
    manifest = a_job(tmp_path, frames, listed=[])
    shutil.copy(labels, tmp_path / OUTPUT / "0/SeqLabel.json")
    picture = a_picture(tmp_path / "black.png", ImageSize(1080, 1920), format="PNG")
    (tmp_path / "videos/one").mkdir()
    for frame in frames:  # one file under all names
        os.link(picture, tmp_path / "videos/one" / frame["frame"])
    imported = read(manifest)
    assert imported.report.skipped == ()
    assert (imported.report.images, imported.report.boxes) == (300, 890)
    assert [image.file_name for image in imported.dataset.images][:12] == [f"{number:06d}.jpg" for number in range(1, 13)]


def test_a_rule_chooses_between_two_video_jobs(tmp_path: Path) -> None:
    """Both have labelled the same frames."""
    first = a_job(tmp_path / "one", [a_frame(1), a_frame(2)])
    second = a_job(tmp_path / "two", [a_frame(1, [])])
    with pytest.raises(LabelError, match=r"too\. Keep one of the two; between two manifests --on-duplicate chooses"):
        labels.read([first, second])
    for rule, boxes in (("first", [1, 1]), ("last", [0, 1]), ("merge", [1, 1])):
        dataset = labels.read([first, second], on_duplicate=rule).dataset  # type: ignore[arg-type]
        assert [len(image.instances) for image in dataset.images] == boxes


def test_each_manifest_takes_the_label_attribute_that_it_has(tmp_path: Path) -> None:
    """Also where one is of a video job and another one of single pictures."""
    video = a_job(tmp_path / "video", [a_frame(1)])
    boxes = a_manifest(tmp_path / "boxes.manifest", [a_line(attribute="a") | a_line(attribute="b")])
    found = labels.read([boxes, video], label_attribute=["a", "job-ref"])
    assert found.report.images == 2
    with pytest.raises(LabelError, match=r"boxes\.manifest: has no box label attribute 'jbo-ref'\. Known: a, b"):
        labels.read([boxes, video], label_attribute=["a", "jbo-ref"])
