"""`sightline serve MODEL`: the HTTP server, on this machine or in a container.

SageMaker tells a container what to do through the environment: each option names the variables that set it, and the option
itself wins. docs/wire.md has the table.
"""

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.models import COMPILE_FOR_HELP, COMPILE_HELP, OPTIMIZE_HELP, PRECISION_HELP, RUNTIMES, SHAPES
from sightline.errors import RequestError
from sightline.runtimes.asked import Execution

MODELS_FOLDER = "/opt/ml/models"
"""Where SageMaker puts the models of a multi-model endpoint."""

TIMEOUTS = ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "SAGEMAKER_MODEL_SERVER_TIMEOUT", "SAGEMAKER_TS_RESPONSE_TIMEOUT")
"""The names that AWS's own servers have for one thing; the first that is set counts."""


def port_range(text: str) -> range:
    """`25000-25999` as `SAGEMAKER_SAFE_PORT_RANGE` has it.

    Raises:
        RequestError: it is no range of ports.
    """
    first, _, last = text.partition("-")
    try:
        ports = range(int(first), int(last) + 1)
    except ValueError:
        ports = range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise RequestError("--port-range", f"is {text!r}", "Give FIRST-LAST, such as 25000-25999.")
    return ports


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A run folder, a bundle, or Detectron2's weights and config. "
            f"With --multi-model: the folder that the models are in ({MODELS_FOLDER}).",
        ),
    ] = None,
    *,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine only. 0.0.0.0: everyone, as containers need it.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="SAGEMAKER_BIND_TO_PORT", min=0, max=65535, help="0 picks a free one; the log says which."),
    ] = 8080,
    free_ports: Annotated[
        str | None,
        typer.Option(
            "--port-range", envvar="SAGEMAKER_SAFE_PORT_RANGE", metavar="FIRST-LAST",
            help="Where --port 0 looks for a free one.",
        ),
    ] = None,
    multi_model: Annotated[
        bool,
        typer.Option("--multi-model", envvar="SAGEMAKER_MULTI_MODEL", help="Many models, loaded with POST /models."),
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of any answer. Default: the model's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    runtime: Annotated[
        str,
        typer.Option(
            envvar="SIGHTLINE_RUNTIME", metavar=RUNTIMES,
            help="What runs the model: torch its weights, the others model.onnx.",
        ),
    ] = "auto",
    optimize: Annotated[
        bool, typer.Option("--optimize/--no-optimize", envvar="SIGHTLINE_OPTIMIZE", help=OPTIMIZE_HELP)
    ] = True,
    precision: Annotated[
        str, typer.Option(envvar="SIGHTLINE_PRECISION", metavar="fp32|fp16|bf16", help=PRECISION_HELP)
    ] = "fp32",
    compile: Annotated[bool, typer.Option("--compile", envvar="SIGHTLINE_COMPILE", help=COMPILE_HELP)] = False,
    compile_for: Annotated[
        list[str] | None, typer.Option(envvar="SIGHTLINE_COMPILE_FOR", metavar=SHAPES, help=COMPILE_FOR_HELP)
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    max_batch: Annotated[
        int, typer.Option(envvar="SAGEMAKER_TS_BATCH_SIZE", min=1, help="Pictures predicted together.")
    ] = 8,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            "--max-delay", envvar="SAGEMAKER_TS_MAX_BATCH_DELAY", min=0,
            help="Milliseconds that a batch waits for more pictures while the model is under load.",
        ),
    ] = 5,
    max_waiting: Annotated[
        int,
        typer.Option(min=1, help="Requests accepted at once; more get 503."),
    ] = 64,
    max_payload_mb: Annotated[
        int, typer.Option("--max-payload", envvar="SAGEMAKER_MAX_PAYLOAD_IN_MB", min=0, help="MiB of a body.")
    ] = 32,
    max_connections: Annotated[int, typer.Option(min=1, help="Open at once; idle ones make way.")] = 1000,
    timeout: Annotated[
        float,
        typer.Option(
            envvar=[*TIMEOUTS],
            min=0.1, help="Seconds from a whole body to its answer; then 503 or 504.",
        ),
    ] = 60,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="SAGEMAKER_MODEL_SERVER_WORKERS", min=0,
            help="Processes with a copy of the model each; one that dies is replaced. 0: the server's own process. "
            "Default: one for each GPU where there are several, else 0.",
        ),
    ] = None,
    worker_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for one batch in a worker; one that takes longer is replaced.")
    ] = 120,
    accept: Annotated[
        str,
        typer.Option(
            envvar="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", help="Type of the answer where Accept leaves the choice."
        ),
    ] = "application/json",
    log_format: Annotated[str, typer.Option(help="text, or json: one object a line.")] = "text",
    level: Annotated[
        str,
        typer.Option(
            "--log-level", envvar="SAGEMAKER_CONTAINER_LOG_LEVEL", metavar="LEVEL",
            help="debug, info, warning or error.",
        ),
    ] = "info",
) -> None:  # fmt: skip
    """Serve a model over HTTP: POST /invocations, GET /ping, a page at /."""
    from sightline.cli.console import split_names
    from sightline.serving.logs import level_of
    from sightline.serving.server import ANY_PORT, load_bundle, serve_many
    from sightline.serving.server import serve as run_server
    from sightline.serving.settings import Settings

    if log_format not in ("text", "json"):
        raise RequestError("--log-format", f"is {log_format!r}", "Give text or json.")
    if model is None and not multi_model:
        raise RequestError("MODEL", "is missing", "Give a bundle or a run folder, or --multi-model.")
    execution = Execution(runtime, optimize, precision, compile, tuple(compile_for or ()))
    begin_log(log_format, level_of(level))
    settings = Settings.for_server(
        max_batch=max_batch,
        max_wait_s=max_delay_ms / 1000,
        max_waiting=max_waiting,
        max_payload_mb=max_payload_mb,
        max_connections=max_connections,
        timeout_s=timeout,
        batch_timeout_s=worker_timeout,
        answer_type=accept,
    )
    load = partial(load_bundle, **execution.options())
    ports = ANY_PORT if free_ports is None else port_range(free_ports)
    if multi_model and workers is not None and workers > 1:
        raise RequestError("--workers", f"is {workers} beside --multi-model", "Leave it out: its models share one process.")
    if multi_model:
        folder = Path(model or MODELS_FOLDER)
        serve_many(
            folder, host=host, port=port, device=device, threshold=threshold, settings=settings, load=load, free_ports=ports
        )
    elif model is not None:
        names = split_names(class_names)
        run_server(
            model, host=host, port=port, device=device, threshold=threshold, class_names=names, settings=settings,
            load=load, free_ports=ports, workers=workers,
        )  # fmt: skip


def begin_log(form: str, level: int) -> None:
    """Sightline's and uvicorn's lines on stderr, as text or as JSON. What Pillow finds odd in a picture is none."""
    from sightline.cli.console import LOG, log_to_stderr
    from sightline.serving.logs import JsonLines

    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    log_to_stderr()
    LOG.setLevel(level)
    if form == "json":
        for handler in LOG.handlers:
            handler.setFormatter(JsonLines())
    uvicorn = logging.getLogger("uvicorn")
    if not uvicorn.handlers:
        uvicorn.handlers = list(LOG.handlers)
    uvicorn.setLevel(max(level, logging.WARNING))
