"""COCO results and the ground truth they are measured against: read, checked whole, and reduced to what scoring needs.

Nothing that is passed in is changed. Whatever is wrong with a file is collected and raised at once, each problem with its
index. Numbers are kept as written: a box that overlaps by exactly one half must stay there to the last digit.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline import coco
from sightline.coco import as_object, check_unused, numbers, text, whole
from sightline.errors import DatasetError, LabelError, Problem
from sightline.records import Category, Detections, ImageSize, Rle

GEOMETRY = {"bbox": "bbox", "segmentation": "segm"}
"""The key of a result that holds its place -> what COCO calls a score that is measured with it."""

RESULTS_FORM = 'A results file is a JSON list of {"image_id", "category_id", "bbox" or "segmentation", "score"}.'


@dataclass(frozen=True, slots=True)
class Truth:
    """What is to be found.

    name:        of the file, for messages
    sizes:       {image id: its size; None where the file does not say}
    categories:  in the order of their ids
    annotations: COCO's, each with id (from 1), image_id, category_id, bbox, area, iscrowd and segmentation (None: has none)
    """

    name: str
    sizes: Mapping[int, ImageSize | None]
    categories: tuple[Category, ...]
    annotations: tuple[Mapping[str, object], ...]

    @property
    def has_masks(self) -> bool:
        """Whether masks can be measured; a truth without a single object cannot contradict them."""
        return not self.annotations or any(annotation["segmentation"] for annotation in self.annotations)


@dataclass(frozen=True, slots=True)
class Results:
    """What was found.

    kinds: which of "bbox" and "segm" every entry has a place for; empty where there are no entries
    found: each with image_id, category_id, score, and bbox or segmentation or both
    """

    name: str
    kinds: tuple[str, ...]
    found: tuple[Mapping[str, object], ...]


def read_json(path: Path, fix: str) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise LabelError(path, f"is not JSON ({error})", fix) from error


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

    Annotations are numbered anew: COCO's own evaluation takes a match with number 0 for a miss, and loses all but one of those
    that share a number. An `ignore` in the file counts for nothing, `iscrowd` decides, as there. A missing area is the box's.
    """
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in coco.LISTS):
        fix = "Give a COCO instances file: it has the lists images, annotations and categories."
        raise LabelError(name, "is no ground truth", fix)
    sizes: dict[int, ImageSize | None] = {}
    categories: dict[int, Category] = {}
    names: set[str] = set()
    annotations: list[Mapping[str, object]] = []

    def read_image(fields: Mapping[str, object], place: str) -> None:
        identity = whole(fields, "id", place)
        check_unused(identity, sizes, "id", place)
        sized = "height" in fields and "width" in fields
        sizes[identity] = ImageSize(whole(fields, "height", place), whole(fields, "width", place)) if sized else None

    def read_category(fields: Mapping[str, object], place: str) -> None:
        category = Category(whole(fields, "id", place), text(fields, "name", place))
        check_unused(category.id, categories, "id", place)
        check_unused(category.name, names, "name", place)
        categories[category.id] = category
        names.add(category.name)

    def read_annotation(fields: Mapping[str, object], place: str) -> None:
        box = read_box(fields, place)
        annotation = {
            "id": len(annotations) + 1,
            "image_id": known(fields, "image_id", sizes, "image", place),
            "category_id": known(fields, "category_id", categories, "category", place),
            "bbox": box,
            "area": numbers([fields["area"]], 1, "area", place)[0] if "area" in fields else box[2] * box[3],
            "iscrowd": int(bool(fields.get("iscrowd", 0))),
            "segmentation": fields.get("segmentation") or None,
        }
        annotations.append(annotation)

    collect(content["images"], lambda index: f"{name}: images[{index}]", read_image)
    collect(content["categories"], lambda index: f"{name}: categories[{index}]", read_category)
    collect(content["annotations"], lambda index: f"{name}: annotations[{index}]", read_annotation)
    return Truth(name, sizes, tuple(categories[key] for key in sorted(categories)), tuple(annotations))


def check_results(content: object, truth: Truth, name: str) -> Results:
    """The entries of a parsed COCO results file; all have a box, or all have a mask, or all have both."""
    if not isinstance(content, list):
        raise LabelError(name, f"holds a JSON {type(content).__name__}, not a list of results", RESULTS_FORM)
    categories = {category.id for category in truth.categories}
    found: list[Mapping[str, object]] = []
    first: list[str] = []

    def read(fields: Mapping[str, object], place: str) -> None:
        present = [key for key in GEOMETRY if fields.get(key)]
        if not present:
            raise LabelError(place, "has neither a bbox nor a segmentation", RESULTS_FORM)
        if not found:
            first.extend(present)
        elif present != first:
            what = f"has {' and '.join(present)}, where earlier results have {' and '.join(first)}"
            raise LabelError(place, what, "Give boxes for all results, or masks for all, or both.")
        entry: dict[str, object] = {
            "image_id": known(fields, "image_id", truth.sizes, "image", place),
            "category_id": known(fields, "category_id", categories, "category", place),
            "score": numbers([fields.get("score")], 1, "score", place)[0],
        }
        if "bbox" in present:
            entry["bbox"] = read_box(fields, place)
        if "segmentation" in present:
            entry["segmentation"] = fields["segmentation"]
        found.append(entry)

    collect(content, lambda index: f"{name}: result {index}", read)
    return Results(name, tuple(GEOMETRY[key] for key in first), tuple(found))


def read_box(fields: Mapping[str, object], place: str) -> list[float]:
    """[left, top, width, height]; zero in size is a poor detection, below zero is no box."""
    box = numbers(fields.get("bbox"), 4, "bbox", place)
    if min(box[2:]) < 0:
        raise LabelError(place, f"has bbox {list(box)}, of negative size", "Write it as [left, top, width, height].")
    return list(box)


def known(fields: Mapping[str, object], key: str, ids: Mapping[int, object] | set[int], noun: str, place: str) -> int:
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
