"""The images built for real, and their `train` and `serve` run inside, as the platform runs them.

Half an hour, gigabytes of downloads and 40 GB of disk, so it is asked for: `make images`, or SIGHTLINE_IMAGES=1 (all) or
SIGHTLINE_IMAGES=serve-onnx (that one). Needs Linux, root, buildah and debootstrap. SIGHTLINE_IMAGES_KEEP=1 keeps what is built.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_run

from sightline import labels
from sightline.cloud.drivers import OUR_CUDA
from sightline.containers.hosts import free_port
from sightline.containers.local import lay_out, lay_out_model
from sightline.dataset import drawn
from sightline.exporting.write import export

ASKED = os.environ.get("SIGHTLINE_IMAGES", "")
KINDS = {"": [], "1": ["serve-onnx", "train", "serve"]}.get(ASKED, ASKED.split(","))
MISSING = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.skipif(not KINDS, reason="builds images for half an hour: make images"),
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=f"needs root and {' and '.join(MISSING) or 'its rights'}"),
    pytest.mark.timeout(3600),
]

BASE, TAG = "localhost/sightline-test-base:bookworm", "test"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"
"""This machine's, for building: there may be a proxy between it and the world."""

START_S, STEP_S = 120, 0.2

TINY = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "8", "MODEL.RESNETS.RES2_OUT_CHANNELS": "8", "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "32", "INPUT.MIN_SIZE_TRAIN": "(96,)", "INPUT.MIN_SIZE_TEST": "96",
    "SOLVER.IMS_PER_BATCH": "2", "SOLVER.MAX_ITER": "3",
}  # fmt: skip


