"""What an ONNX file says of itself, read from its bytes: inputs, outputs, properties, and tensors that lie in other files.

ONNX is protobuf: fields, each a number with a kind and a value, messages within messages. Weights are stepped over, so a file
of 160 MB is read in milliseconds, needs no library, and nothing of it runs. The field numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MAX_DEPTH = 64
"""Of messages within messages; graphs within graphs (loops, branches) take four levels each."""

MODEL_GRAPH, MODEL_OPSETS, MODEL_PROPERTIES, MODEL_FUNCTIONS = 7, 8, 14, 25
GRAPH_NODES, GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_ATTRIBUTES, FUNCTION_NODES = 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION = 8, 13, 14

ELEMENTS = {1: "float32", 2: "uint8", 7: "int64"}
"""Kinds of tensor elements that this project's graphs take and give; others are told by their number."""

Field = tuple[int, int | memoryview]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. element: "float32", ..., or its number in onnx.proto; rank: None where the file does not say."""

    name: str
    element: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """What the file says. external: names of tensors whose numbers lie in other files."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    properties: dict[str, str]
    opset: int
    external: tuple[str, ...]


def read(content: memoryview) -> Said:
    """What the ONNX file of these bytes says.

    Raises:
        ValueError: it is no ONNX file.
    """
    inputs: list[Port] = []
    outputs: list[Port] = []
    properties: dict[str, str] = {}
    opset = 0
    external: list[str] = []
    for number, value in fields(content):
        if number == MODEL_GRAPH:
            graph = message(value)
            inputs += [port(message(v)) for n, v in fields(graph) if n == GRAPH_INPUTS]
            outputs += [port(message(v)) for n, v in fields(graph) if n == GRAPH_OUTPUTS]
            external += external_in_graph(graph, 0)
        elif number == MODEL_PROPERTIES:
            entry = dict(fields(message(value)))
            properties[text(entry.get(1))] = text(entry.get(2))
        elif number == MODEL_OPSETS:
            entry = dict(fields(message(value)))
            if not text(entry.get(1)):  # the standard operators'
                opset = whole(entry.get(2))
        elif number == MODEL_FUNCTIONS:
            nodes = [message(v) for n, v in fields(message(value)) if n == FUNCTION_NODES]
            external += [name for node in nodes for name in external_in_node(node, 0)]
    if not outputs:
        raise ValueError("has no graph with outputs")
    return Said(tuple(inputs), tuple(outputs), properties, opset, tuple(external))


def fields(content: memoryview) -> Iterator[Field]:
    """(number, value) of a message's fields: an int, or the bytes of a text, message or packed list.

    Raises:
        ValueError: it is no message.
    """
    at, end = 0, len(content)
    while at < end:
        key, at = varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(content, at)
            yield number, value
        elif kind == BYTES:
            length, at = varint(content, at)
            if length > end - at:
                raise ValueError("is cut off")
            yield number, content[at : at + length]
            at += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            if width > end - at:
                raise ValueError("is cut off")
            at += width
        else:
            raise ValueError("is no ONNX file")


def varint(content: memoryview, at: int) -> tuple[int, int]:
    """(the number that begins at this place, the place behind it)."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("is cut off" if at >= len(content) else "is no ONNX file")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def message(value: int | memoryview | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("is no ONNX file")
    return value


def text(value: int | memoryview | None) -> str:
    """A text field; empty where there is none."""
    return "" if value is None else str(message(value), "utf-8")


def whole(value: int | memoryview | None) -> int:
    """A number field; 0 where there is none."""
    if isinstance(value, memoryview):
        raise ValueError("is no ONNX file")
    return value or 0


def port(value: memoryview) -> Port:
    """ValueInfoProto: name, and type -> tensor type -> (element, shape -> dimensions)."""
    facts = dict(fields(value))
    kind = dict(fields(message(facts.get(2, memoryview(b"")))))
    tensor = dict(fields(message(kind.get(1, memoryview(b"")))))
    number = whole(tensor.get(1))
    rank = None if 2 not in tensor else sum(1 for n, _ in fields(message(tensor[2])) if n == 1)
    return Port(text(facts.get(1)), ELEMENTS.get(number, f"type {number}"), rank)


def external_in_graph(graph: memoryview, depth: int) -> list[str]:
    """Names of the graph's tensors, however deep, whose numbers lie in other files."""
    if depth > MAX_DEPTH:
        raise ValueError("has graphs within graphs without end")
    found: list[str] = []
    for number, value in fields(graph):
        if number == GRAPH_TENSORS:
            found += external_tensor(message(value))
        elif number == GRAPH_SPARSE:
            found += external_sparse(message(value))
        elif number == GRAPH_NODES:
            found += external_in_node(message(value), depth + 1)
    return found


def external_in_node(node: memoryview, depth: int) -> list[str]:
    found: list[str] = []
    for attribute in (message(v) for n, v in fields(node) if n == NODE_ATTRIBUTES):
        for number, value in fields(attribute):
            if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                found += external_tensor(message(value))
            elif number in (ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
                found += external_sparse(message(value))
            elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                found += external_in_graph(message(value), depth + 1)
    return found


def external_sparse(value: memoryview) -> list[str]:
    """Of a sparse tensor's two tensors, its values and their places."""
    return [name for n, v in fields(value) if n in (1, 2) for name in external_tensor(message(v))]


def external_tensor(tensor: memoryview) -> list[str]:
    """The tensor's name, if its numbers lie in another file; nothing otherwise."""
    name, outside = "a tensor", False
    for number, value in fields(tensor):
        if number == TENSOR_NAME:
            name = text(value) or name
        elif number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value):
            outside = True
    return [name] if outside else []
