"""TorchScript and torch.export: the traced prediction, in files that load with torch and torchvision alone."""

import io
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from sightline.errors import RunError
from sightline.exporting.forward import Forward
from sightline.exporting.verify import Answers, Ask

FACTS = "sightline.json"
"""The extra file in both formats that holds the meta-data."""

EXAMPLE_SIDE = 256
"""Pixels of the picture that is traced; no size stays in what is written."""


def example(divisor: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two pictures of noise: one would let torch.export take the batch for a constant."""
    height = -(-EXAMPLE_SIDE // divisor) * divisor
    width = height + 2 * divisor
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8))
    return noise, torch.tensor([[height, width - 7], [height - 9, width]]), torch.tensor(0.0)


@contextmanager
def quietly() -> Iterator[None]:
    """Without torch's warnings: that tracing is deprecated, and that constants become constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@torch.no_grad()
def traced(forward: Forward) -> torch.jit.ScriptModule:
    """The prediction as TorchScript."""
    with quietly():
        made: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            forward.eval(), example(forward.detector.size_divisor), check_trace=False
        )
    return made


@torch.no_grad()
def exported(forward: Forward) -> torch.export.ExportedProgram:
    """The prediction as a torch.export program with free batch and sizes.

    Raises:
        RunError: this torch cannot.
    """
    shapes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC}, None)
    given = example(forward.detector.size_divisor)
    try:
        with quietly():
            return torch.export.export(forward.eval(), given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever its passes raise of what they cannot follow
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            "torch-export", f"torch {torch.__version__} cannot export this model ({first_line})", "Use --format onnx."
        ) from error


def torchscript_bytes(made: torch.jit.ScriptModule, facts: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    with quietly():
        torch.jit.save(made, buffer, _extra_files={FACTS: json.dumps(facts, ensure_ascii=False)})
    return buffer.getvalue()


def export_bytes(made: torch.export.ExportedProgram, facts: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(made, buffer, extra_files={FACTS: json.dumps(facts, ensure_ascii=False)})
    return buffer.getvalue()


def ask_torchscript(content: bytes) -> Ask:
    """What the file gives once it is loaded again."""
    with quietly():
        return asking(torch.jit.load(io.BytesIO(content)))  # type: ignore[no-untyped-call]


def ask_export(content: bytes) -> Ask:
    with quietly():
        return asking(torch.export.load(io.BytesIO(content)).module())


def asking(module: nn.Module) -> Ask:
    """Calls it in numpy. Without the profiling of TorchScript's interpreter, which a few calls do not pay for."""

    @torch.inference_mode()
    def ask(pictures: NDArray[np.uint8], sizes: NDArray[np.int64], threshold: float) -> Answers:
        given = torch.from_numpy(pictures), torch.from_numpy(sizes), torch.tensor(threshold, dtype=torch.float32)
        try:
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                return [answer.numpy() for answer in module(*given)]
        except (AssertionError, RuntimeError) as error:  # a size that torch.export took for granted
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(
                "verification",
                f"the export does not run on {' x '.join(map(str, pictures.shape[:3]))} pixels ({first_line})",
                "Nothing was written. Use --format onnx, which takes every size.",
            ) from error

    return ask
