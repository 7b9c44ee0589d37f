"""Label Studio's JSON and JSON-MIN exports <-> Dataset.

Coordinates are percents of the picture's sides; a turned rectangle turns around its top left corner, clockwise. Masks of the
brush have run lengths of their own kind, of bits, over four channels. A view that was turned while labelling
(`image_rotation`) changes no coordinate. Predictions are not labels and are not read.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from sightline import storage
from sightline.coco import as_object, is_number, numbers, shorten, whole
from sightline.errors import LabelError, Problem
from sightline.geometry import masks
from sightline.geometry.boxes import fault, is_empty
from sightline.images import DISK_LIMITS, SUFFIXES
from sightline.labels.outlines import ellipse, is_bounds, outlined, within
from sightline.labels.pages import Page, assemble, collect
from sightline.labels.pictures import Shelf, size_of
from sightline.labels.report import Imported, ReadOptions, WriteOptions, imported
from sightline.labels.writing import bitmap_of, lost, require_safe_names, unused_classes
from sightline.memory import read_whole
from sightline.records import Dataset, ImageRecord, ImageSize, Instance
from sightline.storage import is_remote

NAME = "label-studio"
FILE = "tasks.json"
CONFIG = "label_config.xml"
SHAPES = ("rectangle", "polygon", "ellipse", "brush")
WORDS = re.compile(rb'"(annotations|completions|predictions|annotation_id|(rectangle|polygon|ellipse|brush)labels)"\s*:')
UNREAD = {"keypoint", "choices", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "ranker", "relation"}
SIDES = ("original_width", "original_height")
LIMIT_PERCENT = 1e6  # beyond it a number is damaged
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
BRUSH_HEAD_BITS = 32 + 5 + 4 * 4
BRUSH_RUN = 16  # bits of a run's length, as they are written here
CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotation of a task. updated: as Label Studio writes times, which order as text."""

    results: list[object]
    updated: str


