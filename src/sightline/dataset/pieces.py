"""Labelled pictures as they are read to be learned from: pixels, boxes, labels and masks in one frame. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DatasetError, Problem, SightlineError
from sightline.geometry.boxes import Boxes
from sightline.geometry.masks import Mask, from_label
from sightline.images import read_image
from sightline.records import Image, ImageRecord, ImageSize, Instance, Rle


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A picture and what is labelled in it, without crowds.

    image:  (H, W, 3) uint8 RGB
    boxes:  (N, 4) float64 in pixels of `image`; they may reach out of it by what labelling tools round
    labels: (N,) int64
    masks:  one a box, or none at all where they are not wanted. Made one by one as they are taken, so bitmaps of a large
            picture are never all in memory; they can be taken once
    """

    file_name: str
    image: Image
    boxes: Boxes
    labels: NDArray[np.int64]
    masks: Iterator[Mask]

    @property
    def size(self) -> ImageSize:
        return ImageSize(*self.image.shape[:2])


def read_piece(record: ImageRecord, folder: Path, *, with_masks: bool) -> Piece:
    """The picture of `record`, whose file lies in `folder`. Taking a mask raises the error of its run lengths.

    Raises:
        ImageError: it cannot be read.
        DatasetError: it has another size than its label says.
    """
    path = folder / record.file_name
    image = read_image(path)
    if image.shape[:2] != tuple(record.size):
        raise DatasetError(
            path, f"is {ImageSize(*image.shape[:2])}, its label says {record.size}", "Import the data set again."
        )
    instances = [instance for instance in record.instances if not instance.crowd]
    return Piece(
        file_name=record.file_name,
        image=image,
        boxes=np.array([instance.box for instance in instances], dtype=np.float64).reshape(-1, 4),
        labels=np.array([instance.label for instance in instances], dtype=np.int64),
        masks=(shape_of(instance, path) for instance in (instances if with_masks else ())),
    )


def read_next(
    records: Sequence[ImageRecord], index: int, folder: Path, *, with_masks: bool
) -> tuple[Piece, tuple[Problem, ...]]:
    """The picture at `index`, or the first after it that can be read (after the last comes the first), and what was wrong
    with those before it. Run lengths are decoded once more than they are used: what is broken must be known beforehand.

    Raises:
        DatasetError: what is wrong with every single picture.
    """
    problems: list[Problem] = []
    for step in range(len(records)):
        record = records[(index + step) % len(records)]
        try:
            piece = read_piece(record, folder, with_masks=with_masks)
            for instance in record.instances:
                if with_masks and not instance.crowd and isinstance(instance.segmentation, Rle):
                    shape_of(instance, folder / record.file_name)
            return piece, tuple(problems)
        except SightlineError as error:
            problems.extend(error.problems)
    raise DatasetError.collected(problems)


def shape_of(instance: Instance, path: Path) -> Mask:
    """A labelled object's mask, in the frame of its label.

    Raises:
        DatasetError: its run lengths are broken.
    """
    try:
        return from_label(instance.segmentation)
    except ValueError as error:
        raise DatasetError(path, f"has a mask whose run lengths are broken ({error})", "Correct it in the labels.") from error
