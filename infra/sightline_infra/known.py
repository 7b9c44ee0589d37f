"""Names that the app cannot ask anybody for: hyperparameters of the training container, machines of SageMaker.

Copies, since the app has no `sightline` and no botocore beside it; tests/infra/test_known.py holds them to the originals.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
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


def names(*groups: tuple[str, str]) -> tuple[str, ...]:
    """The machines of groups (families, their sizes)."""
    return tuple(f"ml.{family}.{size}" for families, sizes in groups for family in families.split() for size in sizes.split())


MACHINES = names(
    ("t2", "medium large xlarge 2xlarge"),
    ("m4", "xlarge 2xlarge 4xlarge 10xlarge 16xlarge"),
    ("m5 m5d r5 r5d", "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge"),
    ("c4", "large xlarge 2xlarge 4xlarge 8xlarge"),
    ("p2", "xlarge 8xlarge 16xlarge"),
    ("p3", "2xlarge 8xlarge 16xlarge"),
    ("c5 c5d", "large xlarge 2xlarge 4xlarge 9xlarge 18xlarge"),
    ("g4dn", "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("inf1", "xlarge 2xlarge 6xlarge 24xlarge"),
    ("dl1 p4d p4de", "24xlarge"),
    ("c6i m6i r6i c6in", "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"),
    ("g5 g6 g6e", "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("r8g c8g m8g", "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("g7e g7", "2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge"),
    ("c7g m6g m6gd c6g c6gd c6gn r6g r6gd", "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("trn1", "2xlarge 32xlarge"),
    ("trn1n", "32xlarge"),
    ("trn2 p5e p5en p6-b200 p6-b300", "48xlarge"),
    ("inf2", "xlarge 8xlarge 24xlarge 48xlarge"),
    ("p5", "4xlarge 48xlarge"),
    ("m7i c7i r7i", "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"),
    ("r7gd", "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("p6e-gb200", "36xlarge"),
)  # fmt: skip
"""Of endpoints, as botocore 1.44.5 knows them."""

TRAINING_MACHINES = names(
    ("c5n", "xlarge 2xlarge 4xlarge 9xlarge 18xlarge"),
    ("c7i-flex c8i-flex", "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("c8i", "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge"),
    ("m7i-flex m8i-flex r8i-flex", "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"),
    ("m8i r8i", "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge 48xlarge 96xlarge"),
    ("p3dn", "24xlarge"),
    ("r5 r5d", "8xlarge 16xlarge"),
    ("t3", "medium large xlarge 2xlarge"),
)  # fmt: skip
"""Those that trainings may have beside them."""


def machine_warnings(key: str, machine: str, known: Sequence[str]) -> Iterator[str]:
    """That nobody here knows this machine: SageMaker may have it all the same, newer than this list."""
    if machine and machine not in known:
        near = get_close_matches(machine, known, n=3)
        fix = f"Did you mean {' or '.join(near)}?" if near else "SageMaker's price list names them."
        yield f"{key}: is {machine!r}, which this app does not know. {fix}"


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
