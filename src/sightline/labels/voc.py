"""Pascal VOC: one XML file a picture, with boxes by their corners <-> Dataset.

VOC counts pixels from 1 and includes the last: the box of the whole first pixel is 1 1 1 1. Other tools (LabelImg, CVAT) write
edges counted from 0 into the same file; nothing in it tells which, so `voc_origin` does. `difficult` becomes a crowd region:
VOC's own evaluation neither counts such an object as a miss nor a detection of it as wrong.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from sightline import storage
from sightline.errors import LabelError, Problem
from sightline.geometry.boxes import fault
from sightline.images import SUFFIXES
from sightline.labels.markup import number, read_xml, require_xml_names, text_at
from sightline.labels.pictures import Shelf, inside, size_of
from sightline.labels.report import Imported, ReadOptions, WriteOptions, imported
from sightline.labels.writing import label_names, lost, unused_classes
from sightline.names import file_names
from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance

NAME = "voc"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
PICTURES = "JPEGImages"
ANNOTATIONS = "Annotations"


@dataclass(slots=True)
class Sheet:
    """What was read so far.

    pictures: name of the picture -> (its size, {class name: ...} objects in order)
    files:    name of the picture -> where it lies
    lost:     what the files tell and a dataset cannot hold
    """

    origin: int
    pictures: dict[str, tuple[ImageSize, list[tuple[str, Instance]]]] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    at_zero: int = 0
    problems: list[Problem] = field(default_factory=list)


def recognise(path: Path, head: bytes) -> bool:
    """Whether it is an XML file with one <annotation>, or a folder of such files."""
    if path.is_dir():
        first = next(iter(xml_files(path)), None)
        if first is None:
            return False
        with first.open("rb") as file:
            head = file.read(4096)
    return b"<annotation>" in head or b"<annotation " in head


def xml_files(path: Path) -> list[Path]:
    """The label files that `path` means: itself, or all below its Annotations/, or all in it."""
    if not path.is_dir():
        return [path]
    below = path / ANNOTATIONS
    return sorted(below.rglob("*.xml")) if below.is_dir() else sorted(path.glob("*.xml"))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files together, in the order of their names; classes are ordered by name.

    Raises:
        LabelError: a folder holds no XML files, or `voc_origin` is neither 0 nor 1.
    """
    require_origin(options.voc_origin)
    sheet = Sheet(options.voc_origin)
    for path in paths:
        files = xml_files(path)
        if not files:
            raise LabelError(path, "holds no XML files", f"Give the folder that has {ANNOTATIONS}/, or an XML file.")
        root = path if path.is_dir() else path.parent
        shelf = Shelf(picture_folders(root, options.images))
        for file in files:
            try:
                read_file(file, shelf, sheet)
            except LabelError as error:
                sheet.problems.extend(error.problems)
    names = sorted({name for _, objects in sheet.pictures.values() for name, _ in objects})
    labels = {name: label for label, name in enumerate(names)}
    images, pictures = [], {}
    safe = file_names(list(sheet.pictures), keep_folders=True)
    for identity, (own, (name, (size, objects))) in enumerate(zip(safe, sheet.pictures.items(), strict=True), 1):
        instances = tuple(Instance(one.box, labels[kind], one.crowd) for kind, one in objects)
        images.append(ImageRecord(identity, own, size, instances, source="" if own == name else name))
        if name in sheet.files:
            pictures[own] = sheet.files[name]
    dataset = Dataset(tuple(Category(label, name) for label, name in enumerate(names, 1)), tuple(images))
    return imported(NAME, paths, dataset, problems=sheet.problems, notes=notes(sheet), pictures=pictures)


def require_origin(origin: int) -> None:
    if origin not in (0, 1):
        raise LabelError("--voc-origin", f"is {origin}", "Give 1 (VOC's own) or 0.")


