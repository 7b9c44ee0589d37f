"""A batch transform: all pictures below a prefix through a model that is made for it, answers joined to the pictures' names.

The platform writes KEY.out for each picture that was answered; pictures without one are failures, for which the job's data log
may have a reason. The model that was made for it, and its archive, are taken away when it is over.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sightline
from sightline.cloud import hosting
from sightline.cloud.account import Account, Say, find_bucket, find_image, find_role
from sightline.cloud.costs import Cost
from sightline.cloud.deploys import IMAGE_VARIABLE, REPOSITORY
from sightline.cloud.endpoints import describe as describe_endpoint
from sightline.cloud.failures import failure, is_lost, is_missing, send
from sightline.cloud.jobs import ENDED, PREFIX, Plan, still_lost
from sightline.cloud.jobs import submit as send_plan
from sightline.cloud.logs import TRANSFORMS, Tail
from sightline.cloud.naming import OWNER, unique_name
from sightline.cloud.requests import Surroundings
from sightline.cloud.rules import MAX_TRANSFORM_MB, notes_of_key
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import RunError, SightlineError, nearest
from sightline.images import SUFFIXES
from sightline.s3 import listing
from sightline.s3.address import Address, parse
from sightline.storage import is_remote, store

OUT = ".out"
"""What the platform appends to a picture's key for its answer."""

LEAST_PAYLOAD_MB, AT_ONCE = 6, 4
"""Of a request, where no picture is larger; requests under way on one machine."""

ANSWER_S = 600
"""For one picture, which the server is told, too: its own default is for endpoints."""

POLL_S = 10.0

PAGE = 1000
"""Answers that one request lists, and pays for: where there are many they are counted at so many fewer looks."""

READERS = 8
"""Answers that are read at once."""

REASON = re.compile(r"\[sagemaker logs\]: (?P<place>\S[^:]*?): (?P<told>.+)$")
"""A line of the data log: `...:[sagemaker logs]: BUCKET/KEY: Bad HTTP status received from algorithm: 500`."""

