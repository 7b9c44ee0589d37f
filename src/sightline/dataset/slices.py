"""A dataset folder cut into tiles, for training at the pixels of large pictures: each tile is a picture with the labels in it.

The tiles are those of sliced prediction (`slicing.py`), so a model sees in training what it will be given. Tiles of a picture
are one group, which a later split keeps together; parts that are there already stay: a tile is in the parts of its picture.
"""

import io
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from sightline import coco, storage
from sightline.dataset.crops import Window, crop_image, crop_mask
from sightline.dataset.folder import DatasetPart, annotations_file, open_part, parts_of
from sightline.dataset.pieces import shape_of
from sightline.errors import ConfigError, DatasetError, Problem, SightlineError
from sightline.geometry.boxes import area, clip
from sightline.geometry.masks import bounds, encode, is_empty
from sightline.images import read_image
from sightline.processors import cores
from sightline.records import Dataset, Image, ImageRecord, ImageSize, Instance, Polygons, Rle
from sightline.slicing import Slices

MIN_VISIBLE = 0.3

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
QUALITY = 95
"""Of tiles of JPEGs, with colours at full size: as files without loss they would take five times the space."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One picture's tiles. dropped: instances that are seen in some tile, and in none as much as was asked for."""

    tiles: tuple[ImageRecord, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class SlicesReport:
    """What became of a folder. images and tiles: of all parts, each once; empty: tiles without objects, written or left out.

    parts: name -> how many tiles; boxes: in all tiles, an object in two of them twice
    dropped: objects of which no tile shows enough
    """

    folder: str | Path
    images: int
    tiles: int
    empty: int
    boxes: int
    dropped: int
    parts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parts.items())
        lost = f"; {self.dropped:,} objects of which no tile shows enough" if self.dropped else ""
        told = (
            f"{self.folder}: {self.tiles:,} tiles of {self.images:,} images, {self.boxes:,} boxes, {self.empty:,} tiles without"
        )
        return f"{told}{lost}\n  {parts}"

    def as_dict(self) -> dict[str, object]:
        names = ("images", "tiles", "empty", "boxes", "dropped")
        return {"folder": str(self.folder), **{name: getattr(self, name) for name in names}, "parts": dict(self.parts)}


def slice_folder(
    folder: str | Path, to: Path, slices: Slices, *, min_visible: float = MIN_VISIBLE, with_empty: bool = True
) -> SlicesReport:
    """A dataset folder at `to` with the tiles of all pictures of `folder`, in the same parts. Made whole or not at all.

    min_visible: share of an object's box that a tile must show to have it as a label, above 0 and up to 1
    with_empty:  tiles without an object stay, as negatives

    Raises:
        ConfigError: a share that is none.
        DatasetError: there are no pictures, or two would have tiles of one name.
        SightlineError: every picture that cannot be read; or `to` exists.
    """
    if not 0 < min_visible <= 1:
        raise ConfigError("min_visible", f"is {min_visible:g}", "Give a share above 0, up to 1; 0.3 is usual.")
    source = Path(storage.local_path(folder, "Slicing"))
    parts = {name: open_part(source, name) for name in dict.fromkeys(name for name, _ in parts_of(source))} or {
        "all": open_part(source)  # which says what is wrong
    }
    with storage.atomic_folder(to) as made:
        cuts = cut_all(parts, made / "images", slices, min_visible)
        if not with_empty:
            cuts = {path: without_empty(cut, made / "images") for path, cut in cuts.items()}
        numbered = {tile.file_name: number for number, tile in enumerate((t for c in cuts.values() for t in c.tiles), 1)}
        counts = {}
        for name, part in parts.items():
            tiles = [tile for image in part.dataset.images for tile in cuts[part.pictures / image.file_name].tiles]
            images = tuple(replace(tile, id=numbered[tile.file_name]) for tile in tiles)
            coco.write(Dataset(part.dataset.categories, images), annotations_file(made, name))
            counts[name] = len(images)
    every = [tile for cut in cuts.values() for tile in cut.tiles]
    return SlicesReport(
        folder=to,
        images=len(cuts),
        tiles=len(every),
        empty=sum(not tile.instances for tile in every),
        boxes=sum(len(tile.instances) for tile in every),
        dropped=sum(cut.dropped for cut in cuts.values()),
        parts=counts,
    )


