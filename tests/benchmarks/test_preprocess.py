"""The figures of what happens before the network are made by one command, here of one small picture."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_one_command_times_every_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("preprocess")
    script.main(["--tiny"])
    told = capsys.readouterr().out.splitlines()[1]
    steps = ["decode", "to an array", "resize from the array", "resize from the decoder's picture", "planes"]
    places = [
        told.index(f"{step} ") for step in (*steps, "normalise and pad", "scaled decoding", "pixels of a scaled decoding")
    ]
    assert told.startswith("96 x 64 px, ") and places == sorted(places)
