import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import a_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageEnhance

from sightline import labels
from sightline.dataset.alike import (
    CHUNK,
    COARSE_DISTANCE,
    DISTANCE,
    MIRROR,
    Fingerprints,
    clusters,
    count_bits,
    cut,
    fingerprint,
    fingerprint_file,
    fingerprint_files,
    identical,
    pairs,
    same_pixels,
)
from sightline.errors import ImageError


def a_scene(seed: int = 0, height: int = 240, width: int = 320) -> Pillow.Image:
    """A picture with structure at all sizes: enlarged noise."""
    chance = np.random.default_rng(seed)
    layers = [Pillow.fromarray(chance.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((width, height)) for n in (4, 9, 20)]
    return Pillow.blend(Pillow.blend(layers[0], layers[1], 0.4), layers[2], 0.25)


def recompressed(picture: Pillow.Image) -> Pillow.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=50)
    return Pillow.open(stream).convert("RGB")


def cropped(picture: Pillow.Image) -> Pillow.Image:
    """Without 2.5 % on each side."""
    width, height = picture.size
    return picture.crop((width // 40, height // 40, width - width // 40, height - height // 40))


VARIATIONS: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "another shape": lambda picture: picture.resize((picture.width, picture.width)),
    "JPEG quality 50": recompressed,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "cropped": cropped,
    "mirrored": lambda picture: picture.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
}


def prints(*pictures: Pillow.Image) -> Fingerprints:
    return np.array([fingerprint(np.asarray(picture)) for picture in pictures])


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_copy_is_found(name: str) -> None:
    scenes = [a_scene(seed) for seed in range(10)]
    copies = [VARIATIONS[name](scene) for scene in scenes]
    assert [(i, j) for i, j, _ in pairs(prints(*scenes, *copies))] == [(number, number + 10) for number in range(10)]


def test_mirrored_copies_by_choice() -> None:
    both = prints(a_scene(), VARIATIONS["mirrored"](a_scene()))
    assert [bits <= 2 for _, _, bits in pairs(both)] == [True]
    assert pairs(both, mirrored=False) == []


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_that_shows_nothing_is_like_no_other(value: int) -> None:
    empty = Pillow.new("RGB", (64, 48), (value, value, value))
    found = prints(empty, empty, a_scene(), a_scene())
    assert not found[0].any()
    assert pairs(found) == [(2, 3, 0)]
    assert clusters(found) == [[2, 3]]


def by_comparing_all(fingerprints: Fingerprints, distance: int, mirrored: bool) -> list[tuple[int, int, int]]:
    found = []
    for j in range(len(fingerprints)):
        for i in range(j):
            changed = [fingerprints[i] ^ fingerprints[j], fingerprints[i] ^ fingerprints[j] ^ MIRROR][: 1 + mirrored]
            bits = [[int(word).bit_count() for word in words] for words in changed]
            near = [sum(counts) for counts in bits if counts[0] <= COARSE_DISTANCE and sum(counts) <= distance]
            if near and fingerprints[i].any() and fingerprints[j].any():
                found.append((i, j, min(near)))
    return sorted(found)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    changes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 90), st.booleans()), max_size=25),
    distance=st.integers(0, 120),
    mirrored=st.booleans(),
)
def test_exactly_the_near_pairs_are_found(
    seed: int, changes: list[tuple[int, int, bool]], distance: int, mirrored: bool
) -> None:
    chance = np.random.default_rng(seed)
    rows = list(chance.integers(0, 2**64, (8, 4), dtype=np.uint64) | np.array([1, 0, 0, 0], dtype=np.uint64))
    rows[7] = np.zeros(4, dtype=np.uint64)
    for source, many, turned in changes:
        bits = np.zeros(256, dtype=np.uint8)
        bits[1 + chance.permutation(255 if many % 2 else 63)[:many]] = 1
        changed = rows[source] ^ np.packbits(bits, bitorder="little").view(np.uint64)
        rows.append(changed ^ MIRROR if turned else changed)
    fingerprints = np.array(rows)
    assert pairs(fingerprints, distance=distance, mirrored=mirrored) == by_comparing_all(fingerprints, distance, mirrored)


def test_the_search_is_exact_to_its_bound_only() -> None:
    with pytest.raises(ValueError, match="coarse is 12, not 0 to 11"):
        pairs(prints(a_scene()), coarse=12)


def test_chains_are_one_cluster() -> None:
    ends = np.random.default_rng(0).integers(0, 2**64, (1, 4), dtype=np.uint64)
    steps = np.repeat(ends, 4, axis=0)
    steps[1:, 3] ^= np.uint64(2**40 - 1)  # 40 bits
    steps[2:, 2] ^= np.uint64(2**40 - 1)
    steps[3, 1:] ^= np.uint64(2**64 - 1)
    assert DISTANCE < 80
    assert [(i, j) for i, j, _ in pairs(steps)] == [(0, 1), (1, 2)]
    assert clusters(steps) == [[0, 1, 2]]


def test_many_equal_pictures_are_cut_into_parts() -> None:
    parts = cut(np.full(5000, 5000))
    assert [index for part in parts for index in range(5000)[part]] == list(range(5000))
    assert max(part.stop - part.start for part in parts) * 5000 <= CHUNK + 5000
    assert clusters(np.repeat(prints(a_scene()), 20_000, axis=0)) == [list(range(20_000))]


def test_nothing_given_nothing_found() -> None:
    assert pairs(fingerprint_files([])) == clusters(fingerprint_files([])) == identical([]) == []


def test_files_are_turned_as_they_are_shown(tmp_path: Path) -> None:
    a_scene().save(tmp_path / "plain.png")
    exif = Pillow.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    a_scene().transpose(Pillow.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=90)
    ((_, _, bits),) = pairs(fingerprint_files([tmp_path / "plain.png", tmp_path / "turned.jpg"]))
    assert bits < 10


def test_damaged_files_are_left_out_or_told(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(a_picture(tmp_path / "whole.jpg").read_bytes()[:400])
    assert fingerprint_files([tmp_path / "cut.jpg", tmp_path / "whole.jpg", tmp_path / "none.jpg"]).any(axis=1).tolist() == [
        False, True, False,
    ]  # fmt: skip
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        fingerprint_file(tmp_path / "cut.jpg")


def test_identical_files_and_identical_pixels(tmp_path: Path) -> None:
    one, copy, other = tmp_path / "one.png", tmp_path / "copy.png", tmp_path / "other.bmp"
    a_scene(1).save(one)
    copy.write_bytes(one.read_bytes())
    a_scene(1).save(other)
    assert identical([one, tmp_path / "missing.png", other, copy]) == [[0, 3]]
    assert same_pixels(one, other)
    a_scene(2).save(other)
    assert not same_pixels(one, other)


def test_real_bees_hold_one_pair(shared: Path) -> None:
    """Found by comparing all: one photograph was uploaded twice. Other bees differ in 92 bits and more."""
    dataset = labels.read(shared / "data/bees/output.manifest").dataset
    names = sorted(image.file_name for image in dataset.images)[260:300]
    found = fingerprint_files([shared / "data/bees/images" / name for name in names])
    assert [(names[i], names[j]) for i, j, _ in pairs(found)] == [("3280744.jpg", "3345411.jpg")]


def test_bits_are_counted_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.random.default_rng(0).integers(0, 2**64, (5, 4), dtype=np.uint64)
    expected = [[int(word).bit_count() for word in row] for row in words]
    assert count_bits(words).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_bits(words).tolist() == expected
