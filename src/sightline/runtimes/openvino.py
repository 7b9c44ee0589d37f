"""An exported graph in OpenVINO, on the CPU."""

import threading
from typing import Any

import numpy as np

from sightline.errors import BundleError, ConfigError
from sightline.optional import require
from sightline.runtimes.graph import EXPORT_AGAIN, Onnx
from sightline.runtimes.running import Answers, Batch, Running

FIRST = threading.Lock()
WARM = threading.Event()
"""The binding makes constants of C++ in its first call, and gives Python's lock away while it does: of two threads that call it
for the first time one then waits for the constant with Python's lock in hand, the other for that lock, for ever (seen with
2026.4.1 on Python 3.13, in two of four runs of `predict`). So the first call of a process is alone; `WARM` is set after it."""


def start(onnx: Onnx, where: str, *, device: str, threads: int) -> Running:
    """The graph, ready to run; arguments and errors as `onnxruntime.start`."""
    if device != "cpu":
        raise ConfigError("device", f"{device!r} is none that OpenVINO is used on", "Use cpu, or --runtime torch.")
    module = require("openvino", "openvino", "running model.onnx with OpenVINO")
    core = module.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # of itself it would compute in bfloat16 where the processor can
        "ENABLE_CPU_PINNING": False,  # pinned threads cannot give way to other programs
    }
    try:
        model = core.read_model(onnx, b"") if isinstance(onnx, bytes) else core.read_model(str(onnx))
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:  # RuntimeError of many kinds
        said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise BundleError(where, f"cannot be run by OpenVINO ({said[-1].strip()[:300]})", EXPORT_AGAIN) from error
    version = module.__version__.partition("-")[0]
    return Running(
        f"OpenVINO {version}, CPU, {threads} threads",
        device,
        runner(compiled, [output.get_any_name() for output in model.outputs]),
    )


def runner(compiled: Any, names: list[str]) -> Any:
    """The call that runs the graph; each thread of Python has a request of its own, which holds its results.

    names: of the outputs in their order, as the graph has them: what is compiled may call them by names of its own as well
    """
    own = threading.local()

    def run(batch: Batch) -> Answers:
        if WARM.is_set():
            return answered(batch)
        with FIRST:
            answers = answered(batch)
        WARM.set()
        return answers

    def answered(batch: Batch) -> Answers:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        given = {
            "pictures": batch.pictures,
            "sizes": batch.sizes,
            "score_threshold": np.array(batch.score_threshold, dtype=np.float32),
        }
        own.request.infer(given)
        return {name: own.request.get_output_tensor(place).data.copy() for place, name in enumerate(names)}

    return run
