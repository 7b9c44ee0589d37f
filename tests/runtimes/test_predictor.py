"""A graph as a predictor: what torch's does around its detector, in numpy, in every runtime."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import a_detector, a_painting
from graphs import MASK, a_graph, told_of

from sightline.errors import BundleError, ConfigError, MissingDependencyError
from sightline.exporting.detector import graph_of
from sightline.geometry.masks import decode
from sightline.model.detector import rescaled as torch_rescaled
from sightline.model.instances import Found as TorchFound
from sightline.records import Image, ImageSize, StagedPredict
from sightline.runtimes import onnxruntime, openvino
from sightline.runtimes.graph import read_told
from sightline.runtimes.predictor import GraphPredictor, rescaled
from sightline.runtimes.running import Answers, Batch, Running

STARTS = {"onnx": onnxruntime.start, "openvino": openvino.start}
Make = Callable[..., GraphPredictor]


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def make(request: pytest.FixtureRequest) -> Make:
    def make(*, score_threshold: float = 0.05, **facts: object) -> GraphPredictor:
        content = a_graph(masks=bool(facts.get("masks")), told=told_of(**facts))
        running = STARTS[request.param](content, "model.onnx", device="cpu", threads=1)
        return GraphPredictor(
            running, read_told(content, "model.onnx"), "model.onnx", score_threshold=score_threshold, classes=2
        )

    return make


def red(size: ImageSize, box: tuple[int, int, int, int], *, green: int = 0) -> Image:
    """Black, but for one red rectangle."""
    pixels = np.zeros((*size, 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = (200, green, 0)
    return pixels


def test_boxes_come_back_in_the_pictures_own_pixels(make: Make) -> None:
    """Two sizes in one batch, which is padded; one picture is enlarged, one made smaller, and one has nothing."""
    pictures = [red(ImageSize(32, 40), (8, 4, 24, 20)), red(ImageSize(256, 300), (40, 80, 200, 160), green=255)]
    pictures += [np.zeros((50, 50, 3), np.uint8)]
    small, large, nothing = make()(pictures)
    np.testing.assert_allclose(small.boxes, [[8, 4, 24, 20]], atol=1)
    np.testing.assert_allclose(large.boxes, [[40, 80, 200, 160]], atol=4)
    assert (small.labels.tolist(), large.labels.tolist(), len(nothing)) == ([0], [1], 0)
    assert small.scores.tolist() == pytest.approx([200 / 255])
    assert [found.size for found in (small, large, nothing)] == [(32, 40), (256, 300), (50, 50)]
    assert (small.boxes.dtype, small.scores.dtype, small.labels.dtype) == (np.float32, np.float32, np.int64)


def test_a_batch_gives_what_each_alone_gives(make: Make) -> None:
    pictures = [red(ImageSize(64, 80), (8, 4, 24, 20)), red(ImageSize(80, 64), (1, 2, 3, 70), green=255)]
    predict = make(masks=True)
    for together, picture in zip(predict(pictures), pictures, strict=True):
        (alone,) = predict([picture])
        np.testing.assert_array_equal(together.boxes, alone.boxes)
        assert together.masks == alone.masks
    assert predict([]) == []


def test_the_threshold_is_asked_for_at_every_run(make: Make) -> None:
    picture = red(ImageSize(64, 64), (8, 4, 24, 20))
    assert len(make(score_threshold=0.78)([picture])[0]) == 1
    assert len(make(score_threshold=0.79)([picture])[0]) == 0


def test_masks_cover_their_boxes(make: Make) -> None:
    (found,) = make(masks=True)([red(ImageSize(64, 64), (8, 4, 40, 36))])
    assert found.masks is not None
    bitmap = decode(found.masks[0])
    assert bitmap.shape == (64, 64)
    assert bitmap[12:28, 16:32].all()
    assert not bitmap[4:6, 8:10].any()  # the corner, where MASK has 0.1
    assert MASK[0, 0] < 0.5
    assert not bitmap[:, 42:].any()


def test_the_stages_together_are_the_call(make: Make) -> None:
    predict = make(masks=True)
    assert isinstance(predict, StagedPredict)
    picture = a_painting(ImageSize(70, 90), [(10, 10, 40, 50)], seed=1)
    size = ImageSize(70, 90)
    (found,) = predict.found([predict.resized(picture)], [size])
    staged, (whole,) = predict.detections(found, size), predict([picture])
    np.testing.assert_array_equal(staged.boxes, whole.boxes)
    assert staged.masks == whole.masks
    assert len(whole)
    assert predict.input_size.padded(ImageSize(64, 82)) == (64, 96)


def test_several_threads_at_once(make: Make) -> None:
    predict = make()
    pictures = [red(ImageSize(64, 64 + 2 * n), (8, 4, 24, 20 + n)) for n in range(8)]
    expected = [predict([picture])[0].boxes for picture in pictures]
    wrong = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.array_equal(predict([pictures[number]])[0].boxes, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_boxes_are_moved_as_torchs_predictor_moves_them() -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 96, (200, 2, 2)), axis=1).reshape(200, 4).astype(np.float32)
    boxes[:20, 2:] = boxes[:20, :2]  # empty
    boxes[20:40] *= 1.5  # outside
    answers = {"boxes": boxes, "scores": rng.random(200).astype(np.float32), "labels": np.arange(200) % 2}
    inside, output = ImageSize(64, 96), ImageSize(313, 471)
    ours = rescaled(answers, np.arange(200), inside, output)
    parts = (torch.from_numpy(answers[name]) for name in ("boxes", "scores", "labels"))
    theirs = torch_rescaled(TorchFound(*parts), inside, output)
    np.testing.assert_array_equal(ours.boxes, theirs.boxes.numpy())
    np.testing.assert_array_equal(ours.scores, theirs.scores.numpy())
    assert 0 < len(ours.boxes) < 200


ANSWERS = {
    "boxes": np.zeros((1, 4), np.float32),
    "scores": np.ones(1, np.float32),
    "labels": np.zeros(1, np.int64),
    "picture": np.zeros(1, np.int64),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": np.zeros((2, 4), np.float32)}, r"answers with boxes of shape \(2, 4\)"),
        ({"labels": np.int64([2])}, r"answers with labels from 2 to 2 for 2 classes"),
        ({"labels": np.int64([-1])}, r"answers with labels from -1 to -1 for 2 classes"),
        ({"picture": np.int64([1])}, r"answers with pictures from 1 to 1 of 1"),
    ],
)
def test_answers_that_are_not_what_was_promised(changed: Answers, message: str) -> None:
    told = read_told(a_graph(), "here")
    running = Running("fake", "cpu", lambda batch: ANSWERS | changed)
    predict = GraphPredictor(running, told, "here: model.onnx", score_threshold=0.1, classes=2)
    with pytest.raises(BundleError, match=rf"here: model\.onnx: {message}\. Export it again"):
        predict([np.zeros((64, 64, 3), np.uint8)])
    fine = GraphPredictor(replace(running, run=lambda batch: ANSWERS), told, "here", score_threshold=0.1, classes=2)
    assert len(fine([np.zeros((64, 64, 3), np.uint8)])[0]) == 0  # its box is empty


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_graph_that_the_runtime_cannot_run(runtime: str) -> None:
    broken = a_graph().replace(b"ReduceMax", b"ReduceXax")
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be run by (ONNX Runtime|OpenVINO) \(.+\)\. Export it again"):
        STARTS[runtime](broken, "model.onnx", device="cpu", threads=1)


@pytest.mark.parametrize(
    ("runtime", "device", "message"),
    [
        ("onnx", "cuda", r"'cuda' needs ONNX Runtime's build for CUDA, which is not installed\. Use --runtime torch"),
        ("onnx", "mps", r"'mps' is none that ONNX Runtime is used on\. Use auto, cpu or cuda\."),
        ("openvino", "cuda:0", r"'cuda:0' is none that OpenVINO is used on\. Use cpu"),
    ],
)
def test_devices_that_are_not_there(runtime: str, device: str, message: str) -> None:
    if device == "cuda" and onnxruntime.knows_cuda():
        pytest.skip("this ONNX Runtime was built for CUDA")
    with pytest.raises(ConfigError, match=f"device: {message}"):
        STARTS[runtime](a_graph(), "model.onnx", device=device, threads=1)


@pytest.mark.parametrize(("runtime", "module"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed(runtime: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(
        MissingDependencyError, match=rf"needs '{module}', which is not installed. Run: pip install 'sightline\["
    ):
        STARTS[runtime](a_graph(), "model.onnx", device="cpu", threads=1)


@pytest.mark.parametrize("runtime", STARTS)
def test_an_exported_detector_answers_by_the_graphs_own_names(runtime: str) -> None:
    """Compiled, OpenVINO calls outputs by names of its own as well, which come first in the alphabet."""
    onnx = graph_of(a_detector(), "BGR", 17).SerializeToString()
    running = STARTS[runtime](onnx, "here", device="cpu", threads=1)
    batch = Batch(np.zeros((1, 64, 96, 3), dtype=np.uint8), np.array([[64, 96]]), 0.0)
    assert running.run(batch).keys() == {"boxes", "scores", "labels", "picture"}
