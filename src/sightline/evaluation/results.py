"""COCO results and the ground truth they are measured against: read, checked whole, and reduced to what scoring needs.

Nothing that is passed in is changed. Whatever is wrong with a file is collected and raised at once, each problem with its
index. Numbers are kept as written: a box that overlaps by exactly one half must stay there to the last digit.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import coco
from sightline.coco import as_object, check_unused, numbers, text, whole
from sightline.errors import DatasetError, LabelError, Problem
from sightline.records import Category, Detections, ImageSize, Rle

Indices = NDArray[np.intp]
Numbers = NDArray[np.float64]

GEOMETRY = {"bbox": "bbox", "segmentation": "segm"}
"""The key of a result that holds its place -> what COCO calls a score that is measured with it."""

MIN_TO_JUDGE = 3
"""Images of a results file from which on most of them unknown means: another data set."""

MOST = 100
"""Detections of a class in a picture that count: COCO's rule, made for some seven objects a picture."""

LARGEST = 1e100
"""What a score or a side may be: products of two such are still numbers, and so is all that is computed and written."""

RESULTS_FORM = 'A results file is a JSON list of {"image_id", "category_id", "bbox" or "segmentation", "score"}.'


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Boxes or masks of classes in images, as columns: tens of bytes an entry, where a dict takes a thousand.

    image:         (N,) index into the truth's images
    label:         (N,) index into the truth's categories
    boxes:         (N, 4) left, top, width, height in pixels, the numbers of the file; None: masks only
    segmentations: one an entry, as in the file (None: this one has none); None: boxes only
    """

    image: Indices
    label: Indices
    boxes: Numbers | None
    segmentations: tuple[object, ...] | None

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is to be found.

    name:       of the file, for messages
    image_ids:  (I,) ascending
    sizes:      (I,) None where the file does not say
    file_names: (I,) empty where the file does not say
    categories: in the order of their ids
    objects:    M of them, in the order of the file
    areas:      (M,) px²
    crowd:      (M,) whether it is a region of many objects
    ids:        (M,) the annotations' own, as the file has them; for people, nothing is counted by them
    """

    name: str
    image_ids: tuple[int, ...]
    sizes: tuple[ImageSize | None, ...]
    file_names: tuple[str, ...]
    categories: tuple[Category, ...]
    objects: Placed
    areas: Numbers
    crowd: NDArray[np.bool_]
    ids: tuple[object, ...]

    @property
    def has_masks(self) -> bool:
        """Whether masks can be measured; a truth without a single object cannot contradict them."""
        return not len(self.objects) or any(self.objects.segmentations or ())

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What was found.

    kinds:  which of "bbox" and "segm" every entry has a place for; empty where there are no entries
    found:  N of them, in the order of the file
    scores: (N,)
    notes:  what was assumed to get them, to be said beside the numbers
    """

    name: str
    kinds: tuple[str, ...]
    found: Placed
    scores: Numbers
    notes: tuple[str, ...] = ()


def read_json(path: Path, fix: str) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise LabelError(path, f"is not JSON ({error})", fix) from error


def read_truth_file(path: Path) -> Truth:
    """The ground truth of a COCO instances file."""
    return check_truth(read_json(path, "Give a complete COCO instances file."), str(path))


def read_results_file(path: Path, truth: Truth) -> Results:
    """The entries of a COCO results file."""
    return check_results(read_json(path, RESULTS_FORM), truth, str(path))


def collect(entries: Sequence[object], place: Callable[[int], str], read: Callable[[Mapping[str, object], str], None]) -> None:
    """Call `read` for every entry.

    Raises:
        LabelError: the problems of all entries together.
    """
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        try:
            read(as_object(entry, place(index)), place(index))
        except LabelError as error:
            problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)


def check_truth(content: object, name: str) -> Truth:
    """The ground truth of a parsed COCO instances file.

    Annotations are known by their place: COCO's own evaluation takes a match with number 0 for a miss, and loses all but one of
    those that share a number. An `ignore` in the file counts for nothing, `iscrowd` decides, as there. A missing area is the
    box's.
    """
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in coco.LISTS):
        fix = "Give a COCO instances file: it has the lists images, annotations and categories."
        raise LabelError(name, "is no ground truth", fix)
    images: dict[int, tuple[ImageSize | None, str]] = {}
    categories: dict[int, Category] = {}
    names: set[str] = set()

    def read_image(fields: Mapping[str, object], place: str) -> None:
        identity = whole(fields, "id", place)
        check_unused(identity, images, "id", place)
        sized = "height" in fields and "width" in fields
        size = ImageSize(whole(fields, "height", place), whole(fields, "width", place)) if sized else None
        images[identity] = size, str(fields.get("file_name") or "")

    def read_category(fields: Mapping[str, object], place: str) -> None:
        category = Category(whole(fields, "id", place), text(fields, "name", place))
        check_unused(category.id, categories, "id", place)
        check_unused(category.name, names, "name", place)
        categories[category.id] = category
        names.add(category.name)

    collect(content["images"], lambda index: f"{name}: images[{index}]", read_image)
    collect(content["categories"], lambda index: f"{name}: categories[{index}]", read_category)
    known_ids = Known(places_of(images), places_of(categories))
    entries = content["annotations"]
    columns = annotation_columns(entries, known_ids)
    if columns is None:
        entries = read_annotations(entries, known_ids, name)
        columns = annotation_columns(entries, known_ids)
        assert columns is not None  # they were just read into that form
    objects, areas = columns
    crowd = np.fromiter((bool(entry.get("iscrowd", 0)) for entry in entries), np.bool_, len(entries))
    order = sorted(images)
    return Truth(
        name,
        tuple(order),
        tuple(images[key][0] for key in order),
        tuple(images[key][1] for key in order),
        tuple(categories[key] for key in sorted(categories)),
        objects,
        areas,
        crowd,
        tuple(entry.get("id") for entry in entries),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """The ids that a truth has -> their places in ascending order."""

    images: Mapping[int, int]
    categories: Mapping[int, int]


def places_of(ids: Iterable[int]) -> dict[int, int]:
    return {identity: place for place, identity in enumerate(sorted(ids))}


def read_annotations(entries: Sequence[object], known_ids: Known, name: str) -> list[dict[str, object]]:
    """Annotations one by one, which finds every problem.

    Raises:
        LabelError: the problems of all entries together.
    """
    annotations: list[dict[str, object]] = []

    def read(fields: Mapping[str, object], place: str) -> None:
        box = read_box(fields, place)
        annotation = {
            "id": fields.get("id"),
            "image_id": known(fields, "image_id", known_ids.images, "image", place),
            "category_id": known(fields, "category_id", known_ids.categories, "category", place),
            "bbox": box,
            "area": measures([fields["area"]], 1, "area", place, LARGEST**2)[0] if "area" in fields else box[2] * box[3],
            "iscrowd": read_crowd(fields, place),
            "segmentation": fields.get("segmentation") or None,
        }
        annotations.append(annotation)

    collect(entries, lambda index: f"{name}: annotations[{index}]", read)
    return annotations


def annotation_columns(entries: Sequence[Any], known_ids: Known) -> tuple[Placed, Numbers] | None:
    """(objects, (M,) areas) of annotations that are as they should be, much faster than `read_annotations`; else None."""
    placed = columns(entries, known_ids, boxed=True, masked=True)
    if placed is None:
        return None
    boxes = placed.boxes
    assert boxes is not None
    areas = floats([entry.get("area", box[2] * box[3]) for entry, box in zip(entries, boxes.tolist(), strict=True)], LARGEST**2)
    told = all((entry.get("iscrowd") or 0) in (0, 1) for entry in entries)
    return (placed, areas) if told and areas is not None else None


def columns(entries: Sequence[Any], known_ids: Known, *, boxed: bool, masked: bool) -> Placed | None:
    """Entries whose ids are known and whose boxes are four finite numbers, none of negative size; None if any is not."""
    try:
        image_ids = [entry["image_id"] for entry in entries]
        category_ids = [entry["category_id"] for entry in entries]
        boxes = [entry["bbox"] for entry in entries] if boxed else []
        segmentations = tuple(entry.get("segmentation") or None for entry in entries) if masked else None
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    image, label = places_in(image_ids, known_ids.images), places_in(category_ids, known_ids.categories)
    shaped = {*map(type, boxes)} <= {list} and {*map(len, boxes)} <= {4}
    sides = floats(list(chain.from_iterable(boxes))) if shaped else None
    if image is None or label is None or sides is None or (sides.reshape(-1, 4)[:, 2:] < 0).any():
        return None
    return Placed(image, label, sides.reshape(-1, 4) if boxed else None, segmentations if any(segmentations or ()) else None)


def places_in(ids: Sequence[Any], places: Mapping[int, int]) -> Indices | None:
    """(N,) the places of ids; None where one is not known, or is no whole number."""
    if not {*map(type, ids)} <= {int} or not places.keys() >= set(ids):
        return None
    return np.array([places[identity] for identity in ids], dtype=np.intp)


def floats(values: Sequence[object], largest: float = LARGEST) -> Numbers | None:
    """(N,) numbers; None where one is something else, not finite, or beyond `largest`."""
    if not {*map(type, values)} <= {int, float} or not all(map(coco.is_number, values)):
        return None
    found = np.array(values, dtype=np.float64)
    return found if np.abs(found).max(initial=0.0) <= largest else None


def check_results(content: object, truth: Truth, name: str) -> Results:
    """The entries of a parsed COCO results file; all have a box, or all have a mask, or all have both."""
    if not isinstance(content, list):
        raise LabelError(name, f"holds a JSON {type(content).__name__}, not a list of results", RESULTS_FORM)
    known_ids = Known(places_of(truth.image_ids), places_of(category.id for category in truth.categories))
    results = result_columns(content, known_ids, name)
    if results is None:
        check_same_set(content, truth, name)
        results = result_columns(read_results(content, known_ids, name), known_ids, name)
        assert results is not None  # they were just read into that form
    return results


def result_columns(entries: Sequence[Any], known_ids: Known, name: str) -> Results | None:
    """Results that are as they should be, at a tenth of the time of `read_results`; None if any is not."""
    try:
        present = {(bool(entry.get("bbox")), bool(entry.get("segmentation"))) for entry in entries}
        scores = floats([entry["score"] for entry in entries])
    except (AttributeError, KeyError, TypeError):
        return None
    if scores is None or len(present) > 1 or present == {(False, False)}:
        return None
    boxed, masked = present.pop() if present else (True, False)
    placed = columns(entries, known_ids, boxed=boxed, masked=masked)
    kinds = [kind for kind, there in (("bbox", boxed), ("segm", masked)) if there and entries]
    return None if placed is None else Results(name, tuple(kinds), placed, scores)


def check_same_set(entries: Sequence[object], truth: Truth, name: str) -> None:
    """Nothing, unless most images of the results are unknown: one clear sentence instead of one a result.

    Raises:
        LabelError: the results are of another set.
    """
    images = {entry["image_id"] for entry in entries if isinstance(entry, dict) and type(entry.get("image_id")) is int}
    strange = images - set(truth.image_ids)
    if len(images) > MIN_TO_JUDGE and len(strange) > len(images) / 2:
        what = f"{len(strange):,} of its {len(images):,} images are not in {truth.name}: these are results of another data set"
        examples = ", ".join(map(str, sorted(strange)[:3]))
        raise LabelError(name, what, f"Give the labels of these images (image_id {examples}, ...), or the part that has them.")


def read_results(content: Sequence[object], known_ids: Known, name: str) -> list[dict[str, object]]:
    """Results one by one, which finds every problem.

    Raises:
        LabelError: the problems of all entries together.
    """
    found: list[dict[str, object]] = []
    first: list[str] = []

    def read(fields: Mapping[str, object], place: str) -> None:
        present = [key for key in GEOMETRY if fields.get(key)]
        if not present:
            raise LabelError(place, "has neither a bbox nor a segmentation", RESULTS_FORM)
        if not first:
            first.extend(present)
        elif present != first:
            what = f"has {' and '.join(present)}, where earlier results have {' and '.join(first)}"
            raise LabelError(place, what, "Give boxes for all results, or masks for all, or both.")
        entry: dict[str, object] = {
            "image_id": known(fields, "image_id", known_ids.images, "image", place),
            "category_id": known(fields, "category_id", known_ids.categories, "category", place),
            "score": measures([fields.get("score")], 1, "score", place)[0],
        }
        if "bbox" in present:
            entry["bbox"] = read_box(fields, place)
        if "segmentation" in present:
            entry["segmentation"] = fields["segmentation"]
        found.append(entry)

    collect(content, lambda index: f"{name}: result {index}", read)
    return found


def read_box(fields: Mapping[str, object], place: str) -> list[float]:
    """[left, top, width, height]; zero in size is a poor detection, below zero is no box."""
    box = measures(fields.get("bbox"), 4, "bbox", place)
    if min(box[2:]) < 0:
        raise LabelError(place, f"has bbox {list(box)}, of negative size", "Write it as [left, top, width, height].")
    return list(box)


def measures(value: object, count: int, key: str, place: str, largest: float = LARGEST) -> tuple[float, ...]:
    """`count` finite numbers, none beyond `largest`."""
    found = numbers(value, count, key, place)
    if max(map(abs, found)) > largest:
        shown = found[0] if count == 1 else value
        raise LabelError(place, f"has {key} {coco.shorten(shown)}", f"Give numbers up to {largest:g}.")
    return found


def read_crowd(fields: Mapping[str, object], place: str) -> int:
    """0 or 1; not whatever is true in Python, where "0" is."""
    crowd = fields.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise LabelError(place, f"has iscrowd {coco.shorten(crowd)}", "Write 0 or 1.")
    return int(crowd == 1)


def known(fields: Mapping[str, object], key: str, ids: Mapping[int, object], noun: str, place: str) -> int:
    identity = whole(fields, key, place)
    if identity not in ids:
        fix = f"Use the {noun} ids of the ground truth"
        fix += ", not the class indices 0, 1, ..." if noun == "category" else ""
        raise LabelError(place, f"has {key} {identity}, which the ground truth does not know", f"{fix}.")
    return identity


def results_from(detections: Mapping[int, Detections], category_ids: Sequence[int]) -> list[dict[str, object]]:
    """{image id: what was found in it} as COCO results, ready for JSON; with "segmentation" where masks were found.

    category_ids: label -> the dataset's own category id.

    Raises:
        DatasetError: a label has no category, as when a model was trained on other classes.
    """
    results: list[dict[str, object]] = []
    for image_id, found in detections.items():
        if len(found) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(category_ids):
            what = f"image {image_id} has a detection with the label {found.labels.max()}"
            fix = f"The dataset has {len(category_ids)} categories; evaluate with the one that the model was trained on."
            raise DatasetError("detections", what, fix)
        masks: Sequence[Rle | None] = found.masks if found.masks is not None else [None] * len(found)
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), masks, strict=True)
        for (x1, y1, x2, y2), score, label, mask in rows:
            place = [x1, y1, x2 - x1, y2 - y1]
            entry = {"image_id": image_id, "category_id": category_ids[label], "bbox": place, "score": score}
            results.append(entry if mask is None else entry | {"segmentation": coco.segmentation_json(mask)})
    return results
