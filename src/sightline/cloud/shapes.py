"""A request against botocore's own description of it: types, required fields, lengths, patterns and enumerations.

boto3 itself looks at little more than types, and sends the rest to be refused one problem at a time. Enumerations lag behind
the service (new instance types), so what they lack is a warning.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sightline.errors import Problem, SightlineError
from sightline.optional import require


@dataclass(frozen=True, slots=True)
class Call:
    """One request as plain data: `Call("sagemaker", "CreateTrainingJob", {...})`."""

    service: str
    operation: str
    request: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {"service": self.service, "operation": self.operation, "request": dict(self.request)}


@dataclass(frozen=True, slots=True)
class Fault:
    """problem: what is wrong.

    certain: the service refuses it, otherwise it may know more than botocore; kind: it is a value of another kind altogether
    """

    problem: Problem
    certain: bool = True
    kind: bool = False


JAVA_CLASSES = {
    r"\p{N}": r"\d", r"\p{Z}": r" \u00a0\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    r"\p{Alnum}": "a-zA-Z0-9", r"\p{Print}": r"\x20-\x7e",
}  # fmt: skip
"""Java's classes of letters, which the service's patterns use, as the inside of Python's brackets."""


def require_valid(calls: list[Call]) -> list[str]:
    """Warnings about what may be wrong.

    Raises:
        SightlineError: all that the service would certainly refuse, of all calls together.
    """
    from sightline.cloud.rules import broken_rules

    found: list[Fault] = []
    for call in calls:
        own = faults(call)
        found += own
        if not any(fault.kind for fault in own):  # rules compare numbers
            found += map(Fault, broken_rules(call.operation, call.request))
    certain = [fault.problem for fault in found if fault.certain]
    if certain:
        raise SightlineError.collected(list(dict.fromkeys(certain)))
    return list(dict.fromkeys(str(fault.problem) for fault in found))


def faults(call: Call) -> list[Fault]:
    """All that differs from botocore's description of the operation's input."""
    shape = service_model(call.service).operation_model(call.operation).input_shape
    return list(walk(shape, dict(call.request), call.operation))


@functools.lru_cache(maxsize=8)
def service_model(service: str) -> Any:
    """botocore's description of a service; read from its own files, a third of a second for SageMaker's."""
    require("botocore", "aws", "sightline cloud")
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def walk(shape: Any, value: object, where: str) -> Iterator[Fault]:
    """The faults of `value` and of everything in it."""
    kinds: dict[str, Any] = {"structure": dict, "map": dict, "list": list, "string": str, "boolean": bool}
    numbers: dict[str, Any] = {"integer": int, "long": int, "float": (int, float), "double": (int, float)}
    wanted = kinds.get(shape.type_name) or numbers.get(shape.type_name)
    if wanted is not None and (not isinstance(value, wanted) or (shape.type_name in numbers and isinstance(value, bool))):
        yield Fault(Problem(where, f"is {value!r}, no {shape.type_name}", f"Give a {shape.type_name}."), kind=True)
    elif shape.type_name == "structure":
        yield from walk_structure(shape, value, where)
    elif shape.type_name == "list":
        yield from size_faults(shape, len(value), where, "entries")  # type: ignore[arg-type]
        for number, entry in enumerate(value):  # type: ignore[arg-type, var-annotated]
            yield from walk(shape.member, entry, f"{where}[{number}]")
    elif shape.type_name == "map":
        yield from size_faults(shape, len(value), where, "entries")  # type: ignore[arg-type]
        for key, entry in value.items():  # type: ignore[attr-defined]
            yield from walk(shape.key, key, f"{where}, the key {str(key)[:40]!r}")
            yield from walk(shape.value, entry, f"{where}.{str(key)[:40]}")
    elif shape.type_name == "string":
        yield from text_faults(shape, str(value), where)
    elif shape.type_name in numbers:
        yield from size_faults(shape, value, where, "")  # type: ignore[arg-type]


def walk_structure(shape: Any, value: Any, where: str) -> Iterator[Fault]:
    for name in shape.required_members:
        if name not in value:
            yield Fault(Problem(f"{where}.{name}", "is missing", "Give it."))
    for name, entry in value.items():
        if name in shape.members:
            yield from walk(shape.members[name], entry, f"{where}.{name}")
        else:
            near = get_close_matches(name, list(shape.members), n=1)
            fix = f"Did you mean {near[0]!r}?" if near else "Leave it out, or install a newer boto3."
            yield Fault(Problem(f"{where}.{name}", "is no field that botocore knows", fix))


def size_faults(shape: Any, size: float, where: str, unit: str) -> Iterator[Fault]:
    """Too few or too many; unit: what is counted, empty for a number's own value."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    what = f"has {size:,} {unit}" if unit else f"is {size}"
    if least is not None and size < least:
        yield Fault(Problem(where, what, f"Give at least {least:,}."))
    if most is not None and size > most:
        yield Fault(Problem(where, what, f"Give at most {most:,}."))


def text_faults(shape: Any, text: str, where: str) -> Iterator[Fault]:
    shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
    too_long = list(size_faults(shape, len(text), where, "characters"))
    yield from too_long
    known = shape.metadata.get("enum")
    if known and text not in known:
        near = get_close_matches(text, known, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}."
        yield Fault(Problem(where, f"is {shown}, which this version of botocore does not know", fix), certain=False)
    pattern = shape.metadata.get("pattern")
    if pattern and not too_long and not matches(pattern, text):
        yield Fault(Problem(where, f"is {shown}", f"Give what matches {pattern}."))


def matches(pattern: str, text: str) -> bool:
    """Whether all of `text` matches a pattern of the service's, which is Java's; one that Python cannot read passes."""
    try:
        return re.fullmatch(python_pattern(pattern), text) is not None
    except re.error:
        return True


@functools.lru_cache(maxsize=256)
def python_pattern(pattern: str) -> str:
    r"""Java's pattern as Python's: `[\p{L}\p{Z}\p{N}_.:/=+\-@]*` -> `[\w ...]*`.

    Python cannot have "any letter" beside others in brackets, so letters, digits and the underscore come together as `\w`.
    """
    inside = pattern.replace(r"\p{L}", r"\w")
    for java, python in JAVA_CLASSES.items():
        bracketed = re.sub(rf"(\[[^\]]*){re.escape(java)}", lambda found: found[1] + python, inside)  # noqa: B023
        inside = bracketed.replace(java, f"[{python}]")
    return inside
