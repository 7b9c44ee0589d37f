"""What a machine has for model processes, and what each of them gets: a GPU, or its share of the cores. Without torch."""

from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""How many threads a process uses for one operation: PyTorch and ONNX Runtime's and OpenVINO's sessions go by the first."""

ANY_GPU = ("auto", "cuda")
"""Devices that leave open which GPU it is."""

DEV = Path("/dev")


def gpus(environ: Mapping[str, str], dev: Path = DEV) -> list[str]:
    """The GPUs that a process of this environment may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    given = environ.get(VISIBLE)
    if given is None:
        return sorted((path.name.removeprefix("nvidia") for path in dev.glob("nvidia[0-9]*")), key=int)
    names = [name.strip() for name in given.split(",")]
    ends = [index for index, name in enumerate(names) if name in ("", "-1")]  # CUDA reads no further
    return names[: ends[0]] if ends else names


def usual_workers(device: str, names: list[str]) -> int:
    """How many model processes there are where nobody says: one for each of several GPUs; 0: the server's own is enough."""
    return len(names) if device in ANY_GPU and len(names) > 1 else 0


def environments(count: int, device: str, environ: Mapping[str, str], names: list[str], cpus: int) -> list[dict[str, str]]:
    """The environments of `count` processes. A number of threads that the user has set is kept.

    names: of the GPUs; they are dealt out in turn, unless `device` names one
    cpus:  cores that all may use together
    """
    share = str(max(1, cpus // count))
    threads = {name: environ.get(THREADS[0], share) for name in THREADS} | {n: environ[n] for n in THREADS if n in environ}
    dealt = [{VISIBLE: names[number % len(names)]} if names and device in ANY_GPU else {} for number in range(count)]
    return [{**environ, **threads, **own} for own in dealt]
