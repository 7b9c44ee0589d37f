"""What is asked of the runtime: what contradicts itself or cannot work is told before anything is read."""

import json

import pytest

from sightline.errors import ConfigError
from sightline.model import optimized
from sightline.records import ImageSize
from sightline.runtimes.asked import PRECISIONS, Execution


@pytest.mark.parametrize(
    ("execution", "runtime"),
    [
        (Execution(), "auto"),
        (Execution("onnx", optimize=False), "onnx"),  # says nothing to it
        (Execution(precision="bf16"), "torch"),
        (Execution("torch", precision="fp16"), "torch"),
        (Execution(compile=True, compile_for=("640x480",)), "torch"),
    ],
)
def test_what_only_torch_can_is_done_by_torch(execution: Execution, runtime: str) -> None:
    assert execution.asked == runtime
    assert Execution(**json.loads(json.dumps(execution.options()))) == execution


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ({"runtime": "torhc"}, ["runtime: is 'torhc'. Did you mean 'torch'?"]),
        ({"precision": "int4"}, ["precision: is 'int4'. Use one of fp32, fp16, bf16."]),
        ({"runtime": "onnx", "precision": "fp16"}, ["precision: is for torch, not for onnx. Use --runtime torch"]),
        ({"optimize": False, "precision": "bf16"}, ["precision: is bf16 beside --no-optimize (optimize=False). Leave one"]),
        ({"runtime": "fast", "precision": "int4"}, ["runtime: is 'fast'", "precision: is 'int4'"]),
        ({"runtime": "onnx", "compile": True}, ["compile: is for torch, not for onnx. Use --runtime torch"]),
        ({"optimize": False, "compile": True}, ["compile: is for the optimised model, beside --no-optimize"]),
        ({"compile_for": ("640x480",)}, ["compile_for: is given without compile. Give --compile"]),
        (
            {"compile": True, "compile_for": ("640x480", "640 x 480", "0x480", "640x480x", "1x1x1x1")},
            ["compile_for: has '640 x 480'. Give WIDTHxHEIGHT", "has '0x480'", "has '640x480x'", "has '1x1x1x1'"],
        ),
        ({"compile": True, "compile_for": ("640x480",) * 9}, ["compile_for: has 9 shapes. Give 8 at most"]),
    ],
)
def test_contradictions_are_told_together(words: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Execution(**words)  # type: ignore[arg-type]
    assert len(error.value.problems) == len(messages)
    assert all(message in str(error.value) for message in messages)


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        ((), [(1, ImageSize(480, 640)), (1, ImageSize(640, 480))]),
        (("1920x1080", "1920x1080x8"), [(1, ImageSize(1080, 1920)), (8, ImageSize(1080, 1920))]),
    ],
)
def test_what_is_compiled_for(given: tuple[str, ...], shapes: list[tuple[int, ImageSize]]) -> None:
    assert Execution(compile=True, compile_for=given).shapes == shapes


def test_precisions_are_those_of_the_model() -> None:
    assert tuple(optimized.PRECISIONS) == PRECISIONS
