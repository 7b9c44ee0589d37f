"""A detector as the one callable that everything else knows: RGB pictures of any size in, `Detections` out."""

from collections.abc import Sequence

import numpy as np
import torch

from sightline.images import InputSize, Resizing
from sightline.model.detector import Detector
from sightline.model.instances import Found
from sightline.model.mask_head import pasted
from sightline.model.varied import Variations, detect_varied
from sightline.records import Detections, Image, ImageSize
from sightline.tensors import to_tensor


class Predictor(Resizing):
    """Resizes, runs the detector in evaluation mode, and maps boxes and masks back to the picture given.

    min_size, max_size: pixels, of the shorter and the longer side after resizing
    color_order:        "BGR" or "RGB", as the detector was trained
    variations:         test-time augmentation; None looks at each picture once
    """

    def __init__(
        self, detector: Detector, *, min_size: int, max_size: int, color_order: str, variations: Variations | None = None
    ) -> None:
        self.detector = detector.eval()
        self.input_size = InputSize(min_size, max_size, detector.size_divisor)
        self.color_order, self.variations = color_order, variations

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Found]:
        """What is in pictures of `sizes`, given at the detector's size; boxes are in pixels of `sizes`."""
        if self.variations is None:
            return self.detector.detect([to_tensor(image, self.color_order) for image in resized], sizes)
        return [
            detect_varied(self.detector, image, size, self.variations, self.color_order)
            for image, size in zip(resized, sizes, strict=True)
        ]

    def detections(self, found: Found, size: ImageSize) -> Detections:
        """The same on the CPU, of one picture of `size`."""
        return to_detections(found, size)


def to_detections(found: Found, size: ImageSize) -> Detections:
    """The same on the CPU: numpy arrays, and masks as run lengths over the whole picture."""
    with torch.inference_mode():
        masks = None if found.masks is None else pasted(found.masks, found.boxes, size)
        # in one piece: each copy waits for the GPU. float32 holds every label below 2**24.
        numbers = torch.column_stack((found.boxes.float(), found.scores.float(), found.labels.float())).cpu().numpy()
    return Detections(
        size=size,
        boxes=numbers[:, :4].copy(),
        scores=numbers[:, 4].copy(),
        labels=numbers[:, 5].astype(np.int64),
        masks=masks,
    )
