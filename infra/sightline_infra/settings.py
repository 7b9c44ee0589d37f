"""What somebody wants, read from the CDK's context once and checked as a whole before anything is synthesised.

The names are those of the options of `sightline cloud deploy` and `sightline cloud template`: `-c name=parts -c scale=1,4`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches

from sightline_infra.known import MACHINES, TRAINING_MACHINES, hyperparameter_problems, machine_warnings

ECR_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::[^@]+|@sha256:[0-9a-f]{64})?")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(rf"s3://{BUCKET.pattern}/.+")
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
MACHINE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")
GPU_MACHINE = re.compile(r"ml\.(p|g|gr)\d")
LOCAL_DISKS = re.compile(r"ml\.(g4dn|g5|g6|g6e|g7e?|gr6|p3dn|p4de?|p5\w*|p6\w*|dl1|trn\w+|[cmr]\d[a-z]*d[a-z]*)\.")
"""Machines with disks of their own, whose hardware encrypts them: SageMaker takes no key for those."""

HOSTS = (
    ((12, 2), "al2-ami-sagemaker-inference-gpu-2-1"),
    ((12, 4), "al2-ami-sagemaker-inference-gpu-3-1"),
    ((13, 99), "al2023-ami-sagemaker-inference-gpu-4-1"),
)
"""Newest CUDA of an image -> host image with a driver for it; the driver of the last one, 580, runs all of CUDA 13."""

FRONTS = {"iam": "AWS_IAM", "open": "NONE"}
"""Who may ask the HTTP API: whoever signs with rights to it, or everybody."""

METRICS = ("model-bbox-AP", "model-bbox-AP50", "model-segm-AP")
"""What a gate can look at: scores of the finished model on its test part."""

MAX_JOB_NAME = 63 - 37
"""Letters of an endpoint's name in a pipeline: its training jobs are called NAME-UUID."""

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0", "")

Problem = str


class SettingsError(Exception):
    """Everything that is wrong with the settings; nothing was synthesised."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """The stacks that are wanted, and how. Every field is a key of the context, with `-` for `_`.

    storage:        make bucket and registries
    bundle:         s3://.../model.tar.gz: make the endpoint stack for it
    manifests:      s3:// folder where labelling jobs leave theirs: make the pipeline stack
    name:           of the endpoint; of the stacks, too
    serverless:     MB of memory, instead of machines
    async_:         pictures and answers go through S3 (`-c async=true`)
    scale:          (least, most) machines; None: always `instance_count`
    capture:        percent of requests and answers that are kept
    cuda:           of the image, as 12.4: chooses the host's driver
    max_latency:    seconds; slower answers after an update take it back
    http:           `iam` or `open`: an HTTP API in front
    bucket:         for captured data, answers and trainings; empty: the storage stack's (endpoint: the bundle's)
    keep_days:      until captured data and asynchronous answers are deleted from the storage stack's bucket
    expire:         the endpoints that this is for; empty: `name`
    pictures:       s3:// folders that the manifests' pictures lie in; empty: anywhere in the manifests' bucket
    hyperparameters: of `sightline train`, as epochs=20,config=r50
    metric, min_ap: what the gate looks at, and how much of it a model needs to be deployed
    must_beat:      it also has to reach what the present model had when it was deployed
    """

    name: str = "sightline"
    storage: bool = True
    bundle: str = ""
    manifests: str = ""
    instance_type: str = ""
    instance_count: int = 1
    serverless: int = 0
    concurrency: int = 5
    async_: bool = False
    scale: tuple[int, int] | None = None
    per_minute: float = 60.0
    capture: int = 0
    cuda: str = ""
    max_latency: float = 10.0
    http: str = ""
    image: str = ""
    bucket: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    keep_days: int = 90
    expire: tuple[str, ...] = ()
    train_image: str = ""
    train_instance_type: str = "ml.g5.xlarge"
    train_volume: int = 50
    train_max_runtime: int = 86_400
    spot: bool = False
    pictures: tuple[str, ...] = ()
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    metric: str = "model-bbox-AP"
    min_ap: float = 0.0
    must_beat: bool = True

    @property
    def ami(self) -> str:
        """The host image for the image's CUDA; empty: the platform's default."""
        found = re.fullmatch(r"(\d+)\.(\d+)", self.cuda)
        wanted = (int(found[1]), int(found[2])) if found else (0, 0)
        return next((ami for cuda, ami in HOSTS if cuda >= wanted), "") if found else ""


BUCKET_OF_STORAGE = "sightline-sagemaker-${AWS::Region}-${AWS::AccountId}"
"""The storage stack's: `sightline cloud` looks for its data there without being told."""


def read(context: Callable[[str], object]) -> Settings:
    """The settings of a context (`app.node.try_get_context`).

    Raises:
        SettingsError: values of a wrong kind, and everything that contradicts each other.
    """
    found: dict[str, object] = {}
    problems: list[Problem] = []
    for one in fields(Settings):
        key = key_of(one.name)
        given = context(key)
        if given is None:
            continue
        try:
            found[one.name] = READERS[one.type][0](given)
        except (TypeError, ValueError, KeyError):
            problems.append(f"{key}: is {given!r}. Give {READERS[one.type][1]}.")
    if problems:
        raise SettingsError(problems)
    settings = Settings(**found)  # type: ignore[arg-type]
    problems = list(contradictions(settings))
    if problems:
        raise SettingsError(problems)
    return settings


