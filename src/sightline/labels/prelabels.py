"""Boxes that people shall correct: a dataset, or what a model found, as the input manifest of an adjustment job.

Such a manifest looks like the output of a bounding-box job that nobody worked on: `human-annotated` is "no". The labelling job
shows the boxes, the workers correct them, and its output has both, the corrected ones under an attribute of their own.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np

from sightline import storage, wire
from sightline.coco import as_object, is_number, numbers, shorten, whole, xywh
from sightline.errors import LabelError, Problem, RequestError
from sightline.labels import ground_truth
from sightline.labels.survey import BOXES, METADATA
from sightline.memory import read_whole
from sightline.records import Box, Dataset, Detections, ImageSize

MAX_LINE, MAX_ATTRIBUTE = 100_000, 20_000
"""Characters that a labelling job accepts in one line, and in one attribute of it."""

DECIMALS = 2
"""Of a detection's pixels and score. A hundredth of a pixel is more than anybody draws, and a line must stay short."""


@dataclass(frozen=True, slots=True)
class PreLabel:
    """The boxes of one picture. source: its s3:// address; labels: index into the class names; confidences: 0 to 1."""

    source: str
    size: ImageSize
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    confidences: tuple[float, ...]


def from_dataset(dataset: Dataset, *, prefix: str | None = None) -> Iterator[PreLabel]:
    """A dataset's boxes, with confidence 1, without crowd regions, which are no single objects.

    Pictures without an s3:// source are those of the same file name below `prefix`.
    """
    for image in dataset.images:
        source = image.source if storage.is_remote(image.source) else address(image.file_name, prefix)
        single = [instance for instance in image.instances if not instance.crowd]
        boxes = tuple(instance.box for instance in single)
        labels = tuple(instance.label for instance in single)
        yield PreLabel(source, image.size, boxes, labels, (1.0,) * len(boxes))


def from_detections(
    found: Mapping[str, Detections],
    *,
    prefix: str | None = None,
    root: str | None = None,
    sources: Mapping[str, str] | None = None,
    threshold: float = 0.0,
) -> Iterator[PreLabel]:
    """What a model found: {picture: its detections}, those whose score is at least `threshold`.

    prefix, root: a picture ROOT/a/b.jpg is PREFIX/a/b.jpg for the labelling job
    sources:      picture -> its s3:// address, where that is known
    """
    known = sources or {}
    for picture, detections in found.items():
        kept = detections.above(threshold)
        yield PreLabel(
            source=known.get(picture) or (picture if storage.is_remote(picture) else address(picture, prefix, root)),
            size=kept.size,
            boxes=tuple(tidy(box, kept.size) for box in kept.boxes.tolist()),
            labels=tuple(kept.labels.tolist()),
            confidences=tuple(round(score, 4) for score in kept.scores.tolist()),
        )


def read_predictions(path: Path) -> tuple[dict[str, Detections], list[str], list[str]]:
    """({picture: its detections}, class names by label, what to know) of the JSON lines that `sightline predict -o` writes.

    A label that was never predicted has no name there, and gets one that no job will show.

    Raises:
        LabelError: everything that is wrong with the file, at once.
    """
    found: dict[str, Detections] = {}
    names: dict[int, str] = {}
    problems: list[Problem] = []
    failed: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                picture, answer = parse_prediction(line, f"{path}:{number}")
                if "error" in answer:
                    failed.append(picture)
                    continue
                if picture in found:
                    raise LabelError(f"{path}:{number}", f"has {picture} again", "Keep one of the two lines.")
                detections, own = wire.from_json(answer, f"{path}:{number}")
                learn_names(names, detections, own, f"{path}:{number}")
                found[picture] = detections
            except (LabelError, RequestError) as error:
                problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)
    notes = [f"Pictures that could not be predicted are left out: {', '.join(failed[:5])} ({len(failed):,} in all)."]
    class_names = [names.get(label, f"class {label}") for label in range(max(names, default=-1) + 1)]
    return found, class_names, notes if failed else []


def read_results(path: Path, dataset: Dataset) -> dict[str, Detections]:
    """{file name: what was found in it} of a COCO results file about `dataset`, with all pictures that it has no result for.

    Raises:
        LabelError: everything that is wrong with the file, at once.
    """
    fix = 'Give a JSON list of {"image_id", "category_id", "bbox", "score"}.'
    try:
        entries = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise LabelError(path, f"is not JSON ({error})", fix) from error
    if not isinstance(entries, list):
        raise LabelError(path, f"holds a JSON {type(entries).__name__}, not a list", fix)
    labels = {category.id: label for label, category in enumerate(dataset.categories)}
    rows: dict[int, list[tuple[Box, float, int]]] = {image.id: [] for image in dataset.images}
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        try:
            image, row = read_result(as_object(entry, f"{path}: result {index}"), labels, rows, f"{path}: result {index}")
            rows[image].append(row)
        except LabelError as error:
            problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)
    return {image.file_name: as_detections(rows[image.id], image.size) for image in dataset.images}


