"""Time and memory of prediction on a GPU: R50-FPN and R101-FPN beside torchvision's R50-FPN, in turn in one process.

    python benchmarks/predict_gpu.py [--device cuda] [--rounds 20] [--batch 1 8] [--depth 50 101] [--height 800 --width 1066]
    python benchmarks/predict_gpu.py --device cpu --rounds 1 --batch 1 --depth 50 --height 96 --width 128 --precision fp32

The second line shows that it works; half precision takes minutes on a CPU without instructions for it.
Each way predicts the same resized pictures; a rate is pictures a second of the detector alone, with the GPU awaited, and copies
to it included. Ways: plain, optimised in fp32, fp16 and bf16 (each compared on the spot with the plain one and left
out, with the reason, where it is refused), and the backbone compiled by torch.compile with --compile, which takes a minute a
shape and, on a CPU, a C++ compiler; torch keeps what it compiled in a cache of its own, by its version and the device.
The weights are random ones under which 1,000 proposals reach the box head.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from predict_cpu import CLASSES, a_picture, configuration
from serve_speed import in_range
from torchvision_peer import r50_fpn

from sightline.config.sources import load
from sightline.model.build import build_detector, build_predictor
from sightline.model.optimized import PRECISIONS, optimized
from sightline.model.predictor import Predictor
from sightline.records import Image, ImageSize
from sightline.tensors import to_tensor

Call = Callable[[], object]


def plain_predictor(depth: int, height: int, width: int, device: str) -> Predictor:
    config = configuration(height, width)
    if depth == 101:
        sizes = f"INPUT.MIN_SIZE_TEST {min(height, width)} INPUT.MAX_SIZE_TEST {max(height, width)}"
        config = load("COCO-Detection/faster_rcnn_R_101_FPN_3x", ["MODEL.WEIGHTS", "", *sizes.split()])
    torch.manual_seed(0)
    detector = build_detector(config)
    detector.load_state_dict(in_range(detector.state_dict()))
    return build_predictor(detector.to(device), config)


def ways(depth: int, images: list[Image], device: str, precisions: list[str], *, compiled: bool) -> dict[str, Call]:
    """{name: one prediction of `images`}."""
    height, width = images[0].shape[:2]
    plain = plain_predictor(depth, height, width, device)
    sizes = [ImageSize(height, width)] * len(images)
    predictors = {"plain": plain}
    for precision in precisions:
        made = optimized(plain, precision)
        if made is not plain:  # else a warning has told why
            predictors[f"optimised {precision}"] = made
    if compiled:
        for name in list(predictors)[1:]:
            twin = optimized(plain, name.split()[1])
            backbone = twin.detector.backbone
            twin.detector.backbone = torch.compile(backbone, dynamic=False)  # type: ignore[assignment]
            predictors[f"{name}, compiled"] = twin
    calls: dict[str, Call] = {name: lambda one=one: one.found(images, sizes) for name, one in predictors.items()}  # type: ignore[misc]
    if depth == 50:
        state = {name: tensor.cpu() for name, tensor in plain.detector.state_dict().items()}
        peer = r50_fpn(min(height, width), max(height, width), CLASSES, state).to(device)

        def by_torchvision() -> object:
            with torch.inference_mode():
                return peer([to_tensor(image, "RGB").to(device).float() / 255 for image in images])

        calls["torchvision"] = by_torchvision
    return calls


def measured(call: Call, device: str) -> tuple[float, float]:
    """(seconds of the clock, peak MiB on the GPU during the call; 0 on a CPU)."""
    gpu = device.startswith("cuda")
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    call()
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began, torch.cuda.max_memory_allocated() / 2**20 if gpu else 0.0


def compare(depth: int, batch: int, asked: argparse.Namespace) -> None:
    images = [np.roll(a_picture(asked.height, asked.width), 16 * number, axis=1) for number in range(batch)]
    calls = ways(depth, images, asked.device, asked.precision, compiled=asked.compile)
    for call in calls.values():
        call()
        call()  # once more: libraries choose kernels at the first
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(asked.rounds):
        for name, call in calls.items():
            found[name].append(measured(call, asked.device))
    base = statistics.median(seconds for seconds, _ in found.get("torchvision", found["plain"]))
    for name, pairs in found.items():
        seconds = statistics.median(pair[0] for pair in pairs)
        print(
            f"| R{depth}-FPN | {batch} | {name} | {1000 * seconds:.1f} | {batch / seconds:.1f} | {base / seconds:.2f} "
            f"| {max(pair[1] for pair in pairs):.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--depth", type=int, nargs="+", choices=(50, 101), default=[50, 101])
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--compile", action="store_true", help="the backbone also compiled by torch.compile")
    asked = parser.parse_args()
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else platform.processor() or platform.machine()
    print(
        f"{name}; Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}; ",
        end="",
    )
    print(f"{asked.width} x {asked.height} px, {asked.rounds} rounds, medians\n")
    print("| network | batch | way | ms a batch | pictures/s | times torchvision (R101: plain) | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for depth in asked.depth:
        for batch in asked.batch:
            compare(depth, batch, asked)


if __name__ == "__main__":
    main()
