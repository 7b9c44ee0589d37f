"""Files and folders to S3: made here, sent when complete, unchanged ones not at all."""

from pathlib import Path

import pytest

from sightline import storage
from sightline.errors import SightlineError
from sightline.s3 import objects, uploads

from .conftest import BUCKET, Bucket, Server


def test_a_file_goes_up_under_its_key(bucket: Bucket) -> None:
    with storage.output_path(f"s3://{BUCKET}/out/a %20+ü.json", "A file") as path:
        storage.write_json(path, {"a": 1})
    assert bucket.keys() == ["out/a %20+ü.json"]
    assert bucket.client.head_object(Bucket=BUCKET, Key="out/a %20+ü.json")["ContentType"] == "application/json"


def test_what_fails_sends_nothing(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match="stop"), storage.output_path(f"s3://{BUCKET}/a", "A file") as path:
        path.write_bytes(b"half")
        raise ValueError("stop")
    assert bucket.keys() == []


def make(folder: Path, small: bytes = b"small") -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(b"picture")
    (folder / "annotations.json").write_bytes(small)
    (folder / "large.bin").write_bytes(bytes(objects.PART_BYTES + 1))


def test_a_folder_goes_up_once_and_then_only_what_changed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"s3://{BUCKET}/out"
    with storage.output_path(address, "A folder") as path:
        make(path)
    assert bucket.keys() == ["out/annotations.json", "out/images/a.jpg", "out/large.bin"]
    assert bucket.asked.index("PutObject") < bucket.asked.index("CreateMultipartUpload")
    bucket.asked.clear()
    with storage.output_path(address, "A folder") as path:
        make(path)
    assert bucket.asked == ["HeadBucket", "ListObjectsV2"]
    with storage.output_path(address, "A folder") as path:
        make(path, b"other")
    assert bucket.asked.count("PutObject") == 1
    assert bucket.get("out/annotations.json") == b"other"


def test_what_a_key_encrypts_goes_up_once(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "made")
    place = uploads.Address(BUCKET, "out")
    uploads.upload_folder(storage.store(), tmp_path / "made", place)
    monkeypatch.setattr(
        uploads, "etag_of", lambda path, alike: "the file's own"
    )  # with a key, ETags say nothing of the content
    bucket.asked.clear()
    uploads.upload_folder(storage.store(), tmp_path / "made", place)
    assert sorted(bucket.asked) == ["HeadObject"] * 3 + ["ListObjectsV2"]
    (tmp_path / "made" / "annotations.json").write_bytes(b"other")  # of the same length
    (tmp_path / "made" / "images" / "a.jpg").write_bytes(b"a larger picture")
    bucket.asked.clear()
    uploads.upload_folder(storage.store(), tmp_path / "made", place)
    assert (bucket.asked.count("PutObject"), bucket.asked.count("CreateMultipartUpload")) == (2, 0)
    assert bucket.get("out/annotations.json") == b"other"


def test_what_was_cut_off_goes_on_with_the_rest(bucket: Bucket, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(str(number).encode())
    arrived: list[str] = []

    def cut_off(params: dict[str, object], **_: object) -> None:
        if len(arrived) == 25:
            raise ConnectionError("cut off")
        arrived.append(str(params["Key"]))

    events = bucket.client.meta.events
    events.register("before-parameter-build.s3.PutObject", cut_off)
    try:
        with pytest.raises(SightlineError, match="the transfer failed"):
            uploads.upload_folder(storage.store(), tmp_path, uploads.Address(BUCKET, "out"))
    finally:
        events.unregister("before-parameter-build.s3.PutObject", cut_off)
    there = len(bucket.keys())
    assert 0 < there < 60
    bucket.asked.clear()
    uploads.upload_folder(storage.store(), tmp_path, uploads.Address(BUCKET, "out"))
    assert bucket.asked.count("PutObject") == 60 - there
    assert len(bucket.keys()) == 60


def test_linked_folders_go_up_too(bucket: Bucket, tmp_path: Path) -> None:
    make(tmp_path / "made")
    linking = tmp_path / "linking"
    linking.mkdir()
    (linking / "train").symlink_to(tmp_path / "made" / "images")
    (linking / "round").symlink_to(linking)
    (linking / "gone").symlink_to(tmp_path / "nowhere")
    uploads.upload_folder(storage.store(), linking, uploads.Address(BUCKET, "out"))
    assert bucket.keys() == ["out/train/a.jpg"]


def test_pictures_go_before_labels(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "made")
    batches: list[list[str]] = []
    monkeypatch.setattr(uploads, "upload", lambda store, files: batches.append([address.key for address in files]))
    uploads.upload_folder(storage.store(), tmp_path / "made", uploads.Address(BUCKET, "out"))
    assert batches == [["out/images/a.jpg"], ["out/annotations.json", "out/large.bin"]]


def test_a_missing_bucket_is_told_before_the_work(bucket: Bucket) -> None:
    with (
        pytest.raises(SightlineError, match=r"^s3://nobody/a: there is no bucket 'nobody'\. Create it"),
        storage.output_path("s3://nobody/a", "A file"),
    ):
        pytest.fail("the block must not run")


def test_a_file_needs_a_whole_key(bucket: Bucket) -> None:
    with (
        pytest.raises(SightlineError, match=r"names a folder, and A file is one file\. Give the whole key\.$"),
        storage.output_path(f"s3://{BUCKET}/out/", "A file") as path,
    ):
        path.write_bytes(b"x")


def test_refusals_name_the_action(server: Server, tmp_path: Path) -> None:
    server.fails(403, "AccessDenied")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(SightlineError, match="access is denied: s3:PutObject"):
        uploads.upload(storage.store(), {uploads.Address("bkt", "a"): tmp_path / "a"})
