"""`sightline predict MODEL IMAGE_OR_DIR...`: one JSON line per picture, and boxes and masks drawn on the pictures if asked."""

import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import log_to_stderr, note
from sightline.cli.models import RUNTIME_HELP, RUNTIMES, Compile, CompileFor, Optimize, Precision, fingerprint, open_workers
from sightline.cli.slices import (
    Slice,
    SliceMax,
    SliceMeasure,
    SliceMerge,
    SliceOverlap,
    SliceThreshold,
    SliceWhole,
    slices_asked,
)
from sightline.runtimes.asked import Execution

if TYPE_CHECKING:
    from sightline.records import Detections, Image, Model
    from sightline.serving.many import Progress

REDRAW_EVERY_S, LINE_EVERY_S = 0.2, 15.0
"""Between two states of the progress line: on a terminal, and in a log."""


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As for `serve`, or http://HOST:PORT of a server.")],
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE_OR_DIR...", help="Pictures, videos, or folders with all pictures below them; also s3://."
        ),
    ],
    *,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="File for the JSON lines; an interrupted run goes on. Default: stdout.")
    ] = None,
    draw: Annotated[str | None, typer.Option(metavar="DIR", help="Also write the pictures with boxes and masks here.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score. Default: the model's own, or its classes'.")
    ] = None,
    draw_threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score that is drawn.")] = 0.5,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Of videos: look at every N-th frame.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N. auto and cuda take all GPUs.")] = "auto",
    runtime: Annotated[str, typer.Option(metavar=RUNTIMES, help=RUNTIME_HELP)] = "auto",
    optimize: Optimize = True,
    precision: Precision = "fp32",
    compile: Compile = False,
    compile_for: CompileFor = None,
    class_names: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="For a model that does not carry its own.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of one shape, or tiles, predicted together.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Batches under way at once. Default: one for each GPU, or core.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on with an interrupted run.")] = False,
    slice_size: Slice = None,
    slice_overlap: SliceOverlap = None,
    slice_whole: SliceWhole = None,
    slice_merge: SliceMerge = None,
    slice_measure: SliceMeasure = None,
    slice_threshold: SliceThreshold = None,
    slice_max: SliceMax = None,
) -> None:
    """Find objects in pictures and videos; one JSON line for each, or for each frame. Errors are lines too."""
    from sightline.serving.given import collect
    from sightline.serving.many import Asked, ended_by_signals, predict_many, predict_to
    from sightline.slicing import sliced
    from sightline.storage import is_remote, output_path

    log_to_stderr()
    execution = Execution(runtime, optimize, precision, compile, tuple(compile_for or ()))
    slices = slices_asked(
        slice_size,
        overlap=slice_overlap,
        whole=slice_whole,
        merge=slice_merge,
        measure=slice_measure,
        threshold=slice_threshold,
        most=slice_max,
    )
    meter = Meter()
    with ExitStack() as outputs:
        lines_to = outputs.enter_context(output_path(output, "A file of answers")) if output else None
        drawn_to = outputs.enter_context(output_path(draw, "Drawing")) if draw else None
        names = collect(pictures)
        detector, predicts = open_workers(
            model, device=device, threshold=threshold, class_names=class_names, workers=workers, execution=execution
        )
        if slices is not None:
            predicts = [sliced(one, slices, batch_size=batch_size) for one in predicts]
            batch_size = 1  # of pictures; that of tiles is in each
        paint = Painter(detector, max(threshold or 0.0, draw_threshold)) if draw else None
        least = threshold if threshold is not None else (detector.thresholds or 0.0)
        asked = Asked(batch_size=batch_size, threshold=least, every=every, paint=paint, draw_to=drawn_to)
        outputs.enter_context(ended_by_signals())
        outputs.callback(meter.clear)
        if output is None or lines_to is None:
            done = predict_many(predicts, detector.class_names, names, show_line, asked, say=meter.tell)
        else:
            options = {
                "pictures": pictures,
                "threshold": threshold,
                "draw": draw,
                "draw_threshold": draw_threshold if draw else None,
                "slices": None if slices is None else slices.as_dict(),
            }
            work = work_file(output)
            done = predict_to(
                work,
                predicts,
                detector.class_names,
                names,
                asked,
                begun_with=fingerprint(model, detector) | options,
                restart=restart or bool(draw and is_remote(draw)),  # what was drawn for S3 went with the call that drew it
                say=meter.tell,
            )
            if work != lines_to:
                shutil.move(work, lines_to)
    note(meter.summary(done))
    if paint is not None:
        note(paint.summary(done.detections))
    if done.errors:
        raise typer.Exit(1)


def work_file(output: str) -> Path:
    """Where the lines are collected: beside the output, for one on S3 in the cache, where the next call finds them."""
    from sightline.downloads import cache_folder
    from sightline.storage import is_remote

    if not is_remote(output):
        return Path(output)
    digest = hashlib.sha256(output.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return cache_folder(os.environ) / "predictions" / digest / "lines.jsonl"


def show_line(line: object) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)


@dataclass
class Painter:
    """Draws a model's detections of at least `threshold`, and counts them; several threads draw at once."""

    detector: "Model"
    threshold: float
    drawn: int = 0
    lock: Lock = field(default_factory=Lock)

    def __call__(self, image: "Image", detections: "Detections") -> "Image":
        from sightline.view.draw import draw

        shown = draw(image, detections, self.detector.class_names, threshold=self.threshold)
        with self.lock:
            self.drawn += len(detections.above(self.threshold).scores)
        return shown

    def summary(self, found: int) -> str:
        """Without it nobody would know why a picture with detections has no boxes."""
        return f"drawn from score {self.threshold:g} on: {self.drawn} of {found} detections (--draw-threshold)"


@dataclass
class Meter:
    """The progress line on stderr: redrawn on a terminal, else a line now and then."""

    began: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def tell(self, progress: "Progress") -> None:
        now = time.monotonic()
        on_terminal = sys.stderr.isatty()
        if now - self.shown < (REDRAW_EVERY_S if on_terminal else LINE_EVERY_S):
            return
        self.shown = now
        text = self.line(progress)
        if on_terminal:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
        else:
            note(text)

    def line(self, progress: "Progress") -> str:
        """12,345 of 100,000 pictures, 3 errors, 41.2/s, 35 min left"""
        rate = progress.lines / max(time.monotonic() - self.began, 1e-9)
        done = progress.before + progress.lines
        of = "" if progress.total is None else f" of {progress.total:,}"
        errors = f", {progress.errors:,} errors" if progress.errors else ""
        left = "" if progress.total is None else f", {duration(max(progress.total - done, 0) / max(rate, 1e-9))} left"
        return f"{done:,}{of} pictures{errors}, {rate:.1f}/s{left}"

    def clear(self) -> None:
        if sys.stderr.isatty():
            with suppress(OSError):
                sys.stderr.write("\r\x1b[K")

    def summary(self, done: "Progress") -> str:
        rate = done.lines / max(time.monotonic() - self.began, 1e-9)
        before = f" ({done.before:,} were there already)" if done.before else ""
        return (
            f"{done.before + done.lines} pictures{before}, {done.detections} detections, {done.errors} errors, "
            f"{rate:.1f} pictures/s"
        )


def duration(seconds: float) -> str:
    """In the largest unit that gives two figures."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
