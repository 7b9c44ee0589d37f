"""What a bundle carries for AWS's containers; that it runs there is tested in tests/serving/test_toolkit.py."""

import io
import tomllib
import zipfile
from pathlib import Path

import pytest

import sightline
from sightline.bundle.carried import PACKAGE, REQUIREMENTS, SCRIPT, code_members
from sightline.errors import BundleError

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_same_bytes_every_time() -> None:
    assert code_members() == code_members()


def test_the_package_travels_whole_as_source() -> None:
    packed = zipfile.ZipFile(io.BytesIO(code_members()[PACKAGE]))
    there = {
        Path("sightline", file.relative_to(folder)).as_posix()
        for folder in [Path(sightline.__file__).parent]
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert set(packed.namelist()) == there
    assert {"sightline/serving/toolkit.py", "sightline/config/presets/small.yaml"} <= there
    assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_requirements_are_bounds_of_the_project_and_leave_torch_to_the_container() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    lines = code_members()[REQUIREMENTS].decode().splitlines()
    assert set(lines) <= known
    assert not [
        line for line in lines if line.startswith(("torch", "sightline"))
    ]  # the latter is another project's name on PyPI


def test_requirements_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("--index-url https://packages.example/simple\nnumpy==2.1\n", encoding="utf-8")
    members = code_members(tmp_path / "r.txt")
    assert members[REQUIREMENTS] == (tmp_path / "r.txt").read_bytes()
    assert members[SCRIPT] == code_members()[SCRIPT]
    with pytest.raises(BundleError, match=r"gone\.txt: cannot be read \(No such file.*Give a requirements file"):
        code_members(tmp_path / "gone.txt")
