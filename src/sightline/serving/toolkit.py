"""What AWS's inference toolkit calls in its PyTorch containers: `code/inference.py` of a bundle hands it these four functions.

The toolkit (sagemaker-inference, sagemaker-pytorch-inference) takes them by name and looks at how many arguments they have: one
more than it needs is its context, which holds the request's headers. Requests, parameters, answers and errors are those of
`sightline serve` (docs/wire.md). An error is passed on as a value, so that its JSON is the whole answer: of an exception, the
toolkit would send the stack trace to the client.
"""

import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request

from sightline import wire
from sightline.errors import Problem, RequestError
from sightline.records import Detections, Model
from sightline.serving.asked import Asked, choose_answer
from sightline.serving.server import load_bundle, warm

LOG = logging.getLogger(__name__)


class Processor(Protocol):
    """One request, as the model server (TorchServe, Multi Model Server) describes it."""

    def get_request_properties(self) -> Mapping[str, str]: ...


class Context(Protocol):
    """What the model server tells about a worker and its current request."""

    system_properties: Mapping[str, Any]
    request_processor: list[Processor]

    def set_response_status(self, code: int, phrase: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Posted:
    """A request as it came. Decoding it is up to `predict_fn`, which knows the model's classes."""

    body: bytes
    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, and the names of the model's classes."""

    detections: Detections
    class_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer."""

    problem: Problem
    status: int


def model_fn(model_dir: str, context: Context | None = None) -> Model:
    """The bundle that the container unpacked into `model_dir`, ready to predict, on the GPU that the worker was given.

    Raises:
        SightlineError: it cannot be loaded, or cannot predict; the worker ends, and the container's log has the message.
    """
    gpu = context.system_properties.get("gpu_id") if context is not None else None
    model = load_bundle(Path(model_dir), device=device_of(gpu), score_threshold=None, class_names=None)
    warm(model)
    return model


def device_of(gpu: object) -> str:
    """Model servers number their workers' GPUs, also where there are none: without CUDA or torch the number means nothing."""
    if not isinstance(gpu, int | str) or not str(gpu).isdecimal() or importlib.util.find_spec("torch") is None:
        return "auto"
    import torch

    return f"cuda:{gpu}" if torch.cuda.is_available() else "auto"


def input_fn(body: bytes | bytearray | str | None, content_type: str | None, context: Context | None = None) -> Posted:
    """The request as it came. The toolkit gives bodies of text types as `str`; they are refused with all other types."""
    headers = {name.lower(): str(value) for name, value in properties_of(context).items()} | {
        "content-type": content_type or ""
    }
    scope = {
        "type": "http",
        "query_string": b"",
        "headers": [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()],
    }
    return Posted(body.encode() if isinstance(body, str) else bytes(body or b""), Request(scope))


def properties_of(context: Context | None) -> Mapping[str, str]:
    """The request's headers; none where the toolkit is too old to give a context."""
    return context.request_processor[0].get_request_properties() if context is not None else {}


def predict_fn(posted: Posted, model: Model, context: Context | None = None) -> Answer | Refusal:
    """What the model finds in the picture, or why nothing could be asked of it. What breaks inside is told to the log only."""
    try:
        asked = Asked.read(posted.request, model.class_names)
        if not posted.body:
            raise RequestError("body", "is empty (0 bytes)", "Send a picture.")
        picture = wire.decode_picture(posted.body, asked.content_type, npy_format=asked.npy_format)
        (found,) = model.predict([picture])
        return Answer(asked.of(found, model.thresholds), model.class_names)
    except RequestError as error:
        return Refusal(error.problems[0], error.status)
    except Exception:
        LOG.exception("a request failed")
        return Refusal(Problem("model", "could not answer", "The container's log tells why."), 500)


def output_fn(made: Answer | Refusal, accept: str, context: Context | None = None) -> tuple[bytes, str]:
    """(body, content type) of the answer; a refusal sets the status.

    Raises:
        RequestError: nothing can be answered, and the toolkit is too old to be told a status: it says 500.
    """
    try:
        if isinstance(made, Refusal):
            raise RequestError(made.problem.where, made.problem.what, made.problem.fix, status=made.status)
        if choose_answer(accept) == wire.NPZ:
            return wire.to_npz(made.detections, made.class_names), wire.NPZ
        return compact(wire.to_json(made.detections, made.class_names)), wire.JSON
    except RequestError as error:
        if context is None:
            raise
        context.set_response_status(code=error.status, phrase=HTTPStatus(error.status).phrase)
        return compact({"error": error.problems[0].as_dict()}), wire.JSON


def compact(answer: object) -> bytes:
    """JSON as `sightline serve` writes it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
