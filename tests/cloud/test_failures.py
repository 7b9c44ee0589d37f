"""What AWS answers, as where, what and how to fix it."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError, ProfileNotFound

from sightline.cloud.failures import failure, is_missing, job_failure
from sightline.errors import RunError, SightlineError

QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances, with current utilization of 0"
    " Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota."
)
PASS = "User: arn:aws:iam::1:user/u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/r because"
CREATE = "User: arn:aws:iam::1:user/u is not authorized to perform: sagemaker:CreateTrainingJob on resource: arn:x with an"


def answer(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")


TABLE = [
    (answer("ExpiredTokenException", "x"), SightlineError, r"^job: the AWS credentials have expired\. Log in again\.$"),
    (answer("UnrecognizedClientException", "x"), SightlineError, r"AWS does not accept the credentials \(Unrec.*aws configure"),
    (answer("AccessDeniedException", CREATE), SightlineError, r"denied: sagemaker:CreateTrainingJob on arn:x\. Allow"),
    (answer("AccessDeniedException", PASS), SightlineError, r"denied: iam:PassRole on .*role/r\. Allow iam:PassRole on that"),
    (answer("AccessDenied"), SightlineError, r"access is denied: sagemaker:X\. Allow sagemaker:X"),
    (answer("ResourceLimitExceeded", QUOTA), SightlineError, r"the quota 'ml.g5.xlarge for training job usage' is 0\. Ask"),
    (answer("ThrottlingException", "Rate exceeded"), RunError, r"asked too often"),
    (answer("ServiceUnavailable"), RunError, r"answers ServiceUnavailable again and again"),
    (answer("ResourceInUse", "Training job names must be unique"), SightlineError, r"there is one of this name already"),
    (answer("ValidationException", 'Cannot create already existing endpoint "x"'), SightlineError, r"of this name already"),
    (answer("ValidationException", "Could not find model"), SightlineError, r"does not exist"),
    (answer("ValidationException", "Could not assume role arn:x. Please ensure"), SightlineError, r"its trust policy"),
    (answer("ValidationException", "1 validation error"), SightlineError, r"AWS answers ValidationException to sagemaker:X"),
    (NoCredentialsError(), SightlineError, r"there are no AWS credentials\. Log in"),
    (NoRegionError(), SightlineError, r"no AWS region is chosen\. Set AWS_REGION"),
    (ProfileNotFound(profile="p"), SightlineError, r"credentials cannot be used"),
    (EndpointConnectionError(endpoint_url="https://x"), RunError, r"AWS cannot be reached .*AWS_REGION"),
    (KeyError("x"), RunError, r"the call failed \(KeyError"),
]


@pytest.mark.parametrize(("error", "kind", "told"), TABLE, ids=[told for *_, told in TABLE])
def test_failures(error: Exception, kind: type[SightlineError], told: str) -> None:
    import re

    found = failure(error, "job", "sagemaker:X")
    assert type(found) is kind
    assert re.search(told, str(found)), str(found)


def test_what_a_signature_says_is_never_shown() -> None:
    told = "The Canonical String for this request should have been 'POST x-amz-security-token:very-secret'"
    assert "secret" not in str(failure(answer("SignatureDoesNotMatch", told), "AWS", "sts:GetCallerIdentity"))


def test_what_is_missing() -> None:
    assert is_missing(answer("ValidationException", "Requested resource not found."))
    assert not is_missing(answer("ValidationException", "1 validation error detected"))


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        ("Failed", "CapacityError: Unable to provision requested ML compute capacity.", "another --instance-type"),
        ("Failed", "AlgorithmError: cuda out of memory at full capacity of nothing", "sightline cloud logs parts"),
        ("Stopped", "", "was stopped"),
        ("MaxWaitTimeExceeded", "", "found no spot capacity in time"),
        ("MaxRuntimeExceeded", "", "Raise --max-runtime"),
    ],
)
def test_jobs_that_fail_say_what_to_do(status: str, reason: str, told: str) -> None:
    assert told in str(job_failure("parts", status, reason))
