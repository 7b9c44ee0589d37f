"""A search on SageMaker: one tuning job that starts trainings, their scores read from our own metric lines, the best told.

The platform draws values from declared ranges; each training is an ordinary one of `sightline cloud train`.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from typing import Any

from sightline.cloud import jobs
from sightline.cloud.account import Account, Say
from sightline.cloud.costs import Cost
from sightline.cloud.failures import failure, send
from sightline.cloud.metrics import OBJECTIVES
from sightline.cloud.naming import MAX_TUNING_NAME
from sightline.cloud.requests import Range, tuning_request
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import Problem, RunError, SightlineError, nearest

STRATEGIES = ("Bayesian", "Random", "Grid")
"""What a search may go by."""

REFUSED = {"hyperband": "Sightline's trainings do not count by epochs; --strategy Bayesian ends hopeless ones early, too."}
"""Strategies of the platform that are not for our trainings: Hyperband stops and continues them by their epochs."""

DEFAULT_JOBS, DEFAULT_PARALLEL = 20, 2
"""A Bayesian search learns from what is over, so few at once find more; the platform's own advice."""

ENDED = {"Completed", "Failed", "Stopped"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants searched.

    training: what all trainings have in common
    searched: what differs
    metric:   our name of the score, as bbox/AP
    parents:  names of searches that this one learns from
    trainings: at most so many; None: 20, of a grid all
    """

    training: jobs.Asked
    searched: tuple[Range, ...]
    metric: str = "bbox/AP"
    trainings: int | None = None
    parallel: int = DEFAULT_PARALLEL
    strategy: str = "Bayesian"
    stop_early: bool = True
    seed: int | None = None
    parents: tuple[str, ...] = ()


def plan_search(account: Account, asked: Asked, environ: Mapping[str, str], moment: datetime, say: Say) -> jobs.Plan:
    """The search, checked in every way that costs nothing.

    Raises:
        SightlineError: as of `jobs.plan_training`; a score or a strategy that there is not; a grid with ranges; a parent that
            cannot be one.
    """
    trainings = count_of(asked)
    require_parents(account, asked)
    plan = jobs.plan_training(account, asked.training, environ, moment, say, longest=MAX_TUNING_NAME)
    request = tuning_request(
        plan.name,
        plan.calls[0].request,
        asked.searched,
        objective=OBJECTIVES[asked.metric],
        maximize=asked.metric != "val_loss",
        jobs=trainings,
        parallel=asked.parallel,
        strategy=asked.strategy,
        stop_early=asked.stop_early and asked.strategy != "Grid",
        seed=asked.seed,
        parents=asked.parents,
    )
    call = Call("sagemaker", "CreateHyperParameterTuningJob", request)
    warnings = [*plan.warnings, *require_valid([call])]
    if asked.training.machines.spot:
        warnings.append("trainings of a search that lose their spot capacity begin anew: they must not share checkpoints")
    return replace(plan, calls=(call,), warnings=tuple(dict.fromkeys(warnings)))


def require_parents(account: Account, asked: Asked) -> None:
    """Nothing, if this search can learn from those that it names.

    Raises:
        SightlineError: one is not there, under way, or looked for something else.
    """
    for name in asked.parents:
        parent, wanted = describe(account, name), OBJECTIVES[asked.metric]
        if not parent.over:
            raise SightlineError("--warm-start", f"{name} is {parent.status}", "Wait until it is over.")
        if parent.metric != wanted:
            what = f"{name} looked for {parent.metric}, and this search looks for {wanted}"
            raise SightlineError("--warm-start", what, "Give the same --metric.")


def count_of(asked: Asked) -> int:
    """How many trainings there will be at most.

    Raises:
        SightlineError: there is no such score or strategy; a grid with a range, or of another number of trainings.
    """
    problems = []
    if asked.metric not in OBJECTIVES:
        problems.append(Problem("--metric", f"is {asked.metric!r}", nearest(asked.metric, list(OBJECTIVES))))
    if asked.strategy not in STRATEGIES:
        fix = REFUSED.get(asked.strategy.lower()) or nearest(asked.strategy, STRATEGIES)
        problems.append(Problem("--strategy", f"is {asked.strategy!r}", fix))
    if asked.strategy != "Grid" or problems:
        if problems:
            raise SightlineError.collected(problems)
        return DEFAULT_JOBS if asked.trainings is None else asked.trainings
    for one in asked.searched:
        if not one.values:
            fix = "Give it choices, or take --strategy Bayesian or Random."
            problems.append(Problem(one.name, "is a range, and a grid tries choices", fix))
    combined = sum(1 for _ in product(*(one.values for one in asked.searched)))
    if asked.trainings not in (None, combined) and not problems:
        problems.append(Problem("--trials", f"is {asked.trainings}, and the grid has {combined}", "Leave it out."))
    if problems:
        raise SightlineError.collected(problems)
    return combined


@dataclass(frozen=True, slots=True)
class Best:
    """The best training: its name, its score and what was searched."""

    name: str
    value: float
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Search:
    """A tuning job as the platform tells it now. counts: state -> trainings; metric: the platform's name of the score."""

    name: str
    status: str
    reason: str
    metric: str
    trainings: int
    counts: Mapping[str, int] = field(default_factory=dict)
    best: Best | None = None

    @property
    def over(self) -> bool:
        return self.status in ENDED

    def progress(self) -> str:
        """One line: what is over, under way, failed, and the best so far."""
        done = sum(self.counts.values()) - self.counts.get("InProgress", 0)
        states = {
            "InProgress": "under way",
            "Stopped": "ended early",
            "NonRetryableError": "failed",
            "RetryableError": "failed",
        }
        more = [f"{count} {states[state]}" for state, count in self.counts.items() if count and state in states]
        best = f"; {self.metric} {self.best.value:.4g} of {self.best.name}" if self.best else ""
        return f"{done} of {self.trainings} trainings are over{''.join(f', {text}' for text in more)}{best}"

    def as_dict(self, cost: Cost | None = None) -> dict[str, Any]:
        best = self.best
        found = {"training": best.name, "value": best.value, "values": dict(best.values)} if best else None
        told = {"name": self.name, "status": self.status, "reason": self.reason, "metric": self.metric}
        return {
            **told,
            "trainings": self.trainings,
            "states": dict(self.counts),
            "best": found,
            **(cost.as_dict() if cost else {}),
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.status}, {self.progress()}", *([f"  {self.reason}"] if self.reason else [])]
        return "\n".join([*lines, *(f"  {name} {value}" for name, value in (self.best.values.items() if self.best else ()))])


def describe(account: Account, name: str) -> Search:
    """The search as it is now.

    Raises:
        SightlineError, RunError: there is none of this name here, or AWS cannot be asked.
    """
    method = account.client("sagemaker").describe_hyper_parameter_tuning_job
    asked = {"HyperParameterTuningJobName": name}
    return search_of(send(method, name, "sagemaker:DescribeHyperParameterTuningJob", **asked))


def search_of(answer: Mapping[str, Any]) -> Search:
    config, best = answer.get("HyperParameterTuningJobConfig", {}), answer.get("BestTrainingJob") or {}
    score = best.get("FinalHyperParameterTuningJobObjectiveMetric") or {}
    found = None
    if best.get("TrainingJobName") and "Value" in score:
        values = {key: plain(value) for key, value in sorted(best.get("TunedHyperParameters", {}).items())}
        found = Best(str(best["TrainingJobName"]), float(score["Value"]), values)
    return Search(
        name=answer["HyperParameterTuningJobName"],
        status=answer["HyperParameterTuningJobStatus"],
        reason=" ".join(str(answer.get("FailureReason") or "").split()),
        metric=str(config.get("HyperParameterTuningJobObjective", {}).get("MetricName", "")),
        trainings=int(config.get("ResourceLimits", {}).get("MaxNumberOfTrainingJobs", 0)),
        counts={str(state): int(count) for state, count in answer.get("TrainingJobStatusCounters", {}).items()},
        best=found,
    )


def plain(value: str) -> str:
    """A value without the quotes that the platform puts around text."""
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, str) else value


