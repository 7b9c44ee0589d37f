"""Random colours: brightness, contrast, saturation and hue of a training picture, on 8-bit pixels.

Every random choice comes from a generator that is passed in.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from sightline.records import Image

SPREAD = 0.5
"""At strength 1 brightness, contrast and saturation are multiplied by 0.5 to 1.5: the range of SSD's photometric distortion."""

HUE = 0.1
"""At strength 1 the hue moves by up to a tenth of the colour circle, 36 degrees: red stays reddish."""


def jitter(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """A new (H, W, 3) RGB picture; the argument stays as it is. strength: 0 to 1.

    All four are changed, in a random order. Some 80 ms of one core for 1066 x 800 px, most of it for the hue.
    """
    brightness, contrast, saturation = rng.uniform(1 - SPREAD * strength, 1 + SPREAD * strength, 3).tolist()
    hue = float(rng.uniform(-HUE * strength, HUE * strength))
    steps = (
        lambda planes: functional.adjust_brightness(planes, brightness),
        lambda planes: adjust_contrast(planes, contrast),
        lambda planes: functional.adjust_saturation(planes, saturation),
        lambda planes: functional.adjust_hue(planes, hue),
    )
    planes = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
    for step in rng.permutation(len(steps)).tolist():
        planes = steps[step](planes)
    return np.asarray(planes.permute(1, 2, 0))


def adjust_contrast(planes: Tensor, factor: float) -> Tensor:
    """(3, H, W) uint8 moved away from its mean grey, or towards it.

    torchvision's own takes the mean in float32, whose last bit depends on the number of threads: a picture would depend on
    who reads it. The sum of whole numbers does not.
    """
    grey = functional.rgb_to_grayscale(planes)
    mean = int(grey.sum(dtype=torch.int64)) / grey.numel()
    return planes.mul(factor).add_(mean * (1 - factor)).clamp_(0, 255).to(torch.uint8)