@dataclass(slots=True)
class Task:
    """One picture: where Label Studio has it, and its annotations that were not cancelled."""

    place: str
    source: str
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class Sheet:
    """What was met on the way. chosen: tasks of several annotations, for which a rule decided."""

    problems: list[Problem] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    chosen: int = 0


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is a list of tasks, or of JSON-MIN's items; or a folder with tasks.json as `write` makes it."""
    if path.is_dir():
        if not (path / FILE).is_file():
            return False
        with (path / FILE).open("rb") as file:
            return recognise(path / FILE, file.read(2**16))
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" and bool(WORDS.search(head))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The labelled pictures of all files together; classes are ordered by name.

    A task without an annotation is not labelled and becomes no picture; one with an empty annotation is a negative.
    Several annotations of one task are a problem, unless `options.on_duplicate` chooses the "first" or the "last" one, or
    joins the objects of all.

    Raises:
        LabelError: a file is no list of tasks.
    """
    sheet = Sheet()
    dataset, pictures = assemble(
        collect(
            tasks_of(paths, options, sheet),
            sheet.problems,
            "Keep one of the two tasks; between two sources --on-duplicate chooses.",
        )
    )
    return imported(NAME, paths, dataset, problems=sheet.problems, notes=list(notes(sheet)), pictures=pictures)


def tasks_of(paths: Sequence[Path], options: ReadOptions, sheet: Sheet) -> Iterator[Callable[[], Page | None]]:
    """A reader for every task of all files."""
    for path in paths:
        file = path / FILE if path.is_dir() else path
        shelf = Shelf([*([options.images] if options.images else []), file.parent / "images", file.parent])
        yield from (partial(read_task, task, shelf, options.on_duplicate, sheet) for task in read_tasks(file, sheet))


def notes(sheet: Sheet) -> Iterator[str]:
    if sheet.unlabelled:
        yield f"{sheet.unlabelled:,} tasks have no annotation (or only cancelled ones) and were left out."
    if sheet.chosen:
        yield f"{sheet.chosen:,} tasks have several annotations; --on-duplicate decided, by the time of their last change."
    for kind, count in sorted(sheet.unread.items()):
        yield f"{count:,} results of type {kind} are no objects and were left out."


def read_tasks(path: Path, sheet: Sheet) -> list[Task]:
    """The tasks of one file.

    Raises:
        LabelError: it is no list of tasks.
    """
    try:
        content = json.loads(read_whole(path).decode("utf-8-sig"))
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"is not JSON ({error})", "Export the project as JSON again.") from error
    if not isinstance(content, list):
        raise LabelError(path, f"holds a JSON {type(content).__name__}, not a list of tasks", "Export the project as JSON.")
    tasks: dict[object, Task] = {}
    for index, entry in enumerate(content, 1):
        place = f"{path}: task {index}"
        try:
            fields = as_object(entry, place)
            if isinstance(fields.get("data"), dict):
                tasks[index, "full"] = full_task(fields, place)
            else:
                add_minimal(fields, place, index, tasks)
        except LabelError as error:
            sheet.problems.extend(error.problems)
    return list(tasks.values())


def full_task(fields: Mapping[str, object], place: str) -> Task:
    """A task of the JSON export, whose annotations were called completions once."""
    answers = fields.get("annotations", fields.get("completions", []))
    if not isinstance(answers, list):
        raise LabelError(place, f"has annotations {shorten(answers)}", "Export the project as JSON again.")
    task = Task(place, picture_of(as_object(fields["data"], place), place))
    for answer in answers:
        own = as_object(answer, place)
        results = own.get("result", [])
        if not isinstance(results, list):
            raise LabelError(place, f"has result {shorten(results)}", "Export the project as JSON again.")
        if not is_cancelled(own):
            task.answers.append(Answer(results, time_of(own)))
    return task


def is_cancelled(fields: Mapping[str, object]) -> bool:
    return bool(fields.get("was_cancelled") or fields.get("skipped"))


def time_of(fields: Mapping[str, object]) -> str:
    return next((value for key in ("updated_at", "created_at") if isinstance(value := fields.get(key), str)), "")


def add_minimal(fields: Mapping[str, object], place: str, index: int, tasks: dict[object, Task]) -> None:
    """An item of the JSON-MIN export: one annotation, its regions under the names of the controls, the data beside them."""
    results: list[object] = []
    for value in fields.values():
        for region in value if isinstance(value, list) else ():
            kinds = [key for key in region if key.endswith("labels")] if isinstance(region, dict) else []
            if kinds:
                results.append({"type": kinds[0], "value": region} | {key: region.get(key) for key in SIDES})
    identity = fields.get("id")
    key = (identity, "minimal") if isinstance(identity, int) else (index, "alone")
    data = {key: value for key, value in fields.items() if isinstance(value, str) and not key.endswith("_at")}
    task = tasks.setdefault(key, Task(place, picture_of(data, place)))
    if not is_cancelled(fields):
        task.answers.append(Answer(results, time_of(fields)))


def picture_of(data: Mapping[str, object], place: str) -> str:
    """The address of a task's picture: under `image`, else the only value that names one.

    Raises:
        LabelError: there is none, or several.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    named = [value for value in texts.values() if Path(name_of(value)).suffix.lower() in SUFFIXES]
    found = [texts["image"]] if "image" in texts else named
    if len(found) != 1:
        told = ", ".join(f"{key!r}: {shorten(value, 40)}" for key, value in list(texts.items())[:5]) or "nothing"
        raise LabelError(place, f"has {len(found)} pictures in its data ({told})", "Give the picture's address as `image`.")
    return source_of(found[0], place)


def name_of(address: str) -> str:
    """The path in an address; of a local file that Label Studio serves, the path that it was given."""
    if is_remote(address):
        return address
    try:
        parts = urlsplit(address)
        if parts.path.rstrip("/").endswith("/local-files"):
            return parse_qs(parts.query).get("d", [""])[0]
    except ValueError:  # a bracket where an address of version 6 would be
        return address
    return unquote(parts.path) if parts.scheme in ("http", "https") or address.startswith("/data/") else address


