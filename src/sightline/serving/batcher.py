"""Many awaited single calls in, few batched calls out: `answer = await batcher(item)`.

A batch closes at `max_size` items or `max_wait_s` seconds after its first item, whichever is sooner; an item that finds the
model idle does not wait at all. A model may take several batches at once (one in each of its processes); each has a thread
that waits for it. All state belongs to one event loop.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from sightline.errors import RequestError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Times:
    """When things happened to one call, in seconds of the loop's clock; None: not yet.

    arrived: it began to wait for the model
    started: its batch went to the model
    ended:   its batch came back
    """

    arrived: float | None = None
    started: float | None = None
    ended: float | None = None


@dataclass(slots=True, eq=False)
class Waiting(Generic[Item, Answer]):
    """One call. closes: when its batch does, in seconds of the loop's clock; answer: what its caller awaits."""

    item: Item
    closes: float
    answer: "asyncio.Future[Answer]"
    times: Times


def not_counted(size: int) -> None:
    """The `sizes` of a batcher whose batches nobody counts."""


def one_at_a_time() -> int:
    """The `lanes` of a model that answers one batch after the other."""
    return 1


@dataclass(eq=False)
class Batcher(Generic[Item, Answer]):
    """The calls that wait for the model.

    predict:    items -> as many answers, in their order; called in up to `most_lanes` threads
    max_size:   items per call of `predict`
    max_wait_s: after the first item, while the model is under load
    key:        only items of equal key share a batch
    sizes:      told the size of every batch
    lanes:      how many batches the model takes at once, as things are; call `dispatch` when that has changed
    most_lanes: what `lanes` never exceeds
    done:       batches that have come back
    running:    batches that have not
    """

    predict: Callable[[Sequence[Item]], Sequence[Answer]]
    max_size: int
    max_wait_s: float
    key: Callable[[Item], Hashable]
    sizes: Callable[[int], None] = not_counted
    lanes: Callable[[], int] = one_at_a_time
    most_lanes: int = 1
    done: int = 0
    running: int = 0
    waiting: list[Waiting[Item, Answer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draining = False
        self.threads = ThreadPoolExecutor(self.most_lanes, thread_name_prefix="predict")
        self.emptied = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None

    async def __call__(self, item: Item, times: Times | None = None) -> Answer:
        """The answer to `item`; raises what `predict` raised for it alone. Cancelling the caller takes the item back.

        times: filled in as things happen, also for a caller that gives up
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        idle = not self.waiting and self.running < self.lanes()
        call = Waiting(item, now if idle else now + self.max_wait_s, loop.create_future(), times or Times())
        call.times.arrived = now
        self.waiting.append(call)
        loop.call_soon(self.dispatch)  # soon: what arrives at the same moment joins it
        try:
            answer: Answer = await call.answer
            return answer
        finally:
            if call in self.waiting:
                self.waiting.remove(call)
                self.dispatch()

    def dispatch(self) -> None:
        """Send off the batches that are closed, as far as the model takes them; look again when the next one closes."""
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self.waiting and self.running < self.lanes():
            closes = self.waiting[0].closes
            if len(self.waiting) < self.max_size and not self.draining and closes > loop.time():
                self.timer = loop.call_at(closes, self.dispatch)
                break
            if batch := self.take():
                self.start(batch)
        if not self.waiting and not self.running:
            self.emptied.set()

    def take(self) -> list[Waiting[Item, Answer]]:
        """The oldest item and those of its key, in order of arrival; they no longer wait. Empty when all callers have gone."""
        self.waiting = [call for call in self.waiting if not call.answer.done()]
        if not self.waiting:
            return []
        key = self.key(self.waiting[0].item)
        batch = list(islice((call for call in self.waiting if self.key(call.item) == key), self.max_size))
        self.waiting = [call for call in self.waiting if call not in batch]
        return batch

    def start(self, batch: list[Waiting[Item, Answer]]) -> None:
        """Predict in a thread."""
        loop = asyncio.get_running_loop()
        for call in batch:
            call.times.started = loop.time()
        self.sizes(len(batch))
        self.running += 1
        loop.run_in_executor(self.threads, self.predict_each, batch).add_done_callback(partial(self.end, batch))

    def end(self, batch: list[Waiting[Item, Answer]], results: "asyncio.Future[list[Answer | Exception]]") -> None:
        """Give each caller its answer or its error."""
        self.running -= 1
        self.done += 1
        self.dispatch()  # first: the model shall not wait until all these answers are written
        now = asyncio.get_running_loop().time()
        for call, result in zip(batch, results.result(), strict=True):
            call.times.ended = now
            if call.answer.done():  # its caller has gone
                continue
            if isinstance(result, Exception):
                call.answer.set_exception(result)
            else:
                call.answer.set_result(result)

    def predict_each(self, batch: list[Waiting[Item, Answer]]) -> list[Answer | Exception]:
        """One answer or error per call. A failing batch is tried again one by one, so that a bad item fails only itself.

        A `RequestError` is the answer to all: the batch could not be tried, or must not be tried again.
        """
        try:
            answers = list(self.predict([call.item for call in batch]))
            if len(answers) != len(batch):
                raise ValueError(f"predict gave {len(answers)} answers to {len(batch)} items")
        except Exception as error:
            if len(batch) == 1 or isinstance(error, RequestError):
                return [error] * len(batch)
            # a caller that has gone meanwhile costs no more model time; nobody reads its error
            return [one for call in batch for one in ([error] if call.answer.done() else self.predict_each([call]))]
        return [*answers]

    async def drain(self) -> None:
        """Return when everything accepted is answered, and end the threads."""
        self.draining = True
        self.emptied.clear()
        self.dispatch()
        await self.emptied.wait()
        self.threads.shutdown(wait=False)
