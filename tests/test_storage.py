"""Files: whole or absent; s3:// addresses are told apart, and refused where only local files will do. S3 itself: tests/s3."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from sightline.errors import RunError, SightlineError
from sightline.storage import (
    atomic_folder,
    atomic_write,
    here_only,
    is_remote,
    key_parts,
    local_path,
    output_path,
    unpack,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"onetwo"
    assert names(path.parent) == ["a.bin"]


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a much longer text", encoding="utf-8")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text(encoding="utf-8") == "a much longer text"
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("before", ["old", None])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path: Path, before: str | None, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    if before is not None:
        path.write_text(before, encoding="utf-8")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert names(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or path.read_text(encoding="utf-8") == before


def test_text_and_json_are_utf8_and_readable(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Größe ✓\n")
    assert (tmp_path / "a.txt").read_bytes() == "Größe ✓\n".encode()
    write_json(tmp_path / "a.json", {"name": "Größe", "values": [1, 2.5]}, indent=1)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Größe" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "Größe", "values": [1, 2.5]}


def test_what_is_no_json_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"value": object()})
    assert names(tmp_path) == []


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "data"
    with atomic_folder(target) as folder:
        (folder / "a.txt").write_text("a", encoding="utf-8")
        assert not target.exists()
    assert names(target) == ["a.txt"]
    assert names(target.parent) == ["data"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "a.txt").touch()
    assert names(tmp_path / "data") == ["a.txt"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "data"
    if kind == "folder":
        target.mkdir()
        (target / "mine.txt").touch()
    else:
        target.write_text("mine", encoding="utf-8")
    with (
        pytest.raises(SightlineError, match=r"data: already exists\. Choose another folder, or remove this one first\."),
        atomic_folder(target),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_replacement_takes_the_place_of_all_that_was_there(tmp_path: Path, kind: str) -> None:
    target, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").touch()
    if kind == "folder":
        target.mkdir()
        (target / "old.txt").touch()
    elif kind == "file":
        target.write_text("old", encoding="utf-8")
    else:
        target.symlink_to(elsewhere)
    with atomic_folder(target, replace=True) as folder:
        (folder / "new.txt").touch()
        assert target.exists()
    assert names(target) == ["new.txt"]
    assert not target.is_symlink()
    assert names(elsewhere) == ["kept.txt"]
    assert names(tmp_path) == ["data", "elsewhere"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [True, False], ids=["something was there", "nothing was there"])
def test_a_failed_folder_leaves_what_was_there(tmp_path: Path, before: bool, error: type[BaseException]) -> None:
    target = tmp_path / "data"
    if before:
        target.mkdir()
        (target / "old.txt").touch()
    with pytest.raises(error), atomic_folder(target, replace=True) as folder:
        (folder / "half.txt").touch()
        raise error
    assert names(tmp_path) == (["data"] if before else [])
    assert not before or names(target) == ["old.txt"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as folder:
        left = folder
        (folder / "a.txt").touch()
    left.mkdir()
    (left / "of a process of the same number.txt").touch()
    with atomic_folder(tmp_path / "data", replace=True) as folder:
        assert names(folder) == []


@pytest.mark.parametrize(
    ("reference", "remote", "parts"),
    [
        ("s3://bucket/a b/c%20d+e.jpg", True, ("bucket", "a b", "c%20d+e.jpg")),
        ("s3://bucket//double/", True, ("bucket", "double")),
        ("folder/name.jpg", False, ("folder", "name.jpg")),
        ("folder\\name.jpg", False, ("folder", "name.jpg")),
        ("/absolute/name.jpg", False, ("/", "absolute", "name.jpg")),
        ("S3.jpg", False, ("S3.jpg",)),
    ],
)
def test_references(reference: str, remote: bool, parts: tuple[str, ...]) -> None:
    assert (is_remote(reference), key_parts(reference)) == (remote, parts)


def test_a_local_path(tmp_path: Path) -> None:
    assert local_path(str(tmp_path), "Reading labels") == tmp_path


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (Path("s3://bucket//a"), r"^s3:/bucket/a: was an s3:// address, and has lost slashes as a Path\. Give it as text\.$"),
        ("no/such/folder", r"^no/such/folder: does not exist\. Check the path\.$"),
    ],
)
def test_what_cannot_be_read(reference: str | Path, message: str) -> None:
    with pytest.raises(SightlineError, match=message):
        local_path(reference, "Reading labels")


def test_where_only_files_of_this_machine_will_do(tmp_path: Path) -> None:
    assert here_only(str(tmp_path), "dataset split") == tmp_path
    message = r"^s3://bucket/a: is on S3, and dataset split works on this machine's files only\. Give a local path\.$"
    with pytest.raises(SightlineError, match=message):
        here_only("s3://bucket/a", "dataset split")


def test_an_output_here_is_made_where_it_belongs(tmp_path: Path) -> None:
    with output_path(tmp_path / "a.txt", "a file") as path:
        assert path == tmp_path / "a.txt"


def an_archive(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """A .tar.gz of (name, kind as tarfile has it, content or target)."""
    with tarfile.open(path, "w:gz") as written:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content
            written.addfile(member, io.BytesIO(content.encode()))
    return path


def test_an_archive_is_unpacked_without_its_links(tmp_path: Path) -> None:
    file, link, folder = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
    members = [
        ("a/b/c.txt", file, "c"),
        ("./d.txt", file, "d"),
        ("a", folder, ""),
        ("l", link, "/etc"),
        ("d.txt", file, "again"),
    ]
    unpack(an_archive(tmp_path / "a.tar.gz", *members), tmp_path / "to", "it")
    assert sorted(str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*")) == [
        "a",
        "a/b",
        "a/b/c.txt",
        "d.txt",
    ]
    assert (tmp_path / "to/d.txt").read_text() == "d"


@pytest.mark.parametrize("name", ["../up.txt", "a/../../up.txt", "/up.txt"])
def test_an_archive_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    hostile = an_archive(tmp_path / "h.tar.gz", (name, tarfile.REGTYPE, "x"))
    with pytest.raises(SightlineError, match=f"s3://b/h: holds a file that may not be unpacked .'{name}' leads out of it"):
        unpack(hostile, tmp_path / "to", "s3://b/h")
    assert not list(tmp_path.rglob("up.txt"))


def test_an_archive_that_is_damaged(tmp_path: Path) -> None:
    whole = an_archive(tmp_path / "a.tar.gz", ("a.txt", tarfile.REGTYPE, "".join(map(chr, range(40, 120))) * 99))
    for content in (whole.read_bytes()[:90], b"no archive", b""):
        (tmp_path / "d.tar.gz").write_bytes(content)
        with pytest.raises(RunError, match="cannot be unpacked"):
            unpack(tmp_path / "d.tar.gz", tmp_path / "to", "it")
