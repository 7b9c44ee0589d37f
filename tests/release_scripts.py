"""The scripts of `release/`, which are no package, as modules for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    """A script of `release/`."""
    spec = importlib.util.spec_from_file_location(f"release_{name}", REPOSITORY / "release" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
