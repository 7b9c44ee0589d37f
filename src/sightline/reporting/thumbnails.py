"""The pictures of a report, small, as data: addresses: each is embedded once, however many mistakes are in it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from sightline.dataset.check.pictures import read_small
from sightline.errors import ImageError
from sightline.evaluation.results import Truth
from sightline.processors import cores
from sightline.view.pages import picture_uri

SIDES_PX = ((60, 640), (150, 480), (300, 400), (500, 300))
"""(pictures up to, longer side of each): few pictures can be larger."""

MAX_CHARACTERS = 10_000_000
"""Of all thumbnails together: a page stays below 15 MB."""


def place_of(truth: Truth, row: int, pictures: Path | None) -> Path | None:
    """The file of a picture below the folder `pictures`; None where that is not known. Names that climb out of it are none."""
    name = PurePath(truth.file_names[row])
    if pictures is None or not name.name or name.is_absolute() or ".." in name.parts:
        return None
    return pictures / name


def thumbnails(paths: Sequence[Path | None]) -> list[str]:
    """A data: address for each picture, in order; empty where it is missing or cannot be read.

    They end early, where the page would become too large.
    """
    side = next((side for count, side in SIDES_PX if len(paths) <= count), SIDES_PX[-1][1])

    def small(path: Path | None) -> str:
        if path is None:
            return ""
        try:
            image, _ = read_small(path, side)
        except ImageError:
            return ""
        return picture_uri(image, side)

    made: list[str] = []
    total = 0
    with ThreadPoolExecutor(min(cores(), 8)) as threads:  # Pillow works outside the interpreter's lock
        for uri in threads.map(small, paths):
            total += len(uri)
            if total > MAX_CHARACTERS:
                threads.shutdown(wait=False, cancel_futures=True)
                break
            made.append(uri)
    return made
