"""Results as a benchmark leaves them, and a clock that tells what a test wants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_detector, a_picture

from sightline.benchmarking.results import Batch, Cost, Price, Result
from sightline.benchmarking.spread import spread
from sightline.records import Detections, Image, ImageSize

HOURLY = Price("us-east-1", "a list", "2026-09-28", instance_type="ml.c5.large", usd_per_hour=0.36)
MACHINE: dict[str, Any] = {
    "processor": "a processor", "cores": 2, "gpu": None, "load": [0.1, 0.1, 0.1], "versions": {"numpy": "2"},
    "instance_type": None,
}  # fmt: skip


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def find(images: Sequence[Image]) -> list[Detections]:
    """One box in every picture."""
    box, score, label = np.float32([[1, 2, 3, 4]]), np.float32([0.9]), np.int64([1])
    return [Detections(ImageSize(*image.shape[:2]), box, score, label) for image in images]


def a_cost(price: Price = HOURLY, **changes: Any) -> Cost:
    return replace(Cost(price, 0.1, 0.05, "batches of 4", False, ("its arithmetic",)), **changes)


def a_result(times: Sequence[float] = (1.0,) * 100, **changes: Any) -> Result:
    """100 pictures of one second each, on a machine that is no instance."""
    defaults: dict[str, Any] = {
        "target": "model.tar.gz", "kind": "local", "date": "2026-11-21T10:00:00+00:00", "command": "sightline benchmark",
        "machine": MACHINE, "pictures": 2, "picture_px": "100 x 80 px", "sha256": "ab" * 32, "model_bytes": 2**20,
        "device": "cpu", "warm_up": 6, "settled": True, "latency": spread(times),
    }  # fmt: skip
    return Result(**(defaults | changes))


def a_batch(size: int, seconds: float, rate: float) -> Batch:
    return Batch(size, spread([seconds] * 20), predict_per_s=rate, pictures_per_s=rate, peak_bytes=2**30)


@pytest.fixture(scope="session")
def fake_predict() -> Callable[[Sequence[Image]], list[Detections]]:
    return find


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two pictures of 100 x 80 px."""
    for name in ("a.jpg", "b.jpg"):
        a_picture(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector with random weights, packed."""
    import torch
    from builders import a_config

    from sightline.bundle.pack import pack_files
    from sightline.config.yaml_dialect import dump

    folder = tmp_path_factory.mktemp("bundle")
    torch.save({"model": a_detector().state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(dump(a_config()), encoding="utf-8")
    pack_files(folder / "model.pth", str(folder / "config.yaml"), folder / "model.tar.gz", ["bee", "wasp"])
    return folder / "model.tar.gz"


@pytest.fixture
def make_result() -> Callable[..., Result]:
    return a_result


@pytest.fixture
def make_cost() -> Callable[..., Cost]:
    return a_cost


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return a_batch
