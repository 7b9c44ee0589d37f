"""Names that the app cannot ask anybody for: hyperparameters of the training container, machines of SageMaker.

Copies, since the app has no `sightline` and no botocore beside it; tests/infra/test_known.py holds them to the originals.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

HYPERPARAMETERS = (
    "weights", "split", "validate-on", "fold", "device", "workers", "epochs", "batch-size", "learning-rate", "image-size",
    "seed", "patience", "metric", "time-limit", "keep", "on-bad-picture", "precision", "accumulate", "ema", "recompute",
    "compile", "channels-last", "colour", "rotate", "scale-jitter", "mosaic", "class-weights", "tensorboard", "mlflow",
    "config", "opts", "processes", "fractions", "split-seed", "group-by", "format", "on-problem", "eval-only",
    "label-attribute", "drop-rejected", "rejected", "min-confidence", "class-attribute", "class-name", "voc-origin",
    "class", "rename", "drop", "on-duplicate", "same-picture", "config-file", "local-config-file", "num-gpus", "resume",
    "num-machines", "machine-rank", "dist-url", "num-cpus", "backend", "hosts", "current-host", "model-dir",
)  # fmt: skip
"""What `sightline.containers.hyperparameters` reads or leaves to the platform."""

KEYS = ("CUDNN_BENCHMARK", "FLOAT32_PRECISION", "OUTPUT_DIR", "SEED", "VERSION", "VIS_PERIOD")
"""Detectron2's keys without a dot."""

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")
"""Its other keys: SOLVER.BASE_LR. The container knows which there are."""

IGNORED = ("sagemaker_", "_tuning_objective_metric")
"""Beginnings of names that are for AWS's toolkits and tuning jobs."""


def hyperparameter_problems(given: Mapping[str, str]) -> Iterator[str]:
    """Names that the container would refuse, when the paid training has begun."""
    for name in given:
        plain = name.lstrip("-").replace("_", "-").lower()
        if name in KEYS or KEY.fullmatch(name) or name.startswith(IGNORED) or (plain in HYPERPARAMETERS and "." not in name):
            continue
        near = get_close_matches(name.upper(), KEYS, n=1) if name.isupper() else []
        near = near or get_close_matches(plain, HYPERPARAMETERS, n=1)
        fix = f"Did you mean {near[0]}?" if near else "docs/containers.md lists them."
        yield f"hyperparameters: {name!r} is none. {fix} Detectron2's keys have capitals and dots: SOLVER.BASE_LR."
