"""What is told of the machine, and of the memory that the process takes."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightline.benchmarking import machine


def test_the_facts() -> None:
    told = machine.facts({})
    assert told["cores"] and told["processor"] and told["python"]
    assert {"numpy", "sightline"} <= set(machine.versions())


@pytest.mark.parametrize(
    ("environ", "vendor", "product", "expected"),
    [
        pytest.param({"SM_CURRENT_INSTANCE_TYPE": "ml.m5.xlarge"}, "", "", "ml.m5.xlarge", id="SageMaker tells"),
        pytest.param({}, "Amazon EC2", "g5.xlarge", "ml.g5.xlarge", id="EC2's name"),
        pytest.param({}, "QEMU", "Standard PC", None, id="another machine"),
        pytest.param({}, "", "", None, id="nothing"),
    ],
)
def test_the_instance_type(environ: dict[str, str], vendor: str, product: str, expected: str | None, tmp_path: Path) -> None:
    if vendor:
        (tmp_path / "sys_vendor").write_text(f"{vendor}\n")
        (tmp_path / "product_name").write_text(f"{product}\n")
    assert machine.instance_type(environ, tmp_path) == expected


PEAKS = """
import numpy as np
from sightline.benchmarking import machine
forgets = machine.begin_peak()
held = np.ones(64 * 2**20, np.uint8)
high = machine.peak_bytes()
del held
machine.begin_peak()
print(int(forgets), high, machine.peak_bytes())
"""


def test_a_peak_is_that_since_it_was_begun() -> None:
    """In a process of its own: what other tests have left gives memory back when it likes."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    forgets, high, later = map(int, done.stdout.split())
    if not forgets:
        pytest.skip("this system cannot forget peaks")
    assert later < high - 32 * 2**20


class Cuda:
    """What `torch.cuda` has of it, without a GPU."""

    def __init__(self, *, initialised: bool = True) -> None:
        self.initialised, self.calls = initialised, list[str]()

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.initialised

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def reset_peak_memory_stats(self) -> None:
        self.calls.append("reset")

    def max_memory_allocated(self) -> int:
        return 7


def test_a_gpu_in_use_is_waited_for_and_its_memory_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    machine.synchronise()
    machine.begin_peak()
    assert cuda.calls == ["synchronize", "reset"]
    assert machine.peak_gpu_bytes() == 7


def test_a_gpu_that_is_not_in_use_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(initialised=False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    machine.synchronise()
    assert cuda.calls == []
    assert machine.peak_gpu_bytes() is None
