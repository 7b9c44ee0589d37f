"""The HTTP surface around one callable: `create_app(model, settings)` gives a Starlette app; tests pass a three-line fake.

    GET  /                      a page: drop a picture, see the boxes and masks
    GET  /ping                  200 when the model can predict, 503 while it loads, 500 when it is broken
    POST /invocations           a picture in, detections out
    GET  /model                 class names, origin and facts of the model
    GET  /execution-parameters  for SageMaker's batch transform
    GET  /metrics               Prometheus

Every error is JSON `{"error": {"where", "what", "fix"}}`; docs/wire.md is the contract.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline import wire
from sightline.errors import Problem, RequestError
from sightline.records import Detections, Image, Model
from sightline.serving.asked import Asked, read_body
from sightline.serving.batcher import Batcher
from sightline.serving.metrics import TEXT, Metrics
from sightline.serving.page import PAGE_HEADERS, page
from sightline.serving.settings import Settings

LOG = logging.getLogger(__name__)
T = TypeVar("T")

PATHS = ("/", "/ping", "/invocations", "/model", "/execution-parameters", "/metrics")
QUIET = ("/ping", "/metrics")  # asked every few seconds by machines; logged at debug level only
RETRY_AFTER_S = 1
CLIENT_GONE = 499  # nginx's number; only ever seen in the log and the metrics
PROBE_SIDE_PX = 64


def error_response(problem: Problem, status: int) -> Response:
    """The one shape of an error. 503 says when to try again; after 408 the rest of the body is not worth waiting for."""
    headers = {503: {"Retry-After": str(RETRY_AFTER_S)}, 408: {"Connection": "close"}}.get(status)
    return JSONResponse({"error": problem.as_dict()}, status, headers)


def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for nothing else
    return error_response(error.problems[0], error.status)


def no_such_route(request: Request, error: Exception) -> Response:
    """404 and 405, which the router raises."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        response = error_response(Problem(request.url.path, "is not here", f"There are {', '.join(PATHS)}."), 404)
    else:
        allowed = (error.headers or {}).get("Allow", "")
        response = error_response(
            Problem(request.url.path, f"does not take {request.method}", f"Use {allowed}."), error.status_code
        )
    response.headers.update(error.headers or {})
    return response


class Watch:
    """Around the whole app: an id for every request, a log line, a count; what breaks inside becomes a JSON 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Request(scope))
        status, began = 0, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            LOG.exception("request %s failed", request_id)
            if not status:
                await broken_response(request_id)(scope, receive, answer)
        finally:
            path = scope["path"]
            self.metrics.requests[path if path in PATHS else "other", status or CLIENT_GONE] += 1
            level = logging.DEBUG if path in QUIET else logging.INFO
            took_ms = (time.perf_counter() - began) * 1000
            LOG.log(level, "%s %r %d %.0f ms %s", scope["method"], path, status, took_ms, request_id)


def request_id_of(request: Request) -> str:
    """The client's `x-request-id` when it is harmless, so that logs of several systems can be joined; else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", given) else uuid.uuid4().hex


def broken_response(request_id: str) -> Response:
    """What a client learns of a defect: nothing but the id under which the log tells all."""
    return error_response(Problem("model", "could not answer", f"The server's log tells why, under request {request_id}."), 500)


