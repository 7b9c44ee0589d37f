"""s3:// where commands take a path: from a labelling job on S3 to a data set, and back."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from sightline import storage
from sightline.cli.main import app
from sightline.errors import DatasetError, SightlineError
from sightline.journey import digest_of, stamp

from .conftest import BUCKET, Bucket, Server

JOB = "jobs/one"
MANIFEST = f"{JOB}/manifests/output/output.manifest"


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.full((40, 60, 3), shade, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def line(source: str) -> str:
    box = {"class_id": 0, "left": 5, "top": 5, "width": 20, "height": 10}
    labels = {"image_size": [{"width": 60, "height": 40, "depth": 3}], "annotations": [box]}
    facts = {
        "objects": [{"confidence": 0.9}],
        "class-map": {"0": "bee"},
        "type": "groundtruth/object-detection",
        "human-annotated": "yes",
        "creation-date": "2026-11-20T10:00:00",
        "job-name": "labeling-job/one",
    }
    return json.dumps({"source-ref": source, "boxes": labels, "boxes-metadata": facts})


NAMES = ["a b.png", "a%20b.png", "deep/ü+.png"]


@pytest.fixture
def job(bucket: Bucket) -> Bucket:
    """The output of a labelling job beside its pictures; and the crumbs that lie around it."""
    sources = [bucket.put(f"raw/{name}", picture(40 * number)) for number, name in enumerate(NAMES)]
    bucket.put(MANIFEST, "\n".join(map(line, sources)).encode())
    bucket.put(f"{JOB}/annotations/worker-response/0.json", b"{}")
    bucket.put("raw/unlabelled.png", picture(9))
    bucket.asked.clear()
    return bucket


def call(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def file_names(folder: Path) -> Sequence[str]:
    content = json.loads((folder / "annotations" / "all.json").read_text(encoding="utf-8"))
    return [image["file_name"] for image in content["images"]]


@pytest.mark.parametrize("source", [MANIFEST, JOB, f"{JOB}/"])
def test_a_labelling_job_comes_with_its_pictures(job: Bucket, tmp_path: Path, source: str) -> None:
    call("dataset", "import", f"s3://{BUCKET}/{source}", "-o", str(tmp_path / "data"))
    assert file_names(tmp_path / "data") == NAMES
    assert (tmp_path / "data" / "images" / "a%20b.png").read_bytes() == picture(40)
    assert job.asked.count("GetObject") == 1 + len(NAMES)


def test_the_second_import_downloads_nothing(job: Bucket, tmp_path: Path) -> None:
    call("dataset", "import", f"s3://{BUCKET}/{MANIFEST}", "-o", str(tmp_path / "one"))
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")}
    call("dataset", "import", f"s3://{BUCKET}/{MANIFEST}", "-o", str(tmp_path / "two"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")} == cached
    assert len(cached) == len(NAMES)


def test_labels_here_fetch_nothing_unasked(job: Bucket, tmp_path: Path) -> None:
    manifest = tmp_path / "output.manifest"
    manifest.write_bytes(job.get(MANIFEST))
    job.asked.clear()
    with pytest.raises(DatasetError, match=r"has pictures on S3 \(s3://parts/raw/a b.png, \.\.\.\).*--download"):
        call("dataset", "import", str(manifest), "-o", str(tmp_path / "data"))
    assert job.asked == []
    call("dataset", "import", str(manifest), "-o", str(tmp_path / "data"), "--download")
    assert file_names(tmp_path / "data") == NAMES


def test_what_a_folder_has_is_not_fetched(job: Bucket, tmp_path: Path) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "deep" / "ü+.png").write_bytes(picture(80))
    here = ["--images", str(tmp_path / "here")]
    call("dataset", "import", f"s3://{BUCKET}/{MANIFEST}", *here, "-o", str(tmp_path / "data"))
    assert file_names(tmp_path / "data") == NAMES
    assert job.asked.count("GetObject") == 1 + 2


def test_pictures_below_a_prefix(job: Bucket, tmp_path: Path) -> None:
    manifest = tmp_path / "output.manifest"
    manifest.write_text("\n".join(line(f"s3://elsewhere/old/{name}") for name in NAMES), encoding="utf-8")
    job.asked.clear()
    call("dataset", "import", str(manifest), "--images", f"s3://{BUCKET}/raw", "-o", str(tmp_path / "data"))
    assert file_names(tmp_path / "data") == NAMES
    assert sorted(job.asked) == ["GetObject"] * 3 + ["ListObjectsV2"]  # the unlabelled one stays there


def test_all_missing_pictures_are_told_and_may_be_skipped(job: Bucket, tmp_path: Path) -> None:
    for name in NAMES[1:]:
        job.client.delete_object(Bucket=BUCKET, Key=f"raw/{name}")
    with pytest.raises(DatasetError) as caught:
        call("dataset", "import", f"s3://{BUCKET}/{JOB}", "-o", str(tmp_path / "data"))
    told = [(problem.where, problem.what) for problem in caught.value.problems]
    assert told == [(f"s3://{BUCKET}/raw/{name}", "does not exist") for name in NAMES[1:]]
    call("dataset", "import", f"s3://{BUCKET}/{JOB}", "-o", str(tmp_path / "data"), "--on-problem", "skip")
    assert len(file_names(tmp_path / "data")) == 1


def test_a_data_set_lives_on_s3(job: Bucket, tmp_path: Path) -> None:
    printed = call("dataset", "import", f"s3://{BUCKET}/{JOB}", "-o", f"s3://{BUCKET}/sets/bees", "--json")
    assert json.loads(printed)["dataset"]["folder"] == f"s3://{BUCKET}/sets/bees"
    assert job.keys("sets/") == ["sets/bees/annotations/all.json", *(f"sets/bees/images/{name}" for name in sorted(NAMES))]
    call("dataset", "export", f"s3://{BUCKET}/sets/bees", "--format", "voc", "-o", f"s3://{BUCKET}/voc")
    assert "voc/JPEGImages/deep/ü+.png" in job.keys("voc/")
    call("dataset", "import", f"s3://{BUCKET}/voc", "-o", str(tmp_path / "again"))
    assert len(file_names(tmp_path / "again")) == len(NAMES)


def test_scores_of_results_on_s3(job: Bucket, tmp_path: Path) -> None:
    call("dataset", "import", f"s3://{BUCKET}/{JOB}", "-o", f"s3://{BUCKET}/bees")
    found = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 10], "score": 0.9}]
    job.put("results.json", json.dumps(found).encode())
    report = ["-o", f"s3://{BUCKET}/report", "--split", "all", "--json"]
    printed = call("evaluate", f"s3://{BUCKET}/results.json", "--data", f"s3://{BUCKET}/bees", *report)
    assert json.loads(printed)["bbox"]["AP50"] == pytest.approx(1 / 3, abs=0.01)
    assert "report/scores.json" in job.keys("report/")


def test_fingerprints_follow_what_is_on_s3(job: Bucket) -> None:
    def now() -> object:
        return digest_of([f"s3://{BUCKET}/{MANIFEST}"], f"s3://{BUCKET}/raw"), stamp(f"s3://{BUCKET}/{MANIFEST}")

    first = now()
    assert now() == first
    assert "GetObject" not in job.asked
    job.put(f"raw/{NAMES[0]}", picture(1))
    assert now() != first


@pytest.mark.parametrize(
    "words",
    [
        ["dataset", "split", "s3://b/data"],
        ["train", "--data", "data", "-o", "s3://b/run"],
        ["tune", "--data", "data", "--space", "s.yaml", "-o", "s3://b/study"],
        ["run", "a.manifest", "-o", "s3://b/work"],
        ["demo", "-o", "s3://b/work"],
    ],
)
def test_where_it_cannot_be(server: Server, words: list[str]) -> None:
    with pytest.raises(SightlineError, match=r"^s3://b/\w+: is on S3, and this option works on this machine's files only"):
        call(*words)
    assert server.asked == []


def test_pictures_of_a_prediction_are_called_by_their_addresses(job: Bucket) -> None:
    from sightline.serving.files import read
    from sightline.serving.given import collect

    job.put("raw/.hidden.png", picture(1))
    job.put("raw/notes.txt", b"")
    found = collect([f"s3://{BUCKET}/raw", f"s3://{BUCKET}/raw/a b.png"])
    assert set(found) == {f"s3://{BUCKET}/raw/{name}" for name in [*NAMES, "unlabelled.png"]}
    assert "GetObject" not in job.asked  # they are fetched while others are predicted
    assert all(read(name).image is not None for name in found)
    missing = read(f"s3://{BUCKET}/raw/gone.png").problem
    assert missing is not None
    assert (missing.where, "does not exist" in missing.what) == (f"s3://{BUCKET}/raw/gone.png", True)
    with pytest.raises(SightlineError, match="does not exist"):
        collect([f"s3://{BUCKET}/rwa"])


def test_configurations_come_from_s3(bucket: Bucket) -> None:
    from sightline.config.sources import load

    address = bucket.put("config.yaml", b"SOLVER:\n  MAX_ITER: 7\n")
    assert load(address).solver.max_iter == 7


def test_everything_is_where_the_cache_is_told_to_be(job: Bucket, tmp_path: Path) -> None:
    path = storage.local_path(f"s3://{BUCKET}/{MANIFEST}", "Reading")
    assert path.is_relative_to(tmp_path / "cache" / "s3")


def test_a_prelabelled_manifest_goes_to_s3(job: Bucket) -> None:
    call("dataset", "import", f"s3://{BUCKET}/{JOB}", "-o", f"s3://{BUCKET}/bees")
    call("dataset", "prelabel", f"s3://{BUCKET}/bees", "-o", f"s3://{BUCKET}/next/input.manifest")
    lines = job.get("next/input.manifest").decode().splitlines()
    assert [json.loads(text)["source-ref"] for text in lines] == [f"s3://{BUCKET}/raw/{name}" for name in NAMES]


SEQUENCE = "annotations/consolidated-annotation/output/0/SeqLabel.json"


def video_job(bucket: Bucket, frames: int = 2) -> str:
    """A tracking job's output, its sequence and its frames, all on S3; the address of its manifest."""
    names = [f"{number}.png" for number in range(frames)]
    for name in names:
        bucket.put(f"raw/clip/{name}", picture(50))
    listed = [{"frame-no": number, "frame": name} for number, name in enumerate(names)]
    sequence = {"seq-no": 1, "prefix": f"s3://{BUCKET}/raw/clip/", "number-of-frames": frames, "frames": listed}
    box = {"class-id": "0", "left": 5, "top": 5, "width": 20, "height": 10}
    labels = [{"frame-no": str(number), "frame": name, "annotations": [box]} for number, name in enumerate(names)]
    reference = bucket.put(f"jobs/video/{SEQUENCE}", json.dumps({"tracking-annotations": labels}).encode())
    facts = {"class-map": {"0": "bee"}, "type": "groundtruth/video-object-tracking", "creation-date": "2026-11-20T10:00:00"}
    line = {"source-ref": bucket.put("raw/clip.json", json.dumps(sequence).encode()), "job-ref": reference}
    return bucket.put("jobs/video/manifests/output/output.manifest", json.dumps(line | {"job-ref-metadata": facts}).encode())


