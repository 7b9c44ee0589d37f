"""Which GPUs there are, and what each model process gets of the machine."""

from pathlib import Path

import pytest

from sightline.serving.devices import environments, gpus, usual_workers


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["0", "2", "10"]),
        ("1,3", ["1", "3"]),
        ("GPU-a, GPU-b", ["GPU-a", "GPU-b"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
    ],
)
def test_gpus(visible: str | None, names: list[str], tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == names


@pytest.mark.parametrize(
    ("device", "names", "count"),
    [
        ("auto", ["0", "1"], 2),
        ("cuda", ["0", "1"], 2),
        ("cuda:1", ["0", "1"], 0),
        ("cpu", ["0", "1"], 0),
        ("auto", ["0"], 0),
        ("auto", [], 0),
    ],
)
def test_usual_workers(device: str, names: list[str], count: int) -> None:
    assert usual_workers(device, names) == count


def test_gpus_are_dealt_out_and_cores_shared() -> None:
    given = environments(3, "auto", {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "4,7"}, ["4", "7"], 8)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in given] == ["4", "7", "4"]
    assert {one["OMP_NUM_THREADS"] for one in given} == {one["MKL_NUM_THREADS"] for one in given} == {"2"}
    assert given[0]["PATH"] == "/bin"


def test_a_named_gpu_and_a_users_threads_are_kept() -> None:
    (given, _) = environments(2, "cuda:1", {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "5"}, ["0", "1"], 1)
    assert "CUDA_VISIBLE_DEVICES" not in given
    assert [given[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")] == ["3", "5", "3"]
    assert environments(2, "cpu", {}, [], 1)[0]["OMP_NUM_THREADS"] == "1"