def source_of(address: str, place: str) -> str:
    """Where the picture is: an s3:// address as it is, else a path that does not climb.

    Raises:
        LabelError: the picture is in the address itself, or a file of any place of this machine.
    """
    scheme = address.partition(":")[0].lower()
    if scheme in ("file", "data", "javascript"):
        fix = "Give the address that the picture has in Label Studio, or its path."
        raise LabelError(place, f"has the picture {shorten(address, 60)}, a {scheme}: address", fix)
    try:
        address.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LabelError(place, f"has the picture {address!r}, which is no Unicode text", "Correct it.") from error
    if is_remote(address):
        return address
    path = re.sub(r"^[a-z][a-z0-9+.-]*://", "", name_of(address), flags=re.IGNORECASE)  # gs://bucket, azure-blob://container
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        raise LabelError(place, f"has the picture {shorten(address)}, which is no path to a file", "Correct it.")
    return "/".join(parts)


def read_task(task: Task, shelf: Shelf, on_duplicate: str, sheet: Sheet) -> Page | None:
    """The picture of a task; None if it is not labelled.

    Raises:
        LabelError: all that spoils the picture.
    """
    if not task.answers:
        sheet.unlabelled += 1
        return None
    answers = sorted(task.answers, key=lambda answer: answer.updated)
    if len(answers) > 1:
        if on_duplicate == "error":
            what = f"has {len(answers)} annotations"
            raise LabelError(task.place, what, "Remove all but one, or choose with --on-duplicate first, last or merge.")
        sheet.chosen += 1
    counting = {"first": answers[:1], "merge": answers}.get(on_duplicate, answers[-1:])
    results = [result for answer in counting for result in answer.results]
    name = task.source
    if not is_remote(name):
        folder, slash, last = name.rpartition("/")
        if folder == "data/upload" or folder.rpartition("/")[0].endswith("data/upload"):
            folder, slash, last = "", "", UPLOADED.sub("", last, count=1)
        name = folder + slash + last
    picture = find_picture([task.source, name], shelf)
    regions = [as_object(result, f"{task.place}, region {index}") for index, result in enumerate(results, 1)]
    size = read_size(regions, task.place, picture)
    objects = read_regions(regions, size, task.place, sheet)
    if len(counting) > 1:
        objects = list(dict.fromkeys(objects))  # what two people drew alike is one object
    return Page(task.place, task.source, name, size, objects, picture)


def find_picture(names: Sequence[str], shelf: Shelf) -> Path | None:
    """By the longest end of a name that is in the folders at hand."""
    for name in names:
        parts = storage.key_parts(name)
        for start in range(len(parts)):
            if (found := shelf.find("/".join(parts[start:]))) is not None:
                return found
    return None


def read_size(regions: Sequence[Mapping[str, object]], place: str, picture: Path | None) -> ImageSize:
    """As the regions tell it, which must agree; without regions that of the picture.

    Raises:
        LabelError: nothing tells it, or several sizes are told.
    """
    found: set[ImageSize] = set()
    for region in regions:
        if all(region.get(key) is not None for key in SIDES):
            found.add(ImageSize(whole(region, "original_height", place), whole(region, "original_width", place)))
    if len(found) > 1:
        raise LabelError(place, f"has regions of several sizes: {', '.join(map(str, sorted(found)))}", "Correct them.")
    for size in found:
        if min(size) < 1 or size.height * size.width > DISK_LIMITS.max_pixels:
            raise LabelError(place, f"has the size {size}", "Give original_width and original_height in pixels.")
        return size
    if picture is None:
        raise LabelError(place, "does not tell its size, and its picture is not here", "Add the picture, or name its folder.")
    return size_of(picture, place).shown


