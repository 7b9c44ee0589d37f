"""labelme, versions 3 to 5: one JSON file a picture <-> Dataset.

A group id joins the parts of one object, among shapes of one class. The path of the picture is relative to its JSON file and
may come from Windows; it is never followed out of the folders at hand. The picture inside the JSON file is not used.
"""

import base64
import binascii
import io
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as Pillow

from sightline import storage
from sightline.coco import as_object, numbers, shorten, text, whole
from sightline.errors import ImageError, LabelError, Problem
from sightline.geometry import masks
from sightline.geometry.boxes import fault, is_empty
from sightline.images import DISK_LIMITS, Header, Limits, header_of, open_checked
from sightline.labels.outlines import FAR_PX, bounds, ellipse, is_bounds, outlined, within
from sightline.labels.pages import Page, assemble, collect
from sightline.labels.pictures import Shelf, size_of
from sightline.labels.report import Imported, ReadOptions, WriteOptions, imported
from sightline.labels.writing import bitmap_of, label_names, lost, unused_classes
from sightline.memory import read_whole
from sightline.records import Box, Dataset, ImageRecord, ImageSize, Instance, Polygons, Rle

NAME = "labelme"
KEYS = re.compile(rb'"(shapes|imagePath|imageData)"\s*:')
UNREAD = {"line", "linestrip", "point", "points"}  # they enclose nothing
VERSION = "5.5.0"
MAX_LOOKED_INTO = 20
"""JSON files of a folder that are looked into to see whether it is one of labelme's."""

EMBEDDED_HEAD = 2**18
"""Characters of an embedded picture that are decoded to find its size; most headers end long before."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shape. polygons: its outline, none of a rectangle; mask: its pixels (h, w), at (left, top)."""

    box: Box
    polygons: Polygons = ()
    mask: masks.Bitmap | None = None
    left: int = 0
    top: int = 0


@dataclass(slots=True)
class Thing:
    """One object, in one part or several."""

    place: str
    name: str
    crowd: bool
    parts: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Sheet:
    """What was met on the way. unread: shapes that enclose nothing, by kind; strangers: JSON files that are not labelme's."""

    problems: list[Problem] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    strangers: list[Path] = field(default_factory=list)


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is a JSON file of labelme, or a folder that holds some."""
    if not path.is_dir():
        return head.lstrip()[:1] == b"{" and bool(KEYS.search(head))
    return any(is_labelme(file) for file in sorted(path.rglob("*.json"))[:MAX_LOOKED_INTO])


def is_labelme(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(2**16).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return True  # so that reading it says what is wrong
    return head.lstrip()[:1] == b"{" and bool(KEYS.search(head))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files and of all folders, whose folders are looked through, too; classes are ordered by name.

    Raises:
        LabelError: a folder holds no JSON file of labelme.
    """
    sheet = Sheet()
    readers = (
        partial(read_file, file, path if path.is_dir() else path.parent, options.images, sheet)
        for path in paths
        for file in files_in(path, sheet)
    )
    dataset, pictures = assemble(
        collect(readers, sheet.problems, "Keep one of the two files; between two sources --on-duplicate chooses.")
    )
    return imported(NAME, paths, dataset, problems=sheet.problems, notes=notes(sheet), pictures=pictures)


def files_in(path: Path, sheet: Sheet) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.json"))
    own = [file for file in files if is_labelme(file)]
    if not own:
        raise LabelError(path, "holds no JSON file of labelme", "Name the folder that labelme saved in.")
    sheet.strangers += sorted(set(files) - set(own))
    return own


def notes(sheet: Sheet) -> list[str]:
    unread = sorted(sheet.unread.items())
    told = [f"{count:,} shapes of type {kind} enclose no object and were left out." for kind, count in unread]
    if sheet.strangers:
        shown = ", ".join(map(str, sheet.strangers[:5])) + (", ..." if len(sheet.strangers) > 5 else "")
        told.append(f"{len(sheet.strangers):,} JSON files are not labelme's and were left out: {shown}.")
    return told


