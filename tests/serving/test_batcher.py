"""Batching: who shares a batch, when it closes, who fails, and that nobody is forgotten. No clock is read."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from sightline.errors import RequestError
from sightline.serving.batcher import Batcher

PATIENT_S = 60.0  # a batch that waits for more, in a test, waits for an event and never for the clock


class Doubler:
    """A model that doubles numbers; it stops before each batch until `go`, and remembers what it was given."""

    def __init__(self, stopped: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0 if stopped else 1_000_000)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.release()
        self.go.acquire()
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]


def batcher(
    model: Doubler, *, max_size: int = 4, max_wait_s: float = 0.0, parity: bool = False, lanes: int = 1
) -> Batcher[int, int]:
    return Batcher(
        model,
        max_size=max_size,
        max_wait_s=max_wait_s,
        key=lambda item: item % 2 if parity else 0,
        lanes=lambda: lanes,
        most_lanes=lanes,
    )


async def until(semaphore: threading.Semaphore) -> None:
    await asyncio.to_thread(semaphore.acquire)


async def held(model: Doubler, batch: Batcher[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Calls for `items` that wait while the model is busy with another item (100), plus that call, first."""
    first = asyncio.create_task(batch(100))
    await until(model.started)
    calls = [asyncio.create_task(batch(item)) for item in items]
    await asyncio.sleep(0)  # each has run up to its wait
    return [first, *calls]


async def answers(calls: Sequence[asyncio.Task[int]]) -> list[int | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


def release(model: Doubler) -> None:
    for _ in range(100):
        model.go.release()


def test_an_idle_model_starts_at_once() -> None:
    async def scenario() -> None:
        model = Doubler()
        batch = batcher(model, max_wait_s=PATIENT_S)
        assert await batch(3) == 6
        assert model.batches == [[3]]
        await batch.drain()

    asyncio.run(scenario())


def test_what_waits_for_a_busy_model_goes_together() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model)
        calls = await held(model, batch, [1, 2, 3, 4, 5, 6])
        release(model)
        assert await answers(calls) == [200, 2, 4, 6, 8, 10, 12]
        assert model.batches == [[100], [1, 2, 3, 4], [5, 6]]
        await batch.drain()

    asyncio.run(scenario())


def test_under_load_a_batch_waits_until_it_is_full() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model, max_size=3, max_wait_s=PATIENT_S)
        calls = await held(model, batch, [1, 2])
        release(model)
        assert await calls[0] == 200
        assert model.batches == [[100]]  # two wait for a third
        calls.append(asyncio.create_task(batch(3)))
        assert await answers(calls) == [200, 2, 4, 6]
        assert model.batches == [[100], [1, 2, 3]]
        await batch.drain()

    asyncio.run(scenario())


def test_a_batch_closes_when_its_first_item_has_waited() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model, max_size=100, max_wait_s=0.01)
        calls = await held(model, batch, [1])
        release(model)
        assert await answers(calls) == [200, 2]  # and not a wait for 99 more
        await batch.drain()

    asyncio.run(scenario())


def test_only_equal_keys_share_a_batch_and_nobody_is_overtaken_for_long() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model, parity=True)
        calls = await held(model, batch, [1, 2, 3, 4])
        release(model)
        assert await answers(calls) == [200, 2, 4, 6, 8]
        assert model.batches == [[100], [1, 3], [2, 4]]
        await batch.drain()

    asyncio.run(scenario())


def test_a_bad_item_fails_only_itself() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model)
        calls = await held(model, batch, [1, 13, 3])
        release(model)
        first, one, bad, three = await answers(calls)
        assert (first, one, three) == (200, 2, 6)
        assert isinstance(bad, ValueError)
        assert model.batches == [[100], [1, 13, 3], [1], [13], [3]]
        await batch.drain()

    asyncio.run(scenario())


def test_a_wrong_number_of_answers_is_an_error() -> None:
    async def scenario() -> None:
        batch: Batcher[int, int] = Batcher(lambda items: [], max_size=4, max_wait_s=0, key=lambda item: 0)
        with pytest.raises(ValueError, match="gave 0 answers to 1 items"):
            await batch(1)
        await batch.drain()

    asyncio.run(scenario())


def test_a_caller_that_goes_away_costs_no_model_time() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model)
        first, one, two = await held(model, batch, [1, 2])
        one.cancel()
        await asyncio.sleep(0)
        assert len(batch.waiting) == 1
        release(model)
        assert await answers([first, two]) == [200, 4]
        assert model.batches == [[100], [2]]
        await batch.drain()

    asyncio.run(scenario())


def test_everyone_may_go_away() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model)
        first, one = await held(model, batch, [1])
        one.cancel()
        first.cancel()
        release(model)
        await batch.drain()
        assert model.batches == [[100]]

    asyncio.run(scenario())


def test_draining_answers_everything_accepted() -> None:
    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model, max_size=2, max_wait_s=PATIENT_S)
        calls = await held(model, batch, [1, 2, 3])
        drained = asyncio.create_task(batch.drain())
        release(model)
        await drained
        assert await answers(calls) == [200, 2, 4, 6]

    asyncio.run(scenario())


def test_several_lanes_take_a_batch_each() -> None:
    """The second starts while the first is still out; what comes then waits for the one that is back first."""

    async def scenario() -> None:
        model = Doubler(stopped=True)
        batch = batcher(model, max_wait_s=PATIENT_S, lanes=2)
        first, second = await held(model, batch, [1])
        await until(model.started)
        assert model.batches == [[100], [1]]
        third = asyncio.create_task(batch(3))
        await asyncio.sleep(0)
        drained = asyncio.create_task(batch.drain())
        release(model)
        await drained
        assert await answers([first, second, third]) == [200, 2, 6]
        assert model.batches == [[100], [1], [3]]

    asyncio.run(scenario())


def test_without_lanes_everything_waits_until_there_is_one() -> None:
    async def scenario() -> None:
        model, lanes = Doubler(), [0]
        batch: Batcher[int, int] = Batcher(model, max_size=4, max_wait_s=0, key=lambda item: 0, lanes=lambda: lanes[0])
        call = asyncio.create_task(batch(5))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (model.batches, len(batch.waiting)) == ([], 1)
        lanes[0] = 1
        batch.dispatch()
        assert await call == 10
        await batch.drain()

    asyncio.run(scenario())


def test_a_refusal_is_for_the_whole_batch_and_not_tried_again() -> None:
    class Refusing(Doubler):
        def __call__(self, items: Sequence[int]) -> list[int]:
            super().__call__(items)
            raise RequestError("model", "was lost", "Try again.", status=503)

    async def scenario() -> None:
        model = Refusing(stopped=True)
        batch = batcher(model)
        calls = await held(model, batch, [1, 2])
        release(model)
        assert [type(answer) for answer in await answers(calls)] == [RequestError] * 3
        assert model.batches == [[100], [1, 2]]
        await batch.drain()

    asyncio.run(scenario())
