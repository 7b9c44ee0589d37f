"""SGD with Detectron2's parameter groups: norms and biases decay and learn at their own rates."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from sightline.config.schema import Solver
from sightline.errors import ConfigError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)

Clip = Callable[[Iterable[nn.Parameter]], None]


def parameter_groups(model: nn.Module, solver: Solver) -> list[dict[str, object]]:
    """Learning parameters in groups of equal rate and decay, in the model's order. `initial_lr` is what schedules multiply."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            lr, decay = solver.base_lr, solver.weight_decay
            if isinstance(module, NORMS):
                decay = solver.weight_decay_norm
            if name == "bias":
                lr *= solver.bias_lr_factor
                decay = decay if solver.weight_decay_bias is None else solver.weight_decay_bias
            groups.setdefault((lr, decay), []).append(parameter)
    return [{"params": found, "lr": lr, "initial_lr": lr, "weight_decay": decay} for (lr, decay), found in groups.items()]


def build_optimizer(model: nn.Module, solver: Solver) -> torch.optim.SGD:
    """SGD with momentum, as SOLVER says.

    Raises:
        ConfigError: torch refuses the numbers, or nothing would learn.
    """
    try:
        return torch.optim.SGD(
            parameter_groups(model, solver), lr=solver.base_lr, momentum=solver.momentum, nesterov=solver.nesterov
        )
    except ValueError as error:
        raise ConfigError("SOLVER", f"cannot be used ({error})", "Correct it.") from error


def leave(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients as they are."""


def build_clip(solver: Solver) -> Clip:
    """What happens to gradients before a step: nothing, or SOLVER.CLIP_GRADIENTS, which clips every parameter by itself."""
    options = solver.clip_gradients
    if not options.enabled:
        return leave
    if options.clip_type == "value":
        return lambda parameters: nn.utils.clip_grad_value_(parameters, options.clip_value)

    def by_norm(parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            nn.utils.clip_grad_norm_(parameter, options.clip_value, options.norm_type)

    return by_norm
