"""A detector's stages behind the server: resized beside the model, batched by padded size, and the same answers as alone."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import MASKS, a_detector, a_painting
from http_raw import eventually

from sightline.model.instances import Found
from sightline.model.predictor import Predictor
from sightline.records import Image, ImageSize, Model
from sightline.serving.server import running
from sightline.serving.stages import stages_of

PNG = {"Content-Type": "image/png"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]


class Held(Predictor):
    """It stops before its first batch until it is let go, and remembers whose pictures came together."""

    def __init__(self, *overrides: str) -> None:
        super().__init__(a_detector(*overrides), min_size=64, max_size=96, color_order="BGR")
        self.entered, self.go = threading.Semaphore(0), threading.Event()
        self.batches: list[list[tuple[int, ...]]] = []

    def found(self, resized: Sequence[Image], sizes: Sequence[ImageSize]) -> list[Found]:
        self.batches.append([image.shape[:2] for image in resized])
        self.entered.release()
        self.go.wait(20)
        return super().found(resized, sizes)


def a_photo(height: int, width: int) -> Image:
    return a_painting(ImageSize(height, width), [(width * 0.2, height * 0.2, width * 0.6, height * 0.7)], seed=height)


@pytest.mark.parametrize("overrides", [(), MASKS], ids=["boxes", "masks"])
def test_similar_shapes_share_a_batch_and_give_what_they_give_alone(
    overrides: tuple[str, ...], call: Call, as_bytes: Callable[..., bytes]
) -> None:
    """Resized they are 64 x 96, 64 x 89 and 64 x 86, and pad to 64 x 96; the upright one pads to 96 x 64."""
    pictures = [a_photo(64, 96), a_photo(120, 166), a_photo(60, 81), a_photo(96, 64)]
    predict = Held(*overrides)
    model = Model(predict, ("a", "b"), "tiny")
    with running(model) as url, ThreadPoolExecutor(5) as pool:

        def ask(picture: Image) -> dict[str, list[object]]:
            status, _, body = call(url, "POST", "/invocations", as_bytes(picture), PNG)
            assert status == 200, body
            return json.loads(body)

        first = pool.submit(ask, a_photo(64, 64))
        predict.entered.acquire()
        others = [pool.submit(ask, picture) for picture in pictures]
        eventually(lambda: b"\nsightline_queue 4\n" in call(url, "GET", "/metrics")[2])
        predict.go.set()
        first.result()
        answers = [one.result() for one in others]
    assert sorted(map(sorted, predict.batches[1:])) == [[(64, 86), (64, 89), (64, 96)], [(96, 64)]]
    for picture, answer in zip(pictures, answers, strict=True):
        (alone,) = predict([picture])
        assert len(alone) > 0
        assert answer["image_size"] == list(picture.shape[:2])
        assert answer["pred_classes"] == alone.labels.tolist()
        np.testing.assert_allclose(answer["scores"], alone.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(answer["pred_boxes"], alone.boxes, rtol=0, atol=1e-3)
        assert ("pred_masks_rle" in answer) == (alone.masks is not None)


def test_a_plain_callable_gets_pictures_as_they_are_and_shares_batches_by_shape(model: Model) -> None:
    stages = stages_of(model.predict)
    image = a_photo(30, 40)
    picture = stages.picture(image)
    np.testing.assert_array_equal(picture.pixels, image)
    assert stages.key(image) == stages.key(a_photo(30, 40)) != stages.key(a_photo(31, 40))
    (found,) = stages.found([image], [picture.size])
    np.testing.assert_array_equal(stages.detections(found, picture.size).boxes, model.predict([image])[0].boxes)


def test_stages_without_a_size_of_input_share_batches_by_resized_shape() -> None:
    predict = Held()
    predict.input_size = None  # type: ignore[assignment]
    stages = stages_of(predict)
    assert stages.key(a_photo(64, 89)) == (64, 89)
