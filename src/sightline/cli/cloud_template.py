"""`sightline cloud template`: an endpoint as one CloudFormation file."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import cloud_endpoints as endpoints
from sightline.cli.cloud import ClassNames, Groups, Kms, ServeImage, Subnets, Tags, listed, own_tags
from sightline.cli.console import log_to_stderr, note

if TYPE_CHECKING:
    from sightline.cloud.template import Stack


class Format(StrEnum):
    YAML = "yaml"
    JSON = "json"


class Front(StrEnum):
    IAM = "iam"
    OPEN = "open"


def template(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="s3://.../model.tar.gz; or a run or bundle here, which --bucket will hold.")
    ],
    *,
    name: endpoints.EndpointName,
    instance_type: endpoints.InstanceType = "",
    instance_count: endpoints.InstanceCount = 1,
    serverless: endpoints.Serverless = 0,
    concurrency: endpoints.Concurrency = 5,
    later: endpoints.Later = False,
    scale: endpoints.Scale = None,
    per_minute: endpoints.PerMinute = 60.0,
    capture: endpoints.Capture = 0,
    variant: endpoints.Variants = None,
    cuda: endpoints.Cuda = "",
    max_latency: endpoints.MaxLatency = 10.0,
    http: Annotated[
        Front | None, typer.Option("--http", help="An HTTP API in front, for signed requests (iam) or everybody's (open).")
    ] = None,
    class_names: ClassNames = None,
    image: ServeImage = "",
    bucket: Annotated[
        str, typer.Option("--bucket", help="For a MODEL of this machine, captured data and answers. Default: the bundle's.")
    ] = "",
    subnets: Subnets = "",
    security_groups: Groups = "",
    kms_key: Kms = "",
    tag: Tags = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="With credentials, look whether bundles on S3 are there.")
    ] = True,
    output: Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Default: stdout.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Of the file.")] = Format.YAML,
) -> None:
    """The endpoint that `cloud deploy` makes, as one CloudFormation file with its role, alarms and rollback. Makes nothing."""
    from sightline.cloud import deploys, drivers
    from sightline.cloud import template as templates

    log_to_stderr()
    archive, sending = placed(model, name, bucket, class_names, output)
    others = [endpoints.variant_of(word) for word in variant or []]
    stack = templates.Stack(
        deploys.Asked(
            archive=archive,
            name=name,
            facts={},
            instance_type=instance_type,
            count=instance_count,
            serverless_mb=serverless,
            concurrency=concurrency,
            later=later,
            capture=capture,
            ami=drivers.endpoint_host(cuda).ami if cuda else "",
            scale=scale,
            per_minute=per_minute,
            max_latency_s=max_latency,
            image=image or os.environ.get(deploys.IMAGE_VARIABLE, ""),
            bucket=bucket,
            subnets=listed(subnets),
            security_groups=listed(security_groups),
            kms_key=kms_key,
            own_tags=own_tags(tag),
            beside=tuple(deploys.Beside(label, source, {}, weight, machine) for label, source, weight, machine in others),
        ),
        http.value if http else "",
    )
    for line in (*templates.check(stack), *filter(None, [drivers.doubt(instance_type, cuda)])):
        note(f"note: {line}")
    if check:
        require_there([one for one in stack.archives.values() if not sending or one != archive])
    write(templates.template(stack), output, format_)
    told(stack, sending, output)


def placed(model: str, name: str, bucket: str, class_names: str | None, output: str | None) -> tuple[str, list[str]]:
    """(the archive's s3:// address, the commands that put it there): what is on S3 already stays where it is.

    Raises:
        SightlineError: MODEL is here and no bucket is named; or it is not there, or no sound model.
    """
    from shlex import quote

    from sightline.cloud.deploys import placed as place
    from sightline.cloud.jobs import PREFIX
    from sightline.errors import SightlineError
    from sightline.s3.address import bucket_fault
    from sightline.storage import is_remote

    if is_remote(model):
        return model, []
    if not Path(model).exists():
        what, fix = "does not exist", "Give the s3://BUCKET/.../model.tar.gz of a bundle, or a run or bundle of this machine."
        raise SightlineError(model, what, fix)
    if fault := bucket_fault(bucket.removeprefix("s3://").rstrip("/")) if bucket else "":
        raise SightlineError("--bucket", f"is {bucket!r}, and {fault}", "Give the name of a bucket.")
    if not bucket:
        fix = "Give --bucket NAME for where it will lie, or its s3:// address."
        raise SightlineError(model, "is on this machine, and CloudFormation takes models from S3", fix)
    with endpoints.archive_of(model, class_names) as (archive, facts):
        to, _, facts_at = place(archive, f"s3://{bucket.removeprefix('s3://').rstrip('/')}/{PREFIX}endpoints/{name}/")
    names = f" --class-names {quote(class_names)}" if class_names else ""
    here, there = quote(model), quote(to)
    send = f"aws s3 cp {here} {there}" if archive == model else f"sightline bundle pack {here}{names} -o {there}"
    return to, [send, *kept(json.dumps(facts), facts_at, output)]


def kept(facts: str, facts_at: str, output: str | None) -> list[str]:
    """The command that puts the facts on S3: from a file beside the template, where that is a file here.

    `printf` and not `echo`, which reads backslashes in some shells.
    """
    from shlex import quote

    from sightline.storage import is_remote, write_text

    if output is None or is_remote(output):
        return [f"printf '%s\\n' {quote(facts)} | aws s3 cp - {quote(facts_at)}"]
    file = Path(output).with_suffix(".model.json")
    write_text(file, facts + "\n")
    return [f"aws s3 cp {quote(str(file))} {quote(facts_at)}"]


def require_there(archives: list[str]) -> None:
    """Nothing, if the archives are on S3; without credentials a note that nobody has looked.

    Raises:
        SightlineError: one is not.
    """
    from sightline.errors import SightlineError
    from sightline.optional import require
    from sightline.s3 import listing
    from sightline.s3.address import parse
    from sightline.storage import store

    if archives and require("boto3", "aws", "sightline cloud").session.Session().get_credentials() is None:
        note(f"note: nobody has looked whether {' and '.join(archives)} is there: there are no AWS credentials")
        return
    for archive in archives:
        address = parse(archive)
        first = next(iter(listing.below(store(), address)), None)
        if first is None or first.address != address:
            what = "does not exist"
            raise SightlineError(archive, what, listing.near(store(), address) or "Check the address, or give --no-check.")


def write(made: dict[str, Any], output: str | None, format_: Format) -> None:
    """The template on stdout or as a file."""
    from sightline.storage import output_path, write_text

    text = json.dumps(made, indent=2) + "\n" if format_ is Format.JSON else as_yaml(made)
    if output is None:
        print(text, end="", flush=True)
        return
    with output_path(output, "the template") as path:
        write_text(path, text)


def as_yaml(made: dict[str, Any]) -> str:
    """YAML as people write it: in the order of the data, with text of several lines as it is."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(made, Dumper=Dumper, sort_keys=False, width=120)


def told(stack: "Stack", sending: list[str], output: str | None) -> None:
    """What to do with the template, on stderr."""
    name, file = stack.asked.name, output or "FILE"
    note("To make the endpoint:")
    for command in sending:
        note(f"  {command}")
    note(f"  aws cloudformation deploy --stack-name {name} --template-file {file} --capabilities CAPABILITY_IAM")
    note(f"To take it away: aws cloudformation delete-stack --stack-name {name}")
