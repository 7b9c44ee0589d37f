"""What was published of the zoo's models: one record for each configuration, equal to the recorded facts."""

import json
from pathlib import Path

import pytest

from sightline.config.sources import load
from sightline.config.zoo import ZOO
from sightline.config.zoo_models import MODELS, checkpoint_address, zoo_model
from sightline.errors import ConfigError


def test_every_configuration_has_a_record() -> None:
    assert list(MODELS) == list(ZOO)


def test_a_record() -> None:
    model = zoo_model("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x")
    assert (model.box_ap, model.mask_ap, model.proposal_ar, model.schedule) == (41.0, 37.2, None, "3x")
    assert (model.train_s_per_iter, model.infer_s_per_im, model.train_mem_gb) == (0.261, 0.043, 3.4)
    path = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl"
    assert model.checkpoint == f"detectron2://{path}"
    assert model.url == f"https://dl.fbaipublicfiles.com/detectron2/{path}"
    assert model.md5_prefix == "f10217"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_schedule_is_the_configurations(name: str) -> None:
    assert {"1x": 90_000, "3x": 270_000}[MODELS[name].schedule] == load(name).solver.max_iter


def test_all_records_agree_with_the_recorded_facts(shared: Path) -> None:
    facts = json.loads((shared / "facts" / "zoo.json").read_text(encoding="utf-8"))["models"]
    compared = 0
    for fact in facts:
        if fact["format"] != "yaml":
            continue
        model = zoo_model(fact["config"])
        for field in ("box_ap", "mask_ap", "proposal_ar", "train_s_per_iter", "infer_s_per_im", "train_mem_gb", "md5_prefix"):
            assert getattr(model, field) == fact[field], (model.name, field)
        assert model.url == fact["checkpoint_url"]
        assert model.checkpoint is None or model.schedule == fact["lr_sched"]
        compared += 1
    assert compared == len(MODELS) - 1  # the cascade is of another part of the zoo


@pytest.mark.parametrize("suffix", ["", ".yaml"])
def test_addresses_of_checkpoints(suffix: str) -> None:
    address = "detectron2://COCO-Detection/faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl"
    assert checkpoint_address(f"COCO-Detection/faster_rcnn_R_101_FPN_3x{suffix}") == address


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou",
            r"giou: no trained weights are published\. Leave --weights out",
            id="none published",
        ),
        pytest.param(
            "COCO-Detection/faster_rcnn_R_50_FPN_2x",
            r"is no name of the model zoo\. Did you mean 'COCO-Detection/faster_rcnn_R_50_FPN_[13]x\.yaml'\?",
            id="unknown",
        ),
    ],
)
def test_what_has_no_checkpoint(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checkpoint_address(name)
