"""Labelled pictures as training batches, read in worker processes ahead of the model.

Boxes leave here as float32 (N, 4) in pixels of the augmented picture, labels as int64 (N,), masks as outlines or bitmaps.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from sightline.dataset.learned import require_masks
from sightline.dataset.mosaic import PIECES, mosaic
from sightline.dataset.pieces import Piece, read_next, read_piece
from sightline.dataset.sampling import Draw, Factors, batches
from sightline.dataset.transforms import Augmentation, augment
from sightline.dataset.turns import draw_quarters, exchanges_sides
from sightline.errors import ConfigError, DatasetError, Problem, SightlineError
from sightline.geometry.boxes import clip
from sightline.geometry.masks import Mask, bounds, is_empty, rasterise
from sightline.records import ImageRecord, ImageSize
from sightline.tensors import to_tensor

LOG = logging.getLogger(__name__)

SMALLEST_SIDE = 1e-5
"""Boxes narrower than this after augmentation (clipped away at the edge) teach nothing; Detectron2's threshold, in pixels."""

ON_BAD = ("stop", "skip")
"""What becomes of a picture that cannot be read: it ends the training, or the next one comes in its place."""


@dataclass(frozen=True, slots=True)
class Example:
    """One augmented picture. image: (3, H, W) uint8; boxes: (N, 4) float32; labels: (N,) int64.

    file_name: of a mosaic all four, joined by " + "
    masks:     one a box, outlines or an (H, W) bitmap in pixels of `image`; None: they are not wanted
    skipped:   what was wrong with pictures that should have been in it
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    file_name: str
    masks: tuple[Mask, ...] | None = None
    skipped: tuple[Problem, ...] = ()


class TrainingSet:
    """`Draw` -> `Example`. A picture's augmentation depends on (seed, position in the stream) alone.

    with_masks:  whether examples hold masks; every box must then have one
    mask_format: "polygon": outlines stay outlines (run lengths become bitmaps, which Detectron2 refuses here);
                 "bitmask": all become bitmaps, outlines after they were moved to their place in the augmented picture
    factors:     how often each picture comes in an epoch; None: once

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
        factors: Factors | None = None,
    ) -> None:
        self.images, self.folder, self.how, self.color_order, self.seed = images, folder, how, color_order, seed
        self.with_masks, self.mask_format, self.factors = with_masks, mask_format, factors
        if with_masks:
            require_masks(images)

    def __len__(self) -> int:
        return len(self.images)

    def begin(self, draw: Draw) -> tuple[np.random.Generator, int]:
        """The generator that decides everything about a draw, and how many quarters its picture is turned."""
        rng = np.random.default_rng([self.seed, draw.position])
        return rng, draw_quarters(rng) if self.how.rotate else 0

    def lies(self, draw: Draw) -> bool:
        """Whether a draw's picture is turned on its side; known without reading it."""
        return self.how.rotate and exchanges_sides(self.begin(draw)[1])

    def example(self, draw: Draw, *, skip: bool = False) -> Example:
        """The picture of one draw. skip: the next one that can be read comes in the place of one that cannot.

        Raises:
            ImageError: it cannot be read.
            DatasetError: it has another size than its label says, or a mask whose run lengths are broken; or all have.
        """
        rng, quarters = self.begin(draw)
        skipped: list[Problem] = []
        is_mosaic = self.how.mosaic > 0 and rng.random() < self.how.mosaic
        if is_mosaic:
            others = rng.integers(len(self.images), size=PIECES - 1).tolist()
            pieces = (self.read(index, skip, skipped) for index in (draw.index, *others))
            piece = mosaic(pieces, self.images[draw.index].size, rng)
        else:
            piece = self.read(draw.index, skip, skipped)
        image, boxes, masks = augment(piece.image, piece.boxes, self.how, rng, piece.masks, quarters=quarters)
        size = ImageSize(*image.shape[:2])
        if self.mask_format == "bitmask":
            masks = tuple(mask if isinstance(mask, np.ndarray) else rasterise(mask, size) for mask in masks)
        if self.with_masks and (is_mosaic or self.how.crop is not None):
            # What a cut leaves of an object may be far smaller than what it leaves of its box.
            boxes = clip(np.array([bounds(mask) for mask in masks], dtype=np.float64).reshape(-1, 4), size)
        kept = (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
        if self.with_masks:
            kept &= np.array([not is_empty(mask) for mask in masks], dtype=bool)
        return Example(
            image=to_tensor(image, self.color_order),
            boxes=torch.from_numpy(boxes[kept].astype(np.float32)),
            labels=torch.from_numpy(piece.labels[kept]),
            file_name=piece.file_name,
            masks=tuple(masks[row] for row in np.flatnonzero(kept)) if self.with_masks else None,
            skipped=tuple(skipped),
        )

    def read(self, index: int, skip: bool, skipped: list[Problem]) -> Piece:
        """The picture at `index` or, if `skip`, the next that can be read; what was wrong then joins `skipped`."""
        if not skip:
            return read_piece(self.images[index], self.folder, with_masks=self.with_masks)
        piece, problems = read_next(self.images, index, self.folder, with_masks=self.with_masks)
        skipped.extend(problems)
        return piece


class Reading(TorchDataset[Example | SightlineError]):
    """Examples as torch's DataLoader reads them. An error is returned: torch would turn it into a RuntimeError in a worker."""

    def __init__(self, examples: TrainingSet, skip: bool) -> None:
        self.examples, self.skip = examples, skip

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, draw: Draw) -> Example | SightlineError:
        try:
            return self.examples.example(draw, skip=self.skip)
        except SightlineError as error:
            return error


