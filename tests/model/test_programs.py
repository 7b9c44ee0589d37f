"""A kept program is code that gets loaded: it is taken only as it was written, by the user alone, for this very machine."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.errors import ConfigError
from sightline.model.programs import Key, check_compiler, machine_facts, private_folder, program, text_of

HERE = {"torch": "2.15.0", "processor": "Zen 3"}
KEY = Key("a" * 64, HERE)


class Built:
    """A compiler of one word, which counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, package: Path) -> None:
        self.count += 1
        package.write_bytes(b"program %d" % self.count)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private_folder(tmp_path / "compiled")
    return tmp_path / "compiled"


def test_it_is_built_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    built = Built()
    with caplog.at_level(logging.WARNING):
        packages = {program(folder, KEY, built) for _ in range(3)}
    assert built.count == 1
    assert [package.read_bytes() for package in packages] == [b"program 1"]
    assert not caplog.text
    assert folder.stat().st_mode & 0o777 == 0o700


def rewritten(**changes: object) -> Callable[[Path, Path], None]:
    def change(package: Path, told: Path) -> None:
        told.write_text(json.dumps(json.loads(told.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda package, told: package.write_bytes(b"another program"), "has not the digest that"),
        (lambda package, told: package.write_bytes(package.read_bytes()[:-1]), "has not the digest that"),
        (lambda package, told: told.write_text("{"), "cannot be read"),
        (lambda package, told: told.write_text("[]"), "is not what its name says"),
        (rewritten(sha256="0" * 64), "has not the digest that"),
        (rewritten(format=0), "is not what its name says"),
        (rewritten(text="b" * 64), "is not what its name says"),
        (rewritten(machine={**HERE, "torch": "2.14.0"}), "is not what its name says"),
    ],
)
def test_what_was_tampered_with_is_built_again_and_that_is_said(
    spoil: Callable[[Path, Path], object], said: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = Built()
    package = program(folder, KEY, built)
    spoil(package, package.with_suffix(".json"))
    with caplog.at_level(logging.WARNING):
        assert program(folder, KEY, built).read_bytes() == b"program 2"
    assert said in caplog.text and "compiled again" in caplog.text
    caplog.clear()
    assert program(folder, KEY, built).read_bytes() == b"program 2"
    assert not caplog.text


def test_a_copy_of_another_machines_program_is_not_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    built, other = Built(), Key(KEY.text, {**HERE, "processor": "another"})
    package = program(folder, other, built)
    for suffix in (".pt2", ".json"):
        package.with_suffix(suffix).rename(folder / f"{KEY.name}{suffix}")
    assert program(folder, KEY, built).read_bytes() == b"program 2"
    assert "is not what its name says" in caplog.text


def test_of_another_version_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    built = Built()
    old = program(folder, Key(KEY.text, {**HERE, "torch": "2.14.0"}), built)
    with caplog.at_level(logging.WARNING):
        new = program(folder, KEY, built)
    assert "was compiled for torch 2.14.0, now 2.15.0: compiled again" in caplog.text
    assert old != new and built.count == 2


def test_what_failed_leaves_nothing(folder: Path) -> None:
    def fails(package: Path) -> None:
        package.write_bytes(b"half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        program(folder, KEY, fails)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert program(folder, KEY, Built()).read_bytes() == b"program 1"


def test_others_must_not_write_there(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(ConfigError, match=r"is open to others \(mode 770\), whose programs would run as you"):
        private_folder(folder)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"link: is no folder"):
        private_folder(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot keep compiled programs \(.*Set SIGHTLINE_CACHE"):
        private_folder(tmp_path / "file" / "compiled")


def test_nor_may_it_be_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_folder(tmp_path / "compiled")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(ConfigError, match=r"belongs to another user \(number \d+\)"):
        private_folder(tmp_path / "compiled")


@pytest.mark.parametrize(
    ("device", "environ", "message"),
    [
        ("cpu", {}, r"--compile: needs a C\+\+ compiler, and (clang|g)\+\+ is not there\. Install one .* leave out --compile"),
        ("cpu", {"CXX": "/nowhere/cc -O1"}, r"CXX=/nowhere/cc is not there"),
        ("cuda", {"CXX": "sh"}, r"needs a C compiler, and gcc or clang is not there"),
    ],
)
def test_without_a_compiler(
    device: str, environ: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sh").write_text("")
    (tmp_path / "sh").chmod(0o700)
    with pytest.raises(ConfigError, match=message):
        check_compiler(device, {"PATH": str(tmp_path), **environ})


def test_a_compiler_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    (tmp_path / "mine").chmod(0o700)
    check_compiler("cuda", {"PATH": str(tmp_path), "CXX": "mine -O1", "CC": str(tmp_path / "mine")})


def test_the_text_is_of_the_program_and_not_of_its_weights() -> None:
    def text(channels: int = 3, pixels: int = 8, stride: int = 1) -> str:
        layer = torch.nn.Conv2d(3, channels, 3, stride=stride)
        return text_of(torch.export.export(layer, (torch.zeros(1, 3, pixels, pixels),)))

    assert text() == text()
    assert len({text(), text(channels=4), text(pixels=9), text(stride=2)}) == 4


def test_the_machine_is_known() -> None:
    facts = machine_facts(torch.device("cpu"))
    assert facts["torch"] == torch.__version__
    assert facts.keys() == {"torch", "system", "processor"} and all(facts.values())
