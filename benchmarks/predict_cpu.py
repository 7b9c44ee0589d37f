"""Time to predict one picture on the CPU: R50-FPN at 800 px, Sightline plain and optimised beside torchvision, in turn.

    python benchmarks/predict_cpu.py [--rounds 5] [--height 800] [--width 1066] [--threads N] [--onnx]

All have the same weights, random ones under which 1,000 proposals reach the box head (`in_range` of serve_speed.py), the same
resized picture, the same thresholds. With torchvision's RoIAlign on our side and our anchors on torchvision's, which rounds its
own, the networks are the same, and their detections are compared first. Prints processor time and clock, each as medians and as
the median of the ratios within a round; the time of each part; and the rate of torch.mm on large matrices, taken anew in every
round, beside that of the backbone. An operation counts as in a direct convolution: Winograd's way may be faster than torch.mm.

--onnx adds ONNX Runtime and OpenVINO, those that are installed, with the graph exported from the same detector and the settings
that Sightline runs them with: what CPU_ORDER of runtimes/choice.py goes by. Each has threads of its own; before each call the
others get a moment to fall asleep. OMP_WAIT_POLICY=passive in the environment keeps torch's from spinning at all.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torchvision
from serve_speed import in_range
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision_peer import r50_fpn

from sightline.config.schema import Config
from sightline.config.sources import load
from sightline.model.build import build_detector, build_predictor
from sightline.model.detector import Detector
from sightline.model.optimized import optimized
from sightline.model.predictor import Predictor
from sightline.records import Detections, Image, Predict
from sightline.runtimes import onnxruntime, openvino
from sightline.runtimes.choice import GRAPH_RUNTIMES, installed
from sightline.runtimes.graph import Told
from sightline.runtimes.predictor import GraphPredictor
from sightline.tensors import to_tensor

CLASSES = 80
PIXELS, SCORE = 0.05, 1e-4
"""How far detections of the same network may lie apart."""

MATRIX, PRODUCTS = 2048, 4

OPSET = 17

ASLEEP_S = 0.3
"""Until threads of another library, which wait for work, do not spin any more."""


def configuration(height: int, width: int, depth: int = 50) -> Config:
    """R50-FPN, or R101-FPN, with strides, RoIAlign and thresholds as torchvision has them."""
    words = f"""MODEL.RESNETS.STRIDE_IN_1X1 False  INPUT.MIN_SIZE_TEST {min(height, width)}
        INPUT.MAX_SIZE_TEST {max(height, width)}  MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.05  MODEL.DEVICE cpu
        MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign  MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2"""
    return load(f"COCO-Detection/faster_rcnn_R_{depth}_FPN_3x", ["MODEL.WEIGHTS", "", *words.split()])


def a_picture(height: int, width: int) -> Image:
    """Noise of two scales, as photographs have structure of many."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 156, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)[:height, :width]
    return (coarse + rng.integers(0, 100, (height, width, 3))).astype(np.uint8)


@contextmanager
def timed(modules: dict[str, nn.Module], spent: dict[str, float]) -> Iterator[None]:
    """Adds each module's processor seconds to `spent`, meanwhile."""
    handles, began = [], {}
    for name, module in modules.items():

        def before(_: nn.Module, inputs: object, name: str = name) -> None:
            began[name] = time.process_time()

        def after(_: nn.Module, inputs: object, output: object, name: str = name) -> None:
            spent[name] = spent.get(name, 0.0) + time.process_time() - began[name]

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    yield
    for handle in handles:
        handle.remove()


def named_parts(model: nn.Module) -> dict[str, nn.Module]:
    if isinstance(model, FasterRCNN):
        heads = {"RoIAlign": model.roi_heads.box_roi_pool, "box head": model.roi_heads.box_head}
        return {"backbone": model.backbone, "RPN head": model.rpn.head, "RPN": model.rpn, **heads, "heads": model.roi_heads}
    rpn = model.get_submodule("proposal_generator")
    heads = {"RoIAlign": model.get_submodule("roi_heads.box_pooler"), "box head": model.get_submodule("roi_heads.box_head")}
    return {"backbone": model.get_submodule("backbone"), "RPN head": rpn.get_submodule("rpn_head"), "RPN": rpn, **heads}


