"""The zoo as it is shown: docs/zoo.md is the code's own, tables are in order, and commands are ones that work."""

from pathlib import Path

import pytest

from sightline.config.sources import load
from sightline.config.support import require_supported
from sightline.config.zoo_models import LICENSE, MODELS, zoo_model
from sightline.config.zoo_page import all_as_dict, as_dict, full_yaml, page, sheet, table


def test_the_page_is_the_codes_own() -> None:
    """If this fails: python -m sightline.config.zoo_page > docs/zoo.md"""
    stored = Path(__file__).parents[2] / "docs" / "zoo.md"
    assert stored.read_text(encoding="utf-8") == page()
    assert LICENSE in page()


def test_the_table() -> None:
    header, *rows, _, measured, weights = table().splitlines()
    assert header.split("  ")[0] == "name"
    assert [row.split()[0] for row in rows] == list(MODELS)
    assert rows[13].split()[1:] == ["AR", "51.6", "0.034", "1.5", "yes"]
    assert rows[6].split()[1:] == ["37.9", "0.038", "3.0", "yes"]
    assert rows[15].endswith("yes  needs precomputed proposals, which is not supported")
    assert measured.startswith("measured: train2017 -> val2017, as Detectron2's MODEL_ZOO.md publishes")
    assert weights == "weights: CC BY-SA 3.0"


def test_a_sheet() -> None:
    text = sheet(zoo_model("COCO-Detection/retinanet_R_50_FPN_1x"))
    assert text.startswith("COCO-Detection/retinanet_R_50_FPN_1x.yaml\n  box AP ")
    assert "1x: 90,000 steps of 16 pictures, rate 0.01" in text
    address = "detectron2://COCO-Detection/retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl"
    assert f"--config COCO-Detection/retinanet_R_50_FPN_1x -o RUN --weights {address}\n" in text
    assert "SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.00125 " in text
    assert "mask AP" not in text


@pytest.mark.parametrize("name", ["COCO-Detection/faster_rcnn_R_50_FPN_3x", "COCO-Detection/retinanet_R_101_FPN_3x"])
def test_the_keys_that_a_sheet_suggests_are_keys(name: str) -> None:
    words = sheet(zoo_model(name)).split("for instance:\n")[1].splitlines()[0].replace("(4000, 5400)", "(4000,5400)")
    config = load(name, [word.strip("'") for word in words.split()])
    assert config.solver.steps == (4000, 5400)
    require_supported(config, name)


def test_what_cannot_be_trained_has_no_commands() -> None:
    model = zoo_model("COCO-Detection/fast_rcnn_R_50_FPN_1x")
    found = as_dict(model)
    assert (found["supported"], found["commands"]) == (False, [])
    assert "sightline train" not in sheet(model)


def test_what_has_no_weights_starts_from_imagenets() -> None:
    found = as_dict(zoo_model("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou"))
    assert (found["weights"], found["url"], found["md5_prefix"], found["box_ap"]) == (None, None, None, None)
    assert found["starts_from"] == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert found["commands"] == [
        "sightline train --data DIR --config COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou -o RUN"
    ]


def test_the_zoo_as_data() -> None:
    found = all_as_dict()
    assert [model["name"] for model in found["models"]] == list(MODELS)
    assert [model["name"] for model in found["models"] if not model["supported"]] == [
        "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"
    ]
    assert found["weights_license"] == "CC BY-SA 3.0"


def test_the_whole_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(full_yaml(zoo_model("COCO-Detection/retinanet_R_50_FPN_3x")), encoding="utf-8")
    assert load(str(path)) == load("COCO-Detection/retinanet_R_50_FPN_3x")
