"""What every writer checks: names that stay in the folder, one label file for each picture, and what is lost."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from sightline.errors import LabelError, Problem
from sightline.geometry import masks
from sightline.names import fold
from sightline.records import Dataset, ImageSize, Polygons, Rle


def require_safe_names(dataset: Dataset) -> None:
    """Nothing, if every file name stays in the folder that is written.

    Raises:
        LabelError: all that do not.
    """
    fix = "Import the data set again: its pictures get names below its folder."
    problems = [
        Problem(image.file_name, "leads out of the folder that is written", fix)
        for image in dataset.images
        if not is_safe(image.file_name)
    ]
    if problems:
        raise LabelError.collected(problems)


def is_safe(name: str) -> bool:
    """Whether a name is relative, does not climb, and has no part that is empty or a drive."""
    parts = name.replace("\\", "/").split("/")
    return "\0" not in name and not any(part in ("", ".", "..") for part in parts) and not parts[0].endswith(":")


def label_names(dataset: Dataset, suffix: str) -> list[str]:
    """A label file for each picture: its name with another suffix.

    Raises:
        LabelError: a name leads out of the folder; or two pictures would share a label file.
    """
    require_safe_names(dataset)
    names = [str(PurePosixPath(image.file_name).with_suffix(suffix)) for image in dataset.images]
    shared = {name for name, count in Counter(map(fold, names)).items() if count > 1}
    problems = [
        Problem(image.file_name, f"shares the label file {name} with another picture", "Rename one of the pictures.")
        for image, name in zip(dataset.images, names, strict=True)
        if fold(name) in shared
    ]
    if problems:
        raise LabelError.collected(problems)
    return names


def lost(counts: Counter[str]) -> list[str]:
    """{"masks given as run lengths": 3} -> one line for each kind, in the order in which they were met."""
    return [f"{count:,} {what}" for what, count in counts.items() if count]


def unused_classes(dataset: Dataset) -> list[str]:
    """The line about classes that a format without a list of classes forgets."""
    used = {instance.label for image in dataset.images for instance in image.instances}
    names: Sequence[str] = [name for label, name in enumerate(dataset.class_names) if label not in used]
    return [f"classes without objects are forgotten: {', '.join(names)}"] if names else []


def bitmap_of(mask: Polygons | Rle, size: ImageSize, where: str) -> masks.Bitmap:
    """(H, W): the pixels of an object in a picture of `size`.

    Raises:
        LabelError: run lengths that are no mask.
    """
    if isinstance(mask, tuple):
        return masks.rasterise(tuple(np.array(part) for part in mask), size)
    try:
        return masks.decode(mask)
    except ValueError as error:
        raise LabelError(where, f"has run lengths that are no mask ({error})", "Correct or remove the object.") from error
