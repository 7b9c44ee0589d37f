"""Pictures as tensors, and the device they go to."""

import numpy as np
import pytest
import torch

from sightline.errors import ConfigError
from sightline.tensors import choose_device, to_tensor


@pytest.mark.parametrize(("order", "expected"), [("RGB", [10, 20, 30]), ("BGR", [30, 20, 10])])
def test_planes_in_the_order_asked_for(order: str, expected: list[int]) -> None:
    tensor = to_tensor(np.full((4, 5, 3), (10, 20, 30), dtype=np.uint8), order)
    assert (tensor.shape, tensor.dtype) == ((3, 4, 5), torch.uint8)
    assert tensor[:, 2, 3].tolist() == expected


def test_rows_and_columns_stay() -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[1, 3] = 9
    assert to_tensor(image, "RGB")[0].nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_mirrored_views_are_taken_and_the_picture_is_not_shared(order: str) -> None:
    """Flips are views with negative strides, which torch refuses as they are."""
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    before = image.copy()
    tensor = to_tensor(image[:, ::-1], order)
    assert tensor[:, 0, 0].tolist() == sorted(image[0, -1].tolist(), reverse=order == "BGR")
    tensor.fill_(0)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("configured", "gpu", "expected"), [("cuda", True, "cuda"), ("cuda", False, "cpu"), ("cpu", True, "cpu")]
)
def test_auto_follows_the_configuration(monkeypatch: pytest.MonkeyPatch, configured: str, gpu: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device("auto", configured) == torch.device(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"'cuda' cannot be used"):
        choose_device("cuda")


def test_the_cpu_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tpu", ""])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^device: '{name}' cannot be used \(.+\)\. Use auto, cpu or cuda\."):
        choose_device(name)
