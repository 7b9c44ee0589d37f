"""Who becomes which object, and what is drawn of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from sightline.model.matching import IGNORE, Matcher, sample

RPN = Matcher((0.3, 0.7), (0, IGNORE, 1), keep_best=True)
PLAIN = Matcher((0.3, 0.7), (0, IGNORE, 1), keep_best=False)
HEADS = Matcher((0.5,), (0, 1), keep_best=False)


@pytest.mark.parametrize(
    ("matcher", "overlaps", "matches", "labels"),
    [
        pytest.param(PLAIN, [[0.0, 0.29, 0.3, 0.69, 0.7, 1.0]], [0] * 6, [0, 0, -1, -1, 1, 1], id="edges belong above"),
        pytest.param(HEADS, [[0.49, 0.5]], [0, 0], [0, 1], id="one threshold"),
        pytest.param(HEADS, [[0.6, 0.7], [0.9, 0.1]], [1, 0], [1, 1], id="each takes its best"),
        pytest.param(HEADS, [[0.6], [0.6]], [0], [1], id="the first of equals"),
        pytest.param(RPN, [[0.1, 0.2]], [0, 0], [0, 1], id="a true box keeps its best, however little it overlaps"),
        pytest.param(RPN, [[0.2, 0.2, 0.1]], [0, 0, 0], [1, 1, 0], id="ties for the best are all kept"),
        pytest.param(RPN, [[0.8, 0.5], [0.1, 0.4]], [0, 0], [1, 1], id="kept for another, yet matched with its own best"),
        pytest.param(RPN, [[0.8, 0.0], [0.0, 0.0]], [0, 0], [1, 1], id="Detectron2: one that touches nothing keeps all"),
        pytest.param(PLAIN, [[0.8, 0.0], [0.0, 0.0]], [0, 0], [1, 0], id="not without keep_best"),
    ],
)
def test_matcher(matcher: Matcher, overlaps: list[list[float]], matches: list[int], labels: list[int]) -> None:
    found, given_labels = matcher(torch.tensor(overlaps))
    assert (found.tolist(), given_labels.tolist()) == (matches, labels)


@pytest.mark.parametrize(("matcher", "lowest"), [(RPN, 0), (HEADS, 0), (Matcher((0.5,), (IGNORE, 1), True), IGNORE)])
def test_without_true_boxes_all_get_the_lowest_label(matcher: Matcher, lowest: int) -> None:
    matches, labels = matcher(torch.zeros(0, 4))
    assert (matches.tolist(), labels.tolist()) == ([0] * 4, [lowest] * 4)


def test_without_predictions_there_is_nothing_to_match() -> None:
    matches, labels = HEADS(torch.zeros(2, 0))
    assert (len(matches), len(labels)) == (0, 0)


def test_the_argument_stays_as_it_is() -> None:
    overlaps = torch.tensor([[0.1, 0.2]])
    RPN(overlaps)
    assert_close(overlaps, torch.tensor([[0.1, 0.2]]))


def labelled(objects: int, background: int, ignored: int) -> Tensor:
    """Labels of three classes (0, 1, 2 in turn; 3 is background), mixed up."""
    labels = [i % 3 for i in range(objects)] + [3] * background + [IGNORE] * ignored
    return torch.tensor(labels)[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize(
    ("objects", "background", "expected"),
    [
        pytest.param(100, 100, (4, 12), id="enough of both: a quarter"),
        pytest.param(2, 100, (2, 14), id="few objects are made up for by background"),
        pytest.param(100, 5, (4, 5), id="few background are not made up for by objects"),
        pytest.param(0, 100, (0, 16), id="no objects"),
        pytest.param(3, 0, (3, 0), id="no background"),
        pytest.param(0, 0, (0, 0), id="nothing"),
    ],
)
def test_how_many_are_drawn(objects: int, background: int, expected: tuple[int, int]) -> None:
    positive, negative = sample(labelled(objects, background, ignored=30), 16, 0.25, background=3)
    assert (len(positive), len(negative)) == expected


@given(
    labels=st.lists(st.sampled_from([IGNORE, 0, 1, 2]), max_size=40).map(lambda found: torch.tensor(found, dtype=torch.int64)),
    count=st.integers(1, 20),
    share=st.floats(0, 1),
)
def test_what_is_drawn(labels: Tensor, count: int, share: float) -> None:
    positive, negative = sample(labels, count, share, background=2)
    assert set(labels[positive].tolist()) <= {0, 1}
    assert set(labels[negative].tolist()) <= {2}
    drawn = torch.cat((positive, negative)).tolist()
    assert len(set(drawn)) == len(drawn) <= count
    assert len(positive) <= count * share


def test_drawing_follows_torchs_generator() -> None:
    labels = labelled(50, 50, 0)
    torch.manual_seed(3)
    first = sample(labels, 16, 0.5, background=3)
    torch.manual_seed(3)
    again = sample(labels, 16, 0.5, background=3)
    other = sample(labels, 16, 0.5, background=3)
    assert [part.tolist() for part in again] == [part.tolist() for part in first]
    assert [part.tolist() for part in other] != [part.tolist() for part in first]
