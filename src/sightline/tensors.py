"""Pictures as torch tensors and the device they go to. The only foundation module that knows torch."""

import numpy as np
import torch
from torch import Tensor

from sightline.errors import ConfigError
from sightline.records import Image


def to_tensor(image: Image, color_order: str) -> Tensor:
    """(3, H, W) uint8 of an (H, W, 3) RGB picture. color_order: "BGR" or "RGB", of the three planes."""
    planes = image[:, :, ::-1] if color_order == "BGR" else image
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))


def choose_device(asked: str, configured: str = "cuda") -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1", "mps", ...

    "auto" follows the model's MODEL.DEVICE, where "cuda" is the GPU if there is one, else the CPU: every Detectron2 config says
    it by default. Asked for by name, a GPU must be there.

    Raises:
        ConfigError: no such device here.
    """
    name = configured if asked == "auto" else asked
    if asked == "auto" and name == "cuda":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError("device", f"{name!r} cannot be used ({first_line})", "Use auto, cpu or cuda.") from error
    return device
