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


def choose_device(name: str) -> torch.device:
    """The device for "auto" or "cuda" (the GPU if there is one, else the CPU), "cpu", "cuda:1", "mps", ...

    "cuda" falls back to the CPU because every Detectron2 config says it by default.

    Raises:
        ConfigError: no such device here.
    """
    if name in ("auto", "cuda"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError("device", f"{name!r} cannot be used ({first_line})", "Use auto, cpu or cuda.") from error
    return device
