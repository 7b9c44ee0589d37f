"""Pictures that show the same: resized, recompressed, brightened, slightly cropped or mirrored copies, frames of a still scene.

A fingerprint is the sign of the 255 lowest frequencies of a picture's brightness (a perceptual hash after the cosine
transform, Zauner 2010). The pairs are found without comparing all: by multi-index hashing (Norouzi, Punjani and Fleet 2012)
over the 63 lowest frequencies, which change least.

N: pictures. C: candidates.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from sightline.errors import ImageError
from sightline.images import DISK_LIMITS, Limits, open_checked, orientation_of, read_bytes, read_image, to_rgb
from sightline.processors import cores
from sightline.records import Image

WORDS = 4
"""uint64 numbers of a fingerprint. The first has the lowest frequencies; bit 0 of it says that there is anything to see."""

SIDE = 64  # pixels to which a picture is reduced before its frequencies are taken
DECODED_SIDE = 128  # pixels of a JPEG's shorter side at least, when it is decoded reduced: at most 9 bits change by that

DISTANCE = 66
"""Bits of 255 that near-duplicates may differ in. See docs/splits.md: copies cropped by 5 % differ in 40 to 63, resized and
recompressed ones in 0 to 10, brightened ones in up to 35; different pictures of one kind (bees, blood cells) in 88 and more."""

COARSE_DISTANCE = 11
"""Bits of the first 63 that near-duplicates may differ in: 4 bands with at most 2 each in one of them. Cropping by 5 % changes
5, at most 12."""

BAND_DISTANCE = COARSE_DISTANCE // WORDS
FLAT = 2.0
"""Standard deviation of the brightness (0 to 255) below which a picture shows nothing: black frames are like no other."""

CHUNK = 2_000_000  # candidates looked at together, some 100 MiB

Fingerprints = NDArray[np.uint64]


def frequencies() -> list[tuple[int, int]]:
    """(vertical, horizontal) of the 255 lowest frequencies, lowest first, without the mean."""
    pairs = ((down, across) for down in range(SIDE) for across in range(SIDE) if down + across > 0)
    return sorted(pairs, key=lambda pair: (sum(pair), abs(pair[0] - pair[1]), pair))[:255]


FREQUENCIES = np.array(frequencies())  # (255, 2)
HIGHEST = int(FREQUENCIES.max()) + 1
COSINES = np.cos(np.pi * np.arange(HIGHEST)[:, None] * (2 * np.arange(SIDE)[None] + 1) / (2 * SIDE))  # (HIGHEST, SIDE)

BITS_SET = np.array([value.bit_count() for value in range(2**16)], dtype=np.uint8)


def pack(bits: NDArray[np.bool_]) -> Fingerprints:
    """(4,) of (256,) bits. Those of the first word are dealt over its 4 bands of 16, so that no band has all the lowest."""
    first = bits[:64].reshape(16, 4).T.ravel()
    return np.packbits(np.concatenate([first, bits[64:]]), bitorder="little").view(np.uint64)


MIRROR = pack(np.concatenate([[False], FREQUENCIES[:, 1] % 2 == 1]))
"""What a fingerprint is combined with (XOR) to give that of the mirrored picture: odd horizontal frequencies change sign."""


def fingerprint(image: Image) -> Fingerprints:
    """(4,) uint64 of a decoded (H, W, 3) picture; all zero when it shows nothing, and then it is like no other."""
    return fingerprint_of(Pillow.fromarray(image))


def fingerprint_of(picture: Pillow.Image) -> Fingerprints:
    grey = picture.convert("L").resize((SIDE, SIDE), Pillow.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(grey, dtype=np.float64)
    if pixels.std() < FLAT:
        return np.zeros(WORDS, dtype=np.uint64)
    spectrum = COSINES @ pixels @ COSINES.T  # (HIGHEST, HIGHEST)
    signs = spectrum[FREQUENCIES[:, 0], FREQUENCIES[:, 1]] > 1e-6  # rounding decides nothing
    return pack(np.concatenate([[True], signs]))


def fingerprint_file(path: Path, limits: Limits = DISK_LIMITS) -> Fingerprints:
    """`fingerprint` of a file, turned as EXIF says. JPEGs are decoded reduced, at a fraction of the cost.

    Raises:
        ImageError: as `sightline.images.decode_image`.
    """
    picture = open_checked(read_bytes(path), path, limits)
    try:
        picture.draft("RGB", (DECODED_SIDE, DECODED_SIDE))
        picture.load()
        if orientation_of(picture) != 1:
            picture = ImageOps.exif_transpose(picture)
        return fingerprint_of(to_rgb(picture))
    except Exception as error:  # as in decode_image
        raise ImageError(path, f"is damaged or cut off ({error})", "Replace the file.") from error


def fingerprint_files(paths: Sequence[Path]) -> Fingerprints:
    """(N, 4) of files; an unreadable one gets zeros: finding those is not this module's work."""

    def one(path: Path) -> Fingerprints:
        try:
            return fingerprint_file(path)
        except ImageError:
            return np.zeros(WORDS, dtype=np.uint64)

    with ThreadPoolExecutor(min(cores(), 8)) as threads:  # Pillow decodes outside the interpreter's lock
        return np.array(list(threads.map(one, paths)), dtype=np.uint64).reshape(-1, WORDS)