class Steps:
    """One process's share of the draws of every batch from step `start` on, as torch's DataLoader wants them."""

    def __init__(self, examples: TrainingSet, batch_size: int, *, by_shape: bool, start: int, rank: int, ranks: int) -> None:
        self.examples, self.batch_size, self.by_shape, self.start = examples, batch_size, by_shape, start
        self.rank, self.ranks = rank, ranks

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in batches(
            [image.size for image in self.examples.images],
            self.batch_size,
            self.examples.seed,
            by_shape=self.by_shape,
            start=self.start,
            factors=self.examples.factors,
            lies=self.examples.lies,
        ):
            yield batch[self.rank :: self.ranks]


def begin_worker(worker: int) -> None:
    """A worker decodes on one core (torch's own threads would fight with the model's) and listens to its parent alone.

    A SIGTERM to the whole process group is for the training to hear, which still needs its pictures to finish a step; the one
    that Python sends to its children when it ends must end them, because it waits for them then.
    """
    torch.set_num_threads(1)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in threads that begin from here on, too
        threading.Thread(target=end_when_told_by, args=(os.getppid(),), daemon=True).start()


def end_when_told_by(parent: int) -> None:
    """Ends this process at the SIGTERM of one other, whatever it is doing."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def require_shares(batch_size: int, ranks: int) -> None:
    """Nothing, if `ranks` processes can have equal shares of a batch.

    Raises:
        ConfigError: they cannot, or some would have no picture at all.
    """
    where = "SOLVER.IMS_PER_BATCH"
    if ranks > batch_size:
        raise ConfigError(
            where,
            f"is {batch_size}, and {ranks} processes train: {ranks - batch_size} of them would have no picture",
            f"Give {ranks} or a multiple of it, or start at most {batch_size} processes.",
        )
    if batch_size % ranks:
        fewer = batch_size - batch_size % ranks
        raise ConfigError(
            where, f"is {batch_size}, which {ranks} processes cannot share equally", f"Give {fewer} or {fewer + ranks}."
        )


def load_batches(
    examples: TrainingSet,
    *,
    batch_size: int,
    by_shape: bool,
    start: int,
    workers: int,
    rank: int = 0,
    ranks: int = 1,
    on_bad: str = "stop",
) -> Iterator[list[Example]]:
    """Endless training batches from step `start` on.

    batch_size: pictures of all processes together
    workers:    processes that read ahead, for this one; 0 reads in this one
    rank, ranks: this process among those that train together; each has its part of the batches that one alone would see
    on_bad:     "stop": a picture that cannot be read is an error; "skip": the next one that can be comes in its place, which
                is told once a file

    Raises:
        ConfigError: the batch cannot be shared equally.
        DatasetError: everything that is wrong with a batch's pictures.
    """
    require_shares(batch_size, ranks)
    loader: DataLoader[Example | SightlineError] = DataLoader(
        Reading(examples, skip=on_bad == "skip"),
        # torch calls its keys indices; a `Draw` is one, too
        batch_sampler=Steps(examples, batch_size, by_shape=by_shape, start=start, rank=rank, ranks=ranks),
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),  # its own: beginning to read must not advance the generator that a resume restores
    )
    told: set[str] = set()
    for batch in loader:
        problems = [problem for item in batch if isinstance(item, SightlineError) for problem in item.problems]
        if problems:
            raise DatasetError.collected(list(dict.fromkeys(problems)))
        warn_of_skipped(batch, told)
        yield batch


def warn_of_skipped(batch: Sequence[Example], told: set[str]) -> None:
    """A line for every file that was skipped for the first time; `told` grows by it. Here, because workers have no log."""
    for example in batch:
        for problem in example.skipped:
            if problem.where not in told:
                told.add(problem.where)
                LOG.warning("warning: skipped, the next picture comes in its place: %s", problem)


def default_workers(cpus: int) -> int:
    """Processes that keep a model fed without taking its cores: none on two cores or fewer, at most 4.

    cpus: those of one training process
    """
    return 0 if cpus <= 2 else min(cpus - 2, 4)
