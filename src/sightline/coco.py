"""COCO instances JSON <-> Dataset: the format in which every room of this house hands over labels.

Category ids may have gaps; sorted by id they give the labels 0, 1, ..., as in Detectron2. Coordinates are kept as written,
to the last digit. Facts that COCO has no place for (source, group) lie under each image's own key "sightline".
"""

import itertools
import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeGuard, cast

import msgspec

from sightline import storage
from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.memory import read_whole
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance, Polygons, Rle, many_records

OWN_KEY = "sightline"
LISTS = ("images", "annotations", "categories")
MAX_INTEGER = 2**53  # from here on a float skips integers
PART = 10_000  # entries that are written at once
TO_TEXT = json.JSONEncoder(ensure_ascii=False).encode
MIN_POLYGON_NUMBERS = 6  # three corners; Detectron2 drops polygons with fewer

CLASSES_2017 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The classes of COCO 2017 in the order of their ids, which models of Detectron2's zoo know by number only."""


def read(path: Path) -> Dataset:
    """The labels of a COCO instances file.

    Raises:
        LabelError: everything that is wrong with the file, at once.
    """
    dataset, problems = examine(path)
    if problems:
        raise LabelError.collected(problems)
    return dataset


@many_records()
def examine(path: Path) -> tuple[Dataset, list[Problem]]:
    """(the sound pictures of a COCO instances file, all that is wrong with the others).

    A picture with a broken annotation is left out whole: an object without its box would be taught as background.
    Only an empty box or polygon, which holds no object, is left out alone.

    Raises:
        LabelError: the file is not COCO at all.
    """
    try:
        content = parse(read_whole(path))
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (ValueError, RecursionError) as error:  # ValueError: JSONDecodeError and UnicodeDecodeError too
        raise LabelError(path, f"is not JSON ({error})", "Give a complete COCO instances file.") from error
    return from_json(content, str(path))


