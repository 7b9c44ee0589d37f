"""Videos as frames and back, through PyAV (FFmpeg's libraries): every N-th frame out, turned as the file says; drawn ones in.

Frames are numbered from 0 as the decoder gives them. Their times are the file's own, counted from its first frame, so a
variable frame rate is kept, in the JSON lines and in the video that is written. Sound is not copied.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import ImageError, SightlineError
from sightline.images import DISK_LIMITS, resize
from sightline.optional import require
from sightline.records import Image, ImageSize
from sightline.storage import is_remote, local_path

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".3gp"})
"""File names that are taken for videos. What is inside decides how they are decoded."""

TICKS_PER_S = 60_000
"""Time base of written videos: whole numbers for 24, 25, 30, 50 and 60 frames a second; MPEG-4 holds no finer one."""

ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "4"}))
"""What drawn videos are written with: H.264, which browsers play; else what every FFmpeg has."""

CUT_S, CUT_SHARE = 1.0, 0.05
"""A video that ends this much earlier than its header says, in seconds and as a share, is cut off."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame, decoded, not yet RGB. time_s: from the first frame."""

    name: str
    number: int
    time_s: float
    frame: Any


def is_video(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def library() -> Any:
    """PyAV.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require("av", "video", "reading videos")


def shots(name: str, every: int) -> Iterator[Shot]:
    """Every `every`-th frame of a video, the first one first. One is decoded at a time.

    Raises:
        MissingDependencyError: PyAV is not installed.
        ImageError: the file is missing, no video, without a frame, too large, or damaged from some frame on.
    """
    av = library()
    path = local_path(name, "Prediction")
    if path.is_file() and not path.stat().st_size:
        raise ImageError(name, "is empty (0 bytes)", "Restore the video.")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise ImageError(name, f"is no video that can be read ({reason(error)})", "Replace the file.") from error
    with container:
        streams = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise ImageError(name, "holds no video", "Give a file with pictures in it.")
        stream = streams[0]
        require_size(name, ImageSize(stream.height or 0, stream.width or 0))
        stream.thread_type = "AUTO"
        yield from decoded(av, name, container, stream, every)


def decoded(av: Any, name: str, container: Any, stream: Any, every: int) -> Iterator[Shot]:
    """The frames of an opened stream; errors as `shots`."""
    first, time_s, number = None, 0.0, -1
    rate = float(stream.average_rate or 25)
    try:
        for number, frame in enumerate(container.decode(stream)):
            first = first if first is not None else frame.time
            time_s = frame.time - first if frame.time is not None and first is not None else number / rate
            if number % every == 0:
                require_size(name, ImageSize(frame.height, frame.width))
                yield Shot(name, number, time_s, frame)
    except (av.FFmpegError, OSError) as error:
        raise ImageError(name, f"is damaged after frame {number} ({reason(error)})", "Replace the file.") from error
    if number < 0:
        raise ImageError(name, "has no frame that can be decoded", "Replace the file.")
    promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
    missing = promised - time_s - 1 / rate
    if missing > CUT_S and missing > CUT_SHARE * promised:
        raise ImageError(name, f"is cut off: it ends at {time_s:.1f} s of {promised:.1f} s", "Copy the file again.")


def reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def require_size(name: str, size: ImageSize) -> None:
    if size.height * size.width > DISK_LIMITS.max_pixels or max(size) > DISK_LIMITS.max_side:
        raise ImageError(name, f"has frames of {size}, more than {DISK_LIMITS.max_pixels:,} pixels", "Use a smaller video.")


def to_image(shot: Shot) -> Image:
    """(H, W, 3) uint8 RGB, turned as the file's display matrix says (by quarters; phones write no others)."""
    pixels = shot.frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(shot.frame.rotation / 90) % 4))


def frame_count(name: str, every: int) -> int | None:
    """How many frames there are to look at, as the header says; None where it does not, of broken files and of those on S3."""
    av = library()
    if is_remote(name):
        return None
    try:
        with av.open(str(local_path(name, "Prediction"))) as container:
            frames = container.streams.video[0].frames
    except (av.FFmpegError, OSError, IndexError, SightlineError):
        return None
    return -(-frames // every) if frames else None


class VideoWriter:
    """Pictures to an MP4 file, which appears at `path` when it is closed well, or not at all.

    size: of the first picture; others are brought to it. An odd side loses its last pixel, H.264 holds even ones only.
    rate: frames a second, a hint for players; the times of the frames count
    """

    def __init__(self, path: Path, size: ImageSize, rate: float) -> None:
        av = library()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.size = path, ImageSize(max(size.height & ~1, 2), max(size.width & ~1, 2))
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        name, options = next(entry for entry in ENCODERS if entry[0] in av.codecs_available)
        self.container = av.open(str(self.temporary), "w", format="mp4", options={"movflags": "+faststart"})
        self.stream = self.container.add_stream(name, rate=Fraction(rate).limit_denominator(1001), options=options)
        self.stream.height, self.stream.width = self.size
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        self.last = -1

    def write(self, image: Image, time_s: float) -> None:
        """One (H, W, 3) RGB picture, shown from `time_s` on."""
        height, width = self.size
        cropped = image[:height, :width] if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1) else image
        frame = library().VideoFrame.from_ndarray(np.ascontiguousarray(resize(cropped, self.size)), format="rgb24")
        self.last = max(self.last + 1, round(time_s * TICKS_PER_S))
        frame.pts, frame.time_base = self.last, Fraction(1, TICKS_PER_S)
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def close(self) -> None:
        """The file, whole."""
        for packet in self.stream.encode(None):
            self.container.mux(packet)
        self.container.close()
        self.temporary.replace(self.path)

    def drop(self) -> None:
        """Nothing is left of it."""
        self.container.close()
        self.temporary.unlink(missing_ok=True)
