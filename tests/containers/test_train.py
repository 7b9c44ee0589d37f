"""The entry point `train` as the platform starts it, on a made `/opt/ml`: a process of its own, and what it leaves there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from builders import COUNTING, PATIENCE_S, TINY, a_dataset_folder
from torch.testing import assert_close

from sightline.bundle.load import load_model
from sightline.config.sources import load
from sightline.containers.local import lay_out
from sightline.containers.opt_ml import OptMl
from sightline.dataset.folder import open_part
from sightline.training.run import run_training

TRAIN = (sys.executable, "-m", "sightline.containers.train")
OPTS = " ".join(TINY.split())


def started(opt_ml: OptMl, before: Sequence[str] = (), **environment: str) -> "subprocess.Popen[str]":
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "SAGEMAKER_BASE_DIR": str(opt_ml.root), **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen([*before, *TRAIN], stdout=pipe, stderr=pipe, text=True, env=environ, start_new_session=True)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """(exit code, standard error). One that hangs fails by its exit code."""
    try:
        _, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, err = process.communicate()
    return process.returncode, err


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)


def failure(opt_ml: OptMl) -> str:
    return opt_ml.failure.read_text(encoding="utf-8")


def weights(path: Path) -> dict[str, torch.Tensor]:
    content: dict[str, dict[str, torch.Tensor]] = torch.load(path, weights_only=True)
    return content["model"]


def trained_alone(data: Path, output: Path, *keys: str) -> None:
    """The same training in this process, without a container."""
    part = open_part(data, "train")
    config = load("small", [*TINY.split(), *keys])
    run_training(config, dataset=part.dataset, images=part.pictures, output=output, workers=0)


def test_under_awss_training_toolkit(tmp_path: Path) -> None:
    """Users' images may have AWS's toolkit, which starts a script: ours. A whole job, from channels to output.

    Hyperparameters are spelt as the toolkit's own Estimator spells them.
    """
    pytest.importorskip("sagemaker_training", reason="needs AWS's toolkit: pip install sagemaker-training")
    data = a_dataset_folder(tmp_path / "data", train=6, val=2)
    asked = {"sagemaker_program": "train.py", "opts": f'"{OPTS}"', "workers": "0", "keep": '"1"', "tensorboard": "False"}
    opt_ml = lay_out(tmp_path / "ml", channels={"training": data}, hyperparameters=asked)
    (opt_ml.root / "code").mkdir()
    script = "from sightline.containers.train import main\nmain()\n"
    (opt_ml.root / "code" / "train.py").write_text(script, encoding="utf-8")
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "SAGEMAKER_BASE_DIR": str(opt_ml.root)}
    environ |= {"TRAINING_JOB_NAME": "job-1", "AWS_DEFAULT_REGION": "us-east-1"}
    toolkit = Path(sys.executable).with_name("train")
    done = subprocess.run([toolkit], capture_output=True, text=True, check=False, env=environ, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert (opt_ml.root / "output" / "success").exists()
    assert "total_loss: " in done.stderr, "what metric expressions read"
    model = load_model(opt_ml.model, device="cpu")
    assert model.class_names == ("cat", "dog")
    assert {path.name for path in opt_ml.model.iterdir()} == {"model.pth", "config.yaml", "bundle.json", "code"}
    left = {str(path.relative_to(opt_ml.output_data)) for path in opt_ml.output_data.rglob("*") if path.is_file()}
    assert {"config.yaml", "run.json", "metrics.json", "log.txt", "inference/scores.json", "report/index.html"} <= left
    assert any(name.startswith("report/plots/") for name in left)
    assert not [name for name in left if name.endswith(".pth")], "weights are in the model and among the checkpoints"
    assert {path.name for path in opt_ml.checkpoints.glob("*.pth")} >= {"model_final.pth"}


STEPS = ("SOLVER.MAX_ITER", "24", "SOLVER.CHECKPOINT_PERIOD", "1", "SEED", "3")


def test_process_1_is_interrupted_and_the_next_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """SIGTERM from outside, to process 1 of a process namespace, as the platform sends it to a container."""
    unshare = [str(shutil.which("unshare")), "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and util-linux's unshare for a process namespace")
    data = a_dataset_folder(tmp_path / "data", train=6)
    asked = {"opts": OPTS, "workers": 0, "keep": 2, **dict(zip(STEPS[::2], STEPS[1::2], strict=True))}
    opt_ml = lay_out(tmp_path / "ml", channels={"train": data}, hyperparameters=asked)
    process = started(opt_ml, unshare)
    wait_for(opt_ml.checkpoints / "last_checkpoint", process)
    (inside,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(inside), signal.SIGTERM)
    code, err = ended(process)
    assert code == 143, err
    assert "was asked to end, and is saved after" in err
    assert not opt_ml.failure.exists()
    assert not (opt_ml.checkpoints / "model_final.pth").exists()
    assert load_model(opt_ml.model, device="cpu").class_names == ("cat", "dog"), "a job that is stopped keeps what there is"
    lay_out(opt_ml.root, channels={"train": data}, hyperparameters=asked)  # a new container: model and output are empty
    code, err = ended(started(opt_ml, unshare))
    assert code == 0, err
    assert "resumed from" in err
    trained_alone(data, tmp_path / "alone", *STEPS)
    ours, uninterrupted = weights(opt_ml.checkpoints / "model_final.pth"), weights(tmp_path / "alone" / "model_final.pth")
    assert_close(ours, uninterrupted, rtol=0, atol=0)


def test_two_hosts_learn_what_one_process_would(hosts: list[list[str]], tmp_path: Path) -> None:
    """algo-1 and algo-2 have addresses and `/opt/ml` of their own; a step takes four pictures in all."""
    data = a_dataset_folder(tmp_path / "data", train=6)
    keys = (*COUNTING, "TEST.EVAL_PERIOD", "0", "SOLVER.MAX_ITER", "2", "SEED", "0")
    asked = {"opts": [*TINY.split(), *keys], "workers": 0}
    names = ("algo-2", "algo-1")  # in no order
    roots = [
        lay_out(tmp_path / name, channels={"train": data}, hyperparameters=asked, hosts=names, current=name, interface="veth0")
        for name in sorted(names)
    ]
    processes = [started(root, host) for root, host in zip(roots, hosts, strict=True)]
    for code, err in [ended(process) for process in processes]:
        assert code == 0, err
    first, second = roots
    assert (first.model / "model.pth").is_file()
    assert not any(second.model.iterdir())
    assert not any(second.checkpoints.iterdir()), "only the first process writes checkpoints"
    assert json.loads((first.checkpoints / "run.json").read_bytes())["processes"] == 2
    trained_alone(data, tmp_path / "alone", *keys)
    assert_close(
        weights(first.checkpoints / "model_final.pth"), weights(tmp_path / "alone" / "model_final.pth"), rtol=1e-4, atol=1e-6
    )
    together, alone = [
        json.loads((folder / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
        for folder in (first.checkpoints, tmp_path / "alone")
    ]
    for name in ("total_loss", "loss_rpn_cls", "loss_rpn_loc"):  # of two steps, whose median is their mean
        assert together[name] == pytest.approx(alone[name], rel=1e-4), name


def test_a_failing_process_ends_the_job_with_its_words(tmp_path: Path) -> None:
    """Two on this host; their pictures vanish on the way."""
    data = a_dataset_folder(tmp_path / "data", train=6)
    asked = {"opts": OPTS, "workers": 0, "processes": 2, "SOLVER.MAX_ITER": 100000, "SOLVER.CHECKPOINT_PERIOD": 2}
    opt_ml = lay_out(tmp_path / "ml", channels={"train": data}, hyperparameters=asked)
    process = started(opt_ml)
    wait_for(opt_ml.checkpoints / "last_checkpoint", process)
    for path in (data / "images").iterdir():
        path.unlink()
    code, err = ended(process)
    assert code == 1, err
    assert "cannot be read (No such file or directory)" in failure(opt_ml)
    assert not any(opt_ml.model.iterdir())


def test_a_damaged_picture_is_told_before_training(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", train=6)
    os.truncate(data / "images" / "002.png", 60)
    opt_ml = lay_out(tmp_path / "ml", channels={"train": data}, hyperparameters={"opts": OPTS})
    code, err = ended(started(opt_ml))
    assert code == 1, err
    assert "002.png" in failure(opt_ml)
    assert "Traceback" not in err


def test_mistakes_are_told_before_anything_is_started(tmp_path: Path) -> None:
    data = a_dataset_folder(tmp_path / "data", train=6)
    opt_ml = lay_out(tmp_path / "ml", channels={"train": data}, hyperparameters={"epoch": 3, "SOLVER.MAX_ITERS": 3})
    code, err = ended(started(opt_ml))
    assert code == 1
    assert failure(opt_ml) in err
    assert "hyperparameter 'epoch': is none. Did you mean 'epochs'?" in failure(opt_ml)
    assert "SOLVER.MAX_ITERS" in failure(opt_ml)
