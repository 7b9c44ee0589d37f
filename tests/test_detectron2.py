"""Detectron2's inference API: a script runs with only its imports changed, and what would be silently wrong is an error."""

import copy
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import a_config, a_detector, a_painting
from PIL import Image as Pillow
from torch.testing import assert_close

from sightline.bundle.load import load_model
from sightline.config.schema import Config
from sightline.config.sources import load
from sightline.config.yaml_dialect import dump
from sightline.detectron2 import Boxes, CfgNode, DefaultPredictor, Instances, get_cfg, model_zoo
from sightline.errors import CheckpointError, ConfigError, ShapeError
from sightline.images import read_image
from sightline.model.build import build_detector
from sightline.records import ImageSize

FPN = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
SMALL = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "MODEL.DEVICE", "cpu"),
)


def a_model_folder(folder: Path, config: Config | None = None) -> Path:
    """What Detectron2's trainer leaves: model_final.pth and config.yaml. It finds a lot in anything."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or a_config("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
    torch.manual_seed(0)
    torch.save({"model": build_detector(config).state_dict(), "iteration": 3}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    return folder


def a_cfg(folder: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    return cfg


# --- cfg ---


def test_keys_are_read_and_written_at_any_depth() -> None:
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.5
    cfg["MODEL"]["DEVICE"] = "cpu"
    section = cfg.SOLVER
    section.BASE_LR = 1  # a whole number for a number, as in YAML
    cfg.DATASETS.TEST = ["parts"]
    cfg.OUTPUT_DIR = Path("runs/one")
    config = cfg.to_config()
    assert (config.model.roi_heads.score_thresh_test, config.model.device, config.solver.base_lr) == (0.5, "cpu", 1.0)
    assert (config.datasets.test, cfg.DATASETS.TEST, cfg.OUTPUT_DIR) == (("parts",), ("parts",), "runs/one")


def test_the_defaults_are_detectron2s() -> None:
    assert get_cfg().to_config() == Config()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SCORE_TRESH_TEST", 0.5, r"unknown key 'MODEL\.ROI_HEADS\.SCORE_TRESH_TEST'\. Did you mean .*SCORE_THRESH_TEST"),
        ("NUM_CLASSES", "many", r"MODEL\.ROI_HEADS\.NUM_CLASSES is 'many'\. Give a whole number"),
        ("NUM_CLASSES", 2.5, r"MODEL\.ROI_HEADS\.NUM_CLASSES is 2\.5\. Give a whole number"),
        ("IOU_LABELS", 1, r"MODEL\.ROI_HEADS\.IOU_LABELS is 1\. Give a list"),
    ],
)
def test_wrong_writes_are_errors(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        setattr(get_cfg().MODEL.ROI_HEADS, key, value)


def test_a_section_is_no_value() -> None:
    with pytest.raises(ConfigError, match=r"MODEL is 3\. It is a section"):
        get_cfg().MODEL = 3


def test_unknown_reads_name_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'MODEL\.ROI_HEAD'\. Did you mean 'MODEL\.ROI_HEADS'"):
        get_cfg().MODEL.ROI_HEAD  # noqa: B018
    assert not hasattr(get_cfg().MODEL, "ROI_HEAD")
    assert get_cfg().MODEL.get("ROI_HEAD", 3) == 3


def test_it_behaves_as_a_mapping() -> None:
    cfg = get_cfg()
    assert "MODEL" in cfg and "WEIGHTS" in cfg.MODEL and "NOTHING" not in cfg
    assert {"MODEL", "SOLVER", "INPUT", "OUTPUT_DIR"} <= set(cfg.keys()) == set(cfg)
    assert len(cfg.MODEL.RPN) == len(cfg.MODEL.RPN.items()) == len(cfg.MODEL.RPN.values())
    assert dict(cfg.INPUT.items())["FORMAT"] == "BGR"


def test_clones_are_independent() -> None:
    cfg = get_cfg()
    for other in (cfg.clone(), copy.deepcopy(cfg)):
        other.MODEL.DEVICE = "cpu"
        assert (cfg.MODEL.DEVICE, other.MODEL.DEVICE) == ("cuda", "cpu")


def test_frozen() -> None:
    cfg = get_cfg()
    cfg.freeze()
    assert cfg.is_frozen() and cfg.clone().is_frozen()
    with pytest.raises(ConfigError, match=r"cfg: is frozen\. Call cfg\.defrost\(\) first"):
        cfg.MODEL.DEVICE = "cpu"
    with pytest.raises(ConfigError, match="is frozen"):
        cfg.merge_from_list(["MODEL.DEVICE", "cpu"])
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    assert cfg.MODEL.DEVICE == "cpu"


def test_merging_puts_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("MODEL: {DEVICE: cpu, MASK_ON: true}\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nMODEL: {MASK_ON: false}\nSEED: 5\n", encoding="utf-8")
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 7
    cfg.merge_from_file(tmp_path / "own.yaml")
    cfg.merge_from_list(["SOLVER.BASE_LR", 0.5, "INPUT.FORMAT", "RGB"])
    assert (cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON, cfg.SEED, cfg.SOLVER.MAX_ITER) == ("cpu", False, 5, 7)
    assert (cfg.SOLVER.BASE_LR, cfg.INPUT.FORMAT) == (0.5, "RGB")
    other = get_cfg()
    other.merge_from_other_cfg(cfg)
    assert other.to_config() == cfg.to_config()


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (lambda cfg: cfg.merge_from_list(["SOLVER.BASE_LR"]), "1 values are no KEY, VALUE pairs"),
        (lambda cfg: cfg.merge_from_list(["SEED", 4, "SOLVER.BASE_LRR", 1]), "unknown key 'SOLVER.BASE_LRR'"),
        (lambda cfg: cfg.merge_from_file("nowhere.yaml"), r"nowhere\.yaml: cannot be read"),
        (lambda cfg: cfg.MODEL.merge_from_list(["SEED", 4]), r"cfg\.MODEL: is a section"),
    ],
)
def test_a_merge_that_fails_changes_nothing(merge: object, message: str) -> None:
    cfg = get_cfg()
    with pytest.raises(ConfigError, match=message):
        merge(cfg)  # type: ignore[operator]
    assert cfg.to_config() == Config()


def test_what_is_dumped_loads_again(tmp_path: Path) -> None:
    cfg = model_zoo.get_config(FPN)
    (tmp_path / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    assert load(str(tmp_path / "config.yaml")) == cfg.to_config()
    assert "NMS_THRESH: 0.7" in cfg.MODEL.RPN.dump()
    assert str(cfg) == cfg.dump()


# --- model_zoo ---


def test_the_zoo_by_its_names() -> None:
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(FPN))
    assert cfg.to_config() == load(FPN) == model_zoo.get_config(FPN).to_config()
    url = "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
    assert model_zoo.get_checkpoint_url(FPN) == model_zoo.get_config(FPN, trained=True).MODEL.WEIGHTS == url


def test_a_path_into_detectron2s_configs_means_the_zoo() -> None:
    cfg = get_cfg()
    cfg.merge_from_file(f"/opt/detectron2/configs/{FPN}")
    assert cfg.to_config() == load(FPN)


def test_names_that_the_zoo_does_not_have() -> None:
    for ask in (model_zoo.get_config_file, model_zoo.get_checkpoint_url, model_zoo.get_config):
        with pytest.raises(ConfigError, match=r"is no name of the model zoo.*Did you mean"):
            ask("COCO-Detection/faster_rcnn_R_50_FPN_4x.yaml")


# --- structures ---


def some_instances() -> Instances:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 15], [1, 1, 1, 4]])
    return Instances(
        (40, 60), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.8, 0.1]), pred_classes=torch.tensor([0, 1, 0])
    )


def test_boxes() -> None:
    boxes = some_instances().pred_boxes
    assert (len(boxes), boxes.device.type) == (3, "cpu")
    assert_close(boxes.area(), torch.tensor([100.0, 200.0, 0.0]))
    assert_close(boxes.get_centers()[1], torch.tensor([15.0, 10.0]))
    assert boxes.nonempty().tolist() == [True, True, False]
    assert_close(boxes[1].tensor, torch.tensor([[5.0, 5, 25, 15]]))
    assert [row.tolist() for row in boxes[torch.tensor([False, True, False])]] == [[5.0, 5.0, 25.0, 15.0]]
    copied = boxes.to("cpu").clone()
    copied.scale(2, 3)
    copied.clip((40, 45))
    assert_close(copied.tensor[1], torch.tensor([10.0, 15, 45, 40]))
    assert_close(boxes.tensor[1], torch.tensor([5.0, 5, 25, 15]))
    assert len(Boxes.cat([boxes, boxes])) == 6
    assert len(Boxes(torch.empty(0))) == 0
    with pytest.raises(ShapeError, match=r"got shape \[3\]\. Pass \(N, 4\)"):
        Boxes(torch.zeros(3))


@pytest.mark.parametrize(
    ("index", "classes"),
    [
        pytest.param(1, [1], id="a whole number"),
        pytest.param(-1, [0], id="from the end"),
        pytest.param(slice(0, 2), [0, 1], id="a slice"),
        pytest.param(torch.tensor([True, False, True]), [0, 0], id="a mask"),
        pytest.param(torch.tensor([1, 0]), [1, 0], id="indices"),
        pytest.param([1, 1], [1, 1], id="a list"),
        pytest.param(torch.tensor([], dtype=torch.int64), [], id="none"),
    ],
)
def test_instances_are_indexed(index: object, classes: list[int]) -> None:
    found = some_instances()[index]  # type: ignore[index]
    assert found.pred_classes.tolist() == classes
    assert len(found) == len(found.pred_boxes) == len(found.scores) == len(classes)


def test_instances() -> None:
    found = some_instances().to("cpu")
    assert (len(found), found.image_size, found.has("scores"), found.has("pred_masks")) == (3, (40, 60), True, False)
    assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
    assert [one.pred_classes.item() for one in found] == [0, 1, 0]
    found.note = ["a", "b", "c"]
    assert (found.get("note"), found.note) == (["a", "b", "c"], ["a", "b", "c"])
    found.remove("note")
    assert not found.has("note")
    assert str(found).startswith("Instances(num_instances=3, image_height=40, image_width=60, fields=[pred_boxes: Boxes(")
    assert copy.deepcopy(found).scores.tolist() == found.scores.tolist()
    with pytest.raises(AttributeError, match=r"no field 'pred_masks'; it has: pred_boxes, scores, pred_classes"):
        found.pred_masks  # noqa: B018
    with pytest.raises(ShapeError, match=r"Instances\.note: has length 2\. Give one value for each of the 3"):
        found.note = [1, 2]
    with pytest.raises(IndexError):
        found[3]


# --- DefaultPredictor ---

SCRIPT = """
import sys

