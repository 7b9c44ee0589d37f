"""A model process: it loads the model, says so, and answers batches until the server ends its connection.

    python -P -m sightline.serving.worker JOB DESCRIPTOR

JOB is a `Job` as JSON, DESCRIPTOR the number of an open socket, on which `pipe` messages go back and forth:

    ready      worker -> server   the model's facts, after a prediction; or `failed`, what is wrong with it
    pictures   server -> worker   one batch
    found      worker -> server   its detections; or `broken`, a stack trace

It ends when the server does, however that ends: its standard input is a pipe that the server holds. Signals that a terminal or
an init process sends to everyone are the server's business, which answers what it has accepted before it ends its workers.
"""

import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

from sightline.errors import SightlineError
from sightline.records import Model
from sightline.serving.logs import JsonLines
from sightline.serving.pipe import Told, pictures_of, receive, send, told_detections
from sightline.serving.stages import Stages, input_size_of, stages_of

LOG = logging.getLogger("sightline.serving.worker")


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told at its start.

    load:      `module:function`, a `server.Load`
    options:   its further arguments, of JSON's types
    json_logs: log lines are JSON objects
    log_level: the least one that is written
    """

    reference: str
    device: str
    threshold: float | None
    class_names: tuple[str, ...] | None
    load: str
    options: dict[str, Any] = field(default_factory=dict)
    json_logs: bool = False
    log_level: int = logging.INFO

    def text(self) -> str:
        return json.dumps(asdict(self))


def main(job: Job, connection: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_the_server, name="life", daemon=True).start()
    begin_log(job)
    try:
        model = loaded(job)
    except BaseException as error:
        send(connection, {"failed": failure(error, job.reference)})
        return
    stages = stages_of(model.predict)
    send(connection, {"ready": facts_of(model)})
    while (message := receive(connection)) is not None:
        answer(connection, model, stages, *message)


def end_with_the_server() -> None:
    """Wait until the pipe at standard input is closed, and end at once, whatever the model is doing."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


def begin_log(job: Job) -> None:
    """To stderr, which is the server's."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if job.json_logs else logging.Formatter("%(message)s"))
    log = logging.getLogger("sightline")
    log.addHandler(handler)
    log.setLevel(job.log_level)


def loaded(job: Job) -> Model:
    """The model, warm."""
    from sightline.serving.server import warm

    module, _, name = job.load.partition(":")
    load = getattr(importlib.import_module(module), name)
    model: Model = load(
        job.reference, device=job.device, score_threshold=job.threshold, class_names=job.class_names, **job.options
    )
    warm(model)
    return model


def failure(error: BaseException, reference: str) -> Told:
    """An error of loading, for the server to raise."""
    from sightline.serving.server import as_sightline_error

    told: SightlineError = as_sightline_error(error, reference)
    return {"exit_code": told.exit_code, "problems": [problem.as_dict() for problem in told.problems]}


def facts_of(model: Model) -> Told:
    """All of a `Model` but its callable, and how that wants its pictures."""
    asked = input_size_of(model.predict)
    return {
        "class_names": model.class_names,
        "origin": model.origin,
        "facts": model.facts,
        "proposes": model.proposes,
        "thresholds": model.thresholds,
        "input_size": asdict(asked) if asked else None,
    }


def answer(connection: socket.socket, model: Model, stages: Stages, told: Told, pixels: memoryview) -> None:
    """Predict one batch. Pictures came resized if the model has said how."""
    try:
        pictures, sizes = pictures_of(told, pixels)
        if input_size_of(model.predict) is None:
            found = model.predict(pictures)
        else:
            found = [stages.detections(one, size) for one, size in zip(stages.found(pictures, sizes), sizes, strict=True)]
        reply, arrays = told_detections(found)
    except Exception:
        reply, arrays = {"broken": traceback.format_exc()}, []
    send(connection, reply, arrays)


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(Job(**given), socket.socket(fileno=int(sys.argv[2])))
    logging.shutdown()
    os._exit(0)  # Python would take apart all of torch first, for seconds on a busy machine
