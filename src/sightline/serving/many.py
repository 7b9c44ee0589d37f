"""`sightline predict`: many pictures as one run, which can be ended at any moment and goes on where it stopped."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from sightline.errors import Interrupted
from sightline.records import Predict
from sightline.serving.drawing import Paint, drawn, targets_of
from sightline.serving.files import READERS, REMOTE_READERS, Least, detect_files
from sightline.serving.lines import Lines, lines_at
from sightline.serving.videos import frame_count, is_video
from sightline.storage import is_remote


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    lines:      written, in this call
    before:     lines that were there already
    errors:     lines that are errors, of all
    detections: in this call's lines
    total:      how many lines there will be; None: nobody knows, there is a video that does not tell its length
    """

    lines: int = 0
    before: int = 0
    errors: int = 0
    detections: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How pictures are predicted and drawn.

    batch_size: pictures of one shape predicted together
    threshold:  least score that is kept; one for all, or one for each class
    every:      of videos: every how many frames one is looked at
    paint:      draws what was found; None: nothing is drawn
    draw_to:    the folder of what is drawn
    """

    batch_size: int = 1
    threshold: Least = 0.0
    every: int = 1
    paint: Paint | None = None
    draw_to: Path | None = None


def predict_many(
    predicts: Sequence[Predict],
    class_names: Sequence[str],
    names: Sequence[str],
    write: Callable[[Mapping[str, object]], None],
    asked: Asked,
    *,
    lines: Lines | None = None,
    say: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Every picture's line, in order, to `write`; those that `lines` has already are left out.

    predicts: one model, or its copies, which work side by side
    say:      hears about every line

    Raises:
        RunError: a model cannot go on at all. What was written stays.
    """
    if lines is not None and asked.paint is not None:
        lines.drop_last_video()
    done = lines.done if lines is not None else set[str]()
    after = dict([lines.last]) if lines is not None and lines.last is not None else {}
    targets = targets_of(names, asked.draw_to) if asked.draw_to is not None else {}
    remaining = [name for name in names if name not in done or name in after]
    before = lines.count if lines is not None else 0
    progress = Progress(before=before, errors=lines.errors if lines is not None else 0, total=total_of(names, asked.every))
    with ExitStack() as stages:
        results = stages.enter_context(
            closing(
                detect_files(
                    predicts,
                    remaining,
                    batch_size=asked.batch_size,
                    threshold=asked.threshold,
                    every=asked.every,
                    after=after,
                    readers=REMOTE_READERS if any(map(is_remote, remaining)) else READERS,
                )
            )
        )
        if asked.paint is not None:
            results = stages.enter_context(closing(drawn(results, asked.paint, targets)))
        for found in results:
            write(found.line(class_names))
            progress = replace(
                progress,
                lines=progress.lines + 1,
                errors=progress.errors + (found.detections is None),
                detections=progress.detections + (0 if found.detections is None else len(found.detections)),
            )
            say(progress)
    return progress


def predict_to(
    path: Path,
    predicts: Sequence[Predict],
    class_names: Sequence[str],
    names: Sequence[str],
    asked: Asked,
    *,
    begun_with: Mapping[str, object],
    restart: bool = False,
    say: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """`predict_many` to the file `path`, which appears with its last line. A call that was cut short is gone on with.

    begun_with: what decides on the lines besides `asked`: the model, above all; plain JSON values
    restart:    begin anew

    Raises:
        SightlineError: lines that are there were begun with something else.
        Interrupted: SIGTERM came; what is done is on the disk.
    """
    least = asked.threshold if isinstance(asked.threshold, int | float) else list(asked.threshold)  # as JSON gives it back
    options = {"threshold": least, "every": asked.every, "draw": str(asked.draw_to) if asked.draw_to else None}
    with lines_at(path, {**options, **begun_with}, restart=restart) as lines:
        return predict_many(predicts, class_names, names, lines.write, asked, lines=lines, say=say)


def total_of(names: Sequence[str], every: int) -> int | None:
    """How many lines there will be, errors of videos aside."""
    counts = [frame_count(name, every) if is_video(name) else 1 for name in names]
    return None if None in counts else sum(count for count in counts if count is not None)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside the block SIGTERM ends the work as Ctrl-C does, so that everything is closed well.

    Raises:
        Interrupted: it came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted("SIGTERM", "came", "The same command goes on where this one stopped.")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
