"""Keys of version 1 are read under the names they have today."""

import logging
from pathlib import Path

import pytest

from sightline.config.renamed import ANCHORS, RENAMED, STRIDES, successors
from sightline.config.schema import Config
from sightline.config.yaml_dialect import TYPES, dump, flat, load_file, load_values, override
from sightline.errors import ConfigError

OTHER: dict[object, str] = {int: "77", float: "0.77", str: "other"}


def a_file(folder: Path, text: str, name: str = "old.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_new_name_is_a_key_and_no_old_name_is() -> None:
    for architecture in ("GeneralizedRCNN", "RetinaNet"):
        table = successors(architecture)
        assert {new for new in table.values() if new is not None} <= set(TYPES)
        assert not set(table) & set(TYPES)
        assert len(table) == len(RENAMED) + 2 * len(ANCHORS) + 1


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_sets_the_new_one(old: str, new: str, caplog: pytest.LogCaptureFixture) -> None:
    value = str(not flat(Config())[new]) if TYPES[new] is bool else OTHER.get(TYPES[new], "(7,)")
    with caplog.at_level(logging.INFO, "sightline"):
        changed = override(Config(), [old, value])
    assert changed == override(Config(), [new, value]) != Config()
    assert [record.getMessage() for record in caplog.records] == [f"override: {old} is read as {new}, its name today"]


def test_a_file_of_version_1(tmp_path: Path) -> None:
    path = a_file(
        tmp_path,
        "VERSION: 1\nMODEL:\n  WEIGHT: R-50.pkl\n  RPN_HEAD: {NAME: StandardRPNHead}\n  ROI_HEADS: {NMS: 0.4}\n"
        "  RPN: {ANCHOR_SIZES: [[32], [64]], ANCHOR_ASPECT_RATIOS: [[0.5, 2]]}\n"
        "  RETINANET: {ANCHOR_SIZES: [[1]], ANCHOR_ASPECT_RATIOS: [[1]], ANCHOR_STRIDES: []}\nTEST: {AUG_ON: true}\n",
    )
    expected = {
        "MODEL.WEIGHTS": "R-50.pkl",
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.4,
        "MODEL.ANCHOR_GENERATOR.SIZES": ((32,), (64,)),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ((0.5, 2),),
        "TEST.AUG.ENABLED": True,
    }
    config = load_file(path)
    assert flat(config) == flat(Config()) | expected
    assert config.version == 2
    assert "VERSION: 2\n" in dump(config)


@pytest.mark.parametrize(
    ("base", "text", "overrides"),
    [
        pytest.param("", "MODEL: {META_ARCHITECTURE: RetinaNet, RETINANET: {ANCHOR_SIZES: [[5]]}}", [], id="in the file"),
        pytest.param("META_ARCHITECTURE: RetinaNet", "MODEL: {RETINANET: {ANCHOR_SIZES: [[5]]}}", [], id="in its base"),
        pytest.param("RETINANET: {ANCHOR_SIZES: [[5]]}", "MODEL: {META_ARCHITECTURE: RetinaNet}", [], id="over its base"),
        pytest.param(
            "RETINANET: {ANCHOR_SIZES: [[5]]}", "SEED: 1", ["MODEL.META_ARCHITECTURE", "RetinaNet"], id="in an override"
        ),
    ],
)
def test_retinanets_anchors_are_its_own_wherever_it_is_named(
    tmp_path: Path, base: str, text: str, overrides: list[str]
) -> None:
    a_file(tmp_path, f"MODEL: {{{', '.join(filter(None, ['RPN: {ANCHOR_SIZES: [[7]]}', base]))}}}\n", "base.yaml")
    config = load_file(a_file(tmp_path, f"_BASE_: base.yaml\n{text}\n"), overrides)
    assert config.model.anchor_generator.sizes == ((5,),)


def test_what_means_nothing_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sightline"):
        assert load_values({STRIDES: [8]}, "x.yaml") == Config()
    assert caplog.messages == [f"x.yaml: {STRIDES} is left out: it means nothing for GeneralizedRCNN"]


def test_a_base_may_say_it_the_new_way(tmp_path: Path) -> None:
    a_file(tmp_path, "MODEL: {WEIGHTS: base.pkl}\n", "base.yaml")
    assert load_file(a_file(tmp_path, "_BASE_: base.yaml\nMODEL: {WEIGHT: mine.pkl}\n")).model.weights == "mine.pkl"


def test_both_names_at_once_are_an_error_each(tmp_path: Path) -> None:
    path = a_file(tmp_path, "MODEL: {WEIGHT: a, WEIGHTS: b}\n")
    with pytest.raises(ConfigError) as caught:
        load_file(path, ["TEST.AUG_FLIP", "true", "TEST.AUG.FLIP", "false"])
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}: MODEL.WEIGHT and MODEL.WEIGHTS are both given. Keep MODEL.WEIGHTS: the other is its old name.",
        "override: TEST.AUG_FLIP and TEST.AUG.FLIP are both given. Keep TEST.AUG.FLIP: the other is its old name.",
    ]


def test_a_wrong_value_under_an_old_name() -> None:
    with pytest.raises(ConfigError, match=r"override: TEST\.DETECTIONS_PER_IMAGE is 'many'\. Give a whole number\."):
        override(Config(), ["TEST.DETECTIONS_PER_IMG", "many"])


@pytest.mark.parametrize("version", [3, -1])
def test_versions_to_come_are_refused(version: int) -> None:
    with pytest.raises(ConfigError, match=rf"VERSION is {version}\. Give 2\."):
        load_values({"VERSION": version}, "x.yaml")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_versions_to_date_become_todays(version: int) -> None:
    assert load_values({"VERSION": version}, "x.yaml") == Config()
