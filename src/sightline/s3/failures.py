"""What S3 and boto3 complain about, as where, what and how to fix it.

Some failures concern one key, and the others can go on; some end everything (no credentials, no network, no such bucket).
"""

import errno
import re
from dataclasses import dataclass
from typing import Any

from sightline.errors import Problem, RunError, SightlineError
from sightline.s3.address import Address
from sightline.s3.connection import ANONYMOUS, REQUESTER_PAYS, Settings

LOGIN = f"Log in (aws configure, aws sso login), set AWS_PROFILE, or, for a public bucket, {ANONYMOUS}=1."

DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess"})
ELSEWHERE = frozenset({"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
BUSY = frozenset({"SlowDown", "503", "500", "InternalError", "ServiceUnavailable", "RequestTimeout", "502", "504"})

REFUSED = ("S3 does not accept the AWS credentials", "Check AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE.")
EXPIRED = ("the AWS credentials have expired", "Log in again.")

ENDING = {
    "NoSuchBucket": ("there is no such bucket", "Check its name, and the account or endpoint that you use."),
    "InvalidBucketName": ("there can be no bucket of this name", "Give s3://BUCKET/KEY."),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "Set the clock."),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"), REFUSED),
}
"""Answers that every other key would get, too: what they mean and how to go on."""


QUOTING = re.compile(r"x-amz-security-token|canonical string|string-to-sign|aws4-hmac|credential=", re.IGNORECASE)
"""In messages about signatures, which quote the request that was signed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """problem: for people; ends_all: no other key can succeed either; ours: the user asked for the impossible (exit code 2)."""

    problem: Problem
    ends_all: bool = False
    ours: bool = True
    missing: bool = False

    def error(self) -> SightlineError:
        kind = SightlineError if self.ours else RunError
        return kind.collected([self.problem])


def failure(error: Exception, address: Address, action: str, settings: Settings) -> Failure:
    """What `error` means that `action` (`s3:GetObject`, `s3:ListBucket`, `s3:PutObject`) on `address` met."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError

    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        error = error.__context__  # boto3 hides what S3 said in a sentence
    if isinstance(error, ClientError):
        return answered(error, address, action, settings)
    return unanswered(error, address)


def without_request(text: str) -> str:
    """What AWS says, in one line; empty where it quotes the request, in whose headers the credentials are."""
    return "" if QUOTING.search(text) else " ".join(text.split())


def code_of(error: Exception) -> str:
    """S3's word for it: NoSuchKey, 404, 304; empty for what is no answer of S3."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def answered(error: Exception, address: Address, action: str, settings: Settings) -> Failure:
    """Failures that the server itself tells."""
    response: dict[str, Any] = getattr(error, "response", {})
    code, told = code_of(error), without_request(str(response.get("Error", {}).get("Message", "")))
    where = str(address)
    if code in ENDING:
        what, fix = ENDING[code]
        return Failure(Problem(where, f"{what} ({code})", fix), ends_all=True)
    if code in MISSING:
        return Failure(Problem(where, "does not exist", "Check the key; it is taken literally."), missing=True)
    if code in DENIED:
        return Failure(denied(where, action, told, settings))
    if code in ELSEWHERE:
        return Failure(elsewhere(response, address, told), ends_all=True)
    if code in BUSY:
        what = f"S3 answers {code} again and again"
        return Failure(Problem(where, what, "Try again later; what is fetched is kept."), ours=False)
    what = f"S3 answers {code} ({told})" if told else f"S3 answers {code}"
    fix = "Restore it first." if code == "InvalidObjectState" else f"Check the address and the permission {action}."
    return Failure(Problem(where, what, fix))


def denied(where: str, action: str, told: str, settings: Settings) -> Problem:
    fix = f"Allow {action} on it for these credentials"
    if action == "s3:GetObject":
        fix += ", and kms:Decrypt if it is encrypted; without s3:ListBucket a missing key looks the same"
    if not settings.requester_pays:
        fix += f". If the requester pays for this bucket, set {REQUESTER_PAYS}=1"
    if settings.anonymous:
        fix += f". {ANONYMOUS} is set: the bucket may not be public"
    shown = f" ({told})" if told and told not in ("Access Denied", "Forbidden") else ""
    return Problem(where, f"access is denied: {action}{shown}", f"{fix}.")


def elsewhere(response: dict[str, Any], address: Address, told: str) -> Problem:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    what = f"the bucket is in the region {region}" if region else f"the bucket is in another region ({told})"
    return Problem(str(address), what, f"Set AWS_REGION={region or 'its region'}, and no AWS_ENDPOINT_URL of another one.")


def unanswered(error: Exception, address: Address) -> Failure:
    """Failures on this side, or on the way."""
    from botocore import exceptions

    where = str(address)
    missing = (
        exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound,
        exceptions.CredentialRetrievalError, exceptions.TokenRetrievalError, exceptions.SSOError,
    )  # fmt: skip
    if isinstance(error, exceptions.NoCredentialsError):
        return Failure(Problem(where, "there are no AWS credentials", LOGIN), ends_all=True)
    if isinstance(error, missing):
        return Failure(Problem(where, f"the AWS credentials cannot be used ({error})", LOGIN), ends_all=True)
    if isinstance(error, exceptions.ParamValidationError):
        what = f"is no address in S3 ({' '.join(str(error).split())[:200]})"
        return Failure(Problem(where, what, "Give s3://BUCKET/KEY."), ends_all=True)
    if isinstance(error, exceptions.HTTPClientError | exceptions.EndpointConnectionError | exceptions.ConnectionError):
        fix = "Check the network, AWS_REGION and AWS_ENDPOINT_URL, and try again; what is fetched is kept."
        return Failure(Problem(where, f"S3 cannot be reached ({error})", fix), ends_all=True, ours=False)
    if isinstance(error, OSError) and error.errno is not None:
        first = "Make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Check that the folder may be written"
        fix = f"{first}, or name another folder with SIGHTLINE_CACHE."
        return Failure(Problem(where, f"cannot be kept on this machine ({error})", fix), ends_all=True, ours=False)
    what = f"the transfer failed ({error or type(error).__name__})"
    return Failure(Problem(where, what, "Try again; what is fetched is kept."), ours=False)
