"""Many awaited single calls in, few batched calls out: `answer = await batcher(item)`.

A batch closes at `max_size` items or `max_wait_s` seconds after its first item, whichever is sooner; an item that finds the
model idle does not wait at all. One worker thread predicts, so the model never runs twice at once. All state belongs to one
event loop.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

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
    """One call: what it asks, when it came (loop time, seconds), the future its caller awaits, and where its times go."""

    item: Item
    arrived: float
    answer: "asyncio.Future[Answer]"
    times: Times


def not_counted(size: int) -> None:
    """The `sizes` of a batcher whose batches nobody counts."""


@dataclass(eq=False)
class Batcher(Generic[Item, Answer]):
    """The calls that wait for the model.

    predict:    items -> as many answers, in their order; called in one thread
    max_size:   items per call of `predict`
    max_wait_s: after the first item, while the model is under load
    key:        only items of equal key share a batch. Pictures of one shape need no padding, and padding changes numbers.
    sizes:      told the size of every batch
    done:       batches that have come back
    """

    predict: Callable[[Sequence[Item]], Sequence[Answer]]
    max_size: int
    max_wait_s: float
    key: Callable[[Item], Hashable]
    sizes: Callable[[int], None] = not_counted
    done: int = 0
    waiting: list[Waiting[Item, Answer]] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.draining = False
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self.arrival = asyncio.Event()

    async def __call__(self, item: Item, times: Times | None = None) -> Answer:
        """The answer to `item`; raises what `predict` raised for it alone. Cancelling the caller takes the item back.

        times: filled in as things happen, also for a caller that gives up
        """
        loop = asyncio.get_running_loop()
        call = Waiting(item, loop.time(), loop.create_future(), times or Times())
        call.times.arrived = call.arrived
        self.waiting.append(call)
        self.arrival.set()
        if self.task is None:
            self.task = loop.create_task(self.work())
        try:
            answer: Answer = await call.answer
            return answer
        finally:
            if call in self.waiting:
                self.waiting.remove(call)

    async def work(self) -> None:
        """Answer until nothing waits. The first batch finds the model idle and goes at once."""
        try:
            while self.waiting:
                if batch := self.take():
                    await self.answer(batch)
                await self.gather()
        finally:
            self.task = None

    async def gather(self) -> None:
        """Return when a batch is full, or its first item has waited long enough."""
        loop = asyncio.get_running_loop()
        while self.waiting and len(self.waiting) < self.max_size and not self.draining:
            remaining = self.waiting[0].arrived + self.max_wait_s - loop.time()
            if remaining <= 0:
                return
            self.arrival.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self.arrival.wait()
            except TimeoutError:
                return

    def take(self) -> list[Waiting[Item, Answer]]:
        """The oldest item and those of its key, in order of arrival; they no longer wait. Empty when all callers have gone."""
        self.waiting = [call for call in self.waiting if not call.answer.done()]
        if not self.waiting:
            return []
        key = self.key(self.waiting[0].item)
        batch = list(islice((call for call in self.waiting if self.key(call.item) == key), self.max_size))
        self.waiting = [call for call in self.waiting if call not in batch]
        return batch

    async def answer(self, batch: list[Waiting[Item, Answer]]) -> None:
        """Predict in the worker thread and give each caller its answer or its error."""
        loop = asyncio.get_running_loop()
        for call in batch:
            call.times.started = loop.time()
        self.sizes(len(batch))
        results = await loop.run_in_executor(self.worker, self.predict_each, batch)
        self.done += 1
        for call in batch:
            call.times.ended = loop.time()
        for call, result in zip(batch, results, strict=True):
            if call.answer.done():  # its caller has gone
                continue
            if isinstance(result, Exception):
                call.answer.set_exception(result)
            else:
                call.answer.set_result(result)

    def predict_each(self, batch: list[Waiting[Item, Answer]]) -> list[Answer | Exception]:
        """One answer or error per call. A failing batch is tried again one by one, so that a bad item fails only itself."""
        try:
            answers = list(self.predict([call.item for call in batch]))
            if len(answers) != len(batch):
                raise ValueError(f"predict gave {len(answers)} answers to {len(batch)} items")
        except Exception as error:
            if len(batch) == 1:
                return [error]
            # a caller that has gone meanwhile costs no more model time; nobody reads its error
            return [one for call in batch for one in ([error] if call.answer.done() else self.predict_each([call]))]
        return [*answers]

    async def drain(self) -> None:
        """Return when everything accepted is answered, and end the worker thread."""
        self.draining = True
        self.arrival.set()
        while self.task is not None:
            await asyncio.wait([self.task])
        self.worker.shutdown(wait=False)
