"""Any detector over a labelled data set: what it finds in every picture, in the data set's own classes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from sightline.errors import DatasetError
from sightline.images import read_image
from sightline.records import Dataset, Detections, ImageRecord, Model


def detect_all(
    model: Model,
    dataset: Dataset,
    images_dir: Path,
    *,
    batch_size: int = 1,
) -> dict[int, Detections]:
    """{image id: what `model` finds in it}, labels being indices into the data set's categories; 0 where it only proposes.

    Raises:
        DatasetError: the model's classes are not the data set's.
        ImageError: a picture cannot be read.
    """
    order = np.zeros(len(model.class_names), np.int64)
    if not model.proposes:
        order = label_map(model.class_names, dataset, model.origin)
    found: dict[int, Detections] = {}
    for batch in batched(dataset.images, batch_size):
        pictures = [read_image(images_dir / image.file_name) for image in batch]
        for image, detections in zip(batch, model.predict(pictures), strict=True):
            found[image.id] = replace(detections, labels=order[detections.labels])
    return found


def batched(images: Sequence[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    """`images` in lists of `size`; the last may be shorter."""
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch


def label_map(class_names: Sequence[str], dataset: Dataset, origin: str) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(K,) the data set's label for each of the model's, matched by name.

    A model without names of its own ("class 0", ...) is taken to have the data set's classes in the data set's order; that is
    no certainty, and `order_notes` says so beside the numbers.
    """
    theirs = list(dataset.class_names)
    if order_is_assumed(class_names, dataset):
        return np.arange(len(theirs), dtype=np.int64)
    strange = [name for name in class_names if name not in theirs]
    if strange:
        raise DatasetError(
            origin,
            f"detects {', '.join(map(repr, strange))}, the data set has {', '.join(map(repr, theirs))}",
            "Evaluate on a data set with the model's classes.",
        )
    return np.array([theirs.index(name) for name in class_names], dtype=np.int64)


def order_is_assumed(class_names: Sequence[str], dataset: Dataset) -> bool:
    """Whether nothing but their number says which of a model's classes is which of the data set's."""
    unnamed = all(name == f"class {label}" for label, name in enumerate(class_names))
    return unnamed and len(class_names) == len(dataset.class_names) and set(class_names) != set(dataset.class_names)


def notes_of(model: Model, dataset: Dataset) -> tuple[str, ...]:
    """What to say beside a model's numbers: in which slices it predicted, and what `label_map` assumed."""
    slices = (f"predicted {model.facts['slices']}",) if "slices" in model.facts else ()
    return slices + order_notes(model, dataset)


def order_notes(model: Model, dataset: Dataset) -> tuple[str, ...]:
    """What `label_map` assumed of a model, for people."""
    if model.proposes or not order_is_assumed(model.class_names, dataset):
        return ()
    order = ", ".join(map(repr, dataset.class_names[:3])) + (", ..." if len(dataset.class_names) > 3 else "")
    return (f"the model has no class names: its classes are taken for the data set's, in that order ({order})",)
