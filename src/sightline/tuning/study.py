"""Optuna's part of a search: what is tried next, which trial is hopeless, and a record that outlives the process.

The record is Optuna's own SQLite file, which its dashboard opens, too. Every trial's values depend on the seed, its number and
the outcomes before it alone, so a study that was stopped and continued tries the same as one that never was.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import SightlineError
from sightline.optional import require
from sightline.tuning.outcome import Trial, lower_is_better
from sightline.tuning.space import Choices, Parameter, Range, Space

RECORD, TRIALS = "study.db", "trials"
LOCK = ".lock"
PURPOSE = "sightline tune"

FIRST_TRIALS = 5
"""Finished trials before any is pruned: the median of fewer says little. Optuna's own number."""

STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
"""Optuna's names and ours."""


def require_addressable(folder: Path) -> None:
    """Nothing, if Optuna can find a record in `folder`: it takes an address, in which a question mark ends the path.

    Raises:
        SightlineError: it cannot.
    """
    if "?" in str(folder.resolve()):
        raise SightlineError(folder, "has a question mark in its path", "Choose another folder with -o.")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else searches in `folder` during the block. A killed process lets go of it.

    Raises:
        SightlineError: somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SightlineError(folder, "another search works in it", "Wait for it, or choose another folder.") from error
        yield


def distribution(parameter: Parameter, optuna: Any) -> Any:
    """A parameter as Optuna draws it. Choices are drawn as JSON: it keeps texts and numbers only, and takes True for 1."""
    kinds = optuna.distributions
    if isinstance(parameter, Choices):
        return kinds.CategoricalDistribution([json.dumps(value) for value in parameter.values])
    if parameter.whole:
        low, high = int(parameter.low), int(parameter.high)
        return kinds.IntDistribution(low, high, log=parameter.log, step=int(parameter.step or 1))
    return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def drawn(space: Space, params: Mapping[str, Any]) -> dict[str, object]:
    """Optuna's `params` as values, in the order of the space."""
    return {
        name: json.loads(params[name]) if isinstance(space[name], Choices) else params[name] for name in space if name in params
    }


@dataclass(slots=True)
class Draw:
    """A trial that runs: its values, and what is told about it on its way. reported: evaluations told before a resume."""

    number: int
    values: dict[str, object]
    trial: Any
    reported: set[int] = field(default_factory=set)

    def report(self, value: float, evaluation: int) -> None:
        """The metric at the run's first, second, ... evaluation. A resumed run repeats some."""
        if evaluation not in self.reported:
            self.trial.report(value, evaluation)
            self.reported.add(evaluation)

    def hopeless(self) -> bool:
        """Whether its best so far is worse than the median of the others at the same evaluation."""
        return bool(self.trial.should_prune())

    def remember(self, name: str, value: object) -> None:
        self.trial.set_user_attr(name, value)

    def recall(self, name: str) -> object:
        return self.trial.user_attrs.get(name)


class Study:
    """A study's record in `folder`, made when missing.

    metric: what is searched for; its name says whether high or low values are good
    seed:   of everything that is drawn

    Raises:
        MissingDependencyError: Optuna is not installed.
        SightlineError: the record is damaged.
    """

    def __init__(self, folder: Path, space: Space, *, metric: str, seed: int) -> None:
        self.folder, self.space, self.seed = folder, space, seed
        self.optuna: Any = require("optuna", "tune", PURPOSE)
        self.distributions = {name: distribution(parameter, self.optuna) for name, parameter in space.items()}
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)  # its lines would repeat ours
        record = (folder / RECORD).resolve()
        try:
            self.study = self.optuna.create_study(
                storage=f"sqlite:///{record}",
                study_name="sightline",
                direction="minimize" if lower_is_better(metric) else "maximize",
                pruner=self.optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=1),
                sampler=self.sampler(0),
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's many, and Optuna's own
            raise SightlineError(
                record, f"is no record of a study ({str(error).splitlines()[0]})", "Begin another study with -o."
            ) from error

    def sampler(self, number: int) -> Any:
        """Optuna's TPE with a generator of its own for each trial."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return self.optuna.samplers.TPESampler(seed=seed)

    def ended(self) -> int:
        """Trials that need no more work."""
        return sum(trial.state != "running" for trial in self.trials())

    def next(self) -> Draw:
        """The trial that was cut short, if there is one, else a new one."""
        frozen = self.study.get_trials(deepcopy=False)
        stopped = [trial for trial in frozen if trial.state.name == "RUNNING"]
        number = stopped[0].number if stopped else len(frozen)
        self.study.sampler = self.sampler(number)
        if not stopped:
            trial = self.study.ask(self.distributions)
            return Draw(number, drawn(self.space, trial.params), trial)
        trial = self.optuna.trial.Trial(self.study, stopped[0]._trial_id)
        for name, kind in self.distributions.items():  # killed while it was being drawn: the rest of its values
            suggest(trial, name, kind, self.space[name])
        return Draw(number, drawn(self.space, trial.params), trial, set(stopped[0].intermediate_values))

    def finish(self, draw: Draw, value: float) -> None:
        self.study.tell(draw.trial, value)

    def prune(self, draw: Draw) -> None:
        self.study.tell(draw.trial, state=self.optuna.trial.TrialState.PRUNED)

    def fail(self, draw: Draw) -> None:
        self.study.tell(draw.trial, state=self.optuna.trial.TrialState.FAIL)

    def trials(self) -> tuple[Trial, ...]:
        """All of them, in the order of their numbers."""
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            facts = trial.user_attrs
            found.append(
                Trial(
                    number=trial.number,
                    state=STATES[trial.state.name],
                    value=trial.value if trial.state.name == "COMPLETE" else facts.get("value"),
                    values=drawn(self.space, trial.params),
                    folder=self.place(trial.number),
                    seconds=facts.get("seconds", 0.0),
                    reason=facts.get("reason", ""),
                )
            )
        return tuple(found)

    def place(self, number: int) -> Path:
        """A trial's run folder."""
        return self.folder / TRIALS / f"{number:04d}"


def suggest(trial: Any, name: str, kind: Any, parameter: Parameter) -> None:
    """Draw one value, or keep the one that was drawn."""
    if isinstance(parameter, Range):
        method = trial.suggest_int if parameter.whole else trial.suggest_float
        step = {} if kind.step is None else {"step": kind.step}
        method(name, kind.low, kind.high, log=kind.log, **step)
    else:
        trial.suggest_categorical(name, kind.choices)
