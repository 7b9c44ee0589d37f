"""Bytes to picture: the one reading and resizing path that training, prediction and serving share.

Reading applies the EXIF orientation and gives (H, W, 3) RGB. Resizing is Pillow's bilinear filter on 8-bit pixels, as
Detectron2's ResizeShortestEdge does it (a different filter moves scores in the second digit).
"""

import io
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL import Image as Pillow

from sightline.errors import ImageError
from sightline.records import Detections, Image, ImageSize

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow decoders that are ever tried; others (EPS, ...) may run programs or are no pictures. JPEG reads phones' MPO too."""

PLUGINS = (
    BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
)  # fmt: skip
"""Their decoders, imported here: Pillow would import them when first used, which two threads must not do at once."""

OPENING = threading.Lock()
"""`warnings.catch_warnings` swaps the process's filters, so one thread at a time may; it covers the header only."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""File names that are taken for pictures when a folder is given. What is inside decides how they are read."""

ORIENTATION = 0x0112  # the EXIF tag
TIFF_WIDTH, TIFF_HEIGHT = 0x0100, 0x0101  # TIFF tags
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may be before it is decoded; the header alone decides.

    max_bytes:  of the file
    max_pixels: height x width
    max_side:   of either, pixels
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 178_000_000  # Pillow itself refuses more than 178,956,970
    max_side: int = 65_500


DISK_LIMITS = Limits()
"""For a user's own files: far above any camera, and still no decompression bomb."""


@dataclass(frozen=True, slots=True)
class Header:
    """A picture's facts without decoding it. stored: as in the file; shown: after EXIF rotation; orientation: 1 to 8."""

    stored: ImageSize
    orientation: int

    @property
    def shown(self) -> ImageSize:
        return ImageSize(*reversed(self.stored)) if self.orientation in TURNED else self.stored


def beginning(data: bytes) -> str:
    """The first bytes of a file, as text where they are text, else as `0x89504E47`."""
    head = data[:12]
    text = " ".join(head.decode("ascii", "replace").split())
    return f'"{text}"' if text.isascii() and text.isprintable() else f"0x{head.hex().upper()}"


def open_checked(data: bytes, where: object, limits: Limits) -> Pillow.Image:
    """Pillow's lazily decoded picture, after checking the limits against its header."""
    if not data:
        raise ImageError(where, "is empty (0 bytes)", "Send or restore the picture.")
    if len(data) > limits.max_bytes:
        raise ImageError(where, f"has {len(data):,} bytes, more than {limits.max_bytes:,}", "Use a smaller picture.")
    try:
        with OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # our own limit is checked below
            picture = Pillow.open(io.BytesIO(data), formats=FORMATS)
    except Pillow.DecompressionBombError as error:
        raise ImageError(where, f"is too large to decode ({error})", "Use a smaller picture.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            where, f"is no picture (begins with {beginning(data)})", "Give a JPEG, PNG, WebP, BMP or TIFF."
        ) from error
    except Exception as error:  # a damaged header makes Pillow's parsers raise almost anything
        raise ImageError(where, f"has a damaged header ({error})", "Replace the file.") from error
    width, height = picture.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageError(
            where,
            f"is {width} x {height} px, more than {limits.max_pixels:,} pixels or {limits.max_side:,} on a side",
            "Use a smaller picture.",
        )
    return picture


def orientation_of(picture: Pillow.Image) -> int:
    """EXIF orientation, 1 to 8; 1 when absent, damaged or out of range."""
    try:
        value = int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF blocks are common and say nothing about the pixels
        return 1
    return value if 1 <= value <= 8 else 1


def header_of(picture: Pillow.Image) -> Header:
    """The facts of a picture that is not loaded yet. Pillow tells a TIFF's size turned already, all others' as stored."""
    width, height = picture.size
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        width, height = picture.tag_v2[TIFF_WIDTH], picture.tag_v2[TIFF_HEIGHT]
    return Header(ImageSize(height, width), orientation_of(picture))


def to_rgb(picture: Pillow.Image) -> Pillow.Image:
    """8-bit RGB of any mode. 16-bit greyscale is scaled; Pillow's own conversion would clip it to white."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        wide = np.asarray(picture).astype(np.uint32)
        picture = Pillow.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which copies, also what is RGB


def decode_image(data: bytes, where: object, limits: Limits = DISK_LIMITS) -> Image:
    """(H, W, 3) uint8 RGB, turned as EXIF says. The format is found by content, whatever the name says.

    Raises:
        ImageError: empty, no picture, over the limits, truncated or otherwise damaged.
    """
    return np.array(decode_rgb(data, where, limits))


def decode_rgb(data: bytes, where: object, limits: Limits = DISK_LIMITS) -> Pillow.Image:
    """`decode_image` as Pillow's picture: who resizes it next saves three copies of its pixels."""
    picture = open_checked(data, where, limits)
    try:
        picture.load()
        if orientation_of(picture) != 1:
            picture = ImageOps.exif_transpose(picture)
        return to_rgb(picture)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(where, f"is damaged or cut off ({error})", "Replace the file.") from error


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        ImageError: it is missing, a folder, or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})", "Restore the file or correct its path.") from error


