"""`sightline cloud deploy`, `invoke`, `delete` and `policy`: endpoints on SageMaker, and the rights for all of it."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli import cloud
from sightline.cli.cloud import (
    AsJson,
    Bucket,
    ClassNames,
    DryRun,
    Groups,
    Kms,
    Role,
    ServeImage,
    Subnets,
    Tags,
    announced,
    placed,
)
from sightline.cli.console import here, log_to_stderr, note, show

if TYPE_CHECKING:
    from sightline.cloud.account import Account
    from sightline.cloud.deploys import Asked, Plan


EndpointName = Annotated[str, typer.Option("--name", help="The endpoint's; one that is there is updated.")]
InstanceType = Annotated[str, typer.Option("--instance-type", help="Of the machines, as ml.g5.xlarge.")]
InstanceCount = Annotated[int, typer.Option("--instance-count", min=1, help="How many.")]
Serverless = Annotated[
    int, typer.Option("--serverless", metavar="MB", min=0, help="No machines: memory of 1024 to 6144; no GPU.")
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Of --serverless: requests at once.")]
Later = Annotated[bool, typer.Option("--async", help="Pictures and answers go through S3, up to 1 GB.")]
Scale = Annotated[
    tuple[int, int] | None,
    typer.Option("--scale", metavar="LEAST MOST", help="As many machines as the load needs; 0: of --async."),
]
PerMinute = Annotated[
    float,
    typer.Option("--per-minute", min=1, help="Of --scale: requests of a minute for one machine; of --async: that wait."),
]
MaxLatency = Annotated[
    float, typer.Option("--max-latency", metavar="SECONDS", help="Slower answers after an update take it back.")
]
Capture = Annotated[int, typer.Option("--capture", metavar="PERCENT", min=0, help="Requests and answers kept on S3.")]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME=MODEL[@WEIGHT[@INSTANCE]]",
        help="Another model for a share of the requests, beside MODEL with weight 1; repeatable.",
    ),
]
Cuda = Annotated[str, typer.Option("--cuda", help="Of the image, as 12.4 or 13.2; chooses the host's driver.")]


def deploy(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, a bundle, Detectron2's folder; also s3://.../model.tar.gz of a job.")
    ],
    *,
    name: EndpointName,
    instance_type: InstanceType = "",
    instance_count: InstanceCount = 1,
    serverless: Serverless = 0,
    concurrency: Concurrency = 5,
    later: Later = False,
    scale: Scale = None,
    per_minute: PerMinute = 60.0,
    capture: Capture = 0,
    variant: Variants = None,
    cuda: Cuda = "",
    max_latency: MaxLatency = 10.0,
    class_names: ClassNames = None,
    image: ServeImage = "",
    role: Role = "",
    bucket: Bucket = "",
    subnets: Subnets = "",
    security_groups: Groups = "",
    kms_key: Kms = "",
    tag: Tags = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show its log until it is in service.")] = True,
    dry_run: DryRun = False,
    local: Annotated[
        Path | None, typer.Option("--local", metavar="DIR", parser=here, help="Serve on this machine, with DIR as /opt/ml.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of --local.")] = 8080,
    as_json: AsJson = False,
) -> None:
    """A model as an endpoint, or a new model for one that is there; done again, it makes nothing twice."""
    from sightline.cloud import deploys, drivers
    from sightline.errors import SightlineError

    log_to_stderr()
    ami = drivers.endpoint_host(cuda).ami if cuda else ""
    if local is not None:
        sys.exit(serve_here(local, model, class_names, port))
    if bool(instance_type) == bool(serverless):
        raise SightlineError("deploy", "needs machines or --serverless, one of both", "Give --instance-type or --serverless.")
    others = [variant_of(word) for word in variant or []]
    with ExitStack() as packed:
        account, archives = opened([model, *(source for _, source, _, _ in others)], class_names, packed)
        archive, facts = archives[model]
        beside = tuple(deploys.Beside(label, *archives[source], weight, machine) for label, source, weight, machine in others)
        asked = deploys.Asked(
            archive=archive,
            name=name,
            facts=facts,
            instance_type=instance_type,
            count=instance_count,
            serverless_mb=serverless,
            concurrency=concurrency,
            later=later,
            capture=capture,
            ami=ami,
            scale=scale,
            per_minute=per_minute,
            max_latency_s=max_latency,
            **placed(image, role, bucket, subnets, security_groups, kms_key, tag),
            beside=beside,
        )
        plan = deploys.plan_deploy(account, asked, os.environ, note)
        note(price_line(asked, account.region))
        if announced(plan, dry_run, *filter(None, [drivers.doubt(instance_type, cuda)])):
            return
        deploys.carry_out(account, plan, note)
    ready(account, plan, wait)
    told = f"sagemaker://{name}" + ("" if plan.change else " is as it was asked for already")
    show(told, as_json, {"endpoint": name, "model": f"sagemaker://{name}", "changed": plan.change})


VARIANT = re.compile(r"(?P<name>[^=]+)=(?P<model>.+?)(?:@(?P<weight>[0-9.]+))?(?:@(?P<machine>ml\.[\w.-]+))?")


def variant_of(word: str) -> tuple[str, str, float, str]:
    """`new=run-b/@0.1@ml.g5.xlarge` -> name, MODEL, weight (1), instance type (empty).

    Raises:
        SightlineError: it is none.
    """
    from sightline.errors import SightlineError

    found = VARIANT.fullmatch(word)
    try:
        weight = float(found["weight"] or 1) if found else 0.0
    except ValueError:
        found = None
    if found is None:
        raise SightlineError("--variant", f"is {word!r}", "Give NAME=MODEL, NAME=MODEL@WEIGHT or NAME=MODEL@WEIGHT@INSTANCE.")
    return found["name"], found["model"], weight, found["machine"] or ""


def weights(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the endpoint.")],
    given: Annotated[list[str], typer.Argument(metavar="VARIANT=WEIGHT...", help="MODEL's own variant is AllTraffic.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Give the variants of an endpoint other shares of its requests, within seconds and without new machines."""
    from sightline.cloud import deploys
    from sightline.errors import SightlineError

    wanted = {}
    for word in given:
        label, _, text = word.partition("=")
        try:
            wanted[label] = float(text)
        except ValueError as error:
            raise SightlineError("VARIANT=WEIGHT", f"is {word!r}", "Give a variant's name and a number.") from error
    before = deploys.reweighed(cloud.open_account(), name, wanted)
    now = {**before, **wanted}
    total = sum(now.values())
    lines = [f"{label}: {weight / total:.1%} (weight {before[label]:g} -> {weight:g})" for label, weight in now.items()]
    show("\n".join(lines), as_json, {"endpoint": name, "before": before, "weights": now})


