"""What a benchmark leaves: one dataclass, written as benchmark.json and read again by the planner."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sightline.benchmarking.spread import Spread
from sightline.errors import SightlineError
from sightline.storage import write_json

FORMAT = 1
NAME = "benchmark.json"


@dataclass(frozen=True, slots=True)
class Batch:
    """Throughput of one batch size, on this machine.

    seconds:           of one batch through predict alone (resize, model, post)
    predict_per_s:     pictures a second of that
    pictures_per_s:    of the whole way, one after the other: read, decode, predict, encode
    peak_bytes:        of the process while it ran
    peak_is_own:       False where the system could not forget earlier peaks
    failed:            why there are no numbers, such as too little memory
    """

    size: int
    seconds: Spread | None = None
    predict_per_s: float = 0.0
    pictures_per_s: float = 0.0
    peak_bytes: int = 0
    peak_is_own: bool = True
    peak_gpu_bytes: int | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Clients:
    """Throughput of a server with so many clients, each of which sends its next picture when it has its answer.

    seconds:    of the answers that came
    busy:       answers 503
    errors:     other answers that are not 200, and broken connections, by what they were
    """

    count: int
    seconds: Spread | None
    answers_per_s: float
    lasted_s: float
    busy: int = 0
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of a fresh process to its first answer.

    first_answer_s: of the whole, seen from outside
    load_s:         of that, loading the model
    """

    first_answer_s: Spread
    load_s: Spread


@dataclass(frozen=True, slots=True)
class Price:
    """What one instance type, or serverless, costs; dollars."""

    region: str
    source: str
    as_of: str
    instance_type: str | None = None
    usd_per_hour: float | None = None
    memory_mb: int | None = None
    usd_per_second: float | None = None
    usd_per_gb_processed: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars per 1,000 pictures at one price.

    one_at_a_time:   one request after the other, the instance idle in between for no moment; serverless: its only way
    at_throughput:   at the measured throughput; None: serverless
    throughput_at:   the batch size or number of clients of that
    measured_there:  whether the machine that was measured is of that instance type
    arithmetic:      both computations as text
    """

    price: Price
    one_at_a_time: float
    at_throughput: float | None
    throughput_at: str
    measured_there: bool
    arithmetic: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark.

    target:      as it was given
    kind:        "local" or "remote"
    sha256:      of the model's files; empty where nobody tells
    model_bytes: of the files
    runtime:     what ran it, with its version, as the model tells
    warm_up:     how often it ran before times counted; settled: whether they were steady then
    latency:     seconds of one picture, one at a time
    stages:      seconds by stage; remote: means of the server's own, from its /metrics, while one client asked
    sent_bytes, received_bytes: of one picture and one answer, means; of the body alone
    """

    target: str
    kind: str
    date: str
    command: str
    machine: dict[str, Any]
    pictures: int
    picture_px: str
    sha256: str
    model_bytes: int | None
    device: str
    warm_up: int
    settled: bool
    latency: Spread
    stages: dict[str, Spread] = field(default_factory=dict)
    batches: tuple[Batch, ...] = ()
    clients: tuple[Clients, ...] = ()
    start: Start | None = None
    peak_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    sent_bytes: float | None = None
    received_bytes: float | None = None
    errors: dict[str, int] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: str = ""
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def write(result: Result, folder: Path) -> Path:
    path = folder / NAME
    write_json(path, result.to_dict(), indent=1)
    return path


def read(path: Path) -> Result:
    """The result in a benchmark.json, or in the folder that holds one.

    Raises:
        SightlineError: it is missing, no result, or of another version.
    """
    file = path / NAME if path.is_dir() else path
    fix = f"Give the {NAME} that sightline benchmark -o DIR leaves."
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        version = told["format"]
        if version != FORMAT:
            raise SightlineError(file, f"has format {version!r}; this version reads {FORMAT}", "Benchmark again.")
        return msgspec.convert(told, Result)
    except OSError as error:
        raise SightlineError(file, f"cannot be read ({error.strerror})", fix) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # msgspec's own is a ValueError
        raise SightlineError(file, f"is no result of a benchmark ({error})", fix) from error
