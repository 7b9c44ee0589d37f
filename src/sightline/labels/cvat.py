"""CVAT's own XML, version 1.1 <-> Dataset: "for images", and "for video", whose frames are pictures of one group.

A video's tracks are followed frame by frame: CVAT writes every frame of a track, and marks those that it interpolated; files of
other tools that hold key frames only have their boxes interpolated here, linearly, as CVAT does.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from sightline.coco import shorten
from sightline.errors import LabelError, Problem
from sightline.geometry import masks
from sightline.geometry.boxes import fault, is_empty
from sightline.images import DISK_LIMITS
from sightline.labels.cvat_writing import FILE, write
from sightline.labels.markup import number, read_xml, text_at
from sightline.labels.outlines import FAR_PX, bounds, ellipse, outlined, within
from sightline.labels.pictures import Shelf, size_of
from sightline.labels.report import Imported, ReadOptions, imported
from sightline.names import file_names
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance, Polygons, Rle

__all__ = ["read", "recognise", "write"]

NAME = "cvat"
SHAPES = {"box", "polygon", "mask", "ellipse"}
UNREAD = {"polyline", "points", "cuboid", "skeleton", "tag"}  # they enclose nothing, or not in the picture's plane
KEPT = {"label", "occluded", "source", "z_order"}
FRAME = "frame_{:06d}"  # what CVAT calls the pictures of a video when it exports them
MAX_FRAMES = 10_000_000
MAX_GAP = 100_000
"""Frames between two key frames: a longer gap is a damaged number."""


Frames = dict[int, list[tuple[str, Element, str | None]]]
"""Frame number -> (place for messages, shape, class name) of what it shows."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its class by name, and what joins it with others of its picture (empty: nothing)."""

    name: str
    instance: Instance
    group: str = ""


@dataclass(slots=True)
class Page:
    """One picture. reference: its name, or a frame's without suffix; file: where it is known already."""

    place: str
    reference: str
    size: ImageSize
    objects: list[Found] = field(default_factory=list)
    group: str = ""
    picture: Path | None = None


