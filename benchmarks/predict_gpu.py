"""Time and memory of prediction on a GPU: R50-FPN and R101-FPN beside torchvision's, in turn in one process. One command:

    python benchmarks/predict_gpu.py --output gpu/

It writes predict_gpu.json and predict_gpu.md, and prints the table. Rows are batches of 1 and 8 of each network, each in these
ways: torchvision in float32; plain; optimised in fp32, fp16 and bf16; and these three compiled (--no-compile leaves them out; a
minute or more a network, batch and precision, once: programs are kept below --programs). Whatever is refused on the spot,
because its answers differ or it cannot run, is left out, and the table says why.

    python benchmarks/predict_gpu.py --device cpu --tiny

shows that it works. Each way predicts the same resized pictures. Times are of the clock, of the detector alone, from pictures
in the machine's memory to detections there, with the GPU awaited; peak memory is torch's, during the prediction. The weights
are random ones under which 1,000 proposals reach the box head, the same in all ways.
"""

import argparse
import datetime
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from predict_cpu import CLASSES, a_picture, configuration
from serve_speed import in_range
from torchvision_peer import r50_fpn

from sightline.errors import ConfigError
from sightline.model.build import build_detector, build_predictor
from sightline.model.compiled import compiled
from sightline.model.optimized import PRECISIONS, OptimizedPredictor, optimized
from sightline.model.predictor import Predictor
from sightline.records import Image, ImageSize
from sightline.tensors import to_tensor

Call = Callable[[], object]

WARM_UP = 3
"""Calls before any counts: libraries choose their kernels at the first."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way of one network. times: seconds of the clock, one a round; none where `refused` says why. peak: MiB on the GPU."""

    network: str
    batch: int
    way: str
    times: tuple[float, ...] = ()
    peak: float = 0.0
    refused: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def plain_predictor(depth: int, height: int, width: int, device: str) -> Predictor:
    config = configuration(height, width, depth)
    torch.manual_seed(0)
    detector = build_detector(config)
    detector.load_state_dict(in_range(detector.state_dict()))
    return build_predictor(detector.to(device), config)


def torchvision_call(plain: Predictor, depth: int, images: Sequence[Image], device: str) -> Call:
    height, width = images[0].shape[:2]
    state = {name: tensor.cpu() for name, tensor in plain.detector.state_dict().items()}
    peer = r50_fpn(min(height, width), max(height, width), CLASSES, state, depth).to(device)

    def call() -> object:
        with torch.inference_mode():
            found = peer([to_tensor(image, "RGB").to(device).float() / 255 for image in images])
            return [{name: tensor.cpu() for name, tensor in one.items()} for one in found]

    return call


def calls_of(depth: int, images: Sequence[Image], asked: argparse.Namespace) -> tuple[dict[str, Call], dict[str, str]]:
    """({way: one prediction of `images`}, {way: why it is refused})."""
    size = ImageSize(*images[0].shape[:2])
    plain = plain_predictor(depth, *size, asked.device)

    def call_of(predictor: Predictor) -> Call:
        return lambda: [predictor.detections(found, size) for found in predictor.found(images, [size] * len(images))]

    calls, refused = {"torchvision": torchvision_call(plain, depth, images, asked.device), "plain": call_of(plain)}, {}
    for precision in asked.precision:
        try:
            fast = optimized(plain, precision, insist=True)
            assert isinstance(fast, OptimizedPredictor)
            calls[f"optimised {precision}"] = call_of(fast)
            if not asked.compile:
                continue
            made = compiled(plain, fast, [(len(images), size)], asked.programs)
        except ConfigError as error:
            refused[f"{precision}"] = error.what
            continue
        if made is fast:
            refused[f"compiled {precision}"] = "the log above says why"
        else:
            calls[f"compiled {precision}"] = call_of(made)
    return calls, refused


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


def rows_of(depth: int, batch: int, asked: argparse.Namespace) -> list[Row]:
    """All ways of one network and batch, in turn."""
    images = [np.roll(a_picture(asked.height, asked.width), 16 * number, axis=1) for number in range(batch)]
    calls, refused = calls_of(depth, images, asked)
    for call in calls.values():
        for _ in range(WARM_UP if asked.rounds > 1 else 1):
            call()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(asked.rounds):
        for name, call in calls.items():
            found[name].append(measured(call, asked.device))
    network = f"R{depth}-FPN"
    rows = [
        Row(network, batch, name, tuple(seconds for seconds, _ in pairs), max(peak for _, peak in pairs))
        for name, pairs in found.items()
    ]
    return rows + [Row(network, batch, name, refused=why) for name, why in refused.items()]


def table(rows: Sequence[Row]) -> str:
    """In Markdown. Ratios are of the medians, beside torchvision in float32 with the same network and batch."""
    lines = [
        "| network | batch | way | ms a batch: median (least to most) | pictures/s | times torchvision | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {(row.network, row.batch): row.median for row in rows if row.way == "torchvision"}
    for row in rows:
        begin = f"| {row.network} | {row.batch} | {row.way} |"
        if row.refused:
            lines.append(f"{begin} refused: {row.refused} | | | |")
            continue
        least, most = 1000 * min(row.times), 1000 * max(row.times)
        lines.append(
            f"{begin} {1000 * row.median:.1f} ({least:.1f} to {most:.1f}) | {row.batch / row.median:.1f} "
            f"| {base[row.network, row.batch] / row.median:.2f} | {row.peak:.0f} |"
        )
    return "\n".join(lines)


def machine(device: str) -> dict[str, object]:
    """What figures depend on."""
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "device": gpu or platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "tf32": {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
        if gpu
        else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--depth", type=int, nargs="+", choices=(50, 101), default=[50, 101])
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    parser.add_argument("--programs", type=Path, default=Path("build/programs"), help="where compiled programs are kept")
    parser.add_argument("--output", type=Path, help="a folder for predict_gpu.json and predict_gpu.md")
    parser.add_argument("--tiny", action="store_true", help="one round of R50-FPN in fp32 on 96 x 64 px: does it work?")
    asked = parser.parse_args(words)
    if asked.tiny:
        asked.rounds, asked.batch, asked.depth, asked.height, asked.width, asked.precision = 1, [1], [50], 64, 96, ["fp32"]
    if asked.compile is None:
        asked.compile = asked.device.startswith("cuda")
    return asked


def main(words: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    asked = parsed(words)
    about = machine(asked.device)
    rows = [row for depth in asked.depth for batch in asked.batch for row in rows_of(depth, batch, asked)]
    facts = ", ".join(f"{name} {value}" for name, value in about.items() if value is not None)
    text = f"{facts}; {asked.width} x {asked.height} px, {asked.rounds} rounds in turn\n\n{table(rows)}\n"
    print(text)
    if asked.output is not None:
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "predict_gpu.md").write_text(text, encoding="utf-8")
        settings = {"width": asked.width, "height": asked.height, "rounds": asked.rounds}
        values = {"machine": about, "settings": settings, "rows": [asdict(row) for row in rows]}
        (asked.output / "predict_gpu.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
