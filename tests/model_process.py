"""A model for processes of their own, which does what its pictures' first pixel says, and a look at those processes."""

import time
from collections.abc import Callable
from pathlib import Path

FAKE_MODEL = """
import os, signal, time
from pathlib import Path
import numpy as np
from sightline.errors import BundleError
from sightline.images import InputSize
from sightline.records import Detections, ImageSize, Model

traces = Path(os.environ["TRACES"])

def trace(what):
    (traces / f"{what}-{os.getpid()}").touch()

def one(image, size, score):
    box = np.float32([[0, 0, size.width, size.height]])
    return Detections(size, box, np.float32([score]), np.int64([0]))

def predict(images):
    for shade in {int(image[0, 0, 0]) for image in images}:
        if shade == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if shade == 14:
            trace("hung")
            time.sleep(600)
        if shade == 15:
            raise ValueError("unlucky")
        if shade == 16:
            trace("held")
            while not (traces / "go").exists():
                time.sleep(0.01)
        if shade == 17:
            time.sleep(0.01)
    return [one(image, ImageSize(*image.shape[:2]), image[0, 0, 0] / 255) for image in images]

class Staged:
    input_size = InputSize(8, 16, 4)
    def __call__(self, images):
        sizes = [ImageSize(*image.shape[:2]) for image in images]
        return self.found([self.resized(image) for image in images], sizes)
    def resized(self, image):
        return self.input_size.resized(image)
    def found(self, resized, sizes):
        return [one(image, size, image.shape[1]) for image, size in zip(resized, sizes)]
    def detections(self, found, size):
        return found

def load(reference, **options):
    trace("loaded")
    if reference == "missing":
        raise BundleError(reference, "does not exist", "Check the path.")
    if reference == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if reference == "slow":
        time.sleep(600)
    facts = {"threshold": options["score_threshold"]}
    return Model(Staged() if reference == "staged" else predict, ("bee",), reference, facts, thresholds=(0.5,))
"""
"""A module with a `server.Load`. It leaves traces, named after its process, in the folder that the environment names."""


def until(check: Callable[[], bool]) -> None:
    """Wait until it is so."""
    for _ in range(3000):
        if check():
            return
        time.sleep(0.01)
    raise AssertionError("it never was")


def gone(pid: int) -> bool:
    """Whether a process has ended: it may be left for its parent to look at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
