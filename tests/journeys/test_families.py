"""Every family of detectors through the same journey, and one class followed from the labels to the answer."""

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import a_config, a_data_folder
from PIL import Image as Pillow

from sightline import wire
from sightline.bundle.load import load_model
from sightline.bundle.pack import pack_run
from sightline.evaluation.coco import evaluate_detections
from sightline.evaluation.predicting import detect_all
from sightline.geometry.masks import decode, encode, from_label, rasterise
from sightline.images import read_image
from sightline.model.checkpoint import read_checkpoint
from sightline.records import Dataset, Detections, ImageSize, Model
from sightline.serving.server import running
from sightline.training.run import Run, run_training

BOTTLENECKS = "MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.RES2_OUT_CHANNELS 16 MODEL.RESNETS.WIDTH_PER_GROUP 4 "
FAMILIES = {
    "mask_rcnn": "MODEL.MASK_ON True MODEL.ROI_MASK_HEAD.CONV_DIM 8",
    "retinanet": (
        "MODEL.META_ARCHITECTURE RetinaNet MODEL.BACKBONE.NAME build_retinanet_resnet_fpn_backbone "
        "MODEL.RETINANET.IN_FEATURES ('p3','p4','p5') MODEL.RETINANET.NUM_CONVS 1 MODEL.RETINANET.SCORE_THRESH_TEST 0.0"
    ),
    "c4_masks": BOTTLENECKS + (
        "MODEL.BACKBONE.NAME build_resnet_backbone MODEL.RESNETS.OUT_FEATURES ('res4',) MODEL.RPN.IN_FEATURES ('res4',) "
        "MODEL.ROI_HEADS.IN_FEATURES ('res4',) MODEL.ROI_HEADS.NAME Res5ROIHeads MODEL.ANCHOR_GENERATOR.SIZES ((12,24,48),) "
        "MODEL.MASK_ON True MODEL.ROI_MASK_HEAD.CONV_DIM 8 MODEL.ROI_MASK_HEAD.NUM_CONV 0"
    ),
    "dc5": BOTTLENECKS + (
        "MODEL.BACKBONE.NAME build_resnet_backbone MODEL.RESNETS.OUT_FEATURES ('res5',) MODEL.RESNETS.RES5_DILATION 2 "
        "MODEL.RPN.IN_FEATURES ('res5',) MODEL.ROI_HEADS.IN_FEATURES ('res5',) MODEL.ANCHOR_GENERATOR.SIZES ((12,24,48),)"
    ),
    "cascade_masks": (
        "MODEL.ROI_HEADS.NAME CascadeROIHeads MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True "
        "MODEL.MASK_ON True MODEL.ROI_MASK_HEAD.CONV_DIM 8"
    ),
    "rpn": "MODEL.META_ARCHITECTURE ProposalNetwork",
}  # fmt: skip
"""Overrides that make the tiny detector one of each family."""

ALL_SCORES = (
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "80",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "0.0",
    "TEST.DETECTIONS_PER_IMAGE",
    "20",
)


def trained(folder: Path, *overrides: str, names: tuple[str, ...] = ("cat", "dog"), **options: object) -> tuple[Run, Dataset]:
    dataset = a_data_folder(folder / "images", 6, names=names, masks=True)
    config = a_config(*ALL_SCORES, *overrides)
    run = run_training(config, dataset=dataset, images=folder / "images", output=folder / "run", workers=0, **options)
    return run, dataset


def answer_of(bundle: Path, picture: Path) -> dict:
    with running(load_model(bundle)) as address:
        request = urllib.request.Request(
            f"{address}/invocations", picture.read_bytes(), {"Content-Type": "image/png", "Accept": wire.JSON}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())


