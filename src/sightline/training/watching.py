"""What a training shows to people: its first batches and its curves as pictures, and a word when it waits for pictures.

Nothing here changes a number of the training: no random draw, no tensor written, and no picture that fails ends a run.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image as Pillow

from sightline.dataset.loader import Example
from sightline.errors import SightlineError
from sightline.storage import atomic_write
from sightline.training.hooks import WINDOW, Progress
from sightline.training.loop import Losses
from sightline.training.state import TrainingState
from sightline.view.batches import draw_batch
from sightline.view.curves import draw_curves, read_metrics

LOG = logging.getLogger(__name__)

BATCHES, CURVES = "batches", "curves.png"

WARM_UP_STEPS = 50
"""In which workers start and disks' caches fill: waiting is normal."""

WAITING = 0.1
"""Share of the time from which on waiting for pictures is worth a word."""


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Whatever goes wrong in the block is told in the log and forgotten: a picture to look at is not worth a training."""
    try:
        yield
    except SightlineError as error:  # a missing library, too: its own sentence says what to install
        LOG.warning("%s not drawn: %s", what, error)
    except Exception:
        LOG.warning("%s not drawn", what, exc_info=True)


@dataclass(slots=True)
class DrawFirstBatches:
    """`folder`/batches/batch_0.jpg ... of the first `count` steps of a run, as the model saw them. A resumed run has them."""

    folder: Path
    class_names: Sequence[str]
    color_order: str
    count: int = 3

    def after_step(self, state: TrainingState, losses: Losses, batch: Sequence[Example]) -> None:
        if state.step > self.count:
            return
        path = self.folder / BATCHES / f"batch_{state.step - 1}.jpg"
        with spared(path.name):
            sheet = draw_batch(
                [example.image.cpu().numpy() for example in batch],
                [example.boxes.cpu().numpy() for example in batch],
                [example.labels.cpu().numpy() for example in batch],
                [example.masks for example in batch],
                self.class_names,
                self.color_order,
                [example.file_name for example in batch],
            )
            with atomic_write(path) as file:
                Pillow.fromarray(sheet).save(file, "JPEG", quality=88)


def write_curves(metrics: Path) -> None:
    """curves.png beside a run's metrics.json. Where it cannot be drawn (matplotlib is missing), a line of the log says why."""
    with spared(CURVES):
        if find_spec("matplotlib") is None:
            LOG.info("%s is drawn with matplotlib. To have it, run: pip install 'sightline[report]'", CURVES)
            return
        draw_curves(read_metrics(metrics), metrics.with_name(CURVES), title=metrics.resolve().parent.name)


def wait_advice(progress: Progress, workers: int, cores: int, begun: int = 0) -> str | None:
    """What to change, in one sentence, if the last window waited for pictures; None, if it did not, or is a warm-up's.

    workers: processes that read pictures; cores: of this machine; begun: steps done before this process began
    """
    if progress.step - WINDOW < begun + WARM_UP_STEPS or progress.data_wait_share <= WAITING:
        return None
    reading = (
        f"{workers} processes read them" if workers > 1 else "one process reads them" if workers else "no process reads ahead"
    )
    more = f"--workers {min(max(2 * workers, 2), max(cores - 1, 2))}"
    can_read_more = workers + 1 < max(cores, 3)
    first = f"give {more} (fewer, if the machine swaps)" if can_read_more else f"take a machine of more than {cores} cores"
    return (
        f"training waits {progress.data_wait_share:.0%} of its time for pictures ({reading}): {first}, "
        "make the pictures smaller before training, or copy them to a local disk."
    )


class AdviseOnWaiting:
    """A tracker that says `wait_advice` in the log, once a run."""

    def __init__(self, workers: int, cores: int, begun: int = 0) -> None:
        self.workers, self.cores, self.begun = workers, cores, begun
        self.said = False

    def progress(self, progress: Progress) -> None:
        advice = None if self.said else wait_advice(progress, self.workers, self.cores, self.begun)
        if advice is not None:
            self.said = True
            LOG.warning("%s", advice)

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        """Nothing: evaluations are not waited for by the reading."""

    def close(self, finished: bool = True) -> None: ...
