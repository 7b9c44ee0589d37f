"""YOLO: data.yaml with the classes and where the pictures are; a text file a picture, below labels/ what is below images/.

A line is `class cx cy width height` (a box) or `class x1 y1 x2 y2 x3 y3 ...` (an outline), all as shares of the picture's width
and height. An empty text file and none at all both mean a picture without objects.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from sightline import storage
from sightline.coco import is_number, shorten
from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import ROUNDING_PX, is_empty
from sightline.images import SUFFIXES
from sightline.labels.coco import join
from sightline.labels.outlines import is_bounds, joined, outlined
from sightline.labels.pictures import Shelf, size_of, turned_note
from sightline.labels.report import Imported, ReadOptions, WriteOptions, imported
from sightline.labels.writing import label_names, lost
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance, Polygons

NAME = "yolo"
CONFIG = "data.yaml"
PARTS = ("train", "val", "test")
YAML_SUFFIXES = (".yaml", ".yml")
IMAGES, LABELS = "images", "labels"
BOX_NUMBERS, LEAST_OUTLINE, ORIENTED = 4, 6, 8
MAX_DEPTH = 20
MAX_CONFIG_BYTES = 2**20  # a thousand names take 20 kB, and PyYAML some ten seconds for a megabyte
ROUNDING = 1e-6
"""Share of a picture that numbers of six digits may reach outside of it; more is counted, more than 1 px is a problem."""


@dataclass(frozen=True, slots=True)
class Config:
    """What data.yaml says. parts: train, val, test -> folders or lists of pictures."""

    path: Path
    root: Path
    names: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class Sheet:
    """What was met on the way: notes in the making."""

    problems: list[Problem] = field(default_factory=list)
    pictures: dict[str, Path] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)
    turned: int = 0
    clipped: int = 0
    twice: int = 0
    outlines: int = 0
    quadrilaterals: int = 0


YAML_BREAKS = ("\x85", "\u2028", "\u2029")
"""Line breaks of YAML that are none of text files."""


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is a YAML file with class names, or a folder that has one."""
    if path.is_dir():
        return config_in(path) is not None
    return path.suffix.lower() in YAML_SUFFIXES and (head.startswith(b"names:") or b"\nnames:" in head)


def config_in(folder: Path) -> Path | None:
    """Its data.yaml, else its only YAML file with class names."""
    if (folder / CONFIG).is_file():
        return folder / CONFIG
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in YAML_SUFFIXES and path.is_file():
            with path.open("rb") as file:
                if recognise(path, file.read(65_536)):
                    found.append(path)
    return found[0] if len(found) == 1 else None


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all parts of all data sets together. A class's label is its number in data.yaml.

    Raises:
        LabelError: a data.yaml is broken or missing, or is of a task whose labels are no boxes or outlines.
    """
    configs = [read_config(path) for path in paths]
    sheet, datasets = Sheet(), list[Dataset]()
    found = [(config, picture, home) for config in configs for picture, home in pictures_of(config, options.images, sheet)]
    common = [str(picture) for _, picture, _ in found]
    names = dict(zip(common, file_names(common), strict=True))
    for config in configs:
        own = [(picture, home) for owner, picture, home in found if owner is config]
        images = tuple(read_pictures(config, own, names, options.images is not None, sheet))
        datasets.append(Dataset(tuple(Category(number, name) for number, name in enumerate(config.names, 1)), images))
    dataset = join(datasets, [config.path for config in configs], sheet.problems)
    return imported(NAME, paths, dataset, problems=sheet.problems, notes=notes(sheet), pictures=sheet.pictures)


def read_config(path: Path) -> Config:
    """What the data.yaml at `path`, or in the folder `path`, says.

    Raises:
        LabelError: all that is wrong with it.
    """
    if path.is_dir():
        inside = config_in(path)
        if inside is None:
            raise LabelError(path, f"has no {CONFIG}", f"Add a {CONFIG} with names and train.")
        path = inside
    content = parse_yaml(path)
    if not isinstance(content, dict):
        raise LabelError(path, f"holds a {type(content).__name__}, not keys", "Give names and train, val or test.")
    if content.get("task") == "obb":
        raise LabelError(path, "is of oriented boxes (task: obb), which are not read", "Export upright boxes or outlines.")
    if "kpt_shape" in content:
        raise LabelError(path, "is of poses (kpt_shape), which are not read", "Export boxes or outlines.")
    names = read_names(content.get("names"), path)
    parts = {part: read_part(content[part], part, path) for part in PARTS if content.get(part) not in (None, "", "null", "~")}
    if not parts:
        raise LabelError(path, "names no pictures", "Give train, val or test: a folder of pictures or a list of them.")
    home = content.get("path", "")
    if not isinstance(home, str):
        raise LabelError(path, f"has path {shorten(home)}", "Give one folder.")
    root = path.parent / home
    # The path is often that of another machine; then the data lies where data.yaml does.
    return Config(path, root if os.path.isdir(root) else path.parent, names, parts)  # noqa: PTH112 - Path raises on hostile names


def parse_yaml(path: Path) -> object:
    """YAML without anything clever: every scalar stays text (a class may be called `no` or `1.0`), aliases are refused."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise LabelError(path, f"has more than {MAX_CONFIG_BYTES:,} bytes", "Give the data set's YAML file with its names.")
        text = raw.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            if isinstance(event, yaml.AliasEvent):
                raise LabelError(path, f"has the alias *{event.anchor}", "Write the value out.")  # they can expand without end
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:  # PyYAML's time grows with the square of it
                raise LabelError(path, f"has values nested more than {MAX_DEPTH} deep", "Give names and train, val or test.")
        return yaml.load(text, Loader=yaml.BaseLoader)
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "Check the path.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LabelError(path, f"is not YAML ({shorten(str(error), 200)})", "Correct it.") from error


