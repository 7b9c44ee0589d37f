"""Dataset -> CVAT's XML 1.1 "for images", as an upload to a task takes it: boxes, polygons, and masks in run lengths.

An object in several parts is a group of polygons, as CVAT's own import of COCO makes it; a crowd region has the attribute
`is_crowd`, from which CVAT makes COCO's crowds. Both are read back.
"""

from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from sightline import storage
from sightline.geometry import masks
from sightline.labels.markup import require_xml_names
from sightline.labels.outlines import is_bounds
from sightline.labels.report import WriteOptions
from sightline.labels.writing import bitmap_of, lost
from sightline.records import Box, Dataset, ImageRecord, Instance

FILE = "annotations.xml"


def write(dataset: Dataset, to: Path, *, options: WriteOptions) -> list[str]:
    """annotations.xml; sizes, all classes, boxes, outlines, masks and crowds are kept.

    Raises:
        LabelError: XML cannot hold a name; or run lengths are no mask.
    """
    require_xml_names(dataset)
    losses = Counter[str]()
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    declared = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in dataset.class_names:
        label = SubElement(declared, "label")
        SubElement(label, "name").text = name
        SubElement(SubElement(SubElement(label, "attributes"), "attribute"), "name").text = "is_crowd"
    for number, image in enumerate(dataset.images):
        losses["pictures lose their group"] += bool(image.group)
        root.append(element(number, image, dataset, losses))
    indent(root)
    with storage.atomic_write(to / FILE) as file:
        ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    return lost(losses)


def element(number: int, image: ImageRecord, dataset: Dataset, losses: Counter[str]) -> Element:
    """One picture; CVAT counts them from 0."""
    root = Element("image", id=str(number), name=image.file_name, width=str(image.size.width), height=str(image.size.height))
    for group, instance in enumerate(image.instances, 1):
        for shape in shapes_of(instance, image, group, losses):
            shape.set("label", dataset.class_names[instance.label])
            shape.set("source", "manual")
            shape.set("occluded", "0")
            shape.set("z_order", "0")
            if instance.crowd:
                SubElement(shape, "attribute", name="is_crowd").text = "true"
            root.append(shape)
    return root


def shapes_of(instance: Instance, image: ImageRecord, group: int, losses: Counter[str]) -> list[Element]:
    """The shapes of one object, of which several share a group."""
    outline = instance.segmentation
    if isinstance(outline, tuple) and outline:
        losses["boxes become the bounds of their outlines"] += not is_bounds(instance.box, outline)
        own = {"group_id": str(group)} if len(outline) > 1 else {}
        return [Element("polygon", {"points": points_of(part), **own}) for part in outline]
    if outline:
        bitmap = bitmap_of(outline, image.size, image.file_name)
        if bitmap.any():
            losses["boxes become the bounds of their masks"] += instance.box != masks.bounds(bitmap)
            return [mask_shape(bitmap)]
        losses["masks without a pixel become boxes"] += 1
    return [box_shape(instance.box)]


def points_of(part: tuple[float, ...]) -> str:
    return ";".join(f"{x!r},{y!r}" for x, y in zip(part[0::2], part[1::2], strict=True))


def box_shape(box: Box) -> Element:
    return Element("box", {key: repr(value) for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)})


def mask_shape(bitmap: masks.Bitmap) -> Element:
    """Run lengths of the pixels within the bounds, row by row, beginning with the background."""
    x1, y1, x2, y2 = map(int, masks.bounds(bitmap))
    pixels = bitmap[y1:y2, x1:x2].ravel()
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff(np.concatenate(([0], edges, [len(pixels)]))).tolist()
    rle = ", ".join(map(str, [0, *runs] if pixels[0] else runs))
    return Element("mask", rle=rle, left=str(x1), top=str(y1), width=str(x2 - x1), height=str(y2 - y1))
