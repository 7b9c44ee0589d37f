"""VGG Image Annotator, versions 1 and 2: JSON files, projects and CSV exports <-> Dataset.

A picture's regions are a dict in version 1 and a list in version 2; a project wraps all pictures in `_via_img_metadata`. The
class is a free region attribute. Sizes are not told: they are read from the pictures, which lie in the label file's folder.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline import storage
from sightline.coco import is_number, shorten, xywh
from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.images import Header
from sightline.labels.merging import spelling_note
from sightline.labels.outlines import ellipse, is_bounds, joined, outlined
from sightline.labels.pictures import Shelf, inside, size_of, turned_note
from sightline.labels.report import Imported, ReadOptions, WriteOptions, imported
from sightline.labels.survey import order_classes
from sightline.labels.writing import lost, require_safe_names, unused_classes
from sightline.memory import read_whole
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance

NAME = "via"
FILE = "via_region_data.json"
PROJECT = "_via_img_metadata"
CLASS = "class"  # the attribute that `write` writes
NO_CLASS = "object"
WORDS = (b'"region_attributes"', b'"file_attributes"', b'"_via_img_metadata"', b'"_via_settings"')
CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
UNREAD = {"point": "a point", "polyline": "an open line"}


@dataclass(frozen=True, slots=True)
class Region:
    """One region as written. place: for messages; shape and attributes: its two objects."""

    place: str
    shape: Mapping[str, object]
    attributes: Mapping[str, object]


@dataclass(slots=True)
class Page:
    """One picture of a label file."""

    place: str
    name: str
    shelf: Shelf
    regions: list[Region] = field(default_factory=list)


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is VIA's JSON or CSV, or a folder that has via_region_data.json, itself or in folders in it."""
    if path.is_dir():
        return bool(files_in(path))
    if any(word in head for word in WORDS):
        return head.lstrip()[:1] == b"{"
    first = head.partition(b"\n")[0]
    return all(column.encode() in first for column in CSV_COLUMNS)


