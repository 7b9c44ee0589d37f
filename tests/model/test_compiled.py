"""Compiled parts have the plain ones' answers, or are not used."""

import copy
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import C4, PROPOSALS_ONLY, RETINANET, a_detector, a_painting
from torch import nn

from sightline.errors import ConfigError
from sightline.model import compiled as module
from sightline.model.compiled import CompiledPart, Program, compiled, laid_out, shapes_of
from sightline.model.fpn import FPN
from sightline.model.optimized import OptimizedPredictor, optimized
from sightline.model.predictor import Predictor
from sightline.model.programs import check_compiler
from sightline.records import ImageSize

SIZE = ImageSize(90, 120)
ONE = [(1, SIZE)]
Made = Callable[[nn.Module, Any, Path], Any]


def a_pair(*words: str, precision: str = "fp32") -> tuple[Predictor, OptimizedPredictor]:
    """A plain predictor and the optimised one."""
    plain = Predictor(a_detector(*words), min_size=64, max_size=96, color_order="BGR")
    fast = optimized(plain, precision)
    assert isinstance(fast, OptimizedPredictor)
    return plain, fast


def pictures(count: int = 1) -> list[np.ndarray]:
    return [a_painting(SIZE, [(20.0, 20.0, 70.0, 80.0)], number) for number in range(count)]


def with_program_of(monkeypatch: pytest.MonkeyPatch, made: Made) -> list[torch.Size]:
    """`made` instead of a compiler. The shapes that it was asked for, in which it will be called."""
    asked: list[torch.Size] = []

    def program_of(part: nn.Module, inputs: Any, folder: Path) -> Any:
        asked.extend(shapes_of(inputs)[:1])
        return made(part, inputs, folder)

    monkeypatch.setattr(module, "program_of", program_of)
    return asked


def as_it_is(part: nn.Module, inputs: Any, folder: Path) -> Any:
    return part


@pytest.mark.parametrize("words", [(), C4, RETINANET, PROPOSALS_ONLY], ids=["FPN", "C4", "RetinaNet", "proposals"])
def test_backbone_and_dense_head_are_compiled(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = a_pair(*words)
    asked = with_program_of(monkeypatch, as_it_is)
    made = compiled(plain, fast, [(1, SIZE), (2, SIZE), (1, ImageSize(180, 240))], tmp_path / "compiled")
    assert made is not fast
    assert len(asked) == 4  # the last shape is resized to the first
    assert [shape[0] for shape in asked] == [1, 1, 2, 2]
    parts = [part for part in made.detector.modules() if isinstance(part, CompiledPart)]
    assert len(parts) == 2 and all(len(part.programs) == 2 for part in parts)
    for count in (1, 2, 3):  # the last has no program
        for found, wanted in zip(made(pictures(count)), plain(pictures(count)), strict=True):
            np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.01)
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert not any(part.programs for part in twin.detector.modules() if isinstance(part, CompiledPart))
        np.testing.assert_allclose(twin(pictures())[0].scores, plain(pictures())[0].scores, atol=1e-5)


def test_only_named_shapes_run_as_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def counted(part: nn.Module, inputs: Any, folder: Path) -> Any:
        def run(given: Any) -> Any:
            calls.extend(shapes_of(given)[:1])
            return part(given)

        return run

    with_program_of(monkeypatch, counted)
    made = compiled(*a_pair(), ONE, tmp_path / "compiled")
    calls.clear()
    made([np.rot90(pictures()[0])])
    assert calls == []
    made(pictures())
    assert calls == [(1, 3, 64, 96), (1, 16, 8, 12)]


def wrong_numbers(part: nn.Module, inputs: Any, folder: Path) -> Any:
    def run(given: Any) -> Any:
        answer = part(given)
        return {name: 1.01 * value for name, value in answer.items()} if isinstance(answer, dict) else answer

    return run


def broken(part: nn.Module, inputs: Any, folder: Path) -> Any:
    raise RuntimeError("no such operator\nand so on")


def test_a_program_with_other_answers_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_program_of(monkeypatch, wrong_numbers)
    made = compiled(*a_pair(), ONE, tmp_path / "compiled")
    told = "The compiled backbone for 1 x 96 x 64 px is not used: it differs by 1.0e-02, 1e-04 is allowed. It runs uncompiled."
    assert told in caplog.text
    parts = dict(made.detector.named_modules())
    backbone, head = parts["backbone"], parts["proposal_generator.rpn_head"]
    assert isinstance(backbone, CompiledPart) and not backbone.programs
    assert isinstance(head, CompiledPart) and head.programs


def test_what_cannot_be_compiled_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_program_of(monkeypatch, broken)
    plain, fast = a_pair()
    assert compiled(plain, fast, ONE, tmp_path / "compiled") is fast
    assert "backbone for 1 x 96 x 64 px is not used: it cannot be compiled here (no such operator). It runs" in caplog.text


def test_inputs_are_brought_into_the_layout_that_was_compiled_for() -> None:
    given = torch.rand(1, 8, 4, 4)
    wanted = given.contiguous(memory_format=torch.channels_last).half()
    made = laid_out(given, wanted.stride(), wanted.dtype)
    assert made.stride() == wanted.stride() and torch.equal(made, wanted)
    assert laid_out(wanted, wanted.stride(), wanted.dtype) is wanted


def test_without_a_compiler_there_is_one_error_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, .* leave out --compile"):
        compiled(*a_pair(), ONE, tmp_path / "compiled")


def test_compiled_in_earnest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The backbone alone, because a compiler takes ten seconds for each part. The second start needs none, a third notices."""
    try:
        check_compiler("cpu", os.environ)
    except ConfigError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(module, "DENSE", (FPN,))
    folder = tmp_path / "compiled"
    plain, fast = a_pair()
    caplog.set_level(logging.WARNING, logger="sightline")
    first = compiled(plain, fast, ONE, folder)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    second = compiled(plain, fast, ONE, folder)
    assert not [line for line in caplog.messages if "compiled" in line]
    wanted = plain(pictures())[0]
    for made in (first, second):
        backbone = made.detector.get_submodule("backbone")
        assert isinstance(backbone, CompiledPart)
        (program,) = backbone.programs.values()
        assert isinstance(program, Program)
        own = {weight.data_ptr() for weight in backbone.part.parameters()}
        assert program.weights and {weight.data_ptr() for weight in program.weights.values()} <= own
        found = made(pictures())[0]
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    (package,) = folder.glob("*.pt2")
    package.write_bytes(package.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        compiled(plain, fast, ONE, folder)
    assert "it was changed or damaged: compiled again" in caplog.text