@dataclass(slots=True)
class Sheet:
    """What was met on the way.

    names:     classes in the order in which the files declare them
    unread:    elements that are no objects, by kind
    lost:      attributes by name, which a dataset does not hold
    filled:    boxes that were interpolated here
    joined:    shapes that became parts of another one of their group
    """

    names: dict[str, None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    joined: int = 0


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is CVAT's XML, or a folder that has its annotations.xml."""
    if not path.is_dir():
        return bool(re.search(rb"<annotations[\s>]", head))
    if not (path / FILE).is_file():
        return False
    with (path / FILE).open("rb") as file:
        return recognise(path / FILE, file.read(4096))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files together; classes in the order in which the files declare them.

    Raises:
        LabelError: a file is not CVAT's XML.
    """
    sheet = Sheet()
    pages: dict[str, Page] = {}
    for path in paths:
        file = path / FILE if path.is_dir() else path
        shelf = Shelf([*([options.images] if options.images else []), file.parent / "images", file.parent])
        for page in read_file(file, shelf, sheet):
            if page.reference in pages:
                what = f"labels {page.reference} again, after {pages[page.reference].place}"
                sheet.problems.append(
                    Problem(page.place, what, "Keep one of the two; between two sources --on-duplicate chooses.")
                )
            else:
                pages[page.reference] = page
    dataset, pictures = assemble(list(pages.values()), sheet)
    return imported(NAME, paths, dataset, problems=sheet.problems, notes=list(notes(sheet)), pictures=pictures)


def assemble(pages: Sequence[Page], sheet: Sheet) -> tuple[Dataset, dict[str, Path]]:
    """(the dataset, {file name: its picture})."""
    labels = {name: label for label, name in enumerate(sheet.names)}
    images: list[ImageRecord] = []
    pictures: dict[str, Path] = {}
    safe = file_names([page.reference for page in pages], keep_folders=True)
    for identity, (name, page) in enumerate(zip(safe, pages, strict=True), 1):
        instances = tuple(replace(one.instance, label=labels[one.name]) for one in page.objects)
        source = "" if name == page.reference else page.reference
        images.append(ImageRecord(identity, name, page.size, instances, source, page.group))
        if page.picture is not None:
            pictures[name] = page.picture
    return Dataset(tuple(Category(identity, name) for identity, name in enumerate(labels, 1)), tuple(images)), pictures


def notes(sheet: Sheet) -> Iterator[str]:
    for kind, count in sorted(sheet.unread.items()):
        yield f"{count:,} elements <{kind}> are no objects in the plane and were left out."
    if sheet.lost:
        told = ", ".join(f"{name} ({count:,})" for name, count in sheet.lost.most_common(10))
        yield f"Attributes of objects are not kept: {told}."
    if sheet.filled:
        yield f"{sheet.filled:,} boxes between key frames were interpolated."
    if sheet.joined:
        yield f"{sheet.joined:,} shapes are parts of another one of their group, as in CVAT's COCO export."


def read_file(path: Path, shelf: Shelf, sheet: Sheet) -> list[Page]:
    """The pictures of one file.

    Raises:
        LabelError: it is not CVAT's XML at all.
    """
    root = read_xml(path)
    if root.tag != "annotations":
        raise LabelError(path, f"is XML of <{shorten(root.tag)}>", "Give what CVAT exports as `CVAT for images 1.1`.")
    images, tracks = root.findall("image"), root.findall("track")
    if images and tracks:
        raise LabelError(path, "holds both images and tracks", "Export the task again.")
    declare_classes(root, sheet)
    return read_video(root, tracks, path, shelf, sheet) if tracks else read_images(root, images, path, shelf, sheet)


def declare_classes(root: Element, sheet: Sheet) -> None:
    """The labels of the task, job or project, which may have no object. Parts of a skeleton are none."""
    for label in root.findall("meta/*/labels/label"):
        name = text_at(label, "name")
        if name and label.find("parent") is None:
            sheet.names[name] = None


def read_images(root: Element, images: Sequence[Element], path: Path, shelf: Shelf, sheet: Sheet) -> list[Page]:
    """Pictures as "for images" lists them. Those of a video are of its group."""
    is_video = root.findtext("meta/task/mode") == "interpolation"
    task = text_at(root, "meta/task/id") or text_at(root, "meta/task/name") or path.stem
    pages = []
    for index, element in enumerate(images, 1):
        place = f"{path}: image {index}"
        try:
            name = element.get("name") or ""
            if not name or "\0" in name:
                raise LabelError(place, f"has the name {shorten(name)}", "Give the picture's name.")
            place = f"{path}: {name}"
            page = Page(place, plain(name), read_image_size(element, place), picture=shelf.find(plain(name)))
            page.objects = read_shapes(element, page.size, place, sheet)
            page.group = f"task {task}" if is_video else ""
            pages.append(page)
        except LabelError as error:
            sheet.problems.extend(error.problems)
    return pages


def plain(name: str) -> str:
    """A picture's name without what leads out of its folder; a task of server files may name them by their whole path."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")) or "_"


def read_image_size(element: Element, place: str) -> ImageSize:
    return to_size(element.get("height"), element.get("width"), place)


def to_size(height: str | None, width: str | None, place: str) -> ImageSize:
    high, wide = number(height or ""), number(width or "")
    if high and wide and min(high, wide) >= 1 and high % 1 == wide % 1 == 0 and high * wide <= DISK_LIMITS.max_pixels:
        return ImageSize(int(high), int(wide))
    raise LabelError(place, f"has the size {width} x {height}", "Give width and height in pixels.")


def read_shapes(element: Element, size: ImageSize, place: str, sheet: Sheet) -> list[Found]:
    """The objects of one picture; a shape of zero size is left out alone, and is among the problems.

    Raises:
        LabelError: all that spoils the picture.
    """
    found: list[Found] = []
    spoiling: list[Problem] = []
    for index, child in enumerate(element, 1):
        try:
            one = read_shape(child, child.get("label"), size, f"{place}, shape {index}", sheet)
            if one is not None:
                found.append(one)
        except LabelError as error:
            spoiling.extend(error.problems)
    if spoiling:
        raise LabelError.collected(spoiling)
    return joined(found, size, sheet)


def read_shape(element: Element, name: str | None, size: ImageSize, place: str, sheet: Sheet) -> Found | None:
    """One object; None if it is none, or of zero size, which is then among the problems.

    Raises:
        LabelError: it is broken, or of an unknown kind.
    """
    if element.tag in UNREAD:
        sheet.unread[element.tag] += 1
        return None
    if element.tag not in SHAPES:
        raise LabelError(place, f"is <{shorten(element.tag)}>", f"Known: {', '.join(sorted(SHAPES))}.")
    if not name or not name.strip():
        raise LabelError(place, f"has label {name!r}", "Give its class.")
    instance = read_geometry(element, size, place)
    if instance is None or is_empty(instance.box):
        sheet.problems.append(Problem(place, f"is a {element.tag} of zero size", "Remove it."))
        return None
    if wrong := fault(instance.box, size):
        raise LabelError(place, wrong, "Correct it, in pixels of this picture.")
    sheet.names.setdefault(name)
    attributes = {child.get("name") or "": (child.text or "").strip() for child in element.findall("attribute")}
    crowd = attributes.pop("is_crowd", "").lower() in ("true", "1")  # the attribute that CVAT takes COCO's crowds from
    sheet.lost.update(attributes.keys())
    return Found(name, replace(instance, crowd=crowd), element.get("group_id", "") if instance.segmentation else "")


def read_geometry(element: Element, size: ImageSize, place: str) -> Instance | None:
    """The object, still of class 0; None if it encloses nothing."""
    if element.tag == "box":
        x1, y1, x2, y2 = required(element, ("xtl", "ytl", "xbr", "ybr"), place)
        turned = rotation(element, place)
        if turned and x1 < x2 and y1 < y2:
            return cut_outline(rotated((x1, y1, x2, y2), turned), size)
        return Instance((x1, y1, x2, y2), 0)
    if element.tag == "ellipse":
        cx, cy, rx, ry = required(element, ("cx", "cy", "rx", "ry"), place)
        turned = math.radians(rotation(element, place))
        return cut_outline(ellipse(cx, cy, rx, ry, turned), size) if rx > 0 and ry > 0 else None
    if element.tag == "polygon":
        corners = read_points(element.get("points"), place)
        return outlined((corners,), 0) if len(corners) >= 6 else None
    return read_mask(element, size, place)


def rotation(element: Element, place: str) -> float:
    """Degrees clockwise around the middle; 0 where none is given."""
    return required(element, ("rotation",), place)[0] % 360 if element.get("rotation") else 0.0


def rotated(box: Box, degrees: float) -> tuple[float, ...]:
    """The corners of a box that is turned clockwise around its middle."""
    x1, y1, x2, y2 = box
    cx, cy, angle = (x1 + x2) / 2, (y1 + y2) / 2, math.radians(degrees)
    corners: list[float] = []
    for x, y in ((x1 - cx, y1 - cy), (x2 - cx, y1 - cy), (x2 - cx, y2 - cy), (x1 - cx, y2 - cy)):
        corners += [cx + x * math.cos(angle) - y * math.sin(angle), cy + x * math.sin(angle) + y * math.cos(angle)]
    return tuple(corners)


def cut_outline(corners: tuple[float, ...], size: ImageSize) -> Instance | None:
    polygons = within(corners, size)
    return outlined(polygons, 0) if polygons else None


def required(element: Element, keys: Sequence[str], place: str) -> list[float]:
    values = [number(element.get(key, "")) for key in keys]
    wrong = [
        f"{key} {element.get(key)!r}" for key, value in zip(keys, values, strict=True) if value is None or abs(value) > FAR_PX
    ]
    if wrong:
        raise LabelError(place, f"has {', '.join(wrong)}", "Give numbers, in pixels of this picture.")
    return [value for value in values if value is not None]


def read_points(written: str | None, place: str) -> tuple[float, ...]:
    """From "x,y;x,y;x,y"."""
    found: list[float] = []
    for pair in (written or "").split(";"):
        values = [number(text) for text in pair.split(",")]
        if len(values) != 2 or any(value is None or abs(value) > FAR_PX for value in values):
            raise LabelError(place, f"has the point {shorten(pair)}", "Give points as x,y;x,y;x,y.")
        found += [value for value in values if value is not None]
    return tuple(found)


def read_mask(element: Element, size: ImageSize, place: str) -> Instance | None:
    """Run lengths of a crop, row by row, beginning with the background; None if no pixel is the object's."""
    left, top, width, height = (int(value) for value in required(element, ("left", "top", "width", "height"), place))
    if left < 0 or top < 0 or width < 1 or height < 1 or left + width > size.width or top + height > size.height:
        raise LabelError(place, f"has a mask of {width} x {height} px at {left}, {top} in a picture of {size}", "Correct it.")
    texts = element.get("rle", "").split(",")
    runs = [int(text) for text in texts if text.strip().isdecimal() and len(text) < 12]
    if len(runs) != len(texts) or sum(runs) != width * height:
        what = f"has run lengths {shorten(element.get('rle'))}, which are not the {width * height} pixels of its box"
        raise LabelError(place, what, "Export the task again.")
    crop = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    if not crop.any():
        return None
    x1, y1, x2, y2 = masks.bounds(crop)
    box = (x1 + left, y1 + top, x2 + left, y2 + top)
    return Instance(box, 0, area=float(crop.sum()), segmentation=masks.encode_at(crop, top, left, size))


def joined(found: Sequence[Found], size: ImageSize, sheet: Sheet) -> list[Found]:
    """The objects of one picture, outlines of one class and one group as one object; boxes stay single."""
    groups: dict[object, list[Found]] = {}
    for index, one in enumerate(found):
        groups.setdefault((one.name, one.group) if one.group not in ("", "0") else index, []).append(one)
    sheet.joined += len(found) - len(groups)
    return [merge(parts, size) if len(parts) > 1 else parts[0] for parts in groups.values()]


def merge(parts: Sequence[Found], size: ImageSize) -> Found:
    outlines = [part.instance.segmentation for part in parts]
    polygons: Polygons = tuple(corners for one in outlines if isinstance(one, tuple) for corners in one)
    crowd = any(part.instance.crowd for part in parts)
    if not any(isinstance(one, Rle) for one in outlines):
        return replace(parts[0], instance=replace(outlined(polygons, 0), crowd=crowd))
    bitmap = masks.rasterise(tuple(np.array(corners) for corners in polygons), size)
    for one in outlines:
        if isinstance(one, Rle):
            bitmap |= masks.decode(one)
    box = bounds(tuple(part.instance.box for part in parts))
    return replace(parts[0], instance=Instance(box, 0, crowd, float(bitmap.sum()), masks.encode(bitmap)))


def read_video(root: Element, tracks: Sequence[Element], path: Path, shelf: Shelf, sheet: Sheet) -> list[Page]:
    """The frames of one video. All frames of the task are pictures, also those without an object.

    Raises:
        LabelError: tracks of several videos, or nothing tells the frames' size.
    """
    tasks = {track.get("task_id") for track in tracks}
    if len(tasks) > 1:
        raise LabelError(path, f"holds tracks of {len(tasks)} tasks, whose frames share numbers", "Export each task by itself.")
    meta = next((one for one in (root.find("meta/task"), root.find("meta/job")) if one is not None), root)
    step = frame_step(meta)
    found: Frames = {frame: [] for frame in frames_of(meta, step)}
    spoiled: list[range] = []
    for track in tracks:
        try:
            follow(track, step, path, found, sheet)
        except LabelError as error:
            sheet.problems.extend(error.problems)
            frames = [frame for shape in track if (frame := frame_of(shape)) is not None]
            spoiled.append(range(min(frames, default=0), max(frames, default=-1) + 1))  # the object may be in any of these
    group = f"task {text_at(meta, 'id') or text_at(meta, 'name') or path.stem}"
    size = video_size(root, meta, found, path, shelf)
    pages = []
    for frame in sorted(found):
        if any(frame in frames for frames in spoiled):
            continue
        name = FRAME.format(frame)
        picture = shelf.find_stem(name)
        page = Page(f"{path}: frame {frame}", picture.name if picture else f"{name}.png", size, group=group, picture=picture)
        try:
            page.objects = read_frame(found[frame], size, sheet)
            pages.append(page)
        except LabelError as error:
            sheet.problems.extend(error.problems)
    return pages


def frame_step(meta: Element) -> int:
    """Every how many frames of the video the task has one."""
    match = re.fullmatch(r"step\s*=\s*([1-9]\d{0,6})", text_at(meta, "frame_filter"))
    return int(match[1]) if match else 1


def frames_of(meta: Element, step: int) -> range:
    """The numbers of a task's frames; none where the file does not tell them, or tells something else each time."""
    size, start, stop = (number(text_at(meta, key)) for key in ("size", "start_frame", "stop_frame"))
    if size is None or start is None or stop is None or not 0 <= start <= stop < MAX_FRAMES:
        return range(0)
    frames = range(int(start), int(stop) + 1, step)
    return frames if len(frames) == size else range(0)


def frame_of(shape: Element) -> int | None:
    text = shape.get("frame", "")
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) < MAX_FRAMES else None


