"""What AWS and boto3 complain about, as where, what and how to fix it; jobs and endpoints that failed, too.

Signatures' messages quote the request with its token, so they are never shown.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from sightline.errors import MissingDependencyError, RunError, SightlineError
from sightline.s3.failures import without_request

LOGIN = "Log in (aws configure, aws sso login), or set AWS_PROFILE."
POLICY = "`sightline cloud policy` prints the least rights that each command needs"

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
REFUSED = {
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch",
    "AuthFailure", "InvalidAccessKeyId", "IncompleteSignature", "MissingAuthenticationToken", "InvalidToken",
    "IncompleteSignatureException", "MissingAuthenticationTokenException", "InvalidClientTokenIdException",
}  # fmt: skip
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "403", "Forbidden"}
THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}
MISSING = {
    "ResourceNotFound", "ResourceNotFoundException", "NoSuchEntity", "NotFoundException", "ObjectNotFoundException",
    "RepositoryNotFoundException", "ImageNotFoundException", "404", "NoSuchBucket", "NoSuchKey",
}  # fmt: skip
TAKEN = {
    "ResourceInUse",
    "ResourceInUseException",
    "ConflictException",
    "RepositoryAlreadyExistsException",
    "EntityAlreadyExists",
}
QUOTA = {"ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"}
BROKEN = {"InternalFailure", "InternalServerError", "InternalError", "ServiceUnavailable", "500", "502", "503", "504"}

NOT_FOUND = re.compile(r"not found|could not find|does not exist|no endpoint", re.IGNORECASE)
"""SageMaker says most of what is missing as a ValidationException."""

EXISTS = re.compile(r"already exist|already existing|is already in use", re.IGNORECASE)
DENIED_ACTION = re.compile(r"not authorized to perform:? ([\w-]+:\w+)(?: on resource:? (\S+))?")
ROLE_FAULT = re.compile(r"could not assume role|role .*(?:not exist|trust)|assume the role", re.IGNORECASE)
CAPACITY = re.compile(r"CapacityError|(?:provision|insufficient)[^.]*capacity", re.IGNORECASE)


def code_of(error: Exception) -> str:
    """AWS's word for it; empty for what is no answer of AWS."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def told_by(error: Exception) -> str:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return without_request(str(response.get("Error", {}).get("Message", "")))


def is_missing(error: Exception) -> bool:
    """Whether what was asked for is not there."""
    code = code_of(error)
    return code in MISSING or (code in ("ValidationException", "ValidationError") and bool(NOT_FOUND.search(told_by(error))))


def is_denied(error: Exception) -> bool:
    return code_of(error) in DENIED


def failure(error: Exception, where: str, action: str) -> SightlineError:
    """What `error` means. where: the resource that it is about; action: `sagemaker:CreateTrainingJob`."""
    if isinstance(error, SightlineError):
        return error
    return answered(error, where, action) if code_of(error) else unanswered(error, where)


def answered(error: Exception, where: str, action: str) -> SightlineError:
    """Failures that AWS itself tells."""
    code, told = code_of(error), told_by(error)
    plain = {
        **dict.fromkeys(EXPIRED, SightlineError(where, "the AWS credentials have expired", "Log in again.")),
        **dict.fromkeys(REFUSED, SightlineError(where, f"AWS does not accept the credentials ({code})", LOGIN)),
        **dict.fromkeys(THROTTLED, RunError(where, f"AWS is asked too often ({code}), also after pauses", "Try again later.")),
        **dict.fromkeys(BROKEN, RunError(where, f"AWS answers {code} again and again", "Try again later.")),
        **dict.fromkeys(DENIED, denied(told, where, action)),
        **dict.fromkeys(QUOTA, quota(told, where)),
    }
    return plain.get(code) or refused(error, code, told, where, action)


