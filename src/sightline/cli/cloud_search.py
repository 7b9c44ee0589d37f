"""`sightline cloud tune`: the space of `sightline tune` as a search of SageMaker's, its best training told and fetched."""

import math
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli import cloud
from sightline.cli.cloud import (
    AsJson,
    Bucket,
    DryRun,
    FastFile,
    Groups,
    Images,
    Kms,
    MaxWait,
    PriceOption,
    Role,
    Subnets,
    Tags,
    TrainImage,
    Volume,
    placed,
)
from sightline.cli.cloud_given import files_of, given_options, has_parts, pictures_here
from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.train import Config, Overrides, Weights

if TYPE_CHECKING:
    from sightline.cloud.account import Account
    from sightline.cloud.requests import Range
    from sightline.cloud.searches import Search
    from sightline.config.schema import Config as Configuration
    from sightline.errors import Problem
    from sightline.tuning.space import Parameter

EVALUATIONS = 4
"""Of every training, evenly spaced, where TEST.EVAL_PERIOD says nothing: what ends hopeless ones early."""


def tune(
    overrides: Overrides = None,
    *,
    data: Annotated[
        str, typer.Option("--data", metavar="DIR|FILE", help="A dataset folder or label files, sent where changed; or s3://.")
    ],
    images: Images = "",
    space: Annotated[
        list[str],
        typer.Option(
            "--space",
            metavar="SPACE.yaml|NAME=...",
            help="As for `sightline tune`; or NAME=LOW..HIGH, NAME=LOW..HIGH,log, NAME=A,B,C, repeatable.",
        ),
    ],
    config: Config = "small",
    weights: Weights = None,
    metric: Annotated[str, typer.Option(help="What is searched for: bbox/AP, bbox/AP50, segm/AP or val_loss.")] = "bbox/AP",
    trials: Annotated[int | None, typer.Option(min=1, help="Trainings at most. Default: 20; of a grid all.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Trainings at once.")] = 2,
    strategy: Annotated[str, typer.Option(help="Bayesian, Random or Grid.")] = "Bayesian",
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="End trainings that are worse than most.")] = True,
    warm_start: Annotated[
        list[str] | None, typer.Option("--warm-start", metavar="NAME", help="A search that is over, to learn from; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The search's name begins with it. Default: the data's.")] = "",
    instance_type: Annotated[str, typer.Option("--instance-type", help="Of the machines.")] = "ml.g5.xlarge",
    instance_count: Annotated[int, typer.Option("--instance-count", min=1, help="Machines of each training.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On spot capacity; interrupted trainings begin anew.")] = False,
    max_runtime: Annotated[int, typer.Option("--max-runtime", metavar="SECONDS", min=1, help="Of each training.")] = 86_400,
    max_wait: MaxWait = None,
    volume: Volume = 50,
    fast_file: FastFile = False,
    image: TrainImage = "",
    role: Role = "",
    bucket: Bucket = "",
    subnets: Subnets = "",
    security_groups: Groups = "",
    kms_key: Kms = "",
    tag: Tags = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="RUN", parser=here, help="Fetch the best run to here at the end.")
    ] = None,
    price_per_hour: PriceOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until the end.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Search for good settings on SageMaker. Takes the options and KEY VALUE pairs of `sightline train`, too."""
    from sightline.cloud import jobs, searches
    from sightline.cloud.requests import Machines

    log_to_stderr()
    words = ["--config", config, *([] if weights is None else ["--weights", weights]), *(overrides or [])]
    given = given_options(words)
    cloud.require_new(output)
    pictures = pictures_here(data, images, given)
    require_measured(data, given)
    found = read_space(space, given, pictures)
    account = cloud.open_account()
    with files_of({**given, **found.hyperparameters, "metric": metric}) as (hyperparameters, files):
        training = jobs.Asked(
            data=data,
            name=name or Path(data.rstrip("/")).name,
            hyperparameters=hyperparameters,
            machines=Machines(instance_type, instance_count, volume, spot, max_runtime, max_wait),
            files=files,
            **placed(image, role, bucket, subnets, security_groups, kms_key, tag),
            input_mode="FastFile" if fast_file else "File",
            pictures=images,
        )
        seed = int(str(given["seed"])) if "seed" in given else None
        asked = searches.Asked(training, found.ranges, metric, trials, parallel, strategy, prune, seed, tuple(warm_start or ()))
        plan = searches.plan_search(account, asked, os.environ, datetime.now(UTC), note)
        if cloud.announced(plan, dry_run):
            return
        jobs.submit(account, plan, note)
    if not wait:
        show(f"{plan.name}\n  follow it: sightline cloud logs {plan.name}", as_json, {"name": plan.name})
        return
    place = ["--data", data, *(["--images", images] if images else [])]
    told = [word for name, value in found.hyperparameters.items() for word in (name, str(value))]
    finish_search(account, plan.name, output, price_per_hour, as_json, [*place, "--metric", metric, *words, *told])


def finish_search(
    account: "Account", name: str, output: Path | None, price: float | None, as_json: bool, words: list[str]
) -> None:
    """Follow a search to its end, tell its cost and its best, fetch that. words: those of all its trainings, where known."""
    from sightline.cloud import fetching, jobs, searches

    try:
        search = searches.follow(account, name, note)
    except KeyboardInterrupt:
        note(f"\nThe search goes on. Follow it again: sightline cloud logs {name}\nEnd it: sightline cloud stop {name}")
        sys.exit(130)
    told, value = search_told(account, search, price)
    best = searches.require_best(search)
    if output is not None:
        fetching.fetch_run(jobs.describe(account, best.name), output)
    command = shlex.join(["sightline", "cloud", "train", *words, *best_words(best.values)])
    lines = [told, f"Train with the best settings:\n  {command}"] if words else [told]
    lines.append(f"{output}" if output else f"Fetch the best run: sightline cloud fetch {name} -o RUN")
    show("\n".join(lines), as_json, {**value, "command": command, **({"run": str(output)} if output else {})})


def search_told(account: "Account", search: "Search", price: float | None) -> tuple[str, dict[str, object]]:
    """A search with its cost, as text and for JSON."""
    from sightline.cloud import searches

    trainings = searches.trainings_of(account, search.name)
    if not trainings:
        return str(search), search.as_dict()
    cost = searches.cost_of(trainings, *cloud.price_of(trainings[0].machines.instance_type, account.region, price))
    return f"{search}\n  cost: {cost}", search.as_dict(cost)


def best_words(values: Mapping[str, str]) -> list[str]:
    """The words for `sightline cloud train` that say searched values: options first, then KEY VALUE pairs."""
    from sightline.tuning.options import OPTIONS

    options: list[str] = []
    for name, value in values.items():
        kind = OPTIONS[name].kind if name in OPTIONS else None
        if kind is bool:
            options += [f"--{name}"] if value.lower() == "true" else []
        elif kind is tuple:
            options += [f"--{name}", *value.strip("[]() ").replace(",", " ").split()]
        elif kind is not None:
            options += [f"--{name}", value]
    return options + [word for name, value in values.items() if name not in OPTIONS for word in (name, value)]


def require_measured(data: str, given: Mapping[str, object]) -> None:
    """Nothing, if trainings can be compared: a data set here has to have the part that they are measured on.

    Raises:
        DatasetError, ConfigError: it has none.
    """
    from sightline.cli.train import validation_part
    from sightline.errors import ConfigError
    from sightline.storage import is_remote

    if is_remote(data) or not has_parts(data) or "fold" in given:
        return
    if validation_part(data, str(given.get("validate-on", "val"))) is None:
        raise ConfigError(data, "has no part 'val', and trainings are compared on it", "Name one with --validate-on.")


@dataclass(frozen=True, slots=True)
class Found:
    """A space that was read. hyperparameters: what trainings need besides those given."""

    ranges: "tuple[Range, ...]"
    hyperparameters: Mapping[str, object]


def read_space(words: list[str], given: Mapping[str, object], pictures: int) -> Found:
    """The space as the platform's ranges, of which the configuration takes every end and every choice.

    words: a YAML file as of `sightline tune`, or `NAME=...`; given: what `given_options` found, which is not searched

    Raises:
        ConfigError: all that is wrong with it, or that SageMaker cannot search.
    """
    from sightline.config.sources import load
    from sightline.config.support import require_supported
    from sightline.config.yaml_dialect import TYPES
    from sightline.errors import ConfigError, Problem
    from sightline.training.asked import Asked, decided
    from sightline.tuning.options import Recipe, varied
    from sightline.tuning.space import load_space

    keys = [word for name, value in given.items() if name in TYPES for word in (name, str(value))]
    where = str(given["config"])
    epochs, batch = given.get("epochs"), given.get("batch-size")
    asked = Asked(epochs=None if epochs is None else float(str(epochs)), batch_size=None if batch is None else int(str(batch)))
    recipe = Recipe(load(where, keys), asked=asked)
    steps: list[int] = []

    def attempt(values: Mapping[str, object]) -> "Configuration":
        tried = varied(recipe, values, where)
        config, _ = decided(tried.config, tried.asked, pictures or 1)
        require_supported(config, where)
        steps.append(config.solver.max_iter)
        return config

    space = load_space(space_source(words), attempt)
    twice = sorted(given.keys() & space.keys())
    problems = [Problem(f"space: {name}", "is searched, and given a value, too", "Keep one.") for name in twice]
    ranges, refused = ranges_of(space)
    if problems or refused:
        raise ConfigError.collected([*problems, *refused])
    measured = recipe.config.test.eval_period > 0 or "TEST.EVAL_PERIOD" in space
    if not measured and not pictures:
        what = "is not given, and how many steps a training on these data has is not known here: nothing would be measured"
        raise ConfigError("TEST.EVAL_PERIOD", what, "Give it, as TEST.EVAL_PERIOD 500.")
    period = max(1, math.ceil(min(steps) / EVALUATIONS))
    return Found(ranges, {} if measured else {"TEST.EVAL_PERIOD": period})


def space_source(words: list[str]) -> "Path | dict[str, object]":
    """What `load_space` takes: a file, or the `NAME=...` words as such a file would have them.

    Raises:
        ConfigError: a file and words together, several files, or a name twice.
    """
    from sightline.errors import ConfigError
    from sightline.storage import local_path

    files = [word for word in words if "=" not in word or Path(word).is_file()]
    if files:
        if len(words) > 1:
            raise ConfigError("--space", f"names {files[0]} and more", "Give one file, or NAME=... words.")
        return local_path(files[0], "A search space")
    space: dict[str, object] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in space:
            raise ConfigError(f"--space {word}", f"names {name} twice", "Keep one.")
        space[name] = entry(text)
    return space


def entry(text: str) -> dict[str, object]:
    """`1e-4..1e-1,log` -> {low, high, log}; `2,4,8` -> {choices}."""
    import yaml

    low, dots, rest = text.partition("..")
    if dots:
        high, _, word = rest.partition(",")
        return {"low": yaml.safe_load(low), "high": yaml.safe_load(high), **({word.strip(): True} if word else {})}
    whole = yaml.safe_load(f"[{text}]") if not text.startswith("[[") else yaml.safe_load(text)
    return {"choices": whole}


def ranges_of(space: "Mapping[str, Parameter]") -> "tuple[tuple[Range, ...], list[Problem]]":
    """(the space as SageMaker's ranges, what it cannot search)."""
    from sightline.cloud.requests import Range
    from sightline.errors import Problem
    from sightline.tuning.options import text_of
    from sightline.tuning.space import Choices

    found: list[Range] = []
    refused: list[Problem] = []
    for name, one in space.items():
        if isinstance(one, Choices):
            found.append(Range(name, values=tuple(map(text_of, one.values))))
        elif one.step is not None and not (one.whole and one.step == 1):
            fix = "Leave out the step, or name the values as choices."
            refused.append(Problem(f"space: {name}", f"has step {one.step:g}, and SageMaker's ranges have none", fix))
        else:
            scale = "Logarithmic" if one.log else "Linear"
            found.append(Range(name, one.low, one.high, one.whole, scale))
    return tuple(found), refused
