"""`sightline benchmark TARGET`: how fast, how large, how dear; `benchmark plan` and `benchmark prices` go on from there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sightline.cli.console import here, log_to_stderr, note, show
from sightline.cli.models import RUNTIME_HELP, RUNTIMES, Compile, CompileFor, Optimize, Precision
from sightline.runtimes.asked import Execution

if TYPE_CHECKING:
    from sightline.benchmarking.targets import Served
    from sightline.cloud.account import Account

RUN = "run"
LISTS = ("--batch-sizes", "--clients", "--instance-type")
HELP = ("--help", "-h")


class RunByDefault(TyperGroup):
    """A group whose first word need not be a command: `benchmark TARGET` is `benchmark run TARGET`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in HELP:
            args = [RUN, *args]
        return super().parse_args(ctx, several(args, LISTS))


def several(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """`--clients 1 4 16` as the option given three times. What follows must be numbers, or instance types: ml.NAME."""
    repeated: list[str] = []
    option = ""
    for number, argument in enumerate(arguments):
        value = argument.isdecimal() or argument.startswith("ml.")
        if option and value and arguments[number - 1] != option:
            repeated.append(option)
        option = argument if argument in options else option if value else ""
        repeated.append(argument)
    return repeated


app = typer.Typer(cls=RunByDefault, no_args_is_help=True, help="How fast a model is, what it takes, what 1,000 pictures cost.")
prices_app = typer.Typer(no_args_is_help=True, help="What SageMaker charges.")
app.add_typer(prices_app, name="prices")

Region = Annotated[str, typer.Option("--region", help="Of the prices.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command(RUN)
def run(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A run, a bundle, http://HOST:PORT of a server, or sagemaker://ENDPOINT.")
    ],
    *,
    images: Annotated[str, typer.Option("--images", metavar="DIR", help="Pictures such as the model will get.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Where benchmark.json goes, which `plan` takes.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures one at a time, at most. p99 needs 100, p95 20.")] = 100,
    limit_s: Annotated[float, typer.Option("--seconds", help="For each part; a few samples are always taken.")] = 60,
    warm_up: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Runs before times count. Default: until they settle.")
    ] = None,
    batch_sizes: Annotated[
        list[int] | None, typer.Option("--batch-sizes", metavar="N...", help="Of a model here. Default: 1 2 4 8; 0: none.")
    ] = None,
    clients: Annotated[
        list[int] | None, typer.Option("--clients", metavar="N...", help="Of a server. Default: 1 4 16; 0: none.")
    ] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Also the start of a fresh process.")] = True,
    start_runs: Annotated[int, typer.Option(min=1, help="Of those.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    runtime: Annotated[str, typer.Option(metavar=RUNTIMES, help=RUNTIME_HELP)] = "auto",
    optimize: Optimize = True,
    precision: Precision = "fp32",
    compile: Compile = False,
    compile_for: CompileFor = None,
    instance_type: Annotated[
        list[str] | None, typer.Option("--instance-type", metavar="ml.NAME...", help="Also $ per 1,000 pictures at its price.")
    ] = None,
    serverless_memory_mb: Annotated[
        int | None, typer.Option(metavar="MB", help="Also $ per 1,000 pictures on a serverless endpoint.")
    ] = None,
    region: Region = "us-east-1",
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", parser=here, help="Also as tables in Markdown.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png|svg", parser=here, help="Also as a picture.")] = None,
    as_json: Json = False,
) -> None:
    """Latency by stage, throughput, memory, start time, and dollars per 1,000 pictures. The word `run` can be left out."""
    from sightline.benchmarking.plot import check_format, write_plot
    from sightline.benchmarking.run import BATCH_SIZES, CLIENTS, Asked, benchmark, typed
    from sightline.benchmarking.text import markdown as as_markdown
    from sightline.benchmarking.text import text
    from sightline.storage import write_text

    log_to_stderr()
    if plot is not None:
        check_format(plot)
    asked = Asked(
        samples=samples,
        limit_s=limit_s,
        warm_up=warm_up,
        batch_sizes=sizes(batch_sizes, BATCH_SIZES),
        clients=sizes(clients, CLIENTS),
        start_runs=start_runs if start else 0,
        device=device,
        execution=Execution(runtime, optimize, precision, compile, tuple(compile_for or ())),
    )
    result = benchmark(
        target,
        images=images,
        output=output,
        asked=asked,
        instance_types=instance_type or (),
        serverless_memory_mb=serverless_memory_mb,
        region=region,
        open_endpoint=open_endpoint,
        command=typed(),
        say=note,
    )
    if markdown is not None:
        write_text(markdown, as_markdown(result))
    if plot is not None:
        write_plot(result, plot)
    show(text(result), as_json, result.to_dict())


def open_endpoint(address: str) -> "Served":
    """`sagemaker://NAME` of the account that the environment describes.

    Raises:
        SightlineError, RunError: nobody is logged in, or there is no such endpoint.
    """
    from sightline.cloud.account import open_account

    return endpoint_of(open_account(os.environ), address)


def endpoint_of(account: "Account", address: str) -> "Served":
    """A real-time or serverless endpoint as what is measured. boto3 sends again what AWS throttles: that is in the times.

    Raises:
        SightlineError, RunError: it is not there, not in service, or asynchronous.
    """
    from sightline import wire
    from sightline.benchmarking.targets import SAGEMAKER, Answer, Served
    from sightline.cloud import endpoints
    from sightline.errors import RequestError, RunError

    name, _, variant = address.removeprefix(SAGEMAKER).strip("/").partition("/")
    facts = endpoints.facts_of(account, name, variant)
    if facts.inputs:
        fix = "Measure a real-time endpoint of the same instance type, and plan with its result."
        raise RequestError(address, "answers later, through S3, so it has no latency to measure", fix)
    client, asked = account.client("sagemaker-runtime"), {"EndpointName": name, "Accept": wire.JSON}
    asked |= {"TargetVariant": variant} if variant else {}

    def send(body: bytes, content_type: str) -> Answer:
        try:
            return Answer(200, client.invoke_endpoint(Body=body, ContentType=content_type, **asked)["Body"].read())
        except Exception as error:
            response = getattr(error, "response", None) or {}
            status = response.get("OriginalStatusCode") or response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status is None:
                raise RunError(address, f"cannot be reached ({error!r})", "Check the network.") from error
            return Answer(int(status), b"", pause_s=1.0)

    kind = endpoints.variant_config(account, f"{name}/{variant}" if variant else name).get("InstanceType")
    return Served(address, send, dict, False, dict(facts.model.get("facts", {})), kind)


def sizes(given: list[int] | None, usual: tuple[int, ...]) -> tuple[int, ...]:
    """As given; a single 0 means none."""
    return usual if not given else () if given == [0] else tuple(given)


@app.command("plan")
def plan_command(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", parser=here, help="benchmark.json, or their folders.")],
    *,
    per_day: Annotated[float, typer.Option("--per-day", metavar="N", help="Pictures.")],
    within_s: Annotated[float, typer.Option("--within-s", metavar="SECONDS", help="Bound of the p95 of an answer.")],
    peak_factor: Annotated[float, typer.Option(help="The busiest time's rate over the mean rate.")] = 3.0,
    utilisation: Annotated[float, typer.Option(help="Greatest load of an instance at the peak.")] = 0.7,
    least_instances: Annotated[int, typer.Option(help="Of a real-time endpoint; 2 survive the loss of one.")] = 1,
    wakes_per_day: Annotated[
        int, typer.Option(min=0, help="Of an endpoint that is switched off in between; 0: as is cheapest.")
    ] = 0,
    boot_s: Annotated[float, typer.Option(help="Until such an endpoint works.")] = 650.0,
    as_json: Json = False,
) -> None:
    """The cheapest of the measured set-ups for so many pictures a day. Exit code 1 where none does."""
    from sightline.benchmarking.plan import Need, plan, text
    from sightline.benchmarking.results import read

    need = Need(per_day, within_s, peak_factor, utilisation, least_instances, wakes_per_day, boot_s)
    made = plan([read(path) for path in results], need)
    show(text(made), as_json, made.to_dict())
    if made.best is None:
        raise typer.Exit(1)


@prices_app.command()
def refresh(region: Region = "us-east-1", as_json: Json = False) -> None:
    """Fetch AWS's own price list of a region; it is used from then on."""
    from sightline.benchmarking.price_list import refresh as fetch
    from sightline.downloads import cache_folder

    found, path = fetch(region, cache_folder(os.environ))
    published = next(iter(found.instances.values())).as_of
    show(
        f"{len(found.instances)} instance types of {region}, published {published}: {path}",
        as_json,
        {"region": region, "instances": len(found.instances), "as_of": published, "path": str(path)},
    )


@prices_app.command("list")
def list_prices(region: Region = "us-east-1", as_json: Json = False) -> None:
    """The prices of a region, with their dates and sources."""
    from dataclasses import asdict

    from sightline.benchmarking.prices import load_regions, region_named
    from sightline.benchmarking.text import prices_text
    from sightline.downloads import cache_folder

    found = region_named(region, load_regions(cache_folder(os.environ)))
    show(prices_text(found), as_json, asdict(found))
