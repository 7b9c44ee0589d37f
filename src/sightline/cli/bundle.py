"""`sightline bundle pack`, `sightline bundle export` and `sightline bundle inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.console import log_to_stderr, show, split_names

app = typer.Typer(no_args_is_help=True, help="What is deployed: pack it, look into it.")


@app.command()
def pack(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run folder, Detectron2's output folder, or an archive of either.")
    ] = None,
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
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a bundle, or Detectron2's output folder.")],
    *,
    format: Annotated[str, typer.Option("--format", metavar="onnx|torchscript|torch-export", help="What to write.")] = "onnx",
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="The file to write. [default: model.onnx, model.ts, model.pt2]"),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="BUNDLE", help="Instead of a file: a bundle to write, model.onnx inside; may be MODEL."),
    ] = None,
    without_torch: Annotated[
        bool, typer.Option("--without-torch", help="That bundle holds model.onnx alone: a fraction of the memory, no torch.")
    ] = False,
    opset: Annotated[int | None, typer.Option(help="ONNX's version of operators, 16 to 21. [default: 17]")] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="DIR", help="Pictures to compare both on. [default: drawn ones]"),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the ONNX file: a quarter of the size.")] = False,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", metavar="DIR", help="For --int8: some dozens of pictures like those to be predicted."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="For --int8: a dataset folder on which its AP cost is measured.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which part of it.")] = "val",
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """A model as ONNX, TorchScript or torch.export; kept only if it finds what the model finds."""
    from typing import cast

    from sightline.exporting.write import Format
    from sightline.exporting.write import export as export_model

    log_to_stderr()
    done = export_model(
        model,
        output,
        format=cast("Format", format),  # `export` refuses what is none
        into=into,
        without_torch=without_torch,
        opset=opset,
        images=images,
        class_names=split_names(class_names),
        int8=int8,
        calibrate=calibrate,
        data=data,
        split=split,
    )
    told = done.verified
    show(
        f"{done.path}: {done.size_bytes:,} bytes, {done.format}, sha256 {done.sha256}\n"
        f"compared with the model on {told.pictures} pictures: {told.detections} detections agree, {told.unmatched} do not; "
        f"overlap at least {told.least_iou:.4f}, scores within {told.largest_score_difference:.1g}"
        + ("" if done.int8 is None else f"\n(that is of the graph in fp32)\n{done.int8.text()}"),
        as_json,
        {
            "path": str(done.path),
            "format": done.format,
            "size_bytes": done.size_bytes,
            "sha256": done.sha256,
            "facts": dict(done.facts),
            **({} if done.int8 is None else {"fp32_s": done.int8.fp32_s, "int8_s": done.int8.int8_s}),
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
