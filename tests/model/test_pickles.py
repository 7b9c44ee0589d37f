"""Weights in pickles: the three shapes that users have, as Detectron2 loads them, and nothing else."""

import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.config.sources import load
from sightline.errors import CheckpointError
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_exactly, load_weights, read_weights
from sightline.model.pickles import from_caffe2, matched_by_end, read_pickle

FILES = ["zoo_model_final.pkl", "backbone_torchvision_style.pkl", "backbone_caffe2.pkl"]


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_is_what_detectron2_loaded(name: str, shared: Path) -> None:
    """An all-zero model after loading: [norm, sum] of each of its tensors; zero where the file has nothing for it."""
    folder = shared / "golden"
    expected = json.loads((folder / "weights" / "expected.json").read_text())
    model = build_detector(load(str(folder / expected["config"])))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    report = load_weights(model, read_weights(folder / "weights" / name, model.state_dict()))
    assert report.loaded and not report.reshaped
    found = model.state_dict()
    for key, (norm, total) in expected["files"][name].items():
        assert found[key].double().norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-6), key
        assert found[key].double().sum().item() == pytest.approx(total, rel=1e-4, abs=1e-4), key


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch executed",)


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": Attack()}, "__author__": "x"}))
    with pytest.raises(CheckpointError, match=r"weights.pkl: does not load safely \(it names (posix|nt)\.system\)"):
        read_weights(path, {})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is damaged or no pickle", id="empty"),
        pytest.param(b"not a pickle at all", "safely|damaged", id="text"),
        pytest.param(pickle.dumps([1, 2]), "holds a list", id="a list"),
        pytest.param(pickle.dumps({"model": 3, "__author__": "x"}), "holds a int of weights", id="no mapping"),
        pytest.param(pickle.dumps({"blobs": {"conv1_w": np.zeros(3)}})[:-20], "truncated", id="cut off"),
    ],
)
def test_what_is_no_pickle_of_arrays_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_pickle(io.BytesIO(content), "w.pkl")


def test_caffe2_names() -> None:
    names = ["conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res2_0_branch2a_bn_b", "res3_1_branch2c_w", "conv1_w_momentum"]
    content = pickle.dumps({"blobs": {name: np.ones(2, dtype=np.float32) for name in names}})
    tensors, by_end = read_pickle(io.BytesIO(content), "w.pkl")
    assert by_end
    assert set(tensors) == {
        "stem.conv1.weight",
        "stem.conv1.norm.weight",
        "stem.conv1.norm.running_mean",
        "stem.conv1.norm.running_var",
        "res2.0.shortcut.weight",
        "res2.0.conv1.norm.bias",
        "res3.1.conv3.weight",
    }


def test_norms_without_statistics_stand_on_mean_0_and_variance_1() -> None:
    named = from_caffe2({"res_conv1_bn_s": torch.full((3,), 2.0)})
    torch.testing.assert_close(named["stem.conv1.norm.running_mean"], torch.zeros(3))
    torch.testing.assert_close(named["stem.conv1.norm.running_var"], torch.ones(3))


def test_group_norms_have_no_statistics() -> None:
    assert set(from_caffe2({"fpn_res2_2_sum_gn_s": torch.ones(3)})) == {"fpn_output2.norm.weight"}


RESNET = r"(?:backbone\.bottom_up|backbone|roi_heads)\.(res\d)\.(\d+)\.(shortcut|conv1|conv2|conv3)\.(.*)"
BRANCH = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
KIND = {"weight": "w", "bias": "b", "norm.weight": "bn_s", "norm.bias": "bn_b"}
SUMS = {"2": "2_2", "3": "3_3", "4": "4_5", "5": "5_2"}  # the last block of each stage of ResNet-50
ELSEWHERE = {
    "stem.conv1.weight": "conv1_w",
    "stem.conv1.norm.weight": "res_conv1_bn_s",
    "stem.conv1.norm.bias": "res_conv1_bn_b",
    "proposal_generator.rpn_head.conv.": "conv_rpn_fpn2_",
    "proposal_generator.rpn_head.objectness_logits.": "rpn_cls_logits_fpn2_",
    "proposal_generator.rpn_head.anchor_deltas.": "rpn_bbox_pred_fpn2_",
    "roi_heads.box_head.fc1.": "fc6_",
    "roi_heads.box_head.fc2.": "fc7_",
    "roi_heads.box_predictor.cls_score.": "cls_score_",
    "roi_heads.box_predictor.bbox_pred.": "bbox_pred_",
    "roi_heads.mask_head.mask_fcn": "_[mask]_fcn",
    "roi_heads.mask_head.deconv.": "conv5_mask_",
    "roi_heads.mask_head.predictor.": "mask_fcn_logits_",
}


NARROW = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "8", "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"),
)


