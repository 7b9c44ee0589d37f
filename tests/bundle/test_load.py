"""MODEL to a callable: runs, bundles, unpacked bundles, Detectron2's own folders, and what people made by hand."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import a_config, a_detector, a_painting, a_run

from sightline.bundle.load import load_model, names_for
from sightline.bundle.pack import pack_run
from sightline.config.yaml_dialect import dump, load_file
from sightline.errors import BundleError, CheckpointError, ConfigError, SightlineError
from sightline.images import read_image
from sightline.model.optimized import OptimizedPredictor
from sightline.model.predictor import Predictor
from sightline.records import Detections, Image, ImageSize, Model
from sightline.training.run import Run

PICTURES = [a_painting(ImageSize(70, 90), [(10, 10, 40, 50)], seed=1), a_painting(ImageSize(64, 48), [(5, 5, 30, 30)], seed=2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return a_run(tmp_path_factory.mktemp("trained") / "run")


def by_hand(folder: Path, **config: str) -> Path:
    """model.pth and config.yaml, as somebody with a model of their own has them."""
    folder.mkdir(parents=True)
    torch.save({"model": a_detector().state_dict()}, folder / "model.pth")
    overrides = [word for key, value in config.items() for word in (key.replace("__", "."), value)]
    (folder / "config.yaml").write_text(dump(a_config(*overrides)), encoding="utf-8")
    return folder


def assert_same(one: list[Detections], other: list[Detections]) -> None:
    assert [len(found) for found in one] == [len(found) for found in other]
    for a, b in zip(one, other, strict=True):
        assert a.size == b.size
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def answers(model: Model, pictures: list[Image] = PICTURES) -> list[Detections]:
    found = model.predict(pictures)
    assert all(len(detections) > 0 for detections in found)  # else equality would say nothing
    return found


def test_a_run_and_everything_made_of_it_answer_alike(run: Run, tmp_path: Path) -> None:
    """Bit by bit: the run folder, its bundle, and the unpacked bundle."""
    expected = answers(load_model(run.folder))
    packed = pack_run(run.folder, tmp_path / "model.tar.gz")
    with tarfile.open(packed.path) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    for path in (packed.path, tmp_path / "unpacked", str(packed.path)):
        model = load_model(path)
        assert_same(answers(model), expected)
        assert (model.class_names, model.origin) == (("cat", "dog"), str(path))
        assert model.facts["training"]["steps"] == 4  # type: ignore[index]


def test_an_unfinished_run_answers_with_its_last_checkpoint(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    for name in ("config.yaml", "run.json", "model_0000001.pth"):
        (folder / name).write_bytes((run.folder / name).read_bytes())
    (folder / "last_checkpoint").write_text("model_0000001.pth", encoding="utf-8")
    early = load_model(folder, runtime="torch", optimize=False)
    weights = torch.load(run.folder / "model_0000001.pth", weights_only=True)["model"]
    detector = a_detector()
    detector.load_state_dict(weights)
    assert_same(answers(early), Predictor(detector, min_size=64, max_size=96, color_order="BGR")(PICTURES))


def test_detectron2s_own_folder(shared: Path) -> None:
    folder = shared / "golden" / "faster_rcnn_fpn"
    model = load_model(folder)
    assert model.class_names == tuple(f"class {index}" for index in range(7))
    assert model.facts.keys() == {"runtime", "precision"}
    (expected, *_) = json.loads((folder / "inference.json").read_text(encoding="utf-8"))["images"]
    (found,) = model.predict([read_image(shared / "data" / "coco_tiny" / "train2017" / expected["file"])])
    np.testing.assert_allclose(found.scores[:3], expected["instances"]["scores"][:3], atol=1e-4)


def test_class_names_may_be_given(tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "model")
    assert load_model(folder).class_names == ("class 0", "class 1")
    assert load_model(folder, class_names=["Hund", "Katze"]).class_names == ("Hund", "Katze")


def test_given_names_go_before_those_it_brings(run: Run) -> None:
    assert load_model(run.folder, class_names=("a", "b")).class_names == ("a", "b")


@pytest.mark.parametrize("names", [["one"], ["one", "two", "three"]])
def test_a_wrong_number_of_names(run: Run, names: list[str]) -> None:
    message = rf"run: has 2 classes, but {len(names)} class names\. Give one name for each class, in order\."
    with pytest.raises(BundleError, match=message):
        load_model(run.folder, class_names=names)


def test_a_manifest_whose_names_are_none(tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "model")
    (folder / "bundle.json").write_text('{"format": 1, "class_names": "cat"}', encoding="utf-8")
    with pytest.raises(BundleError, match=r"bundle\.json: class_names is \"cat\"\. Pack the bundle again"):
        load_model(folder)


def test_the_threshold(run: Run) -> None:
    everything = answers(load_model(run.folder, score_threshold=0.0))
    usual = answers(load_model(run.folder))
    threshold = float(np.median(usual[0].scores))
    fewer = load_model(run.folder, score_threshold=threshold).predict(PICTURES)
    assert len(fewer[0]) < len(usual[0]) <= len(everything[0])
    assert (fewer[0].scores > threshold).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_none(run: Run, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"SCORE_THRESH_TEST is .*, which is not supported\. Supported: a number from 0 to 1"):
        load_model(run.folder, score_threshold=threshold)


def test_pictures_are_resized_and_coloured_as_the_config_says(tmp_path: Path) -> None:
    predictor = load_model(
        by_hand(tmp_path / "m", INPUT__MIN_SIZE_TEST="32", INPUT__MAX_SIZE_TEST="40", INPUT__FORMAT="RGB")
    ).predict
    assert isinstance(predictor, Predictor)
    assert (predictor.input_size.min_size, predictor.input_size.max_size, predictor.color_order) == (32, 40, "RGB")


def test_a_config_on_a_base_is_resolved(tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "model")
    (folder / "config.yaml").replace(tmp_path / "base.yaml")
    (folder / "config.yaml").write_text("_BASE_: ../base.yaml\nINPUT: {MIN_SIZE_TEST: 40}\n", encoding="utf-8")
    predictor = load_model(folder).predict
    assert isinstance(predictor, Predictor)
    assert predictor.input_size.min_size == 40


def test_detectron2s_default_device_works_without_a_gpu(tmp_path: Path) -> None:
    assert answers(load_model(by_hand(tmp_path / "model", MODEL__DEVICE="cuda"), device="cpu"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        pytest.param(
            "config.yaml", b"SEEED: 1", ConfigError, r"config\.yaml: unknown key 'SEEED'\. Did you mean 'SEED'", id="key"
        ),
        pytest.param("config.yaml", b"[", ConfigError, r"config\.yaml: is no YAML", id="no YAML"),
        pytest.param(
            "config.yaml",
            b"MODEL: {KEYPOINT_ON: true}",
            ConfigError,
            r"config\.yaml: MODEL\.KEYPOINT_ON is .* not supported",
            id="keypoints",
        ),
        pytest.param("model.pth", b"text", CheckpointError, r"weights: is ", id="no weights"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, name: str, content: bytes, error: type[SightlineError], message: str) -> None:
    folder = by_hand(tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(error, match=rf"{tmp_path.name}/model: {message}"):
        load_model(folder)


def test_weights_of_another_architecture_are_listed(tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "model")
    config = load_file(folder / "config.yaml")
    box_head = replace(config.model.roi_box_head, num_fc=1)
    (folder / "config.yaml").write_text(
        dump(replace(config, model=replace(config.model, roi_box_head=box_head))), encoding="utf-8"
    )
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert [problem.what for problem in caught.value.problems] == [
        "tensor 'roi_heads.box_head.fc2.weight' has no place in the model",
        "tensor 'roi_heads.box_head.fc2.bias' has no place in the model",
    ]


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (("MODEL.ROI_HEADS.NUM_CLASSES", "80", "DATASETS.TRAIN", "('coco_2017_train',)"), "person"),
        (("MODEL.ROI_HEADS.NUM_CLASSES", "80", "DATASETS.TRAIN", "('mine',)"), "class 0"),
        (("MODEL.ROI_HEADS.NUM_CLASSES", "7", "DATASETS.TRAIN", "('coco_2017_train',)"), "class 0"),
        (("MODEL.META_ARCHITECTURE", "ProposalNetwork"), "object"),
    ],
)
def test_names_of_a_model_that_brings_none(overrides: tuple[str, ...], first: str) -> None:
    assert names_for(a_config(*overrides), (), "here")[0] == first


def test_in_torch_a_model_is_optimised_unless_it_is_not_to_be(run: Run) -> None:
    usual, plain = load_model(run.folder), load_model(run.folder, optimize=False)
    assert isinstance(usual.predict, OptimizedPredictor) and not isinstance(plain.predict, OptimizedPredictor)
    assert str(usual.facts["runtime"]).endswith(", optimised") and not str(plain.facts["runtime"]).endswith("optimised")
    for one, other in zip(answers(usual), answers(plain), strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_half_precision_is_told_and_insisted_on(run: Run, tmp_path: Path) -> None:
    model = load_model(run.folder, device="cpu", precision="bf16")
    assert isinstance(model.predict, OptimizedPredictor) and model.facts["precision"] == "bf16"
    folder = by_hand(tmp_path / "model")
    state = a_detector().state_dict()
    torch.save(
        {"model": state | {name: weight * 1e30 for name, weight in state.items() if "stem" in name}}, folder / "model.pth"
    )
    with pytest.raises(ConfigError, match=r"precision: fp16 cannot be used for this model here: .* fp32 is the usual one"):
        load_model(folder, device="cpu", precision="fp16")
