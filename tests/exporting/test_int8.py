"""Exports in int8: which layers are quantised, what that costs by the tool's own word, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import MASKS, RETINANET, a_config, a_dataset_folder, a_detector, a_painting, a_picture, overrides
from PIL import Image as Pillow
from typer.testing import CliRunner

from sightline.bundle.archive import describe
from sightline.bundle.load import load_model
from sightline.cli.main import app
from sightline.config.yaml_dialect import dump
from sightline.errors import ConfigError, DatasetError, ImageError, RunError, SightlineError
from sightline.exporting import int8
from sightline.exporting.cost import agreeing, agreement, predictor_of
from sightline.exporting.detector import told
from sightline.exporting.write import Exported, export
from sightline.records import Detections, ImageSize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

KINDS = {
    "masks": MASKS + overrides("TEST.DETECTIONS_PER_IMAGE 20"),
    "retinanet": RETINANET + overrides("TEST.DETECTIONS_PER_IMAGE 20  MODEL.RETINANET.SCORE_THRESH_TEST 0.0"),
}


def a_run(folder: Path, *options: str) -> Path:
    """Detectron2's output folder of a detector that tells classes apart, a little."""
    folder.mkdir(parents=True)
    detector = a_detector(*options)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if any(part in name for part in ("cls_score.weight", "objectness_logits.weight")):
                parameter.mul_(20)
    torch.save({"model": detector.state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(dump(a_config(*options)))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([ImageSize(64, 90), ImageSize(96, 64), ImageSize(50, 70)]):
        image = a_painting(size, [(8, 8, 40, 40), (30, 20, 60, 45)], seed=number)
        Pillow.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: a_run(folder / kind, *options) for kind, options in KINDS.items()}


@pytest.fixture(scope="module", params=KINDS)
def done(request: pytest.FixtureRequest, runs: dict[str, Path], photos: Path) -> Exported:
    run = runs[request.param]
    return export(run, run / "int8.onnx", int8=True, calibrate=photos)


def test_layers_that_are_quantised(done: Exported) -> None:
    """Convolutions and products have weights of 8 bits, by channel; the first and the last layers have not."""
    model = onnx.load(done.path)
    assert {node.domain for node in model.graph.node} == {""}
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    layers = [node for node in model.graph.node if node.op_type in int8.KINDS]
    small = [node for node in layers if node.input[1] in makers]
    assert len(small) > 15
    for node in small:
        weight, scale, _ = (constants[name] for name in makers[node.input[1]].input)
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)
        assert np.abs(weight.astype(int)).max() <= 64  # what processors without VNNI add up exactly
    whole = [node.name for node in layers if node not in small]
    last = {"box_predictor", "rpn"} if "masks" in str(done.path) else {"head"}
    assert any(name.startswith("backbone/stem") for name in whole)
    assert all(any(name.startswith("backbone/stem") or part in name for part in last) for name in whole)


def test_what_it_tells(done: Exported) -> None:
    facts = told(onnx.load(done.path))
    assert facts == done.facts
    assert facts["precision"] == "int8"
    assert facts["verified"] == done.verified.facts()
    small = done.int8
    assert small is not None
    assert facts["int8"] == {"calibrated_on": 3, "compared_on": 3, "agreement": round(small.agreement, 4)}
    assert 0.5 < small.agreement <= 1
    assert small.fp32_s > 0 < small.int8_s
    assert "its AP cost is not known" in small.text()


