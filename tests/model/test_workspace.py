"""Memory that is used again once nobody looks at it any more."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import torch

from sightline.model import workspace as module
from sightline.model.workspace import LEAST_BYTES, Workspace

COUNT = LEAST_BYTES // 4


def test_memory_comes_back_with_the_last_view_and_not_before() -> None:
    workspace = Workspace()
    first = workspace.empty(2, COUNT)
    address = first.data_ptr()
    view = first[1:].permute(1, 0)
    del first
    assert workspace.empty(2, COUNT).data_ptr() != address
    del view
    held = [workspace.empty(2, COUNT), workspace.empty(2, COUNT)]
    assert address in [tensor.data_ptr() for tensor in held]


def test_tensors_in_use_never_share_memory() -> None:
    workspace = Workspace()

    def fill(number: int) -> bool:
        tensors = [workspace.empty(COUNT + number) for _ in range(3)]
        for index, tensor in enumerate(tensors):
            tensor.fill_(10 * number + index)
        return all(bool((tensor == 10 * number + index).all()) for index, tensor in enumerate(tensors))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fill, range(40)))


def test_small_and_empty_ones() -> None:
    workspace = Workspace()
    assert workspace.empty(3, 0).shape == (3, 0)
    assert workspace.empty(2, 5).shape == (2, 5) and not workspace.free


def test_it_keeps_no_more_than_its_limit(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * LEAST_BYTES)
    workspace = Workspace()
    held = [workspace.empty(COUNT + 16 * number) for number in range(6)]
    assert len(held) == 6
    held.clear()
    assert sum(block.nbytes for block in workspace.free) <= 3 * LEAST_BYTES


def test_vectors_fit_and_pickles_are_small() -> None:
    workspace = Workspace()
    assert workspace.empty(COUNT + 1).data_ptr() % 64 == 0
    assert len(pickle.dumps(workspace)) < 200
    assert torch.is_tensor(pickle.loads(pickle.dumps(workspace)).empty(COUNT))
