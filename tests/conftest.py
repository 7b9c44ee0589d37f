"""What several rooms' tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real labels and pictures: the folder `SIGHTLINE_SHARED`, or `shared` beside the repository. Skips where there is none."""
    folder = Path(os.environ.get("SIGHTLINE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs real data in {folder}: set SIGHTLINE_SHARED to its folder")
    return folder
