"""What happens to a JPEG before the network sees it, step by step: processor time of one thread.

    python benchmarks/preprocess.py [--rounds 7] [--sizes 4000x3000 1280x1024]

Decoding to Pillow's picture and to an array, resizing for a detector at 800 px from either, the planes of a tensor, and
normalising and padding as the detector does it. Beside them what is left out: JPEG's scaled decoding (`Image.draft`), with how
far its resized pixels are from those of the whole picture. The picture is noise of two scales, written as JPEG of
quality 90; a photograph of the same size has other figures, which `--picture FILE` shows (it is resized to each of `--sizes`).

    python benchmarks/preprocess.py --tiny

shows that it works.
"""

import argparse
import io
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
import torch
from PIL import Image as Pillow
from predict_cpu import a_picture

from sightline.config.sources import load
from sightline.images import decode_rgb, read_image, resize, shortest_edge_size
from sightline.model.build import build_detector
from sightline.records import Image, ImageSize
from sightline.tensors import to_tensor

Result = TypeVar("Result")

SHORTEST, LONGEST = 800, 1333


def as_jpeg(image: Image, size: ImageSize) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).resize((size.width, size.height), Pillow.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def drafted(data: bytes, size: ImageSize) -> Pillow.Image:
    """Decoded by the JPEG decoder at the least scale that is no smaller than `size`."""
    picture = Pillow.open(io.BytesIO(data))
    picture.draft("RGB", (size.width, size.height))
    picture.load()
    return picture


def timed(call: Callable[[], Result], rounds: int) -> tuple[float, Result]:
    """(median ms of processor time, what the last call gave)."""
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        result = call()
        spent.append(1000 * (time.process_time() - began))
    return statistics.median(spent), result


def steps(data: bytes, whole: ImageSize, rounds: int) -> dict[str, float]:
    """{step: ms}, and under "pixels off" the mean difference of those of a scaled decoding, of 255."""
    size = shortest_edge_size(whole, SHORTEST, LONGEST)
    detector = build_detector(load("small"))  # whose batches are made as any detector's
    found: dict[str, float] = {}
    found["decode"], picture = timed(lambda: decode_rgb(data, "the picture"), rounds)
    found["to an array"], array = timed(lambda: np.array(picture), rounds)
    found["resize from the array"], from_array = timed(lambda: resize(array, size), rounds)
    found["resize from the decoder's picture"], small = timed(lambda: resize(picture, size), rounds)
    if not np.array_equal(small, from_array):
        raise SystemExit("Resizing an array and a picture gives different pixels.")
    found["planes"], planes = timed(lambda: to_tensor(small, "BGR"), rounds)
    found["normalise and pad"], _ = timed(lambda: detector.batch([planes]), rounds)
    found["scaled decoding"], scaled = timed(lambda: drafted(data, size), rounds)
    found["resize from the scaled picture"], other = timed(lambda: resize(scaled, size), rounds)
    found["pixels off"] = float(np.abs(other.astype(int) - small.astype(int)).mean())
    return found


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", metavar="WIDTHxHEIGHT", default=["4000x3000", "1280x1024"])
    parser.add_argument("--picture", type=Path, help="a photograph instead of a drawn picture")
    parser.add_argument("--tiny", action="store_true", help="one round of 96 x 64 px")
    asked = parser.parse_args(words)
    if asked.tiny:
        asked.rounds, asked.sizes = 1, ["96x64"]
    return asked


def main(words: Sequence[str] | None = None) -> None:
    asked = parsed(words)
    torch.set_num_threads(1)
    about = f"Pillow {PIL.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(f"one thread, medians of {asked.rounds}; {about}, load {os.getloadavg()[0]:.1f}")
    for text in asked.sizes:
        width, height = map(int, text.split("x"))
        whole = ImageSize(height, width)
        data = as_jpeg(a_picture(height, width) if asked.picture is None else read_image(asked.picture), whole)
        found = steps(data, whole, asked.rounds)
        off = found.pop("pixels off")
        told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in found.items())
        print(f"{width} x {height} px, {len(data):,} bytes: {told}; pixels of a scaled decoding are {off:.2f} of 255 off")


if __name__ == "__main__":
    main()
