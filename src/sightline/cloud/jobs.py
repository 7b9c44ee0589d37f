"""A training on SageMaker: planned (nothing made), sent, followed, stopped, and its run fetched back."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sightline
from sightline.cloud import rules
from sightline.cloud.account import Account, Say, bucket_here, find_bucket, find_image, find_role, make_bucket
from sightline.cloud.costs import Cost
from sightline.cloud.failures import failure, is_lost, is_missing, job_failure, send
from sightline.cloud.logs import TRAINING, Line, Tail
from sightline.cloud.naming import MAX_NAME, unique_name
from sightline.cloud.requests import Machines, Surroundings, training_request
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import RunError, SightlineError
from sightline.storage import is_remote, store

PREFIX = "sightline/"
"""Of all that Sightline keeps in a bucket."""

DATA_CHANNEL, PICTURES_CHANNEL = "training", "images"
"""The channels of the data set, and of the pictures that bare label files name."""

IMAGE_VARIABLE, REPOSITORY = "SIGHTLINE_TRAIN_IMAGE", "sightline-train"

POLL_S, LOST_S = 5.0, 900.0
"""Between two looks at a job; for how long a lost connection is tried again."""

ENDED = {"Completed", "Failed", "Stopped"}

MADE = {
    "CreateTrainingJob": "training job",
    "CreateHyperParameterTuningJob": "search",
    "CreateTransformJob": "batch transform",
}
"""What a plan's last request makes."""

LAST_LOOKS = 3
"""At the log after the end: CloudWatch shows lines some seconds late."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants trained.

    data:            a folder or a label file here, or the folder's s3:// address
    pictures:        of label files: a folder here, or its s3:// address; empty where they are beside them or on S3
    name:            the job's name begins with it
    hyperparameters: what `sightline train` gets there
    files:           channel -> file that an option names, sent along
    """

    data: str
    name: str
    hyperparameters: Mapping[str, str]
    machines: Machines = Machines()  # noqa: RUF009  # frozen
    files: Mapping[str, Path] = field(default_factory=dict)
    image: str = ""
    role: str = ""
    bucket: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    own_tags: Mapping[str, str] = field(default_factory=dict)
    input_mode: str = "File"
    pictures: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be made, in order. Nothing of it is there yet.

    bucket:  to be made first; empty where it is there
    uploads: folder or file here -> its s3:// address
    """

    name: str
    bucket: str
    uploads: Mapping[Path, str]
    calls: tuple[Call, ...]
    own_tags: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What --dry-run shows."""
        return {
            "name": self.name,
            "creates": [*([f"s3://{self.bucket}"] if self.bucket else []), *(call.operation for call in self.calls)],
            "uploads": {str(here): there for here, there in self.uploads.items()},
            "requests": [call.as_dict() for call in self.calls],
            "warnings": list(self.warnings),
        }


def plan_training(
    account: Account, asked: Asked, environ: Mapping[str, str], moment: datetime, say: Say, *, longest: int = MAX_NAME
) -> Plan:
    """The job, checked in every way that costs nothing. longest: letters of its name.

    Raises:
        SightlineError: role, bucket, image or data cannot be used, or the request breaks the platform's limits; all of these
            that can be told together are.
    """
    bucket, there = find_bucket(account, asked.bucket, environ, say)
    role = find_role(account, asked.role, environ, say)
    tag = sightline.__version__
    image = find_image(account, asked.image, IMAGE_VARIABLE, environ, REPOSITORY, tag)
    name = unique_name(asked.name, moment, longest)
    uploads = {path: f"s3://{bucket}/{PREFIX}jobs/{name}/{channel}/{path.name}" for channel, path in asked.files.items()}
    channels = {channel: f"s3://{bucket}/{PREFIX}jobs/{name}/{channel}/" for channel in asked.files}
    for channel, given in ((DATA_CHANNEL, asked.data), (PICTURES_CHANNEL, asked.pictures)):
        if is_remote(given):
            require_data(account, given)
            channels[channel] = given if given.endswith("/") else f"{given}/"
        elif given:
            path = Path(given)
            channels[channel] = f"s3://{bucket}/{PREFIX}data/{data_name(account, path)}/"
            uploads = {path: f"{channels[channel]}{path.name if path.is_file() else ''}", **uploads}
    surroundings = Surroundings(role, asked.subnets, asked.security_groups, asked.kms_key, asked.own_tags)
    request = training_request(
        name,
        image,
        dict(sorted(channels.items())),
        f"s3://{bucket}/{PREFIX}jobs/",
        asked.hyperparameters,
        asked.machines,
        surroundings,
        input_mode=asked.input_mode,
    )
    call = Call("sagemaker", "CreateTrainingJob", request)
    warnings = (*require_valid([call]), *rules.notes_of_key(asked.kms_key, asked.machines.instance_type))
    return Plan(name, "" if there else bucket, uploads, (call,), asked.own_tags, warnings)


