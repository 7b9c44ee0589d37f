"""How a detector is set up to compute: compiled once for all sizes, channels last, class weights, recomputed activations."""

from typing import Any

import pytest
import torch
from builders import RETINANET, a_detector, overrides
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from sightline.errors import ConfigError
from sightline.training.arithmetic import prepare
from sightline.training.settings import Settings

SIZES = [(64, 96), (96, 64), (64, 64), (128, 96), (96, 160), (160, 96), (192, 64)]


def test_one_graph_serves_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures' sizes vary from batch to batch: compiling for each would take longer than the training."""
    counter, compiled = CompileCounter(), nn.Module.compile

    def counted(self: nn.Module, **options: Any) -> None:
        compiled(self, backend=counter, **options)

    monkeypatch.setattr(nn.Module, "compile", counted)
    detector, plain = a_detector().train(), a_detector().train()
    plain.load_state_dict(detector.state_dict())
    prepare(detector, Settings(compile=True))
    for size in SIZES:
        batch = torch.randn(2, 3, *size)
        features, expected = detector.extract(batch), plain.extract(batch)
        assert_close(features, expected, rtol=1e-4, atol=1e-5)
        torch.stack([feature.sum() for feature in features.values()]).sum().backward()
    assert counter.frame_count == 1
    assert list(detector.state_dict()) == list(plain.state_dict())


def test_channels_last_changes_no_name_and_no_number() -> None:
    detector, plain = a_detector().eval(), a_detector().eval()
    plain.load_state_dict(detector.state_dict())
    prepare(detector, Settings(channels_last=True))
    batch = torch.randn(1, 3, 64, 96)
    assert_close(detector.extract(batch), plain.extract(batch), rtol=1e-4, atol=1e-5)
    assert list(detector.state_dict()) == list(plain.state_dict())
    assert any(p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in detector.parameters())


def test_activations_are_computed_again_where_norms_count_nothing() -> None:
    frozen = overrides("MODEL.RESNETS.NORM FrozenBN  MODEL.FPN.NORM ''")
    detector, plain = a_detector(*frozen).train(), a_detector(*frozen).train()
    plain.load_state_dict(detector.state_dict())
    prepare(detector, Settings(recompute=True))
    batch = torch.randn(2, 3, 64, 96)
    for one in (detector, plain):
        torch.stack([feature.square().sum() for feature in one.extract(batch).values()]).sum().backward()
    for (name, own), other in zip(detector.backbone.named_parameters(), plain.backbone.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None), name
        if own.grad is not None:
            assert_close(own.grad, other.grad)


def test_batch_norms_would_count_twice() -> None:
    with pytest.raises(ConfigError, match="--recompute: would feed batch norms' statistics twice"):
        prepare(a_detector("MODEL.RESNETS.NORM", "BN"), Settings(recompute=True))


def test_class_weights_reach_the_loss() -> None:
    detector = a_detector(*RETINANET)
    prepare(detector, Settings(class_weights=(1.0, 3.0)))
    assert detector.get_buffer("class_weights").tolist() == [1.0, 3.0]
