"""The machine that a benchmark runs on: what it is, what memory the process takes, when a GPU has finished."""

import os
import platform
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sightline.processors import cores

PROC = Path("/proc")
DMI = Path("/sys/devices/virtual/dmi/id")
TOLD_VERSIONS = ("sightline", "torch", "torchvision", "onnxruntime", "openvino", "numpy", "Pillow")
INSTANCE_VARIABLES = ("SM_CURRENT_INSTANCE_TYPE",)
"""Where SageMaker tells a container what it runs on."""


def facts(environ: Mapping[str, str]) -> dict[str, object]:
    """What must be known of the machine for its figures to mean something. A GPU is told where torch is in use and has one."""
    cuda = cuda_in_use()
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "gpu": cuda.get_device_name() if cuda else None,
        "gpu_memory_bytes": cuda.get_device_properties(0).total_memory if cuda else None,
        "instance_type": instance_type(environ),
        "load": list(os.getloadavg()),
        "threads": threads(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what has a say in speed, as far as it is installed."""
    found = {}
    for name in TOLD_VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def processor() -> str:
    with suppress(OSError):
        for line in (PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def threads() -> int | None:
    """Those of torch for one operation; None where torch is not in use."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def instance_type(environ: Mapping[str, str], dmi: Path = DMI) -> str | None:
    """As SageMaker's environment tells it (ml.g5.xlarge), or by the name that EC2 gives its machines; None: none, or hidden."""
    for name in INSTANCE_VARIABLES:
        if environ.get(name):
            return environ[name]
    with suppress(OSError):
        if (dmi / "sys_vendor").read_text().strip() == "Amazon EC2":
            return f"ml.{(dmi / 'product_name').read_text().strip()}"
    return None


def cuda_in_use() -> Any:
    """`torch.cuda` where torch is imported and works on a GPU; None elsewhere. It imports nothing."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_available() and cuda.is_initialized() else None


def synchronise() -> None:
    """Return when the GPU has done all it was given: its calls return before that. On a CPU nothing is left to wait for."""
    cuda = cuda_in_use()
    if cuda is not None:
        cuda.synchronize()


def begin_peak() -> bool:
    """Forget the peaks of memory so far. Whether the process's own could be forgotten (Linux); the GPU's always can."""
    cuda = cuda_in_use()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    with suppress(OSError):
        (PROC / "self" / "clear_refs").write_text("5")
        return True
    return False


def peak_bytes() -> int:
    """The most memory that was resident, since `begin_peak` where that could forget, else since the process began."""
    with suppress(OSError):
        for line in (PROC / "self" / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_gpu_bytes() -> int | None:
    cuda = cuda_in_use()
    return None if cuda is None else int(cuda.max_memory_allocated())
