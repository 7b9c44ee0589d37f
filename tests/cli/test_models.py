"""What commands do to open a model: options reach every copy of it, and say clearly what cannot be."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sightline.cli import models
from sightline.cli.main import app
from sightline.cli.models import open_workers
from sightline.errors import ConfigError
from sightline.records import Detections, Image, Model
from sightline.runtimes.asked import Execution


class Elsewhere:
    """A predictor that is not on the CPU."""

    detector = torch.nn.Linear(1, 1, device="meta")

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return []


def test_the_copies_on_further_gpus_have_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, object]] = []

    def open_model(model: str, **options: object) -> Model:
        opened.append(options)
        return Model(Elsewhere(), ("bee",), model)

    monkeypatch.setattr(models, "open_model", open_model)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    _, predicts = open_workers("m", threshold=0.5, class_names="bee", execution=Execution(precision="fp16"))
    first, *copies = opened
    assert len(predicts) == 3
    assert [copy.pop("device") for copy in copies] == ["cuda:1", "cuda:2"]
    assert first["execution"] == Execution(precision="fp16")
    for copy in copies:
        assert copy == {"threshold": 0.5, "class_names": "bee", "execution": Execution("torch", precision="fp16")}


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "no model", "no picture"],
        ["serve", "no model"],
        ["evaluate", "no model", "--data", "."],
        ["benchmark", "no model", "--images", "."],
    ],
    ids=lambda words: words[0],
)
def test_contradictions_are_told_before_anything_is_read(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*words, "--no-optimize", "--precision", "bf16", "--compile", "--compile-for", "9"])
    assert isinstance(done.exception, ConfigError)
    assert "precision: is bf16 beside --no-optimize" in str(done.exception)
    assert "compile: is for the optimised model" in str(done.exception)
    assert "compile_for: has '9'" in str(done.exception)
