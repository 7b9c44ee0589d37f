"""The table of prediction on a GPU is made by one command, here of one small picture on the CPU."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module("predict_gpu")


def test_one_command_measures_and_writes(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main(["--device", "cpu", "--tiny", "--output", str(tmp_path)])
    written = json.loads((tmp_path / "predict_gpu.json").read_text())
    assert [row["way"] for row in written["rows"]] == ["torchvision", "plain", "optimised fp32"]
    assert all(len(row["times"]) == 1 and row["times"][0] > 0 and not row["refused"] for row in written["rows"])
    assert written["settings"] == {"width": 96, "height": 64, "rounds": 1}
    assert written["machine"]["torch"] and written["machine"]["date"]
    text = (tmp_path / "predict_gpu.md").read_text()
    assert "| R50-FPN | 1 | torchvision |" in text and "| 1.00 | 0 |" in text
    assert text in capsys.readouterr().out


def test_the_whole_table_is_the_default_on_a_gpu(script: Any) -> None:
    asked = script.parsed([])
    assert (asked.device, asked.depth, asked.batch, asked.compile) == ("cuda", [50, 101], [1, 8], True)
    assert asked.precision == ["fp32", "fp16", "bf16"]


def test_what_is_refused_is_told_in_the_table(script: Any) -> None:
    rows = [
        script.Row("R50-FPN", 8, "torchvision", (0.4, 0.2, 0.3), 100.0),
        script.Row("R50-FPN", 8, "optimised fp32", (0.1,), 50.0),
        script.Row("R50-FPN", 8, "bf16", refused="backbone differs"),
    ]
    lines = script.table(rows).splitlines()[2:]
    assert lines == [
        "| R50-FPN | 8 | torchvision | 300.0 (200.0 to 400.0) | 26.7 | 1.00 | 100 |",
        "| R50-FPN | 8 | optimised fp32 | 100.0 (100.0 to 100.0) | 80.0 | 3.00 | 50 |",
        "| R50-FPN | 8 | bf16 | refused: backbone differs | | | |",
    ]
