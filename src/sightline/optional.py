"""Libraries that are not needed by everyone: imported where they are used, with a sentence that says how to get them."""

import importlib
from types import ModuleType

from sightline.errors import MissingDependencyError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """The imported module; `require("uvicorn", "serve", "sightline serve")`.

    Raises:
        MissingDependencyError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".", maxsplit=1)[0]:
            raise  # it is installed, and something inside it is missing
        raise MissingDependencyError(
            purpose, f"needs {module!r}, which is not installed", f"Run: pip install 'sightline[{extra}]'"
        ) from error
