"""Pictures that the loader delivers in a second, beside those that R50-FPN can learn from on this CPU.

    python benchmarks/loader.py [--pictures 64] [--batch 4] [--side 800] [--steps 3] [--workers N] [--colour 0] [--mosaic 0]

JPEGs of 640 x 480 px with eight boxes each are drawn into a temporary folder, decoded, resized and mirrored at even odds, once
in this process and once in worker processes (the loader's own number for this machine, unless --workers says another). A step
is forward and backward of one such picture with random weights. Prints each rate and its ratio to the model's; above 1 the
model never waits for pictures.

A consumer like a GPU comes last: it sleeps for as long as one V100 learned from a batch when Detectron2's zoo was trained
(R50-FPN: 16 pictures on eight in 0.209 s), and says which share of its time it waits for pictures.
"""

import argparse
import os
import platform
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image as Pillow

from sightline.config.sources import load
from sightline.dataset.loader import Example, TrainingSet, default_workers, load_batches
from sightline.dataset.transforms import Augmentation
from sightline.model.build import build_detector
from sightline.model.instances import Targets
from sightline.records import Box, ImageRecord, ImageSize, Instance

SIZE = ImageSize(480, 640)
OBJECTS = 8
"""Boxes a picture; COCO has 7 on average."""

GRAIN = 8
"""Noise is drawn at one pixel in `GRAIN` and smoothed: such a JPEG has some 120 kB; COCO's have 150 kB on average."""


GPU_RATE = 16 / 8 / 0.209
"""Pictures per second of one V100, by the zoo's table (faster_rcnn_R_50_FPN_3x)."""


def a_box(rng: np.random.Generator) -> Box:
    width, height = rng.uniform(20, 200, 2).tolist()
    left, top = rng.uniform(0, SIZE.width - width), rng.uniform(0, SIZE.height - height)
    return float(left), float(top), float(left + width), float(top + height)


def draw_pictures(folder: Path, count: int) -> tuple[list[ImageRecord], int]:
    """Labelled pictures in `folder`, and the bytes of all together."""
    records, total = [], 0
    for number in range(1, count + 1):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (SIZE.height // GRAIN, SIZE.width // GRAIN, 3), dtype=np.uint8)
        smooth = np.asarray(Pillow.fromarray(coarse).resize((SIZE.width, SIZE.height), Pillow.Resampling.BICUBIC))
        pixels = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{number:05d}.jpg"
        Pillow.fromarray(pixels).save(path, quality=90)
        total += path.stat().st_size
        instances = tuple(Instance(a_box(rng), int(rng.integers(80))) for _ in range(OBJECTS))
        records.append(ImageRecord(number, path.name, SIZE, instances))
    return records, total


def loader_rate(examples: TrainingSet, pictures: int, batch_size: int, workers: int) -> float:
    """Pictures per second. The first batches are not counted: processes start, and have read ahead before anybody asks."""
    batches = load_batches(examples, batch_size=batch_size, by_shape=True, start=0, workers=workers)
    ahead, counted = 1 + 2 * workers, max(pictures // batch_size, 1)
    for _ in islice(batches, ahead):
        pass
    began = time.perf_counter()
    for _ in islice(batches, counted):
        pass
    return counted * batch_size / (time.perf_counter() - began)


def waiting_share(examples: TrainingSet, pictures: int, batch_size: int, workers: int) -> float:
    """Share of its time that a consumer at `GPU_RATE` waits for pictures; without its first batches, as in `loader_rate`."""
    batches = load_batches(examples, batch_size=batch_size, by_shape=True, start=0, workers=workers)
    for _ in islice(batches, 1 + 2 * workers):
        time.sleep(batch_size / GPU_RATE)
    waited, began = 0.0, time.perf_counter()
    for _ in range(max(pictures // batch_size, 1)):
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
        time.sleep(batch_size / GPU_RATE)
    return waited / (time.perf_counter() - began)


def step_rate(example: Example, steps: int) -> float:
    """Pictures per second of forward and backward, one picture at a time, after one that is not counted."""
    torch.manual_seed(0)
    detector = build_detector(load("COCO-Detection/faster_rcnn_R_50_FPN_1x", ["MODEL.WEIGHTS", ""])).train()
    targets = [Targets(example.boxes, example.labels, example.masks)]

    def step() -> None:
        detector.zero_grad()
        losses = detector([example.image], targets)
        torch.stack(tuple(losses.values())).sum().backward()

    step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=800, help="pixels of the shorter side")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--workers", type=int, default=default_workers(os.cpu_count() or 1))
    parser.add_argument("--colour", type=float, default=0.0, help="strength of colour changes")
    parser.add_argument("--mosaic", type=float, default=0.0, help="probability of a mosaic of four")
    options = parser.parse_args()
    how = Augmentation(
        min_sizes=(options.side,),
        max_size=options.side * 5 // 3,  # 1333 at 800, Detectron2's default
        sampling="choice",
        flip="horizontal",
        colour=options.colour,
        mosaic=options.mosaic,
    )
    with tempfile.TemporaryDirectory() as folder:
        records, size = draw_pictures(Path(folder), options.pictures)
        examples = TrainingSet(records, Path(folder), how, color_order="BGR", seed=0)
        rates = {workers: loader_rate(examples, options.pictures, options.batch, workers) for workers in {0, options.workers}}
        shares = {workers: waiting_share(examples, options.pictures, options.batch, workers) for workers in rates}
        (batch,) = islice(load_batches(examples, batch_size=1, by_shape=True, start=0, workers=0), 1)
    model = step_rate(batch[0], options.steps)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, ", end="")
    print(f"Pillow {PIL.__version__}, numpy {np.__version__}")
    _, height, width = batch[0].image.shape
    print(f"{options.pictures} JPEGs of {SIZE.width} x {SIZE.height} px, {size / options.pictures / 1000:.0f} kB; ", end="")
    print(f"{width} x {height} px to the model; colour {options.colour}, mosaic {options.mosaic}")
    print(f"{'R50-FPN forward and backward':32} {model:8.3f} pictures/s")
    for workers, rate in sorted(rates.items()):
        who = "in this process" if workers == 0 else f"workers: {workers}"
        print(f"{f'loader, {who}':32} {rate:8.3f} pictures/s, ratio loader / model: {rate / model:.1f}", end="")
        print(f"; / GPU's {GPU_RATE:.1f} pictures/s: {rate / GPU_RATE:.1f}, which waits {shares[workers]:.1%} of its time")


if __name__ == "__main__":
    main()
