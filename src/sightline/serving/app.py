"""The HTTP surface around one callable: `create_app(model, settings)` gives a Starlette app; tests pass a three-line fake.

The addresses are those of `openapi.SINGLE`; docs/wire.md is the contract. `multi_model.create_multi_app` is the other app.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from sightline import __version__
from sightline.errors import RequestError
from sightline.records import Model
from sightline.serving.metrics import TEXT, Metrics, Now
from sightline.serving.openapi import SINGLE, Handler, Operation, document, routes, template_of
from sightline.serving.page import PAGE_HEADERS, page
from sightline.serving.service import Intake, Service, Workers
from sightline.serving.settings import Settings
from sightline.serving.watch import Watch, no_such_route, refuse

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(
    model: Model | Future[Model],
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    workers: Workers | None = None,
) -> Starlette:
    """The app around a model, or around one that is still loading: it answers 503 until `model` is done.

    workers: the processes that the model lives in; None: it is in this one
    """
    intake = Intake(settings or Settings(), metrics or Metrics())
    service = Service(model, intake, workers)

    def now() -> Now:
        return Now(
            waiting=intake.waiting,
            queue=len(service.batcher.waiting),
            connections=intake.metrics.connections,
            models=int(service.future.done()),
            ready=service.ready,
            workers=workers.alive if workers else 0,
            restarts=workers.restarts if workers else 0,
        )

    async def show_metrics(_: Request) -> Response:
        return Response(intake.metrics.text(now()), media_type=TEXT)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with intake.open():
            service.open()
            yield
            await service.close()

    handlers = {
        "ping": service.ping,
        "invocations": service.invocations,
        "facts": service.facts,
        "show_page": show_page,
        "show_metrics": show_metrics,
    }
    return assemble(SINGLE, handlers, intake, lifespan)


def assemble(
    operations: Sequence[Operation],
    handlers: Mapping[str, Handler],
    intake: Intake,
    lifespan: Lifespan,
) -> Starlette:
    """The app of a table of operations, with what every server has."""
    every = {
        "execution_parameters": partial(execution_parameters, intake.settings),
        "show_openapi": partial(show_openapi, document(operations, __version__)),
    }
    app = Starlette(
        routes=routes(operations, {**handlers, **every}),
        middleware=[Middleware(Watch, metrics=intake.metrics, template=template_of(operations))],
        exception_handlers={RequestError: refuse, HTTPException: no_such_route},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # /ping/ is a 404 in JSON, no redirect
    return app


async def execution_parameters(settings: Settings, _: Request) -> Response:
    return JSONResponse(settings.execution_parameters())


async def show_openapi(told: dict[str, object], _: Request) -> Response:
    return JSONResponse(told)


async def show_page(_: Request) -> Response:
    return HTMLResponse(page(), headers=PAGE_HEADERS)
