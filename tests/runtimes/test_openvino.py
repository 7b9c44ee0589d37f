"""The call into OpenVINO: alone the first time, then by all threads at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sightline.runtimes import openvino
from sightline.runtimes.running import Batch

THREADS = 4


class Compiled:
    """In place of a compiled graph: `inside` calls are in it now. meet: calls go on when so many are in it."""

    def __init__(self, meet: int) -> None:
        self.inside, self.counting = 0, threading.Lock()
        self.together = threading.Barrier(meet)
        self.beside_the_first: list[int] = []

    def create_infer_request(self) -> Any:
        return SimpleNamespace(infer=self.infer, get_output_tensor=lambda place: SimpleNamespace(data=np.zeros(1)))

    def infer(self, given: object) -> None:
        with self.counting:
            if not openvino.WARM.is_set():
                self.beside_the_first.append(self.inside)
            self.inside += 1
        self.together.wait(30)
        time.sleep(0.01)  # another thread would come in, if it may
        with self.counting:
            self.inside -= 1


def call(compiled: Compiled) -> None:
    """By THREADS threads."""
    batch = Batch(np.zeros((1, 32, 32, 3), np.uint8), np.array([[32, 32]]), 0.5)
    run = openvino.runner(compiled, ["scores"])
    with ThreadPoolExecutor(THREADS) as pool:
        for answers in pool.map(run, [batch] * THREADS):
            assert answers.keys() == {"scores"}


def test_the_first_call_of_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two first calls wait for each other for ever in OpenVINO's binding."""
    monkeypatch.setattr(openvino, "WARM", threading.Event())
    compiled = Compiled(meet=1)
    call(compiled)
    assert set(compiled.beside_the_first) == {0}
    assert openvino.WARM.is_set()


def test_later_calls_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are in it at once: none goes on before."""
    monkeypatch.setattr(openvino, "WARM", threading.Event())
    openvino.WARM.set()
    call(Compiled(meet=THREADS))