def parse(text: bytes) -> object:
    """As `json.loads`, several times as fast: what msgspec does not take (NaN, UTF-16, what is broken) goes to `json`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return json.loads(text)


def from_json(content: object, where: str) -> tuple[Dataset, list[Problem]]:
    """`examine` for JSON that is already parsed; `where` names it in messages."""
    if not isinstance(content, dict):
        raise LabelError(where, f"holds a JSON {type(content).__name__}, not an object", "Give a COCO instances file.")
    missing = [key for key in LISTS if not isinstance(content.get(key), list)]
    if missing:
        fix = "A COCO instances file has the lists images, annotations and categories."
        raise LabelError.collected([Problem(where, f"has no list {key!r}", fix) for key in missing])
    problems: list[Problem] = []
    categories = read_categories(content["categories"], where, problems)
    images = read_images(content["images"], where, problems)
    mentioned = Mentioned(ids_of(content["images"]), ids_of(content["categories"]))
    instances, spoiled = read_annotations(
        content["annotations"], images, categories, mentioned=mentioned, where=where, problems=problems
    )
    records = (replace(image, instances=tuple(instances[key])) for key, image in images.items() if key not in spoiled)
    return Dataset(tuple(categories), tuple(records)), problems


class Mentioned(NamedTuple):
    """The ids of all images and categories of a file, broken ones too: what points to those is not reported again."""

    images: frozenset[object]
    categories: frozenset[object]


def ids_of(entries: list[object]) -> frozenset[object]:
    return frozenset(entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), int))


def read_categories(entries: list[object], where: str, problems: list[Problem]) -> list[Category]:
    """The categories in the order of their ids."""
    found: dict[int, Category] = {}
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        place = f"{where}: categories[{index}]"
        try:
            fields = as_object(entry, place)
            category = Category(whole(fields, "id", place), text(fields, "name", place))
            check_unused(category.id, found, "id", place)
            check_unused(category.name, names, "name", place)
        except LabelError as error:
            problems.extend(error.problems)
        else:
            found[category.id], names[category.name] = category, category.id
    return sorted(found.values(), key=lambda category: category.id)


def read_images(entries: list[object], where: str, problems: list[Problem]) -> dict[int, ImageRecord]:
    """{image id: its record, still without instances}, in the order of the file."""
    found: dict[int, ImageRecord] = {}
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        place = f"{where}: images[{index}]"
        try:
            image = read_image(as_object(entry, place), place)
            check_unused(image.id, found, "id", place)
            check_unused(image.file_name, names, "file_name", place)
        except LabelError as error:
            problems.extend(error.problems)
        else:
            found[image.id], names[image.file_name] = image, image.id
    return found


def read_image(fields: Mapping[str, object], place: str) -> ImageRecord:
    size = ImageSize(whole(fields, "height", place), whole(fields, "width", place))
    if min(size) < 1:
        raise LabelError(place, f"has the size {size}", "Give the picture's height and width in pixels.")
    own = fields.get(OWN_KEY)
    facts = own if isinstance(own, dict) else {}
    return ImageRecord(
        id=whole(fields, "id", place),
        file_name=text(fields, "file_name", place),
        size=size,
        source=text(facts, "source", place) if "source" in facts else "",
        group=text(facts, "group", place) if "group" in facts else "",
    )


def read_annotations(
    entries: list[object],
    images: Mapping[int, ImageRecord],
    categories: list[Category],
    *,
    mentioned: Mentioned,
    where: str,
    problems: list[Problem],
) -> tuple[dict[int, list[Instance]], set[int]]:
    """({image id: its instances}, ids of the images that have a broken one)."""
    labels = {category.id: label for label, category in enumerate(categories)}
    instances: dict[int, list[Instance]] = {key: [] for key in images}
    spoiled: set[int] = set()
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        place, image_id = f"{where}: annotations[{index}]", None
        try:
            fields = as_object(entry, place)
            image_id = whole(fields, "image_id", place)
            category = whole(fields, "category_id", place)
            if image_id in images and category in labels:
                check_unused(whole(fields, "id", place), seen, "id", place)
                seen.add(whole(fields, "id", place))
                instances[image_id] += read_instance(fields, images[image_id].size, labels[category], place, problems)
                continue
            spoiled.add(image_id)
            if image_id not in mentioned.images:
                raise LabelError(place, f"belongs to image {image_id}, which is not in the file", "Add the image or remove it.")
            if category not in labels and category not in mentioned.categories:
                raise LabelError(place, f"has the category {category}, which is not in the file", "Add it or correct the id.")
        except LabelError as error:
            problems.extend(error.problems)
            if image_id is not None:
                spoiled.add(image_id)
    return instances, spoiled


def read_instance(
    fields: Mapping[str, object], size: ImageSize, label: int, place: str, problems: list[Problem]
) -> list[Instance]:
    """The annotation; none when its box is empty (which is then among `problems`)."""
    left, top, width, height = numbers(fields.get("bbox"), 4, "bbox", place)
    box = (left, top, left + width, top + height)
    wrong = fault(box, size)
    if wrong and is_empty(box):
        problems.append(Problem(place, wrong, "Remove the annotation."))
        return []
    if wrong:
        raise LabelError(place, wrong, "Correct bbox: [left, top, width, height] in pixels of this picture.")
    crowd = fields.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise LabelError(place, f"has iscrowd {crowd!r}", "Write 0 or 1.")
    area = read_area(fields.get("area"), width * height, place)
    segmentation = read_segmentation(fields.get("segmentation"), size, place, problems)
    return [Instance(box, label, bool(crowd), area, segmentation)]


def read_area(value: object, of_box: float, place: str) -> float | None:
    """The mask's area in px²; None when absent or just the box's own."""
    if value is None:
        return None
    area = numbers([value], 1, "area", place)[0]
    if area < 0:
        raise LabelError(place, f"has the area {area:g}", "Give the mask's area in px², or leave it out.")
    return None if math.isclose(area, of_box, rel_tol=1e-9) else area


def read_segmentation(value: object, size: ImageSize, place: str, problems: list[Problem]) -> Polygons | Rle | None:
    """The outline; None when there is none. A polygon of fewer than three corners is dropped, and is then among `problems`."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return read_rle(value, size, place)
    if not isinstance(value, list):
        raise LabelError(place, f"has a segmentation of type {type(value).__name__}", "Give polygons or run lengths.")
    polygons = [numbers(part, None, "segmentation", place) for part in value]
    for corners in polygons:
        if len(corners) < MIN_POLYGON_NUMBERS:
            problems.append(
                Problem(place, f"has a polygon of {len(corners)} numbers", "Give at least three corners or remove it.")
            )
        elif len(corners) % 2:
            raise LabelError(place, f"has a polygon of {len(corners)} numbers", "Give x and y of every corner.")
    return tuple(corners for corners in polygons if len(corners) >= MIN_POLYGON_NUMBERS) or None


