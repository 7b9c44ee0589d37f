"""`sightline serve`: the app behind uvicorn. It answers `/ping` from the first second while the model loads in a thread.

`serve` runs until SIGTERM or Ctrl-C, then answers what it has accepted; `serve_many` is its like for models that are loaded and
unloaded meanwhile. `running` is the same server in a background thread.
This is the only file of the room that knows the bundle room, and only to load what it is given.
"""

import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sightline.errors import BundleError, RunError, SightlineError
from sightline.optional import require
from sightline.processors import cores
from sightline.records import ImageSize, Model
from sightline.serving.devices import environments, gpus, usual_workers
from sightline.serving.logs import JsonLines
from sightline.serving.pool import Pool
from sightline.serving.settings import Settings
from sightline.serving.worker import Job

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from sightline.serving.metrics import Metrics

LOG = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than the 60 s of the usual load balancers: they must be the ones to close an idle connection
WARM_SIZE = ImageSize(8, 333)
"""A strip: detectors enlarge a picture until a side has its limit, and 32 x 1333 px are a thirtieth of a photograph's work."""

POLL_S = 0.01
OWN_FILES = 64  # file descriptors that the process needs beside its connections
ANY_PORT = range(0, 1)

CreateApp = Callable[["Settings", "Metrics"], "Starlette"]


class Load(Protocol):
    """How a model is loaded: `load_bundle`, perhaps as a `partial` with further arguments."""

    def __call__(
        self, reference: str | Path, *, device: str, score_threshold: float | None, class_names: Sequence[str] | None
    ) -> Model: ...


def load_bundle(
    reference: str | Path, *, device: str, score_threshold: float | None, class_names: Sequence[str] | None, **options: Any
) -> Model:
    """The bundle room's `load_model`, imported here so that the server answers before torch is.

    options: what runs it and how, where that is not the usual: `runtime`, `optimize`, `precision`, `compile`, ...
    """
    from sightline.bundle.load import load_model

    return load_model(reference, device=device, score_threshold=score_threshold, class_names=class_names, **options)


def require_there(model: str | Path) -> None:
    """Before a port is taken and the log says that a model loads: nothing, if there is one.

    Raises:
        BundleError: there is none.
    """
    from sightline.bundle.archive import require_there as require_files

    require_files(model)


def serve(
    model: str | Path,
    *,
    host: str = LOOPBACK,
    port: int = 8080,
    device: str = "auto",
    threshold: float | None = None,
    class_names: Sequence[str] | None = None,
    settings: Settings | None = None,
    load: Load = load_bundle,
    free_ports: range = ANY_PORT,
    workers: int | None = None,
) -> None:
    """Serve `model` until SIGTERM or SIGINT; returns when everything accepted is answered.

    host:       127.0.0.1 is this machine only; 0.0.0.0 is everyone, as containers need it
    port:       0 picks a free one of `free_ports`, and the log says which
    threshold:  least score of any answer; None: as the model was configured
    free_ports: where any may be taken; the default leaves the choice to the system
    workers:    processes that hold the model; 0 is the server's own, None is one for each GPU where there are several

    Raises:
        RunError: the port is taken or not allowed, and the model is not loaded then; or its workers die at every start.
        SightlineError: the model cannot be loaded, or cannot predict.
    """
    app_settings = settings or Settings()
    names = gpus(os.environ)
    loads_bundle = named(load)[0] == named(load_bundle)[0]
    usual = usual_workers(device, names) if loads_bundle else 0
    count = usual if workers is None else workers
    if loads_bundle:
        require_there(model)
    listener = listen(host, port, free_ports)
    address = address_of(listener)
    LOG.info("Listening on %s while %s loads", address, model)
    if count:
        function, options = named(load)
        told_names = None if class_names is None else tuple(class_names)
        job = Job(str(model), device, threshold, told_names, function, options, *log_form())
        pool = Pool(job, environments(count, device, os.environ, names, cores()), batch_timeout_s=app_settings.batch_timeout_s)
        serve_pool(pool, listener, app_settings.for_workers(count, cores()))
        return
    future: Future[Model] = Future()
    server = build_server(create(future), app_settings)

    def load_and_warm() -> None:
        try:
            loaded = load(model, device=device, score_threshold=threshold, class_names=class_names)
            warm(loaded)
            future.set_result(loaded)
            if not server.should_exit:
                LOG.info("Ready. Try: %s   or open %s", curl(address), address)
        except BaseException as error:
            future.set_exception(error)
            server.should_exit = True

    loader = threading.Thread(target=load_and_warm, name="load", daemon=True)
    with ends_well(server):
        loader.start()
        server.run(sockets=[listener])
    # stopped while loading: Python aborts if it ends while a thread is inside torch, so let it finish first
    loader.join(app_settings.drain_s)
    if future.done() and (error := future.exception()):
        raise as_sightline_error(error, model) from error