def read_result(
    fields: Mapping[str, object], labels: Mapping[int, int], images: Collection[int], where: str
) -> tuple[int, tuple[Box, float, int]]:
    """(image id, (box, score, label)) of one result."""
    image, category = whole(fields, "image_id", where), whole(fields, "category_id", where)
    for key, value, known in (("image_id", image, images), ("category_id", category, labels)):
        if value not in known:
            raise LabelError(where, f"has {key} {value}, which the data set does not have", "Name the data set it is about.")
    left, top, width, height = numbers(fields.get("bbox"), 4, "bbox", where)
    score = fields.get("score")
    if not is_number(score) or not 0 <= score <= 1:
        raise LabelError(where, f"has score {shorten(score)}", "Give a number from 0 to 1.")
    return image, ((left, top, left + width, top + height), float(score), labels[category])


def as_detections(rows: Sequence[tuple[Box, float, int]], size: ImageSize) -> Detections:
    """(box, score, label) of one picture, best first."""
    best = sorted(rows, key=lambda row: -row[1])
    return Detections(
        size,
        np.array([box for box, _, _ in best], dtype=np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in best], dtype=np.float32),
        np.array([label for _, _, label in best], dtype=np.int64),
    )


def parse_prediction(line: bytes, where: str) -> tuple[str, Mapping[str, object]]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LabelError(where, f"is not JSON ({error})", "Give what `sightline predict -o` wrote.") from error
    picture = answer.get("image") if isinstance(answer, dict) else None
    if not isinstance(picture, str) or not picture:
        raise LabelError(where, "names no image", "Give what `sightline predict -o` wrote.")
    return picture, answer


def learn_names(names: dict[int, str], detections: Detections, own: Sequence[str], where: str) -> None:
    """The class names of one answer, into `names`."""
    if not own and len(detections):
        raise LabelError(where, "has no class_names", "Predict with a bundle that has them.")
    for label, name in zip(detections.labels.tolist(), own, strict=True):
        if not 0 <= label < 100_000:
            raise LabelError(where, f"has class {label}", "Give what `sightline predict -o` wrote.")
        if names.setdefault(label, name) != name:
            what = f"calls class {label} {name!r}, which was {names[label]!r} before"
            raise LabelError(where, what, "Give the predictions of one model.")


def address(picture: str, prefix: str | None, root: str | None = None) -> str:
    """Where the labelling job finds a picture of this machine.

    Raises:
        LabelError: there is no prefix, or the picture is not below `root`.
    """
    if prefix is None or not storage.is_remote(prefix):
        raise LabelError(picture, "has no s3:// address", "Say with --prefix s3://BUCKET/FOLDER where the pictures are.")
    path = PurePosixPath(picture.replace("\\", "/"))
    if root is not None:
        try:
            path = path.relative_to(PurePosixPath(root.replace("\\", "/")))
        except ValueError as error:
            raise LabelError(picture, f"is not below {root}", "Name the folder that holds all pictures.") from error
    if path.is_absolute() or ".." in path.parts:
        raise LabelError(picture, "is not below one folder", "Name the folder that holds all pictures.")
    return f"{prefix.rstrip('/')}/{path}"


def tidy(box: Sequence[float], size: ImageSize) -> Box:
    """A detection's box within its picture, in hundredths of a pixel."""
    x1, y1, x2, y2 = box
    across, down = float(size.width), float(size.height)
    return (
        round(min(max(x1, 0.0), across), DECIMALS),
        round(min(max(y1, 0.0), down), DECIMALS),
        round(min(max(x2, 0.0), across), DECIMALS),
        round(min(max(y2, 0.0), down), DECIMALS),
    )


