"""What a training job left on S3, as a folder here that `evaluate`, `serve` and `predict` take like a run of this machine."""

import tarfile
from pathlib import Path

from sightline.cloud.failures import job_failure
from sightline.cloud.jobs import Job
from sightline.errors import RunError, SightlineError
from sightline.storage import atomic_folder, fetched_each

MODEL, OUTPUT = "model.tar.gz", "output.tar.gz"

MAX_BYTES = 64 * 2**30
"""Unpacked, of one archive; a run with all its checkpoints stays far below."""


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


def unpack(archive: Path, folder: Path, where: str) -> None:
    """The archive's files below `folder`; a name that is there already keeps its first content.

    Raises:
        RunError: it is damaged, or too large when unpacked.
        SightlineError: a name in it leads out of the folder.
    """
    try:
        with tarfile.open(archive, "r:gz") as opened:
            total = 0
            for member in opened:
                total += member.size
                if total > MAX_BYTES:
                    raise RunError(where, f"has more than {MAX_BYTES:,} bytes when unpacked", "Fetch it with aws s3 cp.")
                if not (member.isfile() or member.isdir()) or (member.isfile() and (folder / member.name).exists()):
                    continue
                opened.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise SightlineError(where, f"holds a file that may not be unpacked ({error})", "Do not use it.") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RunError(where, f"cannot be unpacked ({error})", "Fetch it again, or see the job's log.") from error
