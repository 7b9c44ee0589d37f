import subprocess
import sys

import pytest
import torch
from torchvision import ops

from sightline.model.operators import batched_nms, library, nms, roi_align

WITHOUT_PACKAGE = """
import sys
import torch
from sightline.model.operators import nms
boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
print(nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist(), "torchvision" in sys.modules, "torch._dynamo" in sys.modules)
import torchvision
print(torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist())
"""

NOT_FOUND = """
import importlib.util
importlib.util.find_spec = lambda name: None
import sys
import torch
from sightline.model.operators import nms
print("torchvision" in sys.modules, nms(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5]), 0.5).tolist())
"""

BROKEN = """
import sys
import torch
whole, torch.ops.load_library = torch.ops.load_library, None
def refused(path):
    torch.ops.load_library = whole
    raise OSError("built for another torch")
torch.ops.load_library = refused
from sightline.model.operators import nms
print("torchvision" in sys.modules, nms(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5]), 0.5).tolist())
"""


def random_boxes(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand((count, 2), generator=torch.Generator().manual_seed(seed)) * 200
    return torch.cat((corners, corners + 60), dim=1)


EACH_IN_A_CHILD = """
import os, sys
import torch
for code in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        exec(code, {})
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
"""Importing torch takes seconds, so the children of one process share it."""


def test_torchvision_is_imported_only_where_its_library_alone_will_not_do_and_can_be_later() -> None:
    """By itself, not where wheels have it, cannot be loaded by itself."""
    command = [sys.executable, "-c", EACH_IN_A_CHILD, WITHOUT_PACKAGE, NOT_FOUND, BROKEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[1, 2] False False", "[1, 2]", "True [0]", "True [0]"]


def test_the_library_lies_in_torchvisions_folder() -> None:
    found = library()
    assert found is not None and found.parent.name == "torchvision"


@pytest.mark.parametrize("count", [0, 1, 900, 1_000, 1_001, 3_000])
def test_batched_nms_is_torchvisions(count: int) -> None:
    boxes = random_boxes(count, seed=count)
    generator = torch.Generator().manual_seed(count)
    scores, groups = torch.rand(count, generator=generator), torch.randint(5, (count,), generator=generator)
    assert torch.equal(batched_nms(boxes, scores, groups, 0.5), ops.batched_nms(boxes, scores, groups, 0.5))


def test_nms_drops_what_a_better_box_overlaps() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.95).tolist() == [1, 0, 2]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_is_torchvisions_with_its_gradient(aligned: bool, sampling_ratio: int) -> None:
    feature = torch.rand((1, 3, 30, 30), generator=torch.Generator().manual_seed(1), requires_grad=True)
    rois = torch.cat((torch.zeros(6, 1), random_boxes(6, seed=2)), dim=1)
    ours = roi_align(feature, rois, 7, scale=0.125, sampling_ratio=sampling_ratio, aligned=aligned)
    theirs = ops.roi_align(feature, rois, (7, 7), 0.125, sampling_ratio, aligned)
    assert torch.equal(ours, theirs)
    (ours_back,) = torch.autograd.grad(ours.square().sum(), feature)
    (theirs_back,) = torch.autograd.grad(theirs.square().sum(), feature)
    torch.testing.assert_close(ours_back, theirs_back)
