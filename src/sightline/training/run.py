"""One training from labels to `model_final.pth`, in a run folder that describes itself.

Run folder: config.yaml (Detectron2 loads it), run.json (class names and what it was trained on), metrics.json,
model_*.pth, last_checkpoint, model_final.pth.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import sightline
from sightline.config.architecture import class_count, class_count_key, proposes_only, with_class_count
from sightline.config.schema import Config
from sightline.config.support import is_ignored
from sightline.config.yaml_dialect import dump, flat, load_file
from sightline.dataset.loader import default_workers, load_batches, require_shares
from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import CheckpointError, ConfigError, DatasetError, Interrupted, Problem, SightlineError
from sightline.model.build import build_detector
from sightline.model.checkpoint import load_weights, read_weights
from sightline.model.detector import Detector
from sightline.model.families import family_of
from sightline.processors import cores
from sightline.records import Dataset
from sightline.storage import write_json, write_text
from sightline.training.arithmetic import prepare
from sightline.training.asked import NOTHING, Asked, decided, doubts, scaled
from sightline.training.ema import Ema
from sightline.training.examples import examples
from sightline.training.hooks import (
    METRICS,
    Guard,
    Judge,
    Progress,
    Report,
    SaveCheckpoints,
    Signal,
    Tracker,
    Validate,
    go_on,
    log_line,
)
from sightline.training.learner import Learner
from sightline.training.loop import Hook, train
from sightline.training.optimizer import build_clip, build_optimizer
from sightline.training.precision import Precision
from sightline.training.processes import Processes, joined
from sightline.training.schedule import lr_factor
from sightline.training.settings import PLAIN, Settings
from sightline.training.state import FINAL, INTERRUPTED, LAST, TrainingState, last_checkpoint, resume, save_checkpoint
from sightline.training.trackers import CsvTracker, MlflowTracker, TensorBoardTracker
from sightline.training.validation import Validation, fitting_metric, fixed_examples, require_metric
from sightline.training.watching import AdviseOnWaiting, DrawFirstBatches, write_curves

LOG = logging.getLogger(__name__)

RUN = "run.json"

DEFAULT_CLASSES = class_count(Config())


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training. seconds: of this call, without what was done before a resume."""

    folder: Path
    checkpoint: Path
    class_names: tuple[str, ...]
    steps: int
    seconds: float


def with_classes(config: Config, class_names: Sequence[str], where: str) -> Config:
    """`config` for these classes: NUM_CLASSES is what the data set has, not what somebody counted.

    Raises:
        ConfigError: the configuration says another number (other than Detectron2's default, which says nothing).
    """
    asked, found = class_count(config), len(class_names)
    if not proposes_only(config) and asked not in (DEFAULT_CLASSES, found):
        raise ConfigError(
            where,
            f"{class_count_key(config)} is {asked}, the data set has {found} classes ({', '.join(class_names)})",
            "Leave the key out; it is set from the data set.",
        )
    return with_class_count(config, found)


def with_seed(config: Config, begun: Mapping[str, object]) -> Config:
    """`config` with a definite seed: that of the run that goes on (begun: its run.json), else the configuration's own.

    Detectron2's -1 draws one, which run.json then tells.
    """
    recorded = begun.get("seed")
    if isinstance(recorded, int):
        return replace(config, seed=recorded)
    return config if config.seed >= 0 else replace(config, seed=int.from_bytes(os.urandom(3), "little"))


