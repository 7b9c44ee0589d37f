"""What the server counts, as Prometheus reads it (text format 0.0.4). Used from one event loop, so it needs no locks."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Prometheus' usual latency steps, up to the 60 s that SageMaker lets an answer take."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

STAGES = ("all", "read", "queue", "decode", "model", "encode")

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Histogram:
    """Numbers such as seconds: how many at most each of `bounds`, their sum and number."""

    bounds: tuple[float, ...] = BUCKETS_S
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, label: str = "") -> list[str]:
        """The histogram's lines; label: `stage="decode"`."""
        count, lines, alone = 0, [], f"{{{label}}}" if label else ""
        for bound, here in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            count += here
            lines.append(f'{name}_bucket{{{label}{"," * bool(label)}le="{bound}"}} {count}')
        return [*lines, f"{name}_sum{alone} {self.total:.6f}", f"{name}_count{alone} {count}"]


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at the moment of asking.

    waiting:     requests between body and answer
    queue:       pictures that wait for a model
    connections: open
    models:      loaded
    ready:       the model can predict; of many, all can
    workers:     processes that hold the model and can predict; 0 where it is in the server's own
    restarts:    of workers, until now
    """

    waiting: int
    queue: int
    connections: int
    models: int
    ready: bool
    workers: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Metrics:
    """Requests by path and status; seconds by stage of a prediction; pictures by batch. connections: open now."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    stages: dict[str, Histogram] = field(default_factory=lambda: {stage: Histogram() for stage in STAGES})
    batches: Histogram = field(default_factory=lambda: Histogram(BATCH_SIZES))
    connections: int = 0

    def text(self, now: Now) -> str:
        lines = heading("sightline_requests_total", "counter", "Answers by path and status.")
        lines += [
            f'sightline_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        lines += heading("sightline_seconds", "histogram", "Latency of predictions by stage; queue is waiting for the model.")
        for stage, histogram in self.stages.items():
            lines += histogram.lines("sightline_seconds", f'stage="{stage}"')
        lines += heading("sightline_batch_size", "histogram", "Pictures predicted together.")
        lines += self.batches.lines("sightline_batch_size")
        for name, told, value in (
            ("sightline_waiting", "Requests between body and answer.", now.waiting),
            ("sightline_queue", "Pictures that wait for a model.", now.queue),
            ("sightline_connections", "Open connections.", now.connections),
            ("sightline_models", "Loaded models.", now.models),
            ("sightline_ready", "1 when the model can predict.", int(now.ready)),
            ("sightline_workers", "Processes that hold the model and can predict.", now.workers),
        ):
            lines += [*heading(name, "gauge", told), f"{name} {value}"]
        name, told = "sightline_worker_restarts_total", "Workers that took the place of one that ended."
        lines += [*heading(name, "counter", told), f"{name} {now.restarts}"]
        return "\n".join(lines) + "\n"


def heading(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