TOO_LARGE = "is larger than a batch transform takes"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants predicted.

    pictures:   s3:// prefix; only pictures below it are sent, by their suffixes
    archive:    model.tar.gz, here or on S3; empty where `model_name` or `endpoint` says which model of the platform's
    max_payload_mb: 0: as much as the largest picture needs
    """

    pictures: str
    name: str
    instance_type: str
    archive: str = ""
    model_name: str = ""
    endpoint: str = ""
    count: int = 1
    max_payload_mb: int = 0
    at_once: int = 0
    ami: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    role: str = ""
    bucket: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    own_tags: Mapping[str, str] = field(default_factory=dict)


def plan_transform(
    account: Account, asked: Asked, environ: Mapping[str, str], moment: datetime, folder: Path, say: Say
) -> Plan:
    """The job, checked in every way that costs nothing. folder: a temporary one here, for the list of pictures.

    Raises:
        SightlineError, RunError: no pictures, no such model, or a request breaks the platform's limits.
    """
    bucket, there = find_bucket(account, asked.bucket, environ, say)
    name = unique_name(asked.name, moment)
    base = f"s3://{bucket}/{PREFIX}transforms/{name}/"
    prefix = parse(asked.pictures).as_folder()
    pictures = pictures_below(prefix)
    large = [entry for entry in pictures if entry.size > MAX_TRANSFORM_MB * 2**20]
    if len(large) == len(pictures):
        raise SightlineError(str(prefix), f"every picture {TOO_LARGE} ({MAX_TRANSFORM_MB} MB)", "Scale them down.")
    for entry in large:
        say(f"note: {entry.address} {TOO_LARGE} ({MAX_TRANSFORM_MB} MB) and is left out")
    sent = [entry for entry in pictures if entry not in large]
    largest = max(entry.size for entry in sent)
    payload = asked.max_payload_mb or max(LEAST_PAYLOAD_MB, -(-largest // 2**20))
    if largest > payload * 2**20:
        say(f"note: pictures of more than {payload} MB will be refused; the largest has {largest:,} bytes (--max-payload)")
    listed = folder / "pictures.json"
    keys = [entry.address.key[len(prefix.key) :] for entry in sent]
    listed.write_text(json.dumps([{"prefix": str(prefix)}, *keys], ensure_ascii=False), encoding="utf-8")
    surroundings = Surroundings("", asked.subnets, asked.security_groups, asked.kms_key, asked.own_tags)
    model, uploads, calls = model_of(account, asked, name, base, environ, surroundings, say)
    request = hosting.transform_request(
        name, model, f"{base}pictures.json", f"{base}answers/", asked.instance_type, surroundings,
        count=asked.count, max_payload_mb=payload, at_once=asked.at_once or min(AT_ONCE, max(1, MAX_TRANSFORM_MB // payload)),
        ami=asked.ami, listed=True,
        environment={"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": str(ANSWER_S), **asked.environment},
    )  # fmt: skip
    calls.append(Call("sagemaker", "CreateTransformJob", request))
    warnings = (*require_valid(calls), *notes_of_key(asked.kms_key, asked.instance_type))
    uploads = {**uploads, listed: f"{base}pictures.json"}
    return Plan(name, "" if there else bucket, uploads, tuple(calls), asked.own_tags, warnings)


def submit(account: Account, plan: Plan, say: Say) -> None:
    """Make what the plan says; a job that is refused leaves no model behind.

    Raises:
        SightlineError, RunError: what could not be made.
    """
    try:
        send_plan(account, plan, say)
    except SightlineError:
        request = plan.calls[-1].request
        listed = request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        with contextlib.suppress(SightlineError):  # the first failure is the one to tell
            take_away(account, Transform(plan.name, "Failed", "", request["ModelName"], 0, "", 1, listed, ""), say)
        raise


def pictures_below(prefix: Address) -> list[listing.Entry]:
    """All pictures, by their suffixes.

    Raises:
        SightlineError, RunError: there are none, or they cannot be listed.
    """
    found = [entry for entry in listing.below(store(), prefix) if is_picture(entry.address.key)]
    if not found:
        raise SightlineError(str(prefix), "holds no pictures", listing.near(store(), prefix) or "Check the address.")
    return found


def is_picture(key: str) -> bool:
    return Path(key).suffix.lower() in SUFFIXES


def model_of(
    account: Account,
    asked: Asked,
    name: str,
    base: str,
    environ: Mapping[str, str],
    surroundings: Surroundings,
    say: Say,
) -> tuple[str, dict[Path, str], list[Call]]:
    """(the model's name, uploads, the request that makes it): one that is there, or one for this job alone."""
    if asked.model_name or asked.endpoint:
        return asked.model_name or model_behind(account, asked.endpoint), {}, []
    role = find_role(account, asked.role, environ, say)
    image = find_image(account, asked.image, IMAGE_VARIABLE, environ, REPOSITORY, sightline.__version__)
    place = asked.archive if is_remote(asked.archive) else f"{base}model.tar.gz"
    uploads = {} if is_remote(asked.archive) else {Path(asked.archive): place}
    whose = Surroundings(role, surroundings.subnets, surroundings.security_groups, surroundings.kms_key, surroundings.own_tags)
    request = hosting.model_request(name, image, place, {}, whose, name)
    return name, uploads, [Call("sagemaker", "CreateModel", request)]


def model_behind(account: Account, endpoint: str) -> str:
    """The name of the model that an endpoint's first variant has, or that of `NAME/VARIANT`.

    Raises:
        SightlineError, RunError: there is no such endpoint or variant.
    """
    name, _, variant = endpoint.partition("/")
    now = describe_endpoint(account, name)
    if now is None:
        what = f"is no endpoint of account {account.id} in {account.region}"
        raise SightlineError(f"sagemaker://{endpoint}", what, "Check the name and AWS_REGION.")
    method, config = account.client("sagemaker").describe_endpoint_config, now["EndpointConfigName"]
    answer = send(method, endpoint, "sagemaker:DescribeEndpointConfig", EndpointConfigName=config)
    models = {str(one["VariantName"]): str(one["ModelName"]) for one in answer["ProductionVariants"]}
    if variant and variant not in models:
        raise SightlineError(f"sagemaker://{name}", f"has no variant {variant!r}", nearest(variant, list(models)))
    return models[variant] if variant else next(iter(models.values()))


@dataclass(frozen=True, slots=True)
class Transform:
    """A batch transform as the platform tells it now. pictures: s3:// address of their list; answers: s3:// folder."""

    name: str
    status: str
    reason: str
    model: str
    used_s: int
    instance_type: str
    count: int
    pictures: str
    answers: str

    @property
    def over(self) -> bool:
        return self.status in ENDED

    def cost(self, price_usd_hour: float | None = None, priced_as: str = "") -> Cost:
        return Cost(self.used_s, self.used_s, self.count, self.instance_type, False, price_usd_hour, priced_as)

    def as_dict(self, cost: Cost) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "reason": self.reason, "model": self.model, **cost.as_dict()}

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f"\n  {self.reason}" if self.reason else "")