def run_training(
    config: Config,
    *,
    dataset: Dataset,
    images: Path,
    output: Path,
    validation: tuple[Dataset, Path] | None = None,
    settings: Settings = PLAIN,
    asked: Asked = NOTHING,
    resuming: bool = False,
    device: str = "auto",
    workers: int | None = None,
    cache: Path | None = None,
    show: Callable[[Progress], None] = log_line,
    judge: Judge = go_on,
    where: str = "config",
) -> Run:
    """Train on `dataset`, whose pictures lie in `images`, until SOLVER.MAX_ITER or an earlier ending.

    Under `torchrun` every process calls it and takes its share of each batch.

    validation: the data set that TEST.EVAL_PERIOD measures on, and where its pictures lie
    settings, asked: what the configuration has no keys for, and what people ask for in other words
    resuming: go on from `output`'s last checkpoint; a run that was killed before its first begins again
    device:   "auto" follows MODEL.DEVICE: the GPU if there is one
    workers:  processes that read pictures; None chooses for this machine
    judge:    asked after each evaluation whether the run is to end there
    cache:    where downloaded weights are kept; None: SIGHTLINE_CACHE, else the user's cache folder

    Raises:
        ConfigError: what is asked is not supported or contradicts the data set.
        CheckpointError: weights that cannot be read or fit nowhere.
        SightlineError: `output` holds a run already, or one of other classes.
        RunError: the losses are no numbers any more, or a checkpoint cannot be saved.
        Interrupted: SIGTERM came; the run is saved and can go on.
    """
    signal = Signal()
    with signal.heard(), joined() as processes:
        job = Job(
            config, dataset, images, output, validation, settings, asked, resuming, device, workers,
            cache or cache_folder(os.environ), show if processes.first else no_show, judge, where, processes, signal,
        )  # fmt: skip
        return job.run()


def no_show(progress: Progress) -> None:
    """Only the first process speaks."""


