"""People's words as Detectron2's keys: known answers for every option, and what is said about them."""

from dataclasses import replace

import pytest
from builders import a_config
from hypothesis import given
from hypothesis import strategies as st

from sightline.config.schema import Config, Solver
from sightline.config.sources import load
from sightline.errors import ConfigError
from sightline.training.asked import NOTHING, Asked, decided, doubts, scaled

SOLVER = Solver(ims_per_batch=16, base_lr=0.02, max_iter=90000, steps=(60000, 80000), warmup_iters=1000)


def a_configuration(**solver: object) -> Config:
    return replace(Config(), solver=replace(SOLVER, **solver))


def test_nothing_asked_nothing_changed() -> None:
    assert decided(a_configuration(), NOTHING, 100) == (a_configuration(), [])


def test_epochs() -> None:
    """3 epochs of 1000 pictures in batches of 16: 187.5 steps. Milestones keep their place, the warm-up shrinks to a tenth."""
    config, said = decided(a_configuration(), Asked(epochs=3), 1000)
    solver = config.solver
    assert (solver.max_iter, solver.steps, solver.warmup_iters) == (188, (125, 167), 18)
    assert said == ["3 epochs of 1000 pictures are 188 steps of 16"]


def test_a_longer_run_keeps_its_warm_up() -> None:
    config, _ = decided(a_configuration(max_iter=90, steps=(60,), warmup_iters=5), Asked(epochs=10), 1600)
    assert (config.solver.max_iter, config.solver.steps, config.solver.warmup_iters) == (1000, (667,), 5)


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 4), (1, 7), (2, 13)])
def test_parts_of_epochs(epochs: float, steps: int) -> None:
    assert decided(a_configuration(), Asked(epochs=epochs), 100)[0].solver.max_iter == steps


def test_the_rate_follows_the_batch() -> None:
    config, said = decided(a_configuration(), Asked(batch_size=4), 100)
    assert (config.solver.ims_per_batch, config.solver.base_lr) == (4, 0.005)
    assert said == ["batches of 4 instead of 16: SOLVER.BASE_LR is 0.005 instead of 0.02"]


def test_a_rate_that_was_asked_for_stays() -> None:
    config, said = decided(a_configuration(), Asked(batch_size=4, learning_rate=0.1), 100)
    assert (config.solver.ims_per_batch, config.solver.base_lr, said) == (4, 0.1, [])


def test_epochs_are_of_the_batch_that_was_asked_for() -> None:
    assert decided(a_configuration(), Asked(batch_size=4, epochs=1), 100)[0].solver.max_iter == 25


def test_image_size() -> None:
    """Zoo sizes, 640 to 800 and at most 1333: 400 px, at most 667."""
    sizes = replace(Config().input, min_size_train=(640, 800), min_size_train_sampling="range", max_size_test=1000)
    config, _ = decided(replace(Config(), input=sizes), Asked(image_size=400), 100)
    found = config.input
    assert (found.min_size_train, found.max_size_train, found.min_size_train_sampling) == ((400,), 666, "choice")
    assert (found.min_size_test, found.max_size_test) == (400, 500)


def test_image_size_where_no_size_is_set() -> None:
    """0 and () leave pictures as they are, or are refused later; their longer sides have no ratio to keep."""
    nothing = replace(Config().input, min_size_train=(), min_size_test=0)
    config, _ = decided(replace(Config(), input=nothing), Asked(image_size=400), 100)
    assert (config.input.min_size_train, config.input.min_size_test) == ((400,), 400)
    assert (config.input.max_size_train, config.input.max_size_test) == (nothing.max_size_train, nothing.max_size_test)


def test_seed() -> None:
    assert decided(a_configuration(), Asked(seed=0), 1)[0].seed == 0
    assert decided(replace(a_configuration(), seed=4), NOTHING, 1)[0].seed == 4