def test_served_in_int8_with_its_cost_known(runs: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    """From the command to the model that a server would load."""
    data, bundle = a_dataset_folder(tmp_path / "data", val=2), tmp_path / "small.tar.gz"
    named = ["--class-names", "cat,dog", "--data", str(data), "--into", str(bundle), "--without-torch"]
    ran = CliRunner().invoke(app, ["bundle", "export", str(runs["masks"]), "--int8", "--calibrate", str(photos), *named])
    assert ran.exit_code == 0, ran.output
    assert "val, 2 pictures: bbox AP" in ran.stdout
    assert "s of processor time in fp32" in ran.stdout
    assert "runs in" not in ran.output
    graph = describe(bundle)["graph"]
    assert isinstance(graph, dict)
    assert graph["precision"] == "int8"
    cost = graph["ap_cost"]
    assert (cost["data"], cost["split"], cost["pictures"]) == ("data", "val", 2)
    assert cost["lost"]["bbox"] == pytest.approx(cost["fp32"]["bbox"] - cost["int8"]["bbox"], abs=1e-6)
    model = load_model(bundle, runtime="onnx")
    assert model.facts["precision"] == "int8"
    assert len(model.predict([a_painting(ImageSize(64, 90), [(8, 8, 40, 40)])])[0]) > 0


def test_a_graph_of_another_model_is_refused(runs: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    """The comparison tells one detector from another, and says so where there is nothing to compare."""
    files = sorted(photos.iterdir())
    other = tmp_path / "other"
    other.mkdir()
    torch.save({"model": a_detector(*KINDS["retinanet"], seed=7).state_dict()}, other / "model_final.pth")
    (other / "config.yaml").write_text(dump(a_config(*KINDS["retinanet"])))
    made = [export(run, run / "plain.onnx") for run in (runs["retinanet"], other)]
    one, two = (predictor_of(Path(done.path).read_bytes(), done.facts, "it") for done in made)
    assert agreement(one, one, files) == 1
    with pytest.raises(RunError, match=r"has hardly anything to do with fp32: .* of the detections agree, on 3 pictures"):
        agreement(one, two, files)
    one.score_threshold = two.score_threshold = 1.0
    with pytest.raises(RunError, match="neither fp32 nor int8 finds anything"):
        agreement(one, two, files)


def found(*rows: tuple[float, float, int]) -> Detections:
    """Of (x, score, label): boxes of 10 px."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    scores, labels = np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64)
    return Detections(ImageSize(100, 100), boxes, scores, labels)


@pytest.mark.parametrize(
    ("other", "both"),
    [
        (found((0, 0.9, 0), (50, 0.1, 1)), 2.0),
        (found((2, 0.9, 0), (52, 0.1, 1)), 2.0),  # moved a little
        (found((0, 0.9, 1), (50, 0.1, 1)), 0.2),  # another class
        (found((40, 0.9, 0)), 0.0),  # elsewhere
        (found((0, 0.9, 0), (1, 0.8, 0)), 1.8),  # found twice
        (found(), 0.0),
    ],
)
def test_agreeing(other: Detections, both: float) -> None:
    one = found((0, 0.9, 0), (50, 0.1, 1))
    matched, everything = agreeing(one, other)
    assert matched == pytest.approx(both)
    assert everything == pytest.approx(1.0 + float(other.scores.sum()))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"int8": True}, ConfigError, "needs pictures that tell the ranges"),
        ({"int8": True, "calibrate": "photos", "format": "torchscript"}, ConfigError, "is of ONNX, not of torchscript"),
        ({"calibrate": "photos"}, ConfigError, "--calibrate: is for --int8"),
        ({"data": "photos"}, ConfigError, "--data: is for --int8"),
        ({"int8": True, "calibrate": "none"}, SightlineError, "none: does not exist"),
        ({"int8": True, "calibrate": "empty"}, ImageError, "holds no pictures to calibrate on"),
        ({"int8": True, "calibrate": "broken"}, ImageError, r"(?s)a\.jpg: is no picture.*b\.jpg: is empty"),
        ({"int8": True, "calibrate": "photos", "data": "data", "split": "x"}, DatasetError, "has no part 'x'"),
        ({"int8": True, "calibrate": "photos", "data": "data", "class_names": ["a", "b"]}, DatasetError, "detects 'a', 'b'"),
    ],
)
def test_refused(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict,
    kind: type[SightlineError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "broken", "photos"):
        Path(folder).mkdir()
    a_picture(Path("photos/a.jpg"))
    a_picture(Path("broken/good.jpg"))
    Path("broken/a.jpg").write_bytes(b"text")
    Path("broken/b.jpg").write_bytes(b"")
    a_dataset_folder(Path("data"), val=1)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=message):
        export(runs["masks"], **options)
    assert sorted(tmp_path.iterdir()) == before


def test_a_large_folder_is_looked_at_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "MOST_PICTURES", 3)
    for number in range(9):
        a_picture(tmp_path / f"{number}.jpg")
    assert [file.name for file in int8.calibration_files(tmp_path)] == ["0.jpg", "4.jpg", "8.jpg"]
