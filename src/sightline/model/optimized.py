"""A predictor rebuilt for speed, and the comparison with the plain one that it has to pass where it runs.

The plain detector stays the truth: every part of it runs on a drawn picture, its fast counterpart runs on the same inputs, and
their answers are compared number by number. Comparing final detections instead would need a picture with objects, and two equal
scores could swap places for no fault of anybody's.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ConfigError
from sightline.model.box_head import BoxHead
from sightline.model.detector import Detector
from sightline.model.fast_parts import Maker
from sightline.model.fpn import FPN
from sightline.model.instances import Found, Proposals
from sightline.model.mask_head import MaskHead
from sightline.model.pooling import Pooler
from sightline.model.predictor import Predictor
from sightline.model.rcnn import GeneralizedRCNN
from sightline.model.resnet import ResNet
from sightline.model.retinanet import RetinaNetHead
from sightline.model.roi_heads import Res5ROIHeads
from sightline.model.rpn import RPNHead
from sightline.records import Image, ImageSize
from sightline.tensors import to_tensor

LOG = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

TOLERANCE = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05}
"""How far an answer may be from the plain one's: in float32 any number, as a share of the largest (what parity with Detectron2
is held to); in half precision the root of the mean square, as a share of the answers' own."""

PARTS = (ResNet, FPN, RPNHead, RetinaNetHead, Pooler, BoxHead, MaskHead)
"""What is compared, each in the place where it stands; a part within another of these is not compared again."""

SAMPLE = ImageSize(160, 224)
"""Of the drawn picture: 4 % of the pixels of a photograph at 800 px, and five cells in the coarsest level."""

DRAWN_BOXES = 16


class OptimizedPredictor(Predictor):
    """A `Predictor` with a fast copy of its detector.

    precision:    "fp32", "fp16" or "bf16" of the convolutions and products
    for_compiler: the copy is made of what torch's compiler knows (`compiled.py`)
    """

    def __init__(self, plain: Predictor, precision: str, *, for_compiler: bool = False) -> None:
        detector = Maker(PRECISIONS[precision], for_compiler=for_compiler)(plain.detector)
        assert isinstance(detector, Detector)
        size = plain.input_size
        super().__init__(
            detector,
            min_size=size.min_size,
            max_size=size.max_size,
            color_order=plain.color_order,
            variations=plain.variations,
        )
        self.precision = precision

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Where the detector runs: in half precision layers that were not rebuilt follow."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.detector.device.type, PRECISIONS[self.precision])

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Found]:
        with self.arithmetic():
            return super().found(resized, sizes)


def optimized(plain: Predictor, precision: str = "fp32", *, insist: bool = False) -> Predictor:
    """`plain` rebuilt for speed where that gives the same answers; `plain` itself, with a warning, where it does not.

    The two share what has no faster form, and `plain` is not changed. Let go of it: its other weights are a second copy.

    precision: "fp32" has the plain predictor's numbers up to rounding; "fp16" and "bf16" are for GPUs
    insist:    an error where it would be `plain`

    Raises:
        ConfigError: no such precision; or other answers than allowed, of one who insists.
    """
    if precision not in PRECISIONS:
        raise ConfigError("precision", f"{precision!r} is none", f"Use one of {', '.join(PRECISIONS)}.")
    try:
        with torch.no_grad():
            made = OptimizedPredictor(plain, precision)
        wrong = compare(plain, made)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # an operator that this build of torch lacks
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        wrong = [f"it cannot run here ({first_line})"]
    if not wrong:
        return made
    why = "; ".join(wrong)
    if insist:
        fix = "Use another, with --precision: fp32 is the usual one."
        raise ConfigError("precision", f"{precision} cannot be used for this model here: {why}", fix)
    LOG.warning("The optimised model (%s) is not used: %s. Predictions are made without it.", precision, why)
    return plain


def compare(plain: Predictor, made: OptimizedPredictor) -> list[str]:
    """Where the answers of the two differ beyond what the precision allows; empty where they agree.

    Both run on one small drawn picture, and their heads on drawn boxes: 0.3 s with R50-FPN on one core, where a picture of
    full size takes both 8 s.
    """
    return [f"{name} {worst}" for name, worst in differences(plain, made, SAMPLE).items()]


