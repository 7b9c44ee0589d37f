"""Parameter groups and clipping, as SOLVER says."""

from dataclasses import replace

import pytest
import torch
from builders import a_detector
from torch import nn
from torch.testing import assert_close

from sightline.config.schema import ClipGradients, Solver
from sightline.errors import ConfigError
from sightline.training.optimizer import build_clip, build_optimizer, parameter_groups

SOLVER = Solver(base_lr=0.1, weight_decay=0.01, weight_decay_norm=0.0, momentum=0.8)

Rates = tuple[float, float]


def a_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def by_name(model: nn.Module, solver: Solver) -> dict[str, tuple[object, object]]:
    """{parameter name: (learning rate, weight decay)}."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, solver)
    return {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "conv", "norm", "bias", "norm_bias"),
    [
        pytest.param({}, (0.1, 0.01), (0.1, 0.0), (0.1, 0.01), (0.1, 0.0), id="norms do not decay"),
        pytest.param(
            {"bias_lr_factor": 2.0, "weight_decay_bias": 0.0}, (0.1, 0.01), (0.1, 0.0), (0.2, 0.0), (0.2, 0.0), id="biases"
        ),
        pytest.param(
            {"weight_decay_norm": 0.5, "weight_decay_bias": 0.25},
            (0.1, 0.01),
            (0.1, 0.5),
            (0.1, 0.25),
            (0.1, 0.25),
            id="decays",
        ),
    ],
)
def test_rates_and_decays(changes: dict[str, float], conv: Rates, norm: Rates, bias: Rates, norm_bias: Rates) -> None:
    found = by_name(a_model(), replace(SOLVER, **changes))  # type: ignore[arg-type]
    assert found == {
        "0.weight": conv,
        "0.bias": bias,
        "1.weight": norm,
        "1.bias": norm_bias,
        "3.weight": conv,
        "3.bias": bias,
    }


def test_a_decay_of_its_own_makes_a_group_even_where_it_equals_the_common_one() -> None:
    """Else an optimizer's state would lie at other places than in Detectron2."""
    solver = replace(SOLVER, weight_decay_norm=SOLVER.weight_decay)
    sizes = [len(group["params"]) for group in parameter_groups(a_model(), solver)]  # type: ignore[arg-type]
    assert sizes == [4, 2]
    assert {group["weight_decay"] for group in parameter_groups(a_model(), solver)} == {SOLVER.weight_decay}


def test_group_norms_and_layer_norms_are_norms() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2))
    assert set(by_name(model, SOLVER).values()) == {(0.1, 0.0)}


def test_what_is_frozen_does_not_learn() -> None:
    model = a_detector("MODEL.BACKBONE.FREEZE_AT", "2")
    learning = set(by_name(model, SOLVER))
    assert learning == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("backbone.bottom_up.stem", "backbone.bottom_up.res2")) for name in learning)
    assert any(name.startswith("backbone.bottom_up.res3") for name in learning)


def test_a_shared_parameter_comes_once() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    groups = parameter_groups(nn.Sequential(one, other), SOLVER)
    assert sum(len(group["params"]) for group in groups) == 3  # type: ignore[arg-type]


def test_schedules_start_from_the_groups_own_rate() -> None:
    optimizer = build_optimizer(a_model(), replace(SOLVER, bias_lr_factor=2.0, nesterov=True))
    assert {group["initial_lr"] for group in optimizer.param_groups} == {0.1, 0.2}
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0.8, True)}


def test_one_step_by_hand() -> None:
    """weight -= lr (gradient + decay * weight)."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    layer.weight.grad = torch.tensor([[1.0]])
    build_optimizer(layer, SOLVER).step()
    assert_close(layer.weight.data, torch.tensor([[2.0 - 0.1 * (1.0 + 0.01 * 2.0)]]))


@pytest.mark.parametrize(
    ("model", "solver", "message"),
    [
        (a_model(), replace(SOLVER, nesterov=True, momentum=0.0), r"SOLVER: cannot be used \(Nesterov momentum requires"),
        (nn.ReLU(), SOLVER, r"SOLVER: cannot be used \(.*empty parameter list"),
    ],
)
def test_what_torch_refuses(model: nn.Module, solver: Solver, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer(model, solver)


def parameters_with_gradients() -> list[nn.Parameter]:
    found = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    found[0].grad, found[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([0.5])
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"enabled": False}, [[3.0, -4.0], [0.5]], id="off"),
        pytest.param({"clip_type": "value", "clip_value": 1.0}, [[1.0, -1.0], [0.5]], id="every number by itself"),
        pytest.param({"clip_type": "norm", "clip_value": 1.0}, [[0.6, -0.8], [0.5]], id="every parameter by itself"),
        pytest.param(
            {"clip_type": "norm", "clip_value": 3.5, "norm_type": 1.0}, [[1.5, -2.0], [0.5]], id="by the sum of sizes"
        ),
    ],
)
def test_clipping(options: dict[str, object], expected: list[list[float]]) -> None:
    parameters = parameters_with_gradients()
    build_clip(Solver(clip_gradients=ClipGradients(**({"enabled": True} | options))))(parameters)  # type: ignore[arg-type]
    found = [parameter.grad for parameter in parameters]
    assert_close(found[:2], [torch.tensor(row) for row in expected], rtol=1e-5, atol=1e-6)
    assert found[2] is None
