"""SGD with Detectron2's parameter groups: norms and biases decay and learn at their own rates."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from sightline.config.schema import Solver
from sightline.errors import ConfigError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)

Clip = Callable[[Iterable[nn.Parameter]], None]


def parameter_groups(model: nn.Module, solver: Solver) -> list[dict[str, object]]:
    """Learning parameters in groups of equal rate and decay, in the model's order. `initial_lr` is what schedules multiply.

    Groups are Detectron2's: a decay that a key of its own sets makes another group than the common one, even where the two are
    equal. An optimizer's state is kept by group and place, so only with the same groups can either side go on from the other's.
    """
    groups: dict[tuple[float, float | None], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            lr = solver.base_lr
            own_decay = solver.weight_decay_norm if isinstance(module, NORMS) else None
            if name == "bias":
                lr *= solver.bias_lr_factor
                own_decay = own_decay if solver.weight_decay_bias is None else solver.weight_decay_bias
            groups.setdefault((lr, own_decay), []).append(parameter)
    return [
        {"params": found, "lr": lr, "initial_lr": lr, "weight_decay": solver.weight_decay if own_decay is None else own_decay}
        for (lr, own_decay), found in groups.items()
    ]


def build_optimizer(model: nn.Module, solver: Solver) -> torch.optim.SGD:
    """SGD with momentum, as SOLVER says; on a GPU in one kernel for all tensors.

    Raises:
        ConfigError: torch refuses the numbers, or nothing would learn.
    """
    groups = parameter_groups(model, solver)
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])  # type: ignore[attr-defined]
    try:
        return torch.optim.SGD(
            groups,
            lr=solver.base_lr,
            momentum=solver.momentum,
            nesterov=solver.nesterov,
            fused=True if groups and on_gpu else None,
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
