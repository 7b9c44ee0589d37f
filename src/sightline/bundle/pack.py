"""A run, or any weights with their configuration, to `model.tar.gz`."""

import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sightline.bundle.archive import (
    CODE,
    CONFIG,
    FORMAT,
    GRAPH,
    MANIFEST,
    NEEDED,
    RUN_FACTS,
    WEIGHTS,
    Content,
    Files,
    fact_files,
    from_members,
    manifest_names,
    model_path,
    read_archive,
    read_code,
    read_config,
    read_folder,
    read_manifest,
    read_model_archive,
    read_model_files,
    run_facts,
    sha256,
    write_archive,
)
from sightline.bundle.carried import code_members
from sightline.bundle.load import config_of, model_from, names_for
from sightline.bundle.thresholds import carried
from sightline.config.architecture import score_threshold
from sightline.config.sources import load as load_config
from sightline.config.yaml_dialect import dump
from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import BundleError
from sightline.model.build import build_detector
from sightline.model.checkpoint import parse_checkpoint, read_weights, state_dict_of
from sightline.storage import atomic_write, copied_here, output_path

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle that was written. sha256: of the whole archive."""

    path: str | Path
    class_names: tuple[str, ...]
    size_bytes: int
    sha256: str


def pack_run(
    run: str | Path, to: str | Path, class_names: Sequence[str] | None = None, *, requirements: Path | None = None
) -> Packed:
    """The bundle of a run: its final weights, configuration, names and scores.

    run:          a run folder, Detectron2's output folder, or an archive of such files, as the 2021 samples' model.tar.gz is;
                  a path, or an s3:// address
    to:           a path, or an s3:// address
    requirements: a pip requirements file to travel as code/requirements.txt; None: what Sightline needs, less torch

    Raises:
        BundleError, ConfigError, CheckpointError: it cannot be loaded, so it is not packed.
    """
    path = model_path(run)
    if not path.exists():
        raise BundleError(run, "does not exist", "Give the folder that `sightline train` wrote, or an archive of a model.")
    return write_members(run_members(path, run, class_names, requirements), to)


def run_members(path: Path, run: str | Path, class_names: Sequence[str] | None, requirements: Path | None) -> dict[str, bytes]:
    """What packing a run, or an archive of weights and configuration, which lies at `path`, would write."""
    members = read_folder(path) if path.is_dir() else read_model_archive(path, graph_first=False)
    weights, config = members.get(WEIGHTS), members.get(CONFIG)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in members]
    if not isinstance(weights, bytes) or not isinstance(config, bytes):
        raise BundleError(run, f"has no {' and no '.join(missing)}", "Give the folder of a finished training.")
    if GRAPH in members:
        LOG.warning("warning: %s: its %s does not travel; make it again: sightline bundle export --into.", run, GRAPH)
    tensors = state_dict_of(parse_checkpoint(io.BytesIO(weights), run), run)
    return packed_members(
        tensors,
        Files(str(run), weights, config, facts_of(members, path, run)),
        class_names=class_names,
        requirements=requirements,
    )


def facts_of(members: Mapping[str, Content], path: Path, run: str | Path) -> dict[str, object]:
    """What bundle.json tells of these members, and over it what a run's own files tell, which are written later.

    Raises:
        BundleError: a file is not the one that was packed.
    """
    manifest = from_members(members, str(run)).manifest
    files = fact_files(path) if path.is_dir() else {name: content for name, content in members.items() if name in RUN_FACTS}
    told = {key: manifest[key] for key in ("class_names", "training", "scores", "thresholds") if key in manifest}
    return told | run_facts({name: content for name, content in files.items() if isinstance(content, bytes)}, path)


def pack_files(
    weights: str | Path,
    config: str | Path,
    to: str | Path,
    class_names: Sequence[str] | None = None,
    cache: Path | None = None,
    *,
    requirements: Path | None = None,
) -> Packed:
    """The bundle of any weights and their configuration, wherever they come from; errors as `pack_run`.

    weights: a .pth or .pkl file, or an address (`detectron2://`, `https://`, `s3://`), which is fetched into `cache`
    config:  a YAML file, a model zoo name or a preset
    to:      a path, or an s3:// address
    cache:   None: SIGHTLINE_CACHE, else the user's cache folder
    requirements: as `pack_run`

    Raises:
        RunError: the weights cannot be downloaded.
    """
    address = str(weights)
    if not is_address(address) and not Path(weights).is_file():
        raise BundleError(weights, "does not exist", "Check the path.")
    settings = read_config(Path(config)) if Path(config).is_file() else dump(load_config(str(config))).encode()
    described = config_of(Files(str(config), b"", settings, {}))
    with torch.device("meta"):  # names and shapes, without a number in memory
        own = build_detector(described, str(config)).state_dict()
    path = fetch(address, cache or cache_folder(os.environ)) if is_address(address) else Path(weights)
    files = Files(address, b"", settings, {})
    return pack(read_weights(path, own), files, to, class_names=class_names, requirements=requirements)


def pack(
    tensors: Mapping[str, Tensor],
    source: Files,
    to: str | Path,
    *,
    class_names: Sequence[str] | None,
    requirements: Path | None,
) -> Packed:
    """Write `to`, after loading what goes into it; arguments as `packed_members`."""
    return write_members(packed_members(tensors, source, class_names=class_names, requirements=requirements), to)


def packed_members(
    tensors: Mapping[str, Tensor], source: Files, *, class_names: Sequence[str] | None, requirements: Path | None
) -> dict[str, bytes]:
    """{name: content} of a bundle, after loading what goes into it.

    The weights are looked at before the names of the classes: whose weights are of another model has no use for names.

    tensors: of the model; they are written anew
    source:  where they come from: configuration and facts
    """
    buffer = io.BytesIO()
    torch.save({"model": dict(tensors)}, buffer)
    members = {WEIGHTS: buffer.getvalue(), CONFIG: source.config, **code_members(requirements)}
    files = Files(source.where, members[WEIGHTS], source.config, {})
    model_from(files, device="cpu", score_threshold=None, class_names=None)
    config = config_of(files)
    names = names_for(config, class_names or manifest_names(source), source.where)
    manifest = {
        "format": FORMAT,
        "class_names": list(names),
        "score_threshold": score_threshold(config),
        **{key: value for key, value in source.manifest.items() if key not in ("class_names", "thresholds")},
        **carried(source, members[WEIGHTS], names),
    }
    return described(members, manifest)


def described(members: Mapping[str, bytes], manifest: Mapping[str, object]) -> dict[str, bytes]:
    """The members with the description of all of them."""
    others = {name: content for name, content in members.items() if name != MANIFEST}
    whole = {**manifest, "files": {name: sha256(content) for name, content in sorted(others.items())}}
    return {**others, MANIFEST: (json.dumps(whole, ensure_ascii=False, indent=1) + "\n").encode()}


def bundle_members(reference: str | Path, class_names: Sequence[str] | None = None) -> dict[str, bytes]:
    """{name: content} of a bundle, archive or folder; of a run, what packing it would write.

    Raises:
        BundleError, ConfigError, CheckpointError: it cannot be loaded.
    """
    path = copied_here(reference, "A model", lambda name: name in NEEDED or name.startswith(CODE))
    if not path.is_dir():
        members = read_archive(path) if path.is_file() else {}
    else:
        named = (name for name in (CONFIG, WEIGHTS, GRAPH, MANIFEST) if (path / name).is_file())
        members = {name: (path / name).read_bytes() for name in named} | read_code(path)
    if path.exists() and MANIFEST not in members:
        return run_members(path, reference, class_names, None)
    files = read_model_files(reference)  # with all its checks
    names = names_for(config_of(files), class_names or manifest_names(files), str(reference))
    return described(members, {"format": FORMAT, **files.manifest, "class_names": list(names)})


def with_graph(members: Mapping[str, bytes], graph: bytes, *, without_weights: bool) -> dict[str, bytes]:
    """A bundle's members with `graph` as model.onnx.

    without_weights: leave out the weights, and `code/`, whose containers run torch
    """
    kept = {
        name: content
        for name, content in members.items()
        if not without_weights or (name != WEIGHTS and not name.startswith(CODE))
    }
    return described({**kept, GRAPH: graph}, read_manifest(members[MANIFEST], MANIFEST))


def write_members(members: Mapping[str, bytes], to: str | Path) -> Packed:
    """The archive of these members, whole or not at all."""
    names = json.loads(members[MANIFEST])["class_names"]
    archive = io.BytesIO()
    write_archive(members, archive)
    with output_path(to, "A bundle") as path, atomic_write(path) as file:
        file.write(archive.getbuffer())
    return Packed(to, tuple(names), archive.getbuffer().nbytes, sha256(archive.getvalue()))
