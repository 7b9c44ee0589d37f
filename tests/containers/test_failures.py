"""The useful part of what a failed process wrote."""

from pathlib import Path

import pytest

from sightline.containers.failures import MOST, primary, reason, write_failure

TRACE = [
    "training goes on",
    "Traceback (most recent call last):",
    '  File "/usr/lib/a.py", line 1, in <module>',
    "    main()",
    '  File "/usr/lib/b.py", line 7, in step',
    "    loss.backward()",
    "torch.OutOfMemoryError: CUDA out of memory.",
    "Tried to allocate 2 GiB.",
]


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        (["loading", "error: a.jpg: is damaged. Remove it.", "b.jpg: is damaged. Remove it."], 2,
         "a.jpg: is damaged. Remove it.\nb.jpg: is damaged. Remove it."),
        (TRACE, 1,
         'torch.OutOfMemoryError: CUDA out of memory.\nTried to allocate 2 GiB.\nFile "/usr/lib/b.py", line 7, in step'),
        (["a", "", "b"], 3, "ended with exit code 3\na\nb"),
        ([], 3, "ended with exit code 3"),
        (["step 7"], -11, "was ended by SIGSEGV"),
    ],
)  # fmt: skip
def test_reasons(lines: list[str], code: int, told: str) -> None:
    assert reason(lines, code) == told


def test_killed_for_its_memory() -> None:
    assert "most likely for its memory" in reason(["step 7"], -9)


def test_the_one_that_knows_more() -> None:
    lost = "process 0 of 2: lost the others (connection closed by peer)"
    assert primary([lost, "a.jpg: is damaged."]) == "a.jpg: is damaged."
    assert primary([lost, lost]) == lost


def test_the_platform_shows_so_many_letters(tmp_path: Path) -> None:
    write_failure(tmp_path / "output" / "failure", "\n" + "ü" * 3000)
    assert (tmp_path / "output" / "failure").read_text(encoding="utf-8") == "ü" * MOST