@pytest.mark.parametrize("family", FAMILIES)
def test_train_evaluate_pack_serve(family: str, tmp_path: Path) -> None:
    run, dataset = trained(tmp_path, *FAMILIES[family].split())
    bundle = tmp_path / "model.tar.gz"
    pack_run(run.folder, bundle)
    model = load_model(bundle)
    found_everywhere = detect_all(model, dataset, tmp_path / "images")
    scores = evaluate_detections(dataset, found_everywhere) if family != "rpn" else {}
    assert set(scores) == ({"bbox", "segm"} if "mask" in family else {"bbox"} if family != "rpn" else set())
    picture = tmp_path / "images" / "001.png"
    answer = answer_of(bundle, picture)
    (found,) = model.predict([read_image(picture)])
    assert len(found) > 0
    assert answer["pred_boxes"] == found.boxes.astype(float).tolist()
    assert model.class_names == (("object",) if family == "rpn" else ("cat", "dog"))
    assert (found.masks is not None) == ("mask" in family) == ("pred_masks_rle" in answer)
    for box, mask in zip(found.boxes, found.masks or (), strict=False):
        rows, columns = decode(mask).nonzero()
        if len(rows):
            x1, y1, x2, y2 = box
            assert columns.min() >= x1 - 1.5 and columns.max() <= x2 + 0.5
            assert rows.min() >= y1 - 1.5 and rows.max() <= y2 + 0.5


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "rpn"])
def test_one_class_keeps_its_name_through_fine_tuning_and_serving(family: str, tmp_path: Path) -> None:
    """A detector of three classes is trained on for two others, one of whose names it knew at another place; the last layer is
    then made to say "dog" whatever it sees, and that is what the server answers."""
    first, _ = trained(tmp_path / "first", *FAMILIES[family].split(), names=("ant", "bee", "dog"))
    weights = str(first.checkpoint)
    run, _ = trained(tmp_path / "second", *FAMILIES[family].split(), "MODEL.WEIGHTS", weights, names=("dog", "emu"))
    checkpoint = read_checkpoint(run.checkpoint)
    shout(checkpoint["model"], label=0)
    torch.save(checkpoint, run.checkpoint)
    bundle = tmp_path / "model.tar.gz"
    pack_run(run.folder, bundle)
    answer = answer_of(bundle, tmp_path / "second" / "images" / "001.png")
    assert answer["scores"][0] > 0.9
    assert (answer["pred_classes"][0], answer["class_names"][0]) == (0, "dog")


def shout(state: dict[str, torch.Tensor], label: int) -> None:
    """Make every classifier of a state dict certain of `label`."""
    for name, value in state.items():
        if "cls_score" in name:
            value.zero_()
            if name.endswith("bias"):
                classes = 2 if name.startswith("head.") else len(value)
                value.view(-1, classes)[:, label] = 20.0
                if name.startswith("head."):
                    value.view(-1, classes)[:, 1 - label] = -20.0


def test_masks_of_a_perfect_model_score_one(tmp_path: Path) -> None:
    """Drawn rectangles, found as they are: the path from outlines to a score has no half pixel too many."""
    dataset = a_data_folder(tmp_path / "images", 4, masks=True)
    by_pixels = {}
    for record in dataset.images:
        path = tmp_path / "images" / record.file_name
        outlines = [rasterise(from_label(instance.segmentation), record.size) for instance in record.instances]
        by_pixels[Pillow.open(path).tobytes()] = Detections(
            size=ImageSize(*record.size),
            boxes=np.array([instance.box for instance in record.instances], dtype=np.float32),
            scores=np.ones(len(outlines), dtype=np.float32),
            labels=np.array([instance.label for instance in record.instances]),
            masks=tuple(encode(bitmap) for bitmap in outlines),
        )
    model = Model(lambda images: [by_pixels[image.tobytes()] for image in images], dataset.class_names, "a perfect one")
    scores = evaluate_detections(dataset, detect_all(model, dataset, tmp_path / "images"))
    assert scores["segm"].AP == scores["bbox"].AP == 1.0
