"""Memory for large intermediate tensors on the CPU, used again instead of given back to the operating system.

A pyramid's finest level takes 56 MB at 800 px. The C library maps blocks of that size anew each time, and the kernel zeroes
every page at its first touch: in a virtual machine that took longer than the convolution that filled them. numpy also asks
for huge pages.
"""

import math
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

LEAST_BYTES = 1 << 20
"""Smaller ones are as fast from torch."""

KEPT_BYTES = 512 << 20
"""Free memory that is held for later, at most; R50-FPN at 800 px uses some 300 MB at its highest."""

SLACK = 1.25
"""How much larger than asked for a block may be: pictures of nearly the same size share blocks."""

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


class Workspace:
    """Lends float32 tensors whose memory comes back by itself when the last tensor on it is gone. For any number of threads."""

    def __init__(self) -> None:
        self.free: deque[np.ndarray] = deque()  # append and remove of one item are atomic

    def __reduce__(self) -> tuple[Callable[[], "Workspace"], tuple[()]]:
        return Workspace, ()

    def empty(self, *shape: int) -> Tensor:
        """A contiguous tensor of any content."""
        count = math.prod(shape)
        if count * 4 < LEAST_BYTES:
            return torch.empty(shape)
        block = self.block(count)
        lent = block[:count]
        weakref.finalize(lent, self.take_back, block).atexit = False  # torch keeps `lent` as long as there are views
        return torch.from_numpy(lent).view(shape)

    def block(self, count: int) -> np.ndarray:
        """(N,) float32, the smallest free one of at least `count`, or a new one."""
        fitting = sorted((b for b in tuple(self.free) if count <= len(b) <= count * SLACK), key=len)
        for block in fitting:
            if self.claim(block):
                return block
        raw = np.empty(count + ALIGNMENT // 4, dtype=np.float32)
        start = -raw.ctypes.data % ALIGNMENT // 4
        return raw[start : start + count]

    def claim(self, wanted: np.ndarray) -> bool:
        """Whether `wanted` was still free; then it is the caller's."""
        for _ in range(len(self.free)):
            try:
                block = self.free.popleft()
            except IndexError:  # another thread was faster
                return False
            if block is wanted:
                return True
            self.free.append(block)
        return False

    def take_back(self, block: np.ndarray) -> None:
        self.free.append(block)
        while sum(b.nbytes for b in tuple(self.free)) > KEPT_BYTES:
            try:
                self.free.popleft()  # free for longest
            except IndexError:
                return