def key_of(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def require_known(given: Mapping[str, object]) -> None:
    """Nothing, if every key of ours in a context is one that there is: `-c instnace-type=...` must not do nothing.

    Raises:
        SettingsError: some are not.
    """
    known = [key_of(one.name) for one in fields(Settings)] + ["check"]
    problems = []
    for key in given:
        if ":" not in key and key not in known:  # aws:cdk:... and @aws-cdk/...: are the CDK's own
            near = get_close_matches(key, known, n=1)
            problems.append(f"{key}: is no setting. " + (f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."))
    if problems:
        raise SettingsError(problems)


def switch(given: object) -> bool:
    text = str(given).strip().lower()
    return {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}[text]


def listed(given: object) -> tuple[str, ...]:
    parts = given if isinstance(given, list) else str(given).split(",")
    return tuple(part for part in (str(one).strip() for one in parts) if part)


def pair(given: object) -> tuple[int, int]:
    least, most = listed(given)
    return int(least), int(most)


def pairs(given: object) -> dict[str, str]:
    """`a=1,b=2`, a JSON object, or one of cdk.json."""
    if isinstance(given, str) and given.lstrip().startswith("{"):
        given = json.loads(given)
    if isinstance(given, Mapping):
        return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    split = [part.partition("=") for part in listed(given)]
    if any(not equals or not key for key, equals, _ in split):
        raise ValueError(given)
    return {key: value for key, _, value in split}


READERS: Mapping[object, tuple[Callable[[object], object], str]] = {
    str: (str, "a text"),
    bool: (switch, "true or false"),
    int: (lambda given: int(str(given)), "a whole number"),
    float: (lambda given: float(str(given)), "a number"),
    tuple[str, ...]: (listed, "A,B,..."),
    tuple[int, int] | None: (pair, "LEAST,MOST"),
    Mapping[str, str]: (pairs, "KEY=VALUE,..."),
}
"""Type of a field -> (how its text is read, what to give)."""


def contradictions(given: Settings) -> Iterator[Problem]:
    """What cannot be made, in one sentence each with the way out."""
    if not NAME.fullmatch(given.name):
        yield f"name: is {given.name!r}. Give at most 63 letters, digits and single hyphens."
    if not (given.storage or given.bundle or given.manifests):
        yield "storage, bundle, manifests: nothing is wanted. Give a bundle or manifests, or leave storage on."
    if given.bundle:
        yield from bundle_problems(given)
    if given.manifests:
        yield from pipeline_problems(given)
    if given.bucket and (fault := bucket_fault(f"s3://{given.bucket.removeprefix('s3://')}")):
        yield f"bucket: is {given.bucket!r}{fault}. Give the name of a bucket."
    if given.bundle or given.manifests:
        yield from machine_problems(given)
        yield from serverless_problems(given)
        yield from other_problems(given)


def warnings_of(given: Settings) -> list[str]:
    """What is odd, and may be right."""
    trained = given.train_instance_type if given.manifests else ""
    return [
        *machine_warnings("instance-type", given.instance_type, MACHINES),
        *machine_warnings("train-instance-type", trained, (*MACHINES, *TRAINING_MACHINES)),
    ]


def bucket_fault(address: str) -> str:
    """What is wrong with the bucket's name of an s3:// address, for the middle of a sentence; empty where that is not it."""
    name = address.removeprefix("s3://").partition("/")[0]
    if not address.startswith("s3://") or not name or BUCKET.fullmatch(name):
        return ""
    if name != name.lower():
        what = "has capitals"
    elif not 3 <= len(name) <= 63:
        what = f"has {len(name)} characters, and can have 3 to 63"
    else:
        what = "has others than letters, digits, dots and hyphens, or begins or ends with one that is neither letter nor digit"
    return f", and the bucket's name {name!r} {what}"


def bundle_problems(given: Settings) -> Iterator[Problem]:
    if not ADDRESS.fullmatch(given.bundle) or not given.bundle.endswith(".tar.gz"):
        yield f"bundle: is {given.bundle!r}{bucket_fault(given.bundle)}. Give the s3://BUCKET/.../model.tar.gz of a bundle."
    if given.manifests:
        yield "bundle: is given with manifests, and the pipeline makes the endpoint itself. Leave out one, or use another name."


def pipeline_problems(given: Settings) -> Iterator[Problem]:
    if not ADDRESS.fullmatch(f"{given.manifests.rstrip('/')}/x"):
        yield f"manifests: is {given.manifests!r}{bucket_fault(given.manifests)}. Give s3://BUCKET or s3://BUCKET/FOLDER/."
    for folder in given.pictures:
        if not ADDRESS.fullmatch(f"{folder.rstrip('/')}/x"):
            yield f"pictures: is {folder!r}{bucket_fault(folder)}. Give s3://BUCKET/FOLDER/,..."
    if len(given.name) > MAX_JOB_NAME:
        yield f"name: has {len(given.name)} letters. Give at most {MAX_JOB_NAME}: trainings are called NAME-UUID."
    if not 0 <= given.min_ap <= 1:
        yield f"min-ap: is {given.min_ap:g}. AP is between 0 and 1."
    if not MACHINE.fullmatch(given.train_instance_type):
        yield f"train-instance-type: is {given.train_instance_type!r}. Give one of SageMaker's, as ml.g5.xlarge."
    if given.train_image and not ECR_IMAGE.fullmatch(given.train_image):
        yield f"train-image: {given.train_image!r} is no image in ECR. Push it there first: sightline cloud image push."
    if not 1 <= given.train_max_runtime <= 28 * 86_400:
        yield f"train-max-runtime: is {given.train_max_runtime:,} s. Give 1 to {28 * 86_400:,}, which are 28 days."
    if given.train_volume < 1:
        yield f"train-volume: is {given.train_volume}. Give at least 1 GB."
    if given.metric not in METRICS:
        yield f"metric: is {given.metric!r}. Give {', '.join(METRICS)}."
    yield from hyperparameter_problems(given.hyperparameters)


def machine_problems(given: Settings) -> Iterator[Problem]:
    machine = given.instance_type
    if machine and given.serverless:
        more = ", which has a GPU, and serverless endpoints have none" if GPU_MACHINE.match(machine) else ""
        yield f"serverless: is given with instance-type={machine}{more}. Give one of the two."
    if not machine and not given.serverless:
        yield "instance-type: is not given, and serverless neither. Give instance-type=ml.g5.xlarge or serverless=4096."
    if machine and not MACHINE.fullmatch(machine):
        yield f"instance-type: is {machine!r}. Give one of SageMaker's, as ml.g5.xlarge."
    if given.cuda and not given.ami:
        yield f"cuda: is {given.cuda!r}. Give the version of CUDA in the image, up to 13.x, as 12.4."
    if given.cuda and machine and not GPU_MACHINE.match(machine):
        yield f"cuda: is given, and {machine} has no GPU. Leave it out."
    if given.kms_key and LOCAL_DISKS.match(machine):
        yield f"kms-key: {machine} has disks of its own, which its hardware encrypts, and then takes no key. Leave it out."
    if given.instance_count < 1:
        yield f"instance-count: is {given.instance_count}. Give at least 1."
    if given.scale is not None and not 0 <= given.scale[0] <= given.scale[1]:
        yield f"scale: is {given.scale[0]},{given.scale[1]}. Give LEAST,MOST with the smaller number first."
    if given.scale is not None and given.scale[0] == 0 and not given.async_:
        yield "scale: is from 0, and only asynchronous endpoints can have no machine at all. Begin with 1."


def serverless_problems(given: Settings) -> Iterator[Problem]:
    if not given.serverless:
        return
    if given.serverless % 1024 or not 1024 <= given.serverless <= 6144:
        yield f"serverless: is {given.serverless}. Give 1024, 2048, 3072, 4096, 5120 or 6144 MB."
    if not 1 <= given.concurrency <= 200:
        yield f"concurrency: is {given.concurrency}. Give 1 to 200."
    cannot: dict[str, tuple[object, str]] = {
        "async": (given.async_, "serverless endpoints answer at once"),
        "capture": (given.capture, "serverless endpoints capture no data"),
        "scale": (given.scale, "serverless endpoints scale by themselves"),
        "subnets": (given.subnets, "serverless endpoints are in no VPC"),
        "kms-key": (given.kms_key, "it encrypts disks of machines, and there are none"),
        "cuda": (given.cuda, "serverless endpoints have no GPU"),
    }
    for key, (value, why) in cannot.items():
        if value:
            yield f"{key}: {why}. Leave it out, or give an instance-type instead of serverless."


def other_problems(given: Settings) -> Iterator[Problem]:
    if not 0 <= given.capture <= 100:
        yield f"capture: is {given.capture}. Give a percentage, 1 to 100."
    if bool(given.subnets) != bool(given.security_groups):
        yield "subnets, security-groups: are given alone. Give both, or neither."
    if given.image and not ECR_IMAGE.fullmatch(given.image):
        yield f"image: {given.image!r} is no image in ECR. Push it there first: sightline cloud image push."
    if given.http and given.http not in FRONTS:
        yield f"http: is {given.http!r}. Give iam or open."
    if given.http and given.async_:
        yield "http: answers at once, and an asynchronous endpoint later, on S3. Leave out one of the two."
    if not 0 < given.max_latency <= 60:
        yield f"max-latency: is {given.max_latency:g} s. Give more than 0, and at most the 60 s of an answer."
    if given.per_minute < 1:
        yield f"per-minute: is {given.per_minute:g}. Give at least 1 request a minute."
    if given.keep_days < 1:
        yield f"keep-days: is {given.keep_days}. Give at least 1."
    for key in given.tags:
        if key.lower().startswith(("aws:", "sightline:")):
            yield f"tags: the key {key!r} is reserved. Choose another."
