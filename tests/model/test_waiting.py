"""How often a prediction would wait for a GPU: counted on the CPU, because the operations are the same."""

from collections import Counter
from typing import Any

import pytest
import torch
from builders import CASCADE, MASKS, a_detector, a_painting
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.model.predictor import Predictor
from sightline.records import ImageSize

SIZE = ImageSize(64, 96)


class Waits(TorchDispatchMode):
    """Counts what needs a number on this side of the bus, or sends one over."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if name in (
            "aten.nonzero.default",
            "aten._local_scalar_dense.default",
            "aten.is_nonzero.default",
            "aten.masked_select.default",
        ):
            self.found[name.split(".")[1]] += 1
        if name == "aten.lift_fresh.default":  # made of Python's numbers
            self.found["given"] += 1
        if name.startswith(("aten.index.Tensor", "aten.index_put")) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            self.found["boolean index"] += 1
        return function(*args, **(kwargs or {}))


def waits_of(words: tuple[str, ...], pictures: int) -> Counter[str]:
    """Of one prediction, from resized pictures to detections; the suppression's own are in compiled code."""
    predictor = Predictor(a_detector(*words), min_size=64, max_size=96, color_order="BGR")
    images = [a_painting(SIZE, [(20.0, 20.0, 70.0, 60.0)], number) for number in range(pictures)]
    predictor(images)  # anchors are remembered from the first on
    with Waits() as waits:
        found = predictor.found(images, [SIZE] * pictures)
        for one in found:
            predictor.detections(one, SIZE)
    assert all(len(one) for one in found)
    return waits.found


@pytest.mark.parametrize("words", [(), MASKS, CASCADE], ids=["FPN", "masks", "cascade"])
@pytest.mark.parametrize("pictures", [1, 2])
def test_each_picture_is_waited_for_three_times_and_sent_once(words: tuple[str, ...], pictures: int) -> None:
    """For its proposals, its candidates, and what is left of them in the picture itself."""
    assert waits_of(words, pictures) == {"nonzero": 3 * pictures, "given": pictures}


def test_counting_notices() -> None:
    boxes = torch.rand(4, 4)
    with Waits() as waits:
        taken = boxes[boxes[:, 0] >= 0]
        whole = bool((boxes >= 0).all())
        boxes.new_tensor([1.0, 2.0])
    assert len(taken) == 4 and whole
    assert waits.found["boolean index"] == waits.found["given"] == 1
    assert waits.found["is_nonzero"] + waits.found["_local_scalar_dense"] >= 1
