"""`sightline cloud image build|push`: the containers that jobs and endpoints run in."""

import json
import shlex
from typing import Annotated

import typer

from sightline.cli import cloud
from sightline.cli.cloud import AsJson, own_tags
from sightline.cli.console import note, show

app = typer.Typer(no_args_is_help=True, help="The images that jobs and endpoints run in: build them, push them to ECR.")

Kinds = Annotated[
    list[str] | None, typer.Argument(metavar="[train|serve|serve-onnx]...", help="Which. Default: train and serve.")
]
ImageTag = Annotated[
    str, typer.Option("--tag", help="Of the images. Default: Sightline's version, as the other commands take it.")
]
Tool = Annotated[str, typer.Option("--tool", help="docker, podman or buildah. Default: the first that works here.")]

USUAL = ["train", "serve"]


@app.command()
def build(
    kinds: Kinds = None,
    *,
    tag: ImageTag = "",
    base: Annotated[str, typer.Option("--base", help="Image with Python 3.11 to 3.13. Default: python:3.12-slim.")] = "",
    torch_index: Annotated[
        str, typer.Option("--torch-index", metavar="URL", help="Of PyTorch's wheels, for another CUDA or the CPU alone.")
    ] = "",
    platform: Annotated[str, typer.Option("--platform", help="Default: that of SageMaker's usual machines.")] = "linux/amd64",
    build_arg: Annotated[
        list[str] | None, typer.Option("--build-arg", metavar="NAME=VALUE", help="For the Dockerfile; repeatable.")
    ] = None,
    tool: Tool = "",
    tool_options: Annotated[
        str, typer.Option("--tool-options", metavar="TEXT", help="Further words for the tool, as in a shell.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the commands, run none.")] = False,
) -> None:
    """Build images of the Sightline that runs here."""
    from sightline.cloud import images

    wanted = images.images(kinds or USUAL, tag)
    settings = images.Settings(base, torch_index, platform, pairs(build_arg, "--build-arg"), words(tool_options))
    found = images.find_tool(tool)
    with images.build_folder() as folder:
        for image in wanted:
            if dry_run:
                show(shlex.join(images.build_command(found, image, folder, settings)), False, None)
                continue
            images.build(found, image, folder, settings)
            show(image.name, False, None)
    if dry_run:
        note("nothing was built (--dry-run); the folder is made for the time of building")


@app.command()
def push(
    kinds: Kinds = None,
    *,
    tag: ImageTag = "",
    repository_tag: Annotated[
        list[str] | None,
        typer.Option("--repository-tag", metavar="KEY=VALUE", help="On repositories made here; repeatable."),
    ] = None,
    tool: Tool = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, show requests and commands, send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Push images into the account's registry; repositories that are missing are made."""
    from sightline.cloud import images

    wanted, tags = images.images(kinds or USUAL, tag), own_tags(repository_tag, "--repository-tag")
    found = images.find_tool(tool)
    account = cloud.open_account()
    plan = images.plan_push(account, found, wanted, tags)
    for line in plan.warnings:
        note(f"note: {line}")
    if dry_run:
        print(json.dumps(plan.as_dict(), indent=2), flush=True)
        note("nothing was sent (--dry-run)")
        return
    pushed = images.push(account, plan, note)
    told = [f"{image.uri}\n  {image.digest}, {image.compressed / 1e6:,.0f} MB compressed" for image in pushed]
    show("\n".join(told), as_json, [image.as_dict() for image in pushed])


def pairs(given: list[str] | None, where: str) -> dict[str, str]:
    """`NAME=VALUE` words.

    Raises:
        SightlineError: one has no `=`.
    """
    from sightline.errors import SightlineError

    found = dict(word.partition("=")[::2] for word in given or [] if "=" in word)
    if len(found) != len(given or []):
        raise SightlineError(where, f"is {' '.join(given or [])!r}", "Give NAME=VALUE, each name once.")
    return found


def words(text: str) -> tuple[str, ...]:
    """A text as a shell would take it apart.

    Raises:
        SightlineError: a quotation mark is not closed.
    """
    from sightline.errors import SightlineError

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise SightlineError("--tool-options", f"is {text!r} ({error})", "Quote it as in a shell.") from error
