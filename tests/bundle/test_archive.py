"""A model's files, whatever holds them; what is damaged, foreign or dangerous is refused with the reason."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.bundle import archive
from sightline.bundle.archive import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    describe,
    fact_files,
    read_archive,
    read_model_files,
    run_facts,
    sha256,
    write_archive,
)
from sightline.config.yaml_dialect import load_file
from sightline.errors import BundleError


def a_manifest_of(members: dict[str, bytes], **changes: object) -> bytes:
    files = {name: sha256(content) for name, content in members.items()}
    return json.dumps({"format": 1, "class_names": ["cat"], "files": files} | changes).encode()


def some_members(**changes: object) -> dict[str, bytes]:
    """The files of a bundle; their content does not matter here."""
    members = {WEIGHTS: b"weights " * 500, CONFIG: b"VERSION: 2\n"}
    return members | {MANIFEST: a_manifest_of(members, **changes)}


def an_archive(path: Path, members: dict[str, bytes] | None = None) -> Path:
    with path.open("wb") as file:
        write_archive(some_members() if members is None else members, file)
    return path


def a_folder(path: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


Made = Callable[[Path, dict[str, bytes]], Path]
"""`a_folder` or `an_archive`."""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    members = {"a.txt": b"a", "code/inference.py": b"x = 1\n", "empty": b""}
    assert read_archive(an_archive(tmp_path / "model.tar.gz", members)) == members


def test_an_archives_bytes_depend_on_its_content_alone(tmp_path: Path) -> None:
    members = some_members()
    one, other = io.BytesIO(), io.BytesIO()
    write_archive(members, one)
    write_archive(dict(reversed(members.items())), other)
    assert one.getvalue() == other.getvalue()
    assert one.getvalue()[4:8] == bytes(4)  # gzip's own time
    with tarfile.open(fileobj=io.BytesIO(one.getvalue())) as opened:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in opened} == {(0, 0, 0, "")}


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_a_bundle(tmp_path: Path, packed: bool) -> None:
    members = some_members()
    path = an_archive(tmp_path / "model.tar.gz", members) if packed else a_folder(tmp_path / "model", members)
    files = read_model_files(path)
    assert (files.where, files.weights, files.config) == (str(path), members[WEIGHTS], members[CONFIG])
    assert files.manifest["class_names"] == ["cat"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_made_by_hand_with_dots_and_folders(tmp_path: Path, mode: str) -> None:
    folder = a_folder(tmp_path / "model", {WEIGHTS: b"w", CONFIG: b"c", "code/inference.py": b"i"})
    with tarfile.open(tmp_path / "model.tar.gz", mode) as made:  # type: ignore[call-overload]
        made.add(folder, arcname=".")
    files = read_model_files(tmp_path / "model.tar.gz")
    assert (files.weights, files.config, files.manifest) == (b"w", b"c", {})


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({WEIGHTS: b"others"}, r"model\.pth: is not the file that was packed \(sha256 differs\)", id="weights"),
        pytest.param({CONFIG: b"SEED: 1"}, r"config\.yaml: is not the file that was packed", id="config"),
        pytest.param({MANIFEST: b"{"}, r"bundle\.json: is no bundle description \(JSONDecodeError", id="no JSON"),
        pytest.param({MANIFEST: b"[]"}, r"bundle\.json: is no bundle description", id="a list"),
        pytest.param({MANIFEST: b"{}"}, r"bundle\.json: is no bundle description \(KeyError\('format'\)\)", id="no format"),
        pytest.param({MANIFEST: b'{"format": Infinity}'}, r"bundle\.json: is no bundle description", id="no version"),
        pytest.param(
            {MANIFEST: some_members(format=2)[MANIFEST]},
            r"bundle\.json: has format 2, this version reads up to 1\. Upgrade: pip install -U sightline",
            id="a newer format",
        ),
        pytest.param({MANIFEST: some_members(files=[1])[MANIFEST]}, r"bundle\.json: lists no files", id="files is a list"),
        pytest.param(
            {MANIFEST: a_manifest_of({"model.onnx": b""})},
            r"model\.onnx: is missing\. Pack or copy the bundle again",
            id="missing",
        ),
    ],
)
def test_a_bundle_that_was_changed(tmp_path: Path, packed: bool, change: dict[str, bytes], message: str) -> None:
    members = some_members() | change
    path = an_archive(tmp_path / "model.tar.gz", members) if packed else a_folder(tmp_path / "model", members)
    with pytest.raises(BundleError, match=message):
        read_model_files(path)


def test_every_changed_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_model_files(an_archive(tmp_path / "m.tar.gz", some_members() | {WEIGHTS: b"", CONFIG: b""}))
    assert [problem.where.rpartition(": ")[2] for problem in caught.value.problems] == [WEIGHTS, CONFIG]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.txt": b""}, r"has no config\.yaml and no model\.pth \(it holds a\.txt\)\. Give a run folder, a bundle"),
        ({CONFIG: b""}, r"has no model\.pth \(it holds config\.yaml\)"),
        ({WEIGHTS: b""}, r"has no config\.yaml \(it holds model\.pth\)"),
        ({}, r"\(it holds nothing\)"),
    ],
)
def test_what_holds_no_model(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_model_files(an_archive(tmp_path / "model.tar.gz", members))


def test_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.tar\.gz: does not exist\. Give a run folder, a bundle, or a folder with"):
        read_model_files(tmp_path / "model.tar.gz")


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(member("model.pth", tarfile.SYMTYPE, "/etc/passwd"), id="symbolic link"),
        pytest.param(member("model.pth", tarfile.LNKTYPE, "config.yaml"), id="hard link"),
        pytest.param(member("model.pth", tarfile.CHRTYPE), id="device"),
        pytest.param(member("model.pth", tarfile.FIFOTYPE), id="pipe"),
        pytest.param(member("../model.pth"), id="climbing"),
        pytest.param(member("code/../../model.pth"), id="climbing from a folder"),
        pytest.param(member("/etc/model.pth"), id="absolute"),
    ],
)
def test_members_that_reach_outside(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as made:
        made.addfile(bad)
    message = rf"model\.tar\.gz: holds '{bad.name}', which is no plain file inside it\. Use a bundle from a trusted source"
    with pytest.raises(BundleError, match=message):
        read_model_files(tmp_path / "model.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]


def test_a_member_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 1000)
    with pytest.raises(BundleError, match=r"holds 'model\.pth' of 4,000 bytes\. Use a bundle from a trusted source"):
        read_model_files(an_archive(tmp_path / "model.tar.gz"))


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    """A valid beginning; the compressed stream breaks."""
    return content[:20] + bytes(255 - byte for byte in content[20:60]) + content[60:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncated, id="truncated"),
        pytest.param(garbled, id="garbled"),
        pytest.param(lambda content: content[:-4] + b"abcd", id="wrong length at the end"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"<html>Not found</html>", id="text"),
        pytest.param(lambda content: b"PK\x03\x04" + b"\0" * 100, id="a zip"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = an_archive(tmp_path / "model.tar.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        BundleError, match=r"model\.tar\.gz: is no archive or is damaged \(.*\)\. Pack or copy the bundle again"
    ):
        read_model_files(path)


def test_any_broken_byte_is_noticed(tmp_path: Path) -> None:
    """Every 40th byte of a bundle turned over: an error, or the very same files (a byte of the gzip header)."""
    path = an_archive(tmp_path / "model.tar.gz")
    whole = path.read_bytes()
    members = some_members()
    for place in range(10, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(BundleError):
            assert read_model_files(path).weights == members[WEIGHTS]
            raise BundleError("this byte", "does not matter", "Go on.")


@pytest.mark.parametrize("make", [a_folder, an_archive])
def test_a_run_tells_its_own_facts(tmp_path: Path, make: Made) -> None:
    run = make(
        tmp_path / "run",
        {
            "model_final.pth": b"w",
            CONFIG: b"c",
            "run.json": b'{"class_names": ["cat"], "steps": 3}',
            "inference/scores.json": b'{"bbox": {"AP": 0.5}}',
        },
    )
    files = read_model_files(run)
    assert (files.weights, files.manifest) == (
        b"w",
        {"format": 1, "class_names": ["cat"], "training": {"steps": 3}, "scores": {"bbox": {"AP": 0.5}}},
    )


@pytest.mark.parametrize("make", [a_folder, an_archive])
def test_detectron2s_files_tell_none(tmp_path: Path, make: Made) -> None:
    output = make(tmp_path / "output", {"model_final.pth": b"w", CONFIG: b"c"})
    assert (read_model_files(output).weights, read_model_files(output).manifest) == (b"w", {})
    assert run_facts(fact_files(output), output) == {}


@pytest.mark.parametrize("make", [a_folder, an_archive])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"{", r"run\.json: is no JSON .*\. Restore it, or remove it"),
        ("run.json", b"[1]", r"run\.json: holds a list"),
        ("inference/scores.json", b"\xff", r"scores\.json: is no JSON"),
    ],
)
def test_facts_that_are_damaged(tmp_path: Path, make: Made, name: str, content: bytes, message: str) -> None:
    facts = {"run.json": b"{}", name: content}
    run = make(tmp_path / "run", {"model_final.pth": b"w", CONFIG: b"c"} | facts)
    with pytest.raises(BundleError, match=message):
        read_model_files(run)


@pytest.mark.parametrize("make", [a_folder, an_archive])
@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        pytest.param(("model.pth", "model_final.pth"), b"model.pth", id="a bundle's own name first"),
        pytest.param(("model_final.pth", "model_best.pth"), b"model_best.pth", id="then the best that was measured"),
        pytest.param(("model_final.pth", "model_0000009.pth"), b"model_final.pth", id="then the last"),
        pytest.param(("model_0000005.pth", "model_0000009.pth"), b"model_0000009.pth", id="then what last_checkpoint names"),
    ],
)
def test_which_weights_stand_in(tmp_path: Path, make: Made, there: tuple[str, ...], chosen: bytes) -> None:
    members = {name: name.encode() for name in there} | {CONFIG: b"c", "last_checkpoint": b"model_0000009.pth\n"}
    assert read_model_files(make(tmp_path / "run", members)).weights == chosen


@pytest.mark.parametrize("pointer", [b"gone.pth", b""])
def test_a_pointer_to_nothing_is_no_model(tmp_path: Path, pointer: bytes) -> None:
    folder = a_folder(tmp_path / "run", {CONFIG: b"c", "last_checkpoint": pointer})
    with pytest.raises(BundleError, match=r"has no model\.pth"):
        read_model_files(folder)


def test_a_config_that_stands_on_a_base_is_written_out(tmp_path: Path) -> None:
    """Its base does not travel."""
    a_folder(tmp_path, {"base.yaml": b"SEED: 9\n"})
    folder = a_folder(tmp_path / "run", {"model_final.pth": b"w", CONFIG: b"_BASE_: ../base.yaml\nVERSION: 2\n"})
    config = read_model_files(folder).config
    assert b"_BASE_" not in config
    path = tmp_path / "dumped.yaml"
    path.write_bytes(config)
    assert load_file(path).seed == 9


CARRIED = {"code/inference.py": b"raise SystemExit('this must never run')", "code/requirements.txt": b"numpy\n"}


def with_code(**changes: bytes | None) -> dict[str, bytes]:
    """The files of a bundle with `code/`; changes: what became of its files since, by file name, None for one that has gone."""
    members = {name: content for name, content in some_members().items() if name != MANIFEST} | CARRIED
    manifest = a_manifest_of(members)
    code = {f"code/{name}": content for name, content in changes.items()}
    return {name: content for name, content in (members | {MANIFEST: manifest} | code).items() if content is not None}


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, ("as packed", "as packed"), id="none"),
        pytest.param({"inference.py": b"import mine"}, ("changed by hand", "as packed"), id="changed"),
        pytest.param({"requirements.txt": None}, ("as packed", "missing"), id="missing"),
    ],
)
def test_code_is_told_about_and_never_a_fault(
    tmp_path: Path, packed: bool, changes: dict[str, bytes | None], told: tuple[str, str]
) -> None:
    members = with_code(**changes)
    path = an_archive(tmp_path / "model.tar.gz", members) if packed else a_folder(tmp_path / "model", members)
    assert read_model_files(path).weights == members[WEIGHTS]
    assert describe(path)["code"] == dict(zip(CARRIED, told, strict=True))


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_code_that_somebody_wrote_for_a_bundle_made_by_hand(tmp_path: Path, packed: bool) -> None:
    members = {WEIGHTS: b"w", CONFIG: b"c", "code/inference.py": b"import mine", "code/my/helpers.py": b""}
    path = an_archive(tmp_path / "model.tar.gz", members) if packed else a_folder(tmp_path / "model", members)
    assert describe(path) == {"code": {"code/inference.py": "added by hand", "code/my/helpers.py": "added by hand"}}


def test_bundles_from_before_there_was_code(tmp_path: Path) -> None:
    described = describe(an_archive(tmp_path / "model.tar.gz"))
    assert (described["class_names"], "code" in described) == (["cat"], False)


def test_links_in_a_folders_code_are_not_followed(tmp_path: Path) -> None:
    path = a_folder(tmp_path / "model", with_code())
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (path / "code" / "link.py").symlink_to(tmp_path / "secret")
    assert set(describe(path)["code"]) == set(CARRIED)  # type: ignore[call-overload]
