"""SageMaker Ground Truth video jobs -> Dataset: every frame a picture, the frames of one sequence a group.

A manifest has one line a sequence: `source-ref` names the sequence file, which lists the frames, `<attribute>` the job's
SeqLabel.json, which holds their boxes, and the metadata names the classes. Both files, and the frames, are read from copies:
beside the manifest, in the job's output folder, or below the folder of the pictures; of a manifest from S3, what is in none of
them is fetched from its own address. No file tells how large a frame is; its picture does.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.coco import shorten
from sightline.errors import ImageError, LabelError, Problem
from sightline.geometry.boxes import fault, is_empty
from sightline.images import read_header
from sightline.labels.merging import spelling_note
from sightline.labels.report import Imported, ImportReport
from sightline.labels.survey import (
    FAILURE,
    METADATA,
    VIDEO,
    VIDEO_KEYS,
    Attribute,
    choose_attributes,
    created,
    examine_box,
    metadata,
    objects,
    order_classes,
)
from sightline.names import file_names
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance
from sightline.storage import fetched_each, is_remote, key_parts

NAME = "ground-truth-video"

MAX_LABEL_BYTES = 512 * 2**20
"""Of a SeqLabel.json; a box takes 250 bytes in it."""

OTHER_SHAPES = ("polygons", "polylines", "keypoints")


@dataclass(frozen=True, slots=True)
class Frame:
    """One labelled frame. source: its address; boxes: with their class names."""

    source: str
    size: ImageSize
    boxes: tuple[tuple[Box, str], ...]
    group: str


@dataclass(slots=True)
class Reel:
    """What the sequences of all manifests come to.

    folders:   where copies are looked for
    download:  what is in none of them is fetched
    copies:    file -> the address that it is taken for
    fetched:   address on S3 -> its file in the cache
    unfetched: address on S3 -> why it could not be fetched
    lost:      what a dataset has no place for -> boxes that had it
    """

    folders: Sequence[Path] = ()
    download: bool = False
    copies: dict[Path, str] = field(default_factory=dict)
    fetched: dict[str, Path] = field(default_factory=dict)
    unfetched: dict[str, Problem] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


def recognise(path: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` is the manifest of a video job."""
    return any(f'"{kind}"'.encode() in head for kind in VIDEO)


def read(
    paths: Sequence[Path], *, label_attributes: Sequence[str] = (), images: Path | None = None, download: bool = False
) -> Imported:
    """The frames of all sequences of all manifests, in their order; problems are in the report.

    label_attributes: which labels to take where a manifest has several that are not one chain of adjustments
    images:           the folder that frames, sequence files and labels were copied to, whole or in parts
    download:         fetch from S3 what is neither there nor beside the manifests

    Raises:
        LabelError: a file is no video job's output, or holds several label attributes to choose from.
    """
    lines = [list(objects(path)) for path in paths]  # a line a sequence: few
    chains = choose_attributes(paths, [attributes(found) for found in lines], label_attributes, "video")
    reel, pairs = Reel(download=download), set[tuple[str, str]]()
    for path, found, chain in zip(paths, lines, chains, strict=True):
        job = path.parents[2] if path.parts[-3:-1] == ("manifests", "output") else path.parent
        reel.folders = [*([images] if images else []), *dict.fromkeys((path.parent, job))]
        for number, line in found:
            try:
                pairs |= read_line(line, chain, f"{path}:{number}", reel)
            except LabelError as error:
                reel.problems.extend(error.problems)
    names, merged = order_classes(pairs)
    dataset = build(reel, names, {name: names.index(merged.get(name, name)) for _, name in pairs})
    report = ImportReport(
        format=NAME,
        files=tuple(map(str, paths)),
        lines=sum(map(len, lines)),
        images=len(dataset.images),
        boxes=dataset.instance_count,
        empty_images=sum(not image.instances for image in dataset.images),
        unlabelled=len(reel.unlabelled),
        failed=len(reel.failed),
        skipped=tuple(reel.problems),
        notes=tuple(notes(reel, merged)),
    )
    pictures = {image.file_name: file for image in dataset.images if (file := reel.fetched.get(image.source)) is not None}
    return Imported(dataset, report, pictures)


def attribute_names(paths: Sequence[Path]) -> set[str]:
    """The video label attributes of all manifests."""
    return {one.name for path in paths for one in attributes(list(objects(path)))}


def attributes(lines: Sequence[tuple[int, Mapping[str, object] | LabelError]]) -> list[Attribute]:
    """The video label attributes of one manifest."""
    found: dict[str, Attribute] = {}
    for _, line in lines:
        if isinstance(line, LabelError):
            continue
        for name, facts in metadata(line):
            if facts.get("type") in VIDEO:
                before = found.get(name, Attribute(name, 0, adjusts=False, latest=""))
                adjusts = before.adjusts or "adjustment-status" in facts
                found[name] = Attribute(name, before.lines + 1, adjusts, max(before.latest, created(facts)))
    return list(found.values())


