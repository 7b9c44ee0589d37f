"""The nouns that travel between the rooms: labelled images, datasets, detections. Frozen, validated once.

Pixels everywhere: x right, y down, origin at the corner of the top left pixel, boxes (x1, y1, x2, y2).
N: detections in one image.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ShapeError

Image = NDArray[np.uint8]
"""One decoded picture: (H, W, 3), RGB, 0 to 255, turned as its EXIF orientation says."""

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""

Polygons = tuple[tuple[float, ...], ...]
"""One object in one or more parts, each (x1, y1, x2, y2, ...) in pixels."""


class ImageSize(NamedTuple):
    """Pixels. Height first, everywhere; nothing in this project is ever (width, height)."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height} px (width x height)"


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask as COCO's run lengths, column-major. counts: compressed text, or the bare numbers as COCO writes crowds."""

    size: ImageSize
    counts: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A class. id: its number in files (COCO's may have gaps); its index in `Dataset.categories` is its label."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled object.

    box:   (x1, y1, x2, y2) in pixels, may be fractional
    label: index into the dataset's categories
    crowd: a region of many objects; it is neither trained on nor counted as a miss
    area:  px², of the mask where there is one; None: the box's
    """

    box: Box
    label: int
    crowd: bool = False
    area: float | None = None
    segmentation: Polygons | Rle | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture with its labelled objects; none is a legitimate negative.

    id:        unique in the dataset, from 1
    file_name: relative to the dataset's pictures, with `/`
    size:      of the frame that the boxes refer to
    source:    where the labels say the picture is (an s3:// address or a path); empty when unknown
    group:     images of one group never part in a split; empty: a group of its own
    """

    id: int
    file_name: str
    size: ImageSize
    instances: tuple[Instance, ...] = ()
    source: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of labelled images. Every instance's label is an index into `categories`."""

    categories: tuple[Category, ...]
    images: tuple[ImageRecord, ...]

    @property
    def instance_count(self) -> int:
        return sum(len(image.instances) for image in self.images)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)


@contextmanager
def many_records() -> Iterator[None]:
    """For the time in which records are made or walked by the million: Python's search for cycles rests.

    Records are in none, and it would walk all of them again and again, for a third of the time.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best first.

    size:   the image the boxes refer to, after EXIF rotation
    boxes:  (N, 4) float32, (x1, y1, x2, y2) in pixels
    scores: (N,) float32 in [0, 1]
    labels: (N,) int64, index into the model's class names
    masks:  one a detection, in pixels of `size`, compressed; None: the model finds boxes only
    """

    size: ImageSize
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: tuple[Rle, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        for name, shape in {"boxes": (n, 4), "scores": (n,), "labels": (n,)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(
                    "Detections", f"{name} has shape {getattr(self, name).shape}", f"Pass {shape}: there are {n} scores."
                )
        if self.masks is not None and len(self.masks) != n:
            raise ShapeError("Detections", f"has {len(self.masks)} masks", f"Pass one for each of the {n} scores, or None.")

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float | Sequence[float]) -> "Detections":
        """The detections whose score is at least `threshold`: one for all, or one for each class."""
        least = threshold if isinstance(threshold, int | float) else np.asarray(threshold, dtype=np.float64)[self.labels]
        return self.take(np.flatnonzero(self.scores >= least))

    def take(self, rows: NDArray[np.intp]) -> "Detections":
        """The detections at these places, in this order."""
        masks = None if self.masks is None else tuple(self.masks[row] for row in rows.tolist())
        return Detections(self.size, self.boxes[rows], self.scores[rows], self.labels[rows], masks)


Predict = Callable[[Sequence[Image]], list[Detections]]
"""The one callable that evaluation, serving and batch prediction know: a torch model, a remote server, a test's fake."""


@runtime_checkable
class StagedPredict(Protocol):
    """A `Predict` on this machine whose stages can be called, and timed, one by one.

    `detections(found, size)` of each of `found([resized(image), ...], sizes)` is what `__call__` gives. What `found` gives is
    the predictor's own business: one thing a picture, on whatever device it works.
    One that also has `input_size`, an `images.InputSize`, is resized for and batched by the server accordingly.
    """

    def __call__(self, images: Sequence[Image], /) -> list[Detections]: ...

    def resized(self, image: Image, /) -> Image:
        """The (H, W, 3) picture at the detector's size."""
        ...

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize], /) -> Sequence[Any]:
        """The model alone: what is in pictures of `sizes`, given at the detector's size; boxes in pixels of `sizes`."""
        ...

    def detections(self, found: Any, size: ImageSize, /) -> Detections:
        """One picture's, as numpy arrays on the CPU; masks over the whole picture."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded detector, whatever runs it: its callable and the facts that travel with it.

    predict:     (H, W, 3) RGB pictures of any sizes -> one `Detections` each
    class_names: label index -> name
    origin:      where it was loaded from, for messages
    facts:       how it was trained and what it scored, as `bundle.json` tells it
    proposes:    its detections are regions without classes (an RPN's proposals)
    thresholds:  least score of each class in what is served where nothing else is asked for; `predict` gives all the same
    """

    predict: Predict
    class_names: tuple[str, ...]
    origin: str
    facts: dict[str, object] = field(default_factory=dict)
    proposes: bool = False
    thresholds: tuple[float, ...] | None = None
