"""Which CUDA of an image runs on which of the platform's hosts: drivers of the hosts, and what a CUDA demands of a driver.

Hosts, their drivers and CUDA versions: botocore's description of InferenceAmiVersion and TransformAmiVersion (1.44.5). Drivers
that families get without being asked: SageMaker's developer guide, "Best practices to minimize interruptions during GPU driver
upgrades" (2026-11). Least drivers: NVIDIA's "CUDA compatibility", minor versions of one major version share theirs.
"""

import re
from dataclasses import dataclass

from sightline.errors import SightlineError


@dataclass(frozen=True, slots=True)
class Host:
    """What a container runs on. driver: NVIDIA's major version; cuda: the (major, minor) that the driver was made for."""

    ami: str
    driver: int
    cuda: tuple[int, int]


ENDPOINT_HOSTS = (
    Host("al2-ami-sagemaker-inference-gpu-2-1", 535, (12, 2)),
    Host("al2-ami-sagemaker-inference-gpu-3-1", 550, (12, 4)),
    Host("al2023-ami-sagemaker-inference-gpu-4-1", 580, (13, 0)),
)
"""Of endpoints, by InferenceAmiVersion. With a driver that is too old an endpoint stays in Creating, without a log."""

TRANSFORM_HOSTS = (
    Host("al2-ami-sagemaker-batch-gpu-470", 470, (11, 4)),
    Host("al2-ami-sagemaker-batch-gpu-535", 535, (12, 2)),
)
"""Of batch transform, by TransformAmiVersion."""

LEAST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Major version of CUDA -> driver that runs its programs. A newer driver runs older CUDA, always."""

DEFAULT_DRIVERS = {"p4d": 470, "p4de": 470, "g4dn": 470, "g5": 470, "p5": 535, "g6": 535, "p5e": 550, "p5en": 550}
"""Family of machines -> driver of its host where none is asked for."""

OUR_CUDA = "13.2"
"""Of PyTorch as pip's own index has it, so of the images that `sightline cloud image build` makes without --torch-index."""


def endpoint_host(cuda: str) -> Host:
    """The host for an image with this CUDA (`12.4`).

    Raises:
        SightlineError: it is no version, or there is no host for it.
    """
    return host_for(cuda, ENDPOINT_HOSTS, "an endpoint")


def transform_host(cuda: str) -> Host:
    """The same for batch transform, whose hosts have older drivers.

    Raises:
        SightlineError: it is no version, or there is no host for it.
    """
    return host_for(cuda, TRANSFORM_HOSTS, "batch transform")


def host_for(cuda: str, hosts: tuple[Host, ...], purpose: str) -> Host:
    """The oldest host that was made for this CUDA or a later one, else the newest whose driver runs it all the same."""
    found = re.fullmatch(r"(\d+)\.(\d+)", cuda)
    if found is None or int(found[1]) not in LEAST_DRIVERS:
        known = ", ".join(f"{major}.x" for major in LEAST_DRIVERS)
        raise SightlineError(
            "--cuda", f"is {cuda!r}", f"Give the version of CUDA in the image, such as 12.4; known are {known}."
        )
    wanted = (int(found[1]), int(found[2]))
    for host in hosts:
        if host.cuda >= wanted:
            return host
    newest = hosts[-1]
    if newest.driver < LEAST_DRIVERS[wanted[0]]:
        what = f"is {cuda}, which needs driver {LEAST_DRIVERS[wanted[0]]}, and {purpose} has at most {newest.driver}"
        fix = f"Build it with CUDA {newest.cuda[0]} (sightline cloud image build --torch-index), or take machines without GPU."
        raise SightlineError("--cuda", what, fix)
    return newest


def doubt(instance_type: str, cuda: str) -> str:
    """Why a container may find no GPU there, where no host is asked for; empty if nothing speaks for that."""
    family = instance_type.removeprefix("ml.").partition(".")[0]
    driver = DEFAULT_DRIVERS.get(family)
    if cuda or driver is None:
        return ""
    major = int(OUR_CUDA.partition(".")[0])
    if driver >= LEAST_DRIVERS[major]:
        return ""
    return (
        f"without --cuda {instance_type} has driver {driver}, and CUDA {major} needs {LEAST_DRIVERS[major]}:"
        f" give --cuda {OUR_CUDA} for Sightline's own image, else the version in yours"
    )
