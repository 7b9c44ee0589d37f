"""Arithmetic written as text, e.g. `[[x, x * 2**(1.0/3)] for x in [32, 64]]`, to numbers. Never code.

Detectron2's RetinaNet files write their anchor sizes so, behind a YAML tag that runs Python. Here the text is parsed and its
tree is walked: numbers, `+ - * / // % **`, lists, tuples, and comprehensions over lists with plain names. Everything else is
refused, and so is arithmetic that would grow beyond what a configuration can mean.
"""

import ast
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from sightline.errors import ConfigError

Value: TypeAlias = "int | float | list[Value] | tuple[Value, ...]"

MAX_LENGTH = 1000
"""Characters of the text. Detectron2's own has 72."""

MAX_STEPS = 10_000
"""Parts evaluated, so that comprehensions in comprehensions end soon: about 10 ms."""

MAX_NUMBER = 1e15
"""No number may go beyond, on the way or at the end; below it whole numbers are exact as floats, and `9**9**9` is none."""

MAX_SHOWN = 100


class NotArithmeticError(Exception):
    """What in the text is no arithmetic."""


def power(base: float, exponent: float) -> int | float:
    """base ** exponent, whose size is estimated before it is worked out: 9**9**9 would take minutes and gigabytes."""
    if base != 0 and abs(exponent) * abs(math.log(abs(base))) > math.log(MAX_NUMBER):
        raise NotArithmeticError(f"{base} ** {exponent} is too large or too small")
    result = base**exponent
    if not isinstance(result, int | float):  # a root of a negative number is complex
        raise NotArithmeticError(f"{base} ** {exponent} is no number on the line")
    return result


BINARY: dict[type[ast.operator], Callable[[float, float], int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}
UNARY: dict[type[ast.unaryop], Callable[[float], int | float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}

FIX = "Write the numbers out."


def evaluate(text: str, where: object) -> Value:
    """What `text` comes to: a number, or lists and tuples of numbers. `where` is named in errors.

    Raises:
        ConfigError: the text is no arithmetic on numbers, divides by zero, or grows too large.
    """
    quoted = repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    if len(text) > MAX_LENGTH:
        raise ConfigError(where, f"{quoted} has {len(text):,} characters, more than {MAX_LENGTH:,}", FIX)
    try:
        return value_of(ast.parse(text.strip(), mode="eval").body, {}, itertools.count())
    except NotArithmeticError as error:
        raise ConfigError(where, f"{quoted} is not read as arithmetic: {error}", FIX) from None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(where, f"{quoted} is not read as arithmetic: {error}", FIX) from error


def value_of(node: ast.expr, names: Mapping[str, Value], steps: Iterator[int]) -> Value:
    """The value of one part of the text. names: what comprehensions around it have bound; steps: counts what was done."""
    if next(steps) >= MAX_STEPS:
        raise NotArithmeticError(f"it takes more than {MAX_STEPS:,} steps")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return checked(number)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp() | ast.BinOp():
            return calculated(node, names, steps)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            values = [value_of(part, names, steps) for part in parts]
            return values if isinstance(node, ast.List) else tuple(values)
        case ast.ListComp(elt=part, generators=loops):
            return [value_of(part, inner, steps) for inner in bindings(loops, names, steps)]
        case ast.Name(id=name):
            raise NotArithmeticError(f"the name {name!r} is not known")
    raise NotArithmeticError(
        f"it holds a {type(node).__name__}, and only numbers, + - * / // % **, lists and comprehensions are read"
    )


def bindings(
    loops: Sequence[ast.comprehension], names: Mapping[str, Value], steps: Iterator[int]
) -> Iterator[Mapping[str, Value]]:
    """The names inside a comprehension, once per round of its loops."""
    if not loops:
        yield names
        return
    loop, *inner = loops
    if loop.ifs or loop.is_async or not isinstance(loop.target, ast.Name):
        raise NotArithmeticError("a comprehension is read in the form `for NAME in LIST`")
    items = value_of(loop.iter, names, steps)
    if not isinstance(items, list | tuple):
        raise NotArithmeticError("a comprehension goes over something that is no list")
    for item in items:
        if next(steps) >= MAX_STEPS:  # loops over loops that hold nothing would not be counted otherwise
            raise NotArithmeticError(f"it takes more than {MAX_STEPS:,} steps")
        yield from bindings(inner, {**names, loop.target.id: item}, steps)


def calculated(node: ast.UnaryOp | ast.BinOp, names: Mapping[str, Value], steps: Iterator[int]) -> int | float:
    if isinstance(node, ast.UnaryOp):
        if type(node.op) in UNARY:
            return UNARY[type(node.op)](number_of(node.operand, names, steps))
    else:
        left, right = number_of(node.left, names, steps), number_of(node.right, names, steps)
        if type(node.op) in BINARY:
            try:
                return checked(BINARY[type(node.op)](left, right))
            except ZeroDivisionError:
                raise NotArithmeticError("it divides by zero") from None
    raise NotArithmeticError(f"it holds a {type(node.op).__name__}, and only + - * / // % ** are read")


def number_of(node: ast.expr, names: Mapping[str, Value], steps: Iterator[int]) -> int | float:
    value = value_of(node, names, steps)
    if isinstance(value, list | tuple):
        raise NotArithmeticError("it calculates with a list")
    return value


def checked(number: float) -> int | float:
    if not abs(number) <= MAX_NUMBER:  # nan compares false, too
        raise NotArithmeticError(f"a number is beyond {MAX_NUMBER:g}")
    return number
