"""The confusion matrix."""

import numpy as np
import pytest
from builders import a_random_scene, a_scene, matches_of

from sightline.evaluation.confusion import confusion

BOX, OTHER, AWAY = (10.0, 10.0, 40.0, 40.0), (100.0, 10.0, 40.0, 40.0), (60.0, 60.0, 9.0, 9.0)


def test_by_hand() -> None:
    """A cat found, a cat taken for a dog, a bee missed, a dog where nothing is, and a doubtful one that is not looked at."""
    objects = [(0, 0, BOX), (0, 0, OTHER), (1, 2, BOX)]
    found = [(0, 0, BOX, 0.9), (0, 1, OTHER, 0.8), (1, 1, AWAY, 0.7), (1, 2, BOX, 0.1)]
    matrix = confusion(matches_of(*a_scene(objects, found, images=2)), 0.5)
    assert matrix.names == ("cat", "dog", "bee", "background")
    assert matrix.counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert matrix.normalised.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert matrix.most() == [{"label": "cat", "predicted": "dog", "count": 1}]
    assert matrix.confused.tolist() == [-1, 1, -1, -1]


def test_the_right_class_goes_before_a_better_scored_wrong_one() -> None:
    matrix = confusion(matches_of(*a_scene([(0, 0, BOX)], [(0, 1, BOX, 0.9), (0, 0, BOX, 0.8)])), 0.5)
    assert matrix.counts[0].tolist() == [1, 0, 0, 0]
    assert matrix.counts[3].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_every_object_and_every_detection_is_counted_once(seed: int, threshold: float) -> None:
    matches = matches_of(*a_random_scene(seed, crowds=True))
    counts = confusion(matches, threshold).counts
    np.testing.assert_array_equal(counts[:-1].sum(axis=1), matches.objects_per_class)
    kept = (matches.scores >= threshold) & ~matches.ignored
    np.testing.assert_array_equal(counts[:, :-1].sum(axis=0), np.bincount(matches.label[kept], minlength=3))


def test_a_crowd_is_no_row() -> None:
    assert confusion(matches_of(*a_scene([(0, 0, BOX)], [(0, 0, BOX, 0.9)], crowd=0)), 0.0).counts.sum() == 0
