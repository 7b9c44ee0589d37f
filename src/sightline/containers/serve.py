"""The entry point `serve`: what the platform starts in a serving container.

Becomes `sightline serve` on what is in `/opt/ml/model`, for everyone who can reach the container. What else the platform's
variables say (SAGEMAKER_BIND_TO_PORT, ...) that command reads itself: docs/wire.md has the table. It replaces this process, so
that it is process 1 of the container and gets SIGTERM.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sightline.containers.hyperparameters import TRUE
from sightline.containers.opt_ml import OptMl
from sightline.errors import BundleError, SightlineError

EVERYONE = "0.0.0.0"

WEIGHTS = ("*.pth", "*.pkl", "*.onnx")


def serve_words(opt_ml: OptMl, environ: Mapping[str, str]) -> list[str]:
    """The command that serves what the platform has put there.

    Raises:
        BundleError: there is no model.
    """
    if environ.get("SAGEMAKER_MULTI_MODEL", "").lower() in TRUE:
        return ["serve", str(opt_ml.models), "--host", EVERYONE, "--multi-model"]
    return ["serve", str(model_in(opt_ml.model)), "--host", EVERYONE]


def model_in(folder: Path) -> Path:
    """The folder that holds the model's files: this one, or the only one in it. An archive in the archive counts as a folder.

    Raises:
        BundleError: there is none, or there are several.
    """
    if any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        return folder
    inside = [path for path in sorted(folder.glob("*")) if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".tar"))]
    holding = [path for path in inside if path.is_file() or any(next(path.glob(pattern), None) for pattern in WEIGHTS)]
    if len(holding) != 1:
        names = ", ".join(path.name for path in sorted(folder.glob("*"))) or "nothing"
        what = f"holds no model (there is {names})" if not holding else f"holds several models ({', '.join(map(str, holding))})"
        raise BundleError(folder, what, "Deploy a model.tar.gz that `sightline bundle pack` made, or a training job's.")
    return holding[0]


def main() -> None:
    """`serve`. Words behind it go to `sightline serve`, except the platform's own `serve`."""
    words = sys.argv[2:] if sys.argv[1:2] == ["serve"] else sys.argv[1:]
    try:
        command = [sys.executable, "-m", "sightline", *serve_words(OptMl.from_env(os.environ), os.environ), *words]
    except SightlineError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
