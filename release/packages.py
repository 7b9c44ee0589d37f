"""Build the source archive and the wheel from the last commit, twice, and look into them.

    python release/packages.py -o dist

What is not committed is in neither. Both have the commit's time, so the same commit gives the same bytes: the wheel of the
tree, the wheel of the unpacked source archive and a second build are compared. Needs hatchling and twine.
"""

import argparse
import email
import email.message
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[1]
CONTEXT = "sightline/cloud/context/"
"""Where the wheel carries what `sightline cloud image build` needs besides the package."""

STRAY = re.compile(
    r"(^|/)(__pycache__|shared|\.git|\.venv|\.hypothesis|\.[a-z]+_cache|demo|runs|dist)/|\.(pyc|pth|pkl|log|swp)$"
)
"""Of builds, runs and caches; no release has them."""

LARGEST_BYTES = 2 << 20
"""Of one file: the largest of ours is a tenth of it, a picture or a model that slipped in is larger."""


@dataclass(frozen=True, slots=True)
class Packages:
    """The two files of one build."""

    sdist: Path
    wheel: Path

    def digests(self) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.sdist, self.wheel)}


def version(source: Path = REPOSITORY) -> str:
    """What the package says of itself, read without importing it."""
    text = (source / "src" / "sightline" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert found is not None, "src/sightline/__init__.py has no __version__"
    return found[1]


def tracked(source: Path = REPOSITORY) -> list[str]:
    """What git knows below `source`; in a folder without git, as an unpacked source archive is, all that lies in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [name for name in listed.stdout.split("\0") if name and (source / name).is_file()]
    return sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())


def build(source: Path, target: Path, *, epoch: int, kinds: Iterable[str] = ("sdist", "wheel")) -> None:
    """Both files into `target`, with the hatchling that is installed; `epoch` is the time that they carry."""
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    words = [word for kind in kinds for word in ("-t", kind)]
    command = [sys.executable, "-m", "hatchling", "build", *words, "-d", str(target)]
    done = subprocess.run(command, cwd=source, env=environ, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: hatchling cannot build {source}:\n{done.stdout}{done.stderr}")


def built(folder: Path) -> Packages:
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Packages(sdist, wheel)


def unpack(sdist: Path, target: Path) -> Path:
    """The one folder in a source archive of our own."""
    extract(sdist, target)
    (inner,) = target.iterdir()
    return inner


def extract(archive: Path, target: Path) -> None:
    """An archive that we made ourselves."""
    with tarfile.open(archive) as opened:  # Python 3.11.2, which Debian 12 has, knows no filters
        opened.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def faults_of_wheel(wheel: Path, source: Path = REPOSITORY) -> list[str]:
    """What it has too much or too little, and what its metadata leave out; empty: nothing."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {info.filename: info for info in archive.infolist()}
        texts = {name: archive.read(name) for name in contents}
    wanted = {name.removeprefix("src/") for name in tracked(source) if name.startswith("src/sightline/")}
    context = {name.removeprefix(CONTEXT) for name in contents if name.startswith(CONTEXT)}
    expected = {"pyproject.toml", "README.md", "LICENSE"} | {n for n in tracked(source) if n.startswith("containers/")}
    inside = {name for name in contents if name.startswith("sightline/") and not name.startswith(CONTEXT)}
    outside = [name for name in contents if not name.startswith("sightline/") and ".dist-info/" not in name]
    faults = [f"the wheel lacks {name}" for name in sorted(wanted - inside)]
    faults += [f"the wheel lacks {CONTEXT}{name}" for name in sorted(expected - context)]
    faults += [f"the wheel has {name}, which is not the package" for name in sorted({*(inside - wanted), *outside})]
    faults += [f"the wheel has {CONTEXT}{name}" for name in sorted(context - expected)]
    return faults + stray(texts, source) + faults_of_metadata(metadata(wheel), source)


def faults_of_sdist(sdist: Path, source: Path = REPOSITORY) -> list[str]:
    """As `faults_of_wheel`: all that git knows has to be in it, except what says how git and its host behave."""
    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if not member.isdir()]
        faults = [f"the source archive has {member.name}, which is no plain file" for member in files if not member.isfile()]
        texts = {}
        for member in files:
            opened = archive.extractfile(member)
            if opened is not None:
                texts[PurePosixPath(member.name).relative_to(PurePosixPath(member.name).parts[0]).as_posix()] = opened.read()
    own = {"PKG-INFO", ".gitignore"}  # hatchling's
    known = {name for name in tracked(source) if name not in own}
    faults += [
        f"the source archive lacks {name}: see [tool.hatch.build.targets.sdist]" for name in sorted(known - texts.keys())
    ]
    return faults + stray(texts, source)


