"""Model processes behind one `Predict`: each holds the model, on its own GPU or its share of the cores, for a batch at a time.

A worker that ends or hangs takes the batch with it that it had, whose callers are asked to try again (503). Another is started
in its place, after a pause that grows while it happens again and again. The pool gives up when the model dies at every start.
Methods are called from any thread. `worker` is the other end, `pipe` what goes between.
"""

import logging
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sightline.errors import BundleError, Problem, RequestError, RunError, SightlineError
from sightline.images import InputSize, Resizing, size_of
from sightline.records import Detections, Image, ImageSize, Model, Predict
from sightline.serving.pipe import Told, detections_of, pair, receive, send, told_pictures
from sightline.serving.worker import Job

LOG = logging.getLogger(__name__)

FAILED_STARTS = 5
"""In a row, of one worker: then no other is started."""

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before a worker is started again: after its first end, its second in a row, and so on."""

STEADY_S = 60.0
"""A worker that lived so long ended by chance; the next end is the first in a row."""

END_S = 5.0
"""For a worker to end by itself when its connection is closed."""

AGAIN = "Try again: another worker is started."


@dataclass(eq=False)
class Worker:
    """One process with the model. number: of its place, from 1; at_work: held by who talks to it."""

    number: int
    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    at_work: threading.Lock = field(default_factory=threading.Lock)

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    def let_go(self) -> None:
        """It ends when it has answered the batch that it has."""
        with suppress(OSError):  # it has gone already
            self.connection.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Kill it if it does not end by itself, and leave nothing of it."""
        self.let_go()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self.at_work:  # who waits for its answer has seen by now that there is none
            self.connection.close()
        if self.process.stdin is not None:
            self.process.stdin.close()


class Pooled(Resizing):
    """A model in workers as a `StagedPredict`: pictures are resized here, and all the rest is done there."""

    def __init__(self, pool: "Pool", input_size: InputSize) -> None:
        self.pool, self.input_size = pool, input_size

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Detections]:
        return self.pool.predict(resized, sizes)

    def detections(self, found: Detections, size: ImageSize) -> Detections:
        return found


