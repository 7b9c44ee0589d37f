"""Names that `--config` takes: presets, the zoo, files; each equal to what Detectron2 makes of it."""

from pathlib import Path

import pytest

from sightline.config.sources import load, preset_names
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import flat, load_file
from sightline.config.zoo import ZOO
from sightline.errors import ConfigError


def test_zoo_names_with_overrides_are_detectron2s_own_dumps(shared: Path) -> None:
    compared = 0
    for base in sorted((shared / "golden").glob("*/base.txt")):
        name, *rest = base.read_text(encoding="utf-8").split()
        if name not in ZOO:
            continue
        ours, theirs = flat(load(name, rest)), flat(load_file(base.with_name("config.yaml")))
        differing = {key for key, value in theirs.items() if ours[key] != value}
        assert differing <= {"MODEL.WEIGHTS"}, name
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_zoo_name_loads_with_and_without_its_suffix_and_is_supported(name: str) -> None:
    config = load(name)
    assert load(name.removesuffix(".yaml")) == config
    require_supported(config, name)


def test_zoo_configs_hold_the_published_facts() -> None:
    """1x is 90,000 steps, 3x 270,000 (with the milestones scaled); X-101 has 32 groups of 8."""
    one, three = load("COCO-Detection/faster_rcnn_R_50_FPN_1x"), load("COCO-Detection/faster_rcnn_R_50_FPN_3x")
    assert (one.solver.max_iter, one.solver.steps) == (90_000, (60_000, 80_000))
    assert (three.solver.max_iter, three.solver.steps) == (270_000, (210_000, 250_000))
    wide = load("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x").model.resnets
    assert (wide.depth, wide.num_groups, wide.width_per_group, wide.stride_in_1x1) == (101, 32, 8, False)


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
        pytest.param("nothing/like/it", r"Known: small, COCO-Detection/", id="nothing near"),
        pytest.param("lazy_config.py", r"lazy_config\.py: is a LazyConfig file, which is not supported", id="LazyConfig"),
    ],
)
def test_what_is_no_source(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(name)


def test_an_error_in_an_override_of_a_zoo_name_is_told_as_one() -> None:
    with pytest.raises(ConfigError, match=r"override: unknown key 'SOLVER\.LR'"):
        load("COCO-Detection/faster_rcnn_R_50_FPN_1x", ["SOLVER.LR", "1"])