def picture_folders(root: Path, given: Path | None) -> list[Path]:
    """Where the pictures of label files in `root` may lie, the likeliest first."""
    homes = [root, root.parent] if root.name == ANNOTATIONS or not (root / ANNOTATIONS).is_dir() else [root]
    beside = [home / name for home in homes for name in (PICTURES, "images")] + [root]
    return ([given] if given else []) + beside


def read_file(path: Path, shelf: Shelf, sheet: Sheet) -> None:
    """One picture and its objects, into `sheet`.

    Raises:
        LabelError: all that spoils the picture.
    """
    root = read_xml(path)
    if root.tag != "annotation":
        raise LabelError(path, f"holds <{root.tag}>, not <annotation>", "Give a Pascal VOC file.")
    name, picture = find_picture(path, text_at(root, "filename"), shelf)
    if name in sheet.places:
        fix = "Keep one of the two files; between two sources --on-duplicate chooses."
        raise LabelError(path, f"labels {name} again, after {sheet.places[name]}", fix)
    sheet.places[name] = path
    size = read_size(root, path, picture)
    objects, problems = [], list[Problem]()
    for index, entry in enumerate(root.findall("object"), 1):
        try:
            objects += read_object(entry, size, f"{path}, object {index}", sheet)
        except LabelError as error:
            problems.extend(error.problems)
    if problems:
        raise LabelError.collected(problems)
    sheet.pictures[name] = (size, objects)
    if picture is not None:
        sheet.files[name] = picture


def find_picture(path: Path, written: str, shelf: Shelf) -> tuple[str, Path | None]:
    """(the picture's name, its file if it is there).

    What is written may be a path of another machine, lack its suffix or have a wrong one: then the XML file's own name counts.
    """
    name = written.replace("\\", "/")
    if name.startswith("/") or name[1:3] == ":/":
        name = name.rpartition("/")[2]
    name = inside(name, path) if name else path.stem
    stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix.lower() in SUFFIXES else name
    above = path.parent.name
    found = shelf.find(name) or shelf.find(f"{above}/{name}") or shelf.find_stem(stem) or shelf.find_stem(path.stem)
    if found is not None:
        if found.name != PurePosixPath(name).name:
            name = str(PurePosixPath(name).with_name(found.name))
        return name, found
    return name if stem != name else f"{name}.jpg", None


def read_size(root: Element, path: Path, picture: Path | None) -> ImageSize:
    """As the file says; where it says nothing or 0 x 0, as some tools write, that of the picture itself."""
    height, width = (number(text_at(root, f"size/{key}")) for key in ("height", "width"))
    if height and width and height >= 1 and width >= 1 and height % 1 == width % 1 == 0:
        return ImageSize(int(height), int(width))
    if picture is not None and not height and not width:
        return size_of(picture, path).shown
    shown = f"{text_at(root, 'size/width')!r} x {text_at(root, 'size/height')!r}"
    raise LabelError(path, f"has the size {shown}", "Give <size> with <width> and <height> in pixels.")


def read_object(entry: Element, size: ImageSize, place: str, sheet: Sheet) -> list[tuple[str, Instance]]:
    """The class and the object; none when its box is empty (which is then among the problems)."""
    name = text_at(entry, "name")
    if not name:
        raise LabelError(place, "has no <name>", "Give its class.")
    written = [text_at(entry, f"bndbox/{key}") for key in CORNERS]
    corners = [number(text) for text in written]
    if any(corner is None for corner in corners):
        wrong = ", ".join(
            f"{key} {text!r}" for key, text, found in zip(CORNERS, written, corners, strict=True) if found is None
        )
        raise LabelError(place, f"has {wrong}", "Give xmin, ymin, xmax and ymax as finite numbers of pixels.")
    x1, y1, x2, y2 = (corner or 0.0 for corner in corners)
    told = " ".join(f"{key} {text}" for key, text in zip(CORNERS, written, strict=True))
    if x2 < x1 or y2 < y1:
        raise LabelError(place, f"has swapped corners ({told})", "Exchange the minimum and the maximum.")
    # By VOC's rule xmin = xmax is one pixel wide. In real files a box of one pixel is a slip of the mouse: no object.
    if (x1 == x2 and y1 == y2) or (sheet.origin == 0 and (x1 == x2 or y1 == y2)):
        sheet.problems.append(Problem(place, f"has a box of zero size ({told})", "Remove the object."))
        return []
    sheet.at_zero += min(x1, y1) < 1
    box = (x1 - sheet.origin, y1 - sheet.origin, x2, y2)
    wrong = fault(box, size) or ""
    if wrong:
        raise LabelError(place, wrong, "Correct xmin, ymin, xmax and ymax, in pixels of this picture.")
    sheet.lost["truncated"] += text_at(entry, "truncated") in ("1", "true")
    sheet.lost["occluded"] += text_at(entry, "occluded") in ("1", "true")
    sheet.lost["pose"] += text_at(entry, "pose").lower() not in ("", "unspecified")
    sheet.lost["part"] += len(entry.findall("part"))
    return [(name, Instance(box, 0, crowd=text_at(entry, "difficult") in ("1", "true")))]


