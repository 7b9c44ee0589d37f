"""Many transfers at once: progress on stderr, all failures told together, an early end where nothing can succeed."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sightline.errors import Problem
from sightline.s3 import objects
from sightline.s3.address import Address
from sightline.s3.connection import WORKERS, Store
from sightline.s3.failures import Failure, failure
from sightline.s3.listing import Entry, near

LOG = logging.getLogger(__name__)

MAX_NEAR = 5
"""Missing keys that get a nearest name; each costs a listing."""

HOPELESS = 100
"""Failures without a single success after which the rest is not tried."""

LINE_EVERY_S = 15.0
REDRAW_EVERY_S = 0.2

Item = TypeVar("Item")


@dataclass(slots=True)
class Meter:
    """How far transfers are, on stderr: one line that is redrawn on a terminal, else a log line now and then."""

    verb: str
    total: int | None
    done: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def told(self, count: int) -> None:
        with self.lock:
            self.bytes += count
            now = time.monotonic()
            on_terminal = sys.stderr.isatty()
            if now - self.shown < (REDRAW_EVERY_S if on_terminal else LINE_EVERY_S):
                return
            self.shown = now
        if on_terminal:
            sys.stderr.write(f"\r{self}\x1b[K")
            sys.stderr.flush()
        else:
            LOG.info("%s", self)

    def finish(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if self.bytes:
            LOG.info("%s in %.1f s", self, time.monotonic() - self.began)

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        rate = self.bytes / 2**20 / max(time.monotonic() - self.began, 1e-3)
        return f"{self.verb} {self.done:,}{of} objects, {self.bytes / 2**20:,.1f} MiB, {rate:,.1f} MiB/s"


@dataclass(frozen=True, slots=True)
class Fetched:
    """files: address -> its file in the cache; failures: address -> why there is none."""

    files: Mapping[Address, Path]
    failures: Mapping[Address, Failure]

    @property
    def problems(self) -> dict[Address, Problem]:
        return {address: failed.problem for address, failed in self.failures.items()}


def fetch_all(store: Store, wanted: Iterable[Address | Entry]) -> Fetched:
    """The files of all objects; what fails is in the result, with the nearest names of missing ones.

    Raises:
        SightlineError, RunError: a failure that all others share (no credentials, no network, no such bucket).
    """
    items = [item if isinstance(item, Entry) else Entry(item, -1, "") for item in dict.fromkeys(wanted)]
    meter = Meter("fetched", len(items))

    def work(entry: Entry) -> Path:
        return objects.fetch(store, entry.address, entry if entry.etag else None, meter.told)

    files, failures = run_all(store, items, work, lambda entry: entry.address, "s3:GetObject", meter)
    for number, (address, failed) in enumerate(failures.items()):
        if failed.missing and number < MAX_NEAR and (hint := near(store, address)):
            failures[address] = Failure(Problem(str(address), failed.problem.what, hint), missing=True)
    return Fetched(files, failures)


def run_all(
    store: Store,
    items: Iterable[Item],
    work: Callable[[Item], Path],
    address_of: Callable[[Item], Address],
    action: str,
    meter: Meter,
) -> tuple[dict[Address, Path], dict[Address, Failure]]:
    """`work` on all items, several at a time: ({address: what it gave}, {address: why it failed})."""
    tally = Tally(store, action, {}, {})
    remaining = iter(items)
    threads = ThreadPoolExecutor(WORKERS, "s3")
    try:
        under_way = {threads.submit(work, item): address_of(item) for item in islice(remaining, 4 * WORKERS)}
        while under_way:
            ready, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ready:
                tally.count(future, under_way.pop(future))
                meter.done += 1
            if tally.hopeless():
                for item in remaining:
                    what = "was not tried, since nothing else could be transferred"
                    tally.failures[address_of(item)] = Failure(Problem(str(address_of(item)), what, "See the other problems."))
            under_way |= {threads.submit(work, item): address_of(item) for item in islice(remaining, len(ready))}
    finally:
        threads.shutdown(cancel_futures=True)
        meter.finish()
    return tally.files, tally.failures


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the transfers so far."""

    store: Store
    action: str
    files: dict[Address, Path]
    failures: dict[Address, Failure]

    def count(self, future: "Future[Path]", address: Address) -> None:
        try:
            self.files[address] = future.result()
        except Exception as error:
            failed = failure(error, address, self.action, self.store.settings)
            if failed.ends_all:
                raise failed.error() from error
            self.failures[address] = failed

    def hopeless(self) -> bool:
        return not self.files and len(self.failures) >= HOPELESS
