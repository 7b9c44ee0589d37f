from pathlib import Path

import pytest

from sightline.processors import cores, usual_threads


@pytest.mark.parametrize(
    ("share", "count"), [("max 100000\n", 8), ("150000 100000\n", 2), ("5000 100000\n", 1), ("1600000 100000\n", 8), ("?", 8)]
)
def test_a_containers_share_bounds_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, count: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(share)
    assert cores(tmp_path / "cpu.max") == count
    assert cores(tmp_path / "nowhere") == 8


def test_threads_that_the_user_asks_for() -> None:
    assert usual_threads({"OMP_NUM_THREADS": "3"}) == 3
    assert usual_threads({"OMP_NUM_THREADS": ""}) == usual_threads({"OMP_NUM_THREADS": "0"}) == usual_threads({}) == cores()