def read_file(path: Path, base: Path, images: Path | None, sheet: Sheet) -> Page:
    """One picture. base: the folder that was given, below which pictures are named.

    Raises:
        LabelError: all that spoils the picture.
    """
    fields = read_json(path)
    shapes = fields.get("shapes")
    if not isinstance(shapes, list):
        raise LabelError(path, f"has shapes {shorten(shapes)}", "Give a complete JSON file of labelme.")
    shelf = Shelf([*([images] if images else []), path.parent, path.parent.parent])
    parts, picture = find_picture(fields, path, shelf)
    relative = path.parent.relative_to(base).as_posix()
    reference = posixpath.normpath(posixpath.join(relative, *parts))
    size = read_size(fields, path, picture)
    objects = read_shapes(shapes, size, str(path), sheet)
    name = re.sub(r"^(\.\./)+", "", reference)
    return Page(str(path), name, name, size, objects, picture)


def read_json(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(read_whole(path).decode("utf-8-sig"))
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"is not JSON ({error})", "Give a complete JSON file of labelme.") from error
    return as_object(content, str(path))


def find_picture(fields: Mapping[str, object], path: Path, shelf: Shelf) -> tuple[tuple[str, ...], Path | None]:
    """(the parts of the picture's path, relative to the JSON file; the picture, where it is here).

    A path that climbs or is absolute is somebody else's machine: its longest end that is here counts, as with S3 keys.
    A picture that was renamed together with its JSON file is found by the name of that.
    """
    written = fields.get("imagePath")
    if not isinstance(written, str) or not written.strip() or "\0" in written:
        beside = shelf.find_stem(path.stem)
        if beside is None:
            raise LabelError(path, f"has imagePath {shorten(written)}", "Give the picture's path, relative to this file.")
        return (beside.name,), beside
    text(fields, "imagePath", str(path))
    parts = tuple(part for part in written.replace("\\", "/").split("/") if part not in ("", "."))
    is_absolute = written.startswith(("/", "\\")) or parts[0].endswith(":")
    down = tuple(part for part in parts if part != ".." and not part.endswith(":"))
    if not down:
        raise LabelError(path, f"has imagePath {written!r}", "Give the picture's path, relative to this file.")
    ends = ("/".join(down[start:]) for start in range(len(down)))
    found = next((picture for end in ends if (picture := shelf.find(end))), None)
    return (down[-1:] if is_absolute else parts), found or shelf.find_stem(path.stem)


def read_size(fields: Mapping[str, object], path: Path, picture: Path | None) -> ImageSize:
    """As recorded; of the picture inside the JSON file or beside it where nothing is (version 3 and before).

    Raises:
        LabelError: it is no size, or contradicts the picture inside; or there is neither size nor picture.
    """
    embedded = embedded_header(fields.get("imageData"))
    if fields.get("imageHeight") is None or fields.get("imageWidth") is None:
        if embedded is not None:
            return embedded.shown
        if picture is None:
            raise LabelError(path, "has no imageHeight and imageWidth, and its picture is not here", "Add the picture.")
        return size_of(picture, path).shown
    size = ImageSize(whole(fields, "imageHeight", str(path)), whole(fields, "imageWidth", str(path)))
    if min(size) < 1 or size.height * size.width > DISK_LIMITS.max_pixels:
        raise LabelError(path, f"has the size {size}", "Give imageHeight and imageWidth in pixels.")
    if embedded is not None and size not in (embedded.shown, embedded.stored):
        raise LabelError(
            path, f"says {size}, and the picture inside it is {embedded.shown}", "Correct imageHeight and imageWidth."
        )
    return size


def embedded_header(data: object) -> Header | None:
    """The header of the picture in imageData; None if there is none that can be read, which then does not matter."""
    if not isinstance(data, str) or not data:
        return None
    for length in (EMBEDDED_HEAD, len(data)):
        try:
            return header_of(open_checked(base64.b64decode(data[:length]), NAME, DISK_LIMITS))
        except (ImageError, KeyError, ValueError, TypeError):  # KeyError, TypeError: a TIFF without the tags of its size
            continue
    return None


def read_shapes(shapes: Sequence[object], size: ImageSize, where: str, sheet: Sheet) -> list[tuple[str, Instance]]:
    """(class name, object still of class 0) of all shapes; one of zero size is left out alone, and is among the problems.

    Raises:
        LabelError: all that spoils the picture.
    """
    things: dict[object, Thing] = {}
    spoiling: list[Problem] = []
    for number, entry in enumerate(shapes, 1):
        place = f"{where}, shape {number}"
        try:
            shape = as_object(entry, place)
            kind = shape.get("shape_type") or "polygon"  # version 3 knew nothing else at first
            if isinstance(kind, str) and kind in UNREAD:
                sheet.unread[kind] += 1
                continue
            name = text(shape, "label", place)
            part = read_shape(shape, str(kind), size, place)
            if part is None or is_empty(part.box):
                sheet.problems.append(Problem(place, "has zero size", "Remove the shape."))
            elif wrong := fault(part.box, size):
                raise LabelError(place, wrong, "Correct its points, in pixels of this picture.")
            else:
                flags = shape.get("flags")
                crowd = isinstance(flags, dict) and flags.get("crowd") is True
                key = (name, group_of(shape, place, number))
                things.setdefault(key, Thing(place, name, crowd)).parts.append(part)
        except LabelError as error:
            spoiling.extend(error.problems)
    if spoiling:
        raise LabelError.collected(spoiling)
    return [(thing.name, joined_parts(thing, size)) for thing in things.values()]


