"""Time of one training step on the CPU: Faster R-CNN R50-FPN, Sightline against torchvision, in turn in one process.

    python benchmarks/train_cpu.py [--rounds 10] [--side 320] [--batch 2] [--threads 1] [KEY VALUE ...]

Both detectors have random weights, constant norms, a frozen stem and res2, the same pictures and boxes, 2,000 proposals after
suppression, and samples of 256 anchors and 512 proposals a picture. A step is forward, backward and SGD. Prints the medians and
how many times as many pictures Sightline trains on, by the clock and by the processor time of this process, which other work on
the machine disturbs less. KEY VALUE overrides Sightline's configuration: with
MODEL.RESNETS.STRIDE_IN_1X1 False its ResNet does the same arithmetic as torchvision's (Detectron2's own does 7 % less).
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from sightline.config.sources import load
from sightline.model.build import build_detector
from sightline.model.instances import Targets
from sightline.training.optimizer import build_optimizer

PROPOSALS = 2000
"""Proposals a picture after suppression: torchvision's default. Detectron2's baselines keep 1,000."""

OBJECTS = 8
"""Boxes a picture; COCO has 7 on average."""

RESIDUAL_GAIN = 0.2
"""Scale of the last norm in each residual block. Random weights under constant norms would double the activations with every
block, and proposals made of numbers in the thousands are mostly no boxes at all."""

RATE = 1e-4
"""So small that both sides stay near their random start and keep working on the same number of proposals."""

Step = Callable[[Sequence[Tensor], Sequence[Targets]], float]
"""One training step on (3, H, W) uint8 pictures and their boxes; returns the sum of the losses."""


def by_sightline(overrides: Sequence[str]) -> Step:
    fixed = ["MODEL.WEIGHTS", "", "MODEL.RPN.POST_NMS_TOPK_TRAIN", str(PROPOSALS), "SOLVER.BASE_LR", str(RATE)]
    fixed += ["MODEL.PIXEL_STD", "(57.4, 57.1, 58.4)"]  # pixels near 1, as torchvision has them
    config = load("COCO-Detection/faster_rcnn_R_50_FPN_1x", [*fixed, *overrides])
    model = build_detector(config).train()
    scale_norms(model, "conv3.norm.weight")
    optimizer = build_optimizer(model, config.solver)
    return lambda images, targets: step(model(images, targets), optimizer)


def by_torchvision(side: int, longest: int) -> Step:
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3)
    sizes = {"min_size": side, "max_size": longest}
    model = FasterRCNN(backbone, num_classes=81, rpn_post_nms_top_n_train=PROPOSALS, **sizes).train()
    scale_norms(model, "bn3.weight")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=RATE, momentum=0.9, weight_decay=1e-4)

    def train(images: Sequence[Tensor], targets: Sequence[Targets]) -> float:
        pictures = [image.float() / 255 for image in images]
        truth = [{"boxes": target.boxes, "labels": target.labels + 1} for target in targets]
        return step(model(pictures, truth), optimizer)

    return train


def scale_norms(model: nn.Module, ending: str) -> None:
    for name, value in model.state_dict().items():
        if name.endswith(ending):
            value.fill_(RESIDUAL_GAIN)


def step(losses: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> float:
    total = torch.stack(tuple(losses.values())).sum()
    optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return total.item()


def some_pictures(batch: int, height: int, width: int) -> tuple[list[Tensor], list[Targets]]:
    """Noise and boxes of a tenth to half of the picture's sides."""
    chance = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, height, width), generator=chance, dtype=torch.uint8) for _ in range(batch)]
    targets = []
    for _ in images:
        corners = torch.rand(OBJECTS, 2, generator=chance) * 0.5
        sides = 0.1 + torch.rand(OBJECTS, 2, generator=chance) * 0.4
        boxes = torch.cat((corners, corners + sides), dim=1) * torch.tensor([width, height, width, height])
        targets.append(Targets(boxes, torch.randint(0, 80, (OBJECTS,), generator=chance)))
    return images, targets


def seconds(train: Step, images: Sequence[Tensor], targets: Sequence[Targets]) -> tuple[float, float]:
    """(by the clock, of processor time)."""
    began, used = time.perf_counter(), time.process_time()
    train(images, targets)
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--side", type=int, default=320, help="pixels of the shorter side; the longer is 4/3 of it")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    height, width = options.side, options.side * 4 // 3
    images, targets = some_pictures(options.batch, height, width)
    sides = {"sightline": by_sightline(options.overrides), "torchvision": by_torchvision(height, width)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for train in sides.values():
        train(images, targets)  # warm
    for _ in range(options.rounds):
        for name, train in sides.items():
            times[name].append(seconds(train, images, targets))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}; ", end="")
    print(f"{options.batch} pictures of {width} x {height} px")
    for index, clock in enumerate(("by the clock", "processor")):
        taken = {name: [pair[index] for pair in found] for name, found in times.items()}
        medians, least = ({name: f(found) for name, found in taken.items()} for f in (statistics.median, min))
        for name in sides:
            rate = options.batch / medians[name]
            print(f"{name:12} {clock:13} median {medians[name]:.3f} s, least {least[name]:.3f} s; {rate:.2f} pictures a second")
        ratio, of_least = (found["torchvision"] / found["sightline"] for found in (medians, least))
        print(f"{'ratio':12} {clock:13} median {ratio:.2f}, of the least times {of_least:.2f}")


if __name__ == "__main__":
    main()
