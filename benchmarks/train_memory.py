"""Whether training's memory stays flat: resident memory of a tiny detector's training on the CPU, every 100 steps.

    python benchmarks/train_memory.py [--steps 500] [--every 100]

Pictures come in two sizes and with none to nine boxes, so that what is remembered by size, and what depends on the number of
boxes, would show if it grew.
"""

import argparse
import os
import platform
from pathlib import Path

import torch

from sightline.config.sources import load
from sightline.model.build import build_detector
from sightline.model.instances import Targets
from sightline.training.optimizer import build_optimizer

TINY = """
    MODEL.RESNETS.STEM_OUT_CHANNELS 8  MODEL.RESNETS.RES2_OUT_CHANNELS 8  MODEL.FPN.OUT_CHANNELS 16
    MODEL.ROI_BOX_HEAD.FC_DIM 16  MODEL.ANCHOR_GENERATOR.SIZES ((12,),(24,),(48,))  MODEL.ROI_HEADS.NUM_CLASSES 2
    MODEL.RPN.BATCH_SIZE_PER_IMAGE 32  MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 16  MODEL.DEVICE cpu
"""
"""The tests' tiny detector: 0.2 million numbers, so 500 steps take half a minute."""

SIZES = ((64, 96), (96, 64))


def resident_mib() -> float:
    """Of this process now; Linux tells it in pages."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def a_batch(number: int, chance: torch.Generator) -> tuple[list[torch.Tensor], list[Targets]]:
    """Two pictures of one size with random boxes."""
    height, width = SIZES[number % len(SIZES)]
    images, targets = [], []
    for _ in range(2):
        images.append(torch.randint(0, 256, (3, height, width), generator=chance, dtype=torch.uint8))
        objects = int(torch.randint(0, 10, (1,), generator=chance))
        corners = torch.rand(objects, 2, generator=chance) * 40
        sides = 8 + torch.rand(objects, 2, generator=chance) * 16
        labels = torch.randint(0, 2, (objects,), generator=chance)
        targets.append(Targets(torch.cat((corners, corners + sides), dim=1), labels))
    return images, targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    config = load("small", TINY.split())
    model = build_detector(config).train()
    optimizer = build_optimizer(model, config.solver)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    for number in range(1, options.steps + 1):
        images, targets = a_batch(number, chance)
        optimizer.zero_grad()
        torch.stack(tuple(model(images, targets).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if number % options.every == 0:
            print(f"after {number:5} steps: {resident_mib():.1f} MiB")


if __name__ == "__main__":
    main()