def follow(track: Element, step: int, path: Path, found: Frames, sheet: Sheet) -> None:
    """One track into the frames that show it; frames in which the object is outside are frames all the same.

    Raises:
        LabelError: a shape without its frame, a frame that comes twice, or a gap that cannot be filled.
    """
    name, place = track.get("label"), f"{path}: track {track.get('id')}"
    shapes: dict[int, Element] = {}
    for shape in track:
        frame = frame_of(shape)
        if frame is None or frame in shapes:
            what = f"has the frame {shape.get('frame')!r}" + (" twice" if frame in shapes else "")
            raise LabelError(place, what, "Give each shape a frame of its own.")
        shapes[frame] = shape
    frames = sorted(shapes)
    for index, frame in enumerate(frames):
        shape = shapes[frame]
        shown = found.setdefault(frame, [])
        if shape.get("outside") == "1":
            continue
        shown.append((f"{place}, frame {frame}", shape, name))
        following = frames[index + 1] if index + 1 < len(frames) else frame
        for between in range(frame + step, following, step):
            if following - frame > MAX_GAP * step:
                raise LabelError(place, f"has nothing between the frames {frame} and {following}", "Export the task again.")
            filled = interpolated(
                shape, shapes[following], (between - frame) / (following - frame), f"{place}, frame {between}"
            )
            found.setdefault(between, []).append((f"{place}, frame {between}", filled, name))
            sheet.filled += 1


