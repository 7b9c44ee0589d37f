"""`sightline cloud transform`: all pictures below an S3 prefix through a model, answers as `sightline predict` writes them."""

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli import cloud, cloud_endpoints
from sightline.cli.cloud import (
    AsJson,
    Bucket,
    ClassNames,
    DryRun,
    Groups,
    Kms,
    PriceOption,
    Role,
    ServeImage,
    Subnets,
    Tags,
    placed,
)
from sightline.cli.console import log_to_stderr, note, show

if TYPE_CHECKING:
    from sightline.cloud.account import Account
    from sightline.cloud.transforms import Transform


def transform(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[MODEL] PICTURES", help="MODEL as for `cloud deploy`, or sagemaker://ENDPOINT; s3:// prefix."),
    ],
    *,
    model_name: Annotated[str, typer.Option("--model-name", help="A model of SageMaker's, instead of MODEL.")] = "",
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="For the JSON lines, also s3://. Default: stdout.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The job's name begins with it. Default: the pictures'.")] = "",
    instance_type: Annotated[str, typer.Option("--instance-type", help="Of the machines.")] = "ml.g4dn.xlarge",
    instance_count: Annotated[int, typer.Option("--instance-count", min=1, help="How many share the pictures.")] = 1,
    max_payload: Annotated[
        int, typer.Option("--max-payload", metavar="MB", min=0, help="Of a picture, to 100. Default: the largest one's.")
    ] = 0,
    concurrent: Annotated[int, typer.Option("--concurrent", min=0, help="Pictures at once on a machine. Default: 4.")] = 0,
    cuda: Annotated[str, typer.Option("--cuda", help="Of the image, as 12.4; chooses the host's driver.")] = "",
    environment: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="For the server (docs/wire.md); repeatable.")
    ] = None,
    class_names: ClassNames = None,
    image: ServeImage = "",
    role: Role = "",
    bucket: Bucket = "",
    subnets: Subnets = "",
    security_groups: Groups = "",
    kms_key: Kms = "",
    tag: Tags = None,
    price_per_hour: PriceOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until all are answered.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Predict all pictures below an S3 prefix with a model that exists only for it; one JSON line for each."""
    from sightline.cloud import drivers, transforms

    log_to_stderr()
    model, pictures = given_words(words, model_name)
    ami = drivers.transform_host(cuda).ami if cuda else ""
    account = cloud.open_account()
    with ExitStack() as stack:
        endpoint = model.removeprefix("sagemaker://") if model.startswith("sagemaker://") else ""
        own = bool(model) and not endpoint
        archive = stack.enter_context(cloud_endpoints.archive_of(model, class_names))[0] if own else ""
        asked = transforms.Asked(
            pictures=pictures,
            name=name or Path(pictures.rstrip("/")).name,
            instance_type=instance_type,
            archive=archive,
            model_name=model_name,
            endpoint=endpoint,
            count=instance_count,
            max_payload_mb=max_payload,
            at_once=concurrent,
            ami=ami,
            environment=pairs(environment),
            **placed(image, role, bucket, subnets, security_groups, kms_key, tag),
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sightline-")))
        plan = transforms.plan_transform(account, asked, os.environ, datetime.now(UTC), folder, note)
        if cloud.announced(plan, dry_run):
            return
        transforms.submit(account, plan, note)
    if not wait:
        told = f"{plan.name}\n  its answers, when it is over: sightline cloud fetch {plan.name} -o FILE.jsonl"
        show(told, as_json, {"name": plan.name})
        return
    finish_transform(account, plan.name, output, price_per_hour, as_json)


def given_words(words: list[str], model_name: str) -> tuple[str, str]:
    """(MODEL or nothing, the pictures' prefix).

    Raises:
        SightlineError: too few or too many, or pictures that are not on S3.
    """
    from sightline.errors import SightlineError
    from sightline.storage import is_remote

    if len(words) != (1 if model_name else 2):
        wanted = "PICTURES alone with --model-name" if model_name else "MODEL PICTURES, or --model-name NAME PICTURES"
        raise SightlineError("cloud transform", f"got {' '.join(words)}", f"Give {wanted}.")
    if not is_remote(words[-1]):
        what = f"{words[-1]} is not on S3, from where batch transform reads"
        raise SightlineError("PICTURES", what, "Copy them there first: aws s3 sync.")
    return ("" if model_name else words[0]), words[-1]


def pairs(words: list[str] | None) -> dict[str, str]:
    from sightline.errors import SightlineError

    for word in words or []:
        if not word.partition("=")[0] or "=" not in word:
            raise SightlineError("--env", f"is {word!r}", "Give NAME=VALUE.")
    return {word.partition("=")[0]: word.partition("=")[2] for word in words or []}


def finish_transform(account: "Account", name: str, output: str | None, price: float | None, as_json: bool) -> None:
    """Follow a job to its end, tell its cost, collect its answers. Ctrl-C leaves the job alone, and says so."""
    from sightline.cloud import transforms

    try:
        job = transforms.follow(account, name, note)
    except KeyboardInterrupt:
        note(f"\nThe job goes on. Its answers, when it is over: sightline cloud fetch {name} -o FILE.jsonl")
        note(f"End it: sightline cloud stop {name}")
        sys.exit(130)
    cost = job.cost(*cloud.price_of(job.instance_type, account.region, price))
    note(f"cost: {cost}")
    collect(account, job, output, as_json, job.as_dict(cost))


def collect(account: "Account", job: "Transform", output: str | None, as_json: bool, value: dict[str, object]) -> None:
    """Write the answers of a job that is over as JSON lines, take away what was made for it alone, list what failed.

    Raises:
        RunError: some pictures were not answered; those that were are written all the same.
    """
    from sightline.cloud import transforms
    from sightline.errors import SightlineError
    from sightline.storage import output_path

    if not job.over:
        raise SightlineError(job.name, f"is still {job.status}", f"Wait for it: sightline cloud logs {job.name}")
    lines = list(transforms.lines(account, job))
    failed = [line for line in lines if "error" in line]
    text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    if output is None:
        print(text, end="", flush=True)
    else:
        with output_path(output, "A file of answers") as path:
            path.write_text(text, encoding="utf-8")
    transforms.take_away(account, job, note)
    for line in failed:
        note(f"failed: {line['image']}: {line['error']['what']}")
    transforms.require_answers(job, len(failed), len(lines))
    if output is not None:
        show(output, as_json, {**value, "output": output, "pictures": len(lines)})