def read_regions(
    regions: Sequence[Mapping[str, object]], size: ImageSize, where: str, sheet: Sheet
) -> list[tuple[str, Instance]]:
    """(class name, object still of class 0) of all regions; one of zero size is left out alone, and is among the problems.

    Raises:
        LabelError: all that spoils the picture.
    """
    labelled = {str(region["id"]) for region in regions if region.get("id") and str(region.get("type")).endswith("labels")}
    found: list[tuple[str, Instance]] = []
    spoiling: list[Problem] = []
    for index, region in enumerate(regions, 1):
        place, kind = f"{where}, region {index}", region.get("type")
        try:
            if isinstance(kind, str) and kind.removesuffix("labels") in UNREAD:
                sheet.unread[kind] += 1
            elif kind not in SHAPES or str(region.get("id")) not in labelled:  # a shape without labels has a twin that has them
                one = read_region(region, size, place)
                if one is None or is_empty(one[1].box):
                    sheet.problems.append(Problem(place, "has zero size", "Remove the region."))
                elif wrong := fault(one[1].box, size):
                    raise LabelError(place, wrong, "Correct it, in percents of the picture's sides.")
                else:
                    found.append(one)
        except LabelError as error:
            spoiling.extend(error.problems)
    if spoiling:
        raise LabelError.collected(spoiling)
    return found


def read_region(region: Mapping[str, object], size: ImageSize, place: str) -> tuple[str, Instance] | None:
    """(its class, the object still of class 0); None if it encloses nothing.

    Raises:
        LabelError: its kind is unknown, it has no class or several, or lacks a number.
    """
    kind = region.get("type")
    value = as_object(region.get("value"), place)
    if kind == "labels":  # the shape is told by its keys alone
        keys = {"points": "polygon", "radiusX": "ellipse", "rle": "brush", "width": "rectangle"}
        shape = next((name for key, name in keys.items() if key in value), "")
    else:
        shape = str(kind).removesuffix("labels")
    if shape not in SHAPES:
        raise LabelError(place, f"is of type {shorten(kind)}", f"Known: {', '.join(f'{name}labels' for name in SHAPES)}.")
    name = read_class(value.get(str(kind)), place)
    if shape == "polygon":
        points = value.get("points")
        if not isinstance(points, list):
            raise LabelError(place, f"has points {shorten(points)}", "Give points as [[x, y], ...], in percents.")
        corners = tuple(part for point in points for part in to_pixels(numbers(point, 2, "a point", place), size, place))
        return (name, outlined((corners,), 0)) if len(points) >= 3 else None
    if shape == "brush":
        mask = read_brush(value, size, place)
        return (name, mask) if mask is not None else None
    instance = read_rectangle(value, size, place) if shape == "rectangle" else read_ellipse(value, size, place)
    return (name, instance) if instance is not None else None


def read_class(names: object, place: str) -> str:
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        several = isinstance(names, list) and len(names) > 1
        what = f"has {'several classes' if several else 'no class'} ({shorten(names)})"
        raise LabelError(place, what, "Give each region one class.")
    try:
        names[0].encode("utf-8")
    except UnicodeEncodeError as error:
        raise LabelError(place, f"has the class {names[0]!r}, which is no Unicode text", "Correct it.") from error
    return names[0]


def to_pixels(percents: Sequence[float], size: ImageSize, place: str) -> tuple[float, ...]:
    """(x, y, x, y, ...) in percents -> pixels."""
    if any(abs(value) > LIMIT_PERCENT for value in percents):
        raise LabelError(place, f"has {shorten(list(percents))}", "Give percents of the picture's sides.")
    sides = (size.width, size.height)
    return tuple(value * sides[index % 2] / 100 for index, value in enumerate(percents))


def read_numbers(value: Mapping[str, object], keys: Sequence[str], place: str) -> tuple[float, ...]:
    wrong = [f"{key} {shorten(value.get(key))}" for key in keys if not is_number(value.get(key))]
    if wrong:
        raise LabelError(place, f"has {', '.join(wrong)}", "Give finite numbers.")
    return numbers([value.get(key) for key in keys], len(keys), "value", place)


def rotation(value: Mapping[str, object], place: str) -> float:
    """Radians clockwise; 0 where none is given."""
    return math.radians(read_numbers(value, ("rotation",), place)[0] % 360) if value.get("rotation") else 0.0


