"""What happens after a step: losses checked, written and shown, checkpoints saved."""

import json
import logging
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from sightline.dataset.loader import Example
from sightline.errors import RunError
from sightline.training.loop import Losses
from sightline.training.state import TrainingState, save_checkpoint

LOG = logging.getLogger(__name__)

WINDOW = 20
"""Steps that are smoothed and written together, as in Detectron2: medians, so that one odd batch does not show as a trend."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The run at one moment. losses: medians of the window; times in seconds a step; memory in MiB."""

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
            "eta_seconds": self.eta_s,
            "max_mem_mib": self.max_mem_mib,
        }


def append(path: Path, line: str) -> None:
    """One more line of a log. Logs grow in place: a kill can cost them a line, not a run."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def peak_memory_mib(device: torch.device) -> int:
    """Most memory so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


@dataclass(slots=True)
class StopOnBadLoss:
    """Ends a run whose losses are no longer numbers, before it saves worthless weights."""

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        bad = {
            name: value.item() for name, value in losses.items() if not torch.isfinite(value)
        }  # a sync a step, as Detectron2
        if bad:
            raise RunError(
                f"step {state.step - 1}",
                f"losses are no numbers any more: {bad}; the batch was {', '.join(example.file_name for example in batch)}",
                "Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True.",
            )


@dataclass(slots=True)
class Report:
    """Medians of every WINDOW steps to metrics.json, as a line to log.txt beside it, and to `show` (a progress bar)."""

    steps: int
    optimizer: torch.optim.Optimizer
    metrics: Path
    show: Callable[[Progress], None]
    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    window: deque[tuple[dict[str, float], float, int]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last: float = 0.0

    def __post_init__(self) -> None:
        self.last = self.clock()

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        now = self.clock()
        self.window.append(({name: value.item() for name, value in losses.items()}, now - self.last, len(batch)))
        self.last = now
        if state.step % WINDOW and state.step != self.steps:
            return
        progress = self.progress(state.step)
        append(self.metrics, json.dumps(progress.as_metrics()))
        append(self.metrics.with_name("log.txt"), f"{time.strftime('%m/%d %H:%M:%S')}{progress.line()}")
        self.show(progress)

    def progress(self, step: int) -> Progress:
        times = [seconds for _, seconds, _ in self.window]
        names = self.window[-1][0]
        return Progress(
            step=step,
            steps=self.steps,
            losses={name: statistics.median(losses[name] for losses, _, _ in self.window) for name in names},
            total_loss=statistics.median(sum(losses.values()) for losses, _, _ in self.window),
            lr=self.optimizer.param_groups[0]["lr"],
            time_s=statistics.median(times),
            last_time_s=times[-1],
            images_per_s=sum(count for _, _, count in self.window) / max(sum(times), 1e-9),
            eta_s=statistics.median(times) * (self.steps - step),
            max_mem_mib=peak_memory_mib(self.device),
        )


@dataclass(slots=True)
class SaveCheckpoints:
    """model_0000999.pth every `period` steps. The last one is the run's own to save. factor: the schedule's, by step."""

    folder: Path
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    factor: Callable[[int], float]
    period: int
    steps: int

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        if self.period > 0 and state.step % self.period == 0 and state.step < self.steps:
            name, factor = f"model_{state.step - 1:07d}.pth", self.factor(state.step)
            path = save_checkpoint(self.folder, name, self.model, self.optimizer, state, next_factor=factor)
            LOG.info("saved %s", path)


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
