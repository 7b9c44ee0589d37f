"""What of a data set is learned from, and whether that can be done; told before the first step."""

import logging
from collections.abc import Sequence

from sightline.errors import DatasetError, Problem
from sightline.records import ImageRecord, Rle

LOG = logging.getLogger(__name__)

NAMED_PICTURES = 5
"""Of those that lack masks: enough to find what went wrong."""


def training_images(images: Sequence[ImageRecord], keep_empty: bool, class_names: Sequence[str] = ()) -> list[ImageRecord]:
    """Those to learn from. Crowds are no examples; pictures left without any box go, too, unless `keep_empty`.

    class_names: of the data set; those that have no box here are warned of, because they will never be found

    Raises:
        DatasetError: nothing is left.
    """
    kept = [image for image in images if keep_empty or any(not instance.crowd for instance in image.instances)]
    labels = {instance.label for image in kept for instance in image.instances if not instance.crowd}
    if not labels:
        raise DatasetError("training data", f"{len(images)} pictures hold no box to learn from", "Add labelled pictures.")
    unseen = [name for label, name in enumerate(class_names) if label not in labels]
    if unseen:
        LOG.warning(
            "warning: %d of %d classes have no box to learn from and will not be found: %s",
            len(unseen),
            len(class_names),
            ", ".join(unseen),
        )
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
