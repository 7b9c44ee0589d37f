"""A Ground Truth manifest, read once: every box label in it, before it is known which ones are wanted and what a class is.

One JSON object a line. Lines become columns of numbers: a million lines with three boxes each take 0.3 GB that way. Which label
attribute to take and how the classes are ordered is known only after the last line; records are built then, of those alone.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from sightline.coco import is_number, shorten
from sightline.errors import LabelError, Problem, nearest
from sightline.geometry.boxes import ROUNDING_PX, fault, is_empty
from sightline.labels.merging import spellings
from sightline.records import Box, ImageSize

BOXES = "groundtruth/object-detection"
VERDICT = "groundtruth/label-verification"
VIDEO = ("groundtruth/video-object-detection", "groundtruth/video-object-tracking")
METADATA = "-metadata"
FAILURE = "failure-reason"
VIDEO_KEYS = ("tracking-annotations", "detection-annotations")  # of SeqLabel.json, a video job's label file
RECOGNISED = rb'"(source-ref|tracking-annotations|detection-annotations)"|^\s*\{\s*"source"\s*:'
UTF8_BOM = b"\xef\xbb\xbf"

MAX_LINE_BYTES = 8 * 2**20
"""Ground Truth allows 100,000 characters a line. What is far longer is no manifest, and parsed it could fill the memory."""

ADVICE = {
    "groundtruth/image-classification": "It names a class for whole pictures, without boxes.",
    "groundtruth/image-classification-multilabel": "It names classes for whole pictures, without boxes.",
    "groundtruth/semantic-segmentation": "It colours pixels by class and does not tell one object from the next.",
    VERDICT: "It holds verdicts about boxes; the boxes are in the output of the job that was verified.",
    **dict.fromkeys(VIDEO, "Give video jobs in an import of their own."),
}
"""What a job of another kind holds, for those who take it for a box job."""

NUMBERS = frozenset({int, float})  # and not bool
DECODER = msgspec.json.Decoder()


@dataclass(slots=True)
class Labels:
    """The labels under one attribute of one manifest, in the order of its lines. N: boxes.

    count:    lines that have it, broken ones too
    lines:    line numbers, with `sources`, `sizes` and `ends` one a sound picture
    ends:     where a picture's boxes end
    boxes:    4 N numbers, x1 y1 x2 y2
    names:    N indices into the survey's names
    pairs:    (class id, class name) of all lines
    problems: line -> what is wrong there
    broken:   lines whose picture is left out for it
    statuses: "adjusted" or "unadjusted" -> lines; empty: no adjustment job made them
    latest:   the newest creation-date
    below:    line -> boxes below the confidence that was asked for
    machine:  lines whose labels no human has made or seen
    """

    count: int = 0
    lines: "array[int]" = field(default_factory=lambda: array("Q"))
    sources: list[str] = field(default_factory=list)
    sizes: list[ImageSize] = field(default_factory=list)
    ends: "array[int]" = field(default_factory=lambda: array("Q"))
    boxes: "array[float]" = field(default_factory=lambda: array("d"))
    names: "array[int]" = field(default_factory=lambda: array("L"))
    pairs: set[tuple[str, str]] = field(default_factory=set)
    problems: dict[int, list[Problem]] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    latest: str = ""
    below: dict[int, int] = field(default_factory=dict)
    machine: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Survey:
    """What one manifest holds.

    attributes: box label attribute -> its labels
    others:     label types that are no boxes -> an attribute of that type
    failures:   (attribute, line) -> why its labelling failed
    verdicts:   (box label attribute, line) -> what a verification job called the boxes
    bare:       line without any box label -> its keys
    foreign:    line without boxes but another kind of label -> (attribute, type)
    problems:   line -> what is wrong with it, whichever attribute is taken
    names:      class name as written -> its index
    sizes:      a size -> itself: most pictures share a few
    """

    path: Path
    min_confidence: float | None = None
    lines: int = 0
    attributes: dict[str, Labels] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    verdicts: dict[tuple[str, int], str] = field(default_factory=dict)
    bare: dict[int, tuple[str, ...]] = field(default_factory=dict)
    foreign: dict[int, tuple[str, str]] = field(default_factory=dict)
    problems: dict[int, list[Problem]] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    sizes: dict[tuple[object, object], ImageSize] = field(default_factory=dict)
    keys: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_video(self) -> bool:
        return not self.attributes and any(kind in self.others for kind in VIDEO)


def recognise(path: Path | bytes, head: bytes | None = None) -> bool:
    """Whether a file that begins with `head` is a manifest, labelled or not, or a part of a video job."""
    given = path if isinstance(path, bytes) else head
    return bool(re.search(RECOGNISED, given or b""))


def objects(path: Path) -> Iterator[tuple[int, Mapping[str, object] | LabelError]]:
    """(line number, its JSON object or what is wrong with it) for every line that is not blank."""
    with path.open("rb") as file:
        for number, raw in enumerate(raw_lines(file), 1):
            line = (raw.removeprefix(UTF8_BOM) if number == 1 else raw).strip()
            if line:
                yield number, parse_line(line, path, number)


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines; of one that is far too long only the beginning, which is no JSON."""
    while raw := file.readline(MAX_LINE_BYTES):
        yield raw
        while len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE_BYTES)


