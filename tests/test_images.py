"""Reading: every format, mode and orientation gives the picture that a person sees; everything else one clear error."""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from sightline.errors import ImageError
from sightline.images import (
    FORMATS,
    Header,
    InputSize,
    Limits,
    check_image,
    decode_image,
    decode_rgb,
    read_bytes,
    read_image,
    resize,
    shortest_edge_size,
)
from sightline.records import ImageSize


def colours(height: int = 12, width: int = 20) -> np.ndarray:
    """A picture whose every pixel differs: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 60)], axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray | Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    picture.save(file, kind, **options)
    return file.getvalue()


def png_of_size(width: int, height: int, pixel_bytes: bytes = b"\0" * 100) -> bytes:
    """A PNG whose header promises more than its body holds: a decompression bomb's shape."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixel_bytes)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("PNG", {}, id="png"),
        pytest.param("BMP", {}, id="bmp"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, id="tiff"),
        pytest.param("WEBP", {"lossless": True}, id="lossless webp"),
    ],
)
def test_lossless_formats_come_back_bit_for_bit(kind: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(decode_image(encoded(colours(), kind, **options), "x"), colours())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    assert decode_image(encoded(colours(), kind), "x").shape == (12, 20, 3)


def test_a_phones_multi_picture_jpeg_gives_its_first_picture() -> None:
    mpo = encoded(Pillow.fromarray(colours()), "MPO", save_all=True, append_images=[Pillow.new("RGB", (20, 12))], quality=95)
    np.testing.assert_allclose(decode_image(mpo, "x").astype(int), colours(), atol=30)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(colours()))
    np.testing.assert_array_equal(read_image(path), colours())


TURNS = [  # EXIF orientation -> what a viewer does to the stored pixels
    (1, lambda pixels: pixels),
    (2, lambda pixels: pixels[:, ::-1]),
    (3, lambda pixels: pixels[::-1, ::-1]),
    (4, lambda pixels: pixels[::-1]),
    (5, lambda pixels: pixels.transpose(1, 0, 2)),
    (6, lambda pixels: np.rot90(pixels, -1)),
    (7, lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2)),
    (8, np.rot90),
]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize(("orientation", "turn"), TURNS, ids=[f"orientation {number}" for number, _ in TURNS])
def test_exif_orientation(kind: str, orientation: int, turn, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    path.write_bytes(encoded(colours(), kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {})))
    seen = read_image(path)
    np.testing.assert_allclose(seen.astype(int), turn(colours()), atol=6 if kind == "JPEG" else 0)
    assert check_image(path) == Header(ImageSize(12, 20), orientation)
    assert check_image(path).shown == seen.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode_image(encoded(colours(), exif=exif), "x"), colours())


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(Pillow.new("L", (2, 1), 7), (7, 7, 7), id="grey"),
        pytest.param(Pillow.new("1", (2, 1), 1), (255, 255, 255), id="black and white"),
        pytest.param(Pillow.new("LA", (2, 1), (9, 0)), (9, 9, 9), id="grey and alpha"),
        pytest.param(Pillow.new("RGBA", (2, 1), (1, 2, 3, 0)), (1, 2, 3), id="alpha is dropped"),
        pytest.param(Pillow.fromarray(np.full((1, 2), 0x80FF, np.uint16)), (128, 128, 128), id="16-bit grey is scaled"),
    ],
)
def test_modes_become_rgb(picture: Pillow.Image, expected: tuple[int, int, int]) -> None:
    np.testing.assert_array_equal(decode_image(encoded(picture), "x"), np.broadcast_to(np.uint8(expected), (1, 2, 3)))


def test_palette_with_transparency() -> None:
    picture = Pillow.fromarray(colours()).quantize(4)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded(picture, transparency=0), "x"), expected)


def test_cmyk_jpeg() -> None:
    red = Pillow.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    np.testing.assert_allclose(decode_image(encoded(red, "JPEG", quality=95), "x")[8, 8].astype(int), (254, 0, 0), atol=6)


JPEG = encoded(colours(200, 300), "JPEG")


