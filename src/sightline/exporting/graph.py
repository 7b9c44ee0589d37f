"""An ONNX graph that is written node by node, with standard operators alone.

Why by hand: torch's exporters change from version to version, and what is dynamic here (how many proposals, how many
detections) is where they differ most. The graph of a detector is some hundred nodes, and these are the ones that were meant.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.optional import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Value = str
"""Name of a tensor in the graph."""

Input = Value | float | Sequence[int] | Sequence[float] | NDArray[Any] | None
"""A tensor, or a number to become a constant: int64 of ints, float32 of a float. None: an optional input left out."""

LEAST_OPSET, OPSET, LARGEST_OPSET = 16, 17, 21
"""RoiAlign samples as ROIAlignV2 does since 16; ONNX Runtime 1.31 has no kernel on the CPU for that of 22."""

PURPOSE = "an export to ONNX"


class Graph:
    """Nodes and constants as they come; `model` closes it.

    Calling it adds a node: `graph("Add", x, 1.0)` is the value of x + 1.
    """

    def __init__(self, opset: int) -> None:
        self.onnx = require("onnx", "export", PURPOSE)
        self.opset, self.part = opset, ""
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}

    def __call__(self, operator: str, *inputs: Input, **attributes: object) -> Value:
        """The first (mostly the only) output of a new node."""
        return self.many(operator, *inputs, outputs=1, **attributes)[0]

    def many(self, operator: str, *inputs: Input, outputs: int, **attributes: object) -> list[Value]:
        """All outputs of a new node."""
        name = f"{self.part}{operator}_{len(self.nodes)}"
        made = [f"{name}:{number}" for number in range(outputs)]
        given = [self.value(number) for number in inputs]
        self.nodes.append(self.onnx.helper.make_node(operator, given, made, name, **attributes))
        return made

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Names of nodes begin with `part/` inside the block."""
        before = self.part
        self.part = f"{before}{part}/"
        yield
        self.part = before

    def value(self, number: Input) -> Value:
        """The name of `number` in the graph; equal constants are one."""
        if number is None:
            return ""
        if isinstance(number, str):
            return number
        array = np.ascontiguousarray(number)
        if not isinstance(number, np.ndarray):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
            array = array.reshape(np.shape(number))  # ascontiguousarray makes a scalar a row
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = self.onnx.numpy_helper.from_array(array, f"constant_{len(self.constants)}")
        return str(self.constants[key].name)

    def shape(self, x: Value, *axes: int) -> Value:
        """(len(axes),) int64: these sides of x."""
        return self("Gather", self("Shape", x), list(axes))

    def side(self, x: Value, axis: int) -> Value:
        """() int64: one side of x."""
        return self("Gather", self("Shape", x), axis)

    def joined(self, *numbers: Input) -> Value:
        """(N,) int64 of single numbers, (1,) or (): the shape for a Reshape, an Expand."""
        return self("Concat", *(self("Reshape", number, [-1]) for number in numbers), axis=0)

    def reshaped(self, x: Value, *sides: Input) -> Value:
        """x with other sides; one may be -1."""
        if all(isinstance(side, int) for side in sides):
            return self("Reshape", x, np.array(sides, np.int64))
        return self("Reshape", x, self.joined(*sides))

    def cast(self, x: Value, kind: str) -> Value:
        """kind: "FLOAT", "INT64", ..."""
        return self("Cast", x, to=getattr(self.onnx.TensorProto, kind))

    def taken(self, x: Value, rows: Value) -> Value:
        """(B, R, ...): rows (B, R) of each picture of x (B, N, ...)."""
        return self("GatherND", x, self("Unsqueeze", rows, [-1]), batch_dims=1)

    def places(self, condition: Value) -> Value:
        """(P, axes) int64: where the condition holds, in the order of rows."""
        return self("Transpose", self("NonZero", condition), perm=[1, 0])

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[str | int]]],
        outputs: Mapping[str, tuple[str, Sequence[str | int], Value]],
        made_by: tuple[str, str],
    ) -> "ModelProto":
        """The whole graph.

        inputs:  name: (type, sides), a side being a number or a name
        outputs: name: (type, sides, its value)
        made_by: name and version of the program
        """
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        ends = [helper.make_node("Identity", [value], [name], f"output_{name}") for name, (_, _, value) in outputs.items()]
        graph = helper.make_graph(
            [*self.nodes, *ends],
            "detector",
            [helper.make_tensor_value_info(name, getattr(kinds, kind), sides) for name, (kind, sides) in inputs.items()],
            [helper.make_tensor_value_info(name, getattr(kinds, kind), sides) for name, (kind, sides, _) in outputs.items()],
            initializer=list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", self.opset)]
        version = helper.find_min_ir_version_for(opsets)
        name, number = made_by
        made: ModelProto = helper.make_model(
            graph, opset_imports=opsets, ir_version=version, producer_name=name, producer_version=number
        )
        return made