import numpy as np
from PIL import Image
from sightline.detectron2 import DefaultPredictor, get_cfg  # was: from detectron2.engine / detectron2.config

cfg = get_cfg()
cfg.merge_from_file("model/config.yaml")
cfg.MODEL.WEIGHTS = "model/model_final.pth"
cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.3
cfg.MODEL.DEVICE = "cpu"
cfg.freeze()
predictor = DefaultPredictor(cfg)
image = np.asarray(Image.open(sys.argv[1]).convert("RGB"))[:, :, ::-1]  # cv2.imread
outputs = predictor(image)
instances = outputs["instances"].to("cpu")
boxes = instances.pred_boxes.tensor.numpy()
for box, score, label in zip(boxes, instances.scores, instances.pred_classes):
    print(",".join(str(float(value)) for value in (*box, score, label)))
"""


def test_a_script_runs_with_its_imports_changed(tmp_path: Path) -> None:
    a_model_folder(tmp_path / "model")
    Pillow.fromarray(a_painting(ImageSize(48, 64), [(10, 10, 30, 30)])).save(tmp_path / "picture.png")
    (tmp_path / "inference.py").write_text(SCRIPT, encoding="utf-8")
    source = str(Path(__file__).parents[1] / "src")
    environment = os.environ | {"PYTHONPATH": source}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows = [[float(x) for x in line.split(",")] for line in run(sys.executable, "inference.py", "picture.png").splitlines()]
    predict = (sys.executable, "-c", "from sightline.cli.main import main; main()", "predict", "model", "picture.png")
    line = json.loads(run(*predict, "--threshold", "0.3", "--device", "cpu", "--no-optimize"))
    assert rows
    expected = [[*b, s, c] for b, s, c in zip(line["pred_boxes"], line["scores"], line["pred_classes"], strict=True)]
    assert rows == expected


@pytest.mark.parametrize("color_order", ["BGR", "RGB"])
def test_the_caller_gives_bgr_whatever_the_model_wants(tmp_path: Path, color_order: str) -> None:
    config = a_config("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "INPUT.FORMAT", color_order)
    folder = a_model_folder(tmp_path / "model", config)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    (expected,) = load_model(folder, optimize=False).predict([image])
    found = DefaultPredictor(a_cfg(folder))(image[:, :, ::-1])["instances"]
    assert_close(found.pred_boxes.tensor.numpy(), expected.boxes, rtol=0, atol=0)
    assert_close(found.scores.numpy(), expected.scores, rtol=0, atol=0)
    assert found.image_size == (48, 64)


def test_masks_are_bitmaps_of_the_whole_picture(tmp_path: Path) -> None:
    config = load("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", [*SMALL, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"])
    folder = a_model_folder(tmp_path / "model", config)
    predictor = DefaultPredictor(a_cfg(folder))
    found = predictor(np.zeros((48, 64, 3), dtype=np.uint8))["instances"]
    assert len(found) and found.pred_masks.shape == (len(found), 48, 64)
    assert found.pred_masks.dtype == torch.bool
    assert found[[]].pred_masks.shape == (0, 48, 64)


def test_an_rpn_alone_gives_proposals(tmp_path: Path) -> None:
    folder = a_model_folder(tmp_path / "model", load("COCO-Detection/rpn_R_50_FPN_1x", SMALL))
    outputs = DefaultPredictor(a_cfg(folder))(np.zeros((48, 64, 3), dtype=np.uint8))
    assert set(outputs) == {"proposals"}
    found = outputs["proposals"]
    assert set(found.get_fields()) == {"proposal_boxes", "objectness_logits"}
    (expected,) = load_model(folder).predict([np.zeros((48, 64, 3), dtype=np.uint8)])
    assert_close(found.objectness_logits.sigmoid().numpy(), expected.scores)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Detectron2 warns, and predicts with random layers."""
    folder = a_model_folder(tmp_path / "model")
    tensors = a_detector().state_dict()
    del tensors["backbone.fpn_lateral3.weight"]
    torch.save({"model": dict(tensors)}, folder / "model_final.pth")
    with pytest.raises(CheckpointError, match=r"tensor 'backbone\.fpn_lateral3\.weight' is missing"):
        DefaultPredictor(a_cfg(folder))


