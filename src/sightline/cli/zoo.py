"""`sightline zoo`: the configurations that `--config` knows, with what was published about their models."""

from typing import Annotated

import typer

from sightline.cli.console import show


def zoo(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One model, with or without .yaml. Default: all.")
    ] = None,
    *,
    config: Annotated[bool, typer.Option("--config", help="Print the whole configuration of NAME as YAML.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the model zoo: scores, speed, memory, weights."""
    from sightline.config import zoo_page
    from sightline.config.zoo_models import zoo_model
    from sightline.errors import ConfigError

    if config and (name is None or as_json):
        raise ConfigError("--config", "prints one model's YAML", "Give it a NAME, and no --json.")
    if name is None:
        show(zoo_page.table(), as_json, zoo_page.all_as_dict())
    elif config:
        print(zoo_page.full_yaml(zoo_model(name)), end="", flush=True)
    else:
        show(zoo_page.sheet(zoo_model(name)), as_json, zoo_page.as_dict(zoo_model(name)))
