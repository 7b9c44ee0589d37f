"""Which runtime a model is run by, and what is installed to choose from."""

import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Runtime = Literal["torch", "onnx", "openvino"]
Asked = Literal["auto", "torch", "onnx", "openvino"]

GRAPH_RUNTIMES: tuple[Runtime, ...] = ("onnx", "openvino")

CPU_ORDER: tuple[Runtime, ...] = ("torch", "openvino", "onnx")
"""On a CPU, the first that is installed and that the model has the file for: the fastest first.

Measured in turn on two cores, R50-FPN at 800 px: 2.3, 2.7 and 3.2 s a picture (docs/benchmarks/)."""

MODULES: dict[Runtime, str] = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}

GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""Of which a Linux with a GPU that torch can use has one: NVIDIA's driver, Jetson's, that of Windows' Linux, AMD's."""


def installed(runtime: Runtime) -> bool:
    """Whether what runs it is there; it is not imported."""
    module = MODULES[runtime]
    if module in sys.modules:
        return sys.modules[module] is not None  # None is how an import is forbidden
    return importlib.util.find_spec(module) is not None


def choose(order: Sequence[Runtime], *, weights: bool, graph: bool) -> Runtime | None:
    """The first of `order` that is installed and has its file: torch the weights, the others the graph; None: there is none."""
    return next((one for one in order if (weights if one == "torch" else graph) and installed(one)), None)


def may_have_gpu() -> bool:
    """Whether it is worth asking torch for a GPU, which takes seconds: False where there certainly is none."""
    system = platform.system()
    if system == "Linux":
        return any(Path(name).exists() for name in GPU_FILES)
    return system != "Darwin"  # whose GPUs nothing here takes by itself