def data_name(account: Account, folder: Path) -> str:
    """Where the copy of a folder or file lies: the same for the same person, so that only what changed is sent again."""
    whole = folder.resolve()
    digest = hashlib.sha256(f"{account.caller}\n{whole}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{whole.name}-{digest}"


def require_data(account: Account, address: str) -> None:
    """Nothing, if something lies below the address, in a bucket of this region.

    Raises:
        SightlineError: nothing does, or the bucket is elsewhere.
    """
    from sightline.s3 import listing
    from sightline.s3.address import parse

    prefix = parse(address).as_folder()
    if prefix.bucket != account.default_bucket:
        region_of(account, prefix.bucket)
    if next(iter(listing.below(store(), prefix)), None) is None:
        hint = listing.near(store(), prefix)
        raise SightlineError(address, "holds nothing", hint or "Check the address.")


def region_of(account: Account, bucket: str) -> None:
    """Nothing, if the bucket is in the job's region. It may be somebody else's, who lets us read."""
    try:
        bucket_here(account, bucket, "--data")
    except SightlineError as error:
        if "another account" not in error.what:
            raise


def submit(account: Account, plan: Plan, say: Say) -> None:
    """Make what the plan says: bucket, uploads, job. Done again, it sends only what changed.

    Raises:
        SightlineError, RunError: what could not be made; everything before it stays and is used by the next call.
    """
    send_files(account, plan.bucket, plan.own_tags, plan.uploads, say)
    for call in plan.calls:
        send_call(account, call, plan.name)
    say(f"{MADE.get(plan.calls[-1].operation, 'job')} {plan.name}")


def send_files(account: Account, bucket: str, own_tags: Mapping[str, str], uploads: Mapping[Path, str], say: Say) -> None:
    """Make the bucket, if one is to be made, and send what a plan uploads: {file or folder here: s3:// address}."""
    if bucket:
        make_bucket(account, bucket, own_tags)
        say(f"made s3://{bucket}")
    for here, there in uploads.items():
        upload(here, there)


def upload(here: Path, there: str) -> None:
    """A file or a folder, as far as it changed."""
    from sightline.s3 import address, uploads

    target = address.parse(there)
    if here.is_dir():
        uploads.upload_folder(store(), here, target)
    elif not uploads.unchanged(store(), {target: here}):
        uploads.upload(store(), {target: here})


def send_call(account: Account, call: Call, where: str) -> Any:
    """One planned request, sent."""
    from botocore import xform_name

    method = getattr(account.client(call.service), xform_name(call.operation))
    return send(method, where, f"{call.service}:{call.operation}", **call.request)


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as the platform tells it now.

    phase:    what it is doing: Starting, Downloading, Training, Interrupted, ...; said: what the platform says about that
    archive:  s3:// address of model.tar.gz; empty before there is one
    output:   s3:// folder of what else it leaves
    """

    name: str
    status: str
    phase: str
    said: str
    reason: str
    billable_s: int
    used_s: int
    machines: Machines
    archive: str
    output: str
    scores: Mapping[str, float]

    @property
    def over(self) -> bool:
        return self.status in ENDED

    def cost(self, price_usd_hour: float | None = None, priced_as: str = "") -> Cost:
        of = self.machines
        return Cost(self.billable_s, self.used_s, of.count, of.instance_type, of.spot, price_usd_hour, priced_as)

    def as_dict(self, cost: Cost) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "phase": self.phase,
            "reason": self.reason,
            "model": self.archive,
            "metrics": dict(self.scores),
            **cost.as_dict(),
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.status}" + (f" ({self.phase}: {self.said})" if not self.over and self.said else "")]
        lines += [f"  {self.reason}"] if self.reason else []
        lines += [f"  {name}: {value:.4g}" for name, value in self.scores.items()]
        return "\n".join([*lines, *([f"  {self.archive}"] if self.archive else [])])


def describe(account: Account, name: str) -> Job:
    """The job as it is now.

    Raises:
        SightlineError, RunError: there is none of this name here, or AWS cannot be asked.
    """
    client = account.client("sagemaker")
    try:
        return job_of(client.describe_training_job(TrainingJobName=name))
    except Exception as error:
        if is_missing(error):
            what = f"is no training job of account {account.id} in {account.region}"
            raise SightlineError(name, what, "Check the name and AWS_REGION.") from error
        raise failure(error, name, "sagemaker:DescribeTrainingJob") from error


def job_of(answer: Mapping[str, Any]) -> Job:
    """The platform's answer as a job; fields that come only later may be missing."""
    resources, stopping = answer.get("ResourceConfig", {}), answer.get("StoppingCondition", {})
    transitions = answer.get("SecondaryStatusTransitions") or [{}]
    machines = Machines(
        instance_type=resources.get("InstanceType", ""),
        count=resources.get("InstanceCount", 1),
        volume_gb=resources.get("VolumeSizeInGB", 0),
        spot=bool(answer.get("EnableManagedSpotTraining")),
        max_runtime_s=stopping.get("MaxRuntimeInSeconds", 0),
        max_wait_s=stopping.get("MaxWaitTimeInSeconds"),
        keep_alive_s=resources.get("KeepAlivePeriodInSeconds", 0),
    )
    used_s = int(answer.get("TrainingTimeInSeconds") or 0)
    return Job(
        name=answer["TrainingJobName"],
        status=answer["TrainingJobStatus"],
        phase=answer.get("SecondaryStatus", ""),
        said=str(transitions[-1].get("StatusMessage") or ""),
        reason=str(answer.get("FailureReason") or ""),
        billable_s=int(answer.get("BillableTimeInSeconds") or used_s),
        used_s=used_s,
        machines=machines,
        archive=str(answer.get("ModelArtifacts", {}).get("S3ModelArtifacts") or ""),
        output=str(answer.get("OutputDataConfig", {}).get("S3OutputPath") or ""),
        scores={str(one["MetricName"]): float(one["Value"]) for one in answer.get("FinalMetricDataList") or ()},
    )


def follow(
    account: Account,
    name: str,
    say: Say,
    show: Callable[[Line], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Job:
    """Show every new line of the log and say every change, until the job is over.

    Raises:
        SightlineError, RunError: the connection stays lost, the credentials expire; the job goes on all the same.
    """
    job = describe(account, name)
    tail = Tail(account.client("logs"), TRAINING, f"{name}/", hosts=job.machines.count > 1)
    told, lost_s, looks = "", 0.0, 0
    while True:
        try:
            job = job_of(account.client("sagemaker").describe_training_job(TrainingJobName=name))
            news = f"{job.phase}: {job.said}" if job.said else job.phase
            if news != told:
                say(news)
                told = news
            for line in tail.new():
                show(line)
        except Exception as error:
            lost_s = still_lost(error, name, lost_s, say)
        else:
            lost_s = 0.0
            if job.over and (looks := looks + 1) > LAST_LOOKS:
                return job
        sleep(POLL_S)


def still_lost(error: Exception, name: str, lost_s: float, say: Say, action: str = "logs:GetLogEvents") -> float:
    """Seconds for which there is no connection, with this try.

    Raises:
        SightlineError, RunError: it is another error, or too long; with the way to go on.
    """
    again = f"The job goes on; follow it again: sightline cloud logs {name}"
    if not is_lost(error):
        told = failure(error, name, action)
        raise type(told)(told.where, told.what, f"{told.fix} {again}") from error
    if lost_s >= LOST_S:
        raise RunError(name, f"AWS cannot be reached for {lost_s:.0f} s", again) from error
    if not lost_s:
        say(f"the connection to AWS is lost ({type(error).__name__}), trying again")
    return lost_s + POLL_S


def read_log(account: Account, name: str, show: Callable[[Line], None], group: str = TRAINING) -> None:
    """All lines that are there.

    Raises:
        SightlineError, RunError: there is no such job, or its log may not be read.
    """
    hosts = group == TRAINING and describe(account, name).machines.count > 1
    try:
        for line in Tail(account.client("logs"), group, f"{name}/", hosts=hosts).new():
            show(line)
    except Exception as error:
        raise failure(error, name, "logs:GetLogEvents") from error


def stop(account: Account, name: str) -> Job:
    """Ask a job to save and end; one that is over stays as it is.

    Raises:
        SightlineError, RunError: there is no such job, or it may not be stopped.
    """
    job = describe(account, name)
    if not job.over:
        send(account.client("sagemaker").stop_training_job, name, "sagemaker:StopTrainingJob", TrainingJobName=name)
    return job


def require_success(job: Job) -> None:
    """Nothing, if the job completed.

    Raises:
        RunError: it did not, with its own words for why.
    """
    if job.status != "Completed":
        raise job_failure(job.name, job.phase if job.phase.startswith("Max") else job.status, job.reason)