def cut_all(parts: Mapping[str, DatasetPart], to: Path, slices: Slices, min_visible: float) -> dict[Path, Cut]:
    """{picture: its tiles}, written below `to`; each picture once, however many parts it is in.

    Raises:
        SightlineError: all pictures that cannot be read.
    """
    pictures = {part.pictures / image.file_name: image for part in parts.values() for image in part.dataset.images}
    check_names(pictures, slices)
    problems: list[Problem] = []

    def work(item: tuple[Path, ImageRecord]) -> Cut:
        try:
            return cut_picture(*item, to, slices, min_visible)
        except SightlineError as error:
            problems.extend(error.problems)
            return Cut(())

    with ThreadPoolExecutor(cores(), thread_name_prefix="slice") as pool:
        cuts = dict(zip(pictures, pool.map(work, pictures.items()), strict=True))
    if problems:
        raise DatasetError.collected(problems)
    return cuts


def check_names(pictures: Mapping[Path, ImageRecord], slices: Slices) -> None:
    """Nothing, if no two pictures would have tiles of one name.

    Raises:
        DatasetError: all that would.
    """
    owners: dict[str, Path] = {}
    problems = []
    for path, image in pictures.items():
        for window in windows(image.size, slices):
            other = owners.setdefault(tile_name(image, window), path)
            if other != path:
                what = f"would have tiles of the same names as {other}"
                problems.append(Problem(str(path), what, "Rename one of the two pictures, and import again."))
                break
    if problems:
        raise DatasetError.collected(problems)


def cut_picture(path: Path, image: ImageRecord, to: Path, slices: Slices, min_visible: float) -> Cut:
    """The tiles of one picture, written; one that is not larger than a tile is copied.

    Raises:
        ImageError: it cannot be read.
        DatasetError: it is of another size than its label says, or a mask is broken.
    """
    pixels = read_image(path)
    if pixels.shape[:2] != tuple(image.size):
        what = f"is {ImageSize(*pixels.shape[:2])}, its label says {image.size}"
        raise DatasetError(path, what, "Import the data set again.")
    seen: set[int] = set()
    kept: set[int] = set()
    tiles = []
    for window in windows(image.size, slices):
        name = tile_name(image, window)
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if slices.fit(image.size):
            shutil.copyfile(path, target)
        else:
            target.write_bytes(encoded(crop_image(pixels, window), target.suffix))
        inside = dict(labels_in(image, window, min_visible, path, seen))
        kept |= inside.keys()
        group = image.group or image.file_name
        tiles.append(ImageRecord(0, name, window.size, tuple(inside.values()), group=group))
    return Cut(tuple(tiles), len(seen - kept))


def windows(size: ImageSize, slices: Slices) -> list[Window]:
    return [Window(*tile) for tile in slices.tiles(size)]


def tile_name(image: ImageRecord, window: Window) -> str:
    """street/a.jpg -> street/a_0_512.jpg, by row and column of its first pixel; without loss unless the picture has some."""
    if window.size == image.size:
        return image.file_name
    stem, _, suffix = image.file_name.rpartition(".")
    kind = f".{suffix}" if f".{suffix.lower()}" in JPEG_SUFFIXES else ".png"
    return f"{stem or suffix}_{window.top}_{window.left}{kind}"


def encoded(pixels: Image, suffix: str) -> bytes:
    file = io.BytesIO()
    picture = Pillow.fromarray(np.ascontiguousarray(pixels))
    if suffix.lower() in JPEG_SUFFIXES:
        picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    else:
        picture.save(file, "PNG")
    return file.getvalue()


def labels_in(
    image: ImageRecord, window: Window, min_visible: float, path: Path, seen: set[int]
) -> Iterator[tuple[int, Instance]]:
    """(its place in the label, the instance as the tile shows it) of all that are seen well enough.

    seen: gets the places of all that are seen at all

    A crowd is kept however little of it is seen: it is never a miss.
    """
    for number, instance in enumerate(image.instances):
        box = np.array([instance.box], dtype=np.float64)
        moved = box - np.array([window.left, window.top, window.left, window.top], dtype=np.float64)
        visible = clip(moved, window.size)
        share = float(area(visible)[0] / max(area(clip(box, image.size))[0], 1e-9))
        if share <= 0:
            continue
        seen.add(number)
        if share < min_visible and not instance.crowd:
            continue
        x1, y1, x2, y2 = visible[0].tolist()
        if instance.segmentation is None:
            yield number, replace(instance, box=(x1, y1, x2, y2), area=None)
            continue
        mask = crop_mask(shape_of(instance, path), window)
        if not is_empty(mask):
            outline: Polygons | Rle = (
                encode(mask) if isinstance(mask, np.ndarray) else tuple(tuple(part.tolist()) for part in mask)
            )
            yield number, replace(instance, box=bounds(mask), area=None, segmentation=outline)


def without_empty(cut: Cut, images: Path) -> Cut:
    """The same without tiles that show no object; their files are removed."""
    for tile in cut.tiles:
        if not tile.instances:
            (images / tile.file_name).unlink()
    return replace(cut, tiles=tuple(tile for tile in cut.tiles if tile.instances))
