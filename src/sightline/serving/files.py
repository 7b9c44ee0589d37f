"""Prediction over files: pictures and videos in, one result per picture or frame out, in order, as a stream.

A broken picture never stops the rest. Three stages work beside each other, and between them lie a few pictures, never all:
threads read and decode, the model (or its copies on several GPUs) finds, and `drawing` paints and writes. `predict_files` gives
what `sightline predict -o out.jsonl` writes; `detect_files` gives the pictures too, for drawing.
"""

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

from sightline import wire
from sightline.errors import ImageError, MissingDependencyError, Problem, RunError, SightlineError
from sightline.images import read_image
from sightline.records import Detections, Image, Predict
from sightline.serving.videos import Shot, is_video, shots, to_image
from sightline.storage import is_remote, local_path

READERS = 4
"""Threads that read and decode. Decoding a 12-megapixel JPEG takes about as long as a small detector on a GPU."""

REMOTE_READERS = 16
"""The same where pictures come from S3: they wait for the network most of the time."""

WINDOW_BATCHES = 4
"""Batches' worth of pictures among which those of one shape are looked for."""

MAX_WINDOW_BYTES = 256 * 2**20
"""Of decoded pictures in one window; a window closes early above it."""

Item = TypeVar("Item")
Result = TypeVar("Result")

Least = float | Sequence[float]
"""The least score that is kept: one for all, or one for each class."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What became of one picture, or of one frame of a video: either `image` and `detections`, or the `problem`.

    name:   its path, or its s3:// address
    frame:  its number in the video, from 0; None: a picture
    time_s: when it is shown, from the video's first frame
    """

    name: str
    image: Image | None = None
    detections: Detections | None = None
    problem: Problem | None = None
    frame: int | None = None
    time_s: float | None = None

    def line(self, class_names: Sequence[str]) -> dict[str, object]:
        """The wire's answer with `"image": NAME` before it (and frame and time), or `{"image": NAME, "error": {...}}`."""
        head: dict[str, object] = {"image": self.name}
        if self.frame is not None:
            head |= {"frame": self.frame} | ({} if self.time_s is None else {"time_s": round(self.time_s, 6)})
        if self.detections is not None:
            return head | wire.to_json(self.detections, class_names)
        problem = self.problem or Problem(self.name, "has no answer", "Try it again.")
        return head | {"error": problem.as_dict()}


def predict_files(
    predict: Predict,
    class_names: Sequence[str],
    paths: Iterable[str | Path],
    *,
    batch_size: int = 1,
    threshold: Least = 0.0,
    every: int = 1,
) -> Iterator[dict[str, object]]:
    """One JSON line's worth per picture, in order; see `Found.line`. Of videos one for each frame, or each `every`-th."""
    for found in detect_files([predict], map(str, paths), batch_size=batch_size, threshold=threshold, every=every):
        yield found.line(class_names)


def detect_files(
    predicts: Sequence[Predict],
    names: Iterable[str],
    *,
    batch_size: int = 1,
    threshold: Least = 0.0,
    every: int = 1,
    after: Mapping[str, int] | None = None,
    readers: int = READERS,
) -> Generator[Found, None, None]:
    """What was found in each picture, in order. Pictures are read ahead in threads while the models work.

    predicts:   each is called by one thread at a time: a model's copies on several GPUs, or one model several times over
    batch_size: pictures of one shape that are predicted together
    threshold:  least score that is kept; one for all, or one for each class
    every:      of videos: every how many frames one is looked at
    after:      video -> the frame behind which to begin
    readers:    threads that read and decode

    Raises:
        RunError: a model cannot go on at all (a remote server is gone). Whatever else it raises concerns its pictures only.
    """
    free: queue.SimpleQueue[Predict] = queue.SimpleQueue()
    for predict in predicts:
        free.put(predict)

    def detect(window: Sequence[Found]) -> list[Found]:
        predict = free.get()
        try:
            return detect_window(predict, window, batch_size, threshold)
        finally:
            free.put(predict)

    reads = read_ahead(names, window=batch_size + readers, every=every, after=after or {}, readers=readers)
    found = in_order(detect, windows(reads, batch_size), threads=len(predicts), window=len(predicts) + 1)
    try:
        for window in found:
            yield from window
    finally:
        found.close()
        reads.close()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, window: int
) -> Generator[Result, None, None]:
    """`work` of each item, in order, done in threads; at most `window` items are under way or done ahead of the caller.

    What is done is given before another item is waited for: of a slow stream nothing is held back.
    """
    remaining = iter(items)
    more = True
    with ThreadPoolExecutor(threads, thread_name_prefix="predict") as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            while more or ahead:
                if ahead and (not more or len(ahead) >= window or ahead[0].done()):
                    yield ahead.popleft().result()
                    continue
                more = False
                for item in islice(remaining, 1):
                    ahead.append(pool.submit(work, item))
                    more = True
        finally:
            pool.shutdown(cancel_futures=True)