def refused(error: Exception, code: str, told: str, where: str, action: str) -> SightlineError:
    """Failures that are told by their message rather than their code."""
    if is_missing(error):
        return SightlineError(where, f"does not exist ({told or code})", "Check the name, AWS_REGION and the account.")
    if code in TAKEN or EXISTS.search(told):
        return SightlineError(where, f"there is one of this name already ({told or code})", "Choose another name.")
    if ROLE_FAULT.search(told):
        fix = "Check --role: its trust policy has to allow sts:AssumeRole for the service sagemaker.amazonaws.com."
        return SightlineError(where, f"SageMaker cannot take the role ({told})", fix)
    if not told:
        return SightlineError(where, f"AWS answers {code} to {action}", "Check what was asked, and the credentials.")
    return SightlineError(where, f"AWS answers {code} to {action} ({told})", "Correct what it names.")


def denied(told: str, where: str, action: str) -> SightlineError:
    found = DENIED_ACTION.search(told)
    missing, on = (found[1], f" on {found[2]}" if found[2] else "") if found else (action, "")
    fix = f"Allow {missing} for these credentials; {POLICY}."
    if missing == "iam:PassRole":
        fix = f"Allow iam:PassRole on that role, to sagemaker.amazonaws.com; {POLICY}."
    return SightlineError(where, f"access is denied: {missing}{on}", fix)


def quota(told: str, where: str) -> SightlineError:
    found = re.search(r"'([^']+)' is (\d+)", told)
    what = f"the quota {found[1]!r} is {found[2]}" if found else f"a quota is used up ({told})"
    fix = "Ask for more under Service Quotas, SageMaker (a day or so), or take another --instance-type."
    return SightlineError(where, what, fix)


def unanswered(error: Exception, where: str) -> SightlineError:
    """Failures on this side, or on the way."""
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError):
        return SightlineError(where, "there are no AWS credentials", LOGIN)
    if isinstance(error, exceptions.NoRegionError):
        return SightlineError(where, "no AWS region is chosen", "Set AWS_REGION, or a region in ~/.aws/config.")
    login = (
        exceptions.PartialCredentialsError, exceptions.ProfileNotFound, exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError, exceptions.SSOError,
    )  # fmt: skip
    if isinstance(error, login):
        return SightlineError(where, f"the AWS credentials cannot be used ({error})", LOGIN)
    if is_lost(error):
        return RunError(where, f"AWS cannot be reached ({error})", "Check the network, AWS_REGION and AWS_ENDPOINT_URL.")
    if isinstance(error, exceptions.ParamValidationError):
        return SightlineError(where, " ".join(str(error).split()), "Correct what it names.")
    return RunError(where, f"the call failed ({type(error).__name__}: {error})", "Try again.")


def is_lost(error: Exception) -> bool:
    """Whether the connection was lost, so that the same may work in a while."""
    from botocore import exceptions

    kinds = (exceptions.HTTPClientError, exceptions.EndpointConnectionError, exceptions.ConnectionError)
    return isinstance(error, (*kinds, ConnectionError, TimeoutError)) or code_of(error) in (THROTTLED | BROKEN)


def send(call: Callable[..., Any], where: str, action: str, **request: Any) -> Any:
    """The answer to one request.

    Raises:
        SightlineError, RunError: what AWS or the network answered.
    """
    try:
        return call(**request)
    except MissingDependencyError:
        raise
    except Exception as error:
        raise failure(error, where, action) from error


def job_failure(name: str, status: str, reason: str) -> RunError:
    """Why a job ended without success. reason: the platform's FailureReason, which begins with what the container wrote."""
    what = f"{status.lower()}: {' '.join(reason.split())}" if reason else status.lower()
    if CAPACITY.search(reason):
        return RunError(name, what, "Try again later, with another --instance-type, another region, or without --spot.")
    if status == "Stopped":
        return RunError(name, "was stopped", f"What it saved stays: sightline cloud fetch {name} -o RUN")
    if "MaxWaitTimeExceeded" in status:
        return RunError(name, "found no spot capacity in time", "Raise --max-wait, or leave out --spot.")
    if "MaxRuntimeExceeded" in status:
        return RunError(
            name, "reached its longest time", f"Raise --max-runtime; sightline cloud fetch {name} has what it saved."
        )
    return RunError(name, what, f"See its log: sightline cloud logs {name}")
