"""What happens after a step: losses checked, written and shown, the detector measured, checkpoints saved."""

import json
import logging
import math
import resource
import signal
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from sightline.dataset.loader import Example
from sightline.errors import ConfigError, RunError
from sightline.training.learner import Learner
from sightline.training.loop import Losses
from sightline.training.processes import Processes
from sightline.training.state import (
    BEST,
    INTERRUPTED,
    TrainingState,
    plain,
    remedy,
    remove_old,
    save_checkpoint,
    write_checkpoint,
)

LOG = logging.getLogger(__name__)

METRICS = "metrics.json"

WINDOW = 20
"""Steps that are smoothed and written together, as in Detectron2: medians, so that one odd batch does not show as a trend."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The run at one moment. losses: medians of the window; times in seconds a step; memory in MiB.

    data_wait_share: of the window's time, what was spent waiting for pictures
    """

    step: int
    steps: int
    losses: dict[str, float]
    total_loss: float
    lr: float
    time_s: float
    last_time_s: float
    images_per_s: float
    eta_s: float
    max_mem_mib: int
    data_wait_share: float = 0.0

    def line(self) -> str:
        """Detectron2's console line with its keys, which people's metric expressions read."""
        eta = time.strftime("%H:%M:%S", time.gmtime(self.eta_s)) if self.eta_s < 86400 else f"{self.eta_s / 86400:.1f} days"
        losses = "  ".join(f"{name}: {value:.4g}" for name, value in self.losses.items())
        return (
            f" eta: {eta}  iter: {self.step - 1}  total_loss: {self.total_loss:.4g}  {losses}  "
            f"time: {self.time_s:.4f}  last_time: {self.last_time_s:.4f}  img/s: {self.images_per_s:.1f}  "
            f"lr: {self.lr:.5g}  max_mem: {self.max_mem_mib}M"
        )

    def as_metrics(self) -> dict[str, float]:
        """One line of metrics.json, with Detectron2's keys."""
        return {
            "iteration": self.step - 1,
            "total_loss": self.total_loss,
            **self.losses,
            "lr": self.lr,
            "time": self.time_s,
            "images_per_s": self.images_per_s,
            "data_wait_share": self.data_wait_share,
            "eta_seconds": self.eta_s,
            "max_mem_mib": self.max_mem_mib,
        }


def append(path: Path, line: str) -> None:
    """One more line of a log. Logs grow in place: a kill can cost them a line, not a run.

    Raises:
        RunError: there is no space, no permission or no folder.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(path, f"cannot be written ({error.strerror or error})", remedy(error)) from error


def peak_memory_mib(device: torch.device) -> int:
    """Most memory so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


EXPLODED = 1e6
"""A loss above this is no learning any more; no detector's comes near it."""


class Signal:
    """Remembers that the process was asked to end (SIGTERM: what a spot interruption and a scheduler send)."""

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside the block SIGTERM is remembered instead of ending the process. Only a main thread can listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self.remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def remember(self, number: int, frame: object) -> None:
        self.came = True


@dataclass(slots=True)
class Guard:
    """Ends a run, on all processes at the same step: losses that are no numbers, SIGTERM, or the time limit.

    time_limit_s: of the whole run, what was trained before a resume included; None has none
    """

    processes: Processes
    signal: Signal
    time_limit_s: float | None = None

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        values = {name: value.item() for name, value in losses.items()}  # a sync a step, as in Detectron2
        bad = {name: value for name, value in values.items() if not abs(value) <= EXPLODED}
        seconds, broken, asked = self.processes.most([state.seconds, bool(bad), self.signal.came])
        if bad:
            what = "have exploded" if all(map(math.isfinite, bad.values())) else "are no numbers any more"
            raise RunError(
                f"step {state.step - 1}",
                f"losses {what}: {bad}; the batch was {', '.join(example.file_name for example in batch)}",
                "Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True.",
            )
        if broken:
            raise RunError(f"step {state.step - 1}", "another process has no numbers any more", "Its own message says more.")
        if asked:
            state.ending = INTERRUPTED
        else:
            state.ending = self.over(seconds)

    def over(self, seconds: float) -> str:
        """Why the run has to end, if its time is over; else empty."""
        late = self.time_limit_s is not None and seconds >= self.time_limit_s
        return f"the time limit of {self.time_limit_s:.0f} s is reached" if late else ""


