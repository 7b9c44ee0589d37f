"""A model on this machine, measured: seconds by stage of one picture at a time, throughput by batch size, memory."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from sightline import wire
from sightline.benchmarking import machine
from sightline.benchmarking.results import Batch
from sightline.benchmarking.spread import settled, spread
from sightline.images import decode_image, read_bytes, read_header
from sightline.records import Image, ImageSize, Model, StagedPredict

STAGES = ("read", "decode", "resize", "model", "post", "encode")
WHOLE = ("read", "decode", "model", "encode")
"""Of a `Predict` that has no stages of its own: what it does is all "model"."""

LEAST_SAMPLES, LEAST_BATCHES = 5, 3
MAX_WARM_UP = 20

Clock = Callable[[], float]


@dataclass(slots=True)
class Timer:
    """Seconds by stage of one picture. A stage's end is when the GPU has done it, too."""

    clock: Clock
    synchronise: Callable[[], None]
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = 0.0

    def begin(self) -> None:
        self.synchronise()
        self.began = self.clock()

    def end(self, stage: str, waits: bool = False) -> None:
        """The time since the last end is that of `stage`. waits: it used the GPU."""
        if waits:
            self.synchronise()
        now = self.clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.began
        self.began = now


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured, and with which clock.

    samples:  of one picture at a time, at most
    limit_s:  for each part (one at a time, each batch size); at least a few samples are taken whatever they take
    warm_up:  how often before times count; None: until they settle
    """

    model: Model
    pictures: Sequence[Path]
    samples: int
    limit_s: float
    warm_up: int | None = None
    clock: Clock = time.perf_counter
    synchronise: Callable[[], None] = machine.synchronise


def one_picture(rig: Rig, path: Path) -> dict[str, float]:
    """Seconds by stage, from the file to the answer as a server writes it."""
    timer = Timer(rig.clock, rig.synchronise)
    timer.begin()
    body = read_bytes(path)
    timer.end("read")
    image = decode_image(body, path)
    timer.end("decode")
    predict = rig.model.predict
    if isinstance(predict, StagedPredict):
        size = ImageSize(*image.shape[:2])
        resized = predict.resized(image)
        timer.end("resize", waits=True)
        (found,) = predict.found([resized], [size])
        timer.end("model", waits=True)
        detections = predict.detections(found, size)
        timer.end("post", waits=True)
    else:
        (detections,) = predict([image])
        timer.end("model", waits=True)
    json.dumps(wire.to_json(detections, rig.model.class_names))
    timer.end("encode")
    return timer.seconds


def warm_up(rig: Rig) -> tuple[int, bool]:
    """(how often it ran, whether the times were steady in the end).

    Each size of picture once, since code may be made for each; then the first picture again and again until its times settle,
    or `limit_s` are over.
    """
    if rig.warm_up is not None:
        for path, _ in zip(cycle(rig.pictures), range(rig.warm_up), strict=False):
            one_picture(rig, path)
        return rig.warm_up, False
    end = rig.clock() + rig.limit_s
    seen: set[ImageSize] = set()
    for path in rig.pictures:
        size = read_header(path).shown
        if size not in seen and len(seen) < MAX_WARM_UP and (not seen or rig.clock() < end):
            seen.add(size)
            one_picture(rig, path)
    times: list[float] = []
    while not settled(times) and len(times) < MAX_WARM_UP and rig.clock() < end:
        times.append(sum(one_picture(rig, rig.pictures[0]).values()))
    return len(seen) + len(times), settled(times)


def one_at_a_time(rig: Rig) -> list[dict[str, float]]:
    """Seconds by stage of each sample; the pictures in turn."""
    taken: list[dict[str, float]] = []
    end = rig.clock() + rig.limit_s
    for path in cycle(rig.pictures):
        if len(taken) >= rig.samples or (len(taken) >= LEAST_SAMPLES and rig.clock() > end):
            return taken
        taken.append(one_picture(rig, path))
    return taken


def batches_of(rig: Rig, size: int) -> Iterator[list[Path]]:
    """The pictures in turn, `size` at a time, for ever."""
    turn = cycle(rig.pictures)
    while True:
        yield [next(turn) for _ in range(size)]


def throughput(rig: Rig, size: int) -> Batch:
    """Batches of one size, until the time is over; the whole way one after the other, as nothing runs beside the model here.

    Too little memory is a result, too; anything else that goes wrong is raised.
    """
    own = machine.begin_peak()
    alone: list[float] = []
    whole: list[float] = []
    try:
        end = None
        for paths in batches_of(rig, size):
            times = one_batch(rig, paths)
            if end is None:  # the first one warms up for this size
                end = rig.clock() + rig.limit_s
                continue
            alone.append(times[0])
            whole.append(times[1])
            if len(alone) * size >= max(rig.samples, LEAST_BATCHES * size) or (
                len(alone) >= LEAST_BATCHES and rig.clock() > end
            ):
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Batch(size, failed=f"not enough memory ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
    return Batch(
        size,
        spread(alone),
        predict_per_s=size * len(alone) / sum(alone),
        pictures_per_s=size * len(whole) / sum(whole),
        peak_bytes=machine.peak_bytes(),
        peak_is_own=own,
        peak_gpu_bytes=machine.peak_gpu_bytes(),
    )


def one_batch(rig: Rig, paths: Sequence[Path]) -> tuple[float, float]:
    """(seconds in predict, seconds from the files to the answers)."""
    began = rig.clock()
    images: list[Image] = [decode_image(read_bytes(path), path) for path in paths]
    rig.synchronise()
    decoded = rig.clock()
    found = rig.model.predict(images)
    rig.synchronise()
    predicted = rig.clock()
    for detections in found:
        json.dumps(wire.to_json(detections, rig.model.class_names))
    return predicted - decoded, rig.clock() - began


def is_out_of_memory(error: BaseException) -> bool:
    """torch has a class of its own for the GPU's memory, and a RuntimeError for the machine's."""
    text: Any = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