def follow(account: Account, name: str, say: Say, *, sleep: Callable[[float], None] = time.sleep) -> Search:
    """Say every change until the search is over.

    Raises:
        SightlineError, RunError: the connection stays lost, the credentials expire; the search goes on all the same.
    """
    client, told, lost_s = account.client("sagemaker"), "", 0.0
    found = describe(account, name)
    while True:
        if found.progress() != told:
            told = found.progress()
            say(told)
        if found.over:
            return found
        sleep(jobs.POLL_S)
        try:
            found = search_of(client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))
            lost_s = 0.0
        except Exception as error:
            lost_s = jobs.still_lost(error, name, lost_s, say, "sagemaker:DescribeHyperParameterTuningJob")


def trainings_of(account: Account, name: str) -> list[jobs.Job]:
    """All trainings that a search has started.

    Raises:
        SightlineError, RunError: they cannot be listed.
    """
    paginator = account.client("sagemaker").get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    try:
        pages = list(paginator.paginate(HyperParameterTuningJobName=name))
    except Exception as error:
        raise failure(error, name, "sagemaker:ListTrainingJobsForHyperParameterTuningJob") from error
    names = [str(one["TrainingJobName"]) for page in pages for one in page["TrainingJobSummaries"]]
    return [jobs.describe(account, one) for one in names]


def cost_of(trainings: list[jobs.Job], price_usd_hour: float | None, priced_as: str) -> Cost:
    """Of all trainings together; they run on machines of one kind."""
    of = trainings[0].machines
    billable_s, used_s = sum(job.billable_s for job in trainings), sum(job.used_s for job in trainings)
    return Cost(billable_s, used_s, of.count, of.instance_type, of.spot, price_usd_hour, priced_as)


def stop(account: Account, name: str) -> Search:
    """Ask a search to end its trainings; one that is over stays as it is.

    Raises:
        SightlineError, RunError: there is no such search, or it may not be stopped.
    """
    found = describe(account, name)
    if not found.over:
        method = account.client("sagemaker").stop_hyper_parameter_tuning_job
        send(method, name, "sagemaker:StopHyperParameterTuningJob", HyperParameterTuningJobName=name)
    return found


def require_best(search: Search) -> Best:
    """The best training of a search.

    Raises:
        RunError: there is none (yet).
    """
    if search.best is None:
        what = f"has no training with a score; {search.progress()}" + (f" ({search.reason})" if search.reason else "")
        raise RunError(search.name, what, "See the log of one of its trainings: sightline cloud logs NAME")
    return search.best