def test_a_video_job_brings_its_sequences_and_frames(bucket: Bucket, tmp_path: Path) -> None:
    manifest = video_job(bucket)
    bucket.asked.clear()
    call("dataset", "import", manifest, "-o", str(tmp_path / "data"))
    assert file_names(tmp_path / "data") == ["0.png", "1.png"]
    assert bucket.asked.count("GetObject") == 5  # manifest, sequence, labels, two frames: nothing twice


def test_a_video_job_here_fetches_only_when_told(bucket: Bucket, tmp_path: Path) -> None:
    here = tmp_path / "output.manifest"
    here.write_bytes(bucket.get(video_job(bucket).removeprefix(f"s3://{BUCKET}/")))
    with pytest.raises(SightlineError, match=r"raw/clip.json is not here.*--download"):
        call("dataset", "import", str(here), "-o", str(tmp_path / "data"))
    call("dataset", "import", str(here), "--download", "-o", str(tmp_path / "data"))
    assert file_names(tmp_path / "data") == ["0.png", "1.png"]


def test_frames_that_are_missing_are_told_together(bucket: Bucket, tmp_path: Path) -> None:
    manifest = video_job(bucket, 3)
    for name in ("0.png", "2.png"):
        bucket.client.delete_object(Bucket=BUCKET, Key=f"raw/clip/{name}")
    with pytest.raises(SightlineError, match="does not exist") as caught:
        call("dataset", "import", manifest, "-o", str(tmp_path / "data"))
    assert [problem.where for problem in caught.value.problems] == [
        f"{manifest}:1, SeqLabel.json, frame '{name}'" for name in ("0.png", "2.png")
    ]


