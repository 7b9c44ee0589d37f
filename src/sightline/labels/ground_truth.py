"""SageMaker Ground Truth bounding-box manifests <-> Dataset.

One JSON object a line: `source-ref`, the boxes under a label attribute whose name differs from job to job, and
`<attribute>-metadata`, whose type tells what kind of label it is. A class id means what the class-map of its own line says,
and a class-map holds only the classes of that line: classes are joined by name over all lines of all files.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline import storage
from sightline.coco import is_number, shorten, xywh
from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.labels.names import file_names
from sightline.labels.report import Imported, ImportReport
from sightline.labels.survey import (
    BOXES,
    METADATA,
    Survey,
    choose_attributes,
    metadata,
    objects,
    order_classes,
    recognise,
    survey,
)
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance

__all__ = ["read", "recognise", "write"]

NAME = "ground-truth"


@dataclass(slots=True)
class Sheet:
    """The pictures read so far, with where each was found, and what else the lines were.

    pictures: source-ref -> (its size, its instances)
    places:   source-ref -> file:line
    """

    labels: Mapping[str, int]
    pictures: dict[str, tuple[ImageSize, tuple[Instance, ...]]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(paths: Sequence[Path], *, label_attribute: str | None = None) -> Imported:
    """The pictures of all manifests together, image ids from 1 in the order of the lines; problems are in the report.

    label_attribute: which labels to take where a manifest has several; elsewhere the only one is taken

    Classes are ordered by their class id when all lines agree on the ids, else by name: neither the order of files nor
    that of lines changes a label.

    Raises:
        LabelError: a file holds no boxes, or several label attributes to choose from.
    """
    surveys = [survey(path) for path in paths]
    attributes = choose_attributes(paths, surveys, label_attribute)
    pairs = {pair for found, attribute in zip(surveys, attributes, strict=True) for pair in found.classes[attribute]}
    names, merged = order_classes(pairs)
    labels = {name: names.index(merged.get(name, name)) for _, name in pairs}
    sheet = Sheet(labels)
    for path, attribute in zip(paths, attributes, strict=True):
        read_file(path, attribute, sheet)
    dataset = Dataset(tuple(Category(number, name) for number, name in enumerate(names, 1)), records(sheet))
    report = ImportReport(
        format=NAME,
        files=tuple(map(str, paths)),
        lines=sum(found.lines for found in surveys),
        images=len(dataset.images),
        boxes=dataset.instance_count,
        empty_images=sum(not image.instances for image in dataset.images),
        unlabelled=len(sheet.unlabelled),
        failed=len(sheet.failed),
        skipped=tuple(sheet.problems),
        notes=tuple(notes(sheet, surveys, merged)),
    )
    return Imported(dataset, report)


def read_file(path: Path, attribute: str, sheet: Sheet) -> None:
    """The labels of every line of one manifest, into `sheet`."""
    for where, line in objects(path):
        if isinstance(line, LabelError):
            sheet.problems.extend(line.problems)
            continue
        try:
            read_line(line, attribute, where, sheet)
        except LabelError as error:
            sheet.problems.extend(error.problems)


def read_line(line: Mapping[str, object], attribute: str, where: str, sheet: Sheet) -> None:
    source, label, facts = line.get("source-ref"), line.get(attribute), line.get(attribute + METADATA)
    if not isinstance(source, str) or not source:
        what = "holds text, not a picture (source)" if "source" in line else "has no source-ref"
        raise LabelError(where, what, "Give the picture's s3:// address as source-ref.")
    if isinstance(facts, dict) and "failure-reason" in facts:
        sheet.failed.append(where)
        return
    if label is None:
        check_other_labels(line, where)
        sheet.unlabelled.append(where)
        return
    if not isinstance(label, dict) or not isinstance(facts, dict):
        key = attribute if isinstance(facts, dict) else attribute + METADATA
        raise LabelError(where, f"has no object {key!r}", "Restore it from the labelling job's output.")
    if facts.get("type") != BOXES:
        raise LabelError(
            where, f"has a label of type {facts.get('type')!r} under {attribute!r}", f"Only {BOXES} is read; remove it."
        )
    if source in sheet.places:
        raise LabelError(where, f"labels {source} again, after {sheet.places[source]}", "Keep one of the two lines.")
    sheet.places[source] = where
    size = read_size(label.get("image_size"), where)
    sheet.pictures[source] = (size, read_boxes(label.get("annotations"), facts.get("class-map"), size, where, sheet))


def check_other_labels(line: Mapping[str, object], where: str) -> None:
    """A line without boxes may be unlabelled; labels of another kind show that it belongs to another task."""
    kinds = [kind for _, facts in metadata(line) if isinstance(kind := facts.get("type"), str) and kind != BOXES]
    if kinds:
        raise LabelError(where, f"has no boxes but a label of type {kinds[0]}", f"Only {BOXES} is read; remove the line.")


def read_size(value: object, where: str) -> ImageSize:
    """From [{"width": 500, "height": 375, "depth": 3}]."""
    fix = 'Give image_size: [{"width": W, "height": H, "depth": 3}] in pixels.'
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise LabelError(where, "has no image_size" if value is None else f"has image_size {shorten(value)}", fix)
    height, width = value[0].get("height"), value[0].get("width")
    if not (is_number(height) and is_number(width) and height >= 1 and width >= 1 and height % 1 == width % 1 == 0):
        raise LabelError(where, f"has image_size {shorten(value)}", fix)
    return ImageSize(int(height), int(width))


def read_boxes(entries: object, class_map: object, size: ImageSize, where: str, sheet: Sheet) -> tuple[Instance, ...]:
    """The instances of one line. An empty box is left out alone, as it holds no object; anything else spoils the line.

    Raises:
        LabelError: all that spoils the line.
    """
    if not isinstance(entries, list):
        raise LabelError(where, "has no list 'annotations'", "Restore the line from the labelling job's output.")
    if not isinstance(class_map, dict):
        class_map = {}
    instances: list[Instance] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        place = f"{where}, box {index + 1}"
        try:
            box = read_box(entry, place)
            wrong = fault(box, size)
            if wrong and is_empty(box):
                sheet.problems.append(Problem(place, wrong, "Remove the box."))
            elif wrong:
                raise LabelError(place, wrong, "Correct left, top, width and height, in pixels of this picture.")
            else:
                instances.append(Instance(box, sheet.labels[class_name(entry.get("class_id"), class_map, place)]))
        except LabelError as error:
            problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)
    return tuple(instances)


def read_box(entry: object, place: str) -> Box:
    if not isinstance(entry, dict):
        raise LabelError(place, f"is a JSON {type(entry).__name__}, not an object", "Correct or remove it.")
    left, top, width, height = (entry.get(key) for key in ("left", "top", "width", "height"))
    if is_number(left) and is_number(top) and is_number(width) and is_number(height):
        return (float(left), float(top), float(left + width), float(top + height))
    wrong = [f"{key} {entry.get(key)!r}" for key in ("left", "top", "width", "height") if not is_number(entry.get(key))]
    raise LabelError(place, f"has {', '.join(wrong)}", "Give left, top, width and height as finite numbers of pixels.")


def class_name(class_id: object, class_map: Mapping[str, object], place: str) -> str:
    """What a class id means on its line."""
    key = str(int(class_id)) if isinstance(class_id, float) and class_id.is_integer() else str(class_id)
    name = class_map.get(key)
    if not isinstance(name, str) or not name.strip():
        known = ", ".join(f"{key}: {name}" for key, name in list(class_map.items())[:10]) or "empty"
        raise LabelError(
            place, f"has class_id {class_id!r}, which is not in the line's class-map ({known})", "Add it to class-map."
        )
    return name


def records(sheet: Sheet) -> tuple[ImageRecord, ...]:
    """The pictures in the order of the lines, ids from 1, each with a file name of its own."""
    names = file_names(list(sheet.pictures))
    return tuple(
        ImageRecord(id=number, file_name=name, size=size, instances=instances, source=source)
        for number, (name, (source, (size, instances))) in enumerate(zip(names, sheet.pictures.items(), strict=True), 1)
    )


def notes(sheet: Sheet, surveys: Sequence[Survey], merged: Mapping[str, str]) -> Iterator[str]:
    for name, plain in sorted(merged.items()):
        yield f"The classes {name!r} and {plain!r} differ only in blanks; they are one class."
    if sheet.unlabelled:
        yield f"Lines without a label: {listed(sheet.unlabelled)}."
    if sheet.failed:
        reasons = Counter[str]()
        for found in surveys:
            reasons.update(found.failures)
        told = "; ".join(f"{shorten(reason)} ({lines:,} lines)" for reason, lines in reasons.most_common(5))
        yield f"Lines whose labelling failed: {listed(sheet.failed)}. Reasons: {told}."


def listed(places: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(places) - limit:,} more" if len(places) > limit else ""
    return ", ".join(places[:limit]) + more


def write(
    dataset: Dataset,
    path: Path,
    *,
    prefix: str,
    attribute: str = "boxes",
    job_name: str = "sightline",
    created: str = "2025-01-01T00:00:00.000000",
) -> None:
    """The dataset as the output manifest of a bounding-box job whose pictures lie under `prefix` (s3://bucket/folder).

    As in real manifests the class-map of a line holds only the classes on that line; class ids are labels, from 0.

    Raises:
        LabelError: there are masks or crowd regions, which such a manifest cannot hold.
    """
    problems = [
        Problem(
            image.file_name, "has a mask or a crowd region, which a bounding-box manifest cannot hold", "Write COCO instead."
        )
        for image in dataset.images
        if any(instance.crowd or instance.segmentation is not None for instance in image.instances)
    ]
    if problems:
        raise LabelError.collected(problems)
    lines = (
        manifest_line(image, dataset, prefix=prefix.rstrip("/"), attribute=attribute, job_name=job_name, created=created)
        for image in dataset.images
    )
    storage.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def manifest_line(
    image: ImageRecord, dataset: Dataset, *, prefix: str, attribute: str, job_name: str, created: str
) -> dict[str, object]:
    labels = sorted({instance.label for instance in image.instances})
    boxes = [(instance.label, xywh(instance.box)) for instance in image.instances]
    return {
        "source-ref": f"{prefix}/{image.file_name}",
        attribute: {
            "image_size": [{"width": image.size.width, "height": image.size.height, "depth": 3}],
            "annotations": [
                {"class_id": label, "top": top, "left": left, "height": height, "width": width}
                for label, (left, top, width, height) in boxes
            ],
        },
        attribute + METADATA: {
            "objects": [{"confidence": 0} for _ in boxes],  # what Ground Truth writes when one worker labels
            "class-map": {str(label): dataset.categories[label].name for label in labels},
            "type": BOXES,
            "human-annotated": "yes",
            "creation-date": created,
            "job-name": f"labeling-job/{job_name}",
        },
    }
