"""Which runtime a model gets: by what is asked, what is in its files, and what is installed."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from builders import a_detector
from graphs import a_bundle, a_graph, bundle_members, told_of

from sightline.bundle import exported
from sightline.bundle.archive import sha256
from sightline.bundle.load import load_model
from sightline.errors import BundleError, ConfigError, MissingDependencyError, SightlineError
from sightline.model.predictor import Predictor
from sightline.runtimes.choice import CPU_ORDER, may_have_gpu
from sightline.runtimes.predictor import GraphPredictor


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": a_detector().state_dict()}, path)
    return path.read_bytes()


def both(weights: bytes, *overrides: str) -> dict[str, bytes]:
    """A bundle with weights and a graph that says it was made from them."""
    graph = a_graph(told=told_of(weights_sha256=sha256(weights)))
    return bundle_members(*overrides, graph=graph, weights=weights)


def without(monkeypatch: pytest.MonkeyPatch, modules: Iterable[str]) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def chosen(path: Path, runtime: str = "auto", device: str = "cpu") -> str:
    return str(load_model(path, runtime=runtime, device=device).facts["runtime"]).partition(" ")[0]


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_each_runtime_by_its_name(tmp_path: Path, weights: bytes, packed: bool) -> None:
    path = a_bundle(tmp_path / ("model.tar.gz" if packed else "model"), both(weights))
    assert [chosen(path, name) for name in ("torch", "onnx", "openvino")] == ["torch", "ONNX", "OpenVINO"]
    assert isinstance(load_model(path, runtime="torch").predict, Predictor)
    assert isinstance(load_model(path, runtime="onnx").predict, GraphPredictor)


def test_auto_goes_by_the_order_and_by_what_is_installed(
    tmp_path: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_bundle(tmp_path / "model.tar.gz", both(weights))
    monkeypatch.setattr(exported, "CPU_ORDER", ("onnx", "openvino", "torch"))
    assert chosen(path) == "ONNX"
    without(monkeypatch, ["onnxruntime"])
    assert chosen(path) == "OpenVINO"
    without(monkeypatch, ["openvino"])
    assert chosen(path) == "torch"


def test_an_order_with_torch_first(tmp_path: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "CPU_ORDER", ("torch", "onnx", "openvino"))
    assert chosen(a_bundle(tmp_path / "both", both(weights))) == "torch"
    assert chosen(a_bundle(tmp_path / "graph", bundle_members())) == "ONNX"
    assert set(CPU_ORDER) == {"torch", "onnx", "openvino"}


def test_test_time_augmentation_needs_torch(tmp_path: Path, weights: bytes) -> None:
    """In an archive the weights were passed over first: they are read again."""
    path = a_bundle(tmp_path / "model.tar.gz", both(weights, "TEST.AUG.ENABLED", "True"))
    assert chosen(path) == "torch"
    with pytest.raises(ConfigError, match=r"looks at every picture several times \(TEST\.AUG\.ENABLED\), which only torch can"):
        load_model(path, runtime="onnx")
    with pytest.raises(ConfigError, match=r"only torch can\. Use the bundle with the weights"):
        load_model(a_bundle(tmp_path / "graph", bundle_members("TEST.AUG.ENABLED", "True")))


@pytest.mark.parametrize(
    ("runtime", "members", "missing", "error", "message"),
    [
        ("fast", "graph", (), ConfigError, r"runtime: is 'fast'\. Known: auto, torch, onnx, openvino"),
        ("onx", "graph", (), ConfigError, r"runtime: is 'onx'\. Did you mean 'onnx'\?"),
        ("torch", "graph", (), BundleError, r"model: has no model\.pth, which torch needs\. Use --runtime onnx, or auto\."),
        ("onnx", "weights", (), BundleError, r"model: has no model\.onnx, which --runtime onnx needs\. Export it first"),
        ("onnx", "graph", ("onnxruntime",), MissingDependencyError, r"pip install 'sightline\[onnx\]'"),
        ("openvino", "graph", ("openvino",), MissingDependencyError, r"pip install 'sightline\[openvino\]'"),
        ("auto", "graph", ("onnxruntime", "openvino"), MissingDependencyError, r"pip install 'sightline\[onnx\]'"),
        ("auto", "weights", ("torch",), MissingDependencyError, r"needs 'torch', .* its weights\. Run: pip install torch"),
        ("torch", "both", ("torch",), MissingDependencyError, r"needs 'torch', .* its weights\. Run: pip install torch"),
    ],
)
def test_what_cannot_be_run(
    tmp_path: Path,
    weights: bytes,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    members: str,
    missing: tuple[str, ...],
    error: type[SightlineError],
    message: str,
) -> None:
    held = {"graph": bundle_members(), "both": both(weights), "weights": both(weights)}[members]
    if members == "weights":
        held = {name: content for name, content in held.items() if name not in ("model.onnx", "bundle.json")}
    path = a_bundle(tmp_path / "model", held)
    without(monkeypatch, missing)
    with pytest.raises(error, match=message):
        load_model(path, runtime=runtime, device="cpu")


def test_without_torch_and_without_weights_there_is_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_bundle(tmp_path / "model", bundle_members("MODEL.DEVICE", "cuda"))
    without(monkeypatch, ["torch", "openvino"])
    assert chosen(path, device="auto") == "ONNX"
    monkeypatch.setattr(exported, "may_have_gpu", lambda: True)
    assert chosen(path, device="auto") == "ONNX"
    assert isinstance(may_have_gpu(), bool)


def test_the_number_of_threads(tmp_path: Path) -> None:
    model = load_model(a_bundle(tmp_path / "model", bundle_members()), runtime="onnx", threads=5)
    assert model.facts["runtime"].endswith("CPU, 5 threads")  # type: ignore[attr-defined]