def read_ahead(
    names: Iterable[str], window: int, *, every: int = 1, after: Mapping[str, int] | None = None, readers: int = READERS
) -> Generator[Found, None, None]:
    """Each picture or frame, or its problem, in order; at most `window` pictures are in memory ahead of the caller."""
    steps = parts(names, every, after or {})
    yield from in_order(read, steps, threads=readers, window=window)


def parts(names: Iterable[str], every: int, after: Mapping[str, int]) -> Iterator[str | Shot | Found]:
    """What there is to decode: pictures by name, frames of videos as the decoder gives them, and what is wrong with a video."""
    for name in names:
        if not is_video(name):
            yield name
            continue
        last = after.get(name, -1)
        try:
            for shot in shots(name, every):
                if shot.number > last:
                    last = shot.number
                    yield shot
        except (RunError, MissingDependencyError):
            raise
        except SightlineError as error:
            frame = last + 1 if last >= 0 else None
            yield Found(name, problem=problem_of(name, error), frame=frame)


def read(part: str | Shot | Found) -> Found:
    """The decoded picture or frame, or its problem.

    Raises:
        RunError: S3 cannot be used at all.
    """
    if isinstance(part, Found):
        return part
    if isinstance(part, Shot):
        return Found(part.name, image=to_image(part), frame=part.number, time_s=part.time_s)
    try:
        path = local_path(part, "Prediction") if is_remote(part) else Path(part)
        return Found(part, image=read_image(path))
    except ImageError as error:  # names the file, which may be the cache's
        return Found(part, problem=Problem(part, error.what, error.fix))
    except RunError:
        raise
    except SightlineError as error:
        return Found(part, problem=problem_of(part, error))


def windows(founds: Iterable[Found], batch_size: int) -> Iterator[list[Found]]:
    """The stream in pieces: several batches' worth, so that pictures of one shape find each other; else one by one."""
    limit = WINDOW_BATCHES * batch_size if batch_size > 1 else 1
    window: list[Found] = []
    held = 0
    for found in founds:
        window.append(found)
        held += 0 if found.image is None else found.image.nbytes
        if len(window) >= limit or held >= MAX_WINDOW_BYTES:
            yield window
            window, held = [], 0
    if window:
        yield window


def detect_window(predict: Predict, window: Sequence[Found], batch_size: int, threshold: Least) -> list[Found]:
    """The same pictures with their detections, in order. Those of one shape are predicted together: they need no padding."""
    results = {index: found for index, found in enumerate(window) if found.image is None}
    readable = [(index, found, found.image) for index, found in enumerate(window) if found.image is not None]
    readable.sort(key=lambda entry: entry[2].shape)
    for _, group in groupby(readable, key=lambda entry: entry[2].shape):
        same = iter(group)
        while batch := list(islice(same, batch_size)):
            outcomes = predict_each(predict, [image for _, _, image in batch])
            results |= {
                index: told(found, outcome, threshold) for (index, found, _), outcome in zip(batch, outcomes, strict=True)
            }
    return [results[index] for index in range(len(window))]


def told(found: Found, outcome: Detections | Exception, threshold: Least) -> Found:
    """`found` with what the model said of it; a problem needs no picture any more."""
    if isinstance(outcome, Detections):
        kept = outcome.above(threshold)
        return Found(found.name, image=found.image, detections=kept, frame=found.frame, time_s=found.time_s)
    return Found(found.name, problem=problem_of(found.name, outcome), frame=found.frame, time_s=found.time_s)


def predict_each(predict: Predict, images: Sequence[Image]) -> list[Detections | Exception]:
    """One answer or error per picture; a failing batch is tried again one by one, so that a bad picture fails only itself."""
    try:
        answers = predict(images)
        if len(answers) != len(images):
            raise RunError("predict", f"gave {len(answers)} answers to {len(images)} pictures", "Report this model.")
    except RunError:
        raise
    except Exception as error:
        if len(images) == 1:
            return [error]
        return [outcome for image in images for outcome in predict_each(predict, [image])]
    return [*answers]


def problem_of(name: str, error: Exception) -> Problem:
    if isinstance(error, SightlineError):
        what = error.what if error.where == name else f"{error.where} {error.what}"
        return Problem(name, what, error.fix)
    return Problem(name, f"could not be predicted ({error!r})", "Try another picture; if all fail, the model is broken.")