def differences(plain: Predictor, made: OptimizedPredictor, size: ImageSize, pictures: int = 1) -> dict[str, str]:
    """{part: how its answers differ beyond what the precision allows} on `pictures` drawn ones of `size`, at that size."""
    found: dict[str, str] = {}  # by part, which may run more than once

    def check(name: str, twin: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        with made.arithmetic():
            answer = twin(*inputs)
        if worst := difference(list(tensors(answer)), list(tensors(output)), made.precision):
            found[name] = worst

    with torch.inference_mode(), watched(plain.detector, made.detector, check):
        run_everything(plain.detector, plain.color_order, size, pictures)
    return found


@contextmanager
def watched(plain: Detector, twin: Detector, check: Any) -> Iterator[None]:
    """Calls check(name, twin's part, inputs, output) after every part of `plain` that has run, meanwhile."""
    handles = []
    for name, part in parts(plain):
        other = twin.get_submodule(name)

        def hook(_: nn.Module, inputs: Any, output: Any, name: str = name, other: nn.Module = other) -> None:
            check(name, other, inputs, output)

        handles.append(part.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parts(detector: Detector) -> list[tuple[str, nn.Module]]:
    """(name, part) of what is compared, outermost first."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in detector.named_modules():
        stage = name.endswith(".res5") and isinstance(detector.get_submodule(name.rpartition(".")[0]), Res5ROIHeads)
        if (isinstance(module, PARTS) or stage) and not any(name.startswith(f"{outer}.") for outer, _ in found):
            found.append((name, module))
    return found


def run_everything(detector: Detector, color_order: str, size: ImageSize, pictures: int) -> None:
    """One prediction of drawn pictures, heads on drawn boxes: a model that finds nothing in them is compared as well."""
    batch, sizes = detector.batch([to_tensor(drawn_picture(size), color_order)] * pictures)
    features = detector.extract(batch)
    if not isinstance(detector, GeneralizedRCNN):
        detector.find(features, sizes)
        return
    detector.proposal_generator(features, sizes)
    boxes = drawn_boxes(size).to(batch.device)
    scores = torch.ones(len(boxes), device=batch.device)
    labels = torch.zeros(len(boxes), dtype=torch.int64, device=batch.device)
    detector.roi_heads.find(features, [Proposals(boxes, scores)] * pictures, sizes)
    detector.with_masks(features, [Found(boxes, scores, labels)] * pictures)


def drawn_picture(size: ImageSize) -> Image:
    """(H, W, 3) of `size`: noise of two scales, as photographs have structure of many. Always the same."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 156, (-(-size.height // 16), -(-size.width // 16), 3)).repeat(16, 0).repeat(16, 1)
    return (coarse[: size.height, : size.width] + rng.integers(0, 100, (*size, 3))).astype(np.uint8)


def drawn_boxes(size: ImageSize) -> Tensor:
    """(N, 4) of all sizes inside a picture of `size`, so that every level is pooled from."""
    rng = np.random.default_rng(1)
    limits = np.array([size.width, size.height])
    sides = limits * np.geomspace(0.05, 1.0, DRAWN_BOXES)[:, None]
    corners = rng.uniform(0, 1, (DRAWN_BOXES, 2)) * (limits - sides)
    return torch.from_numpy(np.hstack([corners, corners + sides]).astype(np.float32))


def tensors(answer: Any) -> Iterator[Tensor]:
    """All tensors in dictionaries, lists and tuples, in their order."""
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, dict):
        for value in answer.values():
            yield from tensors(value)
    elif isinstance(answer, list | tuple):
        for value in answer:
            yield from tensors(value)


def difference(answers: Sequence[Tensor], wanted: Sequence[Tensor], precision: str) -> str:
    """What is wrong with `answers`; "" where they agree."""
    if [a.shape for a in answers] != [w.shape for w in wanted]:
        return "has another shape"
    for answer, truth in zip(answers, wanted, strict=True):
        if not truth.numel():
            continue
        apart, size = answer.double() - truth.double(), truth.double()
        if precision == "fp32":
            share = float(apart.abs().max() / size.abs().max().clamp(min=1e-30))
        else:
            share = float(apart.square().mean().sqrt() / size.square().mean().sqrt().clamp(min=1e-30))
        if not share <= TOLERANCE[precision]:  # also what is not a number
            return f"differs by {share:.1e}, {TOLERANCE[precision]:.0e} is allowed"
    return ""