def read_names(value: object, path: Path) -> tuple[str, ...]:
    """From a list, or from {0: name, 1: name}."""
    if isinstance(value, dict):
        numbers = {key: name for key, name in value.items() if isinstance(key, str) and key.isascii() and key.isdecimal()}
        wanted = [str(number) for number in range(len(value))]
        missing = [number for number in wanted if number not in numbers]
        if missing:
            raise LabelError(path, f"has names without number {missing[0]}", "Number all classes from 0.")
        value = [numbers[number] for number in wanted]
    if not isinstance(value, list) or not value:
        raise LabelError(path, "has no list 'names'", "Give the classes in the order of their numbers.")
    problems = [
        Problem(str(path), f"has the class name {shorten(name)} under number {number}", "Give every class its own name.")
        for number, name in enumerate(value)
        if not isinstance(name, str) or not name.strip() or name in value[:number]
    ]
    if problems:
        raise LabelError.collected(problems)
    return tuple(value)


def read_part(value: object, part: str, path: Path) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in items):
        raise LabelError(path, f"has {part} {shorten(value)}", "Give a folder of pictures, a file that lists them, or several.")
    return tuple(items)


def pictures_of(config: Config, given: Path | None, sheet: Sheet) -> Iterator[tuple[Path, Path]]:
    """(picture, the folder it was found below) of all parts, each picture once.

    given: a folder in which all pictures are instead
    """
    seen: set[Path] = set()
    parts = {"images": (str(given.absolute()),)} if given else config.parts
    for part, items in parts.items():
        for item in items:
            place = locate(config.root, item)
            if place is None:
                problem = Problem(str(config.path), f"names {part}: {item}, which does not exist", "Correct the path.")
                sheet.problems.append(problem)
                continue
            home = place if place.is_dir() else place.parent
            for picture in below(place) if place.is_dir() else listed(place, config.root, sheet):
                if picture in seen:
                    sheet.twice += 1
                    continue
                seen.add(picture)
                sheet.parts[part] += 1
                yield picture, home


def locate(root: Path, item: str) -> Path | None:
    """What `item` means: below the data set's folder. `../train/images` of Roboflow's exports is meant without its `../`."""
    for candidate in (item, item.removeprefix("../")):
        path = Path(os.path.normpath(root / candidate))
        if os.path.exists(path):  # noqa: PTH110 - Path raises on hostile names
            return path
    return None


