"""Install what was built into empty environments, away from the repository, and use it there.

    python release/environments.py dist                                     # this Python: the package alone, then every extra
    python release/environments.py dist --python python3.13 --only core serve
    python release/environments.py dist --index-url https://download.pytorch.org/whl/cpu    # where PyTorch's wheels come from

One environment has the package alone. Each extra has one of its own that sees that environment's packages besides, so that
PyTorch is there once; pip counts them as installed. `without-torch` and `sdist` are environments of their own.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE_S = 3600
TINY = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", "96",
    "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
]  # fmt: skip
"""A network that learns nothing, in a second."""

DRAW = """
import sys
from pathlib import Path
from sightline import labels
from sightline.dataset import drawn
folder = Path(sys.argv[1])
labels.write(drawn.write(folder, 12, seed=3), folder / "output.manifest", format="ground-truth", prefix="s3://bucket/images")
"""

PLACE = "import sightline; print(sightline.__file__)"
UNASKED = """
import sys, sightline
from sightline import labels, evaluation
heavy = {"torch", "torchvision", "boto3", "onnxruntime", "openvino", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


TOGETHER: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


class ReleaseError(Exception):
    """What went wrong in one environment."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, and an empty folder in which its commands run."""

    root: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def run(self, *words: object, fails: bool = False) -> str:
        """stdout and stderr of a command: words after `python`. fails: that is what it has to do."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIGHTLINE_", "VIRTUAL"))}
        environ = {**clean, "OMP_NUM_THREADS": "1", "SIGHTLINE_CACHE": str(self.work / "cache")}
        command = [str(self.python), *map(str, words)]
        done = subprocess.run(command, cwd=self.work, env=environ, check=False, timeout=PATIENCE_S, **TOGETHER)
        if (done.returncode != 0) != fails:
            raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
        return done.stdout

    def sightline(self, *words: object, fails: bool = False) -> str:
        return self.run("-m", "sightline", *words, fails=fails)

    def install(self, *words: object) -> None:
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)
        self.run("-m", "pip", "check")

    def has(self, module: str) -> bool:
        return (
            self.run("-c", f"import importlib.util; print(importlib.util.find_spec({module!r}) is not None)").strip() == "True"
        )

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def bundle(self) -> Path:
        return self.work / "model.tar.gz"


def journey(env: Environment, *train: str) -> None:
    """Labels to predictions, by the commands that people type. train: more words for the training."""
    env.run("-c", DRAW, env.work / "drawn")
    pictures = env.work / "drawn" / "images"
    env.sightline("dataset", "import", env.work / "drawn" / "output.manifest", "--images", pictures, "-o", env.data)
    env.sightline("dataset", "split", env.data, "--fractions", "train=0.5", "val=0.25", "test=0.25")
    env.sightline("train", "--data", env.data, "-o", env.work / "run", *train, *TINY)
    env.sightline("evaluate", env.work / "run", "--data", env.data, *(["--plots"] if env.has("matplotlib") else []))
    env.sightline("bundle", "pack", env.work / "run", "-o", env.bundle)
    lines = env.work / "found.jsonl"
    env.sightline("predict", env.bundle, pictures, "-o", lines, "--draw", env.work / "drawings")
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    if len(found) != 12 or not all("pred_boxes" in one for one in found):
        raise ReleaseError(f"predict: {found}")


def core(env: Environment) -> None:
    """The package alone: version, help, the journey; what an extra is for says how to get it."""
    for words in (["--version"], ["--help"], ["cloud", "--help"], ["zoo"], ["cloud", "policy", "train"]):
        env.sightline(*words)
    env.run("-c", UNASKED)
    script = env.root / "bin" / "sightline"
    told = subprocess.run([script, "--version"], cwd=env.work, check=True, capture_output=True, text=True).stdout
    if told != env.sightline("--version"):
        raise ReleaseError(f"{script} is another sightline: {told}")
    journey(env)
    for extra, words in {
        "serve": ["serve", env.bundle],
        "aws": ["cloud", "status", "job"],
        "export": ["bundle", "export", env.bundle, "-o", env.work / "model.onnx"],
        "tune": ["tune", "--data", env.data, "-o", env.work / "study", "--space", env.work / "space.yaml"],
        "report": ["evaluate", env.bundle, "--data", env.data, "-o", env.work / "scores", "--plots"],
    }.items():
        told = re.sub(r"\s+", " ", env.sightline(*words, fails=True))
        if f"pip install 'sightline[{extra}]'" not in told:
            raise ReleaseError(f"sightline {' '.join(map(str, words))} does not name the extra {extra}: {told}")


def serve(env: Environment) -> None:
    journey(env)
    asked(env)


def asked(env: Environment) -> None:
    """A server of the bundle answers."""
    command = [env.python, "-m", "sightline", "serve", env.bundle, "--port", "0"]
    process = subprocess.Popen(command, cwd=env.work, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next((match[1] for line in process.stderr if (match := re.search(r"Ready\. .* (http://\S+)$", line))), "")
        picture = min((env.work / "drawn" / "images").iterdir())
        request = urllib.request.Request(f"{address}/invocations", picture.read_bytes(), {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            if "pred_boxes" not in json.load(answer):
                raise ReleaseError("the server's answer has no pred_boxes")
    finally:
        process.terminate()
        process.wait(timeout=60)


def aws(env: Environment) -> None:
    """Without an account it says so, and makes nothing."""
    journey(env)
    told = env.sightline("cloud", "train", "--data", env.data, "--dry-run", "--region", "us-east-1", fails=True)
    if "Traceback" in told:
        raise ReleaseError(told)


def export(env: Environment) -> None:
    journey(env)
    env.sightline("bundle", "export", env.bundle, "--into", env.bundle)
    onnx(env)


def onnx(env: Environment, runtime: str = "onnx") -> None:
    """predict by another runtime, where there is a graph."""
    if not env.bundle.exists():
        journey(env)
        return
    env.sightline(
        "predict", env.bundle, env.work / "drawn" / "images", "--runtime", runtime, "-o", env.work / f"{runtime}.jsonl"
    )


def openvino(env: Environment) -> None:
    onnx(env, "openvino")


def track(env: Environment) -> None:
    journey(env, "--tensorboard", "--mlflow", str(env.work / "mlflow"))


def tune(env: Environment) -> None:
    journey(env)
    space = env.work / "space.yaml"
    space.write_text("SOLVER.BASE_LR: {low: 0.0001, high: 0.001, log: true}\n", encoding="utf-8")
    env.sightline("tune", "--data", env.data, "-o", env.work / "study", "--space", space, "--trials", "1", *TINY)


def video(env: Environment) -> None:
    journey(env)
    env.run("-c", FILM, env.work / "film.mp4")
    env.sightline("predict", env.bundle, env.work / "film.mp4", "-o", env.work / "film.jsonl")


FILM = """
import sys
import av, numpy
with av.open(sys.argv[1], "w") as film:
    stream = film.add_stream("mpeg4", rate=5)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    for number in range(5):
        pixels = numpy.full((64, 96, 3), number * 40, numpy.uint8)
        film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    film.mux(stream.encode())
"""

TRIED: dict[str, Callable[[Environment], None]] = {
    "core": core, "serve": serve, "aws": aws, "export": export, "onnx": onnx, "openvino": openvino, "track": track,
    "tune": tune, "report": journey, "video": video,
}  # fmt: skip
"""What is done with each extra; with others (`test`, ...) the version is asked."""


def make(base: str, place: Path, *, seeing: Environment | None = None) -> Environment:
    """An empty environment; with `seeing` one that has another's packages besides."""
    subprocess.run([base, "-m", "venv", str(place / "env")], check=True)
    (place / "work").mkdir()
    env = Environment(place / "env", place / "work")
    if seeing is not None:
        (packages_of(env) / "seen.pth").write_text(f"{packages_of(seeing)}\n", encoding="utf-8")
    return env


def packages_of(env: Environment) -> Path:
    return Path(env.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def without_torch(env: Environment, wheel: Path, graph: Path | None) -> None:
    """requirements-without-torch.txt and nothing else; `graph`: a bundle with model.onnx, made elsewhere."""
    env.install("-r", REPOSITORY / "requirements-without-torch.txt")
    env.run("-m", "pip", "install", "--quiet", "--no-deps", wheel)
    if env.has("torch"):
        raise ReleaseError("torch is there")
    env.sightline("--version")
    env.run("-c", DRAW, env.work / "drawn")
    env.sightline(
        "dataset", "import", env.work / "drawn" / "output.manifest", "--images", env.work / "drawn" / "images", "-o", env.data
    )
    if graph is not None:
        shutil.copy(graph, env.bundle)
        env.sightline("predict", env.bundle, env.work / "drawn" / "images", "-o", env.work / "found.jsonl")
        asked(env)


def try_all(base: str, dist: Path, only: list[str], index: list[str], place: Path) -> list[str]:
    """The faults; every environment tells when it is done. Bundles with a graph wander from `export` to those who run it."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    shared = make(base, place / "core")
    shared.install(*index, wheel)
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = only or ["core", *(name for name in extras if name not in ("test", "toolkit")), "without-torch", "sdist"]
    graph: Path | None = None
    faults = []
    for name in wanted:
        try:
            env = shared if name == "core" else make(base, place / name, seeing=None if name == "without-torch" else shared)
            if name == "without-torch":
                without_torch(env, wheel, graph)
            else:
                tried(env, name, wheel, sdist, graph)
            graph = env.bundle if name == "export" else graph
            print(f"{name}: works", flush=True)
        except (ReleaseError, subprocess.SubprocessError, OSError) as error:
            faults.append(f"{name}: {error}")
            print(faults[-1], flush=True)
    return faults


def tried(env: Environment, name: str, wheel: Path, sdist: Path, graph: Path | None) -> None:
    if name == "sdist":
        env.run(
            "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", sdist
        )  # built in an environment of its own
    elif name != "core":
        env.install(f"{wheel}[{name}]")
    if not Path(env.run("-c", PLACE).strip()).is_relative_to(env.root.parents[1]):
        raise ReleaseError("another Sightline is imported")
    if graph is not None and name in ("onnx", "openvino"):
        env.run("-c", DRAW, env.work / "drawn")
        shutil.copy(graph, env.bundle)
    env.sightline("--version")
    TRIED.get(name, lambda _: None)(env)


def main() -> None:
    parser = argparse.ArgumentParser(description="Try the built packages in empty environments.")
    parser.add_argument("dist", type=Path, help="folder with one wheel and one source archive")
    parser.add_argument("--python", default=sys.executable, help="of the environments; default: this one")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="core, extras, without-torch, sdist")
    parser.add_argument("--index-url", default="", help="where PyTorch and torchvision come from")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-environments-") as folder:
        place = Path(folder).resolve()
        index = ["--extra-index-url", given.index_url] if given.index_url else []
        faults = try_all(given.python, given.dist.resolve(), given.only, index, place)
    if faults:
        raise SystemExit(f"error: {len(faults)} environments failed")


if __name__ == "__main__":
    main()
