"""A search for good settings: trials that are normal runs, the hopeless ended early, the best as a configuration.

STUDY/study.json   what the study was begun with       STUDY/study.db     Optuna's record
STUDY/trials/0007/ the run folder of a trial           STUDY/trials.csv   all trials and what they reached
STUDY/best.yaml    the full configuration of the best
"""

import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

import torch

from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import dump
from sightline.dataset.folder import DatasetPart
from sightline.errors import ConfigError, Interrupted, Problem, RunError
from sightline.storage import write_text
from sightline.training.asked import NOTHING, Asked, decided
from sightline.training.hooks import METRICS, Judge, Progress, log_line
from sightline.training.run import count_pictures, run_training, with_classes
from sightline.training.settings import PLAIN, Settings
from sightline.training.state import FINAL
from sightline.training.validation import fitting_metric, require_metric
from sightline.tuning.identity import claim, facts_of
from sightline.tuning.options import Recipe, given, text_of, varied
from sightline.tuning.outcome import BEST, Trial, Tuned, lower_is_better, write_trials
from sightline.tuning.space import Parameter, Space, load_space
from sightline.tuning.study import Draw, Study, alone, require_addressable

LOG = logging.getLogger(__name__)

DEFAULT_TRIALS = 20

DEFAULT_EVALUATIONS = 4
"""Of a trial's run, evenly spaced, where TEST.EVAL_PERIOD says nothing: three chances to give it up, and its end."""


class Train(Protocol):
    """What trains a trial: `run_training` with the data set given. It leaves evaluations in metrics.json."""

    def __call__(self, config: Config, *, output: Path, settings: Settings, resuming: bool, judge: Judge) -> object: ...