class Tracker(Protocol):
    """Where figures of a run go: a file, TensorBoard, MLflow."""

    def progress(self, progress: Progress) -> None: ...

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self, finished: bool = True) -> None: ...


Judge = Callable[[int, Mapping[str, float]], str]
"""(steps done, an evaluation's numbers) -> why the run is to end here; empty lets it go on. A search ends hopeless runs so."""


def go_on(step: int, numbers: Mapping[str, float]) -> str:
    """The judge who never ends a run."""
    return ""


@dataclass(slots=True)
class Validate:
    """Measures the detector every `period` steps and at the end, keeps the best, and ends a run that gets no better.

    measure:  gives {"bbox/AP": ..., "val_loss": ...} of the detector as it is; None, if the run was asked to end meanwhile
    metric:   which of them decides; "val_loss" is the better the lower, all others the higher
    patience: evaluations in a row without a better one; 0 never ends a run
    judge:    asked after each evaluation, by the first process, whether the run is to end
    """

    learner: Learner
    measure: Callable[[], Mapping[str, float] | None]
    period: int
    steps: int
    folder: Path
    metric: str
    patience: int
    trackers: Sequence[Tracker] = ()
    judge: Judge = go_on

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        ends = state.step == self.steps or state.ending not in ("", INTERRUPTED)
        if self.period <= 0 or not (ends or state.step % self.period == 0):
            return
        if state.ending == INTERRUPTED:
            state.owed = True
            return
        self.evaluate(state)

    def evaluate(self, state: TrainingState) -> None:
        """Measure now, and keep or end what follows from it."""
        began = time.perf_counter()
        numbers = self.measure()
        state.paused += time.perf_counter() - began
        state.owed = numbers is None
        if numbers is None:
            state.ending = INTERRUPTED
            return
        if self.metric not in numbers:
            raise ConfigError("--metric", f"is {self.metric!r}", f"Evaluation gives {', '.join(numbers)}.")
        value = numbers[self.metric]
        better = self.better(value, state.best)
        best = value if better else state.best
        LOG.info("evaluation after step %d: %s", state.step - 1, shown(numbers, self.metric, best))
        processes, verdict = self.learner.processes, ""
        if processes.first:
            append(self.folder / METRICS, json.dumps({"iteration": state.step - 1, **finite(numbers)}))
            for tracker in self.trackers:
                tracker.evaluation(state.step, finite(numbers))
            verdict = self.judge(state.step, finite(numbers))
        if better:
            state.best, state.best_step, state.stale = value, state.step, 0
            self.keep(state)
        else:
            state.stale += 1
        if not state.ending:
            state.ending = processes.from_first(verdict) or self.exhausted(state)

    def exhausted(self, state: TrainingState) -> str:
        """Why the run has to end, if its patience is used up; else empty."""
        if not self.patience or state.stale < self.patience:
            return ""
        return f"{self.metric} has not got better than {state.best} for {state.stale} evaluations"

    def better(self, value: float, best: float | None) -> bool:
        if math.isnan(value):
            return False
        return best is None or (value < best if self.metric.startswith("val_loss") else value > best)

    def keep(self, state: TrainingState) -> None:
        """The weights that were measured, as model_best.pth."""
        if self.learner.processes.first:
            with self.learner.evaluated() as detector:
                write_checkpoint(self.folder / BEST, {"model": plain(detector), "iteration": state.step - 1})


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Without nan, which JSON does not know: what there was nothing to measure of."""
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def shown(numbers: Mapping[str, float], metric: str, best: float | None = None) -> str:
    """The numbers that a line has room for. best: of `metric` so far, of the weights that are kept; None: there is none."""
    names = dict.fromkeys(name for name in (metric, "bbox/AP", "bbox/AP50", "segm/AP", "val_loss") if name in numbers)
    told = {**{name: numbers[name] for name in names}, **({} if best is None else {f"best/{metric}": best})}
    return "  ".join(f"{name}: {value:.4g}" for name, value in told.items())


@dataclass(slots=True)
class Report:
    """Medians of every WINDOW steps to metrics.json, as a line to log.txt beside it, to `show` (a bar) and to the trackers.

    Losses and times are means over the processes, pictures a second their sum; the first process writes.
    """

    steps: int
    optimizer: torch.optim.Optimizer
    metrics: Path
    show: Callable[[Progress], None]
    device: torch.device
    processes: Processes = Processes()  # noqa: RUF009  # frozen
    trackers: Sequence[Tracker] = ()
    clock: Callable[[], float] = time.perf_counter
    window: deque[tuple[dict[str, float], float, int, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last: float = 0.0
    paused: float = 0.0

    def __post_init__(self) -> None:
        self.last = self.clock()

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        now = self.clock()
        values = {name: value.item() for name, value in losses.items()}
        spent = now - self.last - (state.paused - self.paused)  # evaluations are no part of a step
        self.window.append((values, spent, len(batch) * self.processes.count, state.waited))
        self.last, self.paused = now, state.paused
        if state.step % WINDOW and state.step != self.steps and not state.ending:
            return
        progress = self.progress(state.step)
        if not self.processes.first:
            return
        append(self.metrics, json.dumps(progress.as_metrics()))
        append(self.metrics.with_name("log.txt"), f"{time.strftime('%m/%d %H:%M:%S')}{progress.line()}")
        self.show(replace(progress, steps=progress.step) if state.ending else progress)  # which ends a bar
        for tracker in self.trackers:
            tracker.progress(progress)

    def progress(self, step: int) -> Progress:
        times = [seconds for _, seconds, _, _ in self.window]
        names = self.window[-1][0]
        losses = {name: statistics.median(losses[name] for losses, *_ in self.window) for name in names}
        shared = self.processes.mean(
            {
                **losses,
                "total_loss": statistics.median(sum(losses.values()) for losses, *_ in self.window),
                "data_wait_share": sum(waited for *_, waited in self.window) / max(sum(times), 1e-9),
            }
        )
        return Progress(
            step=step,
            steps=self.steps,
            losses={name: shared[name] for name in names},
            total_loss=shared["total_loss"],
            lr=self.optimizer.param_groups[0]["lr"],
            time_s=statistics.median(times),
            last_time_s=times[-1],
            images_per_s=sum(count for _, _, count, _ in self.window) / max(sum(times), 1e-9),
            eta_s=statistics.median(times) * (self.steps - step),
            max_mem_mib=peak_memory_mib(self.device),
            data_wait_share=shared["data_wait_share"],
        )


@dataclass(slots=True)
class SaveCheckpoints:
    """model_0000999.pth every `period` steps, and at once when the run is interrupted; the `keep` newest stay.

    The last one is the run's own to save.
    """

    folder: Path
    learner: Learner
    period: int
    steps: int
    keep: int = 0

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        due = self.period > 0 and state.step % self.period == 0 and state.step < self.steps and not state.ending
        if due or state.ending == INTERRUPTED:
            path = save_checkpoint(self.folder, f"model_{state.step - 1:07d}.pth", self.learner, state)
            LOG.info("saved %s", path)
            if self.learner.processes.first:
                remove_old(self.folder, self.keep)


def log_line(progress: Progress) -> None:
    """Progress as a log line."""
    LOG.info("%s", progress.line())


class Bar:
    """Progress as a bar on a terminal; it ends itself with the last step."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("  training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
        self.bar = RichProgress(*columns, TimeRemainingColumn(), console=console)
        self.task = self.bar.add_task("training", facts="", total=None)

    def __call__(self, progress: Progress) -> None:
        facts = (
            f"loss {progress.total_loss:.3f}  lr {progress.lr:.2g}  "
            f"{progress.images_per_s:.1f} img/s  {progress.max_mem_mib} MiB"
        )
        self.bar.start()
        self.bar.update(self.task, completed=progress.step, total=progress.steps, facts=facts)
        if progress.step == progress.steps:
            self.bar.stop()
