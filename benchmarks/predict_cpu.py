"""Time to predict one picture on the CPU: R50-FPN at 800 px, Sightline against torchvision, in turn in one process.

    python benchmarks/predict_cpu.py [--rounds 10] [--height 800] [--width 1066]

Both detectors have random weights, the same resized picture, 1,000 proposals and 80 classes. Prints the medians and their
ratio; below 1 Sightline is faster.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from sightline.config.sources import load
from sightline.model.build import build_detector
from sightline.model.predictor import Predictor
from sightline.records import Image
from sightline.tensors import to_tensor


def by_sightline(image: Image) -> Callable[[], object]:
    detector = build_detector(load("COCO-Detection/faster_rcnn_R_50_FPN_3x", ["MODEL.WEIGHTS", ""]))
    predictor = Predictor(detector, min_size=min(image.shape[:2]), max_size=max(image.shape[:2]), color_order="BGR")
    return lambda: predictor([image])


def by_torchvision(image: Image) -> Callable[[], object]:
    model = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=81,
        min_size=min(image.shape[:2]),
        max_size=max(image.shape[:2]),
    ).eval()
    picture = to_tensor(image, "RGB").float() / 255

    def predict() -> object:
        with torch.inference_mode():
            return model([picture])

    return predict


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    options = parser.parse_args()
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (options.height, options.width, 3), dtype=np.uint8)
    calls = {"sightline": by_sightline(image), "torchvision": by_torchvision(image)}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # warm
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}; {options.width} x {options.height} px")
    for name, found in times.items():
        print(f"{name:12} median {statistics.median(found):.3f} s, least {min(found):.3f} s")
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"ratio sightline / torchvision: {medians['sightline'] / medians['torchvision']:.3f} (median)")


if __name__ == "__main__":
    main()
