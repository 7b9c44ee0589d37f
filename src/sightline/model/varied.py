"""Test-time augmentation: a picture seen at several sizes, plain and mirrored, and everything found merged into one answer.

The steps are those of Detectron2's GeneralizedRCNNWithTTA: boxes from every version, one suppression over all of them, then
the mean of every version's mask for the boxes that are left. It costs one whole prediction a version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.images import resize, shortest_edge_size
from sightline.model.box_head import Selection
from sightline.model.boxes import nonempty
from sightline.model.detector import Detector
from sightline.model.instances import Found
from sightline.records import Image, ImageSize
from sightline.tensors import to_tensor

TOGETHER = 3
"""Versions that run as one batch, as in Detectron2: padding changes what is near the edge, so it is part of the result."""

ANY_SCORE = 1e-8
"""Least score of what is merged; every version has applied its own threshold before."""


@dataclass(frozen=True, slots=True)
class Variations:
    """Versions of a picture: one for each of min_sizes (pixels of the shorter side), twice with `flip`; and how to merge."""

    min_sizes: tuple[int, ...]
    max_size: int
    flip: bool
    nms_iou: float
    max_detections: int | None
    classes: int


@dataclass(frozen=True, slots=True)
class Version:
    """A picture of `size`, resized from one of `first`, which was resized from `original`; mirrored at the end or not."""

    image: Image
    original: ImageSize
    first: ImageSize
    size: ImageSize
    mirrored: bool

    def there(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes of the original picture in this version's pixels."""
        boxes = scaled(scaled(boxes, self.original, self.first), self.first, self.size)
        return mirror(boxes, self.size.width) if self.mirrored else boxes

    def back(self, boxes: Tensor) -> Tensor:
        """(N, 4) boxes of this version in the original picture's pixels."""
        boxes = mirror(boxes, self.size.width) if self.mirrored else boxes
        return scaled(scaled(boxes, self.size, self.first), self.first, self.original)


def scaled(boxes: Tensor, before: ImageSize, after: ImageSize) -> Tensor:
    across, down = after.width / before.width, after.height / before.height
    return boxes * boxes.new_tensor([across, down, across, down])


def mirror(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack((width - x2, y1, width - x1, y2), dim=1)


def versions(image: Image, original: ImageSize, how: Variations) -> list[Version]:
    """All versions of an (H, W, 3) picture that was resized from `original` to the detector's usual size."""
    first = ImageSize(*image.shape[:2])
    found = []
    for min_size in how.min_sizes:
        size = shortest_edge_size(first, min_size, how.max_size)
        resized = resize(image, size)
        found.append(Version(resized, original, first, size, mirrored=False))
        if how.flip:
            found.append(Version(resized[:, ::-1], original, first, size, mirrored=True))
    return found


@torch.inference_mode()
def detect_varied(detector: Detector, image: Image, original: ImageSize, how: Variations, color_order: str) -> Found:
    """What is in one picture, given at the detector's usual size, in pixels of `original`."""
    seen = versions(image, original, how)
    parts: list[Found] = []
    for some in together(seen):
        batch, sizes = detector.batch([to_tensor(version.image, color_order) for version in some])
        for version, found in zip(some, detector.find(detector.extract(batch), sizes), strict=True):
            parts.append(replace(found, boxes=version.back(found.boxes)))
    merged = merge(parts, original, how)
    return with_mean_masks(detector, merged, seen, color_order)


def together(seen: Sequence[Version]) -> Iterator[Sequence[Version]]:
    return (seen[start : start + TOGETHER] for start in range(0, len(seen), TOGETHER))


def merge(parts: Sequence[Found], size: ImageSize, how: Variations) -> Found:
    """The best of all versions' detections after one suppression."""
    boxes, labels = torch.cat([p.boxes for p in parts]), torch.cat([p.labels for p in parts])
    scores = boxes.new_zeros((len(boxes), how.classes + 1))
    scores[torch.arange(len(boxes), device=boxes.device), labels] = torch.cat([p.scores for p in parts])
    found = Selection(ANY_SCORE, how.nms_iou, how.max_detections)(scores, boxes, size)
    return found.take(nonempty(found.boxes))


def with_mean_masks(detector: Detector, merged: Found, seen: Sequence[Version], color_order: str) -> Found:
    """`merged` with the mean of the masks that each version gives its boxes; as it is where the detector has none.

    Features are computed a second time: keeping those of all versions would take gigabytes.
    """
    if not detector.gives_masks:
        return merged
    masks: list[Tensor] = []
    for some in together(seen):
        there = [replace(merged, boxes=version.there(merged.boxes)) for version in some]
        batch, _ = detector.batch([to_tensor(version.image, color_order) for version in some])
        for version, found in zip(some, detector.with_masks(detector.extract(batch), there), strict=True):
            assert found.masks is not None
            masks.append(found.masks.flip(dims=[2]) if version.mirrored else found.masks)
    return replace(merged, masks=torch.stack(masks).mean(dim=0))
