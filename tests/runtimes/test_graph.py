"""`model.onnx` before anything of it runs: what is foreign, newer, damaged or reaches outside is refused with the reason."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import a_graph, a_model, told_of
from onnx import TensorProto, helper, numpy_helper

from sightline.errors import BundleError
from sightline.runtimes import protobuf
from sightline.runtimes.graph import read_told
from sightline.runtimes.protobuf import Port


def test_what_a_graph_tells(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(a_graph(masks=True))
    for onnx_file in (a_graph(masks=True), tmp_path / "model.onnx"):
        told = read_told(onnx_file, "here")
        assert (told.classes, told.min_size, told.max_size, told.masks, told.precision) == (
            ("cat", "dog"),
            64,
            96,
            True,
            "fp32",
        )


def test_read_as_the_onnx_library_reads_it() -> None:
    model = a_model(masks=True)
    said = protobuf.read(memoryview(model.SerializeToString()))
    assert [port.name for port in said.inputs] == [port.name for port in model.graph.input]
    assert said.inputs[0] == Port("pictures", "uint8", 4)
    assert said.outputs[-1] == Port("masks", "float32", 3)
    assert said.properties == {entry.key: entry.value for entry in model.metadata_props}
    assert (said.opset, said.external) == (17, ())


def told(**changes: object) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        helper.set_model_props(model, {"sightline": json.dumps(told_of(**changes))})
        return model

    return change


def without(name: str) -> Callable[[Any], Any]:
    def change(model: Any) -> Any:
        left = {key: value for key, value in told_of().items() if key != name}
        helper.set_model_props(model, {"sightline": json.dumps(left)})
        return model

    return change


def no_properties(model: Any) -> Any:
    del model.metadata_props[:]
    return model


def foreign_text(model: Any) -> Any:
    helper.set_model_props(model, {"sightline": "hello"})
    return model


def renamed(model: Any) -> Any:
    model.graph.input[0].name = "image"
    return model


def another_kind(model: Any) -> Any:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def fewer_dimensions(model: Any) -> Any:
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    return model


def one_more(model: Any) -> Any:
    model.graph.output.append(helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["D"]))
    return model


def outside(tensor: Any) -> Any:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def external(model: Any) -> Any:
    outside(model.graph.initializer[0])
    return model


def external_in_a_branch(model: Any) -> Any:
    """A graph within a graph whose node holds the tensor: as deep as loops and branches hide things."""
    hidden = outside(numpy_helper.from_array(np.float32([1]), "hidden"))
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=hidden)], "branch", [], [])
    branch = helper.make_node("If", ["kept"], ["c2"], then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    return model


def external_in_a_function(model: Any) -> Any:
    hidden = outside(numpy_helper.from_array(np.float32([1]), "hidden"))
    node = helper.make_node("Constant", [], ["c"], value=hidden)
    model.functions.append(helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 17)]))
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(no_properties, r"is an ONNX file from elsewhere: .*\. Export it again", id="from elsewhere"),
        pytest.param(foreign_text, r"describes itself wrongly", id="another's property"),
        pytest.param(
            told(format=2), r"has format 2, this version reads up to 1\. Upgrade: pip install -U sightline", id="newer"
        ),
        pytest.param(told(min_size="800"), r"min_size: is \"800\"\. Export", id="text for a number"),
        pytest.param(told(min_size=True), r"min_size: is true\. Export", id="truth for a number"),
        pytest.param(told(classes=[1, 2]), r"classes: is \[1, 2\]\. Export", id="classes without names"),
        pytest.param(without("precision"), r"precision: is null\. Export", id="nothing told"),
        pytest.param(renamed, r"has an input 'image' that detectors do not have.*\n.*has no input 'pictures'", id="renamed"),
        pytest.param(another_kind, r"has an input 'pictures' that is float32 of 4 dimensions, not uint8 of 4", id="kind"),
        pytest.param(fewer_dimensions, r"has an output 'boxes' that is float32 of 1 dimensions, not float32 of 2", id="rank"),
        pytest.param(one_more, r"has an output 'keypoints' that detectors do not have", id="one more"),
        pytest.param(told(masks=True), r"has no output 'masks'", id="masks missing"),
        pytest.param(external, r"keeps 1 tensors in other files \(zero\)", id="external"),
        pytest.param(external_in_a_branch, r"keeps 2 tensors in other files \(hidden, hidden\)", id="external, hidden"),
        pytest.param(external_in_a_function, r"keeps 1 tensors in other files \(hidden\)", id="external, in a function"),
    ],
)
def test_what_is_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(BundleError, match=rf"here: model\.onnx.*{message}") as caught:
        read_told(change(a_model()).SerializeToString(), "here: model.onnx")
    assert caught.value.problems


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, b"\x80" * 100, a_graph()[:-40], b"\x3a\xff\xff\xff\xff\x7f"])
def test_what_is_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for onnx_file in (content, tmp_path / "model.onnx"):
        with pytest.raises(BundleError, match=r"here: .*is no ONNX file|here: is an ONNX file from elsewhere"):
            read_told(onnx_file, "here")


def test_damaged_anywhere_is_an_error_of_ours_or_none() -> None:
    content = a_graph(masks=True)
    rng = random.Random(3)
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_told(bytes(damaged), "here")
        except BundleError as error:
            assert error.fix
