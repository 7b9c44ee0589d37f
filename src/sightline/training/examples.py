"""The labelled pictures of a data set as a configuration wants them learned from."""

import logging
import math
from pathlib import Path

from sightline.config.architecture import has_masks
from sightline.config.schema import Config, Input
from sightline.config.support import REPEATING
from sightline.dataset.crops import KINDS, Crop
from sightline.dataset.learned import training_images
from sightline.dataset.loader import ON_BAD, TrainingSet
from sightline.dataset.sampling import repeat_factors
from sightline.dataset.transforms import Augmentation
from sightline.errors import ConfigError, Problem
from sightline.records import Dataset
from sightline.training.settings import PLAIN, Settings

LOG = logging.getLogger(__name__)


def examples(config: Config, dataset: Dataset, images: Path, where: str, settings: Settings = PLAIN) -> TrainingSet:
    """The data set as the configuration and the settings want it varied.

    Raises:
        ConfigError: everything in INPUT and in the settings that cannot be done: sizes that cannot be sampled, a crop of no
            pixels, a probability above 1, ...
        DatasetError: nothing is left to learn from, or masks are wanted and missing.
    """
    problems = [
        *size_problems(config.input, where),
        *crop_problems(config.input, where),
        *mask_format_problems(config.input, where),
        *setting_problems(settings),
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
        rotate=settings.rotate,
        mosaic=settings.mosaic,
        scale_jitter=settings.scale_jitter,
        colour=settings.colour,
    )
    loader = config.dataloader
    repeats = loader.sampler_train == REPEATING
    kept = training_images(dataset.images, keep_empty=not loader.filter_empty_annotations, class_names=dataset.class_names)
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
        factors=repeat_factors(kept, loader.repeat_threshold, sqrt=loader.repeat_sqrt) if repeats else None,
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


def setting_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the settings about pictures."""
    problems = []
    if not 0 <= settings.colour <= 1:
        problems.append(Problem("--colour", f"is {settings.colour}", "Give a strength from 0 to 1."))
    if not 0 <= settings.mosaic <= 1:
        problems.append(Problem("--mosaic", f"is {settings.mosaic}", "Give a probability from 0 to 1."))
    if settings.scale_jitter is not None:
        low, high = settings.scale_jitter
        if not 0 < low <= high < math.inf:
            fix = "Give two factors above 0, the lower one first, for example 0.5 2."
            problems.append(Problem("--scale-jitter", f"is {low} {high}", fix))
    if settings.on_bad_picture not in ON_BAD:
        problems.append(Problem("--on-bad-picture", f"is {settings.on_bad_picture!r}", f"Supported: {', '.join(ON_BAD)}."))
    return problems
