"""A model behind HTTP: `Intake` is what all models of a server share, `Service` is one of them.

A request's way: header, room, body (read) -> a place among the decoded pictures (queue) -> decode and resize -> the batcher
(queue) -> model -> masks and text (encode). Each is a stage of `/metrics`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sightline import wire
from sightline.errors import RequestError
from sightline.records import Detections, ImageSize, Model
from sightline.serving.asked import Asked, read_body
from sightline.serving.batcher import Batcher, Times
from sightline.serving.metrics import Metrics
from sightline.serving.settings import Settings
from sightline.serving.stages import Picture, Stages, stages_of
from sightline.serving.watch import RETRY_AFTER_S

LOG = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_SIDE_PX = 64
LAST_S = 1.0
"""For batches that are still in the workers' hands when the server has answered, or cut, everyone: nobody waits for them."""


class Workers(Protocol):
    """The processes of a model that does not live in the server's own, as `pool.Pool`.

    alive:    workers that can predict
    lanes:    batches that they take at once
    restarts: workers that were started in the place of one that ended
    """

    on_change: Callable[[], object]

    @property
    def alive(self) -> int: ...

    @property
    def lanes(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def count(self) -> int: ...


class Intake:
    """What the models of a server share: the room for requests, and the threads that decode and encode.

    waiting: requests between body and answer
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.waiting = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The threads live as long as the app."""
        self.decoded = asyncio.Semaphore(self.settings.max_decoded)
        with (
            ThreadPoolExecutor(self.settings.decode_threads, thread_name_prefix="decode") as self.decoders,
            ThreadPoolExecutor(self.settings.decode_threads, thread_name_prefix="encode") as self.encoder,
        ):
            yield

    def check_room(self) -> None:
        if self.waiting >= self.settings.max_waiting:
            raise RequestError(
                "queue", f"already holds {self.waiting} requests", f"Try again in {RETRY_AFTER_S} s, or slower.", status=503
            )

    async def read(self, request: Request) -> bytes:
        """The request's body."""
        began = time.perf_counter()
        body = await read_body(request, self.settings.limits.max_bytes, self.settings.body_timeout_s)
        self.metrics.stages["read"].observe(time.perf_counter() - began)
        return body

    async def decode(self, body: bytes, asked: Asked, stages: Stages) -> Picture:
        """The body's picture, decoded and resized beside the model."""
        began = time.perf_counter()

        def decoded() -> Picture:
            image = wire.decode_body(body, asked.content_type, self.settings.limits, asked.npy_format)
            return stages.picture(image)

        picture = await asyncio.get_running_loop().run_in_executor(self.decoders, decoded)
        self.metrics.stages["decode"].observe(time.perf_counter() - began)
        return picture

    async def encode(self, finish: Callable[[], Detections], light: bool, class_names: Sequence[str], kind: str) -> Response:
        """The answer. light: it is little work, so it is done at once; masks are much text, nobody else shall wait for them."""
        began = time.perf_counter()
        work = partial(encode, finish, class_names, kind)
        response = work() if light else await asyncio.get_running_loop().run_in_executor(self.encoder, work)
        self.metrics.stages["encode"].observe(time.perf_counter() - began)
        return response


class Service:
    """One model: the batcher before it, and whether it still predicts.

    future:  the model, loaded or still loading
    workers: the processes that it lives in; None: in this one
    broken:  why the last self-test failed; None while the model predicts
    """

    def __init__(self, model: Model | Future[Model], intake: Intake, workers: Workers | None = None) -> None:
        self.future = model if isinstance(model, Future) else already(model)
        self.intake, self.settings, self.metrics = intake, intake.settings, intake.metrics
        self.workers = workers
        self.broken: Exception | None = None
        self.probing: asyncio.Task[None] | None = None
        self.batcher: Batcher[Picture, Any] = Batcher(
            self.find,
            max_size=self.settings.max_batch,
            max_wait_s=self.settings.max_wait_s,
            key=lambda picture: self.stages.key(picture.pixels),
            sizes=self.metrics.batches.observe,
            lanes=lambda: 1 if workers is None else workers.lanes,
            most_lanes=1 if workers is None else workers.count,
        )

    def open(self) -> None:
        """In the loop that everything runs in from now on: hear of workers that come and go."""
        if self.workers is not None:
            self.workers.on_change = partial(tell, asyncio.get_running_loop(), self.batcher.dispatch)

    async def close(self) -> None:
        """Return when everything accepted is answered."""
        if self.probing is not None:
            self.probing.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self.workers is None else LAST_S):
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

    @cached_property
    def stages(self) -> Stages:
        return stages_of(self.future.result().predict)

    def find(self, pictures: Sequence[Picture]) -> Sequence[Any]:
        return self.stages.found([one.pixels for one in pictures], [one.size for one in pictures])

    @property
    def ready(self) -> bool:
        well = self.future.done() and not self.future.exception() and self.broken is None
        return well and (self.workers is None or self.workers.alive > 0)

    async def ping(self, _: Request) -> Response:
        self.loaded()
        if self.workers is not None and not self.workers.alive:
            raise RequestError("model", "has lost its workers", "Try again in a few seconds: others are started.", status=503)
        if self.broken is not None:
            self.test_model()  # it may have recovered
            raise RequestError("model", "cannot predict", "The server's log tells why; restart the server.", status=500)
        return JSONResponse({"status": "ready"})

    def test_model(self) -> None:
        """Find out in the background whether the model predicts at all: one bad picture must not take the server down."""
        if self.probing is None or self.probing.done():
            self.probing = asyncio.create_task(self.probe())

    async def probe(self) -> None:
        """A small picture through the batcher. Waiting long is no fault while batches come back."""
        while True:
            done = self.batcher.done
            try:
                async with asyncio.timeout(self.settings.timeout_s):
                    image = np.full((PROBE_SIDE_PX, PROBE_SIDE_PX, 3), 127, np.uint8)
                    await self.batcher(await asyncio.to_thread(self.stages.picture, image))
                self.broken = None
            except Exception as error:
                if isinstance(error, TimeoutError) and self.batcher.done > done:
                    continue
                LOG.error("the model cannot predict: %r", error)
                self.broken = error
            return

    async def facts(self, _: Request) -> Response:
        model = self.loaded()
        told = {"class_names": list(model.class_names), "origin": model.origin, "facts": model.facts}
        chosen = {} if model.thresholds is None else {"thresholds": list(model.thresholds)}
        return JSONResponse(told | ({"proposes": True} if model.proposes else {}) | chosen)

    async def invocations(self, request: Request) -> Response:
        """Detections in the picture that is the body.

        Raises:
            RequestError: what the client did wrong, or that there is no room or no time.
            ClientDisconnect: it has gone.
            Exception: whatever the model raised; it is tested in the background then.
        """
        began = time.perf_counter()
        model, intake = self.loaded(), self.intake
        asked = Asked.read(request, model.class_names, self.settings.answer_type)
        intake.check_room()  # before the body is sent in vain, and again after it: slow senders hold no place
        body = await intake.read(request)
        intake.check_room()
        intake.waiting += 1
        try:
            found, size = await self.in_time(request, partial(self.detect, body, asked))

            def finish() -> Detections:
                return asked.of(self.stages.detections(found, size), model.thresholds)

            light = isinstance(found, Detections) and not found.masks
            response = await intake.encode(finish, light, model.class_names, asked.answer_type)
        except (RequestError, ClientDisconnect):
            raise
        except Exception:
            self.test_model()
            raise  # Watch logs it and answers 500
        finally:
            intake.waiting -= 1
        self.metrics.stages["all"].observe(time.perf_counter() - began)
        return response

    async def in_time(self, request: Request, work: Callable[[Times], Coroutine[object, object, T]]) -> T:
        """What `work` returns, if it does before the deadline and the client is still there; else it is cancelled.

        Raises:
            RequestError: 503 when the picture was still waiting, 504 when the model itself had it all the time.
        """
        times = Times()
        try:
            async with asyncio.timeout(self.settings.timeout_s) as limit:
                return await while_connected(request, work(times))
        except TimeoutError as error:
            if not limit.expired():
                raise  # the model's own
            late = f"did not answer within {self.settings.timeout_s:g} s"
            if times.started is None:
                raise RequestError("queue", late, "It is overloaded: try again later, or slower.", status=503) from error
            self.test_model()
            raise RequestError("model", late, "Send a smaller picture, or give the server more time.", status=504) from error

    async def detect(self, body: bytes, asked: Asked, times: Times) -> tuple[Any, ImageSize]:
        """What the model found, and the picture's size: decoded beside the model, then in its next batch that has a place."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self.intake.decoded:
            waited_s = clock() - began
            picture = await self.intake.decode(body, asked, self.stages)
            found = await self.batcher(picture, times)
        if times.arrived is not None and times.started is not None and times.ended is not None:
            self.metrics.stages["queue"].observe(waited_s + times.started - times.arrived)
            self.metrics.stages["model"].observe(times.ended - times.started)
        return found, picture.size


def tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call `what` in a loop from another thread, if the loop still runs."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


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


def encode(finish: Callable[[], Detections], class_names: Sequence[str], answer_type: str) -> Response:
    detections = finish()
    if answer_type == wire.NPZ:
        return Response(wire.to_npz(detections, class_names), media_type=wire.NPZ)
    return JSONResponse(wire.to_json(detections, class_names))
