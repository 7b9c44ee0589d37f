"""The source archive and the wheel, built from what git knows: whole, without anything else, twice the same bytes."""

import email
import shutil
import zipfile
from pathlib import Path

import pytest
from release_scripts import REPOSITORY, load

EPOCH = 1_795_000_000


packages = load("packages")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, as they are now."""
    root: Path = tmp_path_factory.mktemp("tree")
    for name in packages.tracked(REPOSITORY):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> "packages.Packages":
    folder = tmp_path_factory.mktemp("dist")
    packages.build(tree, folder, epoch=EPOCH)
    return packages.built(folder)


def test_the_wheel_is_the_package_and_nothing_else(built: "packages.Packages", tree: Path) -> None:
    assert packages.faults_of_wheel(built.wheel, tree) == []
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    assert {
        "sightline/py.typed",
        "sightline/benchmarking/prices.json",
        "sightline/serving/page.html",
        "sightline/view/templates/page.html",
        "sightline/config/presets/r50.yaml",
        "sightline/cloud/context/containers/serve.Dockerfile",
        f"sightline-{packages.version()}.dist-info/licenses/LICENSE",
    } <= names


def test_the_source_archive_has_all_that_git_knows(built: "packages.Packages", tree: Path) -> None:
    assert packages.faults_of_sdist(built.sdist, tree) == []


def test_the_source_archive_builds_the_same_wheel(built: "packages.Packages", tmp_path: Path) -> None:
    source = packages.unpack(built.sdist, tmp_path / "source")
    packages.build(source, tmp_path / "wheel", epoch=EPOCH, kinds=["wheel"])
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert wheel.name == built.wheel.name
    assert wheel.read_bytes() == built.wheel.read_bytes()


def test_the_commands_are_there(built: "packages.Packages") -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(name).decode()
    for command in ("sightline = sightline.cli.main:main", "sightline-train = ", "sightline-serve = "):
        assert command in text


def test_what_does_not_belong_into_a_wheel_is_found(built: "packages.Packages", tree: Path, tmp_path: Path) -> None:
    wheel = tmp_path / built.wheel.name
    with zipfile.ZipFile(built.wheel) as whole, zipfile.ZipFile(wheel, "w") as changed:
        for name in whole.namelist():
            if name != "sightline/py.typed":
                changed.writestr(name, whole.read(name))
        changed.writestr("tests/test_all.py", "")
        changed.writestr("sightline/model_final.pth", f"trained in {tree.resolve()}/runs")
    assert sorted(packages.faults_of_wheel(wheel, tree)) == [
        "sightline/model_final.pth does not belong into a release",
        "sightline/model_final.pth names a folder of this machine",
        "the wheel has sightline/model_final.pth, which is not the package",
        "the wheel has tests/test_all.py, which is not the package",
        "the wheel lacks sightline/py.typed",
    ]


def test_metadata_that_say_something_else_are_found(tree: Path) -> None:
    text = f"Name: sightline\nVersion: {packages.version()}\nRequires-Python: >=2.7\nProvides-Extra: gui\n\n"
    faults = packages.faults_of_metadata(email.message_from_string(text), tree)
    assert "metadata: Requires-Python is '>=2.7', not '>=3.11'" in faults
    assert "metadata: the extras are ['gui']" in faults
    assert "metadata: no description" in faults


def test_the_version_is_the_same_everywhere() -> None:
    assert packages.faults_of_version() == []


@pytest.mark.parametrize(
    ("headings", "cited", "expected"),
    [
        pytest.param("## Unreleased\n", "1.2.0", [], id="not cut yet"),
        pytest.param("## Unreleased\n## 1.2.0 - 2026-01-31\n## 1.1.0 - 2026-01-01\n", "1.2.0", [], id="cut"),
        pytest.param("## Unreleased\n", "1.1.0", ["CITATION.cff does not say version 1.2.0"], id="cited otherwise"),
        pytest.param(
            "## 1.1.0 - 2026-01-01\n", "1.2.0", ["CHANGELOG.md has neither '## 1.2.0 - DATE' nor '## Unreleased'"], id="none"
        ),
        pytest.param(
            "## 1.10.0 - 2026-01-01\n", "1.2.0", ["CHANGELOG.md has a release that is newer than version 1.2.0"], id="newer"
        ),
        pytest.param(
            "## Unreleased\n## 1.2\n", "1.2.0", ["CHANGELOG.md: '## 1.2' is no '## 1.2.3 - 2026-01-31'"], id="without its date"
        ),
    ],
)
def test_versions_that_differ_are_found(tmp_path: Path, headings: str, cited: str, expected: list[str]) -> None:
    (tmp_path / "src" / "sightline").mkdir(parents=True)
    (tmp_path / "src" / "sightline" / "__init__.py").write_text('__version__ = "1.2.0"\n', encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text(f"cff-version: 1.2.0\nversion: {cited}\n", encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n{headings}", encoding="utf-8")
    assert packages.faults_of_version(tmp_path) == expected
