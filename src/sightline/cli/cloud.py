"""`sightline cloud ...`: the same commands on SageMaker."""

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from sightline.cli.cloud_given import files_of, given_options, pictures_here
from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.train import Config, Overrides, Weights

if TYPE_CHECKING:
    from sightline.cloud.account import Account
    from sightline.cloud.costs import Cost
    from sightline.cloud.deploys import Plan as DeployPlan
    from sightline.cloud.jobs import Job, Plan
    from sightline.cloud.logs import Line
    from sightline.cloud.transforms import Transform

app = typer.Typer(no_args_is_help=True, help="The same on SageMaker: train, deploy, ask, and see the bill.")

Bucket = Annotated[
    str, typer.Option("--bucket", help="For data and results. Default: SIGHTLINE_CLOUD_BUCKET, else one of Sightline's.")
]
Role = Annotated[str, typer.Option("--role", help="Name or ARN. Default: SIGHTLINE_CLOUD_ROLE, else the only suitable one.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="On everything that is made; repeatable.")]
Subnets = Annotated[str, typer.Option("--subnets", metavar="ID,...", help="Of a VPC, with --security-groups.")]
Groups = Annotated[str, typer.Option("--security-groups", metavar="ID,...", help="Of a VPC, with --subnets.")]
Kms = Annotated[str, typer.Option("--kms-key", metavar="ID|ARN", help="Encrypts volumes and results.")]
Images = Annotated[str, typer.Option("--images", metavar="DIR", help="Of bare label files: their pictures; also s3://.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, show the whole requests, make nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
TrainImage = Annotated[str, typer.Option("--image", metavar="URI", help="Default: SIGHTLINE_TRAIN_IMAGE, else yours in ECR.")]
ServeImage = Annotated[str, typer.Option("--image", metavar="URI", help="Default: SIGHTLINE_SERVE_IMAGE, else yours in ECR.")]
ClassNames = Annotated[
    str | None, typer.Option("--class-names", metavar="NAME,...", help="For a model that does not carry its own.")
]
MaxWait = Annotated[
    int | None, typer.Option("--max-wait", metavar="SECONDS", min=1, help="With --spot: running and waiting together.")
]
Volume = Annotated[int, typer.Option("--volume", metavar="GB", min=1, help="Disk for data and model.")]
FastFile = Annotated[bool, typer.Option("--fast-file", help="Pictures are read from S3 when needed, not copied.")]
PriceOption = Annotated[
    float | None, typer.Option("--price-per-hour", metavar="USD", min=0, help="Of one machine, where Sightline knows none.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the job, or for status of the endpoint.")]


@app.command(context_settings={"ignore_unknown_options": True})
def train(
    overrides: Overrides = None,
    *,
    data: Annotated[
        str, typer.Option("--data", metavar="DIR|FILE", help="A dataset folder or label files, sent where changed; or s3://.")
    ],
    images: Images = "",
    config: Config = "small",
    weights: Weights = None,
    name: Annotated[str, typer.Option("--name", help="The job's name begins with it. Default: the data's.")] = "",
    instance_type: Annotated[str, typer.Option("--instance-type", help="Of the machines.")] = "ml.g5.xlarge",
    instance_count: Annotated[int, typer.Option("--instance-count", min=1, help="How many train together.")] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="On spot capacity: cheaper, interrupted, resumed.")] = False,
    max_runtime: Annotated[int, typer.Option("--max-runtime", metavar="SECONDS", min=1, help="Ended after that.")] = 86_400,
    max_wait: MaxWait = None,
    volume: Volume = 50,
    keep_alive: Annotated[
        int, typer.Option("--keep-alive", metavar="SECONDS", min=0, help="Machines stay for the next job, and cost.")
    ] = 0,
    fast_file: FastFile = False,
    image: TrainImage = "",
    role: Role = "",
    bucket: Bucket = "",
    subnets: Subnets = "",
    security_groups: Groups = "",
    kms_key: Kms = "",
    tag: Tags = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="RUN", parser=here, help="Fetch the run to here at the end.")
    ] = None,
    price_per_hour: PriceOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log until the end.")] = True,
    dry_run: DryRun = False,
    local: Annotated[
        Path | None, typer.Option("--local", metavar="DIR", parser=here, help="The same on this machine, with DIR as /opt/ml.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on SageMaker. Takes the options and KEY VALUE pairs of `sightline train`, too; for label files those of `run`."""
    from sightline.cloud import jobs
    from sightline.cloud.requests import Machines

    log_to_stderr()
    given = given_options(["--config", config, *([] if weights is None else ["--weights", weights]), *(overrides or [])])
    pictures_here(data, images, given)
    require_new(output)
    if local is not None:
        show(*train_here(local, data, images, given, output, as_json))
        return
    account = open_account()
    with files_of(given) as (hyperparameters, files):
        asked = jobs.Asked(
            data=data,
            name=name or Path(data.rstrip("/")).name,
            hyperparameters=hyperparameters,
            machines=Machines(instance_type, instance_count, volume, spot, max_runtime, max_wait, keep_alive),
            files=files,
            **placed(image, role, bucket, subnets, security_groups, kms_key, tag),
            input_mode="FastFile" if fast_file else "File",
            pictures=images,
        )
        plan = jobs.plan_training(account, asked, os.environ, datetime.now(UTC), note)
        if announced(plan, dry_run):
            return
        jobs.submit(account, plan, note)
    if not wait:
        show(f"{plan.name}\n  follow it: sightline cloud logs {plan.name}", as_json, {"name": plan.name})
        return
    finish(account, plan.name, output, price_per_hour, as_json)


def require_new(output: Path | None) -> None:
    """Nothing, if a run can be fetched to there.

    Raises:
        SightlineError: something is there.
    """
    from sightline.errors import SightlineError

    if output is not None and output.exists() and any(output.iterdir()):
        raise SightlineError(output, "already exists", "Choose another folder, or remove this one first.")


def train_here(
    root: Path, data: str, images: str, given: dict[str, object], output: Path | None, as_json: bool
) -> "tuple[str, bool, dict[str, object]]":
    """What to show of a training by the container's entry point in `root`, laid out as /opt/ml. AWS is not asked."""
    from sightline.cloud.jobs import DATA_CHANNEL, PICTURES_CHANNEL
    from sightline.containers import local as twin

    pictures = {PICTURES_CHANNEL: images} if images else {}
    with files_of(given) as (hyperparameters, files):
        left = twin.train(root, channels={DATA_CHANNEL: data, **pictures, **files}, hyperparameters=hyperparameters)
    if output is not None:
        gather([left.model, left.output], output)
    told = f"{output or left.model}\n  the same on SageMaker: leave out --local"
    return told, as_json, {"run": str(output) if output else None, "model": str(left.model), "output": str(left.output)}


def gather(folders: list[Path], to: Path) -> None:
    """The folders' files together as `to`, as `cloud fetch` makes a run of a job's archives."""
    import shutil

    from sightline.storage import atomic_folder

    with atomic_folder(to) as made:
        for folder in reversed(folders):  # the first counts where two have the same name
            shutil.copytree(folder, made, dirs_exist_ok=True)


@app.command()
def status(name: Name, *, price_per_hour: PriceOption = None, as_json: AsJson = False) -> None:
    """What a training, a search, a batch transform or an endpoint is doing, and what a job has cost."""
    from sightline.cli.cloud_search import search_told
    from sightline.cloud import endpoints
    from sightline.cloud.lookup import look_up
    from sightline.cloud.searches import Search
    from sightline.errors import SightlineError

    account = open_account()
    try:
        found = look_up(account, name)
    except SightlineError:
        endpoint = endpoints.describe(account, name)
        if endpoint is None:
            raise
        text, value = endpoints.told_of(endpoint)
        show(text, as_json, value)
        return
    if isinstance(found, Search):
        text, value = search_told(account, found, price_per_hour)
        show(text, as_json, value)
        return
    cost = cost_of(found, account.region, price_per_hour)
    show(f"{found}" + (f"\n  {cost}" if cost.billable_s else ""), as_json, found.as_dict(cost))


@app.command()
def logs(
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Until the job is over.")] = True,
    price_per_hour: PriceOption = None,
) -> None:
    """A training's or a transform's log, a search's progress; followed while it runs."""
    from sightline.cli.cloud_search import finish_search
    from sightline.cloud import jobs, logs
    from sightline.cloud.lookup import look_up
    from sightline.cloud.searches import Search

    account = open_account()
    found = look_up(account, name)
    if isinstance(found, Search):
        if follow:
            finish_search(account, name, None, price_per_hour, False, [])
        else:
            show(str(found), False, {})
    elif not isinstance(found, jobs.Job) or not follow or found.over:
        group = logs.TRAINING if isinstance(found, jobs.Job) else logs.TRANSFORMS
        jobs.read_log(account, name, lambda line: print(line, flush=True), group)
    else:
        finish(account, name, None, price_per_hour, False)


@app.command()
def stop(name: Name, *, as_json: AsJson = False) -> None:
    """End a job: a training saves what it has, within two minutes; a search's best and a transform's answers stay."""
    from sightline.cloud import jobs, searches, transforms
    from sightline.cloud.lookup import look_up

    account = open_account()
    job = look_up(account, name)
    if isinstance(job, searches.Search):
        searches.stop(account, name)
    elif isinstance(job, transforms.Transform):
        transforms.stop(account, name)
    else:
        jobs.stop(account, name)
    saving = "saves and ends within two minutes" if isinstance(job, jobs.Job) else "is ended"
    told = f"{name} is {job.status} already" if job.over else f"{name} {saving}"
    show(told, as_json, {"name": name, "status": job.status, "stopping": not job.over})


@app.command()
def fetch(
    name: Name,
    *,
    output: Annotated[str, typer.Option("-o", "--output", metavar="RUN", help="The run folder, or file of answers, to make.")],
    as_json: AsJson = False,
) -> None:
    """A finished training's run folder, a search's best one, or a batch transform's answers as JSON lines."""
    from sightline.cli.cloud_transform import collect
    from sightline.cloud import fetching, jobs, searches, transforms
    from sightline.cloud.lookup import look_up

    log_to_stderr()
    account = open_account()
    found = look_up(account, name)
    if isinstance(found, transforms.Transform):
        collect(account, found, output, as_json, {"name": name})
        return
    job = jobs.describe(account, searches.require_best(found).name) if isinstance(found, searches.Search) else found
    path = fetching.fetch_run(job, here(output))
    show(f"{path}", as_json, {"name": job.name, "run": str(path)})


def finish(account: "Account", name: str, output: Path | None, price_per_hour: float | None, as_json: bool) -> None:
    """Follow a job to its end, tell its cost, fetch its run. Ctrl-C leaves the job alone, and says so."""
    from sightline.cloud import fetching, jobs

    try:
        job = jobs.follow(account, name, note, progress_display())
    except KeyboardInterrupt:
        note(f"\nThe job goes on. Follow it again: sightline cloud logs {name}\nEnd it: sightline cloud stop {name}")
        sys.exit(130)
    cost = cost_of(job, account.region, price_per_hour)
    note(f"cost: {cost}")
    if job.machines.keep_alive_s:
        note(f"the machines stay, and cost, for {job.machines.keep_alive_s:,} s more")
    jobs.require_success(job)
    if output is not None:
        fetching.fetch_run(job, output)
    ending = f"{output}" if output else f"{job.name}: {job.archive}\n  fetch it: sightline cloud fetch {job.name} -o RUN"
    show(ending, as_json, {**job.as_dict(cost), **({"run": str(output)} if output else {})})


def open_account() -> "Account":
    from sightline.cloud.account import open_account as open_from

    return open_from(os.environ)


def announced(plan: "Plan | DeployPlan", dry_run: bool, *more: str) -> bool:
    """Whether that is all: notes are told, and of a dry run what would be made, complete, as JSON on stdout."""
    for line in (*plan.warnings, *more):
        note(f"note: {line}")
    if dry_run:
        print(json.dumps(plan.as_dict(), indent=2, ensure_ascii=False, default=str), flush=True)
        note("nothing was made (--dry-run)")
    return dry_run


class Placed(TypedDict):
    """On whose behalf and where: what every command that makes something takes alike."""

    image: str
    role: str
    bucket: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    kms_key: str
    own_tags: dict[str, str]


def placed(
    image: str, role: str, bucket: str, subnets: str, security_groups: str, kms_key: str, tag: list[str] | None
) -> Placed:
    """These options as an `Asked` has them."""
    return Placed(
        image=image,
        role=role,
        bucket=bucket,
        subnets=listed(subnets),
        security_groups=listed(security_groups),
        kms_key=kms_key,
        own_tags=own_tags(tag),
    )


def listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def own_tags(given: list[str] | None, where: str = "--tag") -> dict[str, str]:
    """`KEY=VALUE` words.

    Raises:
        SightlineError: one has no `=`, or a key that AWS or Sightline keeps for itself.
    """
    from sightline.errors import SightlineError

    found = {}
    for word in given or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise SightlineError(where, f"is {word!r}", "Give KEY=VALUE.")
        if re.match(r"(aws|sightline):", key, re.IGNORECASE):
            raise SightlineError(where, f"the key {key!r} is reserved", "Choose another.")
        found[key] = value
    return found


def cost_of(job: "Job | Transform", region: str, given: float | None) -> "Cost":
    """What the job costs."""
    return job.cost(*price_of(job.cost().instance_type, region, given))


def price_of(instance_type: str, region: str, given: float | None) -> tuple[float | None, str]:
    """(price of a machine's hour, whose it is): the one given, else that of endpoints, which AWS keeps close to it."""
    from sightline.errors import SightlineError

    if given is not None:
        return given, ""
    try:
        from sightline.benchmarking.prices import instance_price, load_regions, region_named
        from sightline.downloads import cache_folder

        known = region_named(region, load_regions(cache_folder(os.environ)))
        price = instance_price(instance_type, known)
    except SightlineError:
        return None, ""
    return price.usd_per_hour, f"the price of endpoints in {region}, as of {price.as_of}"


def progress_display() -> "Callable[[Line], None]":
    """The job's lines on stderr; on a terminal progress lines are redrawn in place."""
    from sightline.cloud.metrics import step_of

    on_terminal, drawn = sys.stderr.isatty(), [False]

    def display(line: "Line") -> None:
        step = step_of(line.text)
        if step is not None and on_terminal:
            sys.stderr.write(f"\r{step}\x1b[K")
            sys.stderr.flush()
            drawn[0] = True
            return
        if drawn[0]:
            sys.stderr.write("\n")
            drawn[0] = False
        note(str(line))

    return display