def test_no_weights_are_refused(tmp_path: Path) -> None:
    cfg = a_cfg(a_model_folder(tmp_path / "model"))
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(CheckpointError, match=r"MODEL\.WEIGHTS: is empty\. Name the trained model"):
        DefaultPredictor(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_the_cpu_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = a_cfg(a_model_folder(tmp_path / "model"))
    cfg.MODEL.DEVICE = "cuda"
    with caplog.at_level(logging.WARNING, logger="sightline"):
        predictor = DefaultPredictor(cfg)
    assert predictor.model.device.type == "cpu"
    assert "there is no GPU here: predicting on the CPU" in caplog.text


def test_weights_in_a_pickle_from_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    folder = a_model_folder(tmp_path / "model")
    tensors = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    content = {"model": {name: value.numpy() for name, value in tensors.items()}, "__author__": "x"}
    cached = tmp_path / "cache" / "dl.fbaipublicfiles.com" / "detectron2" / "ours.pkl"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pickle.dumps(content))
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    image = a_painting(ImageSize(48, 64), [(10, 10, 30, 30)])
    expected = DefaultPredictor(a_cfg(folder))(image)["instances"]
    for address in ("detectron2://ours.pkl", "https://dl.fbaipublicfiles.com/detectron2/ours.pkl"):
        cfg = a_cfg(folder)
        cfg.MODEL.WEIGHTS = address
        found = DefaultPredictor(cfg)(image)["instances"]
        assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=0)