def parse_line(line: bytes, path: Path, number: int) -> Mapping[str, object] | LabelError:
    try:
        found = DECODER.decode(line)  # what it takes, it reads as Python's own JSON does
        if isinstance(found, dict) and len(line) < MAX_LINE_BYTES:
            return found
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return parse_odd_line(line, path, number)


def parse_odd_line(line: bytes, path: Path, number: int) -> Mapping[str, object] | LabelError:
    """What stands in a line that is no plain JSON object: NaN, half a surrogate pair, or why it cannot be read."""
    try:
        if len(line) >= MAX_LINE_BYTES:
            raise ValueError(f"more than {MAX_LINE_BYTES:,} bytes")
        text = line.decode("utf-8")
        found, end = json.JSONDecoder().raw_decode(text)
        if end != len(text):
            raise ValueError(f"more after the object: {shorten(text[end:])}")
        if b"\\u" in line and b"\\ud" in line.lower():  # half a surrogate pair is legal JSON, and no text that can be written
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        return LabelError(f"{path}:{number}", f"is not UTF-8 ({error})", "Save the manifest as UTF-8.")
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({error})"
        fix = "A manifest holds one complete JSON object a line; correct or remove it."
        return LabelError(f"{path}:{number}", what, fix)
    if not isinstance(found, dict):
        what = f"is a JSON {type(found).__name__}, not an object"
        return LabelError(f"{path}:{number}", what, "Correct or remove the line.")
    return found


