"""On whose behalf: credentials, region, account, role and bucket, all looked at before anything is made.

Everything here only reads, except `make_bucket`.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.cloud.failures import LOGIN, code_of, failure, is_denied, is_missing, send, told_by
from sightline.cloud.naming import tags
from sightline.errors import Problem, SightlineError, nearest
from sightline.optional import require

ROLE_VARIABLE, BUCKET_VARIABLE = "SIGHTLINE_CLOUD_ROLE", "SIGHTLINE_CLOUD_BUCKET"

ATTEMPTS = 8
"""Of every request; the pauses grow to 20 s, and slow down all that follow while AWS throttles (botocore's adaptive mode)."""

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60

SERVICE = "sagemaker.amazonaws.com"
"""Whom a role has to trust."""

ROLE_NAMES = re.compile(r"sightline|sagemaker-?executionrole", re.IGNORECASE)
"""Roles that are taken without being named, where there is exactly one that SageMaker may assume."""

ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]+)")

ECR_IMAGE = re.compile(
    r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)(?::([^@]+)|@(sha256:[0-9a-f]{64}))?"
)
"""Account, region, repository, and tag or digest."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Somebody who is logged in. id: 12 digits; caller: their ARN; client: a service's name -> boto3's client."""

    id: str
    region: str
    partition: str
    caller: str
    client: Callable[[str], Any]

    @property
    def default_bucket(self) -> str:
        """`sagemaker` is in it because the roles that SageMaker's console makes can read such buckets only."""
        return f"sightline-sagemaker-{self.region}-{self.id}"

    def registry(self) -> str:
        """Host of the account's images."""
        return f"{self.id}.dkr.ecr.{self.region}.amazonaws.com{'.cn' if self.partition == 'aws-cn' else ''}"


def open_account(environ: Mapping[str, str]) -> Account:
    """The account of the environment's credentials, told by AWS itself.

    Raises:
        MissingDependencyError: boto3 is not installed.
        SightlineError: no region with SageMaker and no credentials, told together; or credentials that are not accepted.
    """
    boto3 = require("boto3", "aws", "sightline cloud")
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.session.Session(region_name=environ.get("AWS_REGION") or None)
        client = clients(session, environ)
        region = session.region_name
        problems = [*region_problems(session)]
        if session.get_credentials() is None:
            problems.append(Problem("AWS", "there are no AWS credentials", LOGIN))
        if problems:
            raise SightlineError.collected(problems)
        partition = session.get_partition_for_region(region)
        caller = send(client("sts").get_caller_identity, "AWS", "sts:GetCallerIdentity")
    except (BotoCoreError, ValueError) as error:
        raise failure(error, "AWS", "sts:GetCallerIdentity") from error
    return Account(caller["Account"], region, partition, caller["Arn"], client)


def region_problems(session: Any) -> Iterator[Problem]:
    """What is wrong with the region of boto3's session."""
    region = session.region_name
    if not region:
        yield Problem("AWS_REGION", "is not set", "Set AWS_REGION, or a region in ~/.aws/config.")
        return
    known = session.get_available_regions("sagemaker", partition_name=session.get_partition_for_region(region))
    if known and region not in known:
        yield Problem("AWS_REGION", f"is {region!r}, where there is no SageMaker", nearest(region, sorted(known)))


def clients(session: Any, environ: Mapping[str, str]) -> Callable[[str], Any]:
    """A service's name -> its client, made once."""
    from botocore.config import Config

    retries = {} if "AWS_MAX_ATTEMPTS" in environ else {"retries": {"mode": "adaptive", "max_attempts": ATTEMPTS}}
    config = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, **retries)

    @functools.cache
    def client(service: str) -> Any:
        return session.client(service, config=config)

    return client


