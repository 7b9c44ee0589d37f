"""Pictures of painted objects, and a detector that sees exactly what lies in the pixels it is given."""

from collections.abc import Sequence

import numpy as np

from sightline.geometry.masks import encode
from sightline.records import Box, Detections, Image, ImageSize


def painted(size: ImageSize, boxes: Sequence[Box]) -> Image:
    """A black picture, object k in the colour k + 1 (red: its number; green: its class, which is k % 2)."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
        image[int(y1) : int(y2), int(x1) : int(x2)] = (number, number % 2, 0)
    return image


def perfect(images: Sequence[Image], *, masks: bool = True, least_px: int = 1) -> list[Detections]:
    """Each colour that is there, with its exact bounds; an object of which less is seen scores less."""
    found = []
    for image in images:
        boxes, scores, labels, bitmaps = [], [], [], []
        for number in sorted(set(np.unique(image[..., 0]).tolist()) - {0}):
            bitmap = image[..., 0] == number
            rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
            if min(len(rows), len(columns)) < least_px:
                continue
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            scores.append(0.3 + 0.6 * bitmap.sum() / bitmap.size)
            labels.append(number % 2)
            bitmaps.append(encode(bitmap))
        order = np.argsort(-np.array(scores), kind="stable")
        all_found = Detections(
            ImageSize(*image.shape[:2]),
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array(scores, dtype=np.float32),
            np.array(labels, dtype=np.int64),
            tuple(bitmaps) if masks else None,
        )
        found.append(all_found.take(order))
    return found