def metadata(line: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(label attribute, its metadata) of one line."""
    for key, value in line.items():
        if key.endswith(METADATA) and isinstance(value, dict):
            yield key.removesuffix(METADATA), value


def survey(path: Path, *, min_confidence: float | None = None) -> Survey:
    """What `path` holds; all problems are in it.

    Raises:
        LabelError: it holds no box label at all, and is no video job's output; says what it holds instead.
    """
    found = Survey(path, min_confidence)
    for number, line in objects(path):
        found.lines += 1
        if isinstance(line, LabelError):
            found.problems[number] = list(line.problems)
        else:
            survey_line(line, number, found)
    if not found.attributes and not found.is_video:
        broken = [problem for problems in found.problems.values() for problem in problems]
        raise LabelError.collected([explain_no_boxes(found), *broken])
    return found


def survey_line(line: Mapping[str, object], number: int, found: Survey) -> None:
    source = line.get("source-ref")
    if not isinstance(source, str) or not source:
        sourceless(line, number, found)
        return
    labelled = judged = False
    for key, facts in line.items():
        if not (key.endswith(METADATA) and isinstance(facts, dict)):
            continue
        attribute = key[: -len(METADATA)]
        kind = facts.get("type")
        if FAILURE in facts:
            found.failures[attribute, number] = str(facts[FAILURE])
        elif kind == BOXES:
            label = line.get(attribute)
            if isinstance(label, dict):
                labelled = True
                if attribute not in found.attributes:
                    found.attributes[attribute] = Labels()
                add_label(label, facts, source, number, found.attributes[attribute], found)
        elif isinstance(kind, str):
            found.others.setdefault(kind, attribute)
            judged = judged or kind == VERDICT
            found.foreign[number] = (attribute, kind)
    if labelled:
        found.foreign.pop(number, None)
        if judged:
            found.verdicts.update({(attribute, number): name for attribute, name in verdicts(line).items()})
    else:
        keys = tuple(
            key for key, value in line.items() if isinstance(value, dict) or not (value is None or key.endswith(METADATA))
        )
        found.bare[number] = found.keys.setdefault(keys, keys)


def sourceless(line: Mapping[str, object], number: int, found: Survey) -> None:
    for key in VIDEO_KEYS:
        if key in line:
            found.others[f"video frames ({key})"] = ""
            return
    what = "holds text, not a picture (source)" if "source" in line else "has no source-ref"
    problem = Problem(f"{found.path}:{number}", what, "Give the picture's s3:// address as source-ref.")
    found.problems[number] = [problem]


def verdicts(line: Mapping[str, object]) -> dict[str, str]:
    """What verification jobs said: {box label attribute: class name}.

    Metadata does not tell which labels a job has verified. It has seen the newest that were there: an adjustment made after the
    verdict has changed the boxes, so that the verdict is about those before. Dates are ISO 8601 in UTC and compare as text.
    """
    boxes = {attribute: created(facts) for attribute, facts in metadata(line) if facts.get("type") == BOXES}
    said: dict[str, str] = {}
    passed = [(created(facts), attribute, facts) for attribute, facts in metadata(line) if facts.get("type") == VERDICT]
    for date, verdict, facts in sorted(passed, key=lambda one: one[0]):
        seen = [attribute for attribute, made in boxes.items() if made <= date or not date]
        if seen and FAILURE not in facts:
            name = facts.get("class-name")
            said[max(seen, key=boxes.__getitem__)] = name if isinstance(name, str) else str(line.get(verdict))
    return said


def created(facts: Mapping[str, object]) -> str:
    date = facts.get("creation-date")
    return date if isinstance(date, str) else ""


def add_label(
    label: Mapping[str, object], facts: Mapping[str, object], source: str, number: int, labels: Labels, found: Survey
) -> None:
    """One picture's boxes, into the columns of `labels`. What spoils them leaves the columns as they were."""
    labels.count += 1
    labels.latest = max(labels.latest, created(facts))
    status = facts.get("adjustment-status")
    if status is not None:
        labels.statuses[str(status)] += 1
    if facts.get("human-annotated") == "no":
        labels.machine.add(number)
    class_map = facts.get("class-map")
    if not isinstance(class_map, dict):
        class_map = {}
    add_pairs(class_map, labels.pairs)
    try:
        size = read_size(label.get("image_size"), found.sizes, number, found.path)
        entries = label.get("annotations")
        if not isinstance(entries, list):
            what = "has no list 'annotations'"
            raise LabelError(f"{found.path}:{number}", what, "Restore the line from the labelling job's output.")
        if found.min_confidence is not None:
            kept = confident(entries, facts.get("objects"), found.min_confidence, f"{found.path}:{number}")
            if len(kept) < len(entries):
                labels.below[number] = len(entries) - len(kept)
            entries = kept
        add_boxes(entries, class_map, size, number, labels, found)
    except LabelError as error:
        labels.problems.setdefault(number, []).extend(error.problems)
        labels.broken.add(number)
        return
    labels.lines.append(number)
    labels.sources.append(source)
    labels.sizes.append(size)
    labels.ends.append(len(labels.names))


def add_pairs(class_map: Mapping[str, object], pairs: set[tuple[str, str]]) -> None:
    for key, name in class_map.items():
        if isinstance(name, str) and (key, name) not in pairs and name.strip():
            pairs.add((key, name))


def read_size(value: object, known: dict[tuple[object, object], ImageSize], number: int, path: Path) -> ImageSize:
    """From [{"width": 500, "height": 375, "depth": 3}]."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        height, width = value[0].get("height"), value[0].get("width")
        if type(height) is type(width) is int and (height, width) in known:
            return known[height, width]
        if is_number(height) and is_number(width) and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
            key = (height, width)
            if key not in known:
                known[key] = ImageSize(int(height), int(width))
            return known[key]
    what = "has no image_size" if value is None else f"has image_size {shorten(value)}"
    raise LabelError(f"{path}:{number}", what, 'Give image_size: [{"width": W, "height": H, "depth": 3}] in pixels.')


def confident(entries: Sequence[object], facts: object, least: float, where: str) -> list[object]:
    """The entries whose confidence is at least `least`. Confidences are in `objects`, by index."""
    if not isinstance(facts, list) or len(facts) != len(entries):
        raise LabelError(where, "has no confidence for every box (objects)", "Leave --min-confidence out.")
    kept: list[object] = []
    for index, (entry, fact) in enumerate(zip(entries, facts, strict=True), 1):
        confidence = fact.get("confidence") if isinstance(fact, dict) else None
        if not is_number(confidence):
            raise LabelError(f"{where}, box {index}", f"has confidence {shorten(confidence)}", "Leave --min-confidence out.")
        if confidence >= least:
            kept.append(entry)
    return kept


def add_boxes(
    entries: Sequence[object], class_map: Mapping[str, object], size: ImageSize, number: int, labels: Labels, found: Survey
) -> None:
    """All boxes of a line, or none. An empty box is left out alone, as it holds no object; anything else spoils the line.

    Raises:
        LabelError: all that spoils the line.
    """
    plain = plain_boxes(entries, class_map, size, found.names)
    numbers, names = plain or examine_boxes(entries, class_map, size, number, labels, found)
    labels.boxes.extend(numbers)
    labels.names.extend(names)


def plain_boxes(
    entries: Sequence[Any], class_map: Mapping[str, Any], size: ImageSize, known: Mapping[str, int]
) -> tuple[list[float], list[int]] | None:
    """(4 N numbers, N indices of names) if nothing is wrong and every class has been seen before.

    Nearly all lines are so, and most of the time goes here: no more than a few comparisons, which say what `fault` says.
    """
    numbers: list[float] = []
    names: list[int] = []
    height, width = size
    least, right, bottom = -ROUNDING_PX, width + ROUNDING_PX, height + ROUNDING_PX
    try:
        for entry in entries:
            x1, y1, w, h = entry["left"], entry["top"], entry["width"], entry["height"]
            if not (type(x1) in NUMBERS and type(y1) in NUMBERS and type(w) in NUMBERS and type(h) in NUMBERS):
                return None
            x2, y2 = x1 + w, y1 + h
            within = least <= x1 < x2 <= right and least <= y1 < y2 <= bottom  # NaN and infinities fail here, too
            if not (within and x1 < width and y1 < height and x2 > 0 and y2 > 0):
                return None
            numbers += (x1, y1, x2, y2)
            names.append(known[class_map[str(entry["class_id"])]])
    except (KeyError, TypeError, OverflowError):  # something is missing, of another kind, or larger than any float
        return None
    return numbers, names


def examine_boxes(
    entries: Sequence[object], class_map: Mapping[str, object], size: ImageSize, number: int, labels: Labels, found: Survey
) -> tuple[list[float], list[int]]:
    """As `plain_boxes`, one by one with its name and number in messages.

    Raises:
        LabelError: all that spoils the line.
    """
    numbers: list[float] = []
    names: list[int] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries, 1):
        place = f"{found.path}:{number}, box {index}"
        try:
            box, name = examine_box(entry, size, class_map, place)
        except LabelError as error:
            problems.extend(error.problems)
            continue
        if is_empty(box):
            labels.problems.setdefault(number, []).append(Problem(place, fault(box, size) or "", "Remove the box."))
            continue
        numbers += box
        names.append(found.names.setdefault(name, len(found.names)))
    if problems:
        raise LabelError.collected(problems)
    return numbers, names


def examine_box(entry: object, size: ImageSize, class_map: Mapping[str, object], place: str) -> tuple[Box, str]:
    """(a box, sound or empty; its class name).

    Raises:
        LabelError: what is wrong with it.
    """
    if not isinstance(entry, dict):
        raise LabelError(place, f"is a JSON {type(entry).__name__}, not an object", "Correct or remove it.")
    box = read_box(entry, place)
    if is_empty(box):
        return box, ""
    wrong = fault(box, size)
    if wrong:
        raise LabelError(place, wrong, "Correct left, top, width and height, in pixels of this picture.")
    return box, class_name(entry.get("class_id"), class_map, place)


def read_box(entry: Mapping[str, object], place: str) -> Box:
    """(x1, y1, x2, y2) of left, top, width, height."""
    left, top, width, height = (entry.get(key) for key in ("left", "top", "width", "height"))
    if is_number(left) and is_number(top) and is_number(width) and is_number(height):
        return (float(left), float(top), float(left + width), float(top + height))
    wrong = [f"{key} {shorten(entry.get(key))}" for key in ("left", "top", "width", "height") if not is_number(entry.get(key))]
    raise LabelError(place, f"has {', '.join(wrong)}", "Give left, top, width and height as finite numbers of pixels.")


def class_name(class_id: object, class_map: Mapping[str, object], place: str) -> str:
    """What a class id means on its line."""
    key = str(int(class_id)) if isinstance(class_id, float) and class_id.is_integer() else str(class_id)
    name = class_map.get(key)
    if not isinstance(name, str) or not name.strip():
        known = ", ".join(f"{key}: {name}" for key, name in list(class_map.items())[:10]) or "empty"
        raise LabelError(
            place,
            f"has class_id {shorten(class_id)}, which is not in the line's class-map ({known})",
            "Add it to class-map.",
        )
    return name


def explain_no_boxes(found: Survey) -> Problem:
    """Why a file without a single box label cannot be imported."""
    where = str(found.path)
    if found.others:
        kinds = ", ".join(f"{kind} (attribute {name!r})" if name else kind for kind, name in found.others.items())
        advice = "".join(f"{ADVICE[kind]} " for kind in found.others if kind in ADVICE)
        if any(kind.startswith("video frames") for kind in found.others):
            advice = "The job's output.manifest beside it names the classes and the frames: give that. "
        fix = f"{advice}Give the output of a bounding-box job ({BOXES})."
        return Problem(where, f"has no boxes; its labels are of type {kinds}", fix)
    if found.failures:
        reasons = "; ".join(shorten(reason) for reason in sorted(set(found.failures.values()))[:10])
        return Problem(where, f"has no boxes: labelling failed ({reasons})", "Run the labelling job again.")
    if found.problems:
        return Problem(where, "has no line with boxes", "Give a Ground Truth output manifest (JSON lines).")
    if not found.lines:
        return Problem(where, "is empty", "Give a Ground Truth output manifest.")
    return Problem(
        where,
        f"has no labels in {found.lines:,} lines: it is an input manifest",
        "Give the job's output: <job>/manifests/output/output.manifest.",
    )


@dataclass(frozen=True, slots=True)
class Attribute:
    """What is known of a label attribute when one has to be chosen. adjusts: an adjustment job made it from another one."""

    name: str
    lines: int
    adjusts: bool
    latest: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.lines:,} lines{', an adjustment' if self.adjusts else ''})"


def choose_attributes(
    paths: Sequence[Path], files: Sequence[Sequence[Attribute]], wanted: Sequence[str], kind: str = "box"
) -> list[list[str]]:
    """Of each file the label attribute to read, and after it those to take where a line lacks it.

    An adjustment job's labels supersede those that it began with, and a later adjustment supersedes an earlier one. Where the
    labels of a file are not one such chain, somebody has to choose.

    wanted: the attributes that were chosen; each file takes the one that it has

    Raises:
        LabelError: no file has an attribute that is `wanted`; or several could be meant, all of which are listed.
    """
    known = sorted({attribute.name for found in files for attribute in found})
    where = ", ".join(map(str, paths))
    problems = [
        Problem(where, f"has no {kind} label attribute {name!r}", nearest(name, known)) for name in wanted if name not in known
    ]
    if problems:
        raise LabelError.collected(problems)
    chosen: list[list[str]] = []
    for path, found in zip(paths, files, strict=True):
        own = [attribute.name for attribute in found if attribute.name in wanted]
        if len(own) > 1:
            what = f"has several of the label attributes that were asked for: {', '.join(map(repr, own))}"
            problems.append(Problem(str(path), what, "Name one for each file with --label-attribute."))
            continue
        chain = sorted(found, key=lambda attribute: (attribute.adjusts, attribute.latest), reverse=True)
        dates = [attribute.latest for attribute in chain if attribute.adjusts]
        if own:
            chosen.append(own)
        elif len(found) == 1 or (dates and len(found) - len(dates) <= 1 and len(set(dates)) == len(dates)):
            chosen.append([attribute.name for attribute in chain])
        else:
            listed = ", ".join(str(attribute) for attribute in sorted(found, key=lambda attribute: attribute.name))
            problems.append(
                Problem(str(path), f"has several {kind} label attributes: {listed}", "Choose one with --label-attribute.")
            )
    if problems:
        raise LabelError.collected(problems)
    return chosen


def order_classes(pairs: set[tuple[str, str]]) -> tuple[list[str], dict[str, str]]:
    """(class names in label order, {name as written: name it is joined with}).

    Names are joined as in `merging.spellings`; a name that is alone stays as it is.
    """
    merged = {name: plain for plain, name in spellings(name for _, name in pairs)}
    numbered = {(key, merged.get(name, name)) for key, name in pairs}
    names = {name for _, name in numbered}
    agree = len(names) == len(numbered) == len({key for key, _ in numbered}) and all(
        re.fullmatch(r"\d{1,9}", key) for key, _ in numbered
    )
    return (
        [name for _, name in sorted(numbered, key=lambda pair: int(pair[0]))] if agree else sorted(names),
        merged,
    )
