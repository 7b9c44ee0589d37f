"""s3:// addresses to files: literal keys, whole folders, nothing twice, nothing half, nothing outside."""

from pathlib import Path

import pytest

from sightline import storage
from sightline.errors import RunError, SightlineError
from sightline.s3 import objects

from .conftest import BUCKET, Answer, Bucket, Server

AWKWARD = ["a b.jpg", "a%20b.jpg", "a+b.jpg", "ü/ö (1).jpg", "日本/写真.png", "q?x=1#y.jpg", "&=;.jpg"]


@pytest.mark.parametrize("name", AWKWARD)
def test_keys_are_literal(bucket: Bucket, name: str) -> None:
    for other in AWKWARD:
        bucket.put(f"in/{other}", other.encode())
    path = storage.local_path(f"s3://{BUCKET}/in/{name}", "Reading")
    assert path.read_bytes() == name.encode()


def test_a_folder_keeps_names_and_structure(bucket: Bucket) -> None:
    for name in AWKWARD:
        bucket.put(f"in/{name}", name.encode())
    bucket.put("in/", b"")  # what the console leaves for a folder
    bucket.put("inside.jpg", b"not below in/")
    folder = storage.local_path(f"s3://{BUCKET}/in", "Reading")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {name: name.encode() for name in AWKWARD if "?" not in name} == {k: v for k, v in found.items() if "q_" not in k}
    assert found["q_x=1#y.jpg"] == b"q?x=1#y.jpg"  # Windows holds no question marks


HOSTILE = ["../../up.txt", "/abs.txt", "a/../../b.txt", "C:\\x.txt", "..\\up.txt", "A.txt", "a.txt", "n", "n/m.txt", "./dot"]


def test_hostile_keys_stay_in_their_folder_and_lose_nothing(bucket: Bucket, tmp_path: Path) -> None:
    for key in HOSTILE:
        bucket.put(f"in/{key}", key.encode())
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    folder = storage.local_path(f"s3://{BUCKET}/in/", "Reading")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in files) == sorted(key.encode() for key in HOSTILE)
    assert len({str(path.relative_to(folder)).casefold() for path in files}) == len(HOSTILE)
    assert all(path.resolve().is_relative_to(folder.resolve()) for path in files)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before


def test_what_is_here_unchanged_is_not_sent_again(bucket: Bucket) -> None:
    for number in range(5):
        bucket.put(f"in/{number}.txt", b"one")
    bucket.asked.clear()
    folder = storage.local_path(f"s3://{BUCKET}/in/", "Reading")
    assert sorted(bucket.asked) == ["GetObject"] * 5 + ["ListObjectsV2"]
    bucket.asked.clear()
    assert storage.local_path(f"s3://{BUCKET}/in/", "Reading") == folder
    assert bucket.asked == ["ListObjectsV2"]


def test_what_changed_or_vanished_there_does_so_here(bucket: Bucket) -> None:
    for name in ("same", "new", "gone", "turns"):
        bucket.put(f"in/{name}", b"one")
    folder = storage.local_path(f"s3://{BUCKET}/in/", "Reading")
    bucket.put("in/new", b"two")
    for name in ("gone", "turns"):
        bucket.client.delete_object(Bucket=BUCKET, Key=f"in/{name}")
    bucket.put("in/turns/folder.txt", b"three")
    bucket.asked.clear()
    assert storage.local_path(f"s3://{BUCKET}/in/", "Reading") == folder
    assert bucket.asked.count("GetObject") == 2
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"same": b"one", "new": b"two", "turns/folder.txt": b"three"}


def test_one_object_takes_one_request_and_none_of_its_bytes_twice(bucket: Bucket) -> None:
    address = bucket.put("a.txt", b"one")
    bucket.asked.clear()
    path = storage.local_path(address, "Reading")
    assert (bucket.asked, path.read_bytes()) == (["GetObject"], b"one")
    changed = path.stat().st_mtime_ns
    assert storage.local_path(address, "Reading").stat().st_mtime_ns == changed  # S3 answered 304
    bucket.put("a.txt", b"two")
    assert storage.local_path(address, "Reading").read_bytes() == b"two"


def test_a_file_that_somebody_touched_is_fetched_again(bucket: Bucket) -> None:
    address = bucket.put("a.txt", b"one")
    storage.local_path(address, "Reading").write_bytes(b"sly")
    assert storage.local_path(address, "Reading").read_bytes() == b"one"


PAGE = """<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>{more}</IsTruncated>{token}
<Contents><Key>in/{key}</Key><Size>3</Size><ETag>"{key}"</ETag></Contents></ListBucketResult>"""


