"""`sightline.benchmark`: one call that measures a model, here or behind an address, and prices it."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sightline import wire
from sightline.benchmarking import local, machine, remote, start, targets
from sightline.benchmarking.cost import all_costs, best_rate, caveat, fits_memory
from sightline.benchmarking.prices import DEFAULT_REGION, instance_price, load_regions, region_named, serverless_price
from sightline.benchmarking.results import Price, Result, write
from sightline.benchmarking.spread import CLAIMED_FROM, Spread, spread
from sightline.downloads import cache_folder
from sightline.errors import ConfigError, Problem, RunError
from sightline.images import read_image
from sightline.records import Model
from sightline.runtimes.asked import Execution
from sightline.storage import output_path

BATCH_SIZES = (1, 2, 4, 8)
CLIENTS = (1, 4, 16)
MOST_PICTURES = 64

Say = Callable[[str], None]


def silent(_: str) -> None:
    """Progress told to nobody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How to measure.

    samples:    of one picture at a time, at most
    limit_s:    for each part; a few samples are taken whatever they take
    warm_up:    runs before times count; None: until they settle
    batch_sizes, clients: empty: not measured
    start_runs: fresh processes; 0: not measured
    """

    samples: int = 100
    limit_s: float = 60.0
    warm_up: int | None = None
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    clients: tuple[int, ...] = CLIENTS
    start_runs: int = 3
    device: str = "auto"
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is wrong."""
        least = {"--samples": (self.samples, 1), "--seconds": (self.limit_s, 0), "--start-runs": (self.start_runs, 0)}
        least |= {"--warm-up": (self.warm_up or 0, 0)}
        problems = [
            Problem(name, f"is {value}", f"Give at least {fewest}.")
            for name, (value, fewest) in least.items()
            if value < fewest
        ]
        for name, sizes in (("--batch-sizes", self.batch_sizes), ("--clients", self.clients)):
            if any(size < 1 for size in sizes) or len(set(sizes)) < len(sizes):
                problems.append(Problem(name, f"is {' '.join(map(str, sizes))}", "Give different numbers from 1 on."))
        if problems:
            raise ConfigError.collected(problems)


def benchmark(
    target: str | Path,
    *,
    images: str | Path,
    output: str | Path | None = None,
    asked: Asked | None = None,
    instance_types: Sequence[str] = (),
    serverless_memory_mb: int | None = None,
    region: str = DEFAULT_REGION,
    cache: Path | None = None,
    open_endpoint: targets.OpenEndpoint | None = None,
    command: str = "",
    say: Say = silent,
) -> Result:
    """How fast a model is, what it takes, and what 1,000 pictures cost.

    target:         a run, a bundle, Detectron2's folder, or http://HOST:PORT of a server
    images:         a folder of pictures, such as it will get; the first 64 are taken in turn
    output:         folder for benchmark.json, which `plan` takes; None: it is not written
    instance_types: also what it costs at their prices in `region`; prices are looked up before anything is measured
    cache:          where fetched prices are; None: the user's folder
    open_endpoint:  what opens sagemaker://NAME; None: nothing does
    command:        as it was typed, for the record

    Raises:
        ConfigError: there is no such price, or `asked` makes no sense.
        SightlineError: the target or a picture cannot be read.
        RunError: the server cannot be reached, or a fresh process fails.
    """
    asked = asked or Asked()
    prices = prices_for(instance_types, serverless_memory_mb, region, cache or cache_folder(os.environ))
    with output_path(output, "A benchmark") if output is not None else nullcontext() as folder:
        pictures = targets.pictures_in(images, MOST_PICTURES)
        command = command or f"sightline.benchmark({str(target)!r}, images={str(images)!r})"
        if targets.is_address(str(target)):
            result = measure_remote(str(target), pictures, asked, open_endpoint, command, say)
        else:
            result = measure_local(str(target), pictures, asked, command, say)
        result = replace(result, costs=all_costs(result, prices))
        result = replace(result, notes=notes_on(result, asked))
        if folder is not None:
            write(result, folder)
    return result


def prices_for(instance_types: Sequence[str], memory_mb: int | None, region: str, cache: Path) -> list[Price]:
    """The prices asked for; all that are missing are told together.

    Raises:
        ConfigError: there is none.
    """
    if not instance_types and memory_mb is None:
        return []
    prices = region_named(region, load_regions(cache))
    look_ups: list[Callable[[], Price]] = [partial(instance_price, kind, prices) for kind in instance_types]
    if memory_mb is not None:
        look_ups.append(partial(serverless_price, memory_mb, prices))
    found, problems = list[Price](), list[Problem]()
    for look_up in look_ups:
        try:
            found.append(look_up())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError.collected(problems)
    return found