def test_class_names_that_the_folder_tells(tmp_path: Path) -> None:
    folder = a_model_folder(tmp_path / "model")
    assert DefaultPredictor(a_cfg(folder)).metadata.get("thing_classes") is None
    (folder / "run.json").write_text('{"class_names": ["cat", "dog"]}', encoding="utf-8")
    cfg = a_cfg(folder)
    cfg.DATASETS.TEST = ("pets",)
    metadata = DefaultPredictor(cfg).metadata
    assert (metadata.name, metadata.thing_classes) == ("pets", ["cat", "dog"])
    assert metadata.as_dict() == {"name": "pets", "thing_classes": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(None, "is NoneType. Check the path: cv2.imread gives None", id="no file"),
        pytest.param(np.zeros((4, 4), np.uint8), r"has shape \[4, 4\] and type uint8", id="grey"),
        pytest.param(np.zeros((4, 4, 3), np.float32), "type float32", id="floats"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), r"has shape \[0, 4, 3\]", id="empty"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, image: object, message: str) -> None:
    predictor = DefaultPredictor(a_cfg(a_model_folder(tmp_path / "model")))
    with pytest.raises(ShapeError, match=message):
        predictor(image)  # type: ignore[arg-type]


def test_the_predictor_keeps_its_own_configuration(tmp_path: Path) -> None:
    cfg = a_cfg(a_model_folder(tmp_path / "model"))
    predictor = DefaultPredictor(cfg)
    cfg.MODEL.WEIGHTS = "elsewhere.pth"
    assert predictor.cfg.MODEL.WEIGHTS != cfg.MODEL.WEIGHTS
    assert predictor.input_format == "BGR"
    assert not predictor.model.training


