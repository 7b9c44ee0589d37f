"""A model on this machine: each stage's seconds go to that stage, warm-up ends when it should, lack of memory is a result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarking import local
from sightline.benchmarking.local import Rig, one_at_a_time, one_picture, throughput, warm_up
from sightline.records import Detections, Image, ImageSize, Model


class Staged:
    """A predictor whose stages take what a test says, by a clock of its own. On a GPU the time passes in `synchronise`."""

    def __init__(self, clock: Any, find: Any, **seconds: float) -> None:
        self.clock, self.find, self.seconds, self.pending = clock, find, seconds, 0.0

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        self.clock.now += sum(self.seconds.values()) * len(images)
        return list(self.find(images))

    def resized(self, image: Image) -> Image:
        self.clock.now += self.seconds["resize"]
        return image

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> Sequence[Any]:
        self.pending += self.seconds["model"]
        return self.find(resized)  # type: ignore[no-any-return]

    def detections(self, found: Any, size: ImageSize) -> Detections:
        self.clock.now += self.seconds["post"]
        assert isinstance(found, Detections)
        return found

    def synchronise(self) -> None:
        self.clock.now += self.pending
        self.pending = 0.0


@pytest.fixture
def staged(clock: Any, fake_predict: Any) -> Staged:
    return Staged(clock, fake_predict, resize=1.0, model=10.0, post=2.0)


def a_rig(predict: Any, pictures: Path, clock: Any, **changes: Any) -> Rig:
    defaults: dict[str, Any] = {"samples": 8, "limit_s": 1000.0, "clock": clock}
    defaults["synchronise"] = getattr(predict, "synchronise", lambda: None)
    return Rig(Model(predict, ("bee", "wasp"), "fake"), sorted(pictures.iterdir()), **(defaults | changes))


def test_each_stage_has_its_own_seconds_and_the_model_those_of_the_gpu(staged: Staged, pictures: Path, clock: Any) -> None:
    taken = one_picture(a_rig(staged, pictures, clock), pictures / "a.jpg")
    assert taken == {"read": 0, "decode": 0, "resize": 1, "model": 10, "post": 2, "encode": 0}


def test_what_was_pending_before_is_in_no_stage(staged: Staged, pictures: Path, clock: Any) -> None:
    staged.pending = 50.0
    assert sum(one_picture(a_rig(staged, pictures, clock), pictures / "a.jpg").values()) == 13


def test_a_predict_without_stages_is_all_model(pictures: Path, clock: Any, fake_predict: Any) -> None:
    def predict(images: Sequence[Image]) -> list[Detections]:
        clock.now += 3
        return list(fake_predict(images))

    taken = one_picture(a_rig(predict, pictures, clock), pictures / "a.jpg")
    assert taken == {"read": 0, "decode": 0, "model": 3, "encode": 0}


def test_it_ends_with_its_samples(staged: Staged, pictures: Path, clock: Any) -> None:
    assert len(one_at_a_time(a_rig(staged, pictures, clock))) == 8


def test_it_ends_with_its_time_but_not_without_a_few_samples(staged: Staged, pictures: Path, clock: Any) -> None:
    assert len(one_at_a_time(a_rig(staged, pictures, clock, samples=100, limit_s=80.0))) == 7
    assert len(one_at_a_time(a_rig(staged, pictures, clock, samples=100, limit_s=1.0))) == local.LEAST_SAMPLES


def test_warm_up_until_the_times_settle(pictures: Path, clock: Any, fake_predict: Any) -> None:
    left = [64.0, 32.0, 16.0, 8.0, 4.0]

    def predict(images: Sequence[Image]) -> list[Detections]:
        clock.now += left.pop(0) if left else 2.0
        return list(fake_predict(images))

    runs, steady = warm_up(a_rig(predict, pictures, clock))
    assert steady
    assert not left
    assert 5 < runs < local.MAX_WARM_UP


def test_times_that_never_settle_are_told(pictures: Path, clock: Any, fake_predict: Any) -> None:
    steps = iter(range(1000))

    def predict(images: Sequence[Image]) -> list[Detections]:
        clock.now += 2.0 ** next(steps)
        return list(fake_predict(images))

    runs, steady = warm_up(a_rig(predict, pictures, clock, limit_s=1e9))
    assert (runs, steady) == (local.MAX_WARM_UP + 1, False)


def test_warm_up_ends_with_its_time(staged: Staged, pictures: Path, clock: Any) -> None:
    assert warm_up(a_rig(staged, pictures, clock, limit_s=30.0)) == (3, False)


def test_a_number_of_warm_up_runs(staged: Staged, pictures: Path, clock: Any) -> None:
    assert warm_up(a_rig(staged, pictures, clock, warm_up=3)) == (3, False)
    assert clock.now == 3 * 13


def test_throughput_of_a_batch_size(staged: Staged, pictures: Path, clock: Any) -> None:
    batch = throughput(a_rig(staged, pictures, clock), 4)
    assert batch.seconds is not None
    assert (batch.size, batch.seconds.count, batch.seconds.mean) == (4, local.LEAST_BATCHES, 52)
    assert batch.pictures_per_s == batch.predict_per_s == pytest.approx(1 / 13)
    assert batch.peak_bytes > 2**20


@pytest.mark.parametrize("error", [MemoryError("no more"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_too_little_memory_is_a_result(error: Exception, pictures: Path, clock: Any) -> None:
    def predict(images: Sequence[Image]) -> list[Detections]:
        raise error

    batch = throughput(a_rig(predict, pictures, clock), 2)
    assert "not enough memory" in batch.failed
    assert batch.seconds is None


def test_any_other_error_is_raised(pictures: Path, clock: Any) -> None:
    def predict(images: Sequence[Image]) -> list[Detections]:
        raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError, match="a shape is wrong"):
        throughput(a_rig(predict, pictures, clock), 2)