def told_parts(spent: dict[str, float], whole: float) -> str:
    """The parts in their order. What is no module of its own is told as the rest of what it is in."""
    known = {name: spent[name] for name in ("backbone", "RPN head", "RoIAlign", "box head")}
    known["proposals: decoding, NMS"] = spent["RPN"] - spent["RPN head"]
    known["class NMS, picture, rest"] = whole - spent["backbone"] - spent["RPN"] - spent["RoIAlign"] - spent["box head"]
    return ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in known.items())


def convolution_operations(backbone: nn.Module, batch: Tensor) -> float:
    """GFLOP of a plain backbone's convolutions on `batch`, two an element of the sums."""
    total = [0.0]

    def count(layer: nn.Conv2d, inputs: object, output: Tensor) -> None:
        total[0] += 2 * output[0].numel() * layer.weight[0].numel() / 1e9

    handles = [part.register_forward_hook(count) for part in backbone.modules() if isinstance(part, nn.Conv2d)]
    with torch.inference_mode():
        backbone(batch)
    for handle in handles:
        handle.remove()
    return total[0]


def product_rate() -> tuple[float, float]:
    """GFLOP a second of torch.mm in float32: (of the clock, of processor time times threads)."""
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    out = torch.mm(a, b)
    clock, processor = measured(lambda: [torch.mm(a, b, out=out) for _ in range(PRODUCTS)])
    work = PRODUCTS * 2 * MATRIX**3 / 1e9
    return work / clock, work / processor * torch.get_num_threads()