def files_in(path: Path) -> list[Path]:
    """The label files that `path` means: itself, or those of a folder and of the folders in it (train/, val/)."""
    if not path.is_dir():
        return [path]
    return [path / FILE] if (path / FILE).is_file() else sorted(path.glob(f"*/{FILE}"))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files together; classes are ordered by name.

    Raises:
        LabelError: a file is not VIA's, or there are several region attributes to choose the class from.
    """
    problems: list[Problem] = []
    pages: list[Page] = []
    for path in paths:
        files = files_in(path)
        if not files:
            raise LabelError(path, f"holds no {FILE}", "Name the label file in it.")
        for file in files:
            pages += read_file(file, options.images, problems)
    attribute = choose_attribute([region for page in pages for region in page.regions], paths, options)
    sheet = read_pages(pages, attribute, options.class_name, problems)
    found = {name for _, objects, _ in sheet.values() for name, _ in objects}
    names, merged = order_classes({("", name) for name in found})
    labels = {name: names.index(merged.get(name, name)) for name in found}
    images, pictures = [], {}
    safe = file_names([str(path) for path in sheet])
    for number, (name, (path, (size, objects, _))) in enumerate(zip(safe, sheet.items(), strict=True), 1):
        instances = tuple(replace(one, label=labels[kind]) for kind, one in objects)
        images.append(ImageRecord(number, name, size, instances))
        pictures[name] = path
    dataset = Dataset(tuple(Category(number, name) for number, name in enumerate(names, 1)), tuple(images))
    notes = [spelling_note(name, plain) for name, plain in merged.items()]
    notes += turned_note(sum(turned for _, _, turned in sheet.values()))
    if attribute is None and options.class_name is None and dataset.instance_count:
        notes.append(f"No region has attributes: all are of the class {NO_CLASS!r}; --class-name gives it another name.")
    return imported(NAME, paths, dataset, problems=problems, notes=notes, pictures=pictures)


def read_file(path: Path, given: Path | None, problems: list[Problem]) -> list[Page]:
    """The pictures of one file, JSON or CSV.

    Raises:
        LabelError: it is neither.
    """
    try:
        text = read_whole(path).decode("utf-8-sig")
        entries = read_json(text, path) if text.lstrip()[:1] in ("{", "[") else read_csv(text, path, problems)
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"is not JSON ({error})", "Give a complete file of the VGG Image Annotator.") from error
    shelf = Shelf([*([given, given / path.parent.name] if given else []), path.parent, path.parent / "images"])
    pages: dict[str, Page] = {}
    for key, entry in entries.items():
        place = f"{path}: {key}"
        try:
            page = read_entry(entry, place, shelf)
            if page.name in pages:
                raise LabelError(
                    place,
                    f"labels {page.name} again",
                    "Keep one of the two entries; between two sources --on-duplicate chooses.",
                )
            pages[page.name] = page
        except LabelError as error:
            problems.extend(error.problems)
    return list(pages.values())


def read_json(text: str, path: Path) -> Mapping[str, object]:
    content = json.loads(text)
    if isinstance(content, dict) and PROJECT in content:
        content = content[PROJECT]
    if not isinstance(content, dict):
        raise LabelError(
            path, f"holds a JSON {type(content).__name__} of pictures, not an object", "Give a file that VIA wrote."
        )
    return content


def read_csv(text: str, path: Path, problems: list[Problem]) -> Mapping[str, object]:
    """The same as JSON would hold: one row a region; a picture without regions has one row with empty objects."""
    entries: dict[str, object] = {}
    reader = csv.reader(io.StringIO(text.removeprefix("#")))
    try:
        header = next(reader, [])
        places = [header.index(column) for column in CSV_COLUMNS]
        rows = list(reader)
    except (csv.Error, ValueError) as error:
        raise LabelError(path, f"is neither VIA's JSON nor its CSV ({error})", "Give a file that VIA wrote.") from error
    regions: dict[str, list[object]] = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            name, shape, attributes = (row[place] for place in places)
            region = {"shape_attributes": json.loads(shape), "region_attributes": json.loads(attributes)}
        except (IndexError, ValueError, RecursionError) as error:
            problems.append(Problem(f"{path}:{number}", f"is no row of VIA's CSV ({error})", "Correct or remove it."))
            continue
        own = regions.setdefault(name, [])
        entries[name] = {"filename": name, "regions": own}
        if region["shape_attributes"] != {}:
            own.append(region)
    return entries


def read_entry(entry: object, place: str, shelf: Shelf) -> Page:
    """
    Raises:
        LabelError: it is no picture with regions, or its name leads out of the folder.
    """
    fix = "Give filename and regions, as VIA writes them."
    if not isinstance(entry, dict):
        raise LabelError(place, f"is a JSON {type(entry).__name__}, not an object", fix)
    name, regions = entry.get("filename"), entry.get("regions", [])
    if not isinstance(name, str) or not name:
        raise LabelError(place, f"has filename {shorten(name)}", fix)
    if not isinstance(regions, list | dict):
        raise LabelError(place, f"has regions of type {type(regions).__name__}", fix)
    page = Page(place, inside(name, place), shelf)
    pairs = regions.items() if isinstance(regions, dict) else enumerate(regions)
    for key, region in pairs:
        where = f"{place}, region {key}"
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        attributes = region.get("region_attributes", {}) if isinstance(region, dict) else None
        if not isinstance(shape, dict) or not isinstance(attributes, dict):
            raise LabelError(where, "has no shape_attributes and region_attributes", fix)
        page.regions.append(Region(where, shape, attributes))
    return page


def choose_attribute(regions: Sequence[Region], paths: Sequence[Path], options: ReadOptions) -> str | None:
    """The region attribute that is the class: the one asked for, the only one, or none where no region has any.

    Raises:
        LabelError: there are several, or not the one that is asked for.
    """
    counts = Counter(key for region in regions for key in region.attributes)
    wanted = options.class_attribute
    where = ", ".join(map(str, paths))
    told = ", ".join(f"{key!r} ({count:,} regions)" for key, count in counts.most_common(20)) or "none"
    if wanted is not None and wanted not in counts:
        raise LabelError(where, f"has no region attribute {wanted!r}", f"There are: {told}.")
    if wanted is None and len(counts) > 1:
        raise LabelError(where, f"has several region attributes: {told}", "Choose the class with --class-attribute.")
    return wanted if wanted is not None else next(iter(counts), None)


Objects = list[tuple[str, Instance]]


def read_pages(
    pages: Sequence[Page], attribute: str | None, class_name: str | None, problems: list[Problem]
) -> dict[Path, tuple[ImageSize, Objects, bool]]:
    """{picture: (its size, its objects, whether EXIF turns it)} of all that are sound."""
    found: dict[Path, tuple[ImageSize, Objects, bool]] = {}
    for page in pages:
        try:
            path = page.shelf.find(page.name)
            if path is None:
                fix = "Add the picture, or name the folder that holds it with --images."
                raise LabelError(page.place, f"has no picture in {page.shelf.shown()}", fix)
            if path in found:
                raise LabelError(
                    page.place,
                    f"labels {path} again",
                    "Keep one of the two entries; between two sources --on-duplicate chooses.",
                )
            header = size_of(path, page.place)
            objects = read_regions(page.regions, attribute, class_name, problems)
            size = frame(header, objects)
            check_inside(page.regions, objects, size)
        except LabelError as error:
            problems.extend(error.problems)
        else:
            kept = [one for one in objects if one is not None]
            found[path] = (size, kept, header.orientation != 1 and size == header.shown)
    return found


def read_regions(
    regions: Sequence[Region], attribute: str | None, class_name: str | None, problems: list[Problem]
) -> list[tuple[str, Instance] | None]:
    """The object of every region; None for one of zero size, which is then among `problems`.

    Raises:
        LabelError: all that spoils the picture.
    """
    found: list[tuple[str, Instance] | None] = []
    spoiling: list[Problem] = []
    for region in regions:
        try:
            name = class_of(region, attribute, class_name)
            instance = read_shape(region)
            if instance is None or is_empty(instance.box):
                problems.append(Problem(region.place, f"has zero size ({shorten(dict(region.shape))})", "Remove the region."))
                found.append(None)
            else:
                found.append((name, instance))
        except LabelError as error:
            spoiling.extend(error.problems)
    if spoiling:
        raise LabelError.collected(spoiling)
    return found


def class_of(region: Region, attribute: str | None, class_name: str | None) -> str:
    """The class: text, or the only one that is ticked of {"cat": true, "dog": false}."""
    value = region.attributes.get(attribute) if attribute is not None else None
    if isinstance(value, dict):
        ticked = [name for name, is_on in value.items() if is_on in (True, "true")]
        if len(ticked) > 1:
            raise LabelError(region.place, f"has several classes: {', '.join(ticked)}", "Leave one.")
        value = ticked[0] if ticked else None
    if value is not None and not isinstance(value, str):
        raise LabelError(region.place, f"has {attribute} {shorten(value)}", "Give the class as text.")
    if value is not None and value.strip():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LabelError(region.place, f"has {attribute} {value!r}, which is no Unicode text", "Correct it.") from error
        return value
    if attribute is None or class_name is not None:
        return class_name or NO_CLASS
    raise LabelError(region.place, f"has no class: no {attribute!r}", "Give it, or a class for such regions with --class-name.")


def read_shape(region: Region) -> Instance | None:
    """The object, still of class 0; None if its outline has fewer than three corners.

    Raises:
        LabelError: it is no shape that encloses anything, or lacks a number.
    """
    kind, shape = region.shape.get("name"), region.shape
    if kind == "rect":
        x, y, width, height = numbers(region, "x", "y", "width", "height")
        if width < 0 or height < 0:
            raise LabelError(region.place, f"has the size {width:g} x {height:g}", "Correct it.")
        return Instance((x, y, x + width, y + height), 0)
    if kind == "polygon":
        xs, ys = (number_list(shape.get(f"all_points_{axis}"), f"all_points_{axis}", region) for axis in "xy")
        if len(xs) != len(ys):
            raise LabelError(region.place, f"has {len(xs)} x and {len(ys)} y", "Give x and y of every corner.")
        return outlined((tuple(value for point in zip(xs, ys, strict=True) for value in point),), 0) if len(xs) > 2 else None
    if kind == "circle":
        cx, cy, radius = numbers(region, "cx", "cy", "r")
        return outlined((ellipse(cx, cy, radius, radius),), 0)
    if kind == "ellipse":
        theta = numbers(region, "theta") if "theta" in shape else [0.0]
        return outlined((ellipse(*numbers(region, "cx", "cy", "rx", "ry"), *theta),), 0)
    if isinstance(kind, str) and kind in UNREAD:
        raise LabelError(region.place, f"is {UNREAD[kind]}, which encloses no object", "Draw a rectangle, polygon or ellipse.")
    raise LabelError(region.place, f"has the shape {shorten(kind)}", "Known: rect, polygon, circle, ellipse.")


def numbers(region: Region, *keys: str) -> list[float]:
    values = [to_number(region.shape.get(key)) for key in keys]
    wrong = [f"{key} {shorten(region.shape.get(key))}" for key, value in zip(keys, values, strict=True) if value is None]
    if wrong:
        raise LabelError(region.place, f"has {', '.join(wrong)}", "Give finite numbers of pixels.")
    return [value for value in values if value is not None]


def number_list(values: object, key: str, region: Region) -> list[float]:
    if not isinstance(values, list):
        raise LabelError(region.place, f"has {key} {shorten(values)}", "Give a list of numbers.")
    found = [to_number(value) for value in values]
    if None in found:
        raise LabelError(region.place, f"has {key} with {shorten(values[found.index(None)])}", "Give finite numbers of pixels.")
    return [value for value in found if value is not None]


def to_number(value: object) -> float | None:
    """VIA's own files have numbers; those that were edited in its table may have text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if is_number(value) else None