def interpolated(one: Element, other: Element, share: float, place: str) -> Element:
    """A box between two key frames; a shape that does not move stays as it is.

    Raises:
        LabelError: they are no boxes, and differ.
    """
    keys = ("xtl", "ytl", "xbr", "ybr")
    if one.tag == other.tag == "box" and not one.get("rotation") and not other.get("rotation"):
        pairs = zip(required(one, keys, place), required(other, keys, place), strict=True)
        between = [start + (end - start) * share for start, end in pairs]
        filled = Element("box", one.attrib | {key: repr(value) for key, value in zip(keys, between, strict=True)})
        filled.extend(one)
        return filled
    moves = {key: value for key, value in one.attrib.items() if key not in ("frame", "keyframe", "outside", "occluded")}
    if one.tag == other.tag and all(other.get(key) == value for key, value in moves.items()):
        return one
    raise LabelError(
        place,
        f"is a {one.tag} between key frames, which is not written",
        "Export the task from CVAT, which writes every frame.",
    )


def video_size(root: Element, meta: Element, found: Frames, path: Path, shelf: Shelf) -> ImageSize:
    """The size of all frames: as recorded, else of the first frame that is here.

    Raises:
        LabelError: nothing tells it.
    """
    original = next((one for one in (meta.find("original_size"), root.find("meta/original_size")) if one is not None), None)
    if original is not None:
        return to_size(text_at(original, "height"), text_at(original, "width"), f"{path}: original_size")
    for frame in sorted(found):
        picture = shelf.find_stem(FRAME.format(frame))
        if picture is not None:
            return size_of(picture, path).shown
    name = FRAME.format(min(found, default=0))
    raise LabelError(path, f"does not tell the frames' size, and none ({name}.*) is in {shelf.shown()}", "Add the frames.")


def read_frame(shapes: Sequence[tuple[str, Element, str | None]], size: ImageSize, sheet: Sheet) -> list[Found]:
    """The objects of one frame; errors as `read_shapes`."""
    found: list[Found] = []
    spoiling: list[Problem] = []
    for place, shape, name in shapes:
        try:
            one = read_shape(shape, name, size, place, sheet)
            if one is not None:
                found.append(replace(one, group=""))  # a group of tracks is no object in parts
        except LabelError as error:
            spoiling.extend(error.problems)
    if spoiling:
        raise LabelError.collected(spoiling)
    return found
