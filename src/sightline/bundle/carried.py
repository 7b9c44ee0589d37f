"""`code/` of a bundle: what AWS's PyTorch inference containers need to run it. Sightline itself never runs any of it.

The containers install `requirements.txt` and import `inference.py`. Sightline travels along as source, in a zip that Python
imports from: so a bundle is served by the version that packed it, the container's own torch stays (pip would replace one that
is older than Sightline asks for), and no registry needs to have Sightline under its name.
"""

import io
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from sightline import __version__
from sightline.bundle.archive import CODE
from sightline.errors import BundleError

SCRIPT, REQUIREMENTS = f"{CODE}inference.py", f"{CODE}requirements.txt"
PACKAGE = f"{CODE}sightline-{__version__}.zip"

NEEDED_THERE = ("numpy>=1.26", "Pillow>=10.3", "PyYAML>=6.0", "faster-coco-eval>=1.7.2", "msgspec>=0.19", "starlette>=0.41")
"""What pip shall install in the container: what prediction imports. torch and torchvision are the container's own."""

LEAVE_OUT = ("tests", "__pycache__")
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the zip; the format knows no earlier one."""

INFERENCE = f'''"""This bundle in AWS's PyTorch inference containers, whose toolkit calls these four functions.

Written by Sightline {__version__}, which lies beside it as source.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(path) for path in Path(__file__).resolve().parent.glob("sightline-*.zip")]

from sightline.serving.toolkit import input_fn, model_fn, output_fn, predict_fn  # noqa: E402

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
'''


def code_members(requirements: Path | None = None) -> dict[str, bytes]:
    """{name: content} of `code/`; the same bytes for the same version.

    requirements: a file to take instead of the requirements of Sightline itself

    Raises:
        BundleError: it cannot be read.
    """
    return {SCRIPT: INFERENCE.encode(), REQUIREMENTS: requirements_text(requirements), PACKAGE: package_source()}


def requirements_text(given: Path | None) -> bytes:
    """What pip shall install in the container, one line each."""
    if given is None:
        return "".join(f"{line}\n" for line in NEEDED_THERE).encode()
    try:
        return given.read_bytes()
    except OSError as error:
        raise BundleError(given, f"cannot be read ({error.strerror or error})", "Give a requirements file of pip.") from error


def package_source() -> bytes:
    """The package `sightline` as a zip that depends on nothing but its content (no times, no owners)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(sources(files("sightline"), "sightline")):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file of the package."""
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.is_dir() and entry.name not in LEAVE_OUT:
            yield from sources(entry, name)
        elif entry.is_file() and not entry.name.endswith((".pyc", ".pyo", "~")) and not entry.name.startswith("."):
            yield name, entry.read_bytes()
