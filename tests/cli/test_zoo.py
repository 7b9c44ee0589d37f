"""`sightline zoo` as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightline.cli.main import app
from sightline.config.sources import load
from sightline.errors import ConfigError

NAME = "COCO-Detection/faster_rcnn_R_50_FPN_3x"


def zoo(*words: str) -> str:
    """What `sightline zoo WORDS` prints."""
    done = CliRunner().invoke(app, ["zoo", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_list() -> None:
    text = zoo()
    assert f"{NAME}.yaml" in text
    assert text.endswith("weights: CC BY-SA 3.0\n")
    found = json.loads(zoo("--json"))
    assert {"name": f"{NAME}.yaml", "box_ap": 40.2}.items() <= found["models"][7].items()


@pytest.mark.parametrize("name", [NAME, f"{NAME}.yaml"])
def test_one_model(name: str) -> None:
    assert f"sightline train --data DIR --config {NAME} -o RUN --weights detectron2://{NAME}/" in zoo(name)
    assert json.loads(zoo(name, "--json"))["md5_prefix"] == "280758"


def test_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(zoo(NAME, "--config"), encoding="utf-8")
    assert load(str(path)) == load(NAME)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--config"], r"--config: prints one model's YAML\. Give it a NAME", id="no name"),
        pytest.param([NAME, "--config", "--json"], r"--config: .* and no --json", id="two forms"),
        pytest.param(["faster_rcnn_R_50_FPN_2x"], r"Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_", id="no such name"),
    ],
)
def test_what_is_asked_wrongly(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo(*words)