def buildah(*words: str | Path) -> str:
    """What `buildah WORDS` prints; its errors are seen."""
    return subprocess.run(["buildah", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python and nothing else, made once on a machine."""
    if not buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        root = tmp_path_factory.mktemp("debian") / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        container = buildah("from", "scratch")
        for name in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / name)
        buildah("add", container, root, "/")
        buildah("commit", "--rm", container, BASE)
        shutil.rmtree(root)
    return BASE


@pytest.fixture(scope="module")
def built(base: str) -> "Iterator[Builder]":
    builder = Builder(base)
    yield builder
    if not os.environ.get("SIGHTLINE_IMAGES_KEEP"):
        for name in builder.names.values():
            buildah("rmi", name)


class Builder:
    """Images by their kind, built with `sightline cloud image build` when a test wants them."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.names: dict[str, str] = {}

    def __call__(self, kind: str) -> str:
        if kind not in KINDS:
            pytest.skip(f"SIGHTLINE_IMAGES={ASKED} leaves {kind} out")
        if kind not in self.names:
            command = [sys.executable, "-m", "sightline", "cloud", "image", "build", kind, "--tag", TAG, "--base", self.base]
            options = ["--tool", "buildah", "--tool-options", f"-v {CERTIFICATES}:{CERTIFICATES}:ro"]
            environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
            done = subprocess.run([*command, *options], env=environ, check=True, stdout=subprocess.PIPE, text=True)
            self.names[kind] = done.stdout.strip()
        return self.names[kind]


@contextlib.contextmanager
def container(image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image)
    yield name
    buildah("rm", name)


def run_words(name: str, ml: Path, *more: str, environ: dict[str, str] | None = None) -> list[str]:
    """A command inside, with `ml` as /opt/ml. Without isolation of the network: it is reached through loopback."""
    given = [word for key, value in (environ or {}).items() for word in ("--env", f"{key}={value}")]
    volumes = ["-v", f"{ml}:/opt/ml", *more]
    return ["buildah", "run", "--isolation", "chroot", *volumes, *given, name, "--"]


def config_of(image: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    return found


def processes_inside(words: str) -> list[int]:
    """Of what runs in a container: Python with these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line.startswith("/opt/sightline/bin/python") and words in line:
                found.append(int(path.parent.name))
    return found


def answer(address: str, body: bytes | None = None, process: "subprocess.Popen[str] | None" = None) -> bytes:
    """The answer of a server that may still be starting."""
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "image/jpeg"} if body else {})
    for _ in range(int(START_S / STEP_S)):
        try:
            with urllib.request.urlopen(request) as got:
                return bytes(got.read())
        except OSError:
            assert process is None or process.poll() is None, "it ended"
            time.sleep(STEP_S)
    raise AssertionError("no answer")


def serve_once(image: str, ml: Path, picture: Path) -> dict[str, object]:
    """What the image's `serve` says of a picture; it is nobody's process, and ends with 0 after SIGTERM."""
    port = free_port()
    with container(image) as name:
        words = run_words(name, ml, environ={"SAGEMAKER_BIND_TO_PORT": str(port)})
        server = subprocess.Popen([*words, "/usr/local/bin/serve", "serve"], stderr=subprocess.PIPE, text=True)
        try:
            answer(f"http://127.0.0.1:{port}/ping", process=server)
            found = json.loads(answer(f"http://127.0.0.1:{port}/invocations", picture.read_bytes()))
            (served,) = processes_inside("sightline serve /opt/ml/model --host 0.0.0.0")
            assert Path(f"/proc/{served}").stat().st_uid == 65534
            os.kill(served, signal.SIGTERM)
            _, told = server.communicate(timeout=START_S)
            assert server.returncode == 0, told
        finally:
            server.kill()
    assert isinstance(found, dict)
    return found


def is_fit_for_serving(image: str) -> None:
    config = config_of(image)
    assert config["Entrypoint"] == ["/usr/local/bin/serve"]
    assert config["User"] == "65534:65534"
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"  # type: ignore[index]
    media = json.loads(buildah("inspect", "--type", "image", image))["Manifest"]
    assert json.loads(media)["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny model with model.onnx, and a picture beside it."""
    folder = tmp_path_factory.mktemp("model")
    a_run(folder / "run", "SOLVER.MAX_ITER", "1")
    export(folder / "run", into=folder / "model.tar.gz", without_torch=True, class_names=["cat", "dog"])
    return folder


def test_serving_without_torch(built: Builder, model: Path, tmp_path: Path) -> None:
    image = built("serve-onnx")
    is_fit_for_serving(image)
    ml = lay_out_model(tmp_path / "ml", model / "model.tar.gz").root
    picture = next((model / "run-images").glob("*"))
    assert "pred_boxes" in serve_once(image, ml, picture)
    with container(image) as name:
        inside = [*run_words(name, ml), "/opt/sightline/bin/python", "-c", "import torch"]
        assert "No module named 'torch'" in subprocess.run(inside, capture_output=True, text=True, check=False).stderr


def test_training_and_serving(built: Builder, tmp_path: Path) -> None:
    image = built("train")
    assert config_of(image)["Entrypoint"] == ["/usr/local/bin/train"]
    assert not config_of(image).get("User")  # the platform's /opt/ml is root's
    data = tmp_path / "data"
    labels.write(drawn.write(data, 10, seed=5), data / "output.manifest", format="ground-truth", prefix="s3://bucket/images")
    ml = lay_out(tmp_path / "ml", channels={"training": data}, hyperparameters=TINY).root
    with container(image) as name:
        words = run_words(name, ml, "-v", f"{data}:{data}:ro")  # where the channel's link points to
        subprocess.run([*words, "/usr/local/bin/train", "train"], check=True)
        asked = [*run_words(name, ml), "/opt/sightline/bin/python", "-c", "import torch; print(torch.version.cuda)"]
        assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == OUR_CUDA
    assert (ml / "model" / "model.pth").is_file()
    assert (ml / "output" / "data" / "report").is_dir()
    assert not (ml / "output" / "failure").exists()

    is_fit_for_serving(built("serve"))
    assert "pred_boxes" in serve_once(built("serve"), ml, next((data / "images").glob("*")))
