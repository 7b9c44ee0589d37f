"""The learning rate over a run: Detectron2's schedules as plain functions of the step.

Each gives the factor on SOLVER.BASE_LR. fvcore measures progress as step / MAX_ITER with a tolerance of 1e-6, which
decides the step at which a milestone acts; the same tolerance is kept here.
"""

import math
from bisect import bisect_right
from collections.abc import Callable

from sightline.config.schema import Solver

TOLERANCE = 1e-6

Factor = Callable[[float], float]
"""Progress in [0, 1] -> factor on the base learning rate."""


def multi_step(steps: tuple[int, ...], gamma: float, total: int) -> Factor:
    """gamma to the number of milestones passed. Milestones beyond the run never act."""
    milestones = sorted(step for step in steps if step <= total)
    return lambda progress: gamma ** bisect_right(milestones, int((progress + TOLERANCE) * total))


def cosine(end: float) -> Factor:
    """Half a cosine from 1 to `end`."""
    return lambda progress: end + 0.5 * (1 - end) * (1 + math.cos(math.pi * progress))


def equal_steps(decays: int, gamma: float) -> Factor:
    """gamma to the number of equal parts passed, `decays` + 1 parts in all."""
    return lambda progress: gamma ** min(int((progress + TOLERANCE) * (decays + 1)), decays)


def with_warmup(main: Factor, *, method: str, factor: float, share: float, rescale: bool) -> Factor:
    """`main`, begun at `factor` of itself and risen to it over the first `share` of the run (arXiv:1706.02677).

    rescale: begin `main` after the warm-up instead of running it underneath
    """
    start = factor * main(0.0)
    end = main(0.0) if rescale else main(share)

    def value(progress: float) -> float:
        if share <= 0 or progress + TOLERANCE > share:
            return main((progress - share) / (1 - share) if rescale and share < 1 else progress)
        if method == "constant":
            return start
        return start + (end - start) * progress / share

    return value


def lr_factor(solver: Solver) -> Callable[[int], float]:
    """step -> factor on SOLVER.BASE_LR, as the configuration's schedule says."""
    total = solver.max_iter
    mains: dict[str, Callable[[], Factor]] = {
        "WarmupMultiStepLR": lambda: multi_step(solver.steps, solver.gamma, total),
        "WarmupCosineLR": lambda: cosine(solver.base_lr_end / solver.base_lr),
        "WarmupStepWithFixedGammaLR": lambda: equal_steps(solver.num_decays, solver.gamma),
    }
    factor = with_warmup(
        mains[solver.lr_scheduler_name](),
        method=solver.warmup_method,
        factor=solver.warmup_factor,
        share=min(solver.warmup_iters / total, 1.0),
        rescale=solver.rescale_interval,
    )
    return lambda step: factor(step / total)
