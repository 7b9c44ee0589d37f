"""The predictor rebuilt for speed has the plain one's answers, and is refused where it has not."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from builders import BOTTLENECKS, C4, CASCADE, DC5, MASKS, PROPOSALS_ONLY, RETINANET, a_detector, a_painting, overrides

from sightline.errors import ConfigError
from sightline.geometry.masks import decode
from sightline.model.fast_convs import FastConv, WinogradConv
from sightline.model.instances import Found
from sightline.model.optimized import OptimizedPredictor, compare, optimized, parts
from sightline.model.predictor import Predictor
from sightline.model.varied import Variations
from sightline.records import Detections, Image, ImageSize

WIDE = overrides("MODEL.FPN.OUT_CHANNELS 64  MODEL.RESNETS.NORM FrozenBN")
GROUP_NORMS = overrides("MODEL.RESNETS.STEM_OUT_CHANNELS 32  MODEL.RESNETS.RES2_OUT_CHANNELS 32  MODEL.RESNETS.NORM GN")
HEAD_WITH_CONVS = overrides("MODEL.ROI_BOX_HEAD.NUM_CONV 1  MODEL.ROI_BOX_HEAD.CONV_DIM 64")

KINDS = {
    "plain": (),
    "bottlenecks": BOTTLENECKS,
    "wide": WIDE,
    "group norms": GROUP_NORMS,
    "convolutions in the box head": WIDE + HEAD_WITH_CONVS,
    "averaged pyramid": overrides("MODEL.FPN.FUSE_TYPE avg"),
    "two convolutions in the RPN": overrides("MODEL.RPN.CONV_DIMS (16,8)"),
    "masks": WIDE + MASKS,
    "cascade with masks": CASCADE + MASKS,
    "proposals": PROPOSALS_ONLY,
    "C4": C4,
    "C4 with masks": C4 + MASKS,
    "DC5": DC5,
    "RetinaNet": (*RETINANET, "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0"),
    "RetinaNet with norms a level": RETINANET + overrides("MODEL.RETINANET.NORM BN  MODEL.RETINANET.SCORE_THRESH_TEST 0.0"),
}
every_kind = pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)


def a_predictor(*words: str, variations: Variations | None = None) -> Predictor:
    return Predictor(a_detector(*words), min_size=64, max_size=96, color_order="BGR", variations=variations)


def photos() -> list[Image]:
    return [a_painting(ImageSize(90, 120), [(20.0, 20.0, 70.0, 80.0)], 1), a_painting(ImageSize(40, 40), [], 2)]


def assert_close(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.01)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    assert (found.masks is None) == (wanted.masks is None)
    for one, other in zip(found.masks or (), wanted.masks or (), strict=True):
        assert np.count_nonzero(decode(one) != decode(other)) <= 3


@every_kind
def test_every_architecture_finds_the_same(words: tuple[str, ...]) -> None:
    plain = a_predictor(*words)
    fast = optimized(plain)
    assert isinstance(fast, OptimizedPredictor)
    assert any(isinstance(part, FastConv) for part in fast.detector.modules())
    for found, wanted in zip(fast(photos()), plain(photos()), strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("words", [BOTTLENECKS, C4 + MASKS, RETINANET], ids=["FPN", "C4", "RetinaNet"])
def test_the_plain_one_stays_as_it_was(words: tuple[str, ...]) -> None:
    plain = a_predictor(*words)
    before = copy.deepcopy(plain.detector.state_dict())
    kinds = [type(part) for part in plain.detector.modules()]
    optimized(plain)(photos())
    after = plain.detector.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert [type(part) for part in plain.detector.modules()] == kinds
    assert not any(part._forward_hooks for part in plain.detector.modules())


def test_wide_layers_go_winograds_way() -> None:
    assert any(isinstance(part, WinogradConv) for part in optimized(a_predictor(*WIDE)).detector.modules())  # type: ignore[attr-defined]


@every_kind
def test_a_wrong_number_in_any_part_is_noticed(words: tuple[str, ...]) -> None:
    """Whatever the model finds: half of the weights of one layer are 2 % too large, part after part."""
    plain = a_predictor(*words)
    made = OptimizedPredictor(plain, "fp32")
    for name, _ in parts(plain.detector):
        own = [layer for layer in made.detector.get_submodule(name).modules() if isinstance(layer, FastConv)]
        if not own:
            continue
        weight = next(own[-1].parameters())
        right = weight.clone()
        weight.mul_(1 + 0.02 * (torch.rand_like(weight) > 0.5))
        assert [line.split()[0] for line in compare(plain, made)] == [name]
        weight.copy_(right)
    assert not compare(plain, made)


def test_beyond_tolerance_the_plain_one_is_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("sightline.model.fast_convs.EPSILON", 0.1)
    plain = a_predictor(*WIDE)
    with caplog.at_level(logging.WARNING):
        assert optimized(plain) is plain
    assert "not used: backbone differs by" in caplog.text


def test_what_cannot_run_here_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> torch.Tensor:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(WinogradConv, "forward", fails)
    plain = a_predictor(*WIDE)
    assert optimized(plain) is plain
    assert "no such operator" in caplog.text


def test_not_a_number_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    plain = a_predictor()
    with torch.no_grad():
        next(plain.detector.parameters()).fill_(float("nan"))
    assert optimized(plain) is plain
    assert "differs by nan" in caplog.text


def test_what_is_compared_covers_what_was_rebuilt() -> None:
    names = {name for name, _ in parts(a_detector(*CASCADE, *MASKS))}
    heads = {f"roi_heads.box_head.{stage}" for stage in range(3)}
    poolers = {"roi_heads.box_pooler", "roi_heads.mask_pooler"}
    assert names == {"backbone", "proposal_generator.rpn_head", "roi_heads.mask_head", *poolers, *heads}
    assert "roi_heads.res5" in {name for name, _ in parts(a_detector(*C4))}


def test_with_variations() -> None:
    how = Variations(min_sizes=(48, 64), max_size=96, flip=True, nms_iou=0.5, max_detections=100, classes=2)
    plain = a_predictor(*MASKS, variations=how)
    fast = optimized(plain)
    assert fast is not plain
    assert_close(fast(photos())[0], plain(photos())[0])


def test_features_of_a_call_are_not_overwritten_by_the_next() -> None:
    plain = a_predictor(*WIDE)
    detector = OptimizedPredictor(plain, "fp32").detector
    batch = torch.randn(1, 3, 256, 320)
    with torch.inference_mode():
        first = detector.extract(batch)
        kept = {name: feature.clone() for name, feature in first.items()}
        detector.extract(-batch)
    for name, feature in kept.items():
        assert torch.equal(first[name], feature)


def test_it_can_be_pickled_and_copied() -> None:
    fast = optimized(a_predictor(*WIDE))
    for twin in (pickle.loads(pickle.dumps(fast)), copy.deepcopy(fast)):
        np.testing.assert_array_equal(twin(photos())[0].boxes, fast(photos())[0].boxes)


def test_bf16_finds_what_float32_finds() -> None:
    plain = a_predictor(*WIDE)
    fast = optimized(plain, "bf16")
    assert isinstance(fast, OptimizedPredictor) and fast.precision == "bf16"
    found, wanted = fast(photos())[0], plain(photos())[0]
    assert found.boxes.dtype == np.float32
    assert found.scores[0] == pytest.approx(wanted.scores[0], abs=0.02)
    assert any(found.scores[:10] != wanted.scores[:10])


def test_half_precision_that_overflows_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    plain = a_predictor(*WIDE)
    with torch.no_grad():
        plain.detector.get_submodule("backbone.bottom_up.stem.conv1").weight.mul_(1e5)
    assert optimized(plain, "fp16") is plain
    assert "(fp16) is not used" in caplog.text


def test_who_insists_gets_an_error() -> None:
    plain = a_predictor(*WIDE)
    with torch.no_grad():
        plain.detector.get_submodule("backbone.bottom_up.stem.conv1").weight.mul_(1e5)
    with pytest.raises(ConfigError, match=r"precision: fp16 cannot be used for this model here: backbone .* fp32 is"):
        optimized(plain, "fp16", insist=True)


def test_no_such_precision() -> None:
    with pytest.raises(ConfigError, match=r"'int4' is none. Use one of fp32, fp16, bf16"):
        optimized(a_predictor(), "int4")


def test_no_pictures_and_empty_answers() -> None:
    fast = optimized(a_predictor("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0", *WIDE, *MASKS))
    assert fast([]) == []
    assert [len(found) for found in fast(photos())] == [0, 0]
    assert isinstance(fast.found([fast.resized(photos()[0])], [ImageSize(90, 120)])[0], Found)
