"""Test-time augmentation: boxes travel to every version of a picture and back, and what all versions found becomes one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import MASKS, PROPOSALS_ONLY, RETINANET, a_config, a_detector, a_painting
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.errors import ConfigError
from sightline.model.build import build_detector, build_predictor
from sightline.model.detector import Detector
from sightline.model.instances import Found
from sightline.model.predictor import Predictor
from sightline.model.varied import TOGETHER, Variations, detect_varied, merge, versions
from sightline.records import Detections, Image, ImageSize

SIZE = ImageSize(48, 64)


def a_photo(seed: int = 0, size: ImageSize = SIZE) -> Image:
    return a_painting(size, [(10, 8, 30, 24), (40, 20, 60, 44)], seed)


def how(**changes: object) -> Variations:
    defaults = {"min_sizes": (48,), "max_size": 999, "flip": False, "nms_iou": 0.5, "max_detections": 50, "classes": 2}
    return Variations(**(defaults | changes))  # type: ignore[arg-type]


def some_found(*rows: tuple[float, ...], scores: tuple[float, ...], labels: tuple[int, ...]) -> Found:
    return Found(torch.tensor(rows).reshape(-1, 4).float(), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def test_there_is_a_version_for_each_size_and_its_mirror() -> None:
    seen = versions(a_photo(), SIZE, how(min_sizes=(24, 96), flip=True))
    assert [(v.size, v.mirrored) for v in seen] == [
        ((24, 32), False),
        ((24, 32), True),
        ((96, 128), False),
        ((96, 128), True),
    ]
    assert all(version.image.shape == (*version.size, 3) for version in seen)
    np.testing.assert_array_equal(seen[3].image, seen[2].image[:, ::-1])


def test_the_longer_side_is_limited() -> None:
    (seen,) = versions(a_photo(), SIZE, how(min_sizes=(96,), max_size=80))
    assert seen.size == (60, 80)


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "mirrored too"])
def test_boxes_travel_there_and_back(flip: bool) -> None:
    """From a picture of 96 x 160 that the detector sees at 48 x 64."""
    boxes = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)) * 80
    for version in versions(a_photo(), ImageSize(96, 160), how(min_sizes=(24, 48, 100), flip=flip)):
        assert_close(version.back(version.there(boxes)), boxes)
        assert_close(version.there(version.back(boxes)), boxes)


def test_boxes_are_where_the_pixels_are() -> None:
    """A bright rectangle in the original, twice as large as what the detector sees, lies where `there` says."""
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[8:24, 10:30] = 255
    for version in versions(pixels, ImageSize(96, 128), how(min_sizes=(48, 96), flip=True)):
        rows, columns = (version.image[:, :, 0] > 127).nonzero()
        inked = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        (box,) = version.there(torch.tensor([[20.0, 16, 60, 48]])).tolist()
        assert_close(torch.tensor(inked).float(), torch.tensor(box), rtol=0, atol=1.0)
        assert box[2] > box[0]


def test_all_versions_are_suppressed_together_class_by_class() -> None:
    one = some_found((0, 0, 10, 10), (20, 20, 30, 30), scores=(0.9, 0.3), labels=(0, 1))
    other = some_found((0, 0, 10, 9), (20, 20, 30, 29), scores=(0.8, 0.4), labels=(0, 0))
    found = merge([one, other], SIZE, how())
    assert_close(found.scores, torch.tensor([0.9, 0.4, 0.3]))
    assert found.labels.tolist() == [0, 0, 1]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 29], [20, 20, 30, 30]]


def test_the_best_of_all_versions_are_kept() -> None:
    parts = [some_found((i * 10, 0, i * 10 + 9, 9), scores=(0.1 * i + 0.1,), labels=(i % 2,)) for i in range(6)]
    assert_close(merge(parts, SIZE, how(max_detections=2)).scores, torch.tensor([0.6, 0.5]))


def test_what_leaves_the_picture_is_cut_or_dropped() -> None:
    found = merge([some_found((60, 40, 80, 60), (64, 0, 80, 9), scores=(0.9, 0.8), labels=(0, 0))], SIZE, how())
    assert found.boxes.tolist() == [[60, 40, 64, 48]]


def test_nothing_found_in_any_version() -> None:
    found = merge([some_found(scores=(), labels=())] * 2, SIZE, how())
    assert (found.boxes.shape, len(found)) == ((0, 4), 0)


class Bright(Detector):
    """Finds the bounds of what is bright, as a detector without weights; its mask is the left half of the box.

    batches: how many pictures each call of `find` and of `with_masks` was given
    """

    def __init__(self) -> None:
        super().__init__(backbone=nn.Identity(), pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1), size_divisor=32)
        self.batches: list[int] = []

    def extract(self, batch: Tensor) -> dict[str, Tensor]:
        return {"pixels": batch}

    def find(self, features: dict[str, Tensor], sizes: list[ImageSize]) -> list[Found]:
        self.batches.append(len(sizes))
        return [self.bounds(pixels[0] > 127) for pixels in features["pixels"]]

    def bounds(self, bright: Tensor) -> Found:
        rows, columns = bright.any(1).nonzero(), bright.any(0).nonzero()
        box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
        return Found(box[None], torch.tensor([0.9]), torch.tensor([1]))

    @property
    def gives_masks(self) -> bool:
        return True

    def with_masks(self, features: dict[str, Tensor], found: list[Found]) -> list[Found]:
        """What is red in the box's left and right half: 1 or 0, in a grid of 2 x 2."""
        self.batches.append(len(found))
        return [replace(f, masks=self.halves(pixels, f.boxes)) for pixels, f in zip(features["pixels"], found, strict=True)]

    def halves(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        grids = []
        for x1, y1, x2, y2 in boxes.round().int().tolist():
            middle = (x1 + x2) // 2
            left, right = pixels[1, y1:y2, x1:middle].mean() / 255, pixels[1, y1:y2, middle:x2].mean() / 255
            grids.append(torch.stack((left, right)).expand(2, 2))
        return torch.stack(grids)


def half_red() -> Image:
    """A bright box (16, 8, 48, 40) whose left half is bright in green, too."""
    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    pixels[8:40, 16:48, 0] = 255
    pixels[8:40, 16:32, 1] = 255
    return pixels


@pytest.mark.parametrize("flip", [False, True])
def test_every_version_finds_the_same_object_and_the_same_mask(flip: bool) -> None:
    found = detect_varied(Bright().eval(), half_red(), SIZE, how(min_sizes=(48, 96), flip=flip), "RGB")
    assert_close(found.boxes, torch.tensor([[16.0, 8, 48, 40]]))
    assert (found.scores.tolist(), found.labels.tolist()) == (pytest.approx([0.9]), [1])
    assert_close(found.masks, torch.tensor([[[1.0, 0], [1, 0]]]), rtol=0, atol=0.05)


def test_versions_run_three_at_a_time() -> None:
    """The number is part of the result: smaller versions are padded to the largest of their batch."""
    detector = Bright().eval()
    detect_varied(detector, half_red(), SIZE, how(min_sizes=(48, 64), flip=True), "RGB")
    assert TOGETHER == 3
    assert detector.batches == [3, 1, 3, 1]


def predictor(*overrides: str, **changes: str) -> Predictor:
    """A tiny one with `TEST.AUG`'s keys as given: min_sizes="(64,)"."""
    aug = [text for key, value in changes.items() for text in (f"TEST.AUG.{key.upper()}", value)]
    config = a_config(*overrides, *(("TEST.AUG.ENABLED", "True", *aug) if aug else ()))
    return build_predictor(a_detector(*overrides), config)


def assert_same(one: Detections, other: Detections, **tolerance: float) -> None:
    assert len(one) == len(other) > 0
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), **tolerance)


