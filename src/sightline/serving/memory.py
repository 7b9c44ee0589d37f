"""How much memory one more model takes, and how what an unloaded one held is given back to the system."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

COPIES = 3
"""While a model is loaded, its weights are in memory so many times: the file, its tensors, and the model's own."""

RESERVE_BYTES = 256 * 2**20
"""Left for pictures, answers and the system."""


def bytes_needed(path: Path) -> int:
    """What loading a model at `path` (a bundle, or its folder) takes at its peak, roughly."""
    files: Iterator[Path] = path.rglob("*") if path.is_dir() else iter([path])
    return COPIES * sum(file.stat().st_size for file in files if file.is_file())


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
