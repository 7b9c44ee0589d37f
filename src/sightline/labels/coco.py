"""COCO instances files as labels: several files joined into one Dataset, classes by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sightline import coco
from sightline.errors import Problem
from sightline.labels.report import Imported, ReadOptions, imported
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord

NAME = "coco"


def recognise(path: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` may be COCO instances. Other formats use the same words: it is asked last."""
    return head.lstrip()[:1] == b"{" and any(f'"{key}"'.encode() in head for key in ("info", "licenses", *coco.LISTS))


def read(paths: Sequence[Path], *, options: ReadOptions) -> Imported:
    """The pictures of all files together; problems are in the report.

    One file keeps its image and category ids. Several keep them where they do not contradict each other, else pictures or
    classes are numbered from 1.

    Raises:
        LabelError: a file is not COCO.
    """
    datasets, problems = [], list[Problem]()
    for path in paths:
        dataset, wrong = coco.examine(path)
        datasets.append(dataset)
        problems.extend(wrong)
    joined = join(datasets, paths, problems)
    return imported(NAME, paths, joined, problems=problems)


def join(datasets: Sequence[Dataset], paths: Sequence[Path], problems: list[Problem]) -> Dataset:
    """All pictures under one list of classes. A file name that came before is a problem, and its second picture left out."""
    categories = join_categories(datasets)
    labels = {category.name: label for label, category in enumerate(categories)}
    images: list[ImageRecord] = []
    places: dict[str, Path] = {}
    for dataset, path in zip(datasets, paths, strict=True):
        own = [labels[name] for name in dataset.class_names]
        for image in dataset.images:
            if image.file_name in places:
                what = f"labels {image.file_name} again, after {places[image.file_name]}"
                problems.append(Problem(str(path), what, "Keep one of the two."))
                continue
            places[image.file_name] = path
            instances = tuple(replace(instance, label=own[instance.label]) for instance in image.instances)
            images.append(replace(image, instances=instances))
    return Dataset(categories, tuple(renumber(named_safely(images))))


def join_categories(datasets: Sequence[Dataset]) -> tuple[Category, ...]:
    """The union by name: in the order of their ids if all files agree on these, else by name and numbered from 1."""
    found = sorted({category for dataset in datasets for category in dataset.categories}, key=lambda one: (one.id, one.name))
    names = sorted({category.name for category in found})
    if len(found) == len(names) == len({category.id for category in found}):
        return tuple(found)
    return tuple(Category(number, name) for number, name in enumerate(names, 1))


def named_safely(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same pictures under names that a folder can hold; a name like ../a.jpg or s3://b/a.jpg stays as the source.

    Names that are fine stay as they are, with their folders.
    """
    names = file_names([image.file_name for image in images], keep_folders=True)
    return [
        image if name == image.file_name else replace(image, file_name=name, source=image.source or image.file_name)
        for image, name in zip(images, names, strict=True)
    ]


def renumber(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same pictures, with ids from 1 if two share one."""
    if len({image.id for image in images}) == len(images):
        return list(images)
    return [replace(image, id=number) for number, image in enumerate(images, 1)]