def read_rle(value: Mapping[str, object], size: ImageSize, place: str) -> Rle:
    height, width = numbers(value.get("size"), 2, "segmentation.size", place)
    if [height, width] != list(size):
        shown = f"{width:g} x {height:g} px"
        raise LabelError(place, f"has a mask of {shown} in a picture of {size}", "Correct segmentation.size: [height, width].")
    counts = value.get("counts")
    if isinstance(counts, str) and counts.isascii():
        return Rle(size, counts)
    runs = tuple(int(run) for run in numbers(counts, None, "segmentation.counts", place))
    if min(runs, default=0) < 0 or sum(runs) != size.height * size.width:
        raise LabelError(
            place, f"has run lengths that sum to {sum(runs)}, not {size.height * size.width}", "Correct segmentation.counts."
        )
    return Rle(size, runs)


def as_object(entry: object, place: str) -> Mapping[str, object]:
    if not isinstance(entry, dict):
        raise LabelError(place, f"is a JSON {type(entry).__name__}, not an object", "Correct or remove it.")
    return cast(Mapping[str, object], entry)


def whole(fields: Mapping[str, object], key: str, place: str) -> int:
    value = fields.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # some tools write 640.0
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= MAX_INTEGER:
        what = f"has no {key!r}" if key not in fields else f"has {key} {shorten(value)}"
        raise LabelError(place, what, f"Give {key} as a whole number.")
    return value


