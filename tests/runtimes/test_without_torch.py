"""A bundle with `model.onnx` and nothing else, on a machine without torch: everything that a user does with it."""

import json
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import a_dataset_folder
from graphs import a_bundle, a_graph, bundle_members
from PIL import Image as Pillow

from sightline.bundle.thresholds import store_thresholds
from sightline.runtimes.choice import CPU_ORDER, installed

REPOSITORY = Path(__file__).parents[2]

BLOCKED = "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
"""Importing a module that is None raises ImportError: as on a machine without it."""

MAIN = f"{BLOCKED}from sightline.cli.main import main\nsys.exit(main())"

PATIENCE_S = 120


def sightline(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With masks, as an archive."""
    members = bundle_members("MODEL.MASK_ON", "True", masks=True)
    return a_bundle(tmp_path_factory.mktemp("bundle") / "model.tar.gz", members)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 48 px with a red rectangle."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[10:30, 20:50, 0] = 200
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Pillow.fromarray(pixels).save(path)
    return path


NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
USUAL = NAMES[next(one for one in CPU_ORDER if one in NAMES and installed(one))]
"""What `auto` takes here, with torch blocked."""


@pytest.mark.parametrize("runtime", ["auto", "onnx", "openvino"])
def test_predict(bundle: Path, picture: Path, runtime: str) -> None:
    done = sightline("predict", bundle, picture, "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    np.testing.assert_allclose(answer["pred_boxes"], [[20, 10, 50, 30]], atol=1)
    assert answer["class_names"] == ["cat"]
    assert len(answer["pred_masks_rle"]) == 1
    assert NAMES.get(runtime, USUAL) in done.stderr


def test_in_python(bundle: Path, picture: Path) -> None:
    code = f"""{BLOCKED}
from pathlib import Path
import sightline
from sightline.images import read_image
model = sightline.load_model(sys.argv[1])
(found,) = model.predict([read_image(Path(sys.argv[2]))])
print(len(found), model.facts['runtime'], model.facts['precision'])
"""
    command = [sys.executable, "-c", code, str(bundle), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"1 {USUAL} \S+, CPU, \d+ threads fp32\n", done.stdout)


def test_evaluate(tmp_path: Path) -> None:
    """Nothing in those pictures is red: the numbers are 0, and they are numbers."""
    data = a_dataset_folder(tmp_path / "data", test=2)
    done = sightline("evaluate", a_bundle(tmp_path / "model", bundle_members()), "--data", data, "--json", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert 0 <= json.loads(done.stdout)["bbox"]["AP"] <= 1
    assert (tmp_path / "r" / "index.html").is_file()


@pytest.fixture
def address(bundle: Path) -> Iterator[str]:
    """Of a real server process."""
    command = [sys.executable, "-c", MAIN, "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            ready = re.search(r"Ready\. .* (http://\S+)$", line)
            if ready:
                yield ready[1]
                break
        else:
            pytest.fail("".join(lines))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_serve(address: str, picture: Path) -> None:
    asked = urllib.request.Request(f"{address}/invocations", picture.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as response:
        answer = json.load(response)
    np.testing.assert_allclose(answer["pred_boxes"], [[20, 10, 50, 30]], atol=1)
    with urllib.request.urlopen(f"{address}/model", timeout=PATIENCE_S) as response:
        facts = json.load(response)["facts"]
    assert facts["runtime"].startswith(USUAL)
    assert facts["precision"] == "fp32"


def test_inspect_tells_of_the_graph(bundle: Path) -> None:
    done = sightline("bundle", "inspect", bundle, "--json")
    assert done.returncode == 0, done.stderr
    graph = json.loads(done.stdout)["graph"]
    assert (graph["precision"], graph["min_size"], graph["made_by"]) == ("fp32", 64, "sightline 0.1.0, torch 2.8.0")


def test_weights_without_a_graph_say_what_is_missing(tmp_path: Path, picture: Path) -> None:
    members = {name: content for name, content in bundle_members().items() if name == "config.yaml"} | {"model.pth": b"weights"}
    done = sightline("predict", a_bundle(tmp_path / "model", members), picture)
    assert done.returncode == 2
    assert "needs 'torch', which is not installed, to run its weights. Run: pip install torch torchvision" in done.stderr


def test_thresholds_of_classes_are_kept_and_used(tmp_path: Path, picture: Path) -> None:
    """They belong to weights; a graph says which ones it was made from."""
    path = a_bundle(tmp_path / "model", bundle_members())
    store_thresholds(path, {"cat": 0.9}, "a test")
    done = sightline("predict", path, picture)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == []  # 200 / 255 is less
    changed = bundle_members(graph=a_graph(), thresholds={"per_class": {"cat": 0.9}, "weights": "1" * 64, "chosen_for": ""})
    done = sightline("predict", a_bundle(tmp_path / "other", changed), picture)
    assert "its thresholds were chosen for other weights" in done.stderr


def test_the_list_of_what_to_install_is_the_packages_own() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = (REPOSITORY / "requirements-without-torch.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    core = [line for line in project["dependencies"] if not re.match(r"torch(vision)?\b", line)]
    assert listed == [*core, *extras["serve"], *extras["onnx"]]
    assert len(core) == len(project["dependencies"]) - 2
    dockerfile = (REPOSITORY / "containers" / "serve-onnx.Dockerfile").read_text(encoding="utf-8")
    installed = re.search(r"pip install --constraint \S+ \\\n\s+(.+?) \"\$\{RUNTIME\}\"", dockerfile)
    assert installed, "the image for serving alone has fewer: nothing there reads label files"
    names = {re.split(r"[<>=]", line)[0].lower() for line in listed} | {"boto3"}
    assert set(installed[1].split()) <= names