class Pool:
    """The workers of one model.

    job:             what each loads
    environments:    of the processes, one each: which GPU and how many threads it has
    batch_timeout_s: for one batch; a worker that takes longer hangs, and is killed
    pauses_s:        `PAUSES_S`

    model:     done when the first worker can predict, or all have failed to
    error:     why no worker is left, and none will be started; None while there is hope
    restarts:  workers that were started in the place of one that ended
    on_change: called when the number of workers has changed, in any thread
    on_error:  called when `error` is set
    """

    def __init__(
        self,
        job: Job,
        environments: Sequence[Mapping[str, str]],
        *,
        batch_timeout_s: float,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.job, self.environments, self.batch_timeout_s, self.pauses_s = job, environments, batch_timeout_s, pauses_s
        self.model: Future[Model] = Future()
        self.error: SightlineError | None = None
        self.restarts = 0
        self.on_change: Callable[[], object] = lambda: None
        self.on_error: Callable[[], object] = lambda: None
        self.news = threading.Condition()
        self.closing = threading.Event()
        self.workers: dict[int, Worker] = {}
        self.starting: dict[int, Worker] = {}
        self.idle: deque[Worker] = deque()
        self.given_up: set[int] = set()
        self.keepers = [
            threading.Thread(target=self.keep, args=(number, environment), name=f"worker {number}", daemon=True)
            for number, environment in enumerate(environments, 1)
        ]

    @property
    def count(self) -> int:
        return len(self.environments)

    @property
    def alive(self) -> int:
        """Workers that can predict."""
        return len(self.workers)

    @property
    def lanes(self) -> int:
        """Batches that are taken at once. Without hope one is: to be refused."""
        return self.alive or int(self.error is not None)

    def start(self) -> None:
        for keeper in self.keepers:
            keeper.start()

    def close(self) -> None:
        """End all workers; those that have a batch, or load, after a few seconds at the most. Returns when all are gone."""
        with self.news:
            self.closing.set()
            self.news.notify_all()
            loading = list(self.starting.values())
        for worker in loading:
            worker.process.kill()
        at_work = list(self.workers.values())
        for worker in at_work:
            worker.let_go()
        self.join(END_S)
        for worker in at_work:
            worker.process.kill()
        self.join(None)

    def join(self, timeout_s: float | None) -> None:
        """Wait until nobody keeps workers alive any more, at most so long."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for keeper in self.keepers:
            if keeper.ident is not None:  # it was started
                keeper.join(None if end is None else max(0.0, end - time.monotonic()))

    # --- predicting

    def predict(self, pictures: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Detections]:
        """What a worker that is idle finds. Blocks until there is one.

        Raises:
            RequestError: 503, the worker ended or hung with this batch in its hands, or there is none any more.
            RuntimeError: the model raised it.
        """
        while pictures:
            worker = self.taken()
            with worker.at_work:
                try:
                    send(worker.connection, told_pictures(pictures, sizes), pictures)
                except OSError:  # it ended while it was idle, so nothing is lost
                    worker.process.kill()
                    continue
                told, values = self.answered(worker)
            with self.news:
                self.idle.append(worker)
                self.news.notify_all()
            if "broken" in told:
                raise RuntimeError(f"the model in {worker} broke:\n{told['broken']}")
            return detections_of(told, values)
        return []

    def taken(self) -> Worker:
        """An idle worker, which is nobody else's now.

        Raises:
            RequestError: there is none, and there will be none.
        """
        with self.news:
            self.news.wait_for(lambda: self.idle or self.error or self.closing.is_set())
            if self.idle:
                return self.idle.popleft()
        raise RequestError("model", "has no worker left", "The server is about to end: try again later.", status=503)

    def answered(self, worker: Worker) -> tuple[Told, memoryview]:
        """The worker's answer.

        Raises:
            RequestError: 503, there is none.
        """
        try:
            message = receive(worker.connection)
        except TimeoutError:
            LOG.error("%s did not answer within %g s and is killed", worker, self.batch_timeout_s)
            worker.process.kill()
            raise RequestError("model", "hung with this picture and was stopped", AGAIN, status=503) from None
        if message is None:
            worker.process.kill()  # in case it only closed its connection
            raise RequestError("model", "was lost while it had this picture", AGAIN, status=503)
        return message

    # --- keeping them alive: one thread each

    def keep(self, number: int, environment: Mapping[str, str]) -> None:
        """Start worker `number`, and others in its place, until the pool is closed or there is no hope."""
        failed = ended = 0
        while not self.closing.is_set():
            worker = self.begun(number, environment)
            problem = self.started(worker)
            failed = 0 if problem is None else failed + 1
            if problem is None:
                lived_s = self.lived(worker)
                ended = 1 if lived_s > STEADY_S else ended + 1
            worker.end()
            if self.closing.is_set():
                return
            code = worker.process.returncode
            if problem is not None:
                LOG.error("%s could not start: %s", worker, problem)
                if failed >= FAILED_STARTS or (isinstance(problem, BundleError) and not self.model.done()):
                    self.give_up(number, problem)
                    return
            else:
                LOG.error("%s ended (%s); another is started", worker, reason(code))
            self.restarts += 1
            self.closing.wait(self.pauses_s[min(max(failed, ended - 1), len(self.pauses_s) - 1)])

    def begun(self, number: int, environment: Mapping[str, str]) -> Worker:
        """A process that begins to load."""
        ours, theirs = pair()
        with theirs:
            command = [sys.executable, "-P", "-m", "sightline.serving.worker", self.job.text(), str(theirs.fileno())]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, env=environment, pass_fds=[theirs.fileno()], process_group=0
            )  # a group of its own: Ctrl-C is for the server
        worker = Worker(number, process, ours)
        with self.news:
            self.starting[number] = worker
        if self.closing.is_set():
            process.kill()
        return worker

    def started(self, worker: Worker) -> SightlineError | None:
        """Wait until it can predict; else what is wrong."""
        message = receive(worker.connection)  # loading takes as long as it takes
        with self.news:
            del self.starting[worker.number]
        if message is None:
            worker.process.kill()
            return RunError(
                worker, f"ended while it loaded the model ({reason(worker.process.wait())})", "Give it more memory."
            )
        told, _ = message
        if "failed" in told:
            return error_of(told["failed"])
        worker.connection.settimeout(self.batch_timeout_s)
        with self.news:
            self.workers[worker.number] = worker
            self.idle.append(worker)
            self.news.notify_all()
            if not self.model.done():
                self.model.set_result(self.model_of(told["ready"]))
        LOG.info("%s is ready", worker)
        self.on_change()
        return None

    def lived(self, worker: Worker) -> float:
        """Wait until it ends; how many seconds it has lived."""
        began = time.monotonic()
        worker.process.wait()
        with self.news:
            del self.workers[worker.number]
            if worker in self.idle:
                self.idle.remove(worker)
        self.on_change()
        return time.monotonic() - began

    def give_up(self, number: int, problem: SightlineError) -> None:
        """No other worker will be started in this place. When it was the last one, there is no hope."""
        with self.news:
            self.given_up.add(number)
            hopeless = isinstance(problem, BundleError) and not self.model.done()
            if hopeless or len(self.given_up) == self.count:
                self.error = self.error or problem
            if self.error is not None and not self.model.done():
                self.model.set_exception(self.error)
            self.news.notify_all()
        if self.error is not None:
            self.on_change()
            self.on_error()

    def model_of(self, told: Told) -> Model:
        """The model that the workers hold."""

        def plain(images: Sequence[Image]) -> list[Detections]:
            return self.predict(images, [size_of(image) for image in images])

        asked = told["input_size"]
        predict: Predict = plain if asked is None else Pooled(self, InputSize(**asked))
        thresholds = told["thresholds"]
        return Model(
            predict,
            tuple(told["class_names"]),
            told["origin"],
            told["facts"],
            proposes=told["proposes"],
            thresholds=None if thresholds is None else tuple(thresholds),
        )


def reason(code: int) -> str:
    """Why a process ended, by its exit code."""
    if code == -9:
        return "killed by signal 9, as the system does when memory is short"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def error_of(told: Mapping[str, Any]) -> SightlineError:
    """What a worker says of its loading."""
    kind = RunError if told["exit_code"] == RunError.exit_code else BundleError
    return kind.collected([Problem(**problem) for problem in told["problems"]])