def price_line(asked: "Asked", region: str) -> str:
    """What the endpoint will cost from now on, as far as that is known."""
    from sightline.benchmarking.prices import instance_price, load_regions, region_named
    from sightline.downloads import cache_folder
    from sightline.errors import SightlineError

    if asked.serverless_mb:
        return "cost: serverless, for the seconds of requests only; `sightline benchmark` tells what a thousand pictures cost"
    types = [asked.instance_type, *(one.instance_type or asked.instance_type for one in asked.beside)]
    machines = " and ".join(f"{asked.count} x {instance_type}" for instance_type in types)
    try:
        known = region_named(region, load_regions(cache_folder(os.environ)))
        prices = [instance_price(instance_type, known) for instance_type in types]
    except SightlineError:
        return f"cost: {machines}, whose price is not known here, until: sightline cloud delete {asked.name}"
    usd = sum(price.usd_per_hour or 0.0 for price in prices) * asked.count
    return f"cost: {machines}, {usd:.2f} USD an hour (as of {prices[0].as_of}) until: sightline cloud delete {asked.name}"


def serve_here(root: Path, model: str, class_names: str | None, port: int) -> int:
    """The exit code of the container's entry point on `root`, laid out as /opt/ml; it serves until it is stopped."""
    from sightline.containers import local as twin

    with archive_of(model, class_names) as (archive, _):
        return twin.serve(root, archive, port=port)


