"""What several rooms' tests share."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Networks in tests are tiny: one thread is as fast as two, and does not wait at barriers when the machine has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every run, and no verdict by the clock. To search for new ones: pytest --hypothesis-profile=search
settings.register_profile("sightline", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sightline")

DEAREST_FIRST = (
    "docs/test_commands.py", "notebooks/test_notebooks.py", "training/test_processes.py", "containers/test_train.py",
    "journeys/test_processes.py", "recipes/test_balloon.py", "training/test_run.py", "cli/test_main.py",
    "journeys/test_journey.py", "journeys/test_families.py", "serving/test_workers.py", "serving/test_commands.py",
    "tuning/test_tune.py", "model/test_compiled.py", "runtimes/test_without_torch.py", "bundle/test_thresholds.py",
    "model/test_operators.py",
)  # fmt: skip
"""Files of some 20 s of processor time and more. Each goes to one process as a whole: begun late, it leaves the others idle."""


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist would begin with the files of the most tests, and these are cheap."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """DEAREST_FIRST, then the others in their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(DEAREST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Commands set up logging for their process, which is all tests' here."""
    loggers = [logging.getLogger(name) for name in ("sightline", "sightline.serving", "uvicorn", "uvicorn.error")]
    before = [(logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, disabled, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
        logger.handlers[:] = handlers


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's browser, driven by playwright; skips where one of the two is not there."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=flags)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real labels and pictures: the folder `SIGHTLINE_SHARED`, or `shared` beside the repository. Skips where there is none."""
    folder = Path(os.environ.get("SIGHTLINE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs real data in {folder}: set SIGHTLINE_SHARED to its folder")
    return folder


@pytest.fixture
def hosts() -> Iterator[list[list[str]]]:
    """Two hosts with addresses of their own, 10.231.7.1 (algo-1) and 10.231.7.2 (algo-2): how a command runs on each."""
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("needs root and iproute2 for network namespaces")

    def do(*words: str) -> bool:
        return subprocess.run([ip, *words], capture_output=True, check=False).returncode == 0

    names = [f"sightline-{letter}-{os.getpid()}" for letter in "ab"]
    folders = [Path("/etc/netns") / name for name in names]
    try:
        for folder in folders:  # `ip netns exec` shows it as /etc/hosts
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("127.0.0.1 localhost\n10.231.7.1 algo-1\n10.231.7.2 algo-2\n", encoding="utf-8")
        ready = all(do("netns", "add", name) for name in names)
        ready = ready and do("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "veth0", "netns", names[1])
        for number, name in enumerate(names, 1):
            inside = ("-n", name)
            ready = ready and do(*inside, "addr", "add", f"10.231.7.{number}/24", "dev", "veth0")
            ready = ready and do(*inside, "link", "set", "veth0", "up") and do(*inside, "link", "set", "lo", "up")
        if not ready:
            pytest.skip("network namespaces cannot be made here")
        yield [[ip, "netns", "exec", name] for name in names]
    finally:
        for name, folder in zip(names, folders, strict=True):
            do("netns", "delete", name)
            shutil.rmtree(folder, ignore_errors=True)