def read_line(line: Mapping[str, object] | LabelError, chain: Sequence[str], where: str, reel: Reel) -> set[tuple[str, str]]:
    """One sequence's frames, into `reel`; its (class id, class name) pairs.

    Raises:
        LabelError: what is wrong with the sequence as a whole.
    """
    if isinstance(line, LabelError):
        raise line
    for name in chain:
        reference, facts = line.get(name), line.get(name + METADATA)
        if isinstance(facts, dict) and FAILURE in facts:
            continue
        if isinstance(reference, str) and isinstance(facts, dict) and facts.get("type") in VIDEO:
            break
    else:
        failed = any(isinstance(facts := line.get(name + METADATA), dict) and FAILURE in facts for name in chain)
        (reel.failed if failed else reel.unlabelled).append(where)
        return set()
    source = line.get("source-ref")
    if not isinstance(source, str) or not source:
        raise LabelError(where, "has no source-ref", "Give the s3:// address of the sequence file.")
    class_map = facts.get("class-map")
    class_map = class_map if isinstance(class_map, dict) else {}
    prefix, listed = read_sequence(load(source, where, "the sequence file", reel), source, where)
    labels = load(reference, where, "the labels", reel)
    place = f"{where}, {reference.rpartition('/')[2]}"
    labelled = read_frames(labels, place)
    fetch([prefix + name for name, _ in labelled], reel)
    for name, fields in labelled:
        if listed and name not in listed:
            what = "is not in the sequence file"
            reel.problems.append(Problem(f"{place}, frame {name!r}", what, "Give the files of one and the same job."))
            continue
        try:
            add_frame(prefix + name, fields, class_map, f"{place}, frame {name!r}", source, reel)
        except LabelError as error:
            reel.problems.extend(error.problems)
    missing = listed.keys() - {name for name, _ in labelled}
    reel.unlabelled.extend(f"{where}, frame {name!r}" for name in sorted(missing, key=listed.__getitem__))
    return {(key, name) for key, name in class_map.items() if isinstance(name, str) and name.strip()}


def copy_of(reference: str, where: str, what: str, reel: Reel) -> Path:
    """The copy of `reference`, which is that of no other address: every sequence has a SeqLabel.json, and often a 0001.jpg."""
    path = locate(reference, reel.folders) or reel.fetched.get(reference)
    if path is None and reference in reel.unfetched:
        failed = reel.unfetched[reference]
        raise LabelError(where, f"{what} {reference} {failed.what}", failed.fix)
    if path is None:
        folders = ", ".join(map(str, reel.folders))
        fix = f"Fetch it with --download, or copy it and name its folder with --images; looked in {folders}."
        raise LabelError(where, f"{what} {reference} is not here", fix)
    other = reel.copies.setdefault(path, reference)
    if other != reference:
        raise LabelError(where, f"{path} could be {reference} or {other}", "Keep the folders of the addresses when copying.")
    return path


def locate(reference: str, folders: Sequence[Path]) -> Path | None:
    """The copy of `reference`: the longest end of its key that is a file below one of the folders; never one outside them."""
    parts = key_parts(reference)
    if ".." in parts or any("\\" in part or "\0" in part for part in parts):
        return None
    for begin in range(len(parts)):
        for folder in folders:
            path = folder.joinpath(*(part for part in parts[begin:] if part != "/"))
            try:
                if path.is_file():
                    return path
            except OSError:  # a name longer than file systems allow
                continue
    return None


def fetch(references: Sequence[str], reel: Reel) -> None:
    """What is on S3 and in none of the folders, if it is to be fetched: all at once, each once.

    Raises:
        SightlineError, RunError: S3 cannot be used at all.
    """
    known = reel.fetched.keys() | reel.unfetched.keys()
    wanted = [one for one in references if is_remote(one) and one not in known and locate(one, reel.folders) is None]
    if reel.download and wanted:
        files, problems = fetched_each(wanted)
        reel.fetched |= files
        reel.unfetched |= problems