@dataclass(frozen=True, slots=True)
class Job:
    """One process's part in a training: `run_training`'s arguments, and its peers."""

    config: Config
    dataset: Dataset
    images: Path
    output: Path
    validation: tuple[Dataset, Path] | None
    settings: Settings
    asked: Asked
    resuming: bool
    device: str
    workers: int | None
    cache: Path
    show: Callable[[Progress], None]
    judge: Judge
    where: str
    processes: Processes
    signal: Signal

    def run(self) -> Run:
        began = time.perf_counter()
        last = last_checkpoint(self.output) if self.resuming else None
        begun = read_run(self.output) if last is not None else {}
        require_fresh(self.output, self.resuming)
        require_same_classes(self.output, begun, self.dataset.class_names)
        require_same_folder(self.output, self.processes.gather(None if last is None else last.name))
        config = self.decide(begun)
        if last is not None:
            require_same_run(self.output, config, begun, self.settings)
        training_set = examples(config, self.dataset, self.images, self.where, self.settings)
        learner = self.learner(config, fresh=last is None)
        measure = self.measure(config, learner)
        state = TrainingState() if last is None else self.resumed(last, learner, begun)
        if self.processes.first:
            self.open_folder(config, state, fresh=last is None)
        trackers = self.trackers(config, state) if self.processes.first else ()
        hooks = self.hooks(config, learner, measure, trackers, fresh=last is None)
        batches = load_batches(
            training_set,
            batch_size=config.solver.ims_per_batch,
            by_shape=config.dataloader.aspect_ratio_grouping,
            start=state.step,
            workers=self.worker_count,
            rank=self.processes.rank,
            ranks=self.processes.count,
            on_bad=self.settings.on_bad_picture,
        )
        try:
            catch_up(state, hooks)
            train(learner, batches, state=state, hooks=hooks, steps=config.solver.max_iter)
        except BaseException:
            close(trackers, finished=False)
            raise
        return self.finish(learner, state, trackers, began)

    def resumed(self, last: Path, learner: Learner, begun: Mapping[str, object]) -> TrainingState:
        """Where the run stands that goes on from `last`. begun: its run.json."""
        state = resume(last, learner)
        self.say(f"resumed from {last} at step {state.step}")
        count, before = self.processes.count, begun.get("processes", self.processes.count)
        if before != count:
            self.say(f"begun by {before} processes, going on with {count}: the same pictures, other random draws")
        metric = settings_of(begun).get("metric", self.settings.metric)
        if metric != self.settings.metric and state.best is not None:
            self.say(f"what is best is chosen by {self.settings.metric} from here on, and was by {metric}")
            state.best, state.best_step, state.stale = None, 0, 0
        return state

    @property
    def worker_count(self) -> int:
        return default_workers(cores() // self.processes.here) if self.workers is None else self.workers

    def asked_to_end(self) -> bool:
        return self.signal.came

    def say(self, line: str) -> None:
        if self.processes.first:
            LOG.info("%s", line)

    def decide(self, begun: Mapping[str, object]) -> Config:
        """The configuration of this run: its classes, its seed, and what was asked for.

        Raises:
            ConfigError: it contradicts the data set or the number of processes.
        """
        config = with_classes(self.config, self.dataset.class_names, self.where)
        config, said = decided(config, self.asked, count_pictures(config, self.dataset))
        config, more = scaled(config, self.processes.count)
        config = with_seed(config, begun)
        config = replace(config, seed=self.processes.from_first(config.seed))
        require_shares(config.solver.ims_per_batch, self.processes.count)
        for line in (*said, *more):
            self.say(line)
        for line in doubts(config):
            self.say(f"warning: {line}")
        return config

    def learner(self, config: Config, *, fresh: bool) -> Learner:
        """The detector with its weights, ready for its first step."""
        settings = self.settings
        # The run owns its process: initial weights and the sampling of anchors draw from torch's global generator.
        torch.manual_seed(config.seed)
        detector = build_detector(config, self.where)
        if fresh:
            start_from(detector, config.model.weights, self.cache)
        device = self.processes.device(self.device, config.model.device)
        detector.to(device)
        prepare(detector, settings)
        if self.processes.rank:  # each process samples differently; all began with the same weights
            torch.manual_seed(config.seed + self.processes.rank)
        return Learner(
            detector,
            build_optimizer(detector, config.solver),
            factor=lr_factor(config.solver),
            clip=build_clip(config.solver),
            precision=Precision(enabled=config.solver.amp.enabled, kind=settings.precision, device=device),
            processes=self.processes,
            accumulate=settings.accumulate,
            ema=Ema(detector, settings.ema) if settings.ema else None,
        )

    def open_folder(self, config: Config, state: TrainingState, *, fresh: bool) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        for path in self.output.glob(".model_*.partial"):  # of a run killed while it saved
            path.unlink()
        if fresh:
            (self.output / METRICS).unlink(missing_ok=True)  # of a run killed before its first checkpoint
        else:
            forget_later(self.output / METRICS, state.step)
        write_text(self.output / "config.yaml", dump(config))
        write_json(self.output / RUN, describe(self.dataset, config, self.settings, self.processes.count), indent=1)

    def trackers(self, config: Config, state: TrainingState) -> tuple[Tracker, ...]:
        """Where this run's figures go besides metrics.json and the log.

        Raises:
            MissingDependencyError: one was asked for whose library is not installed.
        """
        settings, begun = self.settings, state.step
        found: list[Tracker] = [
            CsvTracker(self.output / "metrics.csv", begun),
            AdviseOnWaiting(self.worker_count, cores() // self.processes.here, begun),
        ]
        if settings.tensorboard:
            found.append(TensorBoardTracker(self.output, begun))
        if settings.mlflow:
            params = {**flat(config), **settings.as_dict()}
            name = self.output.resolve().name
            found.append(MlflowTracker(settings.mlflow, name, params, folder=self.output, resuming=begun > 0))
        return tuple(found)

    def hooks(
        self, config: Config, learner: Learner, measure: Validation | None, trackers: Sequence[Tracker], *, fresh: bool
    ) -> list[Hook]:
        """What is done after every step, in this order: the guard decides first whether the run goes on."""
        settings, solver = self.settings, config.solver
        found: list[Hook] = [Guard(self.processes, self.signal, settings.time_limit_s)]
        if measure is not None:
            found.append(
                Validate(
                    learner,
                    measure,
                    config.test.eval_period,
                    solver.max_iter,
                    self.output,
                    metric=fitting_metric(config, settings.metric),
                    patience=settings.patience,
                    trackers=trackers,
                    judge=self.judge,
                )
            )
        device = learner.detector.device
        report = Report(solver.max_iter, learner.optimizer, self.output / METRICS, self.show, device, self.processes, trackers)
        if fresh and self.processes.first:
            found.append(DrawFirstBatches(self.output, self.dataset.class_names, config.input.format))
        return [*found, report, SaveCheckpoints(self.output, learner, solver.checkpoint_period, solver.max_iter, settings.keep)]

    def measure(self, config: Config, learner: Learner) -> Validation | None:
        """What TEST.EVAL_PERIOD measures with; None where there is nothing to measure on.

        Raises:
            ConfigError: measuring is asked for, and there are no pictures for it, or it does not give the metric.
        """
        if config.test.eval_period <= 0:
            if self.settings.patience:
                raise ConfigError("--patience", "needs evaluations", "Set TEST.EVAL_PERIOD.")
            return None
        if self.validation is None:
            raise ConfigError(
                f"{self.where}: TEST.EVAL_PERIOD",
                "asks for evaluations, and there is no validation part",
                "Split the data set (sightline dataset split), name a part with --validate-on, or set it to 0.",
            )
        dataset, images = self.validation
        if dataset.class_names != self.dataset.class_names:
            raise ConfigError(
                "validation part",
                f"has the classes {list(dataset.class_names)}, the training part {list(self.dataset.class_names)}",
                "Import the data set again.",
            )
        if not dataset.images:
            raise DatasetError("validation part", "holds no pictures", "Name another part with --validate-on.")
        require_metric(config, fitting_metric(config, self.settings.metric), dataset.class_names)
        return Validation(learner, config, dataset, images, fixed_examples(config, dataset, images), self.asked_to_end)

    def finish(self, learner: Learner, state: TrainingState, trackers: Sequence[Tracker], began: float) -> Run:
        """The run's last checkpoint, unless it is to go on.

        Raises:
            Interrupted: it is.
        """
        close(trackers, finished=state.ending != INTERRUPTED)
        if self.processes.first:
            write_curves(self.output / METRICS)
        if state.ending == INTERRUPTED:
            raise Interrupted(
                self.output,
                f"was asked to end, and is saved after {state.step:,} steps",
                "Go on with the same command and --resume.",
            )
        if state.ending:
            self.say(f"ended after {state.step:,} steps: {state.ending}")
        checkpoint = save_checkpoint(self.output, FINAL, learner, state)
        return Run(self.output, checkpoint, self.dataset.class_names, state.step, time.perf_counter() - began)


def close(trackers: Sequence[Tracker], *, finished: bool) -> None:
    for tracker in trackers:
        tracker.close(finished=finished)


def catch_up(state: TrainingState, hooks: Sequence[Hook]) -> None:
    """Before the first step of a resumed run: the evaluation that it owes, and its ending, if it had come to one."""
    for hook in hooks:
        if isinstance(hook, Guard):
            state.ending = hook.over(state.seconds)
        elif isinstance(hook, Validate):
            if state.owed:
                hook.evaluate(state)
            state.ending = state.ending or hook.exhausted(state)


def count_pictures(config: Config, dataset: Dataset) -> int:
    """Pictures that are learned from: an epoch."""
    everything = not config.dataloader.filter_empty_annotations
    return sum(everything or any(not instance.crowd for instance in image.instances) for image in dataset.images)


def require_fresh(output: Path, resuming: bool) -> None:
    """Nothing, if this run may write into `output`."""
    if not resuming and any((output / name).exists() for name in (METRICS, LAST, FINAL)):
        raise SightlineError(
            output, "already holds a run", "Choose another folder, remove this one, or go on with it: --resume."
        )
    if resuming and (output / FINAL).exists() and not (output / LAST).exists():
        raise SightlineError(output, f"holds a {FINAL}, but no {LAST} to go on from", "Start from it with --weights.")


def require_same_folder(output: Path, names: Sequence[str | None]) -> None:
    """Nothing, if all processes found the same last checkpoint, whose names these are.

    Raises:
        SightlineError: they did not: each host sees a folder of its own.
    """
    if len(set(names)) > 1:
        raise SightlineError(
            output,
            f"holds different checkpoints for different processes ({', '.join(name or 'none' for name in names)})",
            "To resume, put it where all hosts see it.",
        )


def forget_later(metrics: Path, step: int) -> None:
    """Leave out of metrics.json what a killed run wrote beyond the checkpoint that it goes on from, and a line broken off."""
    if not metrics.is_file():
        return
    text = metrics.read_text(encoding="utf-8", errors="replace")
    kept = "".join(line + "\n" for line in text.splitlines() if is_before(line, step))
    if kept != text:
        write_text(metrics, kept)


def is_before(line: str, step: int) -> bool:
    """Whether a line of metrics.json is of an iteration before `step`."""
    try:
        return int(json.loads(line)["iteration"]) < step
    except (ValueError, KeyError, TypeError):
        return False


def settings_of(begun: Mapping[str, object]) -> Mapping[str, object]:
    """The settings that run.json tells of; empty where it tells of none."""
    settings = begun.get("settings")
    return settings if isinstance(settings, dict) else {}


def read_run(output: Path) -> dict[str, object]:
    """run.json's content; empty where there is none (Detectron2's own folders) or where it is damaged."""
    try:
        content = json.loads((output / RUN).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def require_same_classes(output: Path, begun: Mapping[str, object], class_names: Sequence[str]) -> None:
    """Nothing, if a resumed run knew these classes in this order (or does not tell)."""
    before = begun.get("class_names", list(class_names))
    if before != list(class_names):
        raise SightlineError(
            output / RUN, f"says classes {before}, the data set has {list(class_names)}", "Train into another folder."
        )


def start_from(model: Detector, weights: str, cache: Path) -> None:
    """Load the weights that training begins from: a file, or an address that is fetched into `cache`; "" is random ones.

    Raises:
        CheckpointError: they are unreadable, or nothing in them fits.
        RunError: they cannot be downloaded.
    """
    if not weights:
        frozen = sum(not parameter.requires_grad for parameter in model.parameters())
        if frozen:
            LOG.warning(
                "warning: training starts from random weights, and %d tensors of the backbone are frozen and will stay random. "
                "Give --weights, or set MODEL.BACKBONE.FREEZE_AT 0 and MODEL.RESNETS.NORM BN.",
                frozen,
            )
        return
    path = fetch(weights, cache) if is_address(weights) else Path(weights)
    own = model.state_dict()
    tensors = read_weights(path, own)
    report = load_weights(model, tensors)
    if not report.loaded:
        raise CheckpointError(
            weights,
            f"shares no tensor with the model (it looks like {family_of(tensors)}, the model is {family_of(own)})",
            "Give weights of this architecture.",
        )
    for line in report.lines():
        LOG.info("weights %s: %s", weights, line)


COMPARED = ("DATALOADER.", "INPUT.", "MODEL.", "SOLVER.IMS_PER_BATCH")
FREE = ("MODEL.WEIGHTS", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST")
"""Keys (by their beginning) that must stay as they were when a run goes on; those among them that need not, because they change
neither the weights' shapes nor the pictures."""


PICTURES = ("colour", "rotate", "scale_jitter", "mosaic", "class_weights")
"""Settings that must stay as they were, too."""


def require_same_run(output: Path, config: Config, begun: Mapping[str, object], settings: Settings) -> None:
    """Nothing, if a resumed run goes on with the detector and the pictures that it began with.

    begun: its run.json

    Raises:
        ConfigError: every key and every setting that differs.
    """
    path = output / "config.yaml"
    now = flat(config)
    before = flat(load_file(path)) if path.is_file() else now
    changed = [
        (key, now[key], before[key])
        for key in now
        if key.startswith(COMPARED) and key not in FREE and is_ignored(key) is None and now[key] != before[key]
    ]
    earlier = settings_of(begun)
    chosen = json.loads(json.dumps(settings.as_dict()))  # as run.json has them: lists for tuples
    changed += [
        (f"--{name.replace('_', '-')}", chosen[name], earlier[name])
        for name in PICTURES
        if name in earlier and chosen[name] != earlier[name]
    ]
    problems = [
        Problem(key, f"is {value!r}, and was {old!r} when the run in {output} began", "Set it back, or train anew.")
        for key, value, old in changed
    ]
    if problems:
        raise ConfigError.collected(problems)


def describe(dataset: Dataset, config: Config, settings: Settings, processes: int) -> dict[str, object]:
    """run.json: what Detectron2's config cannot hold."""
    return {
        "format": 1,
        "class_names": list(dataset.class_names),
        "images": len(dataset.images),
        "boxes": dataset.instance_count,
        "steps": config.solver.max_iter,
        "batch_size": config.solver.ims_per_batch,
        "seed": config.seed,
        "processes": processes,
        "settings": settings.as_dict(),
        "versions": {"sightline": sightline.__version__, "torch": torch.__version__},
    }