def test_the_numbers_are_detectron2s(shared: Path) -> None:
    folder = shared / "golden" / "faster_rcnn_fpn"
    cfg = a_cfg(folder)
    cfg.MODEL.DEVICE = "cpu"
    predictor = DefaultPredictor(cfg)
    images = json.loads((folder / "inference.json").read_text(encoding="utf-8"))["images"]
    assert images
    for image in images:
        picture = read_image(shared / "data" / "coco_tiny" / "train2017" / image["file"])
        found = predictor(picture[:, :, ::-1])["instances"]
        expected = image["instances"]
        assert len(found) == expected["count"]
        # near ties may swap places: order both by class and box
        ours = sorted(zip(found.pred_classes.tolist(), found.pred_boxes.tensor.tolist(), found.scores.tolist(), strict=True))
        theirs = sorted(zip(expected["classes"], expected["boxes"], expected["scores"], strict=True))
        for (label, box, score), (true_label, true_box, true_score) in zip(ours, theirs, strict=True):
            assert label == true_label
            assert box == pytest.approx(true_box, abs=0.01)
            assert score == pytest.approx(true_score, abs=1e-4)


def test_get_gives_a_model_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_model_folder(tmp_path / "model")
    asked: list[tuple[str, bool]] = []

    def get_config(name: str, trained: bool = False) -> CfgNode:
        asked.append((name, trained))
        return a_cfg(folder)

    monkeypatch.setattr(model_zoo, "get_config", get_config)
    expected = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    for trained in (False, True):
        model = model_zoo.get(FPN, trained=trained, device="cpu")
        assert model.training
        assert_close(dict(model.state_dict()), dict(expected))
    assert asked == [(FPN, False), (FPN, True)]
