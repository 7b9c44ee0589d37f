"""torchvision's ResNets as backbones: every tensor finds its place, and the features are the same."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch.testing import assert_close

from sightline.config.sources import load
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_weights
from sightline.model.torchvision_names import is_torchvision


@pytest.mark.parametrize("depth", [18, 50])
def test_a_classifier_becomes_the_backbone(depth: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    for name, buffer in theirs.named_buffers():  # running statistics that could be told from each other
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    width = ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64"] if depth == 18 else []
    detector = build_detector(load("r50", ["MODEL.RESNETS.DEPTH", str(depth), *width])).eval()
    report = load_weights(detector, read_weights(tmp_path / "classifier.pth", detector.state_dict()))
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert not [name for name in report.missing if name.startswith("backbone.bottom_up")]
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(picture))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        found = detector.get_submodule("backbone.bottom_up")(picture)["res5"]
    assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_detectron2s_own_names_are_not_taken_for_it() -> None:
    assert not is_torchvision(["stem.conv1.weight", "res2.0.conv1.weight"])


def test_the_presets_weights_are_those_that_torchvision_publishes() -> None:
    assert load("r50").model.weights == torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