def load(reference: str, where: str, what: str, reel: Reel) -> Mapping[str, object]:
    """The JSON object in the copy of `reference`."""
    fetch([reference], reel)
    path = copy_of(reference, where, what, reel)
    shown = reference if path == reel.fetched.get(reference) else path
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise ValueError(f"more than {MAX_LABEL_BYTES:,} bytes")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise LabelError(shown, f"cannot be read ({error.strerror})", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise LabelError(shown, f"is not JSON ({error})", "Copy the file again.") from error
    if not isinstance(content, dict):
        raise LabelError(shown, f"holds a JSON {type(content).__name__}, not an object", "Copy the file again.")
    return content


def read_sequence(content: Mapping[str, object], source: str, where: str) -> tuple[str, dict[str, int]]:
    """(what all frames' addresses begin with, {frame: its place})."""
    prefix, frames = content.get("prefix"), content.get("frames")
    if not isinstance(prefix, str) or not isinstance(frames, list):
        raise LabelError(where, f"{source} is no sequence file (prefix and frames)", "Check the source-ref.")
    names = [entry.get("frame") if isinstance(entry, dict) else None for entry in frames]
    wrong = [shorten(name) for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise LabelError(where, f"{source} names the frame {wrong[0]}", "Give every frame a file name.")
    return prefix, {str(name): place for place, name in enumerate(names)}


def read_frames(content: Mapping[str, object], place: str) -> list[tuple[str, Mapping[str, object]]]:
    """(frame, its labels) in the order of their numbers, which are text: "10" comes after "2"."""
    key = next((key for key in VIDEO_KEYS if isinstance(content.get(key), list)), None)
    if key is None:
        raise LabelError(place, f"has no list {' or '.join(VIDEO_KEYS)}", "Give a video job's SeqLabel.json.")
    entries = content[key]
    assert isinstance(entries, list)  # for the type checker
    found: dict[str, tuple[int, Mapping[str, object]]] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(entries, 1):
        name = entry.get("frame") if isinstance(entry, dict) else None
        number = str(entry.get("frame-no")) if isinstance(entry, dict) else ""
        if not isinstance(name, str) or not name:
            problems.append(Problem(f"{place}, entry {index}", f"has frame {shorten(name)}", "Restore the file."))
        elif not (number.isascii() and number.isdecimal() and len(number) < 10):
            problems.append(Problem(f"{place}, frame {name!r}", f"has frame-no {shorten(number)}", "Give a whole number."))
        elif name in found:
            problems.append(Problem(f"{place}, frame {name!r}", "is labelled twice", "Keep one of the two."))
        else:
            found[name] = (int(number), entry)
    if problems:
        raise LabelError.collected(problems)
    return [(name, entry) for name, (_, entry) in sorted(found.items(), key=lambda item: item[1][0])]


def add_frame(
    source: str, fields: Mapping[str, object], class_map: Mapping[str, object], place: str, group: str, reel: Reel
) -> None:
    """One frame's boxes, into `reel`. An empty box goes alone, anything else that is wrong takes the frame with it.

    Raises:
        LabelError: all that is wrong with the frame.
    """
    shapes = [key for key in OTHER_SHAPES if fields.get(key)]
    if shapes:
        raise LabelError(place, f"has {', '.join(shapes)}, not boxes", "Only bounding boxes are read.")
    if source in reel.frames:
        fix = "Keep one of the two; between two manifests --on-duplicate chooses."
        raise LabelError(place, f"{source} is a frame of {reel.frames[source].group}, too", fix)
    path = copy_of(source, place, "the picture", reel)
    try:
        size = read_header(path).shown
    except ImageError as error:
        shown = source if path == reel.fetched.get(source) else path
        raise LabelError(place, f"the picture {shown} {error.what}", error.fix) from error
    entries = fields.get("annotations", [])
    if not isinstance(entries, list):
        raise LabelError(place, f"has annotations {shorten(entries)}", "Give a list.")
    boxes, problems = list[tuple[Box, str]](), list[Problem]()
    for index, entry in enumerate(entries, 1):
        here = f"{place}, box {index}"
        try:
            box, name = read_entry(entry, size, class_map, here)
        except LabelError as error:
            problems.extend(error.problems)
            continue
        if is_empty(box):
            reel.problems.append(Problem(here, fault(box, size) or "", "Remove the box."))
        else:
            boxes.append((box, name))
            reel.lost.update(key for key in ("object-id", "label-category-attributes") if entry.get(key))
    if problems:
        raise LabelError.collected(problems)
    reel.frames[source] = Frame(source, size, tuple(boxes), group)


def read_entry(entry: object, size: ImageSize, class_map: Mapping[str, object], place: str) -> tuple[Box, str]:
    """(a box, sound or empty; its class name). Numbers may be text here, the class id always is."""
    if isinstance(entry, dict):
        entry = {key: number(entry.get(key)) for key in ("left", "top", "width", "height")} | {
            "class_id": entry.get("class-id")
        }
    return examine_box(entry, size, class_map, place)


def number(value: object) -> object:
    """A number that is written as text; everything else as it is."""
    if isinstance(value, str) and len(value) < 32:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def build(reel: Reel, names: Sequence[str], labels: Mapping[str, int]) -> Dataset:
    files = file_names(list(reel.frames))
    images = tuple(
        ImageRecord(
            id=order,
            file_name=file,
            size=frame.size,
            instances=tuple(Instance(box, labels[name]) for box, name in frame.boxes),
            source=frame.source,
            group=frame.group,
        )
        for order, (file, frame) in enumerate(zip(files, reel.frames.values(), strict=True), 1)
    )
    return Dataset(tuple(Category(order, name) for order, name in enumerate(names, 1)), images)


def notes(reel: Reel, merged: Mapping[str, str]) -> Iterator[str]:
    for name, plain in sorted(merged.items()):
        yield spelling_note(name, plain)
    if reel.unlabelled:
        yield f"Sequences and frames without a label: {', '.join(reel.unlabelled[:5])} ({len(reel.unlabelled):,} in all)."
    if reel.failed:
        yield f"Sequences whose labelling failed: {', '.join(reel.failed[:5])} ({len(reel.failed):,} in all)."
    if reel.lost:
        listed = ", ".join(f"{key} of {boxes:,} boxes" for key, boxes in sorted(reel.lost.items()))
        yield f"Not kept, a dataset has no place for it: {listed}."