def frame(header: Header, objects: Sequence[tuple[str, Instance] | None]) -> ImageSize:
    """The frame that the regions were drawn in: as browsers show the picture, unless they fit the stored pixels only.

    Browsers turn pictures by EXIF since 2020; older labels are of the pixels as stored.
    """
    boxes = [one.box for _, one in filter(None, objects)]
    fits_shown, fits_stored = (not any(fault(box, size) for box in boxes) for size in (header.shown, header.stored))
    return header.stored if fits_stored and not fits_shown else header.shown


def check_inside(regions: Sequence[Region], objects: Sequence[tuple[str, Instance] | None], size: ImageSize) -> None:
    """Nothing, if every object lies in the picture.

    Raises:
        LabelError: all that do not.
    """
    problems = [
        Problem(region.place, wrong, "Correct it, in pixels of this picture.")
        for region, one in zip(regions, objects, strict=True)
        if one is not None and (wrong := fault(one[1].box, size))
    ]
    if problems:
        raise LabelError.collected(problems)


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """via_region_data.json of version 2; the pictures belong beside it. Boxes, outlines and classes are kept.

    Raises:
        LabelError: a name leads out of the folder.
    """
    require_safe_names(dataset)
    losses = Counter[str]()
    content: dict[str, object] = {}
    for image in dataset.images:
        size_bytes = file_size(options.pictures, image.file_name)
        content[f"{image.file_name}{size_bytes}"] = {
            "filename": image.file_name,
            "size": size_bytes,
            "regions": list(regions_of(image, dataset, losses)),
            "file_attributes": {},
        }
    storage.write_json(to / FILE, content)
    return [*lost(losses), *unused_classes(dataset)]


def file_size(folder: Path | None, name: str) -> int:
    """Bytes; -1, as VIA writes it, for a picture that is not here."""
    path = folder / name if folder is not None else None
    return path.stat().st_size if path is not None and path.is_file() else -1


def regions_of(image: ImageRecord, dataset: Dataset, losses: Counter[str]) -> Iterator[dict[str, object]]:
    for instance in image.instances:
        if instance.crowd:
            losses["crowd regions were left out"] += 1
            continue
        yield {
            "shape_attributes": shape_of(instance, losses),
            "region_attributes": {CLASS: dataset.class_names[instance.label]},
        }


def shape_of(instance: Instance, losses: Counter[str]) -> dict[str, object]:
    outline = instance.segmentation
    if not isinstance(outline, tuple):
        losses["masks (run lengths) became boxes"] += outline is not None
        x, y, width, height = xywh(instance.box)
        return {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    losses["objects in several parts have one outline, with lines between the parts"] += len(outline) > 1
    losses["boxes became the bounds of their outlines"] += not is_bounds(instance.box, outline)
    corners = joined(outline)
    return {"name": "polygon", "all_points_x": list(corners[0::2]), "all_points_y": list(corners[1::2])}