def notes(sheet: Sheet) -> list[str]:
    told = ", ".join(f"{what} ({count:,} objects)" for what, count in sheet.lost.items() if count)
    difficult = sum(one.crowd for _, objects in sheet.pictures.values() for _, one in objects)
    return [
        *([f"Not kept: {told}."] if told else []),
        *([f"{difficult:,} difficult objects are crowd regions: not trained on, not counted as misses."] if difficult else []),
        *(
            [f"{sheet.at_zero:,} boxes begin before pixel 1: if the tool counted from 0, import with --voc-origin 0."]
            if sheet.origin and sheet.at_zero
            else []
        ),
    ]


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """`Annotations/NAME.xml` for every picture; boxes, classes, crowd regions (as difficult) and sizes are kept.

    Raises:
        LabelError: two pictures would share a file; a name leads out of the folder, or XML cannot hold it; or `voc_origin` is
            neither 0 nor 1.
    """
    require_origin(options.voc_origin)
    files = label_names(dataset, ".xml")
    require_xml_names(dataset)
    losses = Counter[str]()
    for image, name in zip(dataset.images, files, strict=True):
        for instance in image.instances:
            width, height = instance.box[2] - instance.box[0], instance.box[3] - instance.box[1]
            losses["outlines or masks became boxes"] += instance.segmentation is not None
            if options.voc_origin:
                losses["boxes narrower than a pixel were widened to one"] += min(width, height) < 1
                losses["boxes of a single pixel are taken for empty when read again"] += max(width, height) <= 1
        with storage.atomic_write(to / ANNOTATIONS / name, flush=False) as file:
            ElementTree(element(image, dataset, options.voc_origin)).write(file, encoding="utf-8", xml_declaration=True)
    return [*lost(losses), *unused_classes(dataset)]


def element(image: ImageRecord, dataset: Dataset, origin: int) -> Element:
    root = Element("annotation")
    SubElement(root, "folder").text = PICTURES
    SubElement(root, "filename").text = image.file_name
    size = SubElement(root, "size")
    for key, pixels in (("width", image.size.width), ("height", image.size.height), ("depth", 3)):
        SubElement(size, key).text = str(pixels)
    SubElement(root, "segmented").text = "0"
    for instance in image.instances:
        entry = SubElement(root, "object")
        SubElement(entry, "name").text = dataset.categories[instance.label].name
        SubElement(entry, "pose").text = "Unspecified"
        SubElement(entry, "truncated").text = "0"
        SubElement(entry, "difficult").text = str(int(instance.crowd))
        box = SubElement(entry, "bndbox")
        for key, value in zip(CORNERS, corners_of(instance.box, origin), strict=True):
            SubElement(box, key).text = f"{value:.12g}"
    indent(root)
    return root


def corners_of(box: Box, origin: int) -> Box:
    """As VOC writes them; nothing is narrower than a pixel where the last pixel is included."""
    x1, y1, x2, y2 = box
    return x1 + origin, y1 + origin, max(x2, x1 + origin), max(y2, y1 + origin)
