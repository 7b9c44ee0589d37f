"""Labelled pictures as training batches, read in worker processes ahead of the model.

Boxes leave here as float32 (N, 4) in pixels of the augmented picture, labels as int64 (N,), masks as outlines or bitmaps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from sightline.dataset.sampling import Draw, batches
from sightline.dataset.transforms import Augmentation, augment
from sightline.errors import DatasetError, Problem, SightlineError
from sightline.geometry.boxes import clip
from sightline.geometry.masks import Mask, bounds, from_label, is_empty, rasterise
from sightline.images import read_image
from sightline.records import ImageRecord, ImageSize, Instance, Rle
from sightline.tensors import to_tensor

SMALLEST_SIDE = 1e-5
"""Boxes narrower than this after augmentation (clipped away at the edge) teach nothing; Detectron2's threshold, in pixels."""

NAMED_PICTURES = 5
"""Of those that lack masks: enough to find what went wrong."""


@dataclass(frozen=True, slots=True)
class Example:
    """One augmented picture. image: (3, H, W) uint8; boxes: (N, 4) float32; labels: (N,) int64.

    masks: one a box, outlines or an (H, W) bitmap in pixels of `image`; None: they are not wanted
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    file_name: str
    masks: tuple[Mask, ...] | None = None


def training_images(images: Sequence[ImageRecord], keep_empty: bool) -> list[ImageRecord]:
    """Those to learn from. Crowds are no examples; pictures left without any box go, too, unless `keep_empty`.

    Raises:
        DatasetError: nothing is left.
    """
    kept = [image for image in images if keep_empty or any(not instance.crowd for instance in image.instances)]
    if not any(not instance.crowd for image in kept for instance in image.instances):
        raise DatasetError("training data", f"{len(images)} pictures hold no box to learn from", "Add labelled pictures.")
    return kept


def require_masks(images: Sequence[ImageRecord]) -> None:
    """Nothing, if every box to learn from has a mask of its picture's size.

    Raises:
        DatasetError: how many boxes have none, and every bitmap of another size than its picture.
    """
    problems = []
    lacking = {
        image.file_name: count
        for image in images
        if (count := sum(not instance.crowd and instance.segmentation is None for instance in image.instances))
    }
    if lacking:
        boxes = sum(not instance.crowd for image in images for instance in image.instances)
        named = ", ".join(list(lacking)[:NAMED_PICTURES]) + (", ..." if len(lacking) > NAMED_PICTURES else "")
        what = f"{sum(lacking.values())} of {boxes} boxes have no mask, in {len(lacking)} of {len(images)} pictures ({named})"
        problems.append(Problem("training data", what, "Label masks, or set MODEL.MASK_ON False."))
    for image in images:
        for instance in image.instances:
            mask = instance.segmentation
            if isinstance(mask, Rle) and not instance.crowd and mask.size != image.size:
                what = f"has a mask of {mask.size}, the picture is {image.size}"
                problems.append(Problem(image.file_name, what, "Import the data set again."))
    if problems:
        raise DatasetError.collected(problems)


class TrainingSet(TorchDataset[Example | SightlineError]):
    """`Draw` -> `Example`. A picture's augmentation depends on (seed, position in the stream) alone.

    A picture that cannot be read becomes its error: torch would turn an exception in a worker into a RuntimeError.

    with_masks:  whether examples hold masks; every box must then have one
    mask_format: "polygon": outlines stay outlines (run lengths become bitmaps, which Detectron2 refuses here);
                 "bitmask": all become bitmaps, outlines after they were moved to their place in the augmented picture

    Raises:
        DatasetError: masks are wanted and missing.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord],
        folder: Path,
        how: Augmentation,
        *,
        color_order: str,
        seed: int,
        with_masks: bool = False,
        mask_format: str = "polygon",
    ) -> None:
        self.images, self.folder, self.how, self.color_order, self.seed = images, folder, how, color_order, seed
        self.with_masks, self.mask_format = with_masks, mask_format
        if with_masks:
            require_masks(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Example | SightlineError:
        try:
            return self.example(draw)
        except SightlineError as error:
            return error

    def example(self, draw: Draw) -> Example:
        """The picture of one draw.

        Raises:
            ImageError: it cannot be read.
            DatasetError: it has another size than its label says, or a mask whose run lengths are broken.
        """
        record = self.images[draw.index]
        path = self.folder / record.file_name
        image = read_image(path)
        if image.shape[:2] != tuple(record.size):
            raise DatasetError(
                path, f"is {ImageSize(*image.shape[:2])}, its label says {record.size}", "Import the data set again."
            )
        instances = [instance for instance in record.instances if not instance.crowd]
        boxes = np.array([instance.box for instance in instances], dtype=np.float64).reshape(-1, 4)
        labels = np.array([instance.label for instance in instances], dtype=np.int64)
        rng = np.random.default_rng([self.seed, draw.position])
        shapes = (shape_of(instance, path) for instance in instances) if self.with_masks else ()
        image, boxes, masks = augment(image, boxes, self.how, rng, shapes)
        size = ImageSize(*image.shape[:2])
        if self.mask_format == "bitmask":
            masks = tuple(mask if isinstance(mask, np.ndarray) else rasterise(mask, size) for mask in masks)
        if self.with_masks and self.how.crop is not None:
            # What a crop leaves of an object may be far smaller than what it leaves of its box.
            boxes = clip(np.array([bounds(mask) for mask in masks], dtype=np.float64).reshape(-1, 4), size)
        kept = (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
        if self.with_masks:
            kept &= np.array([not is_empty(mask) for mask in masks], dtype=bool)
        return Example(
            image=to_tensor(image, self.color_order),
            boxes=torch.from_numpy(boxes[kept].astype(np.float32)),
            labels=torch.from_numpy(labels[kept]),
            file_name=record.file_name,
            masks=tuple(masks[row] for row in np.flatnonzero(kept)) if self.with_masks else None,
        )


def shape_of(instance: Instance, path: Path) -> Mask:
    """A labelled object's mask, in the frame of its label.

    Raises:
        DatasetError: its run lengths are broken.
    """
    try:
        return from_label(instance.segmentation)
    except ValueError as error:
        raise DatasetError(path, f"has a mask whose run lengths are broken ({error})", "Correct it in the labels.") from error


class Steps:
    """The batches of draws from step `start` on, as torch's DataLoader wants them."""

    def __init__(self, sizes: Sequence[ImageSize], batch_size: int, seed: int, *, by_shape: bool, start: int) -> None:
        self.sizes, self.batch_size, self.seed, self.by_shape, self.start = sizes, batch_size, seed, by_shape, start

    def __iter__(self) -> Iterator[list[Draw]]:
        return batches(self.sizes, self.batch_size, self.seed, by_shape=self.by_shape, start=self.start)


def use_one_thread(worker: int) -> None:
    """A worker decodes on one core; torch's own threads would fight with the model's."""
    torch.set_num_threads(1)


def load_batches(
    examples: TrainingSet, *, batch_size: int, by_shape: bool, start: int, workers: int
) -> Iterator[list[Example]]:
    """Endless training batches from step `start` on. workers: processes that read ahead; 0 reads in this one.

    Raises:
        DatasetError: everything that is wrong with a batch's pictures.
    """
    sizes = [image.size for image in examples.images]
    steps = Steps(sizes, batch_size, examples.seed, by_shape=by_shape, start=start)
    loader: DataLoader[Example | SightlineError] = DataLoader(
        examples,
        batch_sampler=steps,  # torch calls its keys indices; a `Draw` is one, too
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=use_one_thread,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its own: beginning to read must not advance the generator that a resume restores
    )
    for batch in loader:
        problems = [problem for item in batch if isinstance(item, SightlineError) for problem in item.problems]
        if problems:
            raise DatasetError.collected(problems)
        yield batch


def default_workers(cpus: int) -> int:
    """Processes that keep a model fed without taking its cores: none on two cores or fewer, at most 4."""
    return 0 if cpus <= 2 else min(cpus - 2, 4)
