"""What takes long, made short behind the options: words are read and checked as given, and then there is less of everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from builders import overrides

SMALLER = overrides(
    """
    MODEL.RESNETS.STEM_OUT_CHANNELS 8  MODEL.RESNETS.RES2_OUT_CHANNELS 8  MODEL.RESNETS.WIDTH_PER_GROUP 4
    MODEL.FPN.OUT_CHANNELS 16  MODEL.ROI_BOX_HEAD.FC_DIM 16
    MODEL.RPN.BATCH_SIZE_PER_IMAGE 32  MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 16  MODEL.DEVICE cpu
    INPUT.MIN_SIZE_TRAIN (48,64)  INPUT.MAX_SIZE_TRAIN 96  INPUT.MIN_SIZE_TEST 64  INPUT.MAX_SIZE_TEST 96
    SOLVER.IMS_PER_BATCH 2  SOLVER.BASE_LR 0.001
    """
)
"""Keys of every configuration that a command begins from."""

DOWNLOADED = ("MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN")
"""In place of weights that a configuration itself would download."""

MOST_STEPS, MOST_TRIALS, MOST_DRAWN = 6, 2, 24


AS_ASKED: list[bool] = []
"""Not empty while configurations stay as they are."""


@contextmanager
def as_asked() -> Iterator[None]:
    """What only looks at a configuration looks at the whole one."""
    AS_ASKED.append(True)
    try:
        yield
    finally:
        AS_ASKED.pop()


def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations, after the user's own keys."""
    from sightline.config import sources
    from sightline.downloads import is_address

    def behind(real: Any) -> Any:
        def load(*given: Any) -> Any:
            *before, keys = given
            asked = real(*before, keys)
            if AS_ASKED:
                return asked
            more = DOWNLOADED if is_address(asked.model.weights) and "MODEL.WEIGHTS" not in keys else ()
            return real(*before, [*keys, *SMALLER, *more])

        return load

    monkeypatch.setattr(sources, "load_file", behind(sources.load_file))
    monkeypatch.setattr(sources, "load_values", behind(sources.load_values))


def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings, searches and demonstrations."""
    from sightline import journey
    from sightline.training import run
    from sightline.tuning import tune

    def decided(config: Any, *rest: Any, real: Any = run.decided) -> Any:
        config, said = real(config, *rest)
        steps = min(config.solver.max_iter, MOST_STEPS, 2 + config.solver.max_iter // 100)
        period = min(config.test.eval_period, steps // 2)
        solver = replace(config.solver, max_iter=steps, warmup_iters=1)
        return replace(config, solver=solver, test=replace(config.test, eval_period=period)), said

    def search(*given: Any, real: Any = tune.tune, trials: int, **options: Any) -> Any:
        return real(*given, trials=min(trials, MOST_TRIALS), **options)

    def demo(*given: Any, real: Any = journey.demo, pictures: int = MOST_DRAWN, **options: Any) -> Any:
        return real(*given, pictures=min(pictures, MOST_DRAWN), **options)

    monkeypatch.setattr(run, "decided", decided)
    monkeypatch.setattr(run, "default_workers", lambda _: 0)
    monkeypatch.setattr(tune, "tune", search)
    monkeypatch.setattr(journey, "demo", demo)


def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements: few samples, and no fresh processes."""
    from sightline.benchmarking import run

    def benchmark(*given: Any, real: Any = run.benchmark, asked: Any = None, **options: Any) -> Any:
        short = replace(asked or run.Asked(), samples=5, limit_s=0.05, warm_up=1, start_runs=0)
        return real(*given, asked=replace(short, batch_sizes=short.batch_sizes[:2]), **options)

    monkeypatch.setattr(run, "benchmark", benchmark)


def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller(monkeypatch)
    shorter(monkeypatch)
    quicker(monkeypatch)
