"""Measuring while training: mean losses and COCO's numbers, and no trace of it."""

import json
from pathlib import Path

import pytest
import torch
from builders import (
    MASKS,
    PROPOSALS_ONLY,
    RETINANET,
    a_config,
    a_data_folder,
    a_detector,
    a_learner,
    overrides,
)
from torch.testing import assert_close

from sightline.dataset.sampling import Draw
from sightline.errors import ConfigError, DatasetError, SightlineError
from sightline.model.instances import Targets
from sightline.records import Dataset
from sightline.training.optimizer import build_optimizer
from sightline.training.run import Run, run_training
from sightline.training.settings import PLAIN, Settings
from sightline.training.validation import Validation, fixed_examples, require_metric

EVERY_STEP = overrides("TEST.EVAL_PERIOD 1  SOLVER.MAX_ITER 3  SOLVER.CHECKPOINT_PERIOD 2")


def measured_run(folder: Path, *keys: str, masks: bool = False, settings: Settings = PLAIN) -> Run:
    images = folder.parent / f"{folder.name}-images"
    dataset = a_data_folder(images, 8, masks=masks)
    train, val = (Dataset(dataset.categories, part) for part in (dataset.images[:6], dataset.images[6:]))
    return run_training(
        a_config(*keys), dataset=train, images=images, output=folder, validation=(val, images), workers=0, settings=settings
    )


def evaluations(run: Run) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.folder / "metrics.json").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "val_loss" in line]


@pytest.mark.parametrize(
    ("keys", "settings"),
    [
        pytest.param((), Settings(ema=0.9), id="batch norms and a running mean"),
        pytest.param(RETINANET, PLAIN, id="retinanet's normaliser"),
    ],
)
def test_measuring_leaves_no_trace(keys: tuple[str, ...], settings: Settings, tmp_path: Path) -> None:
    measured = measured_run(tmp_path / "measured", *keys, *EVERY_STEP, settings=settings)
    alone = measured_run(tmp_path / "alone", *keys, *EVERY_STEP, "TEST.EVAL_PERIOD", "0", settings=settings)
    assert [line["iteration"] for line in evaluations(measured)] == [0, 1, 2]
    one, other = (torch.load(run.checkpoint, weights_only=True) for run in (measured, alone))
    assert_close(dict(one["model"]), dict(other["model"]), rtol=0, atol=0)
    assert_close(one["optimizer"]["state"], other["optimizer"]["state"], rtol=0, atol=0)
    assert_close(one["sightline"]["ranks"], other["sightline"]["ranks"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (
            MASKS,
            {
                "bbox/AP",
                "bbox/AP50",
                "bbox/AP-cat",
                "bbox/AP-dog",
                "segm/AP",
                "segm/AP-cat",
                "val_loss_mask",
                "val_loss_rpn_cls",
            },
        ),
        (PROPOSALS_ONLY, {"box_proposals/AR100", "box_proposals/AR1000", "val_loss_rpn_loc"}),
    ],
    ids=["masks", "proposals"],
)
def test_what_is_measured(keys: tuple[str, ...], names: set[str], tmp_path: Path) -> None:
    """A part with a cat and a dog: all classes have a number. The default metric fits every detector."""
    run = measured_run(tmp_path / "run", *keys, *EVERY_STEP, "TEST.EVAL_PERIOD", "3", masks=True)
    (found,) = evaluations(run)
    assert names <= found.keys()
    total = sum(value for name, value in found.items() if name.startswith("val_loss_"))
    assert found["val_loss"] == pytest.approx(total)
    assert (run.folder / "model_best.pth").is_file()


