"""What `--compile` costs and gains on the CPU: R50-FPN plain, optimised and compiled, in turn in one process, on one thread.

    python benchmarks/compiled.py [--rounds 4] [--height 480] [--width 640] [--programs DIR]

First the optimised detector is compiled for one picture of that size, twice: the first time anew (processor time of this
process and of the C++ compiler that it calls), the second time from the programs that the first one kept. Then four ways
predict the same resized picture; the fourth is the compiled detector without its programs. Times are of the processor, medians
of the rounds. The weights are random ones under which 1,000 proposals reach the box head (`in_range` of serve_speed.py).

    python benchmarks/compiled.py --tiny

shows that it works. --programs: where programs are kept; those that are there already are not compiled anew.
"""

import argparse
import copy
import logging
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from predict_cpu import a_picture, configuration
from serve_speed import in_range

from sightline.model.build import build_detector, build_predictor
from sightline.model.compiled import compiled
from sightline.model.optimized import OptimizedPredictor, optimized
from sightline.model.predictor import Predictor
from sightline.records import ImageSize


def processor_s() -> float:
    """Of this process and of those that it started and that have ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def predictors(size: ImageSize, programs: Path) -> dict[str, Predictor]:
    """{way: predictor}; prints what compiling takes. A way that is not to be had is left out: the log says why."""
    config = configuration(*size)
    torch.manual_seed(0)
    detector = build_detector(config)
    detector.load_state_dict(in_range(detector.state_dict()))
    plain = build_predictor(detector, config)
    fast = optimized(plain)
    if not isinstance(fast, OptimizedPredictor):
        raise SystemExit("The optimised detector is not used here, so nothing is compiled; the log says why.")
    made = fast
    for start in ("first start", "next start"):
        began = processor_s()
        made = compiled(plain, fast, [(1, size)], programs)
        print(f"{start}: {processor_s() - began:.1f} s of processor time to compile, load and compare")
    ways = {"plain": plain, "optimised": fast}
    return ways if made is fast else {**ways, "compiled": made, "its parts uncompiled": copy.deepcopy(made)}


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--programs", type=Path, help="where compiled programs are kept; default: a folder that is removed")
    parser.add_argument("--tiny", action="store_true", help="one round on 96 x 64 px")
    asked = parser.parse_args(words)
    if asked.tiny:
        asked.rounds, asked.height, asked.width = 1, 64, 96
    return asked


def main(words: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    asked = parsed(words)
    torch.set_num_threads(1)
    size, picture = ImageSize(asked.height, asked.width), a_picture(asked.height, asked.width)
    about = f"torch {torch.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(f"R50-FPN, {size.width} x {size.height} px, one thread, {asked.rounds} rounds in turn; {about}")
    with tempfile.TemporaryDirectory() as folder:
        ways = predictors(size, asked.programs or Path(folder) / "programs")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for predictor in ways.values():
            predictor.found([picture], [size])
        for _ in range(asked.rounds):
            for name, predictor in ways.items():
                began = time.process_time()
                predictor.found([picture], [size])
                times[name].append(time.process_time() - began)
    for name, seconds in times.items():
        print(f"{name:21} {statistics.median(seconds):.3f} s of processor time ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    main()
