"""How many processors this process may use."""

import os
from collections.abc import Mapping
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's share of the processors' time: microseconds of a period, and the period; `max` is without a limit."""


def cores(quota: Path = CPU_QUOTA) -> int:
    """Those that the process is allowed on; of a container with a share of their time, that share rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        given, period = quota.read_text(encoding="ascii").split()
        return max(1, min(count, -(-int(given) // int(period))))
    except (OSError, ValueError):  # no such file, or `max`
        return count


def usual_threads(environ: Mapping[str, str]) -> int:
    """Threads for one operation: OMP_NUM_THREADS, which torch goes by as well, or one for each of `cores`."""
    asked = environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else cores()