def read_image(path: Path, limits: Limits = DISK_LIMITS) -> Image:
    """(H, W, 3) uint8 RGB of a file, turned as EXIF says; errors as `decode_image`."""
    return decode_image(read_bytes(path), path, limits)


def read_header(path: Path, limits: Limits = DISK_LIMITS) -> Header:
    """The header of a file whose pixels are not decoded; errors as `open_checked`."""
    data = read_bytes(path)
    try:
        return header_of(open_checked(data, path, limits))
    except (KeyError, ValueError, TypeError) as error:  # a TIFF without the tags of its size
        raise ImageError(path, f"has a damaged header ({error})", "Replace the file.") from error


def check_image(path: Path, limits: Limits = DISK_LIMITS) -> Header:
    """The header of a file whose every pixel could be decoded; errors as `decode_image`.

    JPEGs are decoded at 1/8 scale: the whole stream is read, so truncation is found, at a fraction of the cost.
    """
    picture = open_checked(read_bytes(path), path, limits)
    try:
        header = header_of(picture)
        picture.draft("RGB", (max(picture.width // 8, 1), max(picture.height // 8, 1)))
        picture.load()
    except Exception as error:  # as in decode_image
        raise ImageError(path, f"is damaged or cut off ({error})", "Replace the file.") from error
    return header


def shortest_edge_size(size: ImageSize, min_size: int, max_size: int) -> ImageSize:
    """`size` scaled so that its shorter side is `min_size`, or its longer side `max_size` if that is smaller.

    min_size 0 leaves the size alone. Rounds as Detectron2's ResizeShortestEdge (half up).
    """
    height, width = size
    if min_size == 0:
        return size
    scale = min_size / min(height, width)
    new_height, new_width = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(new_height, new_width) > max_size:
        shrink = max_size / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return ImageSize(max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1))


def size_of(image: Image | Pillow.Image) -> ImageSize:
    return ImageSize(image.height, image.width) if isinstance(image, Pillow.Image) else ImageSize(*image.shape[:2])


def resize(image: Image | Pillow.Image, size: ImageSize) -> Image:
    """(H, W, 3) or Pillow's RGB -> (size.height, size.width, 3), bilinear with antialiasing."""
    if size_of(image) == size:
        return np.asarray(image)
    picture = image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)
    return np.asarray(picture.resize((size.width, size.height), Pillow.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True)
class InputSize:
    """How a detector wants its pictures. A predictor that has one as `input_size` says that `resized` does no more than this.

    The server then resizes beside the model, in other threads and processes, and puts pictures together that pad to one size:
    padding to another one changes numbers near the border.

    min_size, max_size: pixels, of the shorter and the longer side
    divisor:            batches are padded to multiples of it
    """

    min_size: int
    max_size: int
    divisor: int

    def resized(self, image: Image | Pillow.Image) -> Image:
        """The (H, W, 3) picture at the detector's size."""
        return resize(image, shortest_edge_size(size_of(image), self.min_size, self.max_size))

    def padded(self, size: ImageSize) -> ImageSize:
        """What a resized picture of `size` is alone in a batch. Where it is equal, a batch gives the numbers of each alone."""
        step = max(self.divisor, 1)
        return ImageSize(-(-size.height // step) * step, -(-size.width // step) * step)


class Resizing:
    """A `StagedPredict` whose `resized` does what its `input_size` says. Subclasses have `found` and `detections`."""

    input_size: InputSize

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` a picture. All pictures run as one batch, padded to the largest."""
        if not images:
            return []
        sizes = [size_of(image) for image in images]
        found = self.found([self.resized(image) for image in images], sizes)
        return [self.detections(one, size) for one, size in zip(found, sizes, strict=True)]

    def resized(self, image: Image) -> Image:
        """The (H, W, 3) picture at the detector's size."""
        return self.input_size.resized(image)

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> Sequence[Any]:
        """What is in pictures of `sizes`, given at the detector's size; boxes are in pixels of `sizes`."""
        raise NotImplementedError

    def detections(self, found: Any, size: ImageSize) -> Detections:
        """One of `found`, in a picture of `size`, for callers."""
        raise NotImplementedError