def find_role(account: Account, given: str, environ: Mapping[str, str], say: Say) -> str:
    """The ARN of the role that jobs run as: the one named, else the environment's, the caller's own, or the only suitable one.

    Raises:
        SightlineError: there is none, several, or one that SageMaker cannot assume.
    """
    wanted = given or environ.get(ROLE_VARIABLE, "")
    arn = ROLE_ARN.fullmatch(wanted)
    if wanted.startswith("arn:") and arn is None:
        raise SightlineError("--role", f"{wanted!r} is no ARN of a role", "Give arn:aws:iam::ACCOUNT:role/NAME, or its name.")
    if arn is not None and arn[1] != account.id:
        what = f"{wanted} is in account {arn[1]}, and you are logged in to {account.id}"
        raise SightlineError("--role", what, "Give a role of this account, or log in to the other.")
    if wanted:
        return named_role(account, arn[2] if arn else wanted, wanted if arn else "", say)
    own = re.fullmatch(r"arn:aws[a-z-]*:sts::\d{12}:assumed-role/([^/]+)/.*", account.caller)
    if own and ROLE_NAMES.search(own[1]):  # in a notebook of SageMaker's
        return named_role(account, own[1], "", say)
    return only_role(account, say)


def named_role(account: Account, name: str, arn: str, say: Say) -> str:
    """The role's ARN; looked up where that is allowed. arn: empty where only the name is known."""
    try:
        role = account.client("iam").get_role(RoleName=name)["Role"]
    except Exception as error:
        if arn and is_denied(error):
            say(f"note: the role {name} could not be looked at (iam:GetRole is not allowed); it is taken as it is")
            return arn
        if is_missing(error):
            what = f"there is no role {name!r} in account {account.id}"
            raise SightlineError("--role", what, "Check the name, or make one: sightline cloud policy role") from error
        raise failure(error, f"the role {name}", "iam:GetRole") from error
    if not trusted(role):
        what = f"SageMaker may not assume {role['Arn']}"
        raise SightlineError("--role", what, f"Let its trust policy allow sts:AssumeRole for the service {SERVICE}.")
    return str(role["Arn"])


def only_role(account: Account, say: Say) -> str:
    """The one role of a usual name that SageMaker may assume."""
    found: list[str] = []
    try:
        for page in account.client("iam").get_paginator("list_roles").paginate():
            found += [str(role["Arn"]) for role in page["Roles"] if ROLE_NAMES.search(role["RoleName"]) and trusted(role)]
    except Exception as error:
        if is_denied(error):
            raise SightlineError(
                "--role", "is not given, and roles may not be listed (iam:ListRoles)", "Give --role."
            ) from error
        raise failure(error, "the account's roles", "iam:ListRoles") from error
    if len(found) == 1:
        say(f"role: {found[0]}")
        return found[0]
    if found:
        raise SightlineError("--role", f"is not given, and {len(found)} would do: {', '.join(found)}", "Give one of them.")
    what = f"is not given, and account {account.id} has none for SageMaker"
    raise SightlineError("--role", what, "Make one, `sightline cloud policy role` prints how, and give it with --role.")


def trusted(role: Mapping[str, Any]) -> bool:
    """Whether SageMaker may assume the role."""
    policy = role.get("AssumeRolePolicyDocument", {})
    document = json.loads(policy) if isinstance(policy, str) else policy
    statements = document.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, Mapping) else []
        if statement.get("Effect") == "Allow" and SERVICE in ([services] if isinstance(services, str) else services):
            return True
    return False


def find_bucket(account: Account, given: str, environ: Mapping[str, str], say: Say) -> tuple[str, bool]:
    """(bucket, whether it is there) for data and results: the one named, the environment's, or the account's own.

    Raises:
        SightlineError: it is another account's, in another region, or it was named and is not there.
    """
    wanted = given.removeprefix("s3://").rstrip("/") or environ.get(BUCKET_VARIABLE, "")
    name = wanted or account.default_bucket
    there = bucket_here(account, name, "--bucket")
    if wanted and not there:
        raise SightlineError("--bucket", f"there is no bucket {name!r}", "Create it, or leave it out for one of Sightline's.")
    if wanted and "sagemaker" not in name.lower():
        say(
            f"note: the role has to be allowed to read and write {name}; roles that SageMaker's console made"
            " know only buckets with 'sagemaker' in their name"
        )
    return name, there


