"""What is measured: a model on this machine, or one behind an address. A new kind of endpoint needs nothing but a `Send`."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline import wire
from sightline.errors import RequestError, SightlineError
from sightline.records import Model
from sightline.runtimes.asked import Execution
from sightline.storage import is_remote

SAGEMAKER = "sagemaker://"
TIMEOUT_S = 120.0
ADDRESSES = ("http://", "https://", SAGEMAKER)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one picture. status: 200, 503, ...; pause_s: before a busy server is asked again."""

    status: int
    body: bytes
    pause_s: float = 0.0


Send = Callable[[bytes, str], Answer]
"""(a picture file's bytes, content type) -> the answer; called from several threads at once.

Raises RunError where no answer comes at all.
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A model behind an address.

    send:      one picture there, one answer back, over connections that are kept
    stages:    the server's own {stage: (seconds in all, number)}; empty where it tells none
    here:      whether it runs on this machine, and shares it with the clients
    facts:     what it tells of its model; `runtime` and `sha256` are shown
    instance_type: that it runs on, where something tells
    """

    address: str
    send: Send
    stages: Callable[[], Mapping[str, tuple[float, int]]]
    here: bool
    facts: dict[str, object] = field(default_factory=dict)
    instance_type: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """A model on this machine.

    load_s:      what loading took here, torch's import included where it came first
    sha256:      of the archive, or of the weights of a folder
    model_bytes: of the same
    """

    model: Model
    reference: str
    device: str
    load_s: float
    sha256: str
    model_bytes: int


USUAL = Execution()

OpenEndpoint = Callable[[str], Served]
"""`sagemaker://NAME` -> the endpoint."""


def open_local(reference: str, device: str = "auto", execution: Execution = USUAL) -> Local:
    """A run, bundle or Detectron2 folder, loaded.

    Raises:
        SightlineError: as `load_model`.
    """
    began = time.perf_counter()
    from sightline.bundle.load import load_model

    model = load_model(reference, device=device, **execution.options())
    load_s = time.perf_counter() - began
    sha256, size = digest(reference)
    return Local(model, reference, device_of(model, device), load_s, sha256, size)


def digest(reference: str) -> tuple[str, int]:
    """(sha256, bytes) of the file that the weights are in: an archive, or the file in a folder that loading takes."""
    import hashlib

    from sightline.bundle.archive import model_path

    path = model_path(reference)
    if path.is_dir():
        names = ("model_best.pth", "model_final.pth", "model.pth", "model.onnx")
        path = next((path / name for name in names if (path / name).is_file()), path)
    if not path.is_file():
        return "", 0
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


def device_of(model: Model, asked: str) -> str:
    """Where it runs, as far as its predictor tells."""
    detector = getattr(model.predict, "detector", None)
    if detector is None:
        return str(getattr(model.predict, "device", asked))
    return str(next(detector.parameters()).device)


def open_served(address: str, open_endpoint: OpenEndpoint | None = None, timeout_s: float = TIMEOUT_S) -> Served:
    """The server or endpoint at an address, once it is ready.

    Raises:
        RequestError: it is no address; or an endpoint, and nothing here can reach those.
        RunError: it cannot be reached.
    """
    if address.startswith(SAGEMAKER):
        if open_endpoint is None:
            raise RequestError(address, "is a SageMaker endpoint", "Give what opens it (open_endpoint), as the command does.")
        return open_endpoint(address)
    return open_http(address, timeout_s)


def open_http(address: str, timeout_s: float) -> Served:
    """Any server with POST /invocations; of Sightline's own also stages and the model's facts."""
    from sightline.serving.remote import parse, retry_after

    remote = parse(address, timeout_s)
    remote.call("GET", "/ping")  # waits while it loads

    def send(body: bytes, content_type: str) -> Answer:
        reply = remote.exchange("POST", remote.path, body, {"Content-Type": content_type, "Accept": wire.JSON})
        return Answer(reply.status, reply.body, retry_after(reply) if reply.status == 503 else 0.0)

    def stages() -> Mapping[str, tuple[float, int]]:
        reply = remote.exchange("GET", "/metrics", b"", {})
        return stages_of(reply.body.decode("utf-8", "replace")) if reply.status == 200 else {}

    here = remote.host in ("127.0.0.1", "localhost", "::1")
    return Served(remote.address, send, stages, here, facts_of(remote.exchange("GET", "/model", b"", {}).body))


def facts_of(body: bytes) -> dict[str, object]:
    """What Sightline's server tells of its model; nothing of any other server's."""
    try:
        return dict(json.loads(body)["facts"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


STAGE_LINE = re.compile(r'^sightline_seconds_(sum|count)\{[^}]*\bstage="(\w+)"[^}]*\} ([0-9.e+-]+)$', re.MULTILINE)


def stages_of(metrics: str) -> dict[str, tuple[float, int]]:
    """{stage: (seconds, number)} of Sightline's /metrics, of all its processes together; of any other page nothing."""
    seconds, numbers = dict[str, float](), dict[str, float]()
    for kind, stage, value in STAGE_LINE.findall(metrics):
        into = seconds if kind == "sum" else numbers
        into[stage] = into.get(stage, 0.0) + float(value)
    return {stage: (seconds[stage], int(number)) for stage, number in numbers.items() if stage in seconds}


def is_address(target: str) -> bool:
    return target.startswith(ADDRESSES)


def pictures_in(images: str | Path, most: int) -> list[Path]:
    """The first pictures of a folder, in the order of their names; every one could be decoded.

    Raises:
        SightlineError: there is none, it is on S3, or one is damaged; all damaged ones at once.
    """
    from sightline.errors import ImageError, Problem
    from sightline.images import check_image
    from sightline.serving.given import collect

    if is_remote(str(images)):
        raise SightlineError(images, "is on S3, and times of reading would be the network's", "Give a folder of this machine.")
    paths = [Path(name) for name in collect([images])][:most]
    problems: list[Problem] = []
    for path in paths:
        try:
            check_image(path)
        except ImageError as error:
            problems += error.problems
    if problems:
        raise ImageError.collected(problems)
    return paths


def sizes_text(paths: Sequence[Path]) -> str:
    """ "1920 x 1080 px", or from the smallest to the largest."""
    from sightline.images import read_header

    sizes = sorted({read_header(path).shown for path in paths}, key=lambda size: size.height * size.width)
    first, last = sizes[0], sizes[-1]
    one = f"{first.width} x {first.height} px"
    return one if len(sizes) == 1 else f"{one} to {last.width} x {last.height} px, {len(sizes)} sizes"
