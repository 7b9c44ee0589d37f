"""What the server counts, as Prometheus reads it (text format 0.0.4). Used from one event loop, so it needs no locks."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Prometheus' usual latency steps, up to the 60 s that SageMaker lets an answer take."""

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Histogram:
    """Latencies in seconds: how many at most each bucket's bound, their sum and number."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def lines(self, name: str, label: str) -> list[str]:
        """The histogram's lines; label: `stage="decode"`."""
        total, lines = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {total}')
        return [*lines, f"{name}_sum{{{label}}} {self.sum_s:.6f}", f"{name}_count{{{label}}} {total}"]


@dataclass(slots=True)
class Metrics:
    """Requests by path and status; seconds by stage of `POST /invocations` (all of it, and read, decode, predict)."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    stages: dict[str, Histogram] = field(
        default_factory=lambda: {stage: Histogram() for stage in ("all", "read", "decode", "predict")}
    )

    def text(self, *, waiting: int, ready: bool) -> str:
        """waiting: requests between body and answer now; ready: whether the model can predict."""
        lines = ["# HELP sightline_requests_total Answers by path and status.", "# TYPE sightline_requests_total counter"]
        lines += [
            f'sightline_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        lines += [
            "# HELP sightline_seconds Latency of /invocations by stage; predict includes waiting for the model.",
            "# TYPE sightline_seconds histogram",
        ]
        for stage, histogram in self.stages.items():
            lines += histogram.lines("sightline_seconds", f'stage="{stage}"')
        lines += [
            "# HELP sightline_waiting Requests between body and answer.",
            "# TYPE sightline_waiting gauge",
            f"sightline_waiting {waiting}",
            "# HELP sightline_ready 1 when the model can predict.",
            "# TYPE sightline_ready gauge",
            f"sightline_ready {int(ready)}",
        ]
        return "\n".join(lines) + "\n"