def tune(
    config: Config,
    part: DatasetPart,
    space: Path | Mapping[str, object],
    output: Path,
    *,
    validation: DatasetPart | None,
    trials: int = DEFAULT_TRIALS,
    time_limit_s: float | None = None,
    evaluations: int = DEFAULT_EVALUATIONS,
    prune: bool = True,
    seed: int = 0,
    settings: Settings = PLAIN,
    asked: Asked = NOTHING,
    fixed: Collection[str] = (),
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = LOG.info,
    show: Callable[[Progress], None] = log_line,
    where: str = "config",
    train: Train | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """Search `space` in the study folder `output`, or go on with the search there: finished trials stay, one cut short goes on.

    space:       a YAML file of keys and options to ranges or choices (see space.py), or a mapping of that form
    validation:  the part that trials are compared on, by `settings.metric`
    trials:      of the whole study, earlier calls included
    time_limit_s: no trial begins after so many seconds of this call
    evaluations: of each trial, where TEST.EVAL_PERIOD says nothing
    prune:       end trials whose best is below the median of the others at the same evaluation
    seed:        of the search, and of the trainings where SEED is -1
    fixed:       keys that `config` was given a value for, so that they are not searched, too
    train:       what trains; None: `run_training`

    Raises:
        ConfigError: everything wrong with the space, the metric or the configuration; or the study was begun with other ones.
        SightlineError: somebody else works in `output`; what a training refuses.
        RunError: no trial was finished, or a checkpoint cannot be saved.
        Interrupted: SIGTERM came; the same call goes on.
    """
    require_one_process(os.environ)
    require_addressable(output)
    if validation is None:
        raise ConfigError("validation part", "is missing, and trials are compared on it", "Name one with --validate-on.")
    metric = fitting_metric(config, settings.metric)
    basis = Basis(Recipe(config, settings, asked), part, metric, evaluations, seed, where)
    read = basis.read_space(space, fixed)
    data = {"train": part, "validation": validation}
    claim(output, facts_of(read, basis.recipe, data, {"seed": seed, "evaluations": evaluations, "prune": prune}))
    default = partial(
        run_training,
        dataset=part.dataset,
        images=part.pictures,
        validation=(validation.dataset, validation.pictures),
        device=device,
        workers=workers,
        show=show,
        where=where,
    )
    deadline = math.inf if time_limit_s is None else clock() + time_limit_s
    with alone(output):
        study = Study(output, read, metric=metric, seed=seed)
        search = Search(study, metric, prune, train or default, say, clock)
        while study.ended() < trials and clock() < deadline:
            draw = study.next()
            values = ", ".join(f"{name} {text_of(value)}" for name, value in draw.values.items())
            say(f"trial {draw.number:04d} of {trials}: {values}")
            search.run(draw, basis.decide(draw.values))
            write_outcome(study, basis)
        return write_outcome(study, basis) or nothing_found(output, study.trials())


def write_outcome(study: Study, basis: "Basis") -> Tuned | None:
    """trials.csv and best.yaml as the study stands; None while no trial is finished."""
    found = study.trials()
    write_trials(study.folder, found)
    best = best_of(found, basis.metric)
    if best is None:
        return None
    recipe = basis.decide(best.values)
    write_text(study.folder / BEST, dump(recipe.config))
    return Tuned(study.folder, basis.metric, best, found, recipe)


def nothing_found(output: Path, trials: Sequence[Trial]) -> NoReturn:
    """The end of a search without a result.

    Raises:
        RunError: always.
    """
    counts = Counter(trial.state for trial in trials)
    states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none begun"
    raise RunError(
        output, f"no trial was finished ({states})", "See its trials.csv for the reasons; give time or another space."
    )


def require_one_process(environ: Mapping[str, str]) -> None:
    if int(environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("sightline tune", "runs in one process", "Start it without torchrun; each trial takes one device.")


@dataclass(frozen=True, slots=True)
class Basis:
    """What all trials of a study have in common: `tune`'s arguments."""

    recipe: Recipe
    part: DatasetPart
    metric: str
    evaluations: int
    seed: int
    where: str

    def read_space(self, source: Path | Mapping[str, object], fixed: Collection[str]) -> dict[str, Parameter]:
        """The space, of which the configuration takes every end and every choice.

        Raises:
            ConfigError: all that is wrong.
        """
        self.attempt({})  # what is wrong without any space is told as such
        space = load_space(source, self.attempt)
        require_undecided(self.recipe, space, fixed)
        return space

    def attempt(self, values: Mapping[str, object]) -> Config:
        """The configuration of a trial with these values, if it can be trained."""
        tried = self.decide(values).config
        require_supported(tried, self.where)
        require_metric(tried, self.metric, self.part.dataset.class_names)
        return tried

    def decide(self, values: Mapping[str, object]) -> Recipe:
        """A trial's recipe, with all in its configuration: length, batch, seed, and when the detector is measured.

        Raises:
            ConfigError: it contradicts the data set, or numbers that cannot be.
        """
        recipe = varied(self.recipe, values, self.where)
        config = with_classes(recipe.config, self.part.dataset.class_names, self.where)
        config, _ = decided(config, recipe.asked, count_pictures(config, self.part.dataset))
        if config.seed < 0:
            config = replace(config, seed=self.seed)
        if config.test.eval_period <= 0:
            period = max(1, math.ceil(config.solver.max_iter / max(1, self.evaluations)))
            config = replace(config, test=replace(config.test, eval_period=period))
        return Recipe(config, recipe.settings)


def require_undecided(recipe: Recipe, space: Space, fixed: Collection[str]) -> None:
    """Nothing, if what is searched was not given a value, too. fixed: keys that were.

    Raises:
        ConfigError: all that were.
    """
    decided_twice = sorted((given(recipe) | set(fixed)) & space.keys())
    problems = [Problem(f"space: {name}", "is searched, and given a value, too", "Keep one.") for name in decided_twice]
    if problems:
        raise ConfigError.collected(problems)


@dataclass(frozen=True, slots=True)
class Search:
    """One trial after the other: trained, watched on its way, and its outcome recorded."""

    study: Study
    metric: str
    prune: bool
    train: Train
    say: Callable[[str], None]
    clock: Callable[[], float]

    def run(self, draw: Draw, recipe: Recipe) -> None:
        """Train `draw`, or go on with it, and record what it reached. A trial that diverges has failed, and nothing ends.

        Raises:
            SightlineError: what ends a search: wrong input, no space left, SIGTERM.
        """
        folder = self.study.place(draw.number)
        began = self.clock()
        failed = ""
        try:
            if not (folder / FINAL).exists():  # else it was killed between its end and our record
                self.train(
                    recipe.config,
                    output=folder,
                    settings=recipe.settings,
                    resuming=folder.exists(),
                    judge=self.judge(draw, recipe.config),
                )
        except Interrupted:
            raise
        except RunError as error:
            if isinstance(error.__cause__, OSError):  # the disk or the network, no fault of the trial: it can go on
                raise
            failed = str(error)
        except torch.OutOfMemoryError as error:
            failed = f"memory ran out: {str(error).splitlines()[0]}"
        except ConfigError as error:  # values that are refused together, each of them being right: not tried again
            draw.remember("reason", str(error))
            self.study.fail(draw)
            raise
        self.record(draw, read_values(folder / METRICS, self.metric), failed, self.clock() - began)

    def judge(self, draw: Draw, config: Config) -> Judge:
        """What ends a hopeless run. Evaluations are counted, not steps: trials may differ in the number of their steps."""
        period, last = config.test.eval_period, config.solver.max_iter

        def verdict(step: int, numbers: Mapping[str, float]) -> str:
            value = numbers.get(self.metric)
            if value is None:
                return ""
            evaluation = math.ceil(step / period)
            draw.report(value, evaluation)
            if not self.prune or step >= last or not draw.hopeless():
                return ""
            reason = f"hopeless: {self.metric} {value:.4f} after {step} of {last} steps"
            draw.remember("reason", reason)
            draw.remember("pruned", True)
            return reason

        return verdict

    def record(self, draw: Draw, reached: Sequence[float], failed: str, seconds: float) -> None:
        """Tell the study how the trial ended, and people, too."""
        value = None if not reached else min(reached) if lower_is_better(self.metric) else max(reached)
        draw.remember("seconds", seconds)
        if value is not None:
            draw.remember("value", value)
        if not failed and value is None:
            failed = f"{self.metric} is undefined: the validation part has nothing to measure it on"
        name = f"trial {draw.number:04d}"
        if failed:
            draw.remember("reason", failed)
            self.study.fail(draw)
            self.say(f"{name} failed: {failed}")
        elif draw.recall("pruned"):
            self.study.prune(draw)
            self.say(f"{name} pruned, {draw.recall('reason')}  ({seconds:.0f} s)")
        elif value is not None:
            self.study.finish(draw, value)
            best = best_of(self.study.trials(), self.metric)
            told = "" if best is None else f"  best: trial {best.name} with {best.value:.4f}"
            self.say(f"{name} finished: {self.metric} {value:.4f}{told}  ({seconds:.0f} s)")


def read_values(metrics: Path, metric: str) -> list[float]:
    """What `metric` was in each evaluation of a run, from its metrics.json; a last line that a kill has cut is passed over."""
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            value = json.loads(line).get(metric)
        except (ValueError, AttributeError):
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            found.append(float(value))
    return found


def best_of(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The finished trial with the best value, the earliest of equals; None while there is none."""
    sign = 1 if lower_is_better(metric) else -1
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)
