"""The entry point `serve`: which command it becomes, and the whole of it once."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from builders import PATIENCE_S, a_run

from sightline.bundle.pack import pack_run
from sightline.containers.hosts import free_port
from sightline.containers.local import lay_out_model
from sightline.containers.opt_ml import OptMl
from sightline.containers.serve import model_in, serve_words
from sightline.errors import BundleError, RunError


def a_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("model.pth", "."),
        ("model.onnx", "."),
        ("model_final.pkl", "."),
        ("output/model.pth", "output"),
        ("model.tar.gz", "model.tar.gz"),
    ],
)
def test_where_a_model_lies(file: str, found: str, tmp_path: Path) -> None:
    a_file(tmp_path / file)
    (tmp_path / "code").mkdir()
    assert model_in(tmp_path) == tmp_path / found


def test_no_model_and_several(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no model \(there is nothing"):
        model_in(tmp_path)
    a_file(tmp_path / "a" / "model.pth")
    a_file(tmp_path / "b" / "model.pth")
    with pytest.raises(BundleError, match="holds several models"):
        model_in(tmp_path)


def test_one_model_or_many(tmp_path: Path) -> None:
    a_file(tmp_path / "model" / "model.pth")
    assert serve_words(OptMl(tmp_path), {}) == ["serve", str(tmp_path / "model"), "--host", "0.0.0.0"]
    many = serve_words(OptMl(tmp_path), {"SAGEMAKER_MULTI_MODEL": "true"})
    assert many == ["serve", str(tmp_path / "models"), "--host", "0.0.0.0", "--multi-model"]


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be unpacked"):
        lay_out_model(tmp_path / "ml", a_file(tmp_path / "model.tar.gz"))


def test_what_a_training_left_there_is_served_where_it_is(tmp_path: Path) -> None:
    model = a_file(tmp_path / "ml" / "model" / "model.pth").parent
    assert lay_out_model(tmp_path / "ml", model).model == model
    assert (model / "model.pth").is_file()


def answers(address: str, process: "subprocess.Popen[str]") -> int:
    """The status of /ping when it is no longer 503."""
    for _ in range(int(PATIENCE_S / 0.05)):
        try:
            with urllib.request.urlopen(address) as answer:
                return int(answer.status)
        except OSError:  # not listening yet, or loading
            if process.poll() is not None:
                return 0
            time.sleep(0.05)
    return 0


def test_a_bundle_is_served_on_the_port_that_the_platform_names(tmp_path: Path) -> None:
    a_run(tmp_path / "run", "SOLVER.MAX_ITER", "1")
    pack_run(tmp_path / "run", tmp_path / "model.tar.gz")
    opt_ml, port = lay_out_model(tmp_path / "ml", tmp_path / "model.tar.gz"), free_port()
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(opt_ml.root), "SAGEMAKER_BIND_TO_PORT": str(port)}
    words = [sys.executable, "-m", "sightline.containers.serve", "serve"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environ)
    assert answers(f"http://127.0.0.1:{port}/ping", process) == 200
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