def bucket_here(account: Account, name: str, where: str) -> bool:
    """Whether there is this bucket, of this account and in this region.

    Raises:
        SightlineError: it is another account's, or in another region.
    """
    s3 = account.client("s3")
    try:
        answer = s3.head_bucket(Bucket=name, ExpectedBucketOwner=account.id)
    except Exception as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return False
        region = header(error, "x-amz-bucket-region")
        if region and region != account.region:
            raise elsewhere(where, name, region, account) from error
        if is_denied(error):
            what = f"{name!r} belongs to another account, or these credentials may not look at it (s3:ListBucket)"
            fix = f"Give a bucket of account {account.id}, or allow s3:ListBucket on it."
            raise SightlineError(where, what, fix) from error
        raise failure(error, f"s3://{name}", "s3:ListBucket") from error
    region = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    if region and region != account.region:
        raise elsewhere(where, name, region, account)
    return True


def header(error: Exception, name: str) -> str:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))


def elsewhere(where: str, name: str, region: str, account: Account) -> SightlineError:
    what = f"{name!r} is in {region}, and the job would run in {account.region}"
    return SightlineError(where, what, f"Set AWS_REGION={region}, or take a bucket in {account.region}.")


def make_bucket(account: Account, name: str, own_tags: Mapping[str, str]) -> None:
    """The account's bucket for Sightline: closed to the public, tagged. One that is ours already is left as it is."""
    s3, where = account.client("s3"), f"s3://{name}"
    place = {} if account.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
    try:
        s3.create_bucket(Bucket=name, **place)
    except Exception as error:
        if code_of(error) != "BucketAlreadyOwnedByYou":
            if code_of(error) == "BucketAlreadyExists":
                what = "another account has a bucket of this name"
                raise SightlineError(where, what, "Give one of yours with --bucket.") from error
            raise failure(error, where, "s3:CreateBucket") from error
        return
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    block, tagging = {"PublicAccessBlockConfiguration": closed}, {"Tagging": {"TagSet": tags("bucket", own_tags)}}
    send(s3.put_public_access_block, where, "s3:PutBucketPublicAccessBlock", Bucket=name, **block)
    send(s3.put_bucket_tagging, where, "s3:PutBucketTagging", Bucket=name, **tagging)


def find_image(account: Account, given: str, variable: str, environ: Mapping[str, str], repository: str, tag: str) -> str:
    """The container's address: the one given, the environment's, or `repository:tag` of the account.

    Raises:
        SightlineError: the account's registry does not have it.
    """
    image = given or environ.get(variable, "") or f"{account.registry()}/{repository}:{tag}"
    found = ECR_IMAGE.fullmatch(image)
    if found is None:
        fix = "Push it to ECR first, which SageMaker reads: sightline cloud image push, or docker push."
        raise SightlineError("--image", f"{image!r} is no image in ECR", fix)
    owner, region, name, wanted_tag, digest = found.groups()
    if region != account.region:
        fix = f"Push it to {account.region}, or set AWS_REGION={region}."
        raise SightlineError("--image", f"{image!r} is in {region}, and the job would run in {account.region}", fix)
    if owner != account.id:  # AWS's own images, for one; who may pull them shows only there
        return image
    wanted = {"imageDigest": digest} if digest else {"imageTag": wanted_tag or "latest"}
    try:
        account.client("ecr").describe_images(repositoryName=name, imageIds=[wanted])
    except Exception as error:
        if is_missing(error):
            fix = "Build and push it (sightline cloud image build, sightline cloud image push), or give another with --image."
            raise SightlineError("--image", f"there is no {image} ({told_by(error)})", fix) from error
        if not is_denied(error):
            raise failure(error, image, "ecr:DescribeImages") from error
    return image
