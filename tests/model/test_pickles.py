"""Weights in pickles: the three shapes that users have, as Detectron2 loads them, and nothing else."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.config.sources import load
from sightline.errors import CheckpointError
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_weights
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


def test_the_longest_end_wins_and_strangers_keep_their_names() -> None:
    given = {"conv.weight": torch.tensor(1.0), "a.conv.weight": torch.tensor(2.0), "fc.weight": torch.tensor(3.0)}
    found = matched_by_end(given, ["net.a.conv.weight", "net.b.conv.weight"])
    assert {name: value.item() for name, value in found.items()} == {
        "net.a.conv.weight": 2.0,
        "net.b.conv.weight": 1.0,
        "fc.weight": 3.0,
    }
