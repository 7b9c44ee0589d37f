"""Processes that are started together, heard, stopped and buried: what the first process of a container owes them.

As process 1 of a container it gets SIGTERM from the platform, and the children of processes that end before their own children
become its own; those it reaps, too.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from sightline.containers.failures import reason
from sightline.errors import Interrupted

SAVING_S = 100.0
"""What processes get to save after SIGTERM. The platform kills all after 120."""

FOLLOWING_S = 15.0
"""What the others get to end by themselves when one has failed."""

ENDING_S = 15.0
"""What they get after SIGTERM then."""

KEPT_LINES = 400
POLL_S = 0.1


@dataclass(slots=True)
class Stop:
    """Whether somebody asked for the end: SIGTERM (the platform) or SIGINT (a person)."""

    came_at: float | None = None
    listening: bool = False

    @contextmanager
    def heard(self) -> Iterator["Stop"]:
        """Inside the block the signals are remembered while processes run, and else raise `Interrupted`."""
        before = {number: signal.signal(number, self.remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def remember(self, number: int, frame: FrameType | None) -> None:
        if self.came_at is None:
            self.came_at = time.monotonic()
            if not self.listening:
                raise interrupted("before training had begun")

    @property
    def seconds_left(self) -> float:
        """Until the work must be over; without a stop there is no end."""
        return float("inf") if self.came_at is None else self.came_at + SAVING_S - time.monotonic()


def interrupted(when: str) -> Interrupted:
    return Interrupted(
        "the job", f"was asked to end {when}", "Start it again with the same checkpoints: it goes on from there."
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that is over. code: its exit code, or the number of the signal that ended it, negative."""

    name: str
    code: int
    lines: tuple[str, ...]

    @property
    def reason(self) -> str:
        return reason(self.lines, self.code)


@dataclass(slots=True)
class Child:
    """A process under way, whose stderr goes on to ours."""

    name: str
    process: "subprocess.Popen[bytes]"
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    reader: threading.Thread | None = None

    @classmethod
    def start(cls, name: str, words: Sequence[str], environ: Mapping[str, str]) -> "Child":
        # a session of its own: Ctrl-C on a terminal reaches us alone, and we pass it on as what it means
        process = subprocess.Popen(words, env=dict(environ), stderr=subprocess.PIPE, start_new_session=True)
        child = cls(name, process)
        child.reader = threading.Thread(target=child.read, daemon=True)
        child.reader.start()
        return child

    def read(self) -> None:
        pipe = self.process.stderr
        for line in pipe or ():
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
            self.lines.append(line.decode("utf-8", "replace").rstrip())

    def ended(self) -> Ended:
        if self.reader is not None:
            self.reader.join(2.0)  # a grandchild may hold the pipe open for longer
        return Ended(self.name, self.process.returncode, tuple(self.lines))


def run_together(
    commands: Mapping[str, tuple[Sequence[str], Mapping[str, str]]],
    stop: Stop,
    *,
    limit_s: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> list[Ended]:
    """Run commands side by side, {name: (words, environment)}; all of them, in the order in which they ended.

    A stop reaches each as SIGTERM, once. When one fails, the others may follow by themselves, and are then ended. What is still
    there when the platform's time is over is killed; as is everything after `limit_s`.
    """
    already, began = stop.came_at is not None, clock()
    stop.listening = True
    children = [Child.start(name, words, environ) for name, (words, environ) in commands.items()]
    over: list[Ended] = []
    asked, ends_at = False, began + limit_s
    failed_at: float | None = None
    try:
        while children:
            for child in [child for child in children if child.process.poll() is not None]:
                children.remove(child)
                over.append(child.ended())
                failed_at = failed_at or (clock() if over[-1].code else None)
            now = clock()
            stopped = stop.came_at is not None and not already
            if not asked and (stopped or (failed_at is not None and now - failed_at > FOLLOWING_S)):
                asked, ends_at = True, min(ends_at, now + (SAVING_S if stopped else ENDING_S))
                for child in children:
                    child.process.terminate()
            if now > ends_at:
                for child in children:
                    child.process.kill()
            if os.getpid() == 1:
                reap_orphans({child.process.pid for child in children})
            time.sleep(POLL_S if children else 0)
    finally:
        stop.listening = False
        for child in children:  # only an error of our own leaves some
            child.process.kill()
    return over


def reap_orphans(own: set[int]) -> None:
    """Bury the processes that process 1 inherits; `own` are waited for by those that started them."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in own:  # ours first: the next round has waited for it
            return
        os.waitpid(found.si_pid, os.WNOHANG)