def read_rectangle(value: Mapping[str, object], size: ImageSize, place: str) -> Instance | None:
    x, y, width, height = to_pixels(read_numbers(value, ("x", "y", "width", "height"), place), size, place)
    angle = rotation(value, place)
    if not angle or width <= 0 or height <= 0:
        return Instance((x, y, x + width, y + height), 0)
    corners: list[float] = []
    for across, down in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height)):
        corners += [
            x + across * math.cos(angle) - down * math.sin(angle),
            y + across * math.sin(angle) + down * math.cos(angle),
        ]
    return cut_outline(tuple(corners), size)


def read_ellipse(value: Mapping[str, object], size: ImageSize, place: str) -> Instance | None:
    """x and y are its middle, whatever Label Studio's page on it says."""
    cx, cy, rx, ry = to_pixels(read_numbers(value, ("x", "y", "radiusX", "radiusY"), place), size, place)
    return cut_outline(ellipse(cx, cy, rx, ry, rotation(value, place)), size) if rx > 0 and ry > 0 else None


def cut_outline(corners: tuple[float, ...], size: ImageSize) -> Instance | None:
    polygons = within(corners, size)
    return outlined(polygons, 0) if polygons else None


def read_brush(value: Mapping[str, object], size: ImageSize, place: str) -> Instance | None:
    """The pixels that are not transparent; None if there are none."""
    data = value.get("rle")
    fix = "Export the project as JSON again."
    if value.get("format", "rle") != "rle" or not isinstance(data, list):
        raise LabelError(place, f"has a mask of format {shorten(value.get('format'))}", "Known: rle.")
    if not all(isinstance(byte, int) and not isinstance(byte, bool) and 0 <= byte <= 255 for byte in data):
        raise LabelError(place, "has run lengths that are no bytes", fix)
    try:
        alpha = decode_brush(bytes(data), size.height * size.width * CHANNELS)[CHANNELS - 1 :: CHANNELS]
    except ValueError as error:
        raise LabelError(place, f"has run lengths that {error}", fix) from error
    bitmap = (alpha > 0).reshape(size)
    if not bitmap.any():
        return None
    return Instance(masks.bounds(bitmap), 0, area=float(bitmap.sum()), segmentation=masks.encode(bitmap))


