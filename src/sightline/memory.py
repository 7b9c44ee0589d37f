"""How much memory may still be used here, and files that are only read whole where they fit into it."""

from contextlib import suppress
from pathlib import Path

from sightline.errors import LabelError

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

PARSED = 4
"""Times its size that a JSON or XML file takes at least while it is parsed: its bytes, its text, and lists of pointers."""

SMALL_BYTES = 16 * 2**20
"""Files up to it are read without asking how much memory is free: there may be thousands of them."""


def read_whole(path: Path) -> bytes:
    """The bytes of a file that is to be parsed in one piece.

    Raises:
        LabelError: what it holds would not fit into memory.
        OSError: as `Path.read_bytes`.
    """
    size = path.stat().st_size
    free = bytes_free() if size > SMALL_BYTES else None
    if free is not None and size * PARSED > free:
        what = f"has {size:,} bytes, which take {size * PARSED:,} and more to parse, and {free:,} bytes of memory are free"
        raise LabelError(path, what, "Split it into several files, or read it on a machine with more memory.")
    return path.read_bytes()


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