def ready(account: "Account", plan: "Plan", wait: bool) -> None:
    """Wait for the endpoint, then let it scale. Ctrl-C leaves it alone, and says so."""
    from sightline.cloud import deploys

    name = plan.name
    try:
        if wait and plan.change:
            deploys.wait_in_service(account, name, plan.config, note, lambda line: note(str(line)))
    except KeyboardInterrupt:
        note(f"\nThe endpoint goes on being made, and costs. Take it away: sightline cloud delete {name}")
        sys.exit(130)
    if plan.scaling and not wait and plan.change:
        note("note: it does not scale yet: do the same again when it is in service")
        return
    deploys.let_scale(account, plan)


def opened(
    sources: list[str], class_names: str | None, packed: ExitStack
) -> "tuple[Account, dict[str, tuple[str, dict[str, object]]]]":
    """(the account, {MODEL: its archive and facts}). Models of this machine are looked at before AWS is asked anything.

    Raises:
        SightlineError: everything that is wrong with them at once; else, nobody is logged in, or one on S3 is none.
    """
    from sightline.errors import Problem, SightlineError
    from sightline.storage import is_remote

    found: dict[str, tuple[str, dict[str, object]]] = {}
    problems: list[Problem] = []
    for source in dict.fromkeys(source for source in sources if not is_remote(source)):
        try:
            found[source] = packed.enter_context(archive_of(source, class_names))
        except SightlineError as error:
            problems += error.problems
    if problems:
        raise SightlineError.collected(problems)
    account = cloud.open_account()
    for source in dict.fromkeys(filter(is_remote, sources)):
        found[source] = packed.enter_context(archive_of(source, class_names))
    return account, found


@contextmanager
def archive_of(model: str, class_names: str | None) -> "Iterator[tuple[str, dict[str, object]]]":
    """(model.tar.gz here or on S3, what a server would say of it): packed where MODEL is a folder."""
    import tempfile

    from sightline.bundle.archive import describe
    from sightline.cli.console import split_names
    from sightline.storage import is_remote

    names = split_names(class_names)
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        archive = model
        describe(model)  # of a folder, too: what is missing or damaged is told before it is packed
        if not model.endswith(".tar.gz"):
            if is_remote(model) or not (Path(model) / "bundle.json").is_file():
                from sightline.bundle.pack import pack_run

                archive = str(Path(folder, "model.tar.gz"))
                note(f"packing {model}")
                pack_run(model, archive, names)
            else:
                archive = str(repacked(Path(model), Path(folder, "model.tar.gz")))
        told = describe(archive)
        thresholds = told.get("thresholds")
        known = names or told.get("class_names") or []
        yield (
            archive,
            {
                "class_names": known,
                "thresholds": thresholds if isinstance(thresholds, list) and not names else None,
                "proposes": known == ["object"],
                "facts": {key: told[key] for key in ("training", "scores", "thresholds") if key in told},
            },
        )


def repacked(folder: Path, to: Path) -> Path:
    """An unpacked bundle as an archive again: the files that bundle.json names, always as the same bytes."""
    from sightline.bundle.archive import MANIFEST, write_archive

    manifest = (folder / MANIFEST).read_bytes()
    names = json.loads(manifest).get("files", {})
    with to.open("wb") as file:
        write_archive({**{name: (folder / name).read_bytes() for name in names}, MANIFEST: manifest}, file)
    return to


def invoke(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name.")],
    pictures: Annotated[list[str], typer.Argument(metavar="IMAGE_OR_DIR...", help="As `sightline predict` takes them.")],
    *,
    output: Annotated[str | None, typer.Option("-o", "--output", help="File for the JSON lines. Default: stdout.")] = None,
    draw: Annotated[str | None, typer.Option(metavar="DIR", help="Also write the pictures with boxes and masks here.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score.")] = None,
    class_names: Annotated[
        str | None, typer.Option("--class-names", metavar="NAME,...", help="For an endpoint that does not tell its own.")
    ] = None,
) -> None:
    """Pictures to an endpoint: `sightline predict sagemaker://ENDPOINT`, with its options."""
    from sightline.cli.predict import predict

    name = f"sagemaker://{endpoint.removeprefix('sagemaker://')}"
    predict(name, pictures, output=output, draw=draw, threshold=threshold, class_names=class_names)


