"""A data set as a configuration and the settings want it learned from."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_config, a_data_folder, a_dataset, a_record, an_instance

from sightline.config.schema import Config
from sightline.config.schema import Crop as CropOptions
from sightline.dataset.crops import Crop
from sightline.dataset.sampling import Draw
from sightline.errors import ConfigError, DatasetError
from sightline.records import Dataset
from sightline.training.examples import examples
from sightline.training.settings import Settings


@pytest.mark.parametrize(("left_out", "count"), [("True", 1), ("False", 3)])
def test_background_pictures_are_left_out_or_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left_out: str, count: int
) -> None:
    dataset = a_data_folder(tmp_path / "images", count=3, empty=2)
    with caplog.at_level(logging.INFO, logger="sightline"):
        found = examples(a_config("DATALOADER.FILTER_EMPTY_ANNOTATIONS", left_out), dataset, tmp_path, "config")
    assert len(found) == count
    told = "2 of 3 pictures without boxes are left out (DATALOADER.FILTER_EMPTY_ANNOTATIONS)" in caplog.messages
    assert told is (left_out == "True")


def test_pictures_that_hold_crowds_only_teach_nothing(tmp_path: Path) -> None:
    crowd = a_record(1, instances=(an_instance(crowd=True),))
    with pytest.raises(DatasetError, match="hold no box to learn from"):
        examples(a_config(), a_dataset([crowd]), tmp_path, "config")


def masked(dataset: Dataset) -> Dataset:
    """The same with every box outlined."""
    images = tuple(
        replace(
            image,
            instances=tuple(
                replace(i, segmentation=((i.box[0], i.box[1], i.box[2], i.box[1], i.box[2], i.box[3], i.box[0], i.box[3]),))
                for i in image.instances
            ),
        )
        for image in dataset.images
    )
    return replace(dataset, images=images)


def with_masks(config: Config, **model: Any) -> Config:
    return replace(config, model=replace(config.model, **({"mask_on": True} | model)))


def with_input(config: Config, *, crop: CropOptions | None = None, **options: Any) -> Config:
    return replace(config, input=replace(config.input, crop=crop or config.input.crop, **options))


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_examples_with_masks(tmp_path: Path, mask_format: str) -> None:
    dataset = masked(a_data_folder(tmp_path))
    found = examples(with_input(with_masks(a_config()), mask_format=mask_format), dataset, tmp_path, "config")
    assert (found.with_masks, found.mask_format) == (True, mask_format)
    assert isinstance((found.example(Draw(0, 0)).masks or ())[0], tuple if mask_format == "polygon" else np.ndarray)


@pytest.mark.parametrize("changes", [{"mask_on": False}, {"meta_architecture": "RetinaNet"}], ids=["off", "no mask head"])
def test_examples_without_masks(tmp_path: Path, changes: dict[str, object]) -> None:
    found = examples(with_masks(a_config(), **changes), masked(a_data_folder(tmp_path)), tmp_path, "config")
    assert found.example(Draw(0, 0)).masks is None


def test_masks_that_are_wanted_and_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"training data: 6 of 6 boxes have no mask, .*set MODEL\.MASK_ON False"):
        examples(with_masks(a_config()), a_data_folder(tmp_path), tmp_path, "config")


def test_examples_are_cropped_if_that_is_enabled(tmp_path: Path) -> None:
    dataset, crop = a_data_folder(tmp_path), CropOptions(enabled=True, type="absolute_range", size=(20, 30))
    assert examples(with_input(a_config(), crop=crop), dataset, tmp_path, "config").how.crop == Crop("absolute_range", (20, 30))
    idle = replace(crop, enabled=False, type="diagonal", size=())
    assert examples(with_input(a_config(), crop=idle), dataset, tmp_path, "config").how.crop is None


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        pytest.param("diagonal", (0.5, 0.5), r"INPUT\.CROP\.TYPE is 'diagonal'\. Supported: relative, rel", id="kind"),
        pytest.param("relative", (0.5,), r"INPUT\.CROP\.SIZE is \[0\.5\], of type 'relative'\. Give two", id="one number"),
        pytest.param("relative", (0.5, 0), r"SIZE is \[0\.5, 0\], .* Give two numbers above 0\.", id="zero"),
        pytest.param("absolute", (float("inf"), 9), r"SIZE is \[inf, 9\], .* Give two numbers above 0\.", id="infinite"),
        pytest.param("relative_range", (0.5, 1.5), r"Give shares of the picture, at most 1\.", id="more than all"),
        pytest.param("absolute", (0.9, 0.9), r"SIZE is \[0\.9, 0\.9\], of type 'absolute'\. Give whole pixels\.", id="shares"),
        pytest.param("absolute_range", (30, 20), r"Give the lower end of the range first\.", id="a range that falls"),
    ],
)
def test_crops_that_are_refused(tmp_path: Path, kind: str, size: tuple[float, ...], message: str) -> None:
    config = with_input(a_config(), crop=CropOptions(enabled=True, type=kind, size=size))
    with pytest.raises(ConfigError, match=message):
        examples(config, a_data_folder(tmp_path), tmp_path, "config")


def test_everything_that_is_wrong_with_the_input_is_told_at_once(tmp_path: Path) -> None:
    crop = CropOptions(enabled=True, type="diagonal", size=())
    config = with_input(a_config(), crop=crop, mask_format="vector", min_size_train=())
    with pytest.raises(ConfigError, match=r"INPUT\.MASK_FORMAT is 'vector'\. Supported: polygon, bitmask\.") as caught:
        examples(config, a_data_folder(tmp_path), tmp_path, "config")
    assert len(caught.value.problems) == 4


def test_nothing_is_varied_beyond_the_configuration_unless_it_is_asked_for(tmp_path: Path) -> None:
    how = examples(a_config(), a_data_folder(tmp_path), tmp_path, "config").how
    assert (how.rotate, how.mosaic, how.scale_jitter, how.colour) == (False, 0.0, None, 0.0)


def test_settings_reach_the_pictures(tmp_path: Path) -> None:
    asked = Settings(rotate=True, mosaic=0.25, scale_jitter=(0.5, 2.0), colour=0.75)
    how = examples(a_config(), a_data_folder(tmp_path), tmp_path, "config", asked).how
    assert (how.rotate, how.mosaic, how.scale_jitter, how.colour) == (True, 0.25, (0.5, 2.0), 0.75)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"colour": 1.5}, r"^--colour: is 1\.5\. Give a strength from 0 to 1\.$", id="too much colour"),
        pytest.param({"colour": float("nan")}, r"^--colour: is nan\.", id="no number"),
        pytest.param({"mosaic": -0.1}, r"^--mosaic: is -0\.1\. Give a probability from 0 to 1\.$", id="a negative probability"),
        pytest.param({"scale_jitter": (2.0, 0.5)}, r"^--scale-jitter: is 2\.0 0\.5\. Give two factors", id="falling"),
        pytest.param({"scale_jitter": (0.0, 2.0)}, r"^--scale-jitter: is 0\.0 2\.0\. .*above 0", id="zero"),
        pytest.param({"scale_jitter": (1.0, float("inf"))}, r"^--scale-jitter: is 1\.0 inf\.", id="infinite"),
        pytest.param({"on_bad_picture": "ask"}, r"^--on-bad-picture: is 'ask'\. Supported: stop, skip\.$", id="another way"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        examples(a_config(), a_data_folder(tmp_path), tmp_path, "config", Settings(**options))


def test_settings_and_input_are_told_together(tmp_path: Path) -> None:
    asked = Settings(colour=2, mosaic=2, scale_jitter=(-1, 1))
    with pytest.raises(ConfigError) as caught:
        examples(with_input(a_config(), mask_format="vector"), a_data_folder(tmp_path), tmp_path, "mine.yaml", asked)
    assert [problem.where for problem in caught.value.problems] == ["mine.yaml", "--colour", "--mosaic", "--scale-jitter"]


def test_pictures_come_once_an_epoch_unless_rare_classes_are_repeated(tmp_path: Path) -> None:
    """Five cats, one dog: at a threshold of 0.5 the dog's picture comes sqrt(3) times, or three times."""
    folder = a_data_folder(tmp_path)
    images = tuple(
        replace(image, instances=tuple(replace(i, label=int(image.id == 4)) for i in image.instances))
        for image in folder.images
    )
    dataset = replace(folder, images=images)
    repeating = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.5")
    assert examples(a_config(), dataset, tmp_path, "config").factors is None
    for overrides, expected in (((), 3**0.5), (("DATALOADER.REPEAT_SQRT", "False"), 3.0)):
        found = examples(a_config(*repeating, *overrides), dataset, tmp_path, "config").factors
        np.testing.assert_allclose(found, [1, 1, 1, expected, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("left_out", "expected"), [("True", 2.0), ("False", 3**0.5)])
def test_repeats_are_reckoned_among_the_pictures_that_are_kept(tmp_path: Path, left_out: str, expected: float) -> None:
    """One dog among four pictures with boxes and two without: in a quarter of those, or in a sixth of all."""
    folder = a_data_folder(tmp_path, empty=2)
    images = tuple(
        replace(image, instances=tuple(replace(i, label=int(image.id == 6)) for i in image.instances))
        for image in folder.images
    )
    threshold = "1.0" if left_out == "True" else "0.5"
    config = a_config(
        "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", threshold,
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS", left_out,
    )  # fmt: skip
    found = examples(config, replace(folder, images=images), tmp_path, "config").factors
    assert found is not None
    assert found[-1] == pytest.approx(expected)


def test_a_class_without_pictures_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples(a_config(), a_data_folder(tmp_path, names=("cat", "dog", "cow")), tmp_path, "config")
    assert caplog.messages == []
    dataset = replace(a_data_folder(tmp_path), categories=a_dataset(names=("cat", "dog", "cow")).categories)
    examples(a_config(), dataset, tmp_path, "config")
    assert caplog.messages == ["warning: 1 of 3 classes have no box to learn from and will not be found: cow"]