def stray(texts: dict[str, bytes], source: Path) -> list[str]:
    """Caches, results, large files, and paths of this machine."""
    places = [str(place).encode() + b"/" for place in (source.resolve(), Path.home()) if len(place.parts) > 1]
    faults = [f"{name} does not belong into a release" for name in texts if STRAY.search(name)]
    faults += [f"{name} has {len(text):,} bytes" for name, text in texts.items() if len(text) > LARGEST_BYTES]
    return faults + [f"{name} names a folder of this machine" for name, text in texts.items() if any(p in text for p in places)]


def faults_of_metadata(found: email.message.Message, source: Path) -> list[str]:
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        "Name": "sightline",
        "Version": version(source),
        "Requires-Python": project["requires-python"],
        "License-Expression": project["license"],
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
    }
    faults = [f"metadata: {key} is {found[key]!r}, not {value!r}" for key, value in wanted.items() if found[key] != value]
    extras = set(found.get_all("Provides-Extra") or ())
    if extras != set(project["optional-dependencies"]):
        faults.append(f"metadata: the extras are {sorted(extras)}")
    if not str(found.get_payload()).strip():
        faults.append("metadata: no description")
    return faults


def faults_of_version(source: Path = REPOSITORY) -> list[str]:
    """Where the version is said otherwise: CITATION.cff, and CHANGELOG.md's newest release, which may be older."""
    own = version(source)
    cited = re.search(r"^version: (\S+)$", (source / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    headings = re.findall(r"^## (.+)$", (source / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    faults = [] if cited and cited[1].strip("\"'") == own else [f"CITATION.cff does not say version {own}"]
    releases = [heading for heading in headings if heading != "Unreleased"]
    faults += [f"CHANGELOG.md: '## {h}' is no '## 1.2.3 - 2026-01-31'" for h in releases if not DATED.fullmatch(h)]
    newest = max((numbers(heading.split()[0]) for heading in releases if DATED.fullmatch(heading)), default=(0,))
    if newest > numbers(own):
        faults.append(f"CHANGELOG.md has a release that is newer than version {own}")
    if newest < numbers(own) and "Unreleased" not in headings:
        faults.append(f"CHANGELOG.md has neither '## {own} - DATE' nor '## Unreleased'")
    return faults


DATED = re.compile(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def is_cut(source: Path) -> bool:
    """CHANGELOG.md has this version's section, with its date, before all others."""
    headings = re.findall(r"^## (.+)$", (source / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    releases = [heading for heading in headings if heading != "Unreleased"]
    return bool(releases) and releases[0].split()[0] == version(source)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.strip()


def committed(target: Path) -> Path:
    """The last commit, in a folder of its own."""
    archive = target / "tree.tar"
    git("archive", "--output", str(archive), "HEAD")
    extract(archive, target / "tree")
    return target / "tree"


def release(target: Path) -> Packages:
    """Build, compare, check; SystemExit with all faults."""
    epoch = int(git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tree = committed(work)
        for place in (target, work / "again"):
            build(tree, place, epoch=epoch)
        packages = built(target)
        build(unpack(packages.sdist, work / "unpacked"), work / "from-sdist", epoch=epoch, kinds=["wheel"])
        faults = faults_of_wheel(packages.wheel, tree) + faults_of_sdist(packages.sdist, tree) + faults_of_version(tree)
        if built(work / "again").digests() != packages.digests():
            faults.append("a second build gave other bytes")
        if next((work / "from-sdist").glob("*.whl")).read_bytes() != packages.wheel.read_bytes():
            faults.append("the source archive builds another wheel than the tree")
        if not is_cut(tree):
            print(
                f"note: CHANGELOG.md has no section {version(tree)} yet: docs/releasing.md says how to cut one", file=sys.stderr
            )
    if git("status", "--porcelain"):
        print("note: there are changes that are not committed; they are not in it", file=sys.stderr)
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(packages.sdist), str(packages.wheel)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if checked.returncode:
        faults.append(f"twine check: {checked.stdout}{checked.stderr}")
    if faults:
        raise SystemExit("\n".join(f"error: {fault}" for fault in faults))
    return packages


def main() -> None:
    parser = argparse.ArgumentParser(description="Build and check the source archive and the wheel of the last commit.")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "dist", help="an empty folder; default: dist")
    target: Path = parser.parse_args().output
    if target.exists() and any(target.iterdir()):
        raise SystemExit(f"error: {target} is not empty. Move its files away, or give another folder: -o DIR")
    for name, digest in release(target).digests().items():
        print(f"{digest}  {name}")


if __name__ == "__main__":
    main()