def serve_pool(pool: Pool, listener: socket.socket, settings: Settings) -> None:
    """Serve the model that lives in the processes of `pool`, as `serve`."""
    server, address = build_server(create(pool.model, pool), settings), address_of(listener)

    def stop() -> None:
        server.should_exit = True

    def say(model: Future[Model]) -> None:
        if not model.exception() and not server.should_exit:
            LOG.info("Ready. Try: %s   or open %s", curl(address), address)

    pool.on_error = stop
    pool.model.add_done_callback(say)
    with ends_well(server):
        try:
            pool.start()
            server.run(sockets=[listener])
        finally:
            pool.close()
    if pool.error is not None:
        raise pool.error


def named(load: Load) -> tuple[str, dict[str, Any]]:
    """(`module:function`, its further arguments, of JSON's types), by which another process finds it; of a `partial`, too."""
    function: Any = load.func if isinstance(load, partial) else load
    options = load.keywords if isinstance(load, partial) else {}
    return f"{function.__module__}:{function.__qualname__}", options


def log_form() -> tuple[bool, int]:
    """Whether this process's log lines are JSON, and from which level on they are written."""
    log = logging.getLogger("sightline")
    return any(isinstance(handler.formatter, JsonLines) for handler in log.handlers), log.getEffectiveLevel()


def serve_many(
    folder: Path,
    *,
    host: str = LOOPBACK,
    port: int = 8080,
    device: str = "auto",
    threshold: float | None = None,
    settings: Settings | None = None,
    load: Load = load_bundle,
    free_ports: range = ANY_PORT,
) -> None:
    """Serve the models in `folder` that clients ask to be loaded, as SageMaker's multi-model endpoints do.

    Raises:
        RunError: the port is taken or not allowed, or there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(folder, "is no folder", "Give the folder that the models are in.")

    def load_and_warm(path: Path) -> Model:
        model = load(path, device=device, score_threshold=threshold, class_names=None)
        warm(model)
        return model

    app_settings = settings or Settings()
    listener = listen(host, port, free_ports)
    server = build_server(create_many(folder, load_and_warm), app_settings)
    LOG.info("Ready on %s, for models in %s: POST /models", address_of(listener), folder)
    with ends_well(server):
        server.run(sockets=[listener])


@contextmanager
def running(model: Model | Future[Model], *, port: int = 0, settings: Settings | None = None) -> Iterator[str]:
    """The address of a server for `model` on this machine, in a background thread while the block runs.

    >>> with running(model) as url:
    ...     predict = connect(url).predict
    """
    with running_app(create(model), port=port, settings=settings) as address:
        yield address


@contextmanager
def running_app(create_app: CreateApp, *, port: int = 0, settings: Settings | None = None) -> Iterator[str]:
    """The address of a server for an app, in a background thread while the block runs."""
    listener = listen(LOOPBACK, port)
    server = build_server(create_app, settings or Settings())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serve", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RunError(address_of(listener), "the server did not start", "The log tells why.")
            time.sleep(POLL_S)
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def create(model: Model | Future[Model], pool: Pool | None = None) -> CreateApp:
    """How the app of one model is made. pool: of the processes that it lives in, if it does."""
    require("starlette", "serve", "sightline serve")
    from sightline.serving.app import create_app

    return partial(create_app, model, workers=pool)


def create_many(folder: Path, load: Callable[[Path], Model], free: Callable[[], int | None] | None = None) -> CreateApp:
    """How the app of many models is made. load: a path -> the model, warm; free: bytes of memory, the system's by default."""
    require("starlette", "serve", "sightline serve")
    from sightline.memory import bytes_free
    from sightline.serving.multi_model import create_multi_app

    return partial(create_multi_app, folder, load, free=free or bytes_free)


