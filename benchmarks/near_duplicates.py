"""Near-duplicates by multi-index hashing and by comparing all pairs, on random fingerprints with planted copies.

    python benchmarks/near_duplicates.py [--sizes 1000 10000 100000] [--images DIR] [--all-up-to 20000]

Prints a line a size: seconds of both, and whether they found the same. With --images also the seconds for a folder's pictures.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sightline.dataset.alike import COARSE_DISTANCE, DISTANCE, MIRROR, Fingerprints, fingerprint_files, pairs
from sightline.images import SUFFIXES


def fingerprints(count: int, seed: int = 0) -> Fingerprints:
    """(count, 4), a hundredth of them copies of others with 30 bits changed."""
    chance = np.random.default_rng(seed)
    made = chance.integers(0, 2**64, (count, 4), dtype=np.uint64)
    copies = chance.permutation(count)[: 2 * (count // 100)].reshape(2, -1)
    made[copies[0]] = made[copies[1]]
    for copy in copies[0].tolist():
        bits = np.zeros(256, dtype=np.uint8)
        bits[chance.permutation(256)[:30]] = 1
        made[copy] ^= np.packbits(bits, bitorder="little").view(np.uint64)
    made[:, 0] |= np.uint64(1)
    return made


def comparing_all(own: Fingerprints) -> list[tuple[int, int, int]]:
    found: dict[tuple[int, int], int] = {}
    for i in range(len(own) - 1):
        for change in (np.zeros(4, dtype=np.uint64), MIRROR):
            differing = np.bitwise_count(own[i + 1 :] ^ (own[i] ^ change))
            total = differing.sum(axis=1, dtype=np.int64)
            for j in np.flatnonzero((differing[:, 0] <= COARSE_DISTANCE) & (total <= DISTANCE)).tolist():
                key = (i, i + 1 + j)
                found[key] = min(int(total[j]), found.get(key, DISTANCE))
    return sorted((i, j, bits) for (i, j), bits in found.items())


def timed(work: Callable[[], list[tuple[int, int, int]]]) -> tuple[float, list[tuple[int, int, int]]]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--all-up-to", type=int, default=20_000, help="Sizes for which all pairs are compared, too.")
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args()
    for size in asked.sizes:
        own = fingerprints(size)
        seconds, found = timed(lambda own=own: pairs(own))  # type: ignore[misc]
        line = f"{size:>9,} fingerprints: {seconds:8.2f} s, {len(found):,} pairs"
        if size <= asked.all_up_to:
            others, expected = timed(lambda own=own: comparing_all(own))  # type: ignore[misc]
            line += f"; comparing all {others:8.2f} s, {'the same' if found == expected else 'NOT THE SAME'}"
        print(line, flush=True)
    if asked.images:
        paths = sorted(path for path in asked.images.rglob("*") if path.suffix.lower() in SUFFIXES)
        began = time.perf_counter()
        own = fingerprint_files(paths)
        decoded = time.perf_counter() - began
        seconds, found = timed(lambda: pairs(own))
        print(f"{len(paths):,} pictures: {decoded:.2f} s to fingerprints, {seconds:.2f} s to {len(found)} pairs")


if __name__ == "__main__":
    main()