def group_of(shape: Mapping[str, object], place: str, number: int) -> object:
    """What shapes of one object share; a shape without group id is an object of its own."""
    group = shape.get("group_id")
    if group is None:
        return ("alone", number)
    if not isinstance(group, int | str):
        raise LabelError(place, f"has group_id {shorten(group)}", "Give a whole number, or null.")
    return group


def read_shape(shape: Mapping[str, object], kind: str, size: ImageSize, place: str) -> Part | None:
    """One shape; None if it encloses nothing.

    Raises:
        LabelError: its kind is unknown, or its points are wrong.
    """
    points = read_points(shape.get("points"), place)
    if kind == "polygon":
        return from_outline(tuple(number for point in points for number in point)) if len(points) >= 3 else None
    if kind == "rectangle":
        return read_rectangle(points, place)
    if kind == "circle":
        (cx, cy), (x, y) = require(points, 2, kind, place)
        radius = math.hypot(x - cx, y - cy)
        return from_outlines(within(ellipse(cx, cy, radius, radius), size)) if radius > 0 else None
    if kind == "mask":
        return read_mask(shape.get("mask"), require(points, 2, kind, place), size, place)
    known = "polygon, rectangle, circle, mask"
    raise LabelError(place, f"has shape_type {shorten(kind)}", f"Known: {known}.")


def read_points(value: object, place: str) -> list[tuple[float, float]]:
    if not isinstance(value, list):
        raise LabelError(place, f"has points {shorten(value)}", "Give points as [[x, y], ...].")
    found: list[tuple[float, float]] = []
    for point in value:
        x, y = numbers(point, 2, "a point", place)
        if max(abs(x), abs(y)) > FAR_PX:
            raise LabelError(place, f"has the point {x:g}, {y:g}", "Give points in pixels of this picture.")
        found.append((x, y))
    return found


def require(points: list[tuple[float, float]], count: int, kind: str, place: str) -> list[tuple[float, float]]:
    if len(points) != count:
        raise LabelError(place, f"is a {kind} of {len(points)} points", f"Give {count}.")
    return points


def read_rectangle(points: list[tuple[float, float]], place: str) -> Part:
    """Two corners in any order; or all four, as tools write that took labelme's format over."""
    if len(points) == 4:
        xs, ys = {x for x, _ in points}, {y for _, y in points}
        if len(xs) > 2 or len(ys) > 2:
            raise LabelError(place, "is a rectangle that is turned", "Make it a polygon.")
    else:
        require(points, 2, "rectangle", place)
    return Part(bounds((tuple(number for point in points for number in point),)))


def read_mask(data: object, corners: list[tuple[float, float]], size: ImageSize, place: str) -> Part | None:
    """A PNG of the pixels from the first corner up to and including the second; None if there is none of the object."""
    fix = "Draw the mask again."
    if not isinstance(data, str):
        raise LabelError(place, f"has mask {shorten(data)}", fix)
    try:
        picture = open_checked(base64.b64decode(data, validate=True), place, Limits(max_pixels=size.height * size.width))
        crop = np.asarray(picture.convert("L")) > 0
    except (ImageError, binascii.Error, ValueError, OSError, SyntaxError, EOFError) as error:
        raise LabelError(place, f"has a mask that is no picture ({shorten(str(error))})", fix) from error
    (x1, y1), (x2, y2) = corners
    left, top = round(min(x1, x2)), round(min(y1, y2))
    height, width = crop.shape
    spans = abs(x2 - x1), abs(y2 - y1)
    if any(not span - 0.5 <= side <= span + 1.5 for side, span in zip((width, height), spans, strict=True)):
        raise LabelError(place, f"has a mask of {width} x {height} px between corners {spans[0]:g} and {spans[1]:g} apart", fix)
    if left < 0 or top < 0 or left + width > size.width or top + height > size.height:
        raise LabelError(place, f"has a mask outside its picture ({size})", fix)
    if not crop.any():
        return None
    x1, y1, x2, y2 = masks.bounds(crop)
    return Part((x1 + left, y1 + top, x2 + left, y2 + top), mask=crop, left=left, top=top)


