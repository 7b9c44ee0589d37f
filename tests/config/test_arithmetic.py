"""Arithmetic in text: exactly what Python says of numbers, and nothing that is more than that."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config.arithmetic import evaluate
from sightline.errors import ConfigError

RETINANET = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
"""As Detectron2 writes it."""


def numbers() -> st.SearchStrategy[str]:
    return st.one_of(st.integers(0, 99).map(str), st.floats(0, 10).map(repr))


def sums(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3", 3, id="a number"),
        pytest.param(" -2.5 ", -2.5, id="a sign, spaces around"),
        pytest.param("1 + 2 * 3", 7, id="precedence"),
        pytest.param("7 // 2 - 7 % 2 + +1", 3, id="whole division and rest"),
        pytest.param("2**-1", 0.5, id="a negative power"),
        pytest.param("2**3**2", 512, id="powers from the right"),
        pytest.param("[1, (2, 3)]", [1, (2, 3)], id="lists and tuples"),
        pytest.param("[]", [], id="an empty list"),
        pytest.param("[x * y for x in [1, 2] for y in (x, 10)]", [1, 10, 4, 20], id="two loops, the second over the first"),
        pytest.param("[[x for x in row] for row in [[1], [2, 3]]]", [[1], [2, 3]], id="a loop in a loop"),
        pytest.param(RETINANET, [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]], id="anchors"),
    ],
)
def test_what_it_comes_to(text: str, expected: object) -> None:
    value = evaluate(text, "here")
    assert value == expected
    assert type(value) is type(expected)


@given(st.recursive(numbers(), sums, max_leaves=8))
def test_python_says_the_same(text: str) -> None:
    try:
        expected = eval(text)
    except ZeroDivisionError:
        with pytest.raises(ConfigError, match=r"it divides by zero|is beyond"):
            evaluate(text, "here")
        return
    try:
        assert evaluate(text, "here") == expected
    except ConfigError as error:  # large products, divisions by almost nothing
        assert "a number is beyond" in error.what


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("__import__('os').system('true')", "it holds a Call", id="a call"),
        pytest.param("(1).real", "it holds a Attribute", id="an attribute"),
        pytest.param("'a' * 3", "it holds a Constant", id="text"),
        pytest.param("True", "it holds a Constant", id="a truth value"),
        pytest.param("1j", "it holds a Constant", id="a complex number"),
        pytest.param("[1, 2][0]", "it holds a Subscript", id="a subscript"),
        pytest.param("lambda: 1", "it holds a Lambda", id="a function"),
        pytest.param("1 if 2 else 3", "it holds a IfExp", id="a condition"),
        pytest.param("1 < 2", "it holds a Compare", id="a comparison"),
        pytest.param("{x for x in [1]}", "it holds a SetComp", id="a set"),
        pytest.param("(x for x in [1])", "it holds a GeneratorExp", id="a generator"),
        pytest.param("[*[1]]", "it holds a Starred", id="a star"),
        pytest.param("(x := 1)", "it holds a NamedExpr", id="an assignment"),
        pytest.param("~1", "it holds a Invert", id="another sign"),
        pytest.param("1 << 2", "it holds a LShift", id="another operation"),
        pytest.param("x", "the name 'x' is not known", id="a free name"),
        pytest.param("[x for y in [1]]", "the name 'x' is not known", id="a free name in a loop"),
        pytest.param("[[x for x in [1]], x]", "the name 'x' is not known", id="a name outside its loop"),
        pytest.param("[x for x in [1] if x]", "in the form `for NAME in LIST`", id="a filter"),
        pytest.param("[x for x, y in [(1, 2)]]", "in the form `for NAME in LIST`", id="a pair of names"),
        pytest.param("[x for x in 3]", "over something that is no list", id="a loop over a number"),
        pytest.param("[1] * 3", "it calculates with a list", id="a list times a number"),
        pytest.param("-[1]", "it calculates with a list", id="a sign before a list"),
        pytest.param("1 / 0", "it divides by zero", id="division by zero"),
        pytest.param("1 % 0", "it divides by zero", id="rest of a division by zero"),
        pytest.param("0 ** -1", "it divides by zero", id="zero to a negative power"),
        pytest.param("(-8) ** 0.5", "is no number on the line", id="a complex root"),
        pytest.param("9**9**9", r"9 \*\* 387420489 is too large or too small", id="a huge power"),
        pytest.param("2.0**-999999", "is too large or too small", id="a vanishing power"),
        pytest.param("1e999", r"a number is beyond 1e\+15", id="infinity"),
        pytest.param("1e15 * 10", r"a number is beyond 1e\+15", id="a large product"),
        pytest.param("1 +", "is not read as arithmetic: .*syntax", id="no expression"),
        pytest.param("x = 1", "is not read as arithmetic: .*syntax", id="a statement"),
        pytest.param("1\0", "is not read as arithmetic: .*null", id="a null byte"),
        pytest.param("(" * 500 + ")" * 500, "is not read as arithmetic", id="deep brackets"),
        pytest.param("-" * 999 + "1", "is not read as arithmetic", id="deep signs"),
        pytest.param("1" * 1001, r"1\.\.\.' has 1,001 characters, more than 1,000", id="long"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)config\.yaml, line 3: .*{message}.*\. Write the numbers out\."):
        evaluate(text, "config.yaml, line 3")


@pytest.mark.parametrize(
    "text",
    [
        "[1 " + "".join(f"for x{n} in [1,2,3,4,5,6,7,8,9] " for n in range(9)) + "]",
        "[1 " + "".join(f"for x{n} in [1,2,3,4,5,6,7,8,9] " for n in range(9)) + "for y in []]",
        "[x for x in " * 20 + "[1,2,3,4,5,6,7,8,9]" + "]" * 20,
        "[[x, x, x, x] for x in " * 30 + "[1]" + "]" * 30,
    ],
    ids=["loops", "empty loops", "loops within", "lists that grow"],
)
def test_a_bomb_is_no_danger(text: str) -> None:
    """It is refused, or small because its parts are shared; in either case at once."""
    start = time.perf_counter()
    with contextlib.suppress(ConfigError):
        evaluate(text, "here")
    assert time.perf_counter() - start < 1