def count_bits(words: Fingerprints) -> NDArray[np.uint8]:
    """How many bits of each number are set. Before numpy 2 at a tenth of the speed."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words), dtype=np.uint8)
    quarters = BITS_SET[np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 4)]
    return np.asarray(quarters.sum(axis=-1, dtype=np.uint8))


def pairs(
    fingerprints: Fingerprints, *, distance: int = DISTANCE, coarse: int = COARSE_DISTANCE, mirrored: bool = True
) -> list[tuple[int, int, int]]:
    """(i, j, bits they differ in) for i < j, sorted: every pair that differs in at most `coarse` bits of the first word and
    in at most `distance` of all. Pictures that show nothing are in none.

    fingerprints: (N, 4)
    coarse:       0 to 11, what the search is exact for
    mirrored:     a picture and its mirror image are a pair, too: training mirrors at random, so it has seen both

    Raises:
        ValueError: `coarse` is out of its range.
    """
    if not 0 <= coarse <= COARSE_DISTANCE:
        raise ValueError(f"coarse is {coarse}, not 0 to {COARSE_DISTANCE}")
    shown = np.flatnonzero(fingerprints.any(axis=1))
    own = np.ascontiguousarray(fingerprints[shown], dtype=np.uint64)
    found: dict[tuple[int, int], int] = {}
    for change in (np.zeros(WORDS, dtype=np.uint64), MIRROR)[: 1 + mirrored]:
        for first, second in coarse_pairs(own, change, coarse):
            differing = count_bits(own[first] ^ own[second] ^ change).sum(axis=1, dtype=np.int64)
            for i, j, bits in zip(shown[first].tolist(), shown[second].tolist(), differing.tolist(), strict=True):
                if bits <= distance:
                    key = (min(i, j), max(i, j))
                    found[key] = min(bits, found.get(key, bits))
    return sorted((i, j, bits) for (i, j), bits in found.items())


def coarse_pairs(own: Fingerprints, change: Fingerprints, coarse: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(C,) and (C,) rows of `own` whose first words, after `change`, differ in at most `coarse` bits.

    Such a pair differs in at most 2 bits in one of the 4 bands of 16 bits, and comes once for each such band. Of random
    fingerprints one pair in 120 does, and is looked at: 42 million of the 5 billion pairs of 100,000.
    """
    changes = change[:1].view(np.uint16).tolist()
    for values, band_change in zip(own[:, :1].view(np.uint16).T.astype(np.intp), changes, strict=True):
        order = np.argsort(values, kind="stable")
        sorted_words, values = own[order, 0], values[order]  # noqa: PLW2901  # rows of one value lie side by side in memory
        starts = np.concatenate([[0], np.cumsum(np.bincount(values, minlength=2**16))])
        for mask in MASKS:
            turned = mask ^ band_change
            asking = np.flatnonzero((values & (turned & -turned)) == 0)  # each pair from one of its sides; all if turned is 0
            wanted = values[asking] ^ turned
            counts = starts[wanted + 1] - starts[wanted]
            for part in cut(counts):
                many = counts[part]
                one = np.repeat(asking[part], many)
                other = np.arange(len(one)) + np.repeat(starts[wanted[part]] - np.cumsum(many) + many, many)
                near = count_bits(sorted_words[one] ^ sorted_words[other] ^ change[0]) <= coarse
                if not turned:
                    near &= one < other
                yield order[one[near]], order[other[near]]


MASKS = [
    sum(1 << bit for bit in bits) for count in range(BAND_DISTANCE + 1) for bits in itertools.combinations(range(16), count)
]
"""The 137 ways to change at most 2 of 16 bits."""


def cut(counts: NDArray[np.intp]) -> list[slice]:
    """Parts of `counts` that each sum to some `CHUNK`, at most to that and one entry more."""
    total = np.cumsum(counts)
    if not len(total) or total[-1] == 0:
        return []
    edges = np.searchsorted(total, np.arange(CHUNK, total[-1], CHUNK)).tolist()
    bounds = sorted({0, *edges, len(counts)})
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def clusters(fingerprints: Fingerprints, *, distance: int = DISTANCE, mirrored: bool = True) -> list[list[int]]:
    """Near-duplicates in groups of two and more, each sorted, by their first. What is near to a near one belongs to it."""
    distinct, number = np.unique(fingerprints, axis=0, return_inverse=True)  # a thousand equal ones are one here
    number = number.reshape(-1)
    shown = [bool(words.any()) for words in distinct]
    edges = [(i, j) for i, j, _ in pairs(distinct, distance=distance, mirrored=mirrored)]
    roots = connected(len(distinct), edges)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, own in enumerate(number.tolist()):
        if shown[own]:
            groups[roots[own]].append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def connected(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` nodes, the smallest node that it is connected with."""
    roots = list(range(count))

    def root(node: int) -> int:
        while roots[node] != node:
            roots[node] = roots[roots[node]]  # halves the path
            node = roots[node]
        return node

    for one, other in edges:
        first, second = sorted((root(one), root(other)))
        roots[second] = first
    return [root(node) for node in range(count)]


def identical(paths: Sequence[Path]) -> list[list[int]]:
    """Files with the same bytes, in groups of two and more, each sorted. Files of a size of their own are not read."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        if path.is_file():
            sizes[path.stat().st_size].append(index)
    contents: dict[str, list[int]] = defaultdict(list)
    for group in sizes.values():
        for index in group if len(group) > 1 else ():
            contents[content(paths[index])].append(index)
    return sorted(group for group in contents.values() if len(group) > 1)


def content(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_pixels(one: Path, other: Path) -> bool:
    """Whether two files show exactly the same, whatever their formats and metadata; errors as `read_image`."""
    return np.array_equal(read_image(one), read_image(other))
