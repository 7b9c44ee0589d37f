"""One text to words: spaces divide, except where brackets or quotes hold them together."""

import pytest

from sightline.config.opts import split_opts
from sightline.config.sources import load
from sightline.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("  \n ", [], id="spaces"),
        pytest.param("SEED 1", ["SEED", "1"], id="a pair"),
        pytest.param(" SEED \t 1\n", ["SEED", "1"], id="spaces around and between"),
        pytest.param("SOLVER.STEPS (20, 30) SEED 1", ["SOLVER.STEPS", "(20, 30)", "SEED", "1"], id="a tuple"),
        pytest.param("A [[32, 64], [128]]", ["A", "[[32, 64], [128]]"], id="lists of lists"),
        pytest.param("A {'b': (1, 2)}", ["A", "{'b': (1, 2)}"], id="a mapping"),
        pytest.param("A 'a b.pth' B \"c d\"", ["A", "'a b.pth'", "B", '"c d"'], id="quotes"),
        pytest.param("A ('a (b', \"it's\")", ["A", "('a (b', \"it's\")"], id="quotes in brackets"),
        pytest.param("A '' B x", ["A", "''", "B", "x"], id="empty text"),
        pytest.param("A it's.pth B x", ["A", "it's.pth", "B", "x"], id="a quote within a word"),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert split_opts(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("A (20, 30 B 1", r"opts: '\(' at character 3 is never closed: A \(20", id="open bracket"),
        pytest.param("A [(1, 2] B", r"opts: '\]' at character 9 closes nothing", id="wrong bracket"),
        pytest.param("A 20)", r"opts: '\)' at character 5 closes nothing.*Balance the brackets", id="closed, not opened"),
        pytest.param("A 'b c", r"opts: \"'\" at character 3 is never closed.*Close it", id="open quote"),
    ],
)
def test_what_is_not_balanced(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_opts(text)


def test_words_are_overrides() -> None:
    text = "SOLVER.IMS_PER_BATCH 16 SOLVER.STEPS (20, 30) MODEL.WEIGHTS 'a b.pth' MODEL.RESNETS.NORM ''"
    config = load("small", split_opts(text))
    assert (config.solver.ims_per_batch, config.solver.steps) == (16, (20, 30))
    assert (config.model.weights, config.model.resnets.norm) == ("a b.pth", "")
