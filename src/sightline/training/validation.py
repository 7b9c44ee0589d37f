"""How good a detector is while it trains: its losses and COCO scores on pictures that it does not learn from.

Measuring leaves no trace: random generators, norms' statistics and running values are afterwards what they were, so a run that
is measured gives the same weights as one that is not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import nn

from sightline.config.architecture import has_masks, proposes_only
from sightline.config.schema import Config
from sightline.dataset.loader import Example, TrainingSet
from sightline.dataset.sampling import Draw
from sightline.dataset.transforms import Augmentation
from sightline.errors import ConfigError, nearest
from sightline.evaluation.coco import DetectionScores, Scores, evaluate_detections
from sightline.evaluation.predicting import detect_all
from sightline.evaluation.proposals import ProposalScores, evaluate_proposals
from sightline.model.build import build_predictor
from sightline.model.detector import Detector
from sightline.model.instances import Targets
from sightline.records import Dataset, Detections, Model
from sightline.training.learner import Learner
from sightline.training.settings import PLAIN
from sightline.training.state import running_buffers

SEED = 0
"""Of the sampling of anchors and proposals in validation losses: the same for every evaluation, so that they compare."""

NORMS = (nn.modules.batchnorm._BatchNorm,)


class Validation:
    """Measures `learner`'s detector on `dataset`, whose pictures lie in `images`. Every process measures its share.

    examples: the same pictures as the network sees them, without variation, for the losses
    asked_to_end: whether the run is to end now, looked at before every picture
    """

    def __init__(
        self,
        learner: Learner,
        config: Config,
        dataset: Dataset,
        images: Path,
        examples: TrainingSet,
        asked_to_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self.learner, self.config, self.dataset, self.images, self.examples = learner, config, dataset, images, examples
        self.asked_to_end = asked_to_end

    def __call__(self) -> dict[str, float] | None:
        """{"val_loss": ..., "val_loss_cls": ..., "bbox/AP": ..., ...}, the same in every process.

        None in all of them, if one was asked to end on the way: a whole evaluation may take longer than a SIGTERM leaves.
        """
        processes = self.learner.processes
        with self.learner.evaluated() as detector, untouched(detector):
            processes.share_buffers(detector)
            totals, found = self.losses(detector), self.detections(detector)
        detector.train()
        if processes.most([self.asked_to_end()])[0]:
            return None
        means = self.mean_losses(totals)
        return processes.from_first(means | self.scores(found))

    def losses(self, detector: Detector) -> dict[str, float]:
        """Summed losses of this process's pictures, one at a time; those without objects count like the others."""
        processes = self.learner.processes
        totals: dict[str, float] = {}
        detector.train()
        for module in detector.modules():
            if isinstance(module, NORMS):
                module.eval()
        for index in range(processes.rank, len(self.examples), processes.count):
            if self.asked_to_end():
                break
            torch.manual_seed(SEED + index)
            for name, value in self.learner_losses(detector, self.examples.example(Draw(index, index))).items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def mean_losses(self, totals: Mapping[str, float]) -> dict[str, float]:
        """{"val_loss": their sum, "val_loss_cls": ...} a picture, from every process's sums."""
        parts = self.learner.processes.gather(totals)
        names = dict.fromkeys(name for part in parts for name in part)
        means = {f"val_{name}": sum(part.get(name, 0.0) for part in parts) / len(self.examples) for name in names}
        return {"val_loss": sum(means.values()), **means}

    def learner_losses(self, detector: Detector, example: Example) -> dict[str, float]:
        """Of one picture, without gradients. (The parallel model would wait for the other processes.)"""
        target = Targets(example.boxes, example.labels, example.masks)
        with torch.no_grad(), self.learner.precision.forward():
            losses: Mapping[str, torch.Tensor] = detector([example.image], [target])
        return {name: value.item() for name, value in losses.items()}

    def detections(self, detector: Detector) -> dict[int, Detections]:
        """{image id: what is found in it} of this process's pictures."""
        processes = self.learner.processes
        proposes = proposes_only(self.config)
        model = Model(build_predictor(detector, self.config), self.dataset.class_names, "training", proposes=proposes)
        found: dict[int, Detections] = {}
        with self.learner.precision.forward():
            for image in self.dataset.images[processes.rank :: processes.count]:
                if self.asked_to_end():
                    break
                found |= detect_all(model, replace(self.dataset, images=(image,)), self.images)
        return found

    def scores(self, mine: dict[int, Detections]) -> dict[str, float]:
        """COCO's numbers, {"bbox/AP": 0 to 1, ...}, of all processes' detections; the first one measures."""
        processes = self.learner.processes
        parts = processes.gather(mine)
        if not processes.first:
            return {}
        found = {key: value for part in parts for key, value in part.items()}
        proposes = proposes_only(self.config)
        return numbers_of(evaluate_proposals(self.dataset, found) if proposes else evaluate_detections(self.dataset, found))


def fixed_examples(config: Config, dataset: Dataset, images: Path) -> TrainingSet:
    """All pictures of `dataset` at the size of prediction, without variation.

    Raises:
        DatasetError: masks are learned, and boxes here have none.
    """
    options = config.input
    how = Augmentation(min_sizes=(options.min_size_test,), max_size=options.max_size_test, sampling="choice", flip="none")
    return TrainingSet(
        dataset.images,
        images,
        how,
        color_order=options.format,
        seed=SEED,
        with_masks=has_masks(config),
        mask_format=options.mask_format,
    )


def numbers_of(scores: Mapping[str, Scores]) -> dict[str, float]:
    """{"bbox/AP": ..., "bbox/AP-cat": ...}, Detectron2's names, values 0 to 1."""
    numbers = {f"{kind}/{name}": value for kind, found in scores.items() for name, value in found.numbers().items()}
    for kind, found in scores.items():
        if isinstance(found, DetectionScores):
            numbers |= {f"{kind}/AP-{name}": value for name, value in found.per_class.items()}
    return numbers


def fitting_metric(config: Config, metric: str) -> str:
    """`metric`; the default one of a detector that has no classes is its proposals' recall."""
    return "box_proposals/AR1000" if proposes_only(config) and metric == PLAIN.metric else metric


def require_metric(config: Config, metric: str, class_names: Sequence[str]) -> None:
    """Nothing, if evaluations of this detector give `metric`, as far as that is known before the first one.

    Raises:
        ConfigError: they do not.
    """
    if metric.startswith("val_loss"):  # the names of single losses are the detector's own
        return
    kinds: tuple[tuple[str, type[Scores]], ...] = (("box_proposals", ProposalScores),)
    if not proposes_only(config):
        kinds = (("bbox", DetectionScores), ("segm", DetectionScores))[: 1 + has_masks(config)]
    known = ["val_loss"]
    for kind, scores in kinds:
        known += [f"{kind}/{field.name}" for field in fields(scores) if "per_class" not in field.name]
        known += [f"{kind}/AP-{name}" for name in class_names] if scores is DetectionScores else []
    if metric not in known:
        raise ConfigError("--metric", f"is {metric!r}, which evaluations do not give", nearest(metric, known))


@contextmanager
def untouched(detector: Detector) -> Iterator[None]:
    """Whatever the block does, torch's generators and the detector's running values are afterwards as they were."""
    kept = {name: buffer.clone() for name, buffer in running_buffers(detector).items()}
    devices = [detector.device] if detector.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
    for name, buffer in running_buffers(detector).items():
        buffer.copy_(kept[name])
