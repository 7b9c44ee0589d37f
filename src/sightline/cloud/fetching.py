"""What a training job left on S3, as a folder here that `evaluate`, `serve` and `predict` take like a run of this machine."""

from pathlib import Path

from sightline.cloud.failures import job_failure
from sightline.cloud.jobs import Job
from sightline.errors import RunError, SightlineError
from sightline.storage import atomic_folder, fetched_each, unpack

MODEL, OUTPUT = "model.tar.gz", "output.tar.gz"


def fetch_run(job: Job, to: Path) -> Path:
    """The job's model and report, unpacked together as the folder `to`; fetched again only where they changed.

    Of a job that was stopped or failed what it saved, where it saved something.

    Raises:
        SightlineError, RunError: there is nothing yet, `to` holds something already, or an archive is damaged.
    """
    if not job.over:
        raise SightlineError(job.name, f"is still {job.status}", f"Wait for it: sightline cloud logs {job.name}")
    if not job.archive:
        raise job_failure(job.name, job.status, job.reason)
    beside = f"{job.archive.rpartition('/')[0]}/{OUTPUT}"
    there, problems = fetched_each([job.archive, beside])
    if job.archive in problems:
        raise RunError.collected([problems[job.archive]])
    with atomic_folder(to) as folder:
        unpack(there[job.archive], folder, job.archive)
        if beside in there:
            unpack(there[beside], folder, beside)
    return to
