"""A name -> what it is: a training job, a search or a batch transform. Somebody who asks for `status NAME` need not say."""

from collections.abc import Callable

from sightline.cloud import jobs, searches, transforms
from sightline.cloud.account import Account
from sightline.cloud.failures import failure, is_missing
from sightline.cloud.naming import MAX_TUNING_NAME
from sightline.errors import SightlineError

Found = jobs.Job | searches.Search | transforms.Transform

LOOKS: tuple[tuple[str, str, str, Callable[..., Found]], ...] = (
    ("describe_training_job", "TrainingJobName", "sagemaker:DescribeTrainingJob", jobs.job_of),
    (
        "describe_hyper_parameter_tuning_job",
        "HyperParameterTuningJobName",
        "sagemaker:DescribeHyperParameterTuningJob",
        searches.search_of,
    ),
    ("describe_transform_job", "TransformJobName", "sagemaker:DescribeTransformJob", transforms.transform_of),
)


def look_up(account: Account, name: str) -> Found:
    """What has this name, as it is now.

    Raises:
        SightlineError, RunError: nothing has, or AWS cannot be asked.
    """
    client = account.client("sagemaker")
    for method, key, action, read in LOOKS:
        if key == "HyperParameterTuningJobName" and len(name) > MAX_TUNING_NAME:
            continue
        try:
            return read(getattr(client, method)(**{key: name}))
        except Exception as error:
            if not is_missing(error):
                raise failure(error, name, action) from error
    what = f"is no training job, search or batch transform of account {account.id} in {account.region}"
    raise SightlineError(name, what, "Check the name and AWS_REGION.")