def benchmark(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its name, or NAME/VARIANT.")],
    *,
    images: Annotated[str, typer.Option("--images", metavar="DIR", help="Pictures such as the model will get.")],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", help="Where benchmark.json goes, which `benchmark plan` takes."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures one at a time, at most.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", help="For each part.")] = 60,
    clients: Annotated[
        list[int] | None, typer.Option("--clients", metavar="N", help="Sending at once; repeatable. Default: 1, 4 and 16.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How fast an endpoint answers from here, and what 1,000 pictures cost at the price of its machines."""
    from sightline.cli.benchmark import run
    from sightline.cloud import endpoints

    account = cloud.open_account()
    variant = endpoints.variant_config(account, endpoint.removeprefix(endpoints.SCHEME))
    run(
        f"{endpoints.SCHEME}{endpoint.removeprefix(endpoints.SCHEME)}",
        images=images,
        output=output,
        samples=samples,
        limit_s=seconds,
        clients=clients,
        instance_type=[str(variant["InstanceType"])] if "ServerlessConfig" not in variant else None,
        serverless_memory_mb=variant.get("ServerlessConfig", {}).get("MemorySizeInMB"),
        region=account.region,
        as_json=as_json,
    )


def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the endpoint.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List it, take nothing away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take an endpoint away, with everything that its deploys made: listed first."""
    from sightline.cloud import deletion

    account = cloud.open_account()
    parts = deletion.parts_of(account, name)
    for part in parts:
        note(f"  {part}")
    for place in deletion.staying(account, name, parts) if parts else []:
        note(f"  stays, and costs its storage: {place}")
    if not parts:
        note(f"nothing of an endpoint {name} is in account {account.id}, {account.region}")
    elif dry_run:
        note("nothing was deleted (--dry-run)")
    elif yes or typer.confirm(f"Delete these {len(parts)}?", err=True):
        deletion.take_away(account, parts, note)
        parts_gone = [str(part) for part in parts]
        show(f"deleted {len(parts)} part{'' if len(parts) == 1 else 's'} of {name}", as_json, {"deleted": parts_gone})
        return
    show("nothing deleted", as_json, {"deleted": [], "found": [str(part) for part in parts]})


def policy(
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="train, tune, look, deploy, invoke, transform, delete, push, or role.")
    ],
    *,
    account: Annotated[str, typer.Option("--account", help="12 digits.")] = "*",
    region: Annotated[str, typer.Option("--region", help="As us-east-1.")] = "*",
    bucket: Annotated[str, typer.Option("--bucket", help="For data and results.")] = "sightline-sagemaker-*",
    role: Annotated[str, typer.Option("--role", help="Of jobs and endpoints: name or ARN.")] = "sightline-*",
    vpc: Annotated[bool, typer.Option("--vpc", help="They run with --subnets.")] = False,
    kms_key: Annotated[str, typer.Option("--kms-key", metavar="ARN|ID|ALIAS", help="They run with this --kms-key.")] = "",
) -> None:
    """The least IAM policy that an action needs, as JSON; `role`: that of jobs and endpoints. Asks nobody."""
    from sightline.cloud import policies

    found = policies.policy(action, policies.Scope(account, region, bucket, role, vpc=vpc, kms_key=kms_key))
    print(json.dumps(found, indent=2), flush=True)
    if action == "role":
        note("To make the role:")
        note(f"  aws iam create-role --role-name sightline-jobs --assume-role-policy-document '{json.dumps(policies.TRUST)}'")
        more = f"{' --vpc' if vpc else ''}{f' --kms-key {kms_key}' if kms_key else ''}"
        note(f"  sightline cloud policy role{more} > permissions.json")
        note(
            "  aws iam put-role-policy --role-name sightline-jobs --policy-name sightline --policy-document file://permissions.json"
        )