def first_detectrons(name: str, pyramid: bool) -> str:
    """The name that the first Detectron has for a tensor of ours, written down from listings of its files."""
    if found := re.fullmatch(RESNET, name):
        stage, block, part, kind = found.groups()
        return f"{stage}_{block}_{BRANCH[part]}_{KIND[kind]}"
    if found := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)\.(weight|bias)", name):
        role, level, kind = found.groups()
        inner = "inner_" if role == "lateral" else ""
        lateral = "lateral_" if role == "lateral" and level != "5" else ""
        return f"fpn_{inner}res{SUMS[level]}_sum_{lateral}{KIND[kind]}"
    bare = name.removeprefix("backbone.").removeprefix("bottom_up.")
    start = next(start for start in ELSEWHERE if bare.startswith(start))
    rest = re.sub(r"\.?weight$", "_w", re.sub(r"\.?bias$", "_b", bare.removeprefix(start)))
    return (ELSEWHERE[start] + rest).replace("__", "_").replace("fpn2_", "fpn2_" if pyramid else "")


def with_background_first(name: str, value: np.ndarray) -> np.ndarray:
    if "cls_score" in name:
        return np.concatenate((value[-1:], value[:-1]))
    if "bbox_pred" in name and name.startswith("roi_heads"):
        return np.concatenate((np.full_like(value[:4], 99), value))
    return np.concatenate((np.full_like(value[:1], 99), value)) if "mask_head.predictor" in name else value


@pytest.mark.parametrize(
    "zoo_name",
    [
        "COCO-Detection/faster_rcnn_R_50_FPN_1x",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
        "COCO-Detection/faster_rcnn_R_50_C4_1x",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
    ],
)
def test_a_detector_of_the_first_detectron(tmp_path: Path, zoo_name: str) -> None:
    """Every tensor arrives, with background last; its meaningless boxes and masks, and the momenta, are left out."""
    config = load(zoo_name, NARROW)
    given = build_detector(config).state_dict()
    learned = {name: value for name, value in given.items() if "running" not in name}
    pyramid = "FPN" in zoo_name
    blobs = {first_detectrons(name, pyramid): with_background_first(name, value.numpy()) for name, value in learned.items()}
    assert len(blobs) == len(learned)
    blobs |= {f"{name}_momentum": value for name, value in blobs.items()}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "text"}))
    model = build_detector(config)
    load_exactly(model, read_weights(path, model.state_dict()), path)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, given[name])


def test_a_cascade_takes_no_predictor_of_a_plain_detector() -> None:
    model = build_detector(load("Misc/cascade_mask_rcnn_R_50_FPN_3x", NARROW))
    blobs = from_caffe2({"cls_score_w": torch.ones(81, 16)})
    report = load_weights(model, matched_by_end(blobs, model.state_dict()))
    assert (report.loaded, report.unexpected) == ((), ("box_predictor.cls_score.weight",))


def test_the_names_of_a_mask_rcnn_without_a_pyramid() -> None:
    names = ["conv_rpn_w", "rpn_cls_logits_b", "rpn_bbox_pred_w", "res5_0_branch2a_w", "conv5_mask_w", "mask_fcn_logits_b"]
    assert list(from_caffe2({name: torch.ones(3) for name in names})) == [
        "proposal_generator.rpn_head.conv.weight",
        "proposal_generator.rpn_head.objectness_logits.bias",
        "proposal_generator.rpn_head.anchor_deltas.weight",
        "res5.0.conv1.weight",
        "mask_head.deconv.weight",
        "mask_head.predictor.bias",
    ]


def test_masks_lose_their_background() -> None:
    named = from_caffe2({"mask_fcn_logits_b": torch.tensor([9.0, 1.0, 2.0]), "_[mask]_fcn1_w": torch.ones(1)})
    assert set(named) == {"mask_head.predictor.bias", "mask_head.mask_fcn1.weight"}
    assert named["mask_head.predictor.bias"].tolist() == [1.0, 2.0]


def test_a_retinanet_of_the_first_detectron_is_refused() -> None:
    content = pickle.dumps({"blobs": {"retnet_cls_pred_fpn3_w": np.ones(3, dtype=np.float32)}})
    with pytest.raises(CheckpointError, match=r"w\.pkl: is a RetinaNet of the first Detectron.*Give a RetinaNet of"):
        read_pickle(io.BytesIO(content), "w.pkl")


def test_a_tensor_that_several_could_take_goes_to_none() -> None:
    given = {"cls_score.weight": torch.ones(1)}
    assert set(matched_by_end(given, ["heads.0.cls_score.weight", "heads.1.cls_score.weight"])) == {"cls_score.weight"}


def test_the_longest_end_wins_and_strangers_keep_their_names() -> None:
    given = {"conv.weight": torch.tensor(1.0), "a.conv.weight": torch.tensor(2.0), "fc.weight": torch.tensor(3.0)}
    found = matched_by_end(given, ["net.a.conv.weight", "net.b.conv.weight"])
    assert {name: value.item() for name, value in found.items()} == {
        "net.a.conv.weight": 2.0,
        "net.b.conv.weight": 1.0,
        "fc.weight": 3.0,
    }
