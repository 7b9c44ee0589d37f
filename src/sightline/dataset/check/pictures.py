"""Every picture decoded once: what is wrong with its file, and its fingerprint for finding copies.

JPEGs are decoded at the scale that is needed; their whole stream is read all the same, so that truncation is found.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, PngImagePlugin

from sightline.dataset.alike import DECODED_SIDE
from sightline.dataset.check.findings import Finding
from sightline.dataset.check.subject import Picture
from sightline.errors import ImageError
from sightline.images import DISK_LIMITS, Header, header_of, open_checked, orientation_of, read_bytes, to_rgb
from sightline.processors import cores
from sightline.records import Image, ImageSize

Fingerprint = Callable[[Image], NDArray[np.uint64]]

LOOK_SIDE_PX = DECODED_SIDE
"""Least shorter side in pixels to which a JPEG is decoded: enough for a fingerprint."""

LARGE_PIXELS = 25_000_000
LARGE_BYTES = 20 * 2**20

AT_ONCE = 512
"""Pictures handed to the threads at a time: what waits is bounded, however many there are."""

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
GREY = ("1", "L", "LA", "La")
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a picture's file is. format, mode: Pillow's; frames: more than 1: animated; bits: of a channel."""

    header: Header
    format: str
    mode: str
    size_bytes: int
    frames: int = 1
    bits: int = 8
    transparent: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What decoding one picture gave. traits: None when there are none; fingerprint: None when it was not decoded."""

    traits: Traits | None
    problem: tuple[str, str] | None = None
    fingerprint: NDArray[np.uint64] | None = field(default=None)


def look_at_all(
    pictures: Sequence[Picture], fingerprint: Fingerprint | None, progress: Callable[[int], None]
) -> Iterator[tuple[Picture, Seen]]:
    """Every picture that has a file, with what was seen, in their order. progress: is told how many are done."""
    waiting = iter([picture for picture in pictures if picture.path is not None])
    done = 0
    with ThreadPoolExecutor(min(cores(), 8)) as threads:  # Pillow decodes outside the interpreter's lock
        while some := list(itertools.islice(waiting, AT_ONCE)):
            yield from zip(some, threads.map(lambda picture: look_at(picture, fingerprint), some), strict=True)
            done += len(some)
            progress(done)


def look_at(picture: Picture, fingerprint: Fingerprint | None = None) -> Seen:
    """One picture's file, decoded whole."""
    assert picture.path is not None
    traits = None
    try:
        if not picture.path.is_file():
            return Seen(None, ("missing-picture", "is not there"))
        data = read_bytes(picture.path)
        opened = open_checked(data, picture.name, DISK_LIMITS)
    except ImageError as error:
        return Seen(None, ("unreadable", error.what))
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return Seen(None, ("missing-picture", f"cannot be reached ({error.strerror})"))
    try:
        traits = traits_of(opened, len(data))
        opened.draft(None, (LOOK_SIDE_PX, LOOK_SIDE_PX))
        opened.load()
        marks = None if fingerprint is None else fingerprint(shown(opened))
    except Exception as error:  # as in `images.decode_image`
        return Seen(traits, ("truncated", f"is damaged or cut off ({error})"))
    return Seen(traits, None, marks)


def shown(opened: Pillow.Image) -> Image:
    """(H, W, 3) RGB as EXIF turns it."""
    turned = ImageOps.exif_transpose(opened) if orientation_of(opened) != 1 else opened
    return np.asarray(to_rgb(turned))


def read_small(path: Path, side: int) -> tuple[Image, ImageSize]:
    """(the picture as EXIF turns it, a JPEG at the least scale that has `side` px; its full size, turned as well).

    Raises:
        ImageError: as `sightline.images.read_image`.
    """
    opened = open_checked(read_bytes(path), path, DISK_LIMITS)
    try:
        size = header_of(opened).shown
        opened.draft("RGB", (side, side))
        opened.load()
        return shown(opened), size
    except Exception as error:  # as in `images.decode_image`
        raise ImageError(path, f"is damaged or cut off ({error})", "Replace the file.") from error


def traits_of(opened: Pillow.Image, size_bytes: int) -> Traits:
    """The facts that a picture's header tells."""
    bits = 16 if opened.mode in DEEP else 8
    if isinstance(opened, PngImagePlugin.PngImageFile) and opened.png is not None:
        raw = opened.png.im_rawmode or ""  # Pillow decodes RGB of 16 bit to 8; only this tells
        bits = 16 if "16" in raw else bits
    return Traits(
        header=header_of(opened),
        format=opened.format or "",
        mode=opened.mode,
        size_bytes=size_bytes,
        frames=1 if opened.format == "MPO" else getattr(opened, "n_frames", 1),
        bits=bits,
        transparent=opened.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in opened.info,
    )


def findings_of(picture: Picture, seen: Seen) -> list[Finding]:
    """Everything that is wrong or odd about one picture's file."""
    found: list[Finding] = []

    def say(kind: str, what: str, weight: float = 0.0) -> None:
        found.append(Finding(kind=kind, where=picture.name, what=what, picture=picture.name, weight=weight))

    if seen.problem is not None:
        say(*seen.problem)
    if seen.traits is None:
        return found
    traits, header = seen.traits, seen.traits.header
    for kind, what, weight in frame_faults(picture.record.size, header):
        say(kind, what, weight)
    pixels = header.stored.height * header.stored.width
    if pixels > LARGE_PIXELS or traits.size_bytes > LARGE_BYTES:
        what = f"is {header.stored}, {traits.size_bytes / 2**20:.1f} MiB"
        say("large-picture", what, pixels)
    suffix = PurePath(picture.name).suffix.lower()
    if suffix not in EXTENSIONS.get(traits.format, (suffix,)):
        say("wrong-extension", f"is a {traits.format}, not what {suffix or 'no extension'} says")
    for kind, what in oddities(traits).items():
        say(kind, what)
    return found


def frame_faults(recorded: ImageSize, header: Header) -> Iterator[tuple[str, str, float]]:
    """(kind, what, weight) of a size that is not the recorded one, and of turned pictures."""
    turned = f"its EXIF orientation {header.orientation} turns it to {header.shown}"
    if recorded == header.shown:
        if header.orientation != 1:
            yield "turned", f"is stored as {header.stored}; EXIF orientation {header.orientation} turns it, labels fit that", 0
    elif recorded == header.stored:
        yield "labels-not-turned", f"has labels of {recorded}, as stored, but {turned}", 0
    else:
        off = abs(recorded.height / header.shown.height - 1) + abs(recorded.width / header.shown.width - 1)
        yield "wrong-size", f"is {header.shown}, its labels say {recorded}", off


def oddities(traits: Traits) -> Mapping[str, str]:
    """{kind: what} of the ways in which pixels are kept that are not plain 8-bit RGB."""
    found = {}
    if traits.mode in GREY:
        found["grey"] = "has one channel; it is read as RGB with three equal ones"
    if traits.mode == "CMYK":
        found["cmyk"] = "is CMYK"
    if traits.transparent:
        found["alpha"] = "has transparency, which is dropped"
    if traits.frames > 1:
        found["animated"] = f"has {traits.frames} frames; only the first is read"
    if traits.bits == 16:
        found["deep"] = f"has {traits.bits} bits a channel, read as 8"
    return found
