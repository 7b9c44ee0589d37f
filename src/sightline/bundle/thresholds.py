"""The least score of each class in what a model serves: chosen by an evaluation, stored beside the weights it was chosen for.

A run keeps it in `thresholds.json`, a bundle in `bundle.json`. Prediction for an evaluation is not touched by it; the server
and `sightline predict` keep to it where nothing else is asked for.
"""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sightline.bundle.archive import (
    MANIFEST,
    RUN_THRESHOLDS,
    Files,
    manifest_names,
    read_archive,
    read_manifest,
    read_model_files,
    sha256,
    write_archive,
)
from sightline.errors import BundleError
from sightline.storage import atomic_write, is_remote, write_json

LOG = logging.getLogger(__name__)

AGAIN = "Choose them again: sightline evaluate MODEL --data DIR --choose f1 --store."


def store_thresholds(model: str | Path, thresholds: Mapping[str, float], chosen_for: str) -> None:
    """Keep `thresholds`, a score from 0 to 1 per class name, with a model. Classes that are not named keep all detections.

    model:      a run folder or a bundle (archive or folder) on this machine; only its description changes
    chosen_for: what they were chosen for, as `bundle inspect` tells it

    Raises:
        BundleError: it is no such model, or has no such class.
    """
    if is_remote(str(model)) or str(model).startswith(("http://", "https://")):
        raise BundleError(model, "is not on this machine", "Store thresholds in the run or bundle, and deploy that again.")
    files = read_model_files(model, graph_first=True)
    path = Path(model)
    if path.is_dir() and not (path / "run.json").is_file() and not (path / MANIFEST).is_file():
        raise BundleError(model, "is neither a run nor a bundle", "Pack it first: sightline bundle pack.")
    told = {"chosen_for": chosen_for, "weights": files.weights_sha256(), "per_class": dict(thresholds)}
    described = replace(files, manifest={**files.manifest, "thresholds": told})
    thresholds_of(described, manifest_names(files))
    if path.is_dir() and not (path / MANIFEST).is_file():
        write_json(path / RUN_THRESHOLDS, told, indent=1)
    elif path.is_dir():
        write_json(path / MANIFEST, described.manifest, indent=1)
    else:
        members = read_archive(path)
        manifest = {**read_manifest(members[MANIFEST], str(model)), "thresholds": told} if MANIFEST in members else None
        if manifest is None:
            raise BundleError(model, f"has no {MANIFEST}", "Pack it first: sightline bundle pack.")
        members[MANIFEST] = (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()
        archive = io.BytesIO()
        write_archive(members, archive)
        with atomic_write(path) as file:
            file.write(archive.getbuffer())


def thresholds_of(files: Files, class_names: Sequence[str]) -> tuple[float, ...] | None:
    """The least score of each class, 0 where none was chosen; None: nothing is stored.

    Raises:
        BundleError: what is stored is no thresholds, was chosen for other weights, or for a class that is not there.
    """
    told = files.manifest.get("thresholds")
    if told is None:
        return None
    where = f"{files.where}: thresholds"
    per_class = told.get("per_class") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(per_class, dict) or not all(map(is_score, per_class.values())):
        raise BundleError(where, f"are {json.dumps(told)[:80]}", AGAIN)
    if told.get("weights") != files.weights_sha256():
        raise BundleError(where, "were chosen for other weights", AGAIN)
    unknown = sorted(set(per_class) - set(class_names))
    if unknown:
        raise BundleError(where, f"name classes that the model does not have: {', '.join(unknown)[:80]}", AGAIN)
    return tuple(float(per_class.get(name, 0.0)) for name in class_names)


def carried(files: Files, weights: bytes, class_names: Sequence[str]) -> dict[str, object]:
    """{"thresholds": what `files` stores, for the same weights written anew and for other names of the classes}, or nothing.

    Raises:
        BundleError: as `thresholds_of`.
    """
    thresholds = thresholds_of(files, manifest_names(files) or class_names)
    told = files.manifest.get("thresholds")
    if thresholds is None or not isinstance(told, dict):
        return {}
    per_class = {name: least for name, least in zip(class_names, thresholds, strict=True) if least > 0}
    return {"thresholds": {**told, "weights": sha256(weights), "per_class": per_class}}


def usable_thresholds(files: Files, class_names: Sequence[str]) -> tuple[float, ...] | None:
    """As `thresholds_of`, but those of other weights are left out with a warning: a model must load to choose them again."""
    told = files.manifest.get("thresholds")
    if isinstance(told, dict) and told.get("weights") != files.weights_sha256():
        LOG.warning("warning: %s: its thresholds were chosen for other weights, and are not used. %s", files.where, AGAIN)
        return None
    return thresholds_of(files, class_names)


def is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