def test_listings_have_pages(server: Server) -> None:
    def say(method: str, key: str, wanted: str | None) -> Answer:
        if len(server.asked) == 1:
            token = "<NextContinuationToken>next</NextContinuationToken>"
            return Answer(body=PAGE.format(more="true", token=token, key="1").encode())
        return Answer(body=PAGE.format(more="false", token="", key="2").encode())

    server.say = say
    assert storage.listed("s3://b/in") == [["in/1", 3, '"1"'], ["in/2", 3, '"2"']]


def test_only_what_is_wanted_of_a_folder(bucket: Bucket) -> None:
    bucket.put("in/a.txt", b"a")
    bucket.put("in/deep/b.jpg", b"b")
    found = storage.fetched(f"s3://{BUCKET}/in", lambda name: name.endswith(".jpg"))
    assert [(path.name, address) for path, address in found.items()] == [("b.jpg", f"s3://{BUCKET}/in/deep/b.jpg")]


def test_large_objects_come_in_parts_and_go_on_where_they_broke_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 1000)
    monkeypatch.setattr(objects, "PARTS_AT_ONCE", 1)
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 100)
    content = bytes(range(250)) * 40
    server.holds(content, cut=lambda begin, number: 300 if begin >= 6000 else None)
    with pytest.raises(RunError, match="what is fetched is kept"):
        storage.local_path("s3://b/large", "Reading")
    first = len(server.asked)
    server.holds(content)
    path = storage.local_path("s3://b/large", "Reading")
    assert path.read_bytes() == content
    ranges = [wanted for _, _, wanted in server.asked[first:] if wanted]
    assert ranges == [f"bytes={begin}-{begin + 999}" for begin in range(6000, 10000, 1000)]
    assert sorted(entry.suffix for entry in path.parent.parent.iterdir()) == ["", ".json", ".lock"]


def test_a_connection_that_breaks_is_taken_up_within_a_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 1000)
    monkeypatch.setattr(objects, "CHUNK_BYTES", 100)
    monkeypatch.setattr(objects, "PAUSE_S", 0)
    content = bytes(range(250)) * 10
    server.holds(content, cut=lambda begin, number: 300 if begin == 1000 else None)
    assert storage.local_path("s3://b/large", "Reading").read_bytes() == content
    assert "bytes=1300-1999" in [wanted for _, _, wanted in server.asked]


def test_a_small_object_that_breaks_off_is_fetched_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSE_S", 0)
    server.holds(b"whole content", cut=lambda begin, number: 5 if number < 3 else None)
    path = storage.local_path("s3://b/small", "Reading")
    assert path.read_bytes() == b"whole content"
    assert len(server.asked) == 3
    assert not [entry for entry in path.parent.parent.iterdir() if ".new" in entry.name]


def test_a_large_object_that_changes_meanwhile_is_begun_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 1000)
    monkeypatch.setattr(objects, "PAUSE_S", 0)
    old, new = b"o" * 3000, b"n" * 2500
    server.holds(new, etag='"new"')
    now = server.say

    def changes(method: str, key: str, wanted: str | None) -> object:
        if wanted is None and len(server.asked) == 1:
            server.holds(old)
            answer, server.say = server.say(method, key, wanted), changes
            return answer
        if wanted and server.headers[-1].get("If-Match") == '"one"':
            server.fails(412, "PreconditionFailed")
            answer, server.say = server.say(method, key, wanted), changes
            return answer
        return now(method, key, wanted)

    server.say = changes
    assert storage.local_path("s3://b/large", "Reading").read_bytes() == new


def test_who_pays_is_said_only_when_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.holds(b"x")
    storage.local_path("s3://b/a", "Reading")
    monkeypatch.setenv("SIGHTLINE_S3_REQUESTER_PAYS", "1")
    storage.local_path("s3://b/b", "Reading")
    assert [headers.get("x-amz-request-payer") for headers in server.headers] == [None, "requester"]


def test_public_buckets_need_no_credentials(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("SIGHTLINE_S3_ANONYMOUS", "1")
    server.holds(b"x")
    assert storage.local_path("s3://b/a", "Reading").read_bytes() == b"x"
    assert "Authorization" not in server.headers[0]


def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_S3_ANONYMOUS", "perhaps")
    with pytest.raises(SightlineError, match=r"^SIGHTLINE_S3_ANONYMOUS: is 'perhaps'\. Set it to 1 or 0\.$"):
        storage.store()