def transform_of(answer: Mapping[str, Any]) -> Transform:
    """The platform's answer as a job; times come only later."""
    machines, began, ended = answer["TransformResources"], answer.get("TransformStartTime"), answer.get("TransformEndTime")
    return Transform(
        name=answer["TransformJobName"],
        status=answer["TransformJobStatus"],
        reason=" ".join(str(answer.get("FailureReason") or "").split()),
        model=str(answer.get("ModelName", "")),
        used_s=int((ended - began).total_seconds()) if began and ended else 0,
        instance_type=machines.get("InstanceType", ""),
        count=machines.get("InstanceCount", 1),
        pictures=str(answer.get("TransformInput", {}).get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", "")),
        answers=str(answer.get("TransformOutput", {}).get("S3OutputPath", "")),
    )


def describe(account: Account, name: str) -> Transform:
    method = account.client("sagemaker").describe_transform_job
    return transform_of(send(method, name, "sagemaker:DescribeTransformJob", TransformJobName=name))


def follow(account: Account, name: str, say: Say, *, sleep: Callable[[float], None] = time.sleep) -> Transform:
    """Say every change, and how many pictures are answered, until the job is over.

    Raises:
        SightlineError, RunError: the connection stays lost, the credentials expire; the job goes on all the same.
    """
    found, told, lost_s = describe(account, name), "", 0.0
    total = len(sent_pictures(account, found)[1])
    answered, uncounted = 0, 0  # looks since answers were counted
    while True:
        try:
            found = transform_of(account.client("sagemaker").describe_transform_job(TransformJobName=name))
            if found.over or uncounted >= answered // PAGE:
                answered, uncounted = sum(1 for _ in answers_below(found)), 0
            else:
                uncounted += 1
            news = f"{found.status}: {answered:,} of {total:,} pictures are answered"
            if news != told:
                say(news)
                told = news
            if found.over:
                return found
            lost_s = 0.0
        except Exception as error:
            lost_s = still_lost(cause_of(error), name, lost_s, say, "sagemaker:DescribeTransformJob")
        sleep(POLL_S)


def cause_of(error: Exception) -> Exception:
    """The lost connection behind an error of ours, else the error."""
    cause = error.__cause__
    return cause if isinstance(cause, Exception) and is_lost(cause) else error


def stop(account: Account, name: str) -> Transform:
    """Ask a job to end; answers that are there stay."""
    found = describe(account, name)
    if not found.over:
        method = account.client("sagemaker").stop_transform_job
        send(method, name, "sagemaker:StopTransformJob", TransformJobName=name)
    return found


def sent_pictures(account: Account, job: Transform) -> tuple[Address, list[str]]:
    """(prefix, keys below it) of a job's pictures, from its list.

    Raises:
        SightlineError, RunError: there is no list, as of a job that is none of ours.
    """
    place = parse(job.pictures)
    try:
        body = account.client("s3").get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        prefix, *keys = json.loads(body)
        return parse(prefix["prefix"]), [str(key) for key in keys]
    except Exception as error:
        if is_missing(error) or isinstance(error, ValueError | TypeError | KeyError):
            what = "is a batch transform whose list of pictures is not there"
            fix = f"Its answers, if it has any, are below {job.answers}"
            raise SightlineError(job.name, what, fix) from error
        raise failure(error, job.pictures, "s3:GetObject") from error


def answers_below(job: Transform) -> Iterator[Address]:
    """The answers that are there."""
    for entry in listing.below(store(), parse(job.answers).as_folder()):
        if entry.address.key.endswith(OUT):
            yield entry.address


def joined(job: Transform, prefix: Address, keys: list[str]) -> dict[str, Address]:
    """{picture's key below the prefix: its answer}.

    The platform keeps folders below the prefix; by its documentation the prefix's own, too. The way that fits most counts.
    """
    folder = parse(job.answers).as_folder().key
    answers = {answer.key[len(folder) : -len(OUT)]: answer for answer in answers_below(job)}
    above = f"{prefix.bucket}/{prefix.key}".strip("/").split("/")
    ways = []
    for kept in range(len(above) + 1):
        begins = "".join(f"{part}/" for part in above[len(above) - kept :])
        ways.append({key: answers[begins + key] for key in keys if begins + key in answers})
    return max(ways, key=len)


def lines(account: Account, job: Transform) -> Iterator[dict[str, Any]]:
    """One dictionary a picture, as `sightline predict` writes them: the answer, or an `error` with where, what and fix.

    Raises:
        SightlineError, RunError: pictures or answers cannot be read.
    """
    prefix, keys = sent_pictures(account, job)
    answers = joined(job, prefix, keys)
    reasons = reasons_of(account, job) if len(answers) < len(keys) else {}
    fix = f"See its log: sightline cloud logs {job.name}"
    s3 = account.client("s3")

    def line(key: str) -> dict[str, Any]:
        picture = prefix.below(key)
        if key not in answers:
            what = reasons.get(f"{picture.bucket}/{picture.key}") or job.reason or "was not answered"
            return {"image": str(picture), "error": {"where": str(picture), "what": what, "fix": fix}}
        place = answers[key]
        try:
            return {"image": str(picture), **json.loads(s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read())}
        except (ValueError, TypeError) as error:
            return {"image": str(picture), "error": {"where": str(place), "what": f"is no JSON ({error})", "fix": fix}}
        except Exception as error:
            raise failure(error, str(place), "s3:GetObject") from error

    with ThreadPoolExecutor(READERS) as readers:
        for many in batched(keys, PAGE):  # so that no more than these wait in memory
            yield from readers.map(line, many)


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`items` in pieces of at most `size`."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def reasons_of(account: Account, job: Transform) -> dict[str, str]:
    """{BUCKET/KEY: why it was not answered} of the job's data log; empty where it may not be read."""
    found: dict[str, str] = {}
    try:
        for line in Tail(account.client("logs"), TRANSFORMS, f"{job.name}/").new():
            match = REASON.search(line.text)
            if match and match["told"].strip():
                place = match["place"].removeprefix("s3://")
                found[place] = "; ".join(dict.fromkeys([*filter(None, [found.get(place)]), match["told"].strip()]))
    except Exception as error:
        if not is_missing(error):
            return found
    return found


def take_away(account: Account, job: Transform, say: Say) -> None:
    """Delete what was made for a job alone: its model and the archive. Its answers and the list of its pictures stay.

    Raises:
        SightlineError, RunError: something cannot be deleted.
    """
    client = account.client("sagemaker")
    try:
        arn = client.describe_model(ModelName=job.model)["ModelArn"]
        tagged = {str(tag["Key"]): str(tag["Value"]) for tag in client.list_tags(ResourceArn=arn)["Tags"]}
        if tagged.get(OWNER) == job.name:
            client.delete_model(ModelName=job.model)
            say(f"deleted model {job.model}")
    except Exception as error:
        if not is_missing(error):
            raise failure(error, job.model, "sagemaker:DeleteModel") from error
    place = parse(job.pictures.rpartition("/")[0]).below("model.tar.gz")
    send(account.client("s3").delete_object, str(place), "s3:DeleteObject", Bucket=place.bucket, Key=place.key)


def require_answers(job: Transform, failed: int, total: int) -> None:
    """Nothing, if every picture was answered.

    Raises:
        RunError: some were not.
    """
    if failed or job.status != "Completed":
        what = f"{job.status.lower()}: {failed:,} of {total:,} pictures have no answer" + (
            f" ({job.reason})" if job.reason else ""
        )
        raise RunError(job.name, what, f"See its log: sightline cloud logs {job.name}")
