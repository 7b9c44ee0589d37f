"""`sightline bundle pack` and `sightline bundle inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.console import log_to_stderr, show, split_names

app = typer.Typer(no_args_is_help=True, help="What is deployed: pack it, look into it.")


@app.command()
def pack(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run folder, or Detectron2's output folder.")] = None,
    *,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The archive to write.")] = "model.tar.gz",
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="W", help="Instead of a run: a .pth, a .pkl or an address ...")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME|FILE", help="... and its YAML file or model zoo name.")
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(
            "--requirements",
            metavar="FILE",
            help="Instead of what AWS's containers shall install for Sightline (code/requirements.txt).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Weights, configuration and class names in one file with checksums; code/ for AWS's own PyTorch containers."""
    from sightline.bundle.pack import pack_files, pack_run
    from sightline.errors import BundleError

    log_to_stderr()
    names = split_names(class_names)
    if run is not None and weights is None and config is None:
        packed = pack_run(run, output, names, requirements=requirements)
    elif run is None and weights is not None and config is not None:
        packed = pack_files(weights, config, output, names, requirements=requirements)
    else:
        raise BundleError("bundle pack", "needs either RUN, or both --weights and --config", "Give one of the two.")
    show(
        f"{packed.path}: {packed.size_bytes:,} bytes, classes {', '.join(packed.class_names)}, sha256 {packed.sha256}",
        as_json,
        {
            "path": str(packed.path),
            "size_bytes": packed.size_bytes,
            "class_names": list(packed.class_names),
            "sha256": packed.sha256,
        },
    )


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A bundle, a run folder, or Detectron2's output folder.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """What a model is: its classes, how it was trained, what it scored. Checksums are verified, also of code/."""
    import json

    from sightline.bundle.archive import describe

    told = describe(model)
    show(json.dumps(told, ensure_ascii=False, indent=1) if told else f"{model}: no bundle.json, no run.json", as_json, told)
