"""A model's files, whatever holds them: a `.tar.gz`, an unpacked bundle, a run folder, or Detectron2's own output folder.

Archives are read into memory member by member; nothing is unpacked, so no member can be written anywhere.
"""

import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from sightline.config.yaml_dialect import BASE, dump, load_file
from sightline.errors import BundleError, Problem
from sightline.runtimes.graph import Onnx, Told, read_told
from sightline.storage import copied_here, is_remote

FORMAT = 1
"""Version of bundle.json. A reader refuses newer ones."""

WEIGHTS, CONFIG, MANIFEST = "model.pth", "config.yaml", "bundle.json"
GRAPH = "model.onnx"
"""The exported detector; with it, a bundle needs no weights."""
RUN_THRESHOLDS = "thresholds.json"
RUN_WEIGHTS = ("model_best.pth", "model_final.pth")
"""Of a run, the first that is there: the best that validation measured, else the last."""
LAST = "last_checkpoint"
"""Names the newest checkpoint of a run that has not finished."""
RUN_FACTS = ("run.json", "inference/scores.json", RUN_THRESHOLDS)
"""What a run tells of itself."""
CODE = "code/"
"""Where a bundle has what AWS's containers run. Loading a model takes nothing from there, and changes there are no fault."""
NEEDED = {WEIGHTS, GRAPH, CONFIG, MANIFEST, *RUN_WEIGHTS, *RUN_FACTS}
"""What is fetched of a model's folder on S3; a run has more checkpoints than that."""

MAX_MEMBER_BYTES = 8 * 2**30
"""Of one file in an archive; no detector here comes near it, a decompression bomb does."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A file of an archive that was read and not kept."""

    sha256: str


Content = bytes | Path | Passed
"""One file of a model: in memory, where it lies, or passed over. Large ones are held only by those who need them."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one model. weights, config: bytes; manifest: bundle.json's content, empty where there is none.

    weights: empty where there are none, and where they were left out because the graph will do
    left_out: the weights, then
    graph:   model.onnx
    """

    where: str
    weights: bytes
    config: bytes
    manifest: Mapping[str, object]
    graph: Onnx | None = None
    left_out: Path | Passed | None = None

    @property
    def has_weights(self) -> bool:
        return bool(self.weights) or self.left_out is not None

    def told(self) -> Told:
        """What the graph tells of itself; errors as `read_told`."""
        assert self.graph is not None
        return read_told(self.graph, f"{self.where}: {GRAPH}")

    def weights_sha256(self) -> str:
        """Of the weights, or of those that the graph was made from, which is the same model."""
        if self.has_weights or self.graph is None:
            return digest(self.weights if self.left_out is None else self.left_out)
        return self.told().weights_sha256

    def is_stale(self) -> bool:
        """Whether the graph was made from other weights than those beside it."""
        return self.has_weights and self.graph is not None and self.told().weights_sha256 != self.weights_sha256()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(content: Content) -> str:
    """The sha256 of a file, wherever it is."""
    if isinstance(content, Passed):
        return content.sha256
    if isinstance(content, bytes):
        return sha256(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_model_files(reference: str | Path, *, graph_first: bool = False) -> Files:
    """The files of a bundle (archive or folder), a run, or a folder with Detectron2's `model_final.pth` and `config.yaml`.

    graph_first: leave out the weights where there is a `model.onnx`; they are checked, and not held in memory

    Raises:
        BundleError: nothing of that kind is there, files are missing, or a checksum is wrong.
        SightlineError, RunError: it is on S3 and cannot be fetched.
    """
    path = model_path(reference)
    if path.is_file():
        return from_members(read_model_archive(path, graph_first=graph_first), str(reference))
    if path.is_dir():
        return from_members(read_folder(path, graph_first=graph_first), str(reference))
    raise absent(reference)


def absent(reference: str | Path) -> BundleError:
    return BundleError(
        reference, "does not exist", "Give a run folder, a bundle, or a folder with model_final.pth and config.yaml."
    )


def require_there(reference: str | Path) -> None:
    """Nothing, if there is something to load; of a model on S3 fetching it tells.

    Raises:
        BundleError: nothing is there.
    """
    if not is_remote(str(reference)) and not Path(reference).exists():
        raise absent(reference)


def describe(reference: str | Path) -> dict[str, object]:
    """bundle.json's content, or what a run tells of itself, after the check of the files; a bundle's `code/` file by file.

    Raises: as `read_model_files`.
    """
    files = read_model_files(reference, graph_first=True)
    path = copied_here(reference, "A model", lambda name: name in NEEDED or name.startswith(CODE))
    there = read_archive(path) if path.is_file() else read_code(path)
    listed = files.manifest.get("files", {})
    packed = {name: wanted for name, wanted in listed.items() if name.startswith(CODE)} if isinstance(listed, dict) else {}
    code = {name: content for name, content in there.items() if name.startswith(CODE)}
    states = {name: state_of(code.get(name), packed.get(name)) for name in sorted(code.keys() | packed.keys())}
    return {**files.manifest, **graph_facts(files), **({"code": states} if states else {})}


def graph_facts(files: Files) -> dict[str, object]:
    """{"graph": what `model.onnx` tells of itself, and whether it is of the weights beside it}, or nothing."""
    if files.graph is None:
        return {}
    told = {name: value for name, value in asdict(files.told()).items() if name not in ("format", "classes")}
    return {"graph": told | ({"stale": True} if files.is_stale() else {})}


def state_of(content: bytes | None, wanted: object) -> str:
    """What became of one file of `code/` since it was packed."""
    if content is None:
        return "missing"
    if wanted is None:
        return "added by hand"
    return "as packed" if sha256(content) == wanted else "changed by hand"


def read_code(path: Path) -> dict[str, bytes]:
    """{name: content} of `code/` in a folder; links are not followed."""
    found = sorted(file for file in (path / CODE).rglob("*") if "__pycache__" not in file.parts)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found if file.is_file() and not file.is_symlink()}


