"""Which host an image's CUDA gets."""

import re

import pytest

from sightline.cloud.drivers import ENDPOINT_HOSTS, OUR_CUDA, TRANSFORM_HOSTS, doubt, endpoint_host, transform_host
from sightline.cloud.shapes import service_model
from sightline.errors import SightlineError


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [("11.8", 535), ("12.2", 535), ("12.3", 550), ("12.4", 550), ("12.8", 580), ("13.0", 580), ("13.3", 580)],
)
def test_the_oldest_host_that_was_made_for_a_cuda_else_the_newest(cuda: str, driver: int) -> None:
    assert endpoint_host(cuda).driver == driver


@pytest.mark.parametrize(("cuda", "driver"), [("11.4", 470), ("12.1", 535), ("12.9", 535)])
def test_batch_transform_has_older_hosts(cuda: str, driver: int) -> None:
    assert transform_host(cuda).driver == driver


def test_no_host_for_it() -> None:
    with pytest.raises(SightlineError, match=r"needs driver 580, and batch transform has at most 535\. Build it with CUDA 12 "):
        transform_host("13.0")


@pytest.mark.parametrize("cuda", ["", "12", "12.4.1", "cu124", "14.0", "10.2"])
def test_no_cuda(cuda: str) -> None:
    with pytest.raises(SightlineError, match=f"--cuda: is {re.escape(repr(cuda))}"):
        endpoint_host(cuda)


def test_botocore_knows_the_hosts() -> None:
    model = service_model("sagemaker")
    assert {host.ami for host in ENDPOINT_HOSTS} <= set(model.shape_for("ProductionVariantInferenceAmiVersion").enum)
    told = str(model.shape_for("TransformResources").members["TransformAmiVersion"].documentation)
    assert all(host.ami in told for host in TRANSFORM_HOSTS)


@pytest.mark.parametrize(
    ("machine", "cuda", "says"),
    [
        ("ml.g5.xlarge", "", "ml.g5.xlarge has driver 470, and CUDA 13 needs 580: give --cuda"),
        ("ml.g6.2xlarge", "", "driver 535"),
        ("ml.g5.xlarge", "12.4", ""),
        ("ml.c5.xlarge", "", ""),
        ("", "", ""),
    ],
)
def test_a_driver_that_nobody_asked_for(machine: str, cuda: str, says: str) -> None:
    found = doubt(machine, cuda)
    assert says in found
    assert bool(found) == bool(says)


def test_our_own_images_have_a_host() -> None:
    assert endpoint_host(OUR_CUDA).driver >= 580
