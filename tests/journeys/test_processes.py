"""`sightline train` as people start it on several processes and hosts: torchrun, SIGTERM, --resume, a failing process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from builders import PATIENCE_S, TINY, a_dataset_folder

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def command(data: Path, run: Path, *words: str) -> list[str]:
    """`sightline train` in this interpreter, as torchrun's arguments."""
    script = data.parent / "sightline_train.py"
    script.write_text("from sightline.cli.main import main\nmain()\n", encoding="utf-8")
    return [str(script), "train", "--data", str(data), "-o", str(run), "--workers", "0", *TINY.split(), *words]


def started(words: Sequence[str], **environment: str) -> "subprocess.Popen[str]":
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environ, start_new_session=True)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """(exit code, standard output, standard error). One that hangs fails by its exit code."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # torchrun's processes hold the pipes, too
        out, err = process.communicate()
    return process.returncode, out, err


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    """Until `path` is there or `process` has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)


def last_of(run: Path) -> Path:
    """The newest checkpoint of a run."""
    return run / (run / "last_checkpoint").read_text(encoding="utf-8")


LONG = ("SOLVER.MAX_ITER", "100000", "SOLVER.CHECKPOINT_PERIOD", "5")


def test_a_failing_process_ends_torchrun_and_sigterm_saves_what_goes_on(tmp_path: Path) -> None:
    """A run of 100,000 steps on two processes whose pictures vanish; it goes on with them, and is asked to end.

    That a run goes on to the same end is in tests/training: test_processes.py, and test_run.py for one process.
    """
    data, run, away = a_dataset_folder(tmp_path / "data", train=6), tmp_path / "run", tmp_path / "away"
    start = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", *command(data, run, *LONG)]
    process = started(start)
    wait_for(run / "last_checkpoint", process)
    (data / "images").rename(away)
    code, out, err = ended(process)
    assert code not in (0, -9), err
    assert "png: cannot be read (No such file or directory)" in err
    assert out == ""
    last = last_of(run)
    step = torch.load(last, weights_only=True)["iteration"] + 1
    assert step >= 5
    away.rename(data / "images")
    process = started([*start, "--resume"])
    while last_of(run) == last and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code != 0
    assert f"resumed from {last} at step {step}" in err, err
    assert "was asked to end, and is saved after" in err, err
    content = torch.load(last_of(run), weights_only=True)
    assert content["iteration"] >= step + 4
    assert len(content["sightline"]["ranks"]) == 2


def test_two_hosts_train_together(hosts: list[list[str]], tmp_path: Path) -> None:
    """Each host has its own address, and its own folder: the first one's holds the run."""
    data = a_dataset_folder(tmp_path / "data", train=6, val=3)
    address = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "10.231.7.1", "--master-port", "29471"]
    keys = ("TEST.EVAL_PERIOD", "4", "--metric", "val_loss")
    processes = [
        started([*host, *TORCHRUN, *address, "--node-rank", str(rank), *command(data, tmp_path / f"run-{rank}", *keys)])
        for rank, host in enumerate(hosts)
    ]
    spoken = []
    for code, out, err in [ended(process) for process in processes]:
        assert code == 0, err
        spoken.append(out.count("steps, classes cat, dog"))
    assert spoken == [1, 0], "one process speaks"
    assert not (tmp_path / "run-1").exists()
    ranks = torch.load(tmp_path / "run-0" / "model_final.pth", weights_only=True)["sightline"]["ranks"]
    assert len(ranks) == 2