def model_path(reference: str | Path) -> Path:
    """Where the model lies on this machine; one on S3 is fetched."""
    return copied_here(reference, "A model", NEEDED.__contains__)


def from_members(members: Mapping[str, Content], where: str) -> Files:
    weights, graph, config = members.get(WEIGHTS), members.get(GRAPH), members.get(CONFIG)
    needed = {CONFIG: config, WEIGHTS: graph if weights is None else weights}
    missing = [name for name, content in needed.items() if content is None]
    if missing or not isinstance(config, bytes) or isinstance(graph, Passed):
        there = ", ".join(sorted(members)) or "nothing"
        raise BundleError(
            where,
            f"has no {' and no '.join(missing)} (it holds {there})",
            "Give a run folder, a bundle, or a Detectron2 folder.",
        )
    described = members.get(MANIFEST)
    manifest = read_manifest(described, where) if isinstance(described, bytes) else {}
    check_sums(members, manifest, where)
    if isinstance(weights, bytes):
        return Files(where, weights, config, manifest, graph)
    return Files(where, b"", config, manifest, graph, weights)


def read_manifest(content: bytes, where: str) -> Mapping[str, object]:
    try:
        manifest = json.loads(content)
        version = int(manifest["format"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BundleError(f"{where}: {MANIFEST}", f"is no bundle description ({error!r})", "Pack the bundle again.") from error
    if version > FORMAT:
        raise BundleError(
            f"{where}: {MANIFEST}",
            f"has format {version}, this version reads up to {FORMAT}",
            "Upgrade: pip install -U sightline",
        )
    return dict(manifest)


def manifest_names(files: Files) -> tuple[str, ...]:
    """The class names that travel with a model; none with Detectron2's own folders."""
    names = files.manifest.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BundleError(f"{files.where}: bundle.json", f"class_names is {json.dumps(names)[:80]}", "Pack the bundle again.")
    return tuple(names)


def check_sums(members: Mapping[str, Content], manifest: Mapping[str, object], where: str) -> None:
    """Nothing, if every file that the manifest lists is there and unchanged; `code/` aside, which `describe` tells about."""
    listed = manifest.get("files", {})
    if not isinstance(listed, dict):
        raise BundleError(f"{where}: {MANIFEST}", "lists no files", "Pack the bundle again.")
    problems = []
    for name, wanted in listed.items():
        if name.startswith(CODE):
            continue
        if name not in members:
            problems.append(Problem(f"{where}: {name}", "is missing", "Pack or copy the bundle again."))
        elif digest(members[name]) != wanted:
            problems.append(
                Problem(
                    f"{where}: {name}", "is not the file that was packed (sha256 differs)", "Pack or copy the bundle again."
                )
            )
    if problems:
        raise BundleError.collected(problems)


def read_archive(path: Path) -> dict[str, bytes]:
    """{name: content} of the regular files in a `.tar.gz` (or plain `.tar`)."""
    with reading(path):
        return {name: file.read() for name, file in archive_files(path)}


def read_model_archive(path: Path, *, graph_first: bool) -> dict[str, Content]:
    """The same of what loading a model needs; of a run, its final weights stand in for model.pth, as in `read_folder`.

    graph_first: with a `model.onnx`, the weights are passed over
    """
    members: dict[str, Content] = {}
    with reading(path):
        for name, file in archive_files(path):
            if graph_first and name == WEIGHTS and GRAPH in members:
                members[name] = Passed(hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]
            elif not name.startswith(CODE):
                members[name] = file.read()
    pointer = members.get(LAST)
    last = pointer.decode(errors="replace").strip() if isinstance(pointer, bytes) else ""
    weights = next((members[name] for name in (WEIGHTS, *RUN_WEIGHTS, last) if name in members), None)
    if weights is not None:
        later = graph_first and GRAPH in members and isinstance(weights, bytes)  # the graph came after them
        members[WEIGHTS] = Passed(digest(weights)) if later else weights
    facts = {name: content for name, content in members.items() if name in RUN_FACTS and isinstance(content, bytes)}
    return members if MANIFEST in members else members | described_run(facts, path)


def archive_files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, file) of the regular files in a `.tar.gz` (or plain `.tar`), each to be read before the next."""
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if not member.isdir():
                name, file = member_name(member, path), archive.extractfile(member)
                yield name, io.BytesIO() if file is None else file
        rest = archive.fileobj
        while rest is not None and rest.read(2**20):  # to the very end, where gzip keeps the checksum of all before
            pass


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what Python's libraries raise of an archive into our error."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")  # tarfile adds a line for every format
        raise BundleError(path, f"is no archive or is damaged ({reason})", "Pack or copy the bundle again.") from error


def member_name(member: tarfile.TarInfo, path: Path) -> str:
    """`./model.pth` -> `model.pth`. Links, devices, absolute and climbing names are refused."""
    parts = PurePosixPath(member.name).parts
    if not member.isreg() or member.name.startswith("/") or ".." in parts:
        raise BundleError(
            path, f"holds {member.name!r}, which is no plain file inside it", "Use a bundle from a trusted source."
        )
    if member.size > MAX_MEMBER_BYTES:
        raise BundleError(path, f"holds {member.name!r} of {member.size:,} bytes", "Use a bundle from a trusted source.")
    return str(PurePosixPath(*[part for part in parts if part != "."]))


def read_folder(path: Path, *, graph_first: bool = False) -> dict[str, Content]:
    """{name: content} of what a model needs; a run's final weights stand in for model.pth. The graph stays where it lies.

    graph_first: with a `model.onnx`, so do the weights
    """
    members: dict[str, Content] = {}
    if (path / MANIFEST).is_file():
        members[MANIFEST] = (path / MANIFEST).read_bytes()
    if (path / CONFIG).is_file():
        members[CONFIG] = read_config(path / CONFIG)
    if (path / GRAPH).is_file():
        members[GRAPH] = path / GRAPH
    weights = next((path / name for name in (WEIGHTS, *RUN_WEIGHTS) if (path / name).is_file()), None) or last_saved(path)
    if weights is not None:
        members[WEIGHTS] = weights if graph_first and GRAPH in members else weights.read_bytes()
    return members if MANIFEST in members else members | described_run(fact_files(path), path)


def read_config(path: Path) -> bytes:
    """The configuration's text; one that stands on a `_BASE_` is written out, since its base does not travel."""
    content = path.read_bytes()
    return dump(load_file(path)).encode() if BASE.encode() in content else content


def last_saved(path: Path) -> Path | None:
    """The checkpoint of a run that has not finished."""
    pointer = path / LAST
    named = path / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None
    return named if named is not None and named.is_file() else None


def described_run(files: Mapping[str, bytes], where: Path) -> dict[str, bytes]:
    """A run's own facts as the manifest that packing it would write, without checksums; Detectron2's folders have none."""
    told = {"format": FORMAT, **run_facts(files, where)}
    return {MANIFEST: json.dumps(told).encode()} if "run.json" in files else {}


def fact_files(folder: Path) -> dict[str, bytes]:
    """{name: content} of RUN_FACTS, those that are there."""
    return {name: (folder / name).read_bytes() for name in RUN_FACTS if (folder / name).is_file()}


def run_facts(files: Mapping[str, bytes], where: Path) -> dict[str, object]:
    """What a run's files tell: class names, how it was trained, what it scored, what it serves. Empty for Detectron2's own.

    where: the folder or archive that they are in
    """
    told = {name: read_facts(files[name], where / name) for name in RUN_FACTS if name in files}
    training = told.pop("run.json", None)
    facts = {} if training is None else {"class_names": training.pop("class_names", []), "training": training}
    named = {"scores": "inference/scores.json", "thresholds": RUN_THRESHOLDS}
    return facts | {key: told[name] for key, name in named.items() if name in told}


def read_facts(content: bytes, where: Path) -> dict[str, object]:
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise BundleError(where, f"is no JSON ({error})", "Restore it, or remove it and give the class names.") from error
    if not isinstance(facts, dict):
        raise BundleError(where, f"holds a {type(facts).__name__}", "Restore it, or remove it and give the class names.")
    return facts


def write_archive(members: Mapping[str, bytes], file: io.BufferedIOBase) -> None:
    """The members as a .tar.gz that depends on nothing but their content (no times, no owners)."""
    # weights compress by 8 %, and undoing that would take 1.1 s of every start of an R50-FPN: they are only wrapped
    packed = gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=0)
    with packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(members):
            member = tarfile.TarInfo(name)
            member.size = len(members[name])
            archive.addfile(member, io.BytesIO(members[name]))