def text(fields: Mapping[str, object], key: str, place: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        what = f"has no {key!r}" if key not in fields else f"has {key} {value!r}"
        raise LabelError(place, what, f"Give {key} as text.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half a surrogate pair is legal JSON, and no text that could be written again
        raise LabelError(place, f"has {key} {value!r}, which is no Unicode text", f"Correct {key}.") from error
    return value


def numbers(value: object, count: int | None, key: str, place: str) -> tuple[float, ...]:
    """`count` finite numbers (any number of them when None)."""
    if isinstance(value, list) and (count is None or len(value) == count):
        found = [float(number) for number in value if is_number(number)]
        if len(found) == len(value):
            return tuple(found)
    expected = "finite numbers" if count is None else "a finite number" if count == 1 else f"{count} finite numbers"
    shown = value[0] if count == 1 and isinstance(value, list) else value
    raise LabelError(place, f"has {key} {shorten(shown)}", f"Give {expected}.")


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is a finite number that a float can hold; JSON may bring NaN, Infinity and integers of any length."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < MAX_INTEGER
    return isinstance(value, float) and math.isfinite(value)


def shorten(value: object, limit: int = 80) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def check_unused(value: object, seen: Container[object], key: str, place: str) -> None:
    if value in seen:
        raise LabelError(place, f"has the {key} {value!r}, which an earlier one has too", f"Give every one its own {key}.")


def xywh(box: Box) -> tuple[float, float, float, float]:
    """(left, top, width, height) of a box. 138.8 + 443.8 - 138.8 is 443.80000000000007: the width as it was written is kept."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    near_width, near_height = round(width, 9), round(height, 9)
    return (x1, y1, near_width if x1 + near_width == x2 else width, near_height if y1 + near_height == y2 else height)


def to_json(dataset: Dataset) -> dict[str, object]:
    """The dataset as COCO instances. Annotations are numbered from 1: pycocotools counts a match with number 0 as a miss."""
    annotations: list[dict[str, object]] = []
    for image in dataset.images:
        for instance in image.instances:
            category = dataset.categories[instance.label].id
            annotations.append(annotation_json(instance, len(annotations) + 1, image.id, category))
    return {
        "info": {"description": "Written by Sightline"},
        "licenses": [],
        "images": [image_json(image) for image in dataset.images],
        "annotations": annotations,
        "categories": [{"id": category.id, "name": category.name} for category in dataset.categories],
    }


def image_json(image: ImageRecord) -> dict[str, object]:
    own = own_json(image)
    fields: dict[str, object] = {
        "id": image.id,
        "file_name": image.file_name,
        "height": image.size.height,
        "width": image.size.width,
    }
    return fields | ({OWN_KEY: own} if own else {})


def own_json(image: ImageRecord) -> dict[str, str]:
    return {key: value for key, value in (("source", image.source), ("group", image.group)) if value}


def annotation_json(instance: Instance, identity: int, image_id: int, category_id: int) -> dict[str, object]:
    left, top, width, height = xywh(instance.box)
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [left, top, width, height],
        "area": width * height if instance.area is None else instance.area,
        "iscrowd": int(instance.crowd),
        "segmentation": segmentation_json(instance.segmentation),
    }


def segmentation_json(segmentation: Polygons | Rle | None) -> object:
    if isinstance(segmentation, Rle):
        counts = segmentation.counts
        return {"size": list(segmentation.size), "counts": counts if isinstance(counts, str) else list(counts)}
    return [list(corners) for corners in segmentation or ()]


@many_records()
def write(dataset: Dataset, path: Path) -> None:
    """The dataset as a COCO instances file, whole or not at all.

    As `to_json`, but a part at a time: the whole text and what it is made from would take 3 GB for a million pictures.
    """
    with storage.atomic_write(path) as file:
        file.write(b'{"info": {"description": "Written by Sightline"}, "licenses": [], "images": [')
        file.writelines(chunks(map(image_text, dataset.images)))
        file.write(b'], "annotations": [')
        file.writelines(chunks(annotation_texts(dataset)))
        file.write(b'], "categories": [')
        file.writelines(chunks(TO_TEXT({"id": category.id, "name": category.name}) for category in dataset.categories))
        file.write(b"]}\n")


def chunks(entries: Iterable[str]) -> Iterator[bytes]:
    """A list's entries without its brackets, some thousand at a time."""
    left, separator = iter(entries), ""
    while part := list(itertools.islice(left, PART)):
        yield (separator + ", ".join(part)).encode("utf-8")
        separator = ", "


def image_text(image: ImageRecord) -> str:
    """`image_json` as text. Written out, because through dicts a million pictures take three times as long."""
    own = ", ".join(f'"{key}": {TO_TEXT(value)}' for key, value in own_json(image).items())
    more = f', "{OWN_KEY}": {{{own}}}' if own else ""
    height, width = image.size
    return f'{{"id": {image.id}, "file_name": {TO_TEXT(image.file_name)}, "height": {height}, "width": {width}{more}}}'


def annotation_texts(dataset: Dataset) -> Iterator[str]:
    """`annotation_json` of every instance as text."""
    left = ((image.id, instance) for image in dataset.images for instance in image.instances)
    number = itertools.count(1)
    ids = [category.id for category in dataset.categories]
    while part := list(itertools.islice(left, PART)):
        numbers: list[float] = []
        for _, instance in part:
            x, y, width, height = xywh(instance.box)
            numbers += (x, y, width, height, width * height if instance.area is None else instance.area)
        texts = iter(number_texts(numbers))
        for (image_id, instance), x_, y_, width_, height_, area in zip(part, texts, texts, texts, texts, texts, strict=False):
            outline = "[]" if instance.segmentation is None else TO_TEXT(segmentation_json(instance.segmentation))
            yield (
                f'{{"id": {next(number)}, "image_id": {image_id}, "category_id": {ids[instance.label]}, '
                f'"bbox": [{x_}, {y_}, {width_}, {height_}], "area": {area}, "iscrowd": {int(instance.crowd)}, '
                f'"segmentation": {outline}}}'
            )


def number_texts(numbers: Sequence[float]) -> list[str]:
    """Every number as Python's own JSON writes it, but twice as fast.

    msgspec gives the same shortest digits. Very small and very large numbers it writes with and without an exponent elsewhere.
    """
    try:
        text = msgspec.json.encode(numbers).decode("ascii")
    except TypeError:  # a number of numpy
        text = "e"
    if any(mark in text for mark in ("e", "null", "[0.0000", ",0.0000", "-0.0000")):
        return TO_TEXT(numbers)[1:-1].split(", ")
    return text[1:-1].split(",")
