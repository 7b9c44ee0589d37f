"""Names that `--config` takes: presets, the zoo, files."""

from pathlib import Path

import pytest

from sightline.config.sources import load, preset_names
from sightline.config.support import require_supported
from sightline.errors import ConfigError


def test_presets_load_and_are_supported() -> None:
    assert "small" in preset_names()
    for name in preset_names():
        require_supported(load(name), name)


def test_overrides_go_over_a_preset_and_over_the_zoo() -> None:
    for name in ("small", "COCO-Detection/faster_rcnn_R_50_FPN_1x"):
        assert load(name, ["SOLVER.BASE_LR", "0.5"]).solver.base_lr == 0.5


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("SEED: 4\n", encoding="utf-8")
    assert load(str(path)).seed == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("smal", r"smal: is no preset, no zoo name and no file\. Did you mean 'small'\?", id="a preset"),
        pytest.param(
            "COCO-Detection/faster_rcnn_R_50_FPN_2x.yaml",
            r"Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_[13]x\.yaml'\?",
            id="a zoo name",
        ),
        pytest.param(
            "xyzzy",
            r"no preset, no zoo name and no file\. Give r50 or small, a name that `sightline zoo` lists, or a YAML file",
            id="nothing near",
        ),
        pytest.param(
            "faster_rcnn_R_50_FPN_3x", r"Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_3x\.yaml'\?", id="no folder"
        ),
        pytest.param(
            "lazy_config.py",
            r"lazy_config\.py: is a LazyConfig file, which is not supported\. Use a YAML configuration\.$",
            id="LazyConfig",
        ),
        pytest.param(
            "COCO-Detection/fcos_R_50_FPN_1x.py",
            r"is a LazyConfig file, which is not supported\. Use a YAML configuration\.$",
            id="LazyConfig in the zoo",
        ),
        pytest.param(
            "COCO-Detection/retinanet_R_50_FPN_1x.py",
            r"not supported\. Use 'COCO-Detection/retinanet_R_50_FPN_1x\.yaml': the same model and weights\.$",
            id="LazyConfig with a twin in YAML",
        ),
    ],
)
def test_what_is_no_source(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(name)


def test_an_error_in_an_override_of_a_zoo_name_is_told_as_one() -> None:
    with pytest.raises(ConfigError, match=r"override: unknown key 'SOLVER\.LR'"):
        load("COCO-Detection/faster_rcnn_R_50_FPN_1x", ["SOLVER.LR", "1"])
