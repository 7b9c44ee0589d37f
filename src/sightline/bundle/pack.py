"""A run, or any weights with their configuration, to `model.tar.gz`."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sightline.bundle.archive import (
    CONFIG,
    FORMAT,
    MANIFEST,
    WEIGHTS,
    Files,
    model_path,
    read_config,
    read_folder,
    run_facts,
    sha256,
    write_archive,
)
from sightline.bundle.carried import code_members
from sightline.bundle.load import config_of, model_from
from sightline.bundle.thresholds import carried
from sightline.config.architecture import score_threshold
from sightline.config.sources import load as load_config
from sightline.config.yaml_dialect import dump
from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import BundleError
from sightline.model.build import build_detector
from sightline.model.checkpoint import parse_checkpoint, read_weights, state_dict_of
from sightline.storage import atomic_write, output_path


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
    """The bundle of a run folder (or Detectron2's output folder): its final weights, configuration, names and scores.

    run, to:      paths, or s3:// addresses
    requirements: a pip requirements file to travel as code/requirements.txt; None: what Sightline needs, less torch

    Raises:
        BundleError, ConfigError, CheckpointError: it cannot be loaded, so it is not packed.
    """
    folder = model_path(run)
    if not folder.is_dir():
        raise BundleError(run, "is no run folder", "Give the folder that `sightline train` wrote.")
    members = read_folder(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in members]
    if missing:
        raise BundleError(run, f"has no {' and no '.join(missing)}", "Give the folder of a finished training.")
    tensors = state_dict_of(parse_checkpoint(io.BytesIO(members[WEIGHTS]), run), run)
    files = Files(str(run), members[WEIGHTS], members[CONFIG], run_facts(folder))
    return pack(tensors, files, to, class_names=class_names, requirements=requirements)


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
    """Write `to`, after loading what goes into it.

    tensors: of the model; they are written anew
    source:  where they come from: configuration and facts
    """
    buffer = io.BytesIO()
    torch.save({"model": dict(tensors)}, buffer)
    members = {WEIGHTS: buffer.getvalue(), CONFIG: source.config, **code_members(requirements)}
    facts = {key: value for key, value in source.manifest.items() if key != "thresholds"}
    files = Files(source.where, members[WEIGHTS], source.config, facts)
    model = model_from(files, device="cpu", score_threshold=None, class_names=class_names)
    manifest = {
        "format": FORMAT,
        "class_names": list(model.class_names),
        "score_threshold": score_threshold(config_of(files)),
        **{key: value for key, value in facts.items() if key != "class_names"},
        **carried(source, members[WEIGHTS], model.class_names),
        "files": {name: sha256(content) for name, content in sorted(members.items())},
    }
    members[MANIFEST] = (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()
    archive = io.BytesIO()
    write_archive(members, archive)
    with output_path(to, "A bundle") as path, atomic_write(path) as file:
        file.write(archive.getbuffer())
    return Packed(to, model.class_names, archive.getbuffer().nbytes, sha256(archive.getvalue()))
