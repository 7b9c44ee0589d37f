"""Which numbers a forward pass computes in."""

import pytest
import torch

from sightline.errors import ConfigError
from sightline.training.precision import Precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("enabled", "kind", "name", "computed", "scales"),
    [
        (False, "auto", "float32", torch.float32, False),
        (False, "fp16", "float32", torch.float32, False),
        (True, "auto", "bfloat16", torch.bfloat16, False),
        (True, "bf16", "bfloat16", torch.bfloat16, False),
        (True, "fp16", "float16", torch.float16, True),
    ],
)
def test_what_is_computed_in(enabled: bool, kind: str, name: str, computed: torch.dtype, scales: bool) -> None:
    precision = Precision(enabled=enabled, kind=kind, device=CPU)
    layer = torch.nn.Linear(2, 2)
    with precision.forward():
        assert layer(torch.ones(1, 2)).dtype is computed
    assert (str(precision), precision.scaler.is_enabled()) == (name, scales)
    assert layer.weight.dtype is torch.float32


def test_an_unknown_kind() -> None:
    with pytest.raises(ConfigError, match=r"--precision: is 'fp8'\. Choose from auto, bf16, fp16"):
        Precision(enabled=True, kind="fp8", device=CPU)
