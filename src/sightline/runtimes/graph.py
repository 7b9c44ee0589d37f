"""`model.onnx` before anything of it runs: whether it is an exported detector of ours, and what it tells.

The contract (docs/runtimes.md): inputs and outputs by name and kind, and one property `sightline`, a JSON object.
"""

import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType

from sightline.errors import BundleError, Problem
from sightline.runtimes import protobuf
from sightline.runtimes.protobuf import Port, Said

FORMAT = 1
"""Version of the contract. A reader refuses newer ones."""

PROPERTY = "sightline"

INPUTS = (Port("pictures", "uint8", 4), Port("sizes", "int64", 2), Port("score_threshold", "float32", 0))
OUTPUTS = (Port("boxes", "float32", 2), Port("scores", "float32", 1), Port("labels", "int64", 1), Port("picture", "int64", 1))
MASKS = Port("masks", "float32", 3)

EXPORT_AGAIN = "Export it again: sightline bundle export MODEL --format onnx."

Onnx = bytes | Path
"""An ONNX file: its content, or where it lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an exported graph tells of itself.

    classes:           names, label by label
    min_size, max_size: pixels, of the shorter and the longer side after resizing
    size_divisor:      batches are padded to a multiple of it
    score_threshold:   least score of a detection, where no other is asked for
    max_detections:    of a picture; None: all
    proposes:          its answers are regions without classes
    weights_sha256:    of the `model.pth` that it was made from
    precision:         "fp32" or "int8"
    verified:          how near its answers were to torch's; of int8, those of the float32 before it
    ap_cost:           of int8, what was measured on labels; None: nothing
    """

    format: int
    classes: tuple[str, ...]
    min_size: int
    max_size: int
    size_divisor: int
    score_threshold: float
    max_detections: int | None
    masks: bool
    proposes: bool
    weights_sha256: str
    precision: str
    opset: int
    made_by: str
    verified: dict[str, object]
    ap_cost: dict[str, object] | None = None


KINDS: dict[str, type | UnionType] = {
    "format": int, "min_size": int, "max_size": int, "size_divisor": int, "score_threshold": int | float,
    "max_detections": int | None, "masks": bool, "proposes": bool, "weights_sha256": str, "precision": str, "opset": int,
    "made_by": str, "verified": dict, "classes": list,
}  # fmt: skip
"""Of the JSON object's values."""


def read_told(onnx: Onnx, where: str) -> Told:
    """What the file tells, once it is known to be an exported detector that this version can run.

    Raises:
        BundleError: it is no ONNX file, one from elsewhere, of a newer format, or not what it says.
    """
    try:
        with opened(onnx) as content:
            said = protobuf.read(content)
    except (ValueError, OSError) as error:
        raise BundleError(where, f"is no ONNX file or is damaged ({error})", EXPORT_AGAIN) from error
    if PROPERTY not in said.properties:
        raise BundleError(where, "is an ONNX file from elsewhere: it does not describe itself as ours do", EXPORT_AGAIN)
    told = parse_told(said.properties[PROPERTY], where)
    check_said(said, told, where)
    return told


@contextmanager
def opened(onnx: Onnx) -> Iterator[memoryview]:
    """The file's content; one on disk is mapped, not read."""
    if isinstance(onnx, bytes):
        yield memoryview(onnx)
        return
    with onnx.open("rb") as file:
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # unmapped when the last view of it is gone


def parse_told(written: str, where: str) -> Told:
    """The property's JSON, checked value by value."""
    try:
        values = json.loads(written)
        version = int(values["format"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BundleError(where, f"describes itself wrongly ({error!r})", EXPORT_AGAIN) from error
    if version > FORMAT:
        raise BundleError(
            where, f"has format {version}, this version reads up to {FORMAT}", "Upgrade: pip install -U sightline"
        )
    wrong = [name for name, kind in KINDS.items() if not fits(values.get(name), kind, name in values)]
    classes = values.get("classes")
    if "classes" not in wrong and not all(isinstance(name, str) for name in classes):
        wrong.append("classes")
    if wrong:
        problems = [Problem(f"{where}: {name}", f"is {json.dumps(values.get(name))[:80]}", EXPORT_AGAIN) for name in wrong]
        raise BundleError.collected(problems)
    cost = values.get("ap_cost")
    known = {field.name: values[field.name] for field in fields(Told) if field.name in KINDS}
    known["ap_cost"] = cost if isinstance(cost, dict) else None
    return Told(**{**known, "classes": tuple(classes)})


def fits(value: object, kind: type | UnionType, there: bool) -> bool:
    """Whether a JSON value is of a kind; true and false are no numbers."""
    return there and isinstance(value, kind) and (isinstance(value, bool) == (kind is bool))


def check_said(said: Said, told: Told, where: str) -> None:
    """Nothing, if the graph has the contract's inputs and outputs, and all its numbers are in the file itself.

    Raises:
        BundleError: everything that is otherwise.
    """
    outputs = (*OUTPUTS, MASKS) if told.masks else OUTPUTS
    problems = [
        *wrong_ports("input", said.inputs, INPUTS, where),
        *wrong_ports("output", said.outputs, outputs, where),
    ]
    if said.external:
        names = ", ".join(said.external[:3]) + (", ..." if len(said.external) > 3 else "")
        problems.append(Problem(where, f"keeps {len(said.external)} tensors in other files ({names})", EXPORT_AGAIN))
    if problems:
        raise BundleError.collected(problems)


def wrong_ports(kind: str, have: tuple[Port, ...], want: tuple[Port, ...], where: str) -> list[Problem]:
    """What of the inputs or outputs is missing, too many, or of another kind; shapes that are not told are left to the run."""
    there = {port.name: port for port in have}
    problems = [
        Problem(where, f"has an {kind} {name!r} that detectors do not have", EXPORT_AGAIN)
        for name in there.keys() - {port.name for port in want}
    ]
    for port in want:
        found = there.get(port.name)
        if found is None:
            problems.append(Problem(where, f"has no {kind} {port.name!r}", EXPORT_AGAIN))
        elif found.element != port.element or found.rank not in (None, port.rank):
            is_, should = (f"{p.element} of {p.rank} dimensions" for p in (found, port))
            problems.append(Problem(where, f"has an {kind} {port.name!r} that is {is_}, not {should}", EXPORT_AGAIN))
    return problems