class Service:
    """One model behind HTTP: the requests it has accepted, the batcher before it, and whether it still predicts.

    model:   loaded, or still loading
    waiting: requests between body and answer
    broken:  why the last self-test failed; None while the model predicts
    """

    def __init__(self, model: Model | Future[Model], settings: Settings, metrics: Metrics) -> None:
        self.future = model if isinstance(model, Future) else already(model)
        self.settings, self.metrics = settings, metrics
        self.waiting = 0
        self.broken: Exception | None = None
        self.probing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Threads and queues live as long as the app; at the end everything accepted is answered first."""
        settings = self.settings
        self.batcher: Batcher[Image, Detections] = Batcher(
            self.predict, max_size=settings.max_batch, max_wait_s=settings.max_wait_s, key=lambda image: image.shape
        )
        self.decoded = asyncio.Semaphore(settings.max_decoded)
        with ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode") as self.decoders:
            yield
            await self.batcher.drain()

    def loaded(self) -> Model:
        """The model.

        Raises:
            RequestError: 503 while it loads, 500 when loading failed (and the server is about to end).
        """
        if not self.future.done():
            raise RequestError("model", "is still loading", "Try again in a few seconds.", status=503)
        if self.future.exception():
            raise RequestError("model", "could not be loaded", "The server's log tells why.", status=500)
        return self.future.result()

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        return self.future.result().predict(images)

    @property
    def ready(self) -> bool:
        return self.future.done() and not self.future.exception() and self.broken is None

    async def ping(self, _: Request) -> Response:
        self.loaded()
        if self.broken is not None:
            self.test_model()  # it may have recovered
            raise RequestError("model", "cannot predict", "The server's log tells why; restart the server.", status=500)
        return JSONResponse({"status": "ready"})

    def test_model(self) -> None:
        """Find out in the background whether the model predicts at all: one bad picture must not take the server down."""
        if self.probing is None or self.probing.done():
            self.probing = asyncio.create_task(self.probe())

    async def probe(self) -> None:
        try:
            await self.batcher(np.full((PROBE_SIDE_PX, PROBE_SIDE_PX, 3), 127, np.uint8))
            self.broken = None
        except Exception as error:
            LOG.error("the model cannot predict: %r", error)
            self.broken = error

    async def facts(self, _: Request) -> Response:
        model = self.loaded()
        told = {"class_names": list(model.class_names), "origin": model.origin, "facts": model.facts}
        return JSONResponse(told | ({"proposes": True} if model.proposes else {}))

    async def execution_parameters(self, _: Request) -> Response:
        return JSONResponse(self.settings.execution_parameters())

    async def show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(waiting=self.waiting, ready=self.ready), media_type=TEXT)

    async def show_page(self, _: Request) -> Response:
        return HTMLResponse(page(), headers=PAGE_HEADERS)

    async def invocations(self, request: Request) -> Response:
        began = time.perf_counter()
        model, asked = self.loaded(), Asked.read(request)
        self.check_room()  # before the body is sent in vain, and again after it: slow senders hold no place
        body = await read_body(request, self.settings.limits.max_bytes, self.settings.body_timeout_s)
        self.metrics.stages["read"].observe(time.perf_counter() - began)
        self.check_room()
        self.waiting += 1
        try:
            detections = await while_connected(request, self.detect(body, asked))
        except (RequestError, ClientDisconnect):
            raise
        except Exception:
            self.test_model()
            raise  # Watch logs it and answers 500
        finally:
            self.waiting -= 1
        response = encode(detections.above(asked.threshold), model.class_names, asked.answer_type)
        self.metrics.stages["all"].observe(time.perf_counter() - began)
        return response

    def check_room(self) -> None:
        if self.waiting >= self.settings.max_waiting:
            raise RequestError(
                "queue", f"already holds {self.waiting} requests", f"Try again in {RETRY_AFTER_S} s, or slower.", status=503
            )

    async def detect(self, body: bytes, asked: Asked) -> Detections:
        """Decode beside the model, then wait for a place in its next batch."""
        decode = partial(wire.decode_picture, body, asked.content_type, self.settings.limits, asked.npy_format)
        async with self.decoded:
            began = time.perf_counter()
            picture = await asyncio.get_running_loop().run_in_executor(self.decoders, decode)
            decoded = time.perf_counter()
            self.metrics.stages["decode"].observe(decoded - began)
            detections = await self.batcher(picture)
            self.metrics.stages["predict"].observe(time.perf_counter() - decoded)
            return detections


def already(model: Model) -> Future[Model]:
    future: Future[Model] = Future()
    future.set_result(model)
    return future


async def while_connected(request: Request, work: Coroutine[object, object, T]) -> T:
    """What `work` returns; it is cancelled when the client goes away, so that it costs no more model time.

    Raises:
        ClientDisconnect: the client has gone.
    """
    answer, gone = asyncio.create_task(work), asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def disconnected(request: Request) -> None:
    """Return when the client has gone; its body is complete, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def encode(detections: Detections, class_names: Sequence[str], answer_type: str) -> Response:
    if answer_type == wire.NPZ:
        return Response(wire.to_npz(detections, class_names), media_type=wire.NPZ)
    return JSONResponse(wire.to_json(detections, class_names))


def create_app(model: Model | Future[Model], settings: Settings | None = None) -> Starlette:
    """The app around a model, or around one that is still loading: it answers 503 until `model` is done."""
    metrics = Metrics()
    service = Service(model, settings or Settings(), metrics)
    app = Starlette(
        routes=[
            Route("/", service.show_page),
            Route("/ping", service.ping),
            Route("/invocations", service.invocations, methods=["POST"]),
            Route("/model", service.facts),
            Route("/execution-parameters", service.execution_parameters),
            Route("/metrics", service.show_metrics),
        ],
        middleware=[Middleware(Watch, metrics=metrics)],
        exception_handlers={RequestError: refuse, HTTPException: no_such_route},
        lifespan=service.lifespan,
    )
    app.router.redirect_slashes = False  # /ping/ is a 404 in JSON, no redirect
    return app
