"""Builders with defaults: every test says only what it is about."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from sightline.records import Box, Category, Dataset, ImageRecord, ImageSize, Instance

SIZE = ImageSize(80, 100)
BOX_JOB = "groundtruth/object-detection"


def an_instance(label: int = 0, box: Box = (10.0, 20.0, 40.0, 60.0), **facts: object) -> Instance:
    return Instance(box=box, label=label, **facts)  # type: ignore[arg-type]


def a_record(number: int = 1, labels: Sequence[int] = (0,), **facts: object) -> ImageRecord:
    """A picture of 100 x 80 px with one box for each of `labels`."""
    defaults = {"id": number, "file_name": f"{number:03d}.jpg", "size": SIZE}
    instances = tuple(an_instance(label) for label in labels)
    return ImageRecord(**(defaults | {"instances": instances} | facts))  # type: ignore[arg-type]


def a_dataset(images: Sequence[ImageRecord] | None = None, names: Sequence[str] = ("cat", "dog")) -> Dataset:
    categories = tuple(Category(number, name) for number, name in enumerate(names, 1))
    return Dataset(categories, tuple([a_record()] if images is None else images))


def a_picture(path: Path, size: ImageSize = SIZE, *, orientation: int = 1, format: str = "JPEG") -> Path:
    """A picture file of `size` as stored; its top left quarter is white."""
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    pixels[: size.height // 2, : size.width // 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.fromarray(pixels)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(path, format=format, exif=exif)
    return path


def a_box(class_id: object = 0, left: float = 10, top: float = 20, width: float = 30, height: float = 40) -> dict[str, object]:
    """One box as a Ground Truth manifest holds it."""
    return {"class_id": class_id, "left": left, "top": top, "width": width, "height": height}


def a_line(
    source: str = "s3://bucket/images/1.jpg",
    boxes: Sequence[dict[str, object]] | None = None,
    class_map: dict[str, str] | None = None,
    *,
    attribute: str = "job",
    size: tuple[float, float] = (80, 100),
    kind: str = BOX_JOB,
) -> dict[str, object]:
    """One line of a bounding-box job's output: a cat in a picture of 100 x 80 px."""
    boxes = [a_box()] if boxes is None else boxes
    class_map = ({"0": "cat"} if boxes else {}) if class_map is None else class_map
    return {
        "source-ref": source,
        attribute: {"image_size": [{"width": size[1], "height": size[0], "depth": 3}], "annotations": list(boxes)},
        f"{attribute}-metadata": {
            "objects": [{"confidence": 0.09} for _ in boxes],
            "class-map": class_map,
            "type": kind,
            "human-annotated": "yes",
            "creation-date": "2024-05-16T00:15:58.914553",
            "job-name": "labeling-job/job",
        },
    }


def a_manifest(path: Path, lines: Sequence[dict[str, object] | str]) -> Path:
    """A manifest file; lines given as text are written as they are."""
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def a_coco(**changes: object) -> dict[str, object]:
    """COCO instances: a cat in one picture of 100 x 80 px, nothing in another."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "b.jpg", "width": 100, "height": 80},
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
    } | changes
