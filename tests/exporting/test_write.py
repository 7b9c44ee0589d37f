"""`sightline bundle export` and its Python twin, on files: what is written, what is refused, and nothing left behind."""

import builtins
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import PROPOSALS_ONLY, a_config, a_detector, overrides
from typer.testing import CliRunner

from sightline.bundle.archive import describe, read_archive, sha256
from sightline.cli.main import app
from sightline.config.yaml_dialect import dump
from sightline.errors import BundleError, ConfigError, ImageError, MissingDependencyError, RunError, SightlineError
from sightline.exporting import write
from sightline.exporting.detector import told
from sightline.exporting.torch_files import FACTS
from sightline.exporting.write import export

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing is written into it."""
    return a_run(tmp_path_factory.mktemp("exported") / "run")


@pytest.fixture(scope="module")
def both(run: Path) -> Path:
    """Its bundle, with weights and graph."""
    path = run.parent / "both.tar.gz"
    export(run, into=path, class_names=["cat", "dog"])
    return path


def a_run(folder: Path, *options: str) -> Path:
    """A folder as Detectron2 leaves it."""
    folder.mkdir()
    torch.save({"model": a_detector(*options).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(dump(a_config(*options)))
    return folder


def test_a_file_tells_what_it_is(run: Path, tmp_path: Path) -> None:
    done = export(run, tmp_path / "it.onnx", class_names=["cat", "dog"])
    content = (tmp_path / "it.onnx").read_bytes()
    assert (done.size_bytes, done.sha256) == (len(content), sha256(content))
    facts = told(onnx.load_from_string(content))
    assert facts == done.facts
    assert facts["classes"] == ["cat", "dog"]
    assert facts["weights_sha256"] == sha256((run / "model_final.pth").read_bytes())
    assert (facts["min_size"], facts["max_size"], facts["size_divisor"], facts["opset"]) == (64, 96, 32, 17)
    assert facts["verified"] == done.verified.facts()
    assert done.verified.detections > 0


def test_torchscript_tells_it_too(tmp_path: Path) -> None:
    done = export(a_run(tmp_path / "run", *PROPOSALS_ONLY), tmp_path / "it.ts", format="torchscript")
    extra = {FACTS: ""}
    torch.jit.load(tmp_path / "it.ts", _extra_files=extra)
    assert json.loads(extra[FACTS]) == done.facts
    assert done.verified.detections > 50
    assert done.verified.unmatched == 0
    assert "opset" not in done.facts


def test_into_a_bundle(both: Path, tmp_path: Path) -> None:
    """The graph lies beside the weights that the bundle has, or in their place."""
    alone = tmp_path / "alone.tar.gz"
    members = read_archive(both)
    facts = told(onnx.load_from_string(members["model.onnx"]))
    assert facts["weights_sha256"] == sha256(members["model.pth"])
    assert json.loads(members["bundle.json"])["files"]["model.onnx"] == sha256(members["model.onnx"])
    assert "code/inference.py" in members
    before = both.read_bytes()
    export(both, into=both)
    assert both.read_bytes() == before
    export(both, into=alone, without_torch=True)
    assert sorted(read_archive(alone)) == ["bundle.json", "config.yaml", "model.onnx"]
    assert describe(alone)["class_names"] == ["cat", "dog"]
    with pytest.raises(BundleError, match="has no weights"):
        export(alone, tmp_path / "again.onnx")


def test_an_unpacked_bundle(both: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    with tarfile.open(both) as archive:
        archive.extractall(unpacked, filter="data")
    export(unpacked, into=tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == both.read_bytes()


def test_what_differs_is_not_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write.ask_onnx

    def wrong(content: bytes) -> write.Ask:
        ask = whole(content)

        def shifted(pictures: np.ndarray, sizes: np.ndarray, threshold: float) -> Sequence[np.ndarray]:
            boxes, *others = ask(pictures, sizes, threshold)
            return [boxes + 3, *others]

        return shifted

    monkeypatch.setattr(write, "ask_onnx", wrong)
    (tmp_path / "it.onnx").write_bytes(b"before")
    with pytest.raises(RunError, match="detections differ between the export and the model"):
        export(run, tmp_path / "it.onnx")
    assert (tmp_path / "it.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["it.onnx"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"format": "tflite"}, ConfigError, "is 'tflite'"),
        ({"to": "a", "into": "b"}, ConfigError, "has both --output and --into"),
        ({"into": "b", "format": "torchscript"}, ConfigError, "goes with ONNX"),
        ({"without_torch": True}, ConfigError, "is about a bundle"),
        ({"opset": 17, "format": "torch-export"}, ConfigError, "means nothing to torch-export"),
        ({"opset": 12}, ConfigError, "is 12.*Give --opset 16 to 21"),
        ({"opset": 0}, ConfigError, "is 0"),
        ({"images": "."}, ImageError, "holds no pictures"),
        ({"to": "folder/file/it.onnx"}, ConfigError, "file is no folder"),
        ({"into": "folder"}, ConfigError, "is a folder"),
    ],
)
def test_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, kind: type[SightlineError], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/file").touch()
    with pytest.raises(kind, match=message):
        export(run, **options)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]


def test_test_time_augmentation_is_refused(tmp_path: Path) -> None:
    varied = a_run(tmp_path / "varied", *overrides("TEST.AUG.ENABLED True"))
    with pytest.raises(ConfigError, match=r"TEST\.AUG\.ENABLED: is True"):
        export(varied, tmp_path / "it.onnx")


def test_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: object, **named: object) -> object:
        if name.split(".", maxsplit=1)[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sightline\[export\]'"):
        export(run, tmp_path / "it.onnx")


def test_the_command(run: Path, both: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", "export", str(run), "-o", str(tmp_path / "it.onnx"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["facts"]["precision"] == "fp32"
    text = CliRunner().invoke(app, ["bundle", "export", str(both), "--into", str(tmp_path / "b.tar.gz"), "--without-torch"])
    assert "0 do not" in text.stdout
    assert "runs in" not in text.output