def below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def listed(path: Path, root: Path, sheet: Sheet) -> Iterator[Path]:
    """The pictures that a text file lists: relative to it with ./, else to the data set's folder, or absolute."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        sheet.problems.append(Problem(str(path), f"cannot be read ({error})", "Give a text file with one picture a line."))
        return
    shelves = {home: Shelf([home]) for home in (path.parent, root)}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        homes = (path.parent,) if name.startswith("./") else (root, path.parent)
        candidates = [Path(os.path.normpath(home / name)) for home in homes]
        found = next((one for one in candidates if shelves[path.parent].names(one.parent).get(one.name)), None)
        if found is None:
            sheet.problems.append(Problem(f"{path}:{number}", f"lists {name}, which does not exist", "Correct or remove it."))
        else:
            yield found


def read_pictures(
    config: Config, own: Sequence[tuple[Path, Path]], names: Mapping[str, str], elsewhere: bool, sheet: Sheet
) -> Iterator[ImageRecord]:
    """A record for every picture of one data set, and a problem for every label file without one."""
    used: set[Path] = set()
    homes: dict[Path, None] = {}
    for number, (picture, home) in enumerate(own, 1):
        candidates = label_files(picture, home, config.root if elsewhere else None)
        homes.setdefault(candidates[0].parent)
        label = next((one for one in candidates if one.is_file()), None)
        if label is not None:
            used.add(label)
        try:
            header = size_of(picture, picture)
            instances = read_labels(label, header.shown, len(config.names), sheet) if label is not None else ()
        except LabelError as error:
            sheet.problems.extend(error.problems)
            continue
        sheet.turned += header.orientation != 1
        name = names[str(picture)]
        sheet.pictures[name] = picture
        yield ImageRecord(number, name, header.shown, instances)
    for items in config.parts.values():  # folders of labels whose pictures are all missing count, too
        for item in items:
            place = Path(os.path.normpath(config.root / item.removeprefix("../")))
            if not elsewhere and place.suffix != ".txt":
                homes.setdefault(label_files(place / "x.jpg", place, None)[0].parent)
    if elsewhere:
        homes = dict.fromkeys([config.root / LABELS])
    for home in homes:
        if LABELS in home.parts:
            sheet.problems.extend(
                Problem(str(path), "has no picture", "Add the picture, or remove the label file.")
                for path in sorted(home.rglob("*.txt"))
                if path not in used and path.name != "classes.txt" and not is_claimed(path, homes, home)
            )


def is_claimed(path: Path, homes: Mapping[Path, None], home: Path) -> bool:
    """Whether another of the folders is nearer to `path`, so that it is not reported twice."""
    return any(other != home and home in other.parents and other in path.parents for other in homes)


def label_files(picture: Path, home: Path, root: Path | None) -> list[Path]:
    """Where a picture's labels may be: the last folder `images` of its path exchanged for `labels`; or beside it.

    root: of a data set whose pictures are elsewhere, below `home`
    """
    parts = list(picture.parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == IMAGES]
    if places:
        parts[places[-1]] = LABELS
    swapped = Path(*parts).with_suffix(".txt")
    moved = [root / LABELS / picture.relative_to(home).with_suffix(".txt")] if root is not None else []
    return [*moved, swapped, picture.with_suffix(".txt")]


def read_labels(path: Path, size: ImageSize, class_count: int, sheet: Sheet) -> tuple[Instance, ...]:
    """The objects of one picture. A box of zero size is left out alone, anything else that is wrong spoils the picture.

    Raises:
        LabelError: all that spoils it.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise LabelError(path, f"cannot be read ({error})", "Give a text file.") from error
    instances, problems = [], list[Problem]()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        place = f"{path}:{number}"
        try:
            instance = read_line(fields, size, class_count, place, sheet)
        except LabelError as error:
            problems.extend(error.problems)
            continue
        if is_empty(instance.box):
            sheet.problems.append(Problem(place, f"has an object of zero size ({shorten(line)})", "Remove the line."))
        else:
            instances.append(instance)
    if problems:
        raise LabelError.collected(problems)
    return tuple(instances)


def read_line(fields: Sequence[str], size: ImageSize, class_count: int, place: str, sheet: Sheet) -> Instance:
    values = [parse_number(text) for text in fields]
    if any(value is None for value in values):
        wrong = next(text for text, value in zip(fields, values, strict=True) if value is None)
        dota = " (oriented boxes in DOTA's form are not read)" if len(fields) == ORIENTED + 2 else ""
        raise LabelError(place, f"has {shorten(wrong)}, no finite number{dota}", "Give class cx cy width height.")
    first, *numbers = [value for value in values if value is not None]
    if first % 1 or not 0 <= first < class_count:
        raise LabelError(place, f"has class {fields[0]} of {class_count}", "Correct it, or add the class to names.")
    label = int(first)
    if len(numbers) == BOX_NUMBERS:
        cx, cy, width, height = numbers
        if width < 0 or height < 0:
            raise LabelError(place, f"has the size {width:g} x {height:g}", "Give class cx cy width height.")
        corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        x1, y1, x2, y2 = within(corners, size, place, sheet)
        return Instance((x1, y1, x2, y2), label)
    if len(numbers) == BOX_NUMBERS + 1:
        what = "has five numbers: an oriented box (its last is an angle) or a prediction (its last is a score)"
        raise LabelError(place, what, "Give class cx cy width height.")
    if len(numbers) < LEAST_OUTLINE or len(numbers) % 2:
        raise LabelError(
            place, f"has {len(numbers)} numbers after the class", "Give 4 for a box, or x and y of 3 or more corners."
        )
    sheet.outlines += 1
    sheet.quadrilaterals += len(numbers) == ORIENTED
    return outlined((within(numbers, size, place, sheet),), label)


