"""The exported graph beside the detector that it was made from: tiny random weights, every architecture, several batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import (
    C4,
    CASCADE,
    DC5,
    MASKS,
    PROPOSALS_ONLY,
    RETINANET,
    a_config,
    a_detector,
    a_painting,
    overrides,
)

from sightline.errors import ConfigError, RunError
from sightline.exporting.detector import graph_of, require_opset, tell, told
from sightline.exporting.forward import Forward
from sightline.exporting.graph import LARGEST_OPSET, LEAST_OPSET, OPSET
from sightline.exporting.torch_files import ask_export, ask_torchscript, export_bytes, exported, torchscript_bytes, traced
from sightline.exporting.verify import Ask, Some, by_picture, compare, judged, reference, samples, verify
from sightline.exporting.write import ask_onnx
from sightline.model.build import build_predictor
from sightline.model.predictor import Predictor
from sightline.records import ImageSize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MANY = overrides("MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0  TEST.DETECTIONS_PER_IMAGE 30")
"""Random weights tell nothing apart: every proposal is a detection of every class, and hundreds overlap."""

RETINANET_MANY = RETINANET + overrides("MODEL.RETINANET.SCORE_THRESH_TEST 0.0  TEST.DETECTIONS_PER_IMAGE 30")
SHAPES = {
    "fpn": MANY,
    "masks": MASKS + overrides("MODEL.PIXEL_STD (57.0,58.0,59.0)  INPUT.FORMAT RGB") + MANY,
    "c4 masks": C4 + MASKS + MANY,
    "dc5": DC5 + MANY,
    "cascade masks": CASCADE + MASKS + MANY,
    "retinanet": RETINANET_MANY,
    "retinanet norms": RETINANET_MANY + overrides("MODEL.RETINANET.NORM BN"),
    "proposals": PROPOSALS_ONLY + overrides("MODEL.RPN.POST_NMS_TOPK_TEST 40"),
    "all of them": MANY + overrides("TEST.DETECTIONS_PER_IMAGE -1"),
    "group norms": MANY
    + overrides(
        """
        MODEL.FPN.NORM GN  MODEL.FPN.OUT_CHANNELS 32  MODEL.ROI_BOX_HEAD.NORM GN  MODEL.ROI_BOX_HEAD.NUM_CONV 1
        MODEL.ROI_BOX_HEAD.CONV_DIM 32  MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True
        MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True  MODEL.FPN.FUSE_TYPE avg  MODEL.ANCHOR_GENERATOR.OFFSET 0.5
        """
    ),
    "shared masks": MASKS
    + overrides(
        """
        MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK True  MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlign
        MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2
        """
    )
    + MANY,
}


@dataclass(frozen=True)
class Case:
    predictor: Predictor
    ask: Ask
    most: int | None


def predictor_of(*options: str) -> Predictor:
    """A tiny detector whose boxes and scores are spread out."""
    detector = a_detector(*options)
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if any(
                part in name
                for part in ("cls_score.weight", "bbox_pred.weight", "objectness_logits.weight", "anchor_deltas.weight")
            ):
                parameter.mul_(20)
            if "mask_head.predictor.weight" in name:
                parameter.mul_(500)
        for name, buffer in detector.named_buffers():
            if "running_" in name:
                buffer.add_(torch.linspace(0, 0.5, buffer.numel()).view_as(buffer))
    return build_predictor(detector, a_config(*options))


def case_of(shape: str) -> Case:
    options = SHAPES[shape]
    predictor, config = predictor_of(*options), a_config(*options)
    model = graph_of(predictor.detector, config.input.format, OPSET)
    onnx.checker.check_model(model, full_check=True)
    most = config.model.rpn.post_nms_topk_test if shape == "proposals" else config.test.detections_per_image
    return Case(predictor, ask_onnx(model.SerializeToString()), most if most >= 0 else None)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_graph_finds_what_the_detector_finds(shape: str) -> None:
    case = case_of(shape)
    verified = verify(case.ask, case.predictor, samples(None), 0.0, case.most)
    assert verified.detections > 50
    assert verified.unmatched == 0
    assert verified.largest_score_difference < 1e-5
    assert verified.least_iou > 0.999
    assert (verified.largest_mask_difference is not None) == ("mask" in shape)


@pytest.mark.parametrize("shape", ["cascade masks", "retinanet", "c4 masks"])
def test_torchscript_finds_it_too(shape: str) -> None:
    predictor, config = predictor_of(*SHAPES[shape]), a_config(*SHAPES[shape])
    made = torchscript_bytes(traced(Forward(predictor.detector, config.input.format)), {})
    verified = verify(ask_torchscript(made), predictor, samples(None), 0.0, config.test.detections_per_image)
    assert verified.detections > 50
    assert verified.unmatched == 0


def test_torch_export_finds_it_too() -> None:
    """Of sizes of which no level is one cell, which it takes for a constant."""
    options = SHAPES["masks"] + overrides("INPUT.MIN_SIZE_TEST 130  INPUT.MAX_SIZE_TEST 260")
    predictor, config = predictor_of(*options), a_config(*options)
    made = export_bytes(exported(Forward(predictor.detector, config.input.format)), {"classes": ["a"]})
    verified = verify(ask_export(made), predictor, samples(None), 0.0, config.test.detections_per_image)
    assert verified.detections > 50
    assert verified.unmatched == 0


@pytest.mark.parametrize("opset", [LEAST_OPSET, LARGEST_OPSET])
def test_every_opset(opset: int) -> None:
    predictor = predictor_of(*SHAPES["masks"])
    model = graph_of(predictor.detector, "RGB", opset)
    assert model.opset_import[0].version == opset
    assert {node.domain for node in model.graph.node} == {""}
    assert verify(ask_onnx(model.SerializeToString()), predictor, samples(None), 0.0, 30).unmatched == 0


@pytest.mark.parametrize("opset", [LEAST_OPSET - 1, LARGEST_OPSET + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(ConfigError, match=f"is {opset}"):
        require_opset(opset)


@pytest.mark.parametrize("shape", ["masks", "retinanet", "proposals"])
def test_nothing_above_the_threshold(shape: str) -> None:
    """Empty tensors go through every head, in a batch of different sizes."""
    case = case_of(shape)
    pictures, sizes = np.zeros((2, 64, 96, 3), np.uint8), np.array([[64, 90], [33, 96]])
    boxes, scores, labels, owners, *masks = case.ask(pictures, sizes, 1.0)
    assert boxes.shape == (0, 4)
    assert scores.shape == labels.shape == owners.shape == (0,)
    assert [mask.shape for mask in masks] == ([(0, 10, 10)] if shape == "masks" else [])


def test_a_picture_without_proposals_beside_one_with() -> None:
    """Nothing of a picture of one pixel is wide enough."""
    options = (*SHAPES["masks"], *overrides("MODEL.PROPOSAL_GENERATOR.MIN_SIZE 8"))
    predictor = predictor_of(*options)
    ask = ask_onnx(graph_of(predictor.detector, "BGR", OPSET).SerializeToString())
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    pictures[0] = a_painting(ImageSize(64, 64), [(8, 8, 40, 40)])
    _, scores, _, owners, masks = ask(pictures, np.array([[64, 64], [1, 1]]), 0.0)
    assert set(owners.tolist()) == {0}
    assert len(masks) == len(scores) == 30
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_order_and_limits_of_a_batch() -> None:
    case = case_of("fpn")
    images = [a_painting(size, [(5, 5, 40, 40)], seed) for seed, size in enumerate([ImageSize(64, 90), ImageSize(96, 64)])]
    pictures = np.zeros((2, 96, 96, 3), np.uint8)
    for row, image in zip(pictures, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    boxes, scores, _, owners = case.ask(pictures, np.array([[64, 90], [96, 64]]), 0.0)
    assert owners.tolist() == [0] * 30 + [1] * 30
    for picture, (height, width) in enumerate([(64, 90), (96, 64)]):
        own = scores[owners == picture]
        assert own.tolist() == sorted(own.tolist(), reverse=True)
        assert boxes[owners == picture].min() >= 0
        assert (boxes[owners == picture].max(axis=0) <= [width, height, width, height]).all()


def test_what_is_beyond_a_picture_does_not_matter() -> None:
    """The padding is zero after normalisation, whatever the caller left there."""
    case = case_of("fpn")
    image = a_painting(ImageSize(50, 70), [(5, 5, 40, 40)])
    clean, dirty = np.zeros((1, 64, 96, 3), np.uint8), np.full((1, 64, 96, 3), 255, np.uint8)
    clean[0, :50, :70] = dirty[0, :50, :70] = image
    sizes = np.array([[50, 70]])
    for one, other in zip(case.ask(clean, sizes, 0.0), case.ask(dirty, sizes, 0.0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_threshold_is_the_callers() -> None:
    case = case_of("fpn")
    image = a_painting(ImageSize(64, 96), [(5, 5, 40, 40)])[None]
    _, everything, *_ = case.ask(image, np.array([[64, 96]]), 0.0)
    middle = float(np.median(everything))
    _, some, *_ = case.ask(image, np.array([[64, 96]]), middle)
    np.testing.assert_array_equal(some, everything[everything > middle])


def test_facts_travel_inside() -> None:
    model = graph_of(a_detector(), "BGR", OPSET)
    assert told(model) == {}
    tell(model, {"classes": ["Käse"]})
    tell(model, {"classes": ["Käse", "Brot"]})
    again = onnx.load_from_string(model.SerializeToString())
    assert told(again) == {"classes": ["Käse", "Brot"]}
    assert [entry.key for entry in again.metadata_props] == ["sightline"]


def some(*scores: float, shift: float = 0.0, masks: float | None = None) -> Some:
    boxes = np.array([[10.0 * n + shift, 0, 10.0 * n + 9 + shift, 9] for n in range(len(scores))], np.float32).reshape(-1, 4)
    grids = None if masks is None else np.full((len(scores), 4, 4), masks, np.float32)
    return Some(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), grids)


@pytest.mark.parametrize(
    ("found", "unmatched"),
    [
        (some(0.9, 0.8, 0.3), 0),
        (some(0.9, 0.8005, 0.3), 0),  # rounded
        (some(0.9, 0.79, 0.3), 2),  # another score
        (some(0.9, 0.8, 0.3, shift=1.0), 6),  # other boxes
        (some(0.9, 0.8), 1),  # one is missing
        (some(0.9, 0.8, 0.3, 0.2), 1),  # one too many
        (some(0.9, 0.8, 0.3, 0.0501), 0),  # at the threshold
    ],
)
def test_comparison(found: Some, unmatched: int) -> None:
    assert compare(some(0.9, 0.8, 0.3), found, 0.05, None).unmatched == unmatched


def test_the_last_of_a_full_list_may_differ() -> None:
    assert compare(some(0.9, 0.8, 0.3), some(0.9, 0.8), 0.05, 3).unmatched == 0
    assert compare(some(0.9, 0.8, 0.3), some(0.9), 0.05, 3).unmatched == 1


def test_a_full_list_of_equal_scores_is_no_excuse_for_all_of_it() -> None:
    one = compare(some(1.0, 1.0, 1.0), some(1.0, 1.0, 1.0, shift=500.0), 0.05, 3)
    assert (one.matched, one.unmatched, one.excused) == (0, 0, 6)
    with pytest.raises(RunError, match="6 detections differ between the export and the model, 0 agree"):
        judged([one])


def test_too_much_that_differs_is_an_error() -> None:
    alike = compare(some(*[0.5] * 200), some(*[0.5] * 200), 0.05, None)
    one_off = compare(some(0.9), some(), 0.05, None)
    assert judged([alike, one_off]).unmatched == 1
    with pytest.raises(RunError, match="1 detections differ"):
        judged([one_off])
    with pytest.raises(RunError, match=r"masks differ by up to 0\.2"):
        judged([compare(some(0.9, masks=0.5), some(0.9, masks=0.7), 0.05, None)])


def test_a_model_that_rounding_decides_about() -> None:
    """An export is blamed only where the detector in float64 agrees with itself."""
    case = case_of("fpn")

    def shifted(pictures: np.ndarray, sizes: np.ndarray, threshold: float) -> Sequence[np.ndarray]:
        boxes, *others = case.ask(pictures, sizes, threshold)
        return [boxes + 3, *others]

    with pytest.raises(RunError, match="differ between the export and the model"):
        verify(shifted, case.predictor, samples(None), 0.0, case.most)
    with torch.no_grad():
        for name, parameter in case.predictor.detector.named_parameters():
            if "objectness_logits.bias" in name or "cls_score.bias" in name:
                parameter.add_(1e6)  # what float32 adds to it loses four digits
    with pytest.raises(RunError, match="finds something else in float64 than in float32"):
        verify(shifted, case.predictor, samples(None), 0.0, case.most)


GOLDEN = ("faster_rcnn_fpn", "mask_rcnn_fpn", "retinanet", "cascade_mask_rcnn")


@pytest.mark.parametrize("name", GOLDEN)
def test_detectron2s_own_answers(name: str, shared: Path) -> None:
    """The graph gives what Detectron2 gave, not only what we make of it."""
    from sightline.bundle.archive import read_model_files
    from sightline.exporting.write import subject_of
    from sightline.images import read_image

    folder = shared / "golden" / name
    if not folder.is_dir():
        pytest.skip(f"no golden case {name}")
    subject = subject_of(read_model_files(folder), None)
    ask = ask_onnx(graph_of(subject.detector, subject.config.input.format, OPSET).SerializeToString())
    root = folder.parent / json.loads((folder.parent / "images.json").read_text())["root"]
    for expected in json.loads((folder / "inference.json").read_text())["images"][:1]:
        image = read_image(root / expected["file"])
        resized = subject.predictor.resized(image)
        height, width = (-(-side // 32) * 32 for side in resized.shape[:2])
        padded = np.zeros((1, height, width, 3), np.uint8)
        padded[0, : resized.shape[0], : resized.shape[1]] = resized
        (found,) = by_picture(ask(padded, np.array([resized.shape[:2]]), 0.05), 1)
        scale = np.array([expected["width"] / resized.shape[1], expected["height"] / resized.shape[0]] * 2)
        instances = expected["instances"]
        theirs = Some(
            np.array(instances["boxes"], np.float32),
            np.array(instances["scores"], np.float32),
            np.array(instances["classes"], np.int64),
            None,
        )
        mine = Some((found.boxes * scale).astype(np.float32), found.scores, found.labels, None)
        compared = compare(theirs, mine, 0.05, 40)
        assert compared.matched >= 30
        assert compared.unmatched == 0


def test_reference_and_samples_agree_with_themselves() -> None:
    """Comparing a detector with itself finds no difference, and samples have several sizes."""
    predictor = predictor_of(*SHAPES["masks"])
    pictures: Sequence[np.ndarray] = samples(None)
    assert len({picture.shape for picture in pictures}) > 2
    resized = [predictor.resized(picture) for picture in pictures]
    for one, other in zip(reference(predictor, resized), reference(predictor, resized), strict=True):
        assert compare(one, other, 0.0, 30).unmatched == 0
