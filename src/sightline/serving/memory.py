"""How much memory there is for one more model, and how what an unloaded one held is given back to the system."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PROC_MEMINFO = Path("/proc/meminfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory.stat")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)
"""Version 2 and version 1: the container's limit, what it uses, and of what kind."""

COPIES = 3
"""While a model is loaded, its weights are in memory so many times: the file, its tensors, and the model's own."""

RESERVE_BYTES = 256 * 2**20
"""Left for pictures, answers and the system."""


def bytes_needed(path: Path) -> int:
    """What loading a model at `path` (a bundle, or its folder) takes at its peak, roughly."""
    files: Iterator[Path] = path.rglob("*") if path.is_dir() else iter([path])
    return COPIES * sum(file.stat().st_size for file in files if file.is_file())


def bytes_free() -> int | None:
    """Memory that may still be used here: of the machine, or of the container if that is less. None: nobody can tell."""
    free = [number for number in (machine_free(), *map(container_free, CGROUPS)) if number is not None]
    return min(free, default=None)


def machine_free() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in PROC_MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def container_free(group: tuple[Path, Path, Path]) -> int | None:
    """The container's limit less what it uses; pages of files that the system may drop do not count as used."""
    limit, used, stat = group
    with suppress(OSError, ValueError, IndexError):
        droppable = next(int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith("inactive_file "))
        return int(limit.read_text()) - int(used.read_text()) + droppable  # "max", without a limit, is a ValueError
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own, or torch's (which is known by its name: this module does not import torch)."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def give_back() -> None:
    """Return what nobody refers to any more to the system: cycles, freed blocks of the C library, torch's cache on the GPU."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        trim: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
        trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
