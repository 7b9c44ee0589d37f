"""Learning rates worked out by hand; Detectron2's own curves are compared in the parity tests."""

import math
from dataclasses import replace

import pytest
from torch.testing import assert_close

from sightline.config.schema import Solver
from sightline.training.schedule import cosine, equal_steps, lr_factor, multi_step


def curve(**changes: object) -> list[float]:
    """The factor at every step of a run of 10 steps, without warm-up unless asked for."""
    solver = replace(Solver(max_iter=10, warmup_iters=0, warmup_factor=0.5, gamma=0.1, base_lr=1.0), **changes)  # type: ignore[arg-type]
    factor = lr_factor(solver)
    return [factor(step) for step in range(solver.max_iter)]


HALF_COSINE = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"steps": (3, 6)}, [1.0] * 3 + [0.1] * 3 + [0.01] * 4, id="milestones act at their step"),
        pytest.param({"steps": (6, 3)}, [1.0] * 3 + [0.1] * 3 + [0.01] * 4, id="milestones in any order"),
        pytest.param({"steps": ()}, [1.0] * 10, id="no milestones"),
        pytest.param({"steps": (5, 11, 99)}, [1.0] * 5 + [0.1] * 5, id="milestones beyond the run"),
        pytest.param({"steps": (), "warmup_iters": 2}, [0.5, 0.75] + [1.0] * 8, id="linear warm-up"),
        pytest.param(
            {"steps": (), "warmup_iters": 2, "warmup_method": "constant"}, [0.5, 0.5] + [1.0] * 8, id="constant warm-up"
        ),
        pytest.param(
            {"steps": (2,), "warmup_iters": 4}, [0.5, 0.4, 0.3, 0.2] + [0.1] * 6, id="warm-up ends where the main curve is then"
        ),
        pytest.param({"steps": (), "warmup_iters": 99}, [0.5 + 0.05 * step for step in range(10)], id="warm-up over all"),
        pytest.param({"lr_scheduler_name": "WarmupCosineLR"}, HALF_COSINE, id="half a cosine"),
        pytest.param(
            {"lr_scheduler_name": "WarmupCosineLR", "base_lr_end": 0.2, "base_lr": 2.0},
            [0.1 + 0.9 * value for value in HALF_COSINE],
            id="half a cosine down to a tenth",
        ),
        pytest.param(
            {"lr_scheduler_name": "WarmupCosineLR", "warmup_iters": 2},
            [0.5, 0.5 + (HALF_COSINE[2] - 0.5) / 2, *HALF_COSINE[2:]],
            id="cosine begins underneath its warm-up",
        ),
        pytest.param(
            {"lr_scheduler_name": "WarmupCosineLR", "warmup_iters": 2, "rescale_interval": True},
            [0.5, 0.75, *(0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8))],
            id="rescaled: cosine begins after its warm-up",
        ),
        pytest.param(
            {"lr_scheduler_name": "WarmupStepWithFixedGammaLR", "num_decays": 4},
            [1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4],
            id="equal steps",
        ),
        pytest.param(
            {"lr_scheduler_name": "WarmupStepWithFixedGammaLR", "num_decays": 1, "warmup_iters": 2},
            [0.5, 0.75] + [1.0] * 3 + [0.1] * 5,
            id="equal steps after a warm-up",
        ),
    ],
)
def test_curves(changes: dict[str, object], expected: list[float]) -> None:
    assert_close(curve(**changes), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("total", [7, 90, 1000, 90_000, 270_000])
@pytest.mark.parametrize("share", [1 / 3, 0.5, 7 / 9])
def test_a_milestone_never_slips_by_a_step(total: int, share: float) -> None:
    """step / total * total is not always step in floating point; Detectron2's tolerance repairs it."""
    milestone = round(total * share)
    factor = lr_factor(Solver(max_iter=total, steps=(milestone,), warmup_iters=0, gamma=0.1))
    assert (factor(milestone - 1), factor(milestone)) == (1.0, 0.1)


def test_the_parts_by_themselves() -> None:
    assert multi_step((5,), 0.1, 10)(0.5) == 0.1
    assert cosine(0.0)(1.0) == 0.0
    assert equal_steps(3, 0.5)(1.0) == 0.125  # the end belongs to the last part
