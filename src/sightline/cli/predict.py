"""`sightline predict MODEL IMAGE_OR_DIR...`: one JSON line per picture, and boxes and masks drawn on the pictures if asked."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightline.records import Model
    from sightline.serving.files import Found


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As for `serve`, or http://HOST:PORT of a server.")],
    pictures: Annotated[
        list[str], typer.Argument(metavar="IMAGE_OR_DIR...", help="Files, or folders with all below them; also s3://.")
    ],
    *,
    output: Annotated[str | None, typer.Option("-o", "--output", help="File for the JSON lines. Default: stdout.")] = None,
    draw: Annotated[str | None, typer.Option(metavar="DIR", help="Also write the pictures with boxes and masks here.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score. Default: the model's own.")] = None,
    draw_threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score that is drawn.")] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of one shape predicted together.")] = 1,
) -> None:
    """Find objects in pictures; one JSON line each, errors are lines too."""
    from contextlib import ExitStack

    from sightline.cli.console import log_to_stderr, note
    from sightline.cli.models import open_model
    from sightline.serving.files import collect, detect_files, write_lines
    from sightline.storage import output_path

    log_to_stderr()
    with ExitStack() as outputs:
        lines_to = outputs.enter_context(output_path(output, "A file of answers")) if output else None
        drawn_to = outputs.enter_context(output_path(draw, "Drawing")) if draw else None
        paths = collect(pictures)
        detector = open_model(model, device=device, threshold=threshold, class_names=class_names)
        tally = Tally()
        results = tally.watch(detect_files(detector.predict, paths, batch_size=batch_size, threshold=threshold or 0.0))
        if drawn_to is not None:
            results = drawing(results, detector, list(paths), drawn_to, max(threshold or 0.0, draw_threshold))
        lines = (found.line(detector.class_names, paths[found.path]) for found in results)
        if lines_to is None:
            for line in lines:
                print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            write_lines(lines, lines_to)
    note(str(tally))
    if tally.errors:
        raise typer.Exit(1)


class Tally:
    """What the last line says."""

    def __init__(self) -> None:
        self.pictures = self.detections = self.errors = 0
        self.began = time.perf_counter()

    def watch(self, results: "Iterator[Found]") -> "Iterator[Found]":
        """The same results, counted."""
        for found in results:
            self.pictures += 1
            self.detections += len(found.detections) if found.detections is not None else 0
            self.errors += found.problem is not None
            yield found

    def __str__(self) -> str:
        rate = self.pictures / (time.perf_counter() - self.began)
        return f"{self.pictures} pictures, {self.detections} detections, {self.errors} errors, {rate:.1f} pictures/s"


def drawing(
    results: "Iterator[Found]", detector: "Model", paths: list[Path], folder: Path, threshold: float
) -> "Iterator[Found]":
    """The same results; on the way each picture is written below `folder` with its boxes, under its own relative name.

    Raises:
        ImageError: a drawn picture would replace one of the pictures that are read.
    """
    from sightline.errors import ImageError
    from sightline.serving.files import drawn_names, write_picture
    from sightline.view.draw import draw

    targets = {path: folder / name for path, name in drawn_names(paths).items()}
    sources = {path.resolve() for path in paths}
    if clash := next((target for target in targets.values() if target.resolve() in sources), None):
        raise ImageError(clash, "is one of the pictures to read, and would be drawn over", "Give --draw another folder.")
    for found in results:
        if found.image is not None and found.detections is not None:
            write_picture(draw(found.image, found.detections, detector.class_names, threshold=threshold), targets[found.path])
        yield found
