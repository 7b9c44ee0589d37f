"""An exported graph in ONNX Runtime, on the CPU or, with its build for CUDA, on a GPU."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import BundleError, ConfigError
from sightline.optional import require
from sightline.runtimes.graph import EXPORT_AGAIN, Onnx
from sightline.runtimes.running import Answers, Batch, Running

if TYPE_CHECKING:
    import onnxruntime

ERRORS_ONLY = 3
"""Its log level: what it warns of (a fallback of an operator, hardware it does not know) is nothing a user can act on."""

SHRINK = "memory.enable_memory_arena_shrinkage"


def start(onnx: Onnx, where: str, *, device: str, threads: int) -> Running:
    """The graph, ready to run.

    device:  "cpu", "cuda" or "cuda:N"
    threads: that one run uses

    Raises:
        BundleError: ONNX Runtime cannot run the graph.
        ConfigError: no such device for it here.
        MissingDependencyError: it is not installed.
    """
    module = require("onnxruntime", "onnx", "running model.onnx")
    providers = providers_for(module, device)
    options = session_options(module, threads)
    try:
        session = module.InferenceSession(onnx if isinstance(onnx, bytes) else str(onnx), options, providers=providers)
    except Exception as error:  # its exceptions have no common base but this
        raise BundleError(where, f"cannot be run by ONNX Runtime ({first_line(error)})", EXPORT_AGAIN) from error
    used = session.get_providers()[0]
    if device != "cpu" and used == "CPUExecutionProvider":  # it falls back without a word to us
        raise ConfigError("device", f"{device!r} cannot be used by ONNX Runtime here", "Use cpu, or --runtime torch.")
    kind = "CPU" if device == "cpu" else "CUDA"
    name = f"ONNX Runtime {module.__version__}, {kind}" + (f", {threads} threads" if device == "cpu" else "")
    return Running(name, device, runner(module, session, device))


def providers_for(module: Any, device: str) -> list[Any]:
    """What shall run the operators, best first.

    Raises:
        ConfigError: a GPU is asked for, and this build of ONNX Runtime knows none.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ConfigError("device", f"{device!r} is none that ONNX Runtime is used on", "Use auto, cpu or cuda.")
    if "CUDAExecutionProvider" not in module.get_available_providers():
        raise ConfigError(
            "device",
            f"{device!r} needs ONNX Runtime's build for CUDA, which is not installed",
            "Use --runtime torch, or --device cpu, or install onnxruntime-gpu instead of onnxruntime.",
        )
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def knows_cuda() -> bool:
    """Whether the ONNX Runtime that is installed was built for CUDA."""
    return "CUDAExecutionProvider" in require("onnxruntime", "onnx", "running model.onnx").get_available_providers()


def session_options(module: Any, threads: int) -> Any:
    options = module.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Idle threads that spin would take the cores from those that decode pictures and answer requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def runner(module: Any, session: "onnxruntime.InferenceSession", device: str) -> Any:
    """The call that runs the graph. Every size of pictures asks for other blocks of memory: what a run leaves is given back,
    or a server of pictures of all sizes would keep the largest of each."""
    names = [output.name for output in session.get_outputs()]
    options = module.RunOptions()
    if device == "cpu":
        options.add_run_config_entry(SHRINK, "cpu:0")

    def run(batch: Batch) -> Answers:
        given = {
            "pictures": batch.pictures,
            "sizes": batch.sizes,
            "score_threshold": np.array(batch.score_threshold, dtype=np.float32),
        }
        return dict(zip(names, session.run(names, given, options), strict=True))

    return run


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