def write(
    pictures: Iterable[PreLabel],
    to: Path,
    *,
    class_names: Sequence[str],
    created: str,
    attribute: str = "pre-labels",
    job_name: str = "sightline-pre-labels",
) -> list[str]:
    """The manifest at `to`, whole or not at all, read back before it is there; what was left out.

    created:   creation-date, ISO 8601 in UTC (2026-01-31T12:00:00.000000); given, so that the same input gives the same file
    attribute: the name to give to the adjustment job as that of the labels to adjust
    job_name:  for the metadata

    Raises:
        LabelError: everything that a labelling job would not accept.
    """
    check_attribute(attribute)
    check_date(created)
    problems: list[Problem] = []
    sources: set[str] = set()
    count = boxes = left_out = 0
    with storage.atomic_write(to) as file:
        for picture in pictures:
            if picture.source in sources:
                problems.append(Problem(picture.source, "comes twice", "Give every picture once."))
            sources.add(picture.source)
            sound = without_empty(picture)
            line = manifest_line(sound, class_names, attribute=attribute, job_name=job_name, created=created)
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            problems.extend(too_long(line, text, picture.source, len(sound.boxes)))
            file.write(text.encode("utf-8") + b"\n")
            count, boxes, left_out = count + 1, boxes + len(sound.boxes), left_out + len(picture.boxes) - len(sound.boxes)
        if not count:
            problems.append(Problem(str(to), "would hold no picture", "Give at least one."))
        if problems:
            raise LabelError.collected(problems)
        file.flush()
        check_written(Path(file.name), to, attribute, count, boxes)
    return [f"Boxes without any area were left out: {left_out:,}."] if left_out else []


def check_date(created: str) -> None:
    """Whether it is a date: of two adjustments the one with the later date counts.

    Raises:
        LabelError: it is none.
    """
    try:
        datetime.fromisoformat(created)
    except ValueError as error:
        fix = "Give a time of ISO 8601 in UTC, as 2026-01-31T12:00:00."
        raise LabelError("--created", f"is {created!r}", fix) from error


def check_attribute(attribute: str) -> None:
    reserved = attribute in ("", "source", "source-ref") or attribute.startswith("$")
    if reserved or attribute.endswith((METADATA, "-ref")):
        what = f"cannot be {attribute!r}"
        raise LabelError("attribute", what, "Not source, source-ref, $..., ...-metadata or ...-ref, which mean other things.")


def without_empty(picture: PreLabel) -> PreLabel:
    """The same without boxes that hold nothing; rounding may have closed a tiny one."""
    kept = [row for row, (x1, y1, x2, y2) in enumerate(picture.boxes) if x1 < x2 and y1 < y2]
    if len(kept) == len(picture.boxes):
        return picture
    return PreLabel(
        picture.source,
        picture.size,
        tuple(picture.boxes[row] for row in kept),
        tuple(picture.labels[row] for row in kept),
        tuple(picture.confidences[row] for row in kept),
    )


def manifest_line(
    picture: PreLabel, class_names: Sequence[str], *, attribute: str, job_name: str, created: str
) -> dict[str, object]:
    wrong = [label for label in picture.labels if not 0 <= label < len(class_names)]
    if wrong:
        raise LabelError(picture.source, f"has label {wrong[0]}", f"There are {len(class_names)} class names: 0 and up.")
    annotations = [
        {"class_id": label, "top": top, "left": left, "height": height, "width": width}
        for label, (left, top, width, height) in zip(picture.labels, map(xywh, picture.boxes), strict=True)
    ]
    return {
        "source-ref": picture.source,
        attribute: {
            "image_size": [{"width": picture.size.width, "height": picture.size.height, "depth": 3}],
            "annotations": annotations,
        },
        attribute + METADATA: {
            "objects": [{"confidence": confidence} for confidence in picture.confidences],
            "class-map": {str(label): class_names[label] for label in sorted(set(picture.labels))},
            "type": BOXES,
            "human-annotated": "no",
            "creation-date": created,
            "job-name": f"labeling-job/{job_name}",
        },
    }


def too_long(line: Mapping[str, object], text: str, where: str, boxes: int) -> Iterator[Problem]:
    """What a labelling job would refuse for its length."""
    fix = "Leave out those of low confidence, with a higher threshold."
    if len(text) > MAX_LINE:
        yield Problem(where, f"needs {len(text):,} characters for {boxes:,} boxes; a job takes {MAX_LINE:,}", fix)
        return
    for name, value in line.items():
        length = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        if length > MAX_ATTRIBUTE:
            what = f"needs {length:,} characters in {name!r} for {boxes:,} boxes; a job takes {MAX_ATTRIBUTE:,}"
            yield Problem(where, what, fix)


def check_written(path: Path, to: Path, attribute: str, pictures: int, boxes: int) -> None:
    """Whether the manifest says what was meant, as an import sees it."""
    report = ground_truth.read([path], label_attributes=[attribute]).report
    if report.skipped:
        raise LabelError.collected(
            [Problem(one.where.replace(str(path), str(to)), one.what, "Correct the labels.") for one in report.skipped]
        )
    if (report.images, report.boxes) != (pictures, boxes):
        raise LabelError(to, f"reads as {report.images:,} pictures with {report.boxes:,} boxes", f"Expected {boxes:,} boxes.")