def decode_brush(data: bytes, expected: int) -> NDArray[np.uint8]:
    """`expected` values of a bit stream, 1 where they are not 0.

    How many (32 bits), bits of a value - 1 (5), four sizes of run lengths - 1 (4 each); then runs: whether one value is
    repeated (1), which size (2), length - 1, and the value or values.

    Raises:
        ValueError: it ends early, or holds another number of values.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    text = bits.tobytes().translate(bytes.maketrans(b"\0\1", b"01"))  # int(text, 2) is much faster than adding bits up
    if len(text) < BRUSH_HEAD_BITS or int(text[:32], 2) != expected:
        raise ValueError(f"are not of {expected} values, four a pixel")
    width = int(text[32:37], 2) + 1
    sizes = [int(text[start : start + 4], 2) + 1 for start in range(37, BRUSH_HEAD_BITS, 4)]
    values = np.zeros(expected, dtype=np.uint8)
    at, done = BRUSH_HEAD_BITS, 0
    while done < expected:
        length_at = at + 3
        value_at = length_at + sizes[int(text[at + 1 : length_at] or b"0", 2)]
        length = int(text[length_at:value_at] or b"0", 2) + 1
        repeated = text[at : at + 1] == b"1"
        at = value_at + width * (1 if repeated else length)
        if at > len(text) or done + length > expected:
            raise ValueError("end within a run")
        if repeated:
            values[done : done + length] = int(text[value_at:at], 2) > 0
        else:
            values[done : done + length] = bits[value_at:at].reshape(length, width).any(axis=1)
        done += length
    return values


def encode_brush(bitmap: masks.Bitmap) -> list[int]:
    """The bytes of a mask, all four channels alike, in runs of one value."""
    values = np.repeat(bitmap.ravel(), CHANNELS)
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(np.concatenate((starts, [len(values)])))
    sizes = "".join(f"{bits - 1:04b}" for bits in (3, 4, 8, BRUSH_RUN))
    text = [f"{len(values):032b}", f"{8 - 1:05b}", sizes]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value, left = f"{255 if values[start] else 0:08b}", length
        while left:
            run = min(left, 2**BRUSH_RUN)
            text.append(f"111{run - 1:0{BRUSH_RUN}b}{value}")
            left -= run
    whole_text = "".join(text)
    padded = whole_text + "0" * (-len(whole_text) % 8)
    return list(int(padded, 2).to_bytes(len(padded) // 8, "big"))


def write(dataset: Dataset, to: Path, *, options: WriteOptions, as_predictions: bool = False) -> list[str]:
    """tasks.json to import, and label_config.xml, the labelling interface that it needs. Boxes, outlines, masks are kept.

    as_predictions: as pre-labels that people correct, instead of finished annotations

    Pictures that are not on S3 are named as local files of Label Studio, relative to the root that it is told.

    Raises:
        LabelError: a name leads out of the folder.
    """
    require_safe_names(dataset)
    losses = Counter[str]()
    tasks: list[dict[str, object]] = []
    for image in dataset.images:
        losses["pictures lose their group"] += bool(image.group)
        address = image.source if is_remote(image.source) else f"/data/local-files/?d={quote(image.file_name)}"
        answer = {"result": list(results_of(image, dataset, losses))}
        answers = {"predictions": [{"model_version": "sightline", **answer}]} if as_predictions else {"annotations": [answer]}
        tasks.append({"id": image.id, "data": {"image": address}, **answers})
    storage.write_json(to / FILE, tasks)
    storage.write_text(to / CONFIG, label_config(dataset))
    return [*lost(losses), *unused_classes(dataset)]


def label_config(dataset: Dataset) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in dataset.class_names)
    tools = "\n".join(
        f'  <{tag} name="{tag.lower()}" toName="image">\n{labels}\n  </{tag}>'
        for tag in ("RectangleLabels", "PolygonLabels", "BrushLabels")
    )
    return f'<View>\n  <Image name="image" value="$image"/>\n{tools}\n</View>\n'


def results_of(image: ImageRecord, dataset: Dataset, losses: Counter[str]) -> Iterator[dict[str, object]]:
    for index, instance in enumerate(image.instances, 1):
        if instance.crowd:
            losses["crowd regions were left out"] += 1
            continue
        kind, value = value_of(instance, image, losses)
        yield {
            "id": f"{image.id}-{index}",
            "type": kind,
            "from_name": kind,
            "to_name": "image",
            "original_width": image.size.width,
            "original_height": image.size.height,
            "image_rotation": 0,
            "value": {**value, kind: [dataset.class_names[instance.label]]},
        }


def value_of(instance: Instance, image: ImageRecord, losses: Counter[str]) -> tuple[str, dict[str, object]]:
    """(the type of a region, its geometry in percents)."""
    height, width = image.size
    outline = instance.segmentation
    if isinstance(outline, tuple) and len(outline) == 1:
        losses["boxes become the bounds of their outlines"] += not is_bounds(instance.box, outline)
        xs, ys = outline[0][0::2], outline[0][1::2]
        return "polygonlabels", {
            "points": [[x / width * 100, y / height * 100] for x, y in zip(xs, ys, strict=True)],
            "closed": True,
        }
    if outline:
        bitmap = bitmap_of(outline, image.size, image.file_name)
        if bitmap.any():
            losses["objects in several parts become masks"] += isinstance(outline, tuple)
            losses["boxes become the bounds of their masks"] += instance.box != masks.bounds(bitmap)
            return "brushlabels", {"format": "rle", "rle": encode_brush(bitmap)}
        losses["masks without a pixel become boxes"] += 1
    x1, y1, x2, y2 = instance.box
    return "rectanglelabels", {
        "x": x1 / width * 100,
        "y": y1 / height * 100,
        "width": (x2 - x1) / width * 100,
        "height": (y2 - y1) / height * 100,
        "rotation": 0,
    }