@pytest.mark.parametrize("overrides", [(), MASKS], ids=["boxes", "masks"])
def test_the_usual_size_alone_is_plain_prediction(overrides: tuple[str, ...]) -> None:
    (plain,) = predictor(*overrides)([a_photo(size=ImageSize(70, 90))])
    (varied,) = predictor(*overrides, min_sizes="(64,)", max_size="96", flip="False")([a_photo(size=ImageSize(70, 90))])
    assert_same(varied, plain, rtol=1e-4, atol=1e-3)
    assert varied.masks == plain.masks


def test_more_versions_find_other_things() -> None:
    (plain,) = predictor()([a_photo()])
    (varied,) = predictor(min_sizes="(64,96)", max_size="200", flip="True")([a_photo()])
    assert len(plain) != len(varied) or not np.array_equal(plain.scores, varied.scores)


@pytest.mark.parametrize("overrides", [(), MASKS], ids=["boxes", "masks"])
def test_a_mirrored_picture_has_mirrored_detections(overrides: tuple[str, ...]) -> None:
    """Both are seen either way round; only the order of the versions differs. 64 px: no padding, which has no mirror."""
    picture = a_photo(size=ImageSize(64, 64))
    predict = predictor(*overrides, min_sizes="(64,)", max_size="96", flip="True")
    (found,), (other,) = predict([picture]), predict([picture[:, ::-1].copy()])
    back = other.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [64, 0, 64, 0]
    assert_same(replace(other, boxes=back.astype(np.float32), masks=None), replace(found, masks=None), rtol=1e-4, atol=1e-3)
    assert (found.masks is None) == (overrides == ())


def test_masks_are_the_mean_of_all_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask head that says 'the left of the box' says it of the mirrored picture, too: together, the middle of both."""
    detector = a_detector(*MASKS)
    head = detector.get_submodule("roi_heads.mask_head")

    columns = torch.linspace(4, -4, 10)
    monkeypatch.setattr(head, "forward", lambda x: columns.expand(len(x), 2, 10, 10))
    mirrored = detect_varied(detector, a_photo(), SIZE, how(flip=True), "BGR").masks
    plain = detect_varied(detector, a_photo(), SIZE, how(), "BGR").masks
    left = columns.sigmoid()
    assert_close(plain[0, 0], left)
    assert_close(mirrored[0, 0], (left + left.flip(0)) / 2)


@pytest.mark.parametrize("overrides", [RETINANET, PROPOSALS_ONLY], ids=["RetinaNet", "proposals"])
def test_only_two_stages_have_it(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"TEST\.AUG\.ENABLED is True with \w+\. Only GeneralizedRCNN has it"):
        build_detector(a_config(*overrides, "TEST.AUG.ENABLED", "True"))
