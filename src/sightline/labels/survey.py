"""A Ground Truth manifest before its boxes are read: its lines, what kinds of labels they hold, which classes they name."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.coco import shorten
from sightline.errors import LabelError, Problem, nearest

BOXES = "groundtruth/object-detection"
METADATA = "-metadata"
VIDEO_KEYS = ("tracking-annotations", "detection-annotations")  # of SeqLabel.json, a video job's label file
RECOGNISED = rb'"(source-ref|tracking-annotations|detection-annotations)"|^\s*\{\s*"source"\s*:'
UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Survey:
    """What one manifest holds, before its boxes are read.

    attributes: box label attribute -> lines that have it
    classes:    box label attribute -> the (class id, class name) pairs of all its lines
    others:     label types that are no boxes -> an attribute of that type
    failures:   reasons that labelling gave up for -> lines
    """

    lines: int = 0
    attributes: Counter[str] = field(default_factory=Counter)
    classes: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)


def recognise(head: bytes) -> bool:
    """Whether a file that begins with `head` is a manifest, labelled or not, or a part of a video job."""
    return bool(re.search(RECOGNISED, head))


def objects(path: Path) -> Iterator[tuple[str, Mapping[str, object] | LabelError]]:
    """(file:line, its JSON object or what is wrong with it) for every line that is not blank."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = (raw.removeprefix(UTF8_BOM) if number == 1 else raw).strip()
            if line:
                where = f"{path}:{number}"
                yield where, parse_line(line, where)


def parse_line(line: bytes, where: str) -> Mapping[str, object] | LabelError:
    try:
        found = json.loads(line.decode("utf-8"))
        if b"\\ud" in line.lower():  # half a surrogate pair is legal JSON, and no text that could be written again
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        return LabelError(where, f"is not UTF-8 ({error})", "Save the manifest as UTF-8.")
    except (ValueError, RecursionError) as error:
        return LabelError(
            where, f"is not JSON ({error})", "A manifest holds one complete JSON object a line; correct or remove it."
        )
    if not isinstance(found, dict):
        return LabelError(where, f"is a JSON {type(found).__name__}, not an object", "Correct or remove the line.")
    return found


def metadata(line: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(label attribute, its metadata) of one line."""
    for key, value in line.items():
        if key.endswith(METADATA) and isinstance(value, dict):
            yield key.removesuffix(METADATA), value


def survey(path: Path) -> Survey:
    """What `path` holds.

    Raises:
        LabelError: it holds no box label at all; says what it holds instead.
    """
    found = Survey()
    broken: list[Problem] = []
    for _, line in objects(path):
        found.lines += 1
        if isinstance(line, LabelError):
            broken.extend(line.problems)
            continue
        for key in VIDEO_KEYS:
            if key in line:
                found.others[f"video frames ({key})"] = ""
        for attribute, facts in metadata(line):
            survey_label(attribute, facts, line, found)
    if not found.attributes:
        raise LabelError.collected([explain_no_boxes(path, found, bool(broken)), *broken])
    return found


def survey_label(attribute: str, facts: Mapping[str, object], line: Mapping[str, object], found: Survey) -> None:
    kind = facts.get("type")
    if "failure-reason" in facts:
        found.failures[str(facts["failure-reason"])] += 1
    elif kind == BOXES and isinstance(line.get(attribute), dict):
        found.attributes[attribute] += 1
        class_map = facts.get("class-map")
        pairs = found.classes.setdefault(attribute, set())
        if isinstance(class_map, dict):
            pairs.update((key, name) for key, name in class_map.items() if isinstance(name, str) and name.strip())
    elif isinstance(kind, str) and kind != BOXES:
        found.others.setdefault(kind, attribute)


def explain_no_boxes(path: Path, found: Survey, broken: bool) -> Problem:
    """Why a file without a single box label cannot be imported."""
    if found.others:
        kinds = ", ".join(f"{kind} (attribute {name!r})" if name else kind for kind, name in found.others.items())
        return Problem(
            str(path), f"has no boxes; its labels are of type {kinds}", f"Give the output of a bounding-box job ({BOXES})."
        )
    if found.failures:
        reasons = "; ".join(shorten(reason) for reason in found.failures)
        return Problem(str(path), f"has no boxes: labelling failed ({reasons})", "Run the labelling job again.")
    if broken:
        return Problem(str(path), "has no line with boxes", "Give a Ground Truth output manifest (JSON lines).")
    if not found.lines:
        return Problem(str(path), "is empty", "Give a Ground Truth output manifest.")
    return Problem(
        str(path),
        f"has no labels in {found.lines:,} lines: it is an input manifest",
        "Give the job's output: <job>/manifests/output/output.manifest.",
    )


def choose_attributes(paths: Sequence[Path], surveys: Sequence[Survey], wanted: str | None) -> list[str]:
    """The label attribute to read of each file."""
    known = sorted({attribute for found in surveys for attribute in found.attributes})
    if wanted is not None and wanted not in known:
        raise LabelError(", ".join(map(str, paths)), f"has no box label attribute {wanted!r}", nearest(wanted, known))
    chosen, problems = [], []
    for path, found in zip(paths, surveys, strict=True):
        if wanted is not None and wanted in found.attributes:
            chosen.append(wanted)
        elif len(found.attributes) == 1:
            chosen.extend(found.attributes)
        else:
            listed = ", ".join(f"{attribute!r} ({lines:,} lines)" for attribute, lines in sorted(found.attributes.items()))
            problems.append(
                Problem(str(path), f"has several box label attributes: {listed}", "Choose one with --label-attribute.")
            )
    if problems:
        raise LabelError.collected(problems)
    return chosen


def order_classes(pairs: set[tuple[str, str]]) -> tuple[list[str], dict[str, str]]:
    """(class names in label order, {name as written: name it is joined with}).

    Names are joined when they differ only in blanks at their ends; a name that is alone keeps its blanks.
    """
    spellings: dict[str, set[str]] = {}
    for _, name in pairs:
        spellings.setdefault(name.strip(), set()).add(name)
    merged = {name: plain for plain, written in spellings.items() if len(written) > 1 for name in written}
    numbered = {(key, merged.get(name, name)) for key, name in pairs}
    names = {name for _, name in numbered}
    agree = len(names) == len(numbered) == len({key for key, _ in numbered}) and all(key.isdecimal() for key, _ in numbered)
    return (
        [name for _, name in sorted(numbered, key=lambda pair: int(pair[0]))] if agree else sorted(names),
        {name: plain for name, plain in merged.items() if name != plain},
    )
