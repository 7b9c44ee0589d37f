"""The labelled pictures of a data set as a configuration wants them learned from."""

import logging
import math
from pathlib import Path

from sightline.config.architecture import has_masks
from sightline.config.schema import Config, Input
from sightline.dataset.crops import KINDS, Crop
from sightline.dataset.loader import TrainingSet, training_images
from sightline.dataset.transforms import Augmentation
from sightline.errors import ConfigError, Problem
from sightline.records import Dataset

LOG = logging.getLogger(__name__)


def examples(config: Config, dataset: Dataset, images: Path, where: str) -> TrainingSet:
    """The data set as the configuration wants it varied.

    Raises:
        ConfigError: everything in INPUT that cannot be done: sizes that cannot be sampled, a crop of no pixels, ...
        DatasetError: nothing is left to learn from, or masks are wanted and missing.
    """
    problems = [
        *size_problems(config.input, where),
        *crop_problems(config.input, where),
        *mask_format_problems(config.input, where),
    ]
    if problems:
        raise ConfigError.collected(problems)
    crop = config.input.crop
    how = Augmentation(
        min_sizes=config.input.min_size_train,
        max_size=config.input.max_size_train,
        sampling=config.input.min_size_train_sampling,
        flip=config.input.random_flip,
        crop=Crop(crop.type, (crop.size[0], crop.size[1])) if crop.enabled else None,
    )
    kept = training_images(dataset.images, keep_empty=not config.dataloader.filter_empty_annotations)
    if len(kept) < len(dataset.images):
        LOG.info(
            "%d of %d pictures without boxes are left out (DATALOADER.FILTER_EMPTY_ANNOTATIONS)",
            len(dataset.images) - len(kept),
            len(dataset.images),
        )
    return TrainingSet(
        kept,
        images,
        how,
        color_order=config.input.format,
        seed=config.seed,
        with_masks=has_masks(config),
        mask_format=config.input.mask_format,
    )


def size_problems(options: Input, where: str) -> list[Problem]:
    """What is wrong with INPUT.MIN_SIZE_TRAIN, sampled as INPUT.MIN_SIZE_TRAIN_SAMPLING says."""
    sizes, sampling = options.min_size_train, options.min_size_train_sampling
    is_range = len(sizes) == 2 and sizes[0] <= sizes[1]
    if sizes and min(sizes) >= 0 and (sampling != "range" or is_range):
        return []
    fix = "Give the two ends of the range." if sampling == "range" else "Give at least one size, in pixels."
    return [Problem(where, f"INPUT.MIN_SIZE_TRAIN is {list(sizes)}, sampled by {sampling!r}", fix)]


def crop_problems(options: Input, where: str) -> list[Problem]:
    """What is wrong with INPUT.CROP; nothing, if it is not enabled."""
    crop, problems = options.crop, []
    if not crop.enabled:
        return []
    if crop.type not in KINDS:
        problems.append(Problem(where, f"INPUT.CROP.TYPE is {crop.type!r}", f"Supported: {', '.join(KINDS)}."))
    fix = None
    if len(crop.size) != 2 or not all(0 < side < math.inf for side in crop.size):
        fix = "Give two numbers above 0."
    elif crop.type.startswith("relative") and max(crop.size) > 1:
        fix = "Give shares of the picture, at most 1."
    elif crop.type.startswith("absolute") and any(side != int(side) for side in crop.size):
        fix = "Give whole pixels."
    elif crop.type == "absolute_range" and crop.size[0] > crop.size[1]:
        fix = "Give the lower end of the range first."
    if fix is not None:
        problems.append(Problem(where, f"INPUT.CROP.SIZE is {list(crop.size)}, of type {crop.type!r}", fix))
    return problems


def mask_format_problems(options: Input, where: str) -> list[Problem]:
    if options.mask_format in ("polygon", "bitmask"):
        return []
    return [Problem(where, f"INPUT.MASK_FORMAT is {options.mask_format!r}", "Supported: polygon, bitmask.")]
