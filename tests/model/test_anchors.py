"""Known anchors in a known order."""

import math

import pytest
import torch
from torch.testing import assert_close

from sightline.model.anchors import AnchorGrid, cell_anchors


def a_grid(**changes: object) -> AnchorGrid:
    defaults = {"sizes": [[32]], "aspect_ratios": [[1.0]], "strides": [8], "offset": 0.0}
    return AnchorGrid(**(defaults | changes))  # type: ignore[arg-type]


def feature(height: int, width: int) -> torch.Tensor:
    return torch.zeros(1, 4, height, width)


def test_the_cell_of_the_fpn_papers_first_level() -> None:
    """Area 32², ratios height / width."""
    narrow = 32 / math.sqrt(2) / 2
    wide = 32 * math.sqrt(2) / 2
    expected = [[-wide, -narrow, wide, narrow], [-16.0, -16, 16, 16], [-narrow, -wide, narrow, wide]]
    assert_close(cell_anchors([32], [0.5, 1.0, 2.0]), torch.tensor(expected))


def test_size_by_size_ratio_by_ratio() -> None:
    cells = cell_anchors([10, 20], [1.0, 4.0])
    assert_close((cells[:, 2:] - cells[:, :2]), torch.tensor([[10.0, 10], [5, 20], [20, 20], [10, 40]]))
    assert_close(cells[:, :2] + cells[:, 2:], torch.zeros(4, 2))


@pytest.mark.parametrize(("offset", "first"), [(0.0, 0.0), (0.5, 4.0)])
def test_row_by_row_cell_by_cell(offset: float, first: float) -> None:
    (level,) = a_grid(offset=offset)([feature(2, 3)])
    centres = (level[:, :2] + level[:, 2:]) / 2
    assert_close(centres, torch.tensor([[0.0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]) + first)


def test_all_anchors_of_a_cell_come_together() -> None:
    (level,) = a_grid(sizes=[[8, 16]], aspect_ratios=[[1.0, 4.0]])([feature(1, 2)])
    assert level.shape == (1 * 2 * 4, 4)
    widths = (level[:, 2] - level[:, 0]).tolist()
    assert widths == [8, 4, 16, 8] * 2


def test_every_level_has_its_own_sizes_and_stride() -> None:
    grid = a_grid(sizes=[[8], [64]], aspect_ratios=[[1.0], [1.0]], strides=[4, 32])
    fine, coarse = grid([feature(4, 4), feature(1, 2)])
    assert_close(fine[1], torch.tensor([0.0, -4, 8, 4]))
    assert_close(coarse[1], torch.tensor([0.0, -32, 64, 32]))


def test_anchors_a_cell() -> None:
    assert a_grid(sizes=[[1, 2, 3]], aspect_ratios=[[1.0, 2.0]]).per_cell == 6


def test_a_size_seen_before_is_not_made_again_and_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnchorGrid, "REMEMBERED", 2)
    grid = a_grid()
    first = grid([feature(2, 2)])[0]
    assert grid([feature(2, 2)])[0] is first
    for width in range(1, 9):
        assert grid([feature(1, width)])[0].shape == (width, 4)
    assert len(grid.grids) <= 2
    assert_close(grid([feature(2, 2)])[0], first)


def test_levels_and_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        a_grid(sizes=[[8], [16]])
