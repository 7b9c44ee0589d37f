"""`sightline serve MODEL`: the HTTP server, on this machine or in a container."""

from typing import Annotated

import typer

BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
"""SageMaker sets it where several containers share a network; the option wins."""


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a bundle, or Detectron2's weights and config.")],
    *,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine only. 0.0.0.0: everyone, as containers need it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=BIND_TO_PORT, min=0, max=65535, help="0 picks a free one; the log says which.")
    ] = 8080,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of any answer. Default: the model's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Pictures predicted together.")] = 8,
    max_waiting: Annotated[int, typer.Option(min=1, help="Requests accepted at once; more get 503.")] = 64,
) -> None:
    """Serve a model over HTTP: POST /invocations, GET /ping, a page at /."""
    from sightline.cli.console import log_to_stderr, split_names
    from sightline.serving.server import serve as run_server
    from sightline.serving.settings import Settings

    log_to_stderr()
    run_server(
        model,
        host=host,
        port=port,
        device=device,
        threshold=threshold,
        class_names=split_names(class_names),
        settings=Settings(max_batch=max_batch, max_waiting=max_waiting),
    )