def parse_number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if is_number(found) else None


def within(shares: Sequence[float], size: ImageSize, place: str, sheet: Sheet) -> tuple[float, ...]:
    """x, y, x, y, ... in pixels, cut off at the edges.

    Raises:
        LabelError: one is more than 1 px outside.
    """
    limits = [size.height if index % 2 else size.width for index in range(len(shares))]
    outside = [max(-share, share - 1) for share in shares]
    if any(over > ROUNDING and over * limit > ROUNDING_PX for over, limit in zip(outside, limits, strict=True)):
        what = f"reaches outside its picture ({min(shares):g} to {max(shares):g}; the picture is 0 to 1)"
        raise LabelError(place, what, "Give shares of the picture's width and height, from 0 to 1.")
    sheet.clipped += max(outside) > ROUNDING
    return tuple(min(max(share * limit, 0.0), float(limit)) for share, limit in zip(shares, limits, strict=True))


def notes(sheet: Sheet) -> list[str]:
    told = list[str]()
    if len(sheet.parts) > 1:
        parts = ", ".join(f"{part} ({count:,})" for part, count in sheet.parts.items())
        told.append(f"The parts {parts} are one data set now; `sightline dataset split` makes new ones.")
    if sheet.twice:
        told.append(f"{sheet.twice:,} pictures are in two parts or listed twice; each was taken once.")
    if sheet.clipped:
        told.append(f"{sheet.clipped:,} objects reached up to 1 px outside their picture; they were cut off at its edge.")
    if sheet.outlines and sheet.outlines == sheet.quadrilaterals:
        told.append("Every outline has four corners: if these are oriented boxes, upright boxes around them were made.")
    return told + turned_note(sheet.turned)


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """data.yaml and labels/; the pictures belong into images/. Classes, boxes or outlines, and empty pictures are kept.

    Raises:
        LabelError: two pictures would share a label file, or a name leads out of the folder.
    """
    files = label_names(dataset, ".txt")
    instances = [instance for image in dataset.images for instance in image.instances if not instance.crowd]
    outlines = bool(instances) and all(isinstance(one.segmentation, tuple) for one in instances)
    if options.yolo_task is not None:
        outlines = options.yolo_task == "segment"
    losses = Counter[str]()
    for image, name in zip(dataset.images, files, strict=True):
        lines = [text for one in image.instances if (text := line_of(one, image.size, outlines, losses))]
        storage.write_text(to / LABELS / name, "".join(f"{line}\n" for line in lines), flush=False)
    content = {"path": ".", "train": IMAGES, "val": IMAGES, "names": dict(enumerate(dataset.class_names))}
    # YAML's own line breaks would come back as blanks; then all that is not ASCII is written as escapes
    readable = not any(mark in name for mark in YAML_BREAKS for name in dataset.class_names)
    storage.write_text(to / CONFIG, yaml.safe_dump(content, allow_unicode=readable, sort_keys=False, width=10_000))
    return lost(losses)


def line_of(instance: Instance, size: ImageSize, outlines: bool, losses: Counter[str]) -> str:
    """The object's line; none for a crowd region."""
    if instance.crowd:
        losses["crowd regions were left out"] += 1
        return ""
    x1, y1, x2, y2 = instance.box
    if outlines:
        parts: Polygons = ((x1, y1, x2, y1, x2, y2, x1, y2),)
        if isinstance(instance.segmentation, tuple):
            parts = instance.segmentation
            losses["objects in several parts have one outline, with lines between the parts"] += len(parts) > 1
            losses["boxes became the bounds of their outlines"] += not is_bounds(instance.box, parts)
        else:
            losses["objects without an outline have that of their box"] += 1
        values = joined(parts)
        shares = [value / (size.height if index % 2 else size.width) for index, value in enumerate(values)]
    else:
        losses["outlines or masks became boxes"] += instance.segmentation is not None
        shares = [(x1 + x2) / 2 / size.width, (y1 + y2) / 2 / size.height, (x2 - x1) / size.width, (y2 - y1) / size.height]
    return " ".join([str(instance.label), *(f"{share:.12g}" for share in shares)])