@pytest.mark.parametrize(
    ("body", "limits", "message"),
    [
        pytest.param(b"", Limits(), r"photo: is empty \(0 bytes\)\. Send or restore", id="empty"),
        pytest.param(b"hello", Limits(), "photo: is no picture .*hello.*Give a JPEG", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", Limits(), "is no picture", id="postscript is never tried"),
        pytest.param(JPEG[: len(JPEG) // 2], Limits(), "photo: is damaged or cut off .*Replace", id="half a jpeg"),
        pytest.param(encoded(colours())[:-30], Limits(), "damaged", id="png without its end"),
        pytest.param(png_of_size(9, 9), Limits(), "damaged", id="png with too few pixels"),
        pytest.param(b"\x89PNG\r\n\x1a\n", Limits(), "photo: ", id="png signature alone"),
        pytest.param(JPEG, Limits(max_bytes=10), r"has [\d,]+ bytes, more than 10", id="bytes"),
        pytest.param(JPEG, Limits(max_pixels=1000), "is 300 x 200 px, more than 1,000 pixels", id="pixels"),
        pytest.param(JPEG, Limits(max_side=250), "or 250 on a side", id="side"),
        pytest.param(png_of_size(100_000, 100_000), Limits(), "is too large to decode", id="bomb"),
        pytest.param(png_of_size(13_370, 13_370), Limits(), "more than 178,000,000 pixels", id="just above our limit"),
    ],
)
def test_refused(body: bytes, limits: Limits, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(body, "photo", limits)


def test_limits_are_checked_before_decoding() -> None:
    """A header that is within Pillow's own limit and beyond ours: refused without a pixel being decoded."""
    with pytest.raises(ImageError, match="more than 100 pixels"):
        decode_image(png_of_size(5000, 5000, b""), "x", Limits(max_pixels=100))


@pytest.mark.parametrize("body", [JPEG[: len(JPEG) // 2], encoded(colours(200, 300))[:-40]], ids=["jpeg", "png"])
def test_check_finds_truncation(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(body)
    with pytest.raises(ImageError, match="cut: is damaged or cut off"):
        check_image(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: cannot be read \(No such file"):
        read_bytes(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_threads_share_nothing() -> None:
    """Decoding in many threads leaves the process's warning filters as they were."""
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode_image(JPEG, "x") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        pytest.param((480, 640), 800, 1333, (800, 1067), id="landscape: 1066.67 rounds up"),
        pytest.param((640, 480), 800, 1333, (1067, 800), id="portrait"),
        pytest.param((500, 500), 800, 1333, (800, 800), id="square"),
        pytest.param((400, 1000), 800, 1333, (533, 1333), id="the longer side binds"),
        pytest.param((1, 5000), 800, 1333, (1, 1333), id="never less than one pixel"),
        pytest.param((123, 77), 0, 1333, (123, 77), id="0 leaves it alone"),
        pytest.param((427, 640), 800, 1333, (800, 1199), id="a COCO picture"),
        pytest.param((1080, 1920), 800, 1333, (750, 1333), id="full HD"),
    ],
)
def test_shortest_edge_size(size: tuple[int, int], min_size: int, max_size: int, expected: tuple[int, int]) -> None:
    assert shortest_edge_size(ImageSize(*size), min_size, max_size) == expected


def test_resize() -> None:
    assert resize(colours(), ImageSize(6, 10)).shape == (6, 10, 3)
    same = colours()
    assert resize(same, ImageSize(12, 20)) is same


@pytest.mark.parametrize(
    ("size", "divisor", "padded"),
    [((750, 1333), 32, (768, 1344)), ((800, 1088), 32, (800, 1088)), ((1, 33), 32, (32, 64)), ((750, 1333), 0, (750, 1333))],
)
def test_what_a_picture_is_padded_to(size: tuple[int, int], divisor: int, padded: tuple[int, int]) -> None:
    assert InputSize(800, 1333, divisor).padded(ImageSize(*size)) == padded


def test_the_size_of_an_input_is_that_of_the_shortest_edge() -> None:
    assert InputSize(80, 133, 32).resized(np.zeros((108, 192, 3), np.uint8)).shape == (75, 133, 3)


def test_resizing_a_decoded_picture_gives_the_same_bits_as_its_pixels() -> None:
    """The server saves the copies between the two."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(file, "PNG")
    picture = decode_rgb(file.getvalue(), "here")
    np.testing.assert_array_equal(decode_image(file.getvalue(), "here"), pixels)
    for size in (ImageSize(20, 28), ImageSize(50, 70), ImageSize(90, 126)):
        np.testing.assert_array_equal(resize(picture, size), resize(pixels, size))
