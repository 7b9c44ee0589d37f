"""What was found, drawn: pictures as pictures under their own relative names, the frames of a video as a video."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from PIL import Image as Pillow

from sightline.errors import ImageError
from sightline.records import Detections, Image, ImageSize
from sightline.serving.files import Found, in_order
from sightline.serving.videos import VideoWriter, is_video
from sightline.storage import atomic_write, is_remote, key_parts

PAINTERS = 2
"""Threads that draw and write beside the model; a JPEG of 12 megapixels takes about 0.15 s."""

DRAWN = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
"""How pictures are written, by suffix; others get `.png` added."""

VIDEO = ".mp4"
"""How videos are written; other names get it added."""

FRAME_RATE = 25.0
"""Of a drawn video whose first two frames do not tell; players go by the frames' own times."""

Paint = Callable[[Image, Detections], Image]
"""A copy of the picture with what was found on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    found: Found
    image: Image | None = None


def drawn(results: Iterator[Found], paint: Paint, targets: Mapping[str, Path]) -> Generator[Found, None, None]:
    """The same results, each when its drawn picture, or frame, is written; done beside what makes the results.

    targets: name -> where it is drawn. A video appears when its last frame is written
    """

    def work(found: Found) -> Painted:
        if found.image is None or found.detections is None:
            return Painted(found)
        image = paint(found.image, found.detections)
        if found.frame is not None:
            return Painted(found, image)
        write_picture(image, targets[found.name])
        return Painted(found)

    done = in_order(work, results, threads=PAINTERS, window=2 * PAINTERS)
    film: VideoWriter | None = None
    name = ""
    try:
        for painted in done:
            if film is not None and painted.found.name != name:
                film.close()
                film = None
            if painted.image is not None:
                if film is None:
                    name = painted.found.name
                    film = VideoWriter(targets[name], ImageSize(*painted.image.shape[:2]), FRAME_RATE)
                film.write(painted.image, painted.found.time_s or 0.0)
            yield painted.found
        if film is not None:
            film.close()
            film = None
    finally:
        done.close()
        if film is not None:
            film.drop()


def targets_of(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Where each picture and video goes when drawn.

    Raises:
        ImageError: a drawn picture would replace one of the pictures that are read.
    """
    targets = {name: folder / relative for name, relative in drawn_names(names).items()}
    sources = {Path(name).resolve() for name in names if not is_remote(name)}
    if clash := next((target for target in targets.values() if target.resolve() in sources), None):
        raise ImageError(clash, "is one of the pictures to read, and would be drawn over", "Give --draw another folder.")
    return targets


def drawn_names(names: Sequence[str]) -> dict[str, PurePath]:
    """Where each picture goes when drawn: its path below the folder that all share; no two the same. The suffix says how.

    >>> drawn_names(["a/x/1.jpg", "a/y/1.tif"])
    {'a/x/1.jpg': PurePosixPath('x/1.jpg'), 'a/y/1.tif': PurePosixPath('y/1.tif.png')}
    """
    absolute = {name: place_of(name) for name in names}
    shared = os.path.commonpath([path.parent for path in absolute.values()]) if absolute else ""
    found: dict[str, PurePath] = {}
    taken = {whole.relative_to(shared) for whole in absolute.values()}
    for given, whole in absolute.items():
        name = whole.relative_to(shared)
        added, known = (VIDEO, (VIDEO,)) if is_video(given) else (".png", tuple(DRAWN))
        while name.suffix.lower() not in known or (name in taken and name != whole.relative_to(shared)):
            name = name.with_name(name.name + added)
        taken.add(name)
        found[given] = name
    return found


def place_of(name: str) -> PurePath:
    """A path that says where a picture is: absolute, or bucket and key; without `..`, which keys may have."""
    if not is_remote(name):
        return PurePath(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow links
    return PurePosixPath("/", *("_" if part in (".", "..") else part for part in key_parts(name)))


def write_picture(image: Image, path: Path) -> None:
    """`image` as JPEG or PNG, as the name says; whole, or not at all."""
    with atomic_write(path) as file:
        Pillow.fromarray(image).save(file, DRAWN[path.suffix.lower()], quality=92, compress_level=1)