def measure_local(target: str, pictures: Sequence[Path], asked: Asked, command: str, say: Say) -> Result:
    """A model on this machine."""
    load = list(os.getloadavg())  # before this adds to it
    say(f"loading {target}")
    loaded = targets.open_local(target, asked.device, asked.execution)
    rig = local.Rig(loaded.model, pictures, asked.samples, asked.limit_s, asked.warm_up)
    say("warming up")
    runs, steady = local.warm_up(rig)
    own = machine.begin_peak()
    say(f"one picture at a time, up to {asked.samples} of them")
    taken = local.one_at_a_time(rig)
    peak, gpu_peak = machine.peak_bytes(), machine.peak_gpu_bytes()
    batches = []
    for size in asked.batch_sizes:
        say(f"batches of {size}")
        batches.append(local.throughput(rig, size))
    facts = machine.facts(os.environ) | {"load": load}
    begun = None
    if asked.start_runs:
        say(f"{asked.start_runs} starts in fresh processes")
        begun = start.measure(target, pictures[0], asked.device, asked.execution, asked.start_runs)
    received = answer_bytes(loaded.model, pictures[0])
    stages = [stage for stage in local.STAGES if stage in taken[0]]
    return Result(
        target=target,
        kind="local",
        date=now(),
        command=command,
        machine=facts,
        pictures=len(pictures),
        picture_px=targets.sizes_text(pictures),
        sha256=loaded.sha256,
        model_bytes=loaded.model_bytes,
        device=loaded.device,
        runtime=str(loaded.model.facts.get("runtime", "")),
        warm_up=runs,
        settled=steady,
        latency=spread([sum(one.values()) for one in taken]),
        stages={stage: spread([one[stage] for one in taken]) for stage in stages},
        batches=tuple(batches),
        start=begun,
        peak_bytes=peak,
        peak_gpu_bytes=gpu_peak,
        sent_bytes=sum(path.stat().st_size for path in pictures) / len(pictures),
        received_bytes=received,
        notes=() if own else (PEAK_NOTE,),
    )


PEAK_NOTE = "This system cannot forget earlier peaks of memory: they are those since the process began."


def answer_bytes(model: Model, picture: Path) -> float:
    """Of one picture's answer, as it would go over a network."""
    (found,) = model.predict([read_image(picture)])
    return len(json.dumps(wire.to_json(found, model.class_names)))


def measure_remote(
    target: str, pictures: Sequence[Path], asked: Asked, open_endpoint: targets.OpenEndpoint | None, command: str, say: Say
) -> Result:
    """A model behind an address."""
    load = list(os.getloadavg())
    served = targets.open_served(target, open_endpoint)
    line = remote.Line(served, pictures, asked.samples, asked.limit_s, asked.warm_up)
    say(f"warming up {served.address}")
    requests, steady = remote.warm_up(line)
    say(f"one client, up to {asked.samples} pictures")
    tally, stages = remote.one_client(line)
    if not tally.seconds:
        told = ", ".join(f"{number} x {what}" for what, number in tally.errors.items()) or f"{tally.busy} x 503"
        raise RunError(served.address, f"answered no picture ({told})", "See its log.")
    clients = []
    for number in asked.clients:
        say(f"{number} client{'s' * (number > 1)} for {asked.limit_s:g} s")
        clients.append(remote.many_clients(line, number))
    return Result(
        target=target,
        kind="remote",
        date=now(),
        command=command,
        machine=machine.facts(os.environ)
        | {"load": load, "server_here": served.here, "server_instance_type": served.instance_type},
        pictures=len(pictures),
        picture_px=targets.sizes_text(pictures),
        sha256=str(served.facts.get("sha256", "")),
        model_bytes=None,
        device="",
        runtime=str(served.facts.get("runtime", "")),
        warm_up=requests,
        settled=steady,
        latency=spread(tally.seconds),
        stages={name: Spread(number, total / number) for name, (total, number) in stages.items()},
        clients=tuple(clients),
        sent_bytes=sum(tally.sent_bytes) / len(tally.sent_bytes),
        received_bytes=sum(tally.received_bytes) / len(tally.received_bytes),
        errors=dict(tally.errors) | ({"status 503": tally.busy} if tally.busy else {}),
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def notes_on(result: Result, asked: Asked) -> tuple[str, ...]:
    """What must be known to read the figures."""
    notes = list(result.notes)
    load, cores = result.machine["load"], result.machine["cores"]
    if not result.settled and asked.warm_up is None:
        notes.append(f"The times had not settled after {result.warm_up} runs: the machine is busy, or it is still warming up.")
    if untold := [f"p{percent} needs {needed}" for percent, needed in CLAIMED_FROM.items() if result.latency.count < needed]:
        notes.append(f"There were {result.latency.count} samples; {', '.join(untold)} (--samples, --seconds).")
    if load[0] > 1.5 * cores:
        notes.append(f"The machine had other work: load {load[0]:.1f} on {cores} cores.")
    if result.kind == "local":
        notes.append("The files were in the system's cache when they were read.")
    elif result.machine.get("server_here"):
        notes.append("Server and clients share this machine: clients take time from the server.")
    notes += [warning] if (warning := caveat(result, result.costs)) else []
    notes += [sentence for cost in result.costs if (sentence := fits_memory(result, cost.price))]
    if result.costs and best_rate(result)[0] <= 0:
        notes.append("There is no price at throughput: none was measured.")
    return tuple(dict.fromkeys(notes))


def typed() -> str:
    """The command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
