"""Processes side by side: signals, failures, and what process 1 owes the processes that nobody waits for."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sightline.containers import together
from sightline.containers.together import Ended, Stop, run_together
from sightline.errors import Interrupted

SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1] + '.saved').touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""
DEAF = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def run(stop: Stop, limit_s: float = float("inf"), **scripts: tuple[str, ...]) -> dict[str, Ended]:
    commands = {name: ([sys.executable, "-c", *words], dict(os.environ)) for name, words in scripts.items()}
    return {one.name: one for one in run_together(commands, stop, limit_s=limit_s)}


def test_all_end_well_and_their_lines_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    with Stop().heard() as stop:
        over = run(stop, a=("import sys; print('out'); print('err of a', file=sys.stderr)",), b=("",))
    assert [over[name].code for name in "ab"] == [0, 0]
    assert over["a"].lines == ("err of a",)
    out, err = capfd.readouterr()
    assert "out" in out
    assert "err of a" in err


def asked_when(there: list[Path], number: int = signal.SIGTERM) -> threading.Thread:
    """A thread that signals this process when all files are there."""

    def wait() -> None:
        while not all(path.exists() for path in there):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_all_and_they_may_save(number: int, tmp_path: Path) -> None:
    there = [tmp_path / name for name in "ab"]
    with Stop().heard() as stop:
        thread = asked_when(there, number)
        over = run(stop, **{path.name: (SAVES, str(path)) for path in there})
        thread.join()
    assert [over[name].code for name in "ab"] == [143, 143]
    assert all(path.with_name(f"{path.name}.saved").exists() for path in there)
    assert stop.seconds_left < together.SAVING_S


def test_who_does_not_follow_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "SAVING_S", 0.2)
    with Stop().heard() as stop:
        asked_when([tmp_path / "a"]).join(0)
        assert run(stop, a=(DEAF, str(tmp_path / "a")))["a"].code == -9


def test_when_one_fails_the_others_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "FOLLOWING_S", 0.2)
    monkeypatch.setattr(together, "ENDING_S", 0.2)
    waits = f"import pathlib, time, sys\nwhile not pathlib.Path({str(tmp_path / 'b')!r}).exists(): time.sleep(0.02)\n"
    with Stop().heard() as stop:
        over = run(
            stop, a=(f"{waits}print('error: a: is so. Do.', file=sys.stderr); sys.exit(2)",), b=(DEAF, str(tmp_path / "b"))
        )
    assert list(over) == ["a", "b"], "in the order in which they ended"
    assert over["a"].reason == "a: is so. Do."
    assert over["b"].code == -9
    assert stop.came_at is None


def test_a_limit_ends_what_takes_too_long(tmp_path: Path) -> None:
    with Stop().heard() as stop:
        assert run(stop, 0.1, a=(DEAF, str(tmp_path / "a")))["a"].code == -9


def test_a_stop_while_nothing_runs_is_an_interruption() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop().heard(), pytest.raises(Interrupted, match="before training had begun"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


REAPING = """
import os, pathlib, sys
from sightline.containers.together import Stop, run_together
leaves = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'pass'])"
waits = "import time; time.sleep(1.5)"
def states(_=None):
    return [p.read_text().rpartition(')')[2].split()[0] for p in pathlib.Path('/proc').glob('[0-9]*/stat')]
with Stop().heard() as stop:
    over = run_together({n: ([sys.executable, '-c', c], dict(os.environ)) for n, c in (('a', leaves), ('b', waits))}, stop)
print(os.getpid(), [one.code for one in over], states().count('Z'))
"""


def test_process_1_buries_what_it_inherits() -> None:
    """The child of a child ends while another still runs."""
    unshare = shutil.which("unshare")
    words = [str(unshare), "--pid", "--fork", "--mount-proc"]
    if unshare is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and util-linux's unshare for a process namespace")
    done = subprocess.run([*words, sys.executable, "-c", REAPING], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "1 [0, 0] 0", done.stderr