def measured(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def graph_predictors(detector: Detector, config: Config, threads: int) -> dict[str, GraphPredictor]:
    """{name: the detector as a graph in a runtime}, for each one installed."""
    from sightline.exporting.detector import graph_of

    onnx = graph_of(detector, config.input.format, OPSET).SerializeToString()
    least = config.model.roi_heads.score_thresh_test
    told = Told(
        format=1,
        classes=tuple(f"class {label}" for label in range(CLASSES)),
        min_size=config.input.min_size_test,
        max_size=config.input.max_size_test,
        size_divisor=detector.size_divisor,
        score_threshold=least,
        max_detections=config.test.detections_per_image,
        masks=False,
        proposes=False,
        weights_sha256="",
        precision="fp32",
        opset=OPSET,
        made_by="the benchmark",
        verified={},
    )
    found = {}
    for name, runtime in zip(GRAPH_RUNTIMES, (onnxruntime, openvino), strict=True):
        if installed(name):
            running = runtime.start(onnx, "the graph", device="cpu", threads=threads)
            print(running.name)
            found[name] = GraphPredictor(running, told, "the graph", score_threshold=least, classes=CLASSES)
    return found


def agree(ours: Detections, theirs: dict[str, Tensor]) -> str:
    """That every detection has its like in the other answer, as a line to print."""
    boxes, scores, labels = theirs["boxes"].numpy(), theirs["scores"].numpy(), theirs["labels"].numpy() - 1
    if len(ours) != len(scores):
        raise SystemExit(f"{len(ours)} detections against {len(scores)}: not the same network.")
    worst_box = worst_score = 0.0
    for box, score, label in zip(ours.boxes, ours.scores, ours.labels, strict=True):
        same = np.flatnonzero(labels == label)
        apart = np.abs(boxes[same] - box).max(axis=1) if len(same) else np.array([np.inf])
        best = int(apart.argmin())
        worst_box = max(worst_box, float(apart[best]))
        worst_score = max(worst_score, abs(float(scores[same[best]]) - float(score)) if len(same) else np.inf)
    if worst_box > PIXELS or worst_score > SCORE:
        raise SystemExit(f"Boxes differ by {worst_box:.3g} px and scores by {worst_score:.1e}: not the same answers.")
    return f"{len(ours)} detections each, at most {worst_box:.1e} px and {worst_score:.1e} of the score apart"


def report(times: dict[str, list[tuple[float, float]]]) -> None:
    for name, pairs in times.items():
        clock, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
        line = f"{name:12} clock {clock:.3f} s, processor {processor:.3f} s (medians)"
        if name != "torchvision":
            ratios = [
                [theirs[kind] / ours[kind] for theirs, ours in zip(times["torchvision"], pairs, strict=True)] for kind in (0, 1)
            ]
            spans = [f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
            line += f"; times as fast as torchvision: clock {spans[0]}, processor {spans[1]}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--onnx", action="store_true", help="also ONNX Runtime and OpenVINO")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    config = configuration(asked.height, asked.width)
    detector = build_detector(config)
    detector.load_state_dict(in_range(detector.state_dict()))
    plain = build_predictor(detector, config)
    fast = optimized(plain)
    if fast is plain:
        raise SystemExit("The optimised predictor was refused.")
    peer = r50_fpn(min(asked.height, asked.width), max(asked.height, asked.width), CLASSES, detector.state_dict())
    # torchvision rounds its anchors to pixels
    peer.rpn.anchor_generator.cell_anchors = detector.get_submodule("proposal_generator").anchors.cells  # type: ignore[union-attr]
    image = a_picture(asked.height, asked.width)
    graphs = graph_predictors(detector, config, asked.threads) if asked.onnx else {}
    compare_all(plain, fast, graphs, peer, image, asked.rounds)


def compare_all(
    plain: Predictor, fast: Predictor, graphs: Mapping[str, Predict], peer: FasterRCNN, image: Image, rounds: int
) -> None:
    picture = to_tensor(image, "RGB").float() / 255

    def by_peer() -> list[dict[str, Tensor]]:
        with torch.inference_mode():
            found: list[dict[str, Tensor]] = peer([picture])
        return found

    print(f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}; {image.shape[1]} x {image.shape[0]} px, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at first")
    (theirs,) = by_peer()
    for name, predictor in {"plain": plain, "optimised": fast, **graphs}.items():
        print(f"{name} and torchvision: {agree(predictor([image])[0], theirs)}")
    batch, sizes = plain.detector.batch([to_tensor(image, plain.color_order)])
    with torch.inference_mode():
        proposals = plain.detector.get_submodule("proposal_generator")(plain.detector.extract(batch), sizes)[0][0]
    work = convolution_operations(plain.detector.get_submodule("backbone"), batch)
    print(f"{len(proposals.boxes)} proposals; backbone {work:.0f} GFLOP by formula", flush=True)

    calls: dict[str, tuple[nn.Module | None, Callable[[], object]]] = {
        "torchvision": (peer, by_peer),
        "plain": (plain.detector, lambda: plain([image])),
        "optimised": (fast.detector, lambda: fast([image])),
    }
    calls |= {name: (None, lambda graph=graph: graph([image])) for name, graph in graphs.items()}  # type: ignore[misc]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    spent: dict[str, dict[str, float]] = {name: {} for name in calls}
    shares: list[tuple[float, float]] = []
    for _ in range(rounds):
        for name, (model, call) in calls.items():
            time.sleep(ASLEEP_S)
            with timed(named_parts(model) if model else {}, spent[name]):
                times[name].append(measured(call))
        rate = product_rate()
        with torch.inference_mode():
            clock, processor = measured(lambda: fast.detector.extract(batch))
        shares.append((work / clock / rate[0], work / (processor / torch.get_num_threads()) / rate[1]))
        print(f"  torch.mm {rate[0]:.0f} GFLOP/s of the clock, {rate[1]:.0f} of processor time", flush=True)
    report(times)
    for name in ("torchvision", "plain", "optimised"):
        whole = statistics.mean(processor for _, processor in times[name])
        mean = {part: seconds / rounds for part, seconds in spent[name].items()}
        print(f"{name}, ms of processor time (means): {told_parts(mean, whole)}")
    clock_share, share = (statistics.median(values) for values in zip(*shares, strict=True))
    print(f"optimised backbone: {clock_share:.0%} of torch.mm's rate by the clock, {share:.0%} by processor time (medians)")
    print(f"load {os.getloadavg()[0]:.1f} at last")


if __name__ == "__main__":
    main()
