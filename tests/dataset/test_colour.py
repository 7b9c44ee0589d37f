"""Colours change within what the strength allows, the same way whoever computes them."""

import numpy as np
import pytest
import torch
from builders import a_painting
from torchvision.transforms.v2 import functional

from sightline.dataset.colour import HUE, SPREAD, adjust_contrast, jitter
from sightline.records import Image, ImageSize

PICTURE = a_painting(ImageSize(40, 60), [(10, 10, 30, 30)])


def jittered(strength: float = 1.0, seed: int = 0, image: Image = PICTURE) -> Image:
    return jitter(image, strength, np.random.default_rng(seed))


def test_pixels_change_and_the_argument_does_not() -> None:
    before = PICTURE.copy()
    found = jittered()
    assert (found.shape, found.dtype) == (PICTURE.shape, np.uint8)
    assert (found != PICTURE).mean() > 0.5
    np.testing.assert_array_equal(PICTURE, before)


def test_a_generator_decides() -> None:
    np.testing.assert_array_equal(jittered(seed=3), jittered(seed=3))
    assert len({jittered(seed=seed).tobytes() for seed in range(8)}) == 8


def test_no_strength_no_change() -> None:
    """Up to the rounding of a picture that goes to hue and back."""
    np.testing.assert_allclose(jittered(0.0).astype(int), PICTURE, atol=1)


def test_a_weak_change_is_a_small_one() -> None:
    def change(strength: float) -> float:
        return float(np.mean([np.abs(jittered(strength, seed).astype(int) - PICTURE).mean() for seed in range(10)]))

    assert 0 < change(0.1) < change(0.4) < change(1.0)


@pytest.mark.parametrize("value", [60, 120])
def test_grey_pictures_change_in_brightness_alone(value: int) -> None:
    """They have no contrast, saturation or hue; over many draws the factors fill the range and no more."""
    grey = np.full((4, 4, 3), value, dtype=np.uint8)
    found = [jittered(1.0, seed, grey) for seed in range(300)]
    assert all(np.ptp(image.astype(int)) <= 1 for image in found)
    factors = np.array([image.mean() / value for image in found])
    assert 1 - SPREAD - 0.05 < factors.min() < 0.6
    assert 1.4 < factors.max() < 1 + SPREAD + 0.05


def test_red_stays_reddish() -> None:
    """A tenth of the colour circle leads from red to orange or to crimson, not to green or blue."""
    assert HUE == 0.1
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[:, :, 0] = 200
    for seed in range(50):
        colour = jittered(1.0, seed, red).reshape(-1, 3).mean(axis=0)
        assert colour.argmax() == 0
        assert colour[0] - colour[1:].min() > 0.3 * colour[0]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.3])
def test_contrast_is_torchvisions(factor: float) -> None:
    """Up to the last bit of the mean."""
    planes = torch.from_numpy(np.ascontiguousarray(PICTURE.transpose(2, 0, 1)))
    found, expected = adjust_contrast(planes, factor).int(), functional.adjust_contrast(planes, factor).int()
    assert int((found - expected).abs().max()) <= 1


def test_threads_do_not_matter() -> None:
    """A worker has one, the process that trains has many: both must make the same picture."""
    picture = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(jittered(1.0, 1, picture))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
