"""The local twin: a folder laid out as the platform lays out `/opt/ml`, and the entry points run on it.

What will run remotely can be tried in a minute, without Docker and without an account.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.containers.opt_ml import ALONE, ROOT_VARIABLE, OptMl
from sightline.errors import DatasetError, Interrupted, RunError
from sightline.storage import local_path, remove, unpack, write_json

HOST = ALONE.current


@dataclass(frozen=True, slots=True)
class Trained:
    """What a local training left behind: the folders that the platform would copy to S3."""

    model: Path
    output: Path
    checkpoints: Path


def lay_out(
    root: Path,
    *,
    channels: Mapping[str, str | Path],
    hyperparameters: Mapping[str, object] | None = None,
    hosts: Sequence[str] = (HOST,),
    current: str | None = None,
    interface: str = "lo",
) -> OptMl:
    """`root` as `/opt/ml` of one host, model and output empty. Checkpoints stay: the job goes on from them.

    channels:        {name: folder or file}; of s3:// addresses the copies in the cache
    hyperparameters: as they would be submitted; every value becomes a text, as the platform makes it
    hosts, current:  all hosts' names, and which one this is; None: the first

    Raises:
        DatasetError: a channel's folder is not there.
        RunError: it cannot be fetched from S3.
    """
    opt_ml = OptMl(root.absolute())
    opt_ml.config.mkdir(parents=True, exist_ok=True)
    opt_ml.data.mkdir(parents=True, exist_ok=True)
    for path in (opt_ml.model, opt_ml.root / "output"):
        remove(path)
    for path in (opt_ml.model, opt_ml.output_data, opt_ml.checkpoints):
        path.mkdir(parents=True, exist_ok=True)
    for old in opt_ml.data.iterdir():
        remove(old)
    for name, source in channels.items():
        place_channel(opt_ml.data / name, local_path(source, "Reading a channel").resolve())
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (hyperparameters or {}).items()}
    write_json(opt_ml.config / "hyperparameters.json", texts)
    cluster = {"current_host": current or hosts[0], "hosts": sorted(hosts), "network_interface_name": interface}
    write_json(opt_ml.config / "resourceconfig.json", cluster)
    facts = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    write_json(opt_ml.config / "inputdataconfig.json", dict.fromkeys(channels, facts))
    return opt_ml


def place_channel(to: Path, source: Path) -> None:
    """A channel that refers to a folder, or a folder with one file, as the platform makes of a single object."""
    if source.is_dir():
        to.symlink_to(source)
        return
    if not source.is_file():
        raise DatasetError(f"channel {to.name!r}", f"is neither folder nor file ({source})", "Check the path.")
    to.mkdir()
    (to / source.name).symlink_to(source)


def train(
    root: Path,
    *,
    channels: Mapping[str, str | Path],
    hyperparameters: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Trained:
    """Run the entry point `train` on `root`, which is laid out for it; its lines go to stderr.

    environ: more variables, as the job's Environment

    Raises:
        RunError: it failed; what it left in `output/failure`.
        Interrupted: it was stopped, and goes on when this is called again.
    """
    opt_ml = lay_out(root, channels=channels, hyperparameters=hyperparameters)
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline.containers.train"],
        env={**os.environ, **(environ or {}), ROOT_VARIABLE: str(opt_ml.root)},
    )
    code = ended(process)
    if code == Interrupted.exit_code:
        raise Interrupted(opt_ml.root, "was asked to end, and what there is is saved", "Go on with the same command.")
    if code:
        told = opt_ml.failure.read_text(encoding="utf-8") if opt_ml.failure.is_file() else f"exit code {code}"
        raise RunError(opt_ml.root, f"the training failed: {told}", "See its lines above; the job would fail alike.")
    return Trained(opt_ml.model, opt_ml.output_data, opt_ml.checkpoints)


def serve(root: Path, model: str | Path, *, port: int = 8080, environ: Mapping[str, str] | None = None) -> int:
    """Run the entry point `serve` on `root` until it is stopped; its exit code.

    model: a bundle, here or on S3, which is unpacked into `root/model` as the platform does; or a folder with its files
    port:  as SAGEMAKER_BIND_TO_PORT
    """
    opt_ml = lay_out_model(root, model)
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline.containers.serve"],
        env={**os.environ, **(environ or {}), ROOT_VARIABLE: str(opt_ml.root), "SAGEMAKER_BIND_TO_PORT": str(port)},
    )
    return ended(process)


def ended(process: "subprocess.Popen[bytes]") -> int:
    """The exit code of an entry point, which alone decides when it ends: it saves, or answers what it has accepted.

    Ctrl-C reaches it from the terminal; SIGTERM, which only this process gets, is passed on. Only a main thread can listen.
    """
    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate()) if listens else None
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        if listens:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def lay_out_model(root: Path, model: str | Path) -> OptMl:
    """`root` with a model's files in `root/model`, where what `train` left there may be already.

    Raises:
        SightlineError: the model is not there.
        RunError: it is no archive, or a damaged one.
    """
    opt_ml = OptMl(root.absolute())
    source = local_path(model, "Serving a model").resolve()
    if source.is_dir() and source == opt_ml.model.resolve():
        return opt_ml
    remove(opt_ml.model)
    opt_ml.root.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        opt_ml.model.symlink_to(source)
        return opt_ml
    opt_ml.model.mkdir()
    unpack(source, opt_ml.model, source)
    return opt_ml