@pytest.mark.parametrize(
    ("key", "source", "content"),
    [
        pytest.param(MANIFEST, MANIFEST, b'{"source-ref": ', id="manifest"),
        pytest.param(MANIFEST, JOB, b'{"source-ref": ', id="job"),
        pytest.param("labels/a.json", "labels/a.json", b'{"images": [1], "annotations": [], "categories": []}', id="COCO"),
        pytest.param("labels/a.xml", "labels/", b"<annotation><object></annotation>", id="folder"),
        pytest.param("labels/a.bin", "labels/a.bin", b"\0", id="no format"),
    ],
)
def test_errors_name_addresses_not_the_cache(bucket: Bucket, tmp_path: Path, key: str, source: str, content: bytes) -> None:
    bucket.put(key, content)
    with pytest.raises(SightlineError) as caught:
        call("dataset", "import", f"s3://{BUCKET}/{source}", "--labels-only", "-o", str(tmp_path / "data"))
    assert f"s3://{BUCKET}/{key}" in str(caught.value) or f"s3://{BUCKET}/{source}".rstrip("/") in str(caught.value)
    assert "cache" not in str(caught.value)


def test_reports_name_addresses(job: Bucket, tmp_path: Path) -> None:
    told = json.loads(
        call("dataset", "import", f"s3://{BUCKET}/{JOB}", "--labels-only", "--json", "-o", str(tmp_path / "data"))
    )
    assert told["labels"]["files"] == [f"s3://{BUCKET}/{MANIFEST}"]