def build_server(create_app: CreateApp, settings: Settings) -> "uvicorn.Server":
    """uvicorn with one parser everywhere (h11), bounded connections, and without its own logging: the app logs its requests."""
    module = require("uvicorn", "serve", "sightline serve")
    from sightline.serving.connections import Connections
    from sightline.serving.metrics import Metrics

    settings = replace(settings, max_connections=min(settings.max_connections, most_connections()))
    metrics = Metrics()
    server: uvicorn.Server = module.Server(
        module.Config(
            create_app(settings, metrics),
            http=Connections(settings, metrics),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(settings.drain_s),
        )
    )
    return server


def most_connections() -> int:
    """As many as the process may have files open, less a few of its own."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, limit - OWN_FILES) if limit > 0 else 2**31  # no limit is a negative number


@contextmanager
def ends_well(server: "uvicorn.Server") -> Iterator[None]:
    """SIGTERM and SIGINT end the server, not the process: the caller goes on and exits with 0.

    uvicorn raises a signal that it has caught once more when it is done; with Python's own handlers that would kill the
    process. These handlers also cover the moments before uvicorn installs its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int, free_ports: range = ANY_PORT) -> socket.socket:
    """A listening socket. From here on clients can connect; they are answered as soon as the app runs.

    port: 0 takes the first of `free_ports` that nobody has

    Raises:
        RunError: the port is taken (of `free_ports`: all are), not allowed, or the host is not this machine's.
    """
    ports = range(port, port + 1) if port else free_ports
    for candidate in ports[:-1]:
        with suppress(RunError):
            return listen_at(host, candidate)
    return listen_at(host, ports[-1])


def listen_at(host: str, port: int) -> socket.socket:
    """`listen` on this very port; 0 leaves it to the system.

    Raises:
        RunError: the port is taken, not allowed, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # naming the protocol makes asyncio switch Nagle's algorithm off; without it every answer is 40 ms late
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        where = f"{host}:{port}"
        match error.errno:
            case errno.EADDRINUSE:
                raise RunError(where, "is already in use", "Choose another port, or 0 for any free one.") from error
            case errno.EACCES:
                raise RunError(where, "is not allowed for this user", "Choose a port from 1024 on.") from error
        raise RunError(where, f"cannot be listened on ({error})", "Give an address of this machine, or 0.0.0.0.") from error


def address_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8080`, an address that works on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def curl(address: str) -> str:
    return f"curl -X POST -H 'Content-Type: image/jpeg' --data-binary @picture.jpg {address}/invocations"


def warm(model: Model) -> None:
    """Predict once, so that the first client does not pay for lazy start-up and a model that cannot predict never gets one."""
    try:
        model.predict([np.full((*WARM_SIZE, 3), 127, np.uint8)])
    except Exception as error:
        raise BundleError(
            model.origin, f"was loaded but cannot predict ({error!r})", "Check its configuration and weights."
        ) from error


def as_sightline_error(error: BaseException, model: str | Path) -> SightlineError:
    """What ended the loading, as one clear message; anything unforeseen keeps its own text and cause."""
    if isinstance(error, SightlineError):
        return error
    return BundleError(model, f"could not be loaded ({error!r})", "Check that it is a complete model for this machine.")