def from_outline(corners: tuple[float, ...]) -> Part:
    return Part(bounds((corners,)), (corners,))


def from_outlines(polygons: Polygons) -> Part | None:
    return Part(bounds(polygons), polygons) if polygons else None


def joined_parts(thing: Thing, size: ImageSize) -> Instance:
    """One object of all its parts: a mask if one of them is, else their outlines, else a box around all."""
    box = bounds(tuple(part.box for part in thing.parts))
    drawn = [part for part in thing.parts if part.mask is not None]
    polygons = tuple(corners for part in thing.parts for corners in part.polygons)
    if drawn:
        return Instance(box, 0, thing.crowd, *mask_of(drawn, polygons, size))
    if polygons:
        return Instance(box, 0, thing.crowd, outlined(polygons, 0).area, polygons)
    return Instance(box, 0, thing.crowd)


def mask_of(drawn: Sequence[Part], polygons: Polygons, size: ImageSize) -> tuple[float, Rle]:
    """(its area, the run lengths of all pixels of all parts)."""
    only = drawn[0]
    if len(drawn) == 1 and not polygons and only.mask is not None:
        return float(only.mask.sum()), masks.encode_at(only.mask, only.top, only.left, size)
    bitmap = masks.rasterise(tuple(np.array(part) for part in polygons), size)
    for part in drawn:
        if part.mask is not None:
            height, width = part.mask.shape
            bitmap[part.top : part.top + height, part.left : part.left + width] |= part.mask
    return float(bitmap.sum()), masks.encode(bitmap)


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """One JSON file for each picture, beside which the picture belongs. Boxes, outlines, masks and classes are kept.

    A crowd region has the flag `crowd`, which is read back.

    Raises:
        LabelError: a name leads out of the folder, or two pictures would share a file.
    """
    losses = Counter[str]()
    for image, name in zip(dataset.images, label_names(dataset, ".json"), strict=True):
        losses["pictures lose their group"] += bool(image.group)
        content: dict[str, object] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes_of(image, dataset, losses),
            "imagePath": PurePosixPath(image.file_name).name,
            "imageData": None,
            "imageHeight": image.size.height,
            "imageWidth": image.size.width,
        }
        storage.write_json(to / name, content, indent=2)
    return [*lost(losses), *unused_classes(dataset)]


def shapes_of(image: ImageRecord, dataset: Dataset, losses: Counter[str]) -> list[dict[str, object]]:
    shapes: list[dict[str, object]] = []
    for group, instance in enumerate(image.instances, 1):
        name, outline = dataset.class_names[instance.label], instance.segmentation
        parts: list[dict[str, object]]
        mask = bitmap_of(outline, image.size, image.file_name) if isinstance(outline, Rle) else None
        if mask is not None and mask.any():
            parts = [mask_shape(mask)]
        elif isinstance(outline, tuple) and outline:
            losses["boxes become the bounds of their outlines"] += not is_bounds(instance.box, outline)
            parts = [{"shape_type": "polygon", "points": pairs(corners)} for corners in outline]
        else:
            losses["masks without a pixel become boxes"] += mask is not None
            parts = [{"shape_type": "rectangle", "points": pairs(instance.box)}]
        own = {
            "label": name,
            "group_id": group if len(parts) > 1 else None,
            "description": "",
            "flags": {"crowd": True} if instance.crowd else {},
        }
        shapes += [{**own, **part} for part in parts]
    return shapes


def pairs(corners: Sequence[float]) -> list[list[float]]:
    return [[x, y] for x, y in zip(corners[0::2], corners[1::2], strict=True)]


def mask_shape(bitmap: masks.Bitmap) -> dict[str, object]:
    """The pixels of an object as a PNG of their bounds, the second corner within it, as labelme has it."""
    x1, y1, x2, y2 = map(int, masks.bounds(bitmap))
    file = io.BytesIO()
    Pillow.fromarray(bitmap[y1:y2, x1:x2]).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"shape_type": "mask", "points": [[x1, y1], [x2 - 1, y2 - 1]], "mask": data}
