"""A detector as the one callable that everything else knows: RGB pictures of any size in, `Detections` out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sightline.images import resize, shortest_edge_size
from sightline.model.detector import GeneralizedRCNN
from sightline.model.roi_heads import Found
from sightline.records import Detections, Image, ImageSize
from sightline.tensors import to_tensor


class Predictor:
    """Resizes, runs the detector in evaluation mode, and maps the boxes back to the picture given.

    min_size, max_size: pixels, of the shorter and the longer side after resizing
    color_order:        "BGR" or "RGB", as the detector was trained
    """

    def __init__(self, detector: GeneralizedRCNN, *, min_size: int, max_size: int, color_order: str) -> None:
        self.detector = detector.eval()
        self.min_size, self.max_size, self.color_order = min_size, max_size, color_order

    def resized(self, image: Image) -> Tensor:
        """(3, H, W) uint8 in the detector's colour order and size."""
        size = shortest_edge_size(ImageSize(*image.shape[:2]), self.min_size, self.max_size)
        return to_tensor(resize(image, size), self.color_order)

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` a picture. All pictures run as one batch, padded to the largest."""
        if not images:
            return []
        sizes = [ImageSize(*image.shape[:2]) for image in images]
        with torch.inference_mode():
            found = self.detector.detect([self.resized(image) for image in images], sizes)
        return [to_detections(f, size) for f, size in zip(found, sizes, strict=True)]


def to_detections(found: Found, size: ImageSize) -> Detections:
    """The same on the CPU, as numpy arrays."""
    return Detections(
        size=size,
        boxes=found.boxes.float().cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        labels=found.labels.cpu().numpy().astype(np.int64),
    )
