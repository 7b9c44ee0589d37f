"""Many models behind one server, loaded and unloaded while it runs: the contract of SageMaker's multi-model endpoints.

    POST   /models               {"model_name", "url"}: load; 409 when it is loaded, 507 when memory is short
    GET    /models               the loaded ones, by pages
    GET    /models/NAME          one of them; 404 when it is not loaded
    DELETE /models/NAME          unload: its requests are answered first, then its memory is given back
    POST   /models/NAME/invoke   as /invocations

Each model has its own batcher and thread; the room for requests and the threads that decode are shared.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sightline.errors import RequestError, SightlineError
from sightline.memory import bytes_free
from sightline.records import Model
from sightline.serving.app import assemble
from sightline.serving.asked import read_body
from sightline.serving.memory import RESERVE_BYTES, bytes_needed, give_back, is_out_of_memory
from sightline.serving.metrics import TEXT, Metrics, Now
from sightline.serving.openapi import MULTI
from sightline.serving.service import Intake, Service
from sightline.serving.settings import Settings

LOG = logging.getLogger(__name__)

MAX_LOAD_BYTES = 65_536
"""Of the JSON that asks for a model."""

PAGE = 100
MAX_PAGE = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}")


@dataclass(slots=True, eq=False)
class Loaded:
    """One model of the server, and the address it was asked for by."""

    url: str
    service: Service


class Models:
    """The loaded models.

    folder:  what `url` must lie in
    load:    a path -> the model, warm
    free:    bytes of memory that may still be used; None: nobody can tell
    loading: names that are being loaded
    """

    def __init__(
        self, folder: Path, load: Callable[[Path], Model], intake: Intake, free: Callable[[], int | None] = bytes_free
    ) -> None:
        self.folder, self.load_model, self.intake, self.free = folder, load, intake, free
        self.loaded: dict[str, Loaded] = {}
        self.loading: set[str] = set()
        self.one_at_a_time = asyncio.Lock()  # so that two loads do not both count on the same free memory

    async def ping(self, _: Request) -> Response:
        """Well from the start, without a model: SageMaker loads them later. Ill when none of those it has predicts."""
        services = [entry.service for entry in self.loaded.values()]
        for service in services:
            if not service.ready:
                service.test_model()
        if services and not any(service.ready for service in services):
            raise RequestError("models", "cannot predict", "The server's log tells why; restart the server.", status=500)
        return JSONResponse({"status": "ready"})

    async def load(self, request: Request) -> Response:
        name, url = await read_load(request, self.intake.settings)
        path = self.inside(url)
        if name in self.loaded or name in self.loading:
            raise RequestError(f"model {name!r}", "is loaded already", f"Use it, or DELETE /models/{name} first.", status=409)
        self.loading.add(name)
        try:
            async with self.one_at_a_time:
                model = await self.loaded_from(path, name)
            self.loaded[name] = Loaded(url, Service(model, self.intake))
        finally:
            self.loading.discard(name)
        LOG.info("loaded %s from %s", name, path)
        return self.told(name)

    def inside(self, url: str) -> Path:
        """The path that `url` means, links followed; relative ones are in the models' folder.

        Raises:
            RequestError: 403 when it is outside, 404 when it does not exist.
        """
        folder = self.folder.resolve()
        try:
            path = (folder / url).resolve()
            outside, missing = not path.is_relative_to(folder) or path == folder, not path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL, links in a circle
            raise RequestError("url", f"is no path: {url!r:.200}", f"Give a path in {folder}.") from error
        if outside:
            raise RequestError("url", f"{url!r:.200} is not in {folder}", "Give a path in it.", status=403)
        if missing:
            raise RequestError("url", f"{url!r:.200} does not exist", f"Put the model into {folder} first.", status=404)
        return path

    async def loaded_from(self, path: Path, name: str) -> Model:
        """The model, loaded in a thread.

        Raises:
            RequestError: 507 when memory is short, 400 when there is no model that could be loaded.
        """
        needed, free = bytes_needed(path), self.free()
        if free is not None and free - needed < RESERVE_BYTES:
            raise self.short(name, f"needs some {needed / 2**20:.0f} MiB while it loads, {free / 2**20:.0f} MiB are free")
        try:
            return await asyncio.to_thread(self.load_model, path)
        except Exception as error:
            if is_out_of_memory(error):
                give_back()
                raise self.short(name, "did not fit into memory") from error
            if isinstance(error, SightlineError):
                raise RequestError(f"model {name!r}", error.what, error.fix) from error
            raise

    def short(self, name: str, what: str) -> RequestError:
        return RequestError(f"model {name!r}", what, "Unload another model first.", status=507)

    async def list_models(self, request: Request) -> Response:
        """By name, a page at a time; the token is the last name of the page before."""
        query = request.query_params
        after, limit = query.get("next_page_token", ""), read_limit(query.get("limit"))
        names = sorted(name for name in self.loaded if name > after)
        listed: dict[str, object] = {"models": [self.entry(name) for name in names[:limit]]}
        return JSONResponse(listed | ({"nextPageToken": names[limit - 1]} if len(names) > limit else {}))

    def entry(self, name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": self.loaded[name].url}

    def told(self, name: str) -> Response:
        return JSONResponse(self.entry(name))

    def found(self, request: Request) -> str:
        """The name in the path.

        Raises:
            RequestError: 404 when no such model is loaded.
        """
        name = request.path_params["name"]
        if name not in self.loaded:
            raise RequestError(f"model {name!r:.200}", "is not loaded", "Load it with POST /models.", status=404)
        return str(name)

    async def show_model(self, request: Request) -> Response:
        return self.told(self.found(request))

    async def unload(self, request: Request) -> Response:
        name = self.found(request)
        response = self.told(name)
        entry = self.loaded.pop(name)
        await entry.service.close()
        del entry
        await asyncio.to_thread(give_back)
        LOG.info("unloaded %s", name)
        return response

    async def invoke(self, request: Request) -> Response:
        name = self.found(request)
        try:
            return await self.loaded[name].service.invocations(request)
        except Exception as error:
            if is_out_of_memory(error):
                LOG.warning("memory is short for %s: %r", name, error)
                raise self.short(name, "does not have the memory for this picture") from error
            raise

    def now(self) -> Now:
        services = [entry.service for entry in self.loaded.values()]
        return Now(
            waiting=self.intake.waiting,
            queue=sum(len(service.batcher.waiting) for service in services),
            connections=self.intake.metrics.connections,
            models=len(services),
            ready=all(service.ready for service in services),
        )

    async def show_metrics(self, _: Request) -> Response:
        return Response(self.intake.metrics.text(self.now()), media_type=TEXT)


async def read_load(request: Request, settings: Settings) -> tuple[str, str]:
    """The name and the address of the model that a body asks for.

    Raises:
        RequestError: 400 when it is not `{"model_name": "...", "url": "..."}`, 413 and 408 as for a picture.
    """
    how = 'Send {"model_name": "bees", "url": "bees/model.tar.gz"}.'
    body = await read_body(request, MAX_LOAD_BYTES, settings.body_timeout_s)
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("body", f"is no JSON ({str(error)[:200]})", how) from error
    if not isinstance(asked, dict):
        raise RequestError("body", "is no JSON object", how)
    name, url = asked.get("model_name"), asked.get("url")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        fix = "Give up to 256 letters, digits, '.', '_' and '-', the first a letter or digit."
        raise RequestError("model_name", f"is {name!r:.100}", fix)
    if not isinstance(url, str) or not url:
        raise RequestError("url", f"is {url!r:.100}", "Give the path of the model.")
    return name, url


def read_limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise RequestError("limit", f"is {text!r:.40}", f"Give a whole number from 1 to {MAX_PAGE}.")
    return int(text)


def create_multi_app(
    folder: Path,
    load: Callable[[Path], Model],
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    free: Callable[[], int | None] = bytes_free,
) -> Starlette:
    """The app of a server that begins without models.

    load: a path in `folder` -> the model, warm
    free: bytes of memory that may still be used
    """
    intake = Intake(settings or Settings(), metrics or Metrics())
    models = Models(folder, load, intake, free)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with intake.open():
            yield
            await asyncio.gather(*(entry.service.close() for entry in models.loaded.values()))

    handlers = {
        "ping": models.ping,
        "load": models.load,
        "list_models": models.list_models,
        "show_model": models.show_model,
        "unload": models.unload,
        "invoke": models.invoke,
        "show_metrics": models.show_metrics,
    }
    return assemble(MULTI, handlers, intake, lifespan)