def test_the_loss_is_the_mean_over_pictures(tmp_path: Path) -> None:
    """The losses of every picture by itself, at the size of prediction."""
    keys = RETINANET + overrides('MODEL.RESNETS.NORM FrozenBN  MODEL.FPN.NORM ""')
    dataset = a_data_folder(tmp_path, 3, empty=1)
    config, detector = a_config(*keys), a_detector(*keys)
    examples = fixed_examples(config, dataset, tmp_path)
    learner = a_learner(detector, build_optimizer(detector, config.solver))
    found = Validation(learner, config, dataset, tmp_path, examples)()
    by_hand = []
    for index in range(3):
        example = examples.example(Draw(index, index))
        assert min(example.image.shape[1:]) == 64
        with torch.no_grad():
            losses = detector.train()([example.image], [Targets(example.boxes, example.labels)])
        by_hand.append(sum(value.item() for value in losses.values()))
    assert found["val_loss"] == pytest.approx(sum(by_hand) / 3, rel=1e-4)


def test_measuring_twice_gives_the_same(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path, 2)
    config, detector = a_config(), a_detector()
    learner = a_learner(detector, build_optimizer(detector, config.solver))
    validation = Validation(learner, config, dataset, tmp_path, fixed_examples(config, dataset, tmp_path))
    first = validation()
    torch.manual_seed(5)
    assert detector.training
    assert validation() == pytest.approx(first, nan_ok=True)


@pytest.mark.parametrize("metric", ["bbox/AP", "bbox/AP-dog", "segm/APs", "val_loss", "val_loss_mask"])
def test_metrics_that_there_are(metric: str) -> None:
    require_metric(a_config(*MASKS), metric, ("cat", "dog"))


@pytest.mark.parametrize(
    ("keys", "metric", "fix"),
    [
        ((), "bbox/AP5", r"Did you mean 'bbox/AP.*'"),
        ((), "segm/AP", r"(Did you mean 'bbox/AP'|Known: val_loss, bbox/AP)"),
        ((), "bbox/AP-bird", r"Did you mean '.*'"),
        ((), "accuracy", r"Known: val_loss, bbox/AP, bbox/AP50, .*bbox/AP-cat, bbox/AP-dog\."),
        (PROPOSALS_ONLY, "bbox/AP50", r"Known: val_loss, box_proposals/AR100"),
    ],
)
def test_metrics_that_there_are_not(keys: tuple[str, ...], metric: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=rf"--metric: is '{metric}', which evaluations do not give\. {fix}"):
        require_metric(a_config(*keys), metric, ("cat", "dog"))


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        pytest.param(None, ConfigError, r"TEST\.EVAL_PERIOD: asks for evaluations, and there is no validation part", id="none"),
        pytest.param(Dataset((), ()), ConfigError, r"validation part: has the classes \[\]", id="other classes"),
    ],
)
def test_a_part_that_cannot_be_measured_on(
    part: Dataset | None, error: type[SightlineError], message: str, tmp_path: Path
) -> None:
    dataset = a_data_folder(tmp_path / "images", 2)
    validation = None if part is None else (part, tmp_path / "images")
    with pytest.raises(error, match=message):
        run_training(
            a_config(*EVERY_STEP), dataset=dataset, images=tmp_path / "images", output=tmp_path / "run", validation=validation
        )
    assert not (tmp_path / "run").exists()


def test_an_empty_part(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path / "images", 2)
    empty = (Dataset(dataset.categories, ()), tmp_path / "images")
    with pytest.raises(DatasetError, match=r"validation part: holds no pictures\. Name another part with --validate-on"):
        run_training(
            a_config(*EVERY_STEP), dataset=dataset, images=tmp_path / "images", output=tmp_path / "run", validation=empty
        )
    assert not (tmp_path / "run").exists()


def test_an_evaluation_stops_where_the_run_is_asked_to_end(tmp_path: Path) -> None:
    """After the first picture; nothing is measured, and the detector is as it was."""
    dataset = a_data_folder(tmp_path, 4)
    config = a_config()
    detector = a_detector()
    learner = a_learner(detector, build_optimizer(detector, config.solver))
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    looks: list[int] = []

    def asked_to_end() -> bool:
        looks.append(1)
        return len(looks) > 1

    examples = fixed_examples(config, dataset, tmp_path)
    assert Validation(learner, config, dataset, tmp_path, examples, asked_to_end)() is None
    assert len(looks) <= 4
    assert_close(dict(detector.state_dict()), before, rtol=0, atol=0)