def test_patience_measures_once_an_epoch() -> None:
    config, said = decided(a_configuration(), Asked(patience=3), 100)
    assert config.test.eval_period == 7
    assert said == ["for --patience the detector is measured once an epoch, every 7 steps (TEST.EVAL_PERIOD)"]
    own = replace(a_configuration(), test=replace(Config().test, eval_period=50))
    assert decided(own, Asked(patience=3), 100) == (own, [])
    assert decided(a_configuration(), Asked(patience=0), 100)[0].test.eval_period == 0


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (Asked(epochs=0), ["--epochs"]),
        (Asked(epochs=float("nan")), ["--epochs"]),
        (Asked(epochs=float("inf"), learning_rate=-1), ["--epochs", "--learning-rate"]),
        (Asked(batch_size=0, image_size=-5), ["--batch-size", "--image-size"]),
    ],
)
def test_numbers_that_cannot_be(asked: Asked, options: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Give a number above 0\.") as caught:
        decided(a_configuration(), asked, 100)
    assert [problem.where for problem in caught.value.problems] == options


@given(
    steps=st.lists(st.integers(1, 90000), max_size=5).map(sorted),
    epochs=st.floats(0.001, 500),
    pictures=st.integers(1, 100000),
    batch=st.integers(1, 64),
)
def test_milestones_stay_in_order_and_inside(steps: list[int], epochs: float, pictures: int, batch: int) -> None:
    config = a_configuration(steps=tuple(steps))
    solver = decided(config, Asked(epochs=epochs, batch_size=batch), pictures)[0].solver
    assert list(solver.steps) == sorted(solver.steps)
    assert all(1 <= step <= solver.max_iter for step in solver.steps)
    assert solver.warmup_iters <= min(1000, solver.max_iter / 10)
    assert (solver.max_iter - 1) * batch < epochs * pictures * (1 + 1e-9) or solver.max_iter == 1
    assert solver.max_iter * batch >= epochs * pictures * (1 - 1e-9)
    assert solver.base_lr / solver.ims_per_batch == pytest.approx(0.02 / 16)


def test_two_of_eight_processes() -> None:
    """Detectron2's auto_scale_workers: what its documentation's example makes of the zoo's recipe."""
    config = a_configuration(reference_world_size=8, checkpoint_period=5000)
    config = replace(config, test=replace(config.test, eval_period=500))
    found, said = scaled(config, 2)
    solver = found.solver
    assert (solver.ims_per_batch, solver.base_lr, solver.max_iter, solver.steps) == (4, 0.005, 360000, (240000, 320000))
    assert (solver.warmup_iters, solver.checkpoint_period, found.test.eval_period) == (4000, 20000, 2000)
    assert solver.reference_world_size == 2
    assert said[0].startswith("made for 8 processes, running on 2: batch 4, BASE_LR 0.005, MAX_ITER 360000")
    assert scaled(found, 2) == (found, [])


@pytest.mark.parametrize("reference", [0, 3])
def test_nothing_to_scale(reference: int) -> None:
    config = a_configuration(reference_world_size=reference)
    assert scaled(config, 3) == (config, [])


@pytest.mark.parametrize("reference", [-1, 5])
def test_a_reference_that_does_not_divide_the_batch(reference: int) -> None:
    with pytest.raises(ConfigError, match=rf"REFERENCE_WORLD_SIZE: is {reference}, and SOLVER.IMS_PER_BATCH is 16"):
        scaled(a_configuration(reference_world_size=reference), 2)


@given(reference=st.sampled_from([1, 2, 4, 8, 16]), processes=st.integers(1, 64))
def test_a_scaled_run_sees_as_many_pictures(reference: int, processes: int) -> None:
    solver = scaled(a_configuration(reference_world_size=reference), processes)[0].solver
    assert solver.max_iter * solver.ims_per_batch == pytest.approx(90000 * 16, rel=0.01)
    assert list(solver.steps) == sorted(solver.steps)
    assert solver.base_lr / solver.ims_per_batch == pytest.approx(0.02 / 16)


def test_a_rate_that_does_not_fit_the_batch_is_doubted() -> None:
    zoo = load("COCO-Detection/faster_rcnn_R_50_FPN_3x", [])
    assert list(doubts(zoo)) == []
    (line,) = doubts(load("COCO-Detection/faster_rcnn_R_50_FPN_3x", ["SOLVER.IMS_PER_BATCH", "2"]))
    assert "SOLVER.BASE_LR is 0.02 for batches of 2; Detectron2's recipes would take 0.0025" in line
    assert "--learning-rate 0.0025" in line
    (line,) = doubts(load("COCO-Detection/retinanet_R_50_FPN_1x", ["SOLVER.IMS_PER_BATCH", "4"]))
    assert "0.0025 (0.01 for 16)" in line


def test_no_doubts_about_training_from_scratch() -> None:
    assert list(doubts(a_config("MODEL.RESNETS.NORM", "BN", "SOLVER.BASE_LR", "1"))) == []
