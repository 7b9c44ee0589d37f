"""The figures of `--compile` are made by one command, here of a narrow detector; compiling, half a minute, is left out."""

import copy
import importlib
from pathlib import Path

import pytest

from sightline.config.opts import split_opts
from sightline.config.schema import Config
from sightline.config.sources import load
from sightline.model.optimized import OptimizedPredictor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


NARROW = """MODEL.WEIGHTS '' MODEL.DEVICE cpu MODEL.RESNETS.STEM_OUT_CHANNELS 8 MODEL.RESNETS.RES2_OUT_CHANNELS 8
    MODEL.RESNETS.WIDTH_PER_GROUP 8 MODEL.FPN.OUT_CHANNELS 8 MODEL.ROI_BOX_HEAD.FC_DIM 8"""


def narrow(height: int, width: int) -> Config:
    sides = ["INPUT.MIN_SIZE_TEST", str(min(height, width)), "INPUT.MAX_SIZE_TEST", str(max(height, width))]
    return load("COCO-Detection/faster_rcnn_R_50_FPN_3x", [*split_opts(NARROW), *sides])


def test_one_command_times_all_four(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("compiled")

    def uncompiled(plain: object, fast: OptimizedPredictor, wanted: object, folder: Path) -> OptimizedPredictor:
        return copy.deepcopy(fast)

    monkeypatch.setattr(script, "compiled", uncompiled)
    monkeypatch.setattr(script, "configuration", narrow)
    script.main(["--tiny"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" 0.")[0].split(":")[0].strip() for line in lines[1:]] == [
        "first start",
        "next start",
        "plain",
        "optimised",
        "compiled",
        "its parts uncompiled",
    ]
    assert lines[0].startswith("R50-FPN, 96 x 64 px, one thread")
